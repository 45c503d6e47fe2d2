//! Creates the database, its three roles and their schemas, through an administrator's connection to any PostgreSQL.

mod rights;

use std::time::Duration;

use postgres_protocol::password::scram_sha_256;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::sleep;
use tokio_postgres::{
    Client, Config, NoTls, Transaction,
    error::{Error, SqlState},
};

use self::rights::{SERVICES, database_script, identifier, role, role_script, testing_script};
use crate::cluster::MINIMUM_MAJOR;

/// The database, unless the caller or the administrator's URL names another.
pub const DATABASE: &str = "octroi";
/// Key of the advisory lock that bootstraps take: "octroi" in ASCII.
const LOCK: i64 = 0x6f63_7472_6f69;
/// Roles are the server's but advisory locks one database's, so the bootstraps of two databases may collide; they
/// retry.
const TRIES: u32 = 10;
const RETRY_PAUSE: Duration = Duration::from_millis(50);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// PostgreSQL truncates longer names.
const NAME_MAX: usize = 63;

/// Why the database could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The administrator cannot connect.
    #[error(
        "cannot connect to the database {database:?} as its administrator: is --database-url right, and does its \
         server run?"
    )]
    Connect {
        /// The database.
        database: String,
        /// The server's or the system's error.
        source: Error,
    },
    /// The administrator lacks a privilege.
    #[error("may not {what}: --database-url must name a role that may create databases and roles")]
    Rights {
        /// What was being done.
        what: &'static str,
        /// The server's error.
        source: Error,
    },
    /// A statement failed.
    #[error("cannot {what}")]
    Sql {
        /// What was being done.
        what: &'static str,
        /// The server's error.
        source: Error,
    },
    /// The database's name is empty or longer than PostgreSQL keeps.
    #[error("{0:?} cannot name a database: between 1 and {NAME_MAX} bytes, none of them zero")]
    Name(String),
    /// The server is too old.
    #[error("the server runs PostgreSQL {major}; Octroi needs {MINIMUM_MAJOR} or newer")]
    TooOld {
        /// The server's major version.
        major: i32,
    },
    /// The database does not store Unicode.
    #[error("the database {database:?} is encoded in {encoding}; Octroi needs one in UTF8")]
    Encoding {
        /// The database.
        database: String,
        /// Its encoding.
        encoding: String,
    },
    /// A schema of one of our names belongs to another role.
    #[error(
        "the schema {schema} of the database {database:?} belongs to {owner}: name a database of \
         Octroi's own"
    )]
    SchemaTaken {
        /// The database.
        database: String,
        /// The schema.
        schema: String,
        /// Its owner.
        owner: String,
    },
    /// The database was created with a test clock and is opened without, or the other way round.
    #[error(
        "the database {database:?} was born {} a test clock and stays so: {}, or use another one",
        if *.born_with { "with" } else { "without" },
        if *.born_with { "give --test-clock" } else { "leave out --test-clock" }
    )]
    TestClock {
        /// The database.
        database: String,
        /// Whether it was born with one.
        born_with: bool,
    },
}

/// The services' passwords.
#[derive(Clone, Debug)]
pub struct Passwords {
    /// Of the role `octroi_licensing`.
    pub licensing: SecretString,
    /// Of the role `octroi_billing`.
    pub billing: SecretString,
    /// Of the role `octroi_notification`.
    pub notification: SecretString,
}

#[derive(Clone, Debug)]
pub struct BootstrapOptions {
    /// The database; without it the one that the administrator's
    /// configuration names, or else [`DATABASE`].
    pub database: Option<String>,
    /// The passwords that the three roles have from now on.
    pub passwords: Passwords,
    /// Whether the database has a test clock, from its birth on.
    pub test_clock: bool,
}

/// Connection settings of the administrator and the services for one database.
#[derive(Clone, Debug)]
pub struct Databases {
    /// The database's name.
    pub name: String,
    /// The administrator.
    pub admin: Config,
    /// The role `octroi_licensing`, in its schema.
    pub licensing: Config,
    /// The role `octroi_billing`, in its schema.
    pub billing: Config,
    /// The role `octroi_notification`, in its schema.
    pub notification: Config,
}

