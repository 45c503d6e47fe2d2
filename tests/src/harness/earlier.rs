//! Databases that earlier releases filled, dumped as SQL and restored on any PostgreSQL.
//!
//! A dump has data alone, as INSERTs. Its schema comes from the migrations of that release, which are never edited: the
//! migration histories are data too, so an edited migration fails the upgrade.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use octroi::bootstrap::Databases;
use octroi::system::ServiceName;
use octroi_platform::migrate::migration;
use refinery::{Migration, Runner, Target};
use tokio_postgres::{Client, Config, NoTls};

use super::citus::Citus;
use super::installation::{Installation, Options};
use super::postgres::{Postgres, connect};

/// The prefix of the versions in a dump's first line.
const SCHEMA: &str = "-- Schema:";
const PLATFORM: &str = "platform";
const TABLES: &str = "
    SELECT format('%I.%I', nspname, relname) AS name, nspname = 'testing' AND relname = 'clock' AS clock,
           array_agg(quote_ident(attname) ORDER BY attnum) AS columns
    FROM pg_class
    JOIN pg_namespace ON pg_namespace.oid = relnamespace
    JOIN pg_attribute ON attrelid = pg_class.oid
    WHERE nspname IN ('licensing', 'billing', 'notification', 'testing') AND relkind = 'r'
      AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
    GROUP BY nspname, relname ORDER BY nspname, relname";
/// The clock continues from its time when the dump was written.
const CLOCK: &str = "
    SELECT format($$INSERT INTO testing.clock (offset_micros, step, round, due) VALUES
        (floor(extract(epoch FROM timestamptz %L - clock_timestamp()) * 1000000)::bigint, %L, %L, %L);$$,
        clock_timestamp() + offset_micros * interval '1 microsecond', step, round, due)
    FROM testing.clock";
/// The data has transaction ids of the server it comes from; this server's must not be lower.
const CATCH_UP: &str = "
    DO $$
    DECLARE
        place record;
        latest bigint;
    BEGIN
        FOR place IN
            SELECT attrelid::regclass AS owner, attname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
            WHERE relkind = 'r' AND atttypid = 'xid8'::regtype
              AND relnamespace::regnamespace::text IN ('licensing', 'billing', 'notification')
        LOOP
            EXECUTE format('SELECT max(%I::text::bigint) FROM %s', place.attname, place.owner) INTO latest;
            WHILE pg_current_xact_id()::text::bigint <= latest LOOP
                COMMIT;
            END LOOP;
        END LOOP;
    END $$";

/// Each table's columns, and its rows as text.
pub type Contents = BTreeMap<String, (Vec<String>, BTreeSet<String>)>;

/// A database that an earlier release filled.
pub struct Earlier {
    /// The database, as its superuser.
    pub sql: Client,
    postgres: &'static Postgres,
    databases: Databases,
    /// Where it is on a cluster.
    citus: Option<Citus>,
}

impl Earlier {
    /// Restores a dump of [`written`].
    pub async fn read(script: &str) -> Self {
        Self::read_on(None, script).await
    }

    /// The same, perhaps on a cluster's coordinator.
    pub async fn read_on(citus: Option<&Citus>, script: &str) -> Self {
        let postgres = Postgres::get().await;
        let databases = postgres.bare_database(citus).await;
        let versions = versions(script);
        for service in ServiceName::ALL {
            let config = match service {
                ServiceName::Licensing => &databases.licensing,
                ServiceName::Billing => &databases.billing,
                ServiceName::Notification => &databases.notification,
            };
            for (history, owner) in [
                ("platform_migration", PLATFORM),
                ("service_migration", service.as_str()),
            ] {
                migrate(config, history, owner, versions[owner]).await;
            }
        }
        let sql = connect(&databases.admin, &databases.name).await;
        sql.batch_execute(script).await.unwrap();
        sql.batch_execute(CATCH_UP).await.unwrap();
        Self {
            sql,
            postgres,
            databases,
            citus: citus.cloned(),
        }
    }

    /// How its administrator and its services connect to it.
    #[must_use]
    pub fn databases(&self) -> &Databases {
        &self.databases
    }

    /// The number of rows of each table.
    pub async fn rows(&self) -> BTreeMap<String, i64> {
        let mut rows = BTreeMap::new();
        for (table, _, _) in tables(&self.sql).await {
            let count = format!("SELECT count(*) FROM {table}");
            let counted = self.sql.query_one(&count, &[]).await.unwrap();
            rows.insert(table, counted.get(0));
        }
        rows
    }

