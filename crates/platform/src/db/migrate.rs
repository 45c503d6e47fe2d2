//! Schema migrations: the platform's tables first, then the service's, under one advisory lock.

use refinery::{Migration, Runner, Target};
use refinery_core::AsyncMigrate;
use refinery_core::traits::r#async::{AsyncQuery, AsyncTransaction};
use tokio_postgres::{Client, Config};

use crate::db::{connect, row_get};
use crate::error::Error;

/// Key of the advisory lock: "octroi" in ASCII.
const LOCK: i64 = 0x6f63_7472_6f69;
const PLATFORM_HISTORY: &str = "platform_migration";
const SERVICE_HISTORY: &str = "service_migration";
/// How a migration of many rows begins: one statement, run until it touches no row.
const BATCHES: &str = "-- In batches";
/// The platform's own migrations. What they leave must be there in full.
const OWN: [(&str, &str); 6] = [
    (
        "V1__platform",
        include_str!("../../migrations/V1__platform.sql"),
    ),
    (
        "V2__request_ids",
        include_str!("../../migrations/V2__request_ids.sql"),
    ),
    (
        "V3__machine_time",
        include_str!("../../migrations/V3__machine_time.sql"),
    ),
    (
        "V4__positions",
        include_str!("../../migrations/V4__positions.sql"),
    ),
    (
        "V5__routed_events",
        include_str!("../../migrations/V5__routed_events.sql"),
    ),
    (
        "V6__last_routed",
        include_str!("../../migrations/V6__last_routed.sql"),
    ),
];

/// Why a schema cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// It is another release's.
    #[error(
        "the schema {schema} is at version {found} of {history}, and this release needs {needed}: {}",
        if found < needed { "run the migrations" } else { "a later release has migrated it; run that one" }
    )]
    Version {
        schema: String,
        /// The table of migrations that differs: the platform's or the service's own.
        history: &'static str,
        found: u32,
        needed: u32,
    },
    #[error("the database: {0}")]
    Database(#[from] Error),
}

/// A migration from its file's name and text.
///
/// # Errors
/// [`Error::Internal`] when the name is not of the form `V1__what.sql`.
pub fn migration(name: &str, sql: &str) -> Result<Migration, Error> {
    Migration::unapplied(name.trim_end_matches(".sql"), sql)
        .map_err(|error| Error::Internal(error.into()))
}

/// Brings a service's schema up to date. Safe to run from several processes at once.
///
/// # Errors
/// The database's, a history that differs from the files, and [`SchemaError::Version`] of a later release's schema, which
/// stays as it is.
pub async fn migrate(
    config: &Config,
    schema: &str,
    files: &[(&str, &str)],
) -> Result<(), SchemaError> {
    let mut client = connect(config, schema).await?;
    // The connection's end unlocks it.
    let lock = client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]);
    lock.await.map_err(Error::from)?;
    let is_later = |found, needed| found > needed;
    refuse_if(is_later, &client, schema, files.len()).await?;
    run(&mut client, schema, PLATFORM_HISTORY, &OWN).await?;
    run(&mut client, schema, SERVICE_HISTORY, files).await?;
    Ok(())
}

async fn run(
    client: &mut Client,
    schema: &str,
    history: &str,
    files: &[(&str, &str)],
) -> Result<(), Error> {
    let migrations = files
        .iter()
        .map(|(name, sql)| migration(name, sql))
        .collect::<Result<Vec<_>, _>>()?;
    for (migration, (_, sql)) in migrations.iter().zip(files) {
        let own = migration.version();
        let found = version(client, schema, history).await?;
        if !sql.starts_with(BATCHES) || i64::from(found) >= i64::from(own) {
            continue;
        }
        apply(client, history, &migrations, Target::Version(own - 1)).await?;
        // Each is a transaction of its own: what is killed goes on where it was.
        while Client::execute(client, *sql, &[]).await? > 0 {}
    }
    apply(client, history, &migrations, Target::Latest).await
}

/// Applies migrations in one transaction. One that is done in batches has nothing left to do, and is noted.
async fn apply(
    client: &mut Client,
    history: &str,
    migrations: &[Migration],
    through: Target,
) -> Result<(), Error> {
    let mut runner = Runner::new(migrations)
        .set_grouped(true)
        .set_target(through);
    runner.set_migration_table_name(history);
    let ran = runner.run_async(&mut OneByOne(client)).await;
    let report = ran.map_err(|error| Error::Internal(error.into()))?;
    for applied in report.applied_migrations() {
        tracing::info!(history, %applied, "migrated");
    }
    Ok(())
}