impl Databases {
    /// The connections to the database `name` of the administrator's server.
    /// They carry all that a connection needs, so they serve a clone of a
    /// bootstrapped database as well.
    #[must_use]
    pub fn named(admin: &Config, name: &str, passwords: &Passwords) -> Self {
        let mut admin = admin.clone();
        admin.dbname(name);
        if admin.get_connect_timeout().is_none() {
            admin.connect_timeout(CONNECT_TIMEOUT);
        }
        let service = |service: &str, password: &SecretString| {
            let mut config = admin.clone();
            config
                .user(role(service))
                .password(password.expose_secret())
                .application_name(role(service))
                .options(format!("-c search_path={service}"));
            config
        };
        Self {
            name: name.to_owned(),
            licensing: service("licensing", &passwords.licensing),
            billing: service("billing", &passwords.billing),
            notification: service("notification", &passwords.notification),
            admin,
        }
    }
}

/// Creates the database, the three roles and their schemas where they are missing, and sets the roles' passwords. Safe
/// to repeat, also concurrently. The database is taken to be Octroi's own: other roles lose the right to connect to it.
///
/// # Errors
///
/// When the server refuses, or the database is not one that Octroi can use.
pub async fn bootstrap(
    admin: &Config,
    options: &BootstrapOptions,
) -> Result<Databases, BootstrapError> {
    let name = options.database.as_deref().or(admin.get_dbname());
    let name = name.unwrap_or(DATABASE);
    if name.is_empty() || name.len() > NAME_MAX || name.contains('\0') {
        return Err(BootstrapError::Name(name.to_owned()));
    }
    let databases = Databases::named(admin, name, &options.passwords);
    let connected = match connect(&databases.admin, name).await {
        Err(BootstrapError::Connect { source, .. })
            if source.code() == Some(&SqlState::INVALID_CATALOG_NAME) =>
        {
            create_database(&databases.admin, name).await?;
            connect(&databases.admin, name).await
        }
        connected => connected,
    };
    let mut client = connected?;
    let verifiers = Verifiers::of(&options.passwords);
    let mut tried = 0;
    loop {
        tried += 1;
        match prepare(&mut client, name, &verifiers, options.test_clock).await {
            Err(BootstrapError::Sql { source, .. }) if tried < TRIES && collided(&source) => {
                tracing::debug!(tried, "another bootstrap is at work");
                sleep(RETRY_PAUSE * tried).await;
            }
            done => return done.map(|()| databases),
        }
    }
}