    /// Each table's contents without the excluded columns; given earlier contents, of their tables and columns alone.
    pub async fn contents(&self, but: &[(&str, &str)], before: Option<&Contents>) -> Contents {
        self.sql
            .batch_execute("SET TimeZone = 'UTC'")
            .await
            .unwrap();
        let mut asked: BTreeMap<String, Vec<String>> = BTreeMap::new();
        match before {
            Some(before) => {
                let columns = before.iter().map(|(table, (columns, _))| (table, columns));
                asked.extend(columns.map(|(table, columns)| (table.clone(), columns.clone())));
            }
            None => {
                for (table, mut columns, _) in tables(&self.sql).await {
                    columns.retain(|column| {
                        let own = but.iter().filter(|(of, _)| *of == table);
                        !own.map(|(_, but)| but).any(|but| but == column)
                    });
                    asked.insert(table, columns);
                }
            }
        }
        let mut contents = Contents::new();
        for (table, columns) in asked {
            let select = format!("SELECT ROW({})::text FROM {table}", columns.join(", "));
            let rows = self.sql.query(&select, &[]).await.unwrap();
            let rows = rows.iter().map(|row| row.get(0)).collect();
            contents.insert(table, (columns, rows));
        }
        contents
    }

    /// Runs the migrations since.
    pub async fn migrate(&self) {
        self.tries_to_migrate().await.unwrap();
    }

    /// The same, where one of them fails.
    pub async fn tries_to_migrate(&self) -> Result<(), String> {
        let plan = self.postgres.plan(self.databases.clone(), 1);
        plan.migrate().await.map_err(|error| format!("{error:?}"))
    }

    /// Starts the services on it.
    pub async fn start(self) -> Installation {
        Installation::on(
            self.citus,
            self.postgres,
            self.databases,
            &Options::default(),
        )
        .await
    }

    /// Drops it.
    pub async fn drop(self) {
        drop(self.sql);
        self.postgres.drop_database(&self.databases.name).await;
    }
}

/// Dumps an installation's data and the versions of its schema as SQL.
pub async fn written(sql: &Client) -> String {
    sql.batch_execute("SET TimeZone = 'UTC'").await.unwrap();
    let tables = tables(sql).await;
    let mut script = format!("{SCHEMA} {}\n", present(sql).await);
    script.push_str(
        "SET TimeZone = 'UTC';\n-- Neither triggers nor references are minded, whatever comes first.\n\
         SET session_replication_role = 'replica';\n",
    );
    let names: Vec<&str> = tables.iter().map(|(name, _, _)| name.as_str()).collect();
    writeln!(script, "TRUNCATE {};", names.join(", ")).unwrap();
    for (name, columns, clock) in &tables {
        if *clock {
            let row = sql.query_one(CLOCK, &[]).await.unwrap();
            writeln!(script, "{}", row.get::<_, String>(0)).unwrap();
            continue;
        }
        let values: Vec<String> = columns
            .iter()
            .map(|column| format!("quote_nullable({column}::text)"))
            .collect();
        let select = format!("SELECT concat_ws(', ', {}) FROM {name}", values.join(", "));
        let rows = sql.query(&select, &[]).await.unwrap();
        let mut rows: Vec<String> = rows
            .iter()
            .map(|row| format!("({})", row.get::<_, String>(0)))
            .collect();
        rows.sort();
        if !rows.is_empty() {
            let (columns, rows) = (columns.join(", "), rows.join(",\n"));
            writeln!(script, "INSERT INTO {name} ({columns}) VALUES\n{rows};").unwrap();
        }
    }
    script.push_str("RESET session_replication_role;\n");
    script
}

/// The versions of an installation's schema, such as "platform 2, licensing 3, billing 2, notification 1".
pub async fn present(sql: &Client) -> String {
    let version = "SELECT concat_ws(', ',
        'platform ' || (SELECT max(version) FROM licensing.platform_migration),
        'licensing ' || (SELECT max(version) FROM licensing.service_migration),
        'billing ' || (SELECT max(version) FROM billing.service_migration),
        'notification ' || (SELECT max(version) FROM notification.service_migration))";
    sql.query_one(version, &[]).await.unwrap().get(0)
}

/// Each table's name and columns, and whether it is the clock's.
async fn tables(sql: &Client) -> Vec<(String, Vec<String>, bool)> {
    let rows = sql.query(TABLES, &[]).await.unwrap();
    rows.iter()
        .map(|row| (row.get("name"), row.get("columns"), row.get("clock")))
        .collect()
}

/// The versions in a dump's first line.
fn versions(script: &str) -> BTreeMap<&str, i32> {
    let first = script
        .lines()
        .next()
        .and_then(|line| line.strip_prefix(SCHEMA));
    let pairs = first
        .expect("a first line that names the schema")
        .split(',');
    pairs
        .map(|pair| {
            let (name, version) = pair.trim().split_once(' ').unwrap();
            (name, version.parse().unwrap())
        })
        .collect()
}

/// Runs the migrations of one history up to a version, from their files.
async fn migrate(config: &Config, history: &str, owner: &str, last: i32) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../crates")
        .join(owner)
        .join("migrations");
    let migrations: Vec<Migration> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            migration(name, &fs::read_to_string(&path).unwrap()).unwrap()
        })
        .collect();
    let mut runner = Runner::new(&migrations)
        .set_grouped(true)
        .set_target(Target::Version(last));
    runner.set_migration_table_name(history);
    let (mut client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    runner.run_async(&mut client).await.unwrap();
}