/// A connection that sends a migration's statements one by one: a cluster hands its nodes the whole text that the change of
/// a table stands in, and they take one statement.
struct OneByOne<'c>(&'c mut Client);

impl AsyncTransaction for OneByOne<'_> {
    type Error = tokio_postgres::Error;

    async fn execute<'a, T: Iterator<Item = &'a str> + Send + 'a>(
        &'a mut self,
        queries: T,
    ) -> Result<usize, Self::Error> {
        let transaction = self.0.transaction().await?;
        let mut count = 0;
        for statement in queries.flat_map(statements) {
            transaction.batch_execute(statement).await?;
            count += 1;
        }
        transaction.commit().await?;
        Ok(count)
    }
}

impl AsyncQuery<Vec<Migration>> for OneByOne<'_> {
    async fn query<'a>(&'a mut self, query: &'a str) -> Result<Vec<Migration>, Self::Error> {
        self.0.query(query).await
    }
}

impl AsyncMigrate for OneByOne<'_> {}

/// The statements of a migration. Each ends a line, outside of a function's body between `$$`.
fn statements(sql: &str) -> Vec<&str> {
    let (mut found, mut rest, mut end, mut in_body) = (Vec::new(), sql, 0, false);
    for line in sql.split_inclusive('\n') {
        end += line.len();
        in_body ^= line.matches("$$").count() % 2 == 1;
        let code = line.split_once("--").map_or(line, |(code, _)| code);
        if !in_body && code.trim_end().ends_with(';') {
            let (statement, more) = rest.split_at(end);
            found.push(statement);
            (rest, end) = (more, 0);
        }
    }
    found.push(rest);
    found
}

/// Checks that a schema is exactly what a release with so many migrations of its own, beside the platform's, has made.
///
/// # Errors
/// [`SchemaError::Version`] when it is an earlier or a later release's.
pub async fn check(config: &Config, schema: &str, migrations: usize) -> Result<(), SchemaError> {
    let client = connect(config, schema).await?;
    refuse_if(|found, needed| found != needed, &client, schema, migrations).await
}

async fn refuse_if(
    differs: impl Fn(u32, u32) -> bool,
    client: &Client,
    schema: &str,
    migrations: usize,
) -> Result<(), SchemaError> {
    for (history, needed) in [(PLATFORM_HISTORY, OWN.len()), (SERVICE_HISTORY, migrations)] {
        let needed = u32::try_from(needed).unwrap_or(u32::MAX);
        let found = version(client, schema, history).await?;
        if differs(found, needed) {
            let schema = schema.to_owned();
            return Err(SchemaError::Version {
                schema,
                history,
                found,
                needed,
            });
        }
    }
    Ok(())
}

/// The version of a schema; 0 when it was never migrated.
async fn version(client: &Client, schema: &str, history: &str) -> Result<u32, Error> {
    let table = format!("{schema}.{history}");
    let exists = client
        .query_one("SELECT to_regclass($1) IS NOT NULL AS there", &[&table])
        .await?;
    if !row_get::<bool>(&exists, "there")? {
        return Ok(0);
    }
    let last = format!("SELECT coalesce(max(version), 0)::int AS version FROM {history}");
    let row = client.query_one(&last, &[]).await?;
    Ok(u32::try_from(row_get::<i32>(&row, "version")?).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_is_sent_statement_by_statement() {
        let sql = "-- One; two.
            CREATE TABLE t (
                a text, -- the first;
                b text
            );
            CREATE FUNCTION f() RETURNS trigger AS $$
            BEGIN
                RETURN NULL;
            END
            $$;
            DROP TABLE t; -- done
            DROP FUNCTION f()";
        let found = statements(sql);
        assert_eq!(found.concat(), sql);
        let begins: Vec<_> = found.iter().map(|it| it.trim_start()).collect();
        assert!(
            begins[0].ends_with("b text\n            );\n"),
            "{begins:?}"
        );
        assert!(begins[1].starts_with("CREATE FUNCTION") && begins[1].ends_with("$$;\n"));
        assert_eq!(
            begins[2..],
            ["DROP TABLE t; -- done\n", "DROP FUNCTION f()"]
        );
    }
}