/// SCRAM verifiers of the passwords. They are computed here, so that no statement, and no log of statements, has a
/// password in it.
struct Verifiers([(&'static str, String); 3]);

impl Verifiers {
    fn of(passwords: &Passwords) -> Self {
        let [licensing, billing, notification] = SERVICES;
        Self(
            [
                (licensing, &passwords.licensing),
                (billing, &passwords.billing),
                (notification, &passwords.notification),
            ]
            .map(|(service, password)| {
                (service, scram_sha_256(password.expose_secret().as_bytes()))
            }),
        )
    }
}

async fn connect(config: &Config, database: &str) -> Result<Client, BootstrapError> {
    let (client, connection) =
        config
            .connect(NoTls)
            .await
            .map_err(|source| BootstrapError::Connect {
                database: database.to_owned(),
                source,
            })?;
    // It ends with the client; the pending statement returns its error.
    tokio::spawn(connection);
    Ok(client)
}

/// Creates the database, while connected to the server's default one.
async fn create_database(admin: &Config, name: &str) -> Result<(), BootstrapError> {
    let mut maintenance = admin.clone();
    maintenance.dbname("postgres");
    let client = connect(&maintenance, "postgres").await?;
    // Of the templates only template0 may be copied into another encoding.
    let create = format!(
        "CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'",
        identifier(name)
    );
    match client.batch_execute(&create).await {
        Err(error) if collided(&error) => Ok(()),
        Err(error) => Err(sql("create the database")(error)),
        Ok(()) => Ok(()),
    }
}

/// Whether the statement failed because a concurrent bootstrap did the same.
fn collided(error: &Error) -> bool {
    let Some(answer) = error.as_db_error() else {
        return false;
    };
    let code = answer.code();
    [
        SqlState::DUPLICATE_DATABASE,
        SqlState::DUPLICATE_OBJECT,
        SqlState::UNIQUE_VIOLATION,
        SqlState::T_R_DEADLOCK_DETECTED,
    ]
    .contains(code)
        // Concurrent updates of a catalog row have no code of their own.
        || (*code == SqlState::INTERNAL_ERROR && answer.message().contains("concurrently"))
}

/// Prepares the database in one transaction.
async fn prepare(
    client: &mut Client,
    database: &str,
    verifiers: &Verifiers,
    test_clock: bool,
) -> Result<(), BootstrapError> {
    let tx = client.transaction().await.map_err(sql("begin"))?;
    tx.batch_execute(
        "SET LOCAL lock_timeout = '60s'; SET LOCAL statement_timeout = '60s';
         SET LOCAL client_min_messages = warning",
    )
    .await
    .map_err(sql("set the timeouts"))?;
    tx.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK])
        .await
        .map_err(sql("wait for another bootstrap"))?;
    let superuser = check_server(&tx, database).await?;
    let schemas = schemas(&tx).await?;
    let born = check_schemas(&schemas, database, test_clock)?;
    let mut script = String::new();
    if superuser {
        // Keeps the verifiers of a failing statement out of the server's log.
        script.push_str("SET LOCAL log_min_error_statement = panic;");
    }
    let roles = roles(&tx).await?;
    for (service, verifier) in &verifiers.0 {
        script.push_str(&role_script(service, verifier, &roles, superuser));
    }
    script.push_str(&database_script(database, &schemas));
    if test_clock && !born {
        script.push_str(&testing_script());
    }
    tx.batch_execute(&script)
        .await
        .map_err(sql("make the roles and their schemas"))?;
    tx.commit()
        .await
        .map_err(sql("commit the roles and their schemas"))
}

/// Refuses a server or database that cannot be used; returns whether the administrator is a superuser.
async fn check_server(tx: &Transaction<'_>, database: &str) -> Result<bool, BootstrapError> {
    let row = tx
        .query_one(
            "SELECT current_setting('server_version_num')::int / 10000,
                    current_setting('server_encoding'),
                    current_setting('is_superuser') = 'on'",
            &[],
        )
        .await
        .map_err(sql("read the server's version"))?;
    let major: i32 = row.try_get(0).map_err(sql("read the server's version"))?;
    let encoding: String = row.try_get(1).map_err(sql("read the encoding"))?;
    if u32::try_from(major).is_ok_and(|major| major < MINIMUM_MAJOR) {
        return Err(BootstrapError::TooOld { major });
    }
    if encoding != "UTF8" {
        return Err(BootstrapError::Encoding {
            database: database.to_owned(),
            encoding,
        });
    }
    row.try_get(2)
        .map_err(sql("read the administrator's rights"))
}

/// Our schemas and `public`, where they exist, with their owners.
async fn schemas(tx: &Transaction<'_>) -> Result<Vec<(String, String)>, BootstrapError> {
    let names = [&SERVICES[..], &["testing", "public"]].concat();
    let rows = tx
        .query(
            "SELECT nspname::text, pg_get_userbyid(nspowner)::text
             FROM pg_namespace WHERE nspname = ANY($1::text[])",
            &[&names],
        )
        .await
        .map_err(sql("read the schemas"))?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<Result<_, _>>()
        .map_err(sql("read the schemas"))
}

/// Which of our roles exist.
async fn roles(tx: &Transaction<'_>) -> Result<Vec<String>, BootstrapError> {
    let names = SERVICES.map(role);
    let rows = tx
        .query(
            "SELECT rolname::text FROM pg_roles WHERE rolname = ANY($1::text[])",
            &[&&names[..]],
        )
        .await
        .map_err(sql("read the roles"))?;
    rows.iter()
        .map(|row| row.try_get(0))
        .collect::<Result<_, _>>()
        .map_err(sql("read the roles"))
}

/// Whether the database was bootstrapped before. All its schemas are created in one transaction, so `testing` exists
/// from the beginning or never.
fn check_schemas(
    schemas: &[(String, String)],
    database: &str,
    test_clock: bool,
) -> Result<bool, BootstrapError> {
    let owner_of = |schema: &str| {
        let found = schemas.iter().find(|(name, _)| name == schema);
        found.map(|(_, owner)| owner.as_str())
    };
    for service in SERVICES {
        if let Some(owner) = owner_of(service).filter(|owner| *owner != role(service)) {
            return Err(BootstrapError::SchemaTaken {
                database: database.to_owned(),
                schema: service.to_owned(),
                owner: owner.to_owned(),
            });
        }
    }
    let born = SERVICES.iter().any(|service| owner_of(service).is_some());
    let testing = owner_of("testing");
    match testing {
        Some(owner) if !born => Err(BootstrapError::SchemaTaken {
            database: database.to_owned(),
            schema: "testing".to_owned(),
            owner: owner.to_owned(),
        }),
        _ if born && testing.is_some() != test_clock => Err(BootstrapError::TestClock {
            database: database.to_owned(),
            born_with: testing.is_some(),
        }),
        _ => Ok(born),
    }
}

fn sql(what: &'static str) -> impl FnOnce(Error) -> BootstrapError {
    move |source| match source.code() {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => BootstrapError::Rights { what, source },
        _ => BootstrapError::Sql { what, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passwords() -> Passwords {
        Passwords {
            licensing: "one".to_owned().into(),
            billing: "two".to_owned().into(),
            notification: "three".to_owned().into(),
        }
    }

    #[test]
    fn a_role_connects_to_its_own_schema() {
        let mut admin = Config::new();
        admin.host_path("/run/a b").user("postgres").password("top");
        let databases = Databases::named(&admin, "shop", &passwords());
        let billing = &databases.billing;
        assert_eq!(billing.get_user(), Some("octroi_billing"));
        assert_eq!(billing.get_password(), Some(&b"two"[..]));
        assert_eq!(billing.get_dbname(), Some("shop"));
        assert_eq!(billing.get_options(), Some("-c search_path=billing"));
        assert_eq!(billing.get_hosts(), admin.get_hosts());
    }

    #[test]
    fn no_statement_carries_a_password() {
        let verifiers = Verifiers::of(&Passwords {
            billing: "p'w".to_owned().into(),
            ..passwords()
        });
        let (service, verifier) = &verifiers.0[1];
        let script = role_script(service, verifier, &[], true);
        assert!(
            script
                .starts_with("CREATE ROLE \"octroi_billing\" LOGIN PASSWORD 'SCRAM-SHA-256$4096:")
        );
        assert!(!script.contains("p'w") && !script.contains("p''w"));
    }

    #[test]
    fn a_database_keeps_the_clock_that_it_was_born_with() {
        let ours = |names: &[&str]| -> Vec<(String, String)> {
            let pair = |name: &&str| (name.to_string(), role(name));
            names.iter().map(pair).collect()
        };
        let without = ours(&["licensing", "billing", "notification", "public"]);
        let with = ours(&["licensing", "billing", "notification", "testing"]);
        assert!(!check_schemas(&ours(&["public"]), "x", true).unwrap());
        assert!(check_schemas(&with, "x", true).unwrap());
        assert!(check_schemas(&without, "x", false).unwrap());
        for (schemas, asked) in [(with, false), (without, true)] {
            let error = check_schemas(&schemas, "x", asked).unwrap_err();
            assert!(
                matches!(error, BootstrapError::TestClock { born_with, .. } if born_with != asked)
            );
        }
    }

    #[test]
    fn a_schema_of_somebody_elses_is_refused() {
        for schema in ["billing", "testing"] {
            let schemas = [(schema.to_owned(), "alice".to_owned())];
            let error = check_schemas(&schemas, "x", false).unwrap_err();
            assert!(
                matches!(error, BootstrapError::SchemaTaken { .. }),
                "{error}"
            );
        }
    }
}
