//! Schema migrations: the platform's tables first, then the service's, under one advisory lock.

use refinery::{Migration, Runner};
use tokio_postgres::{Client, Config};

use crate::db::{connect, row_get};
use crate::error::Error;

/// Key of the advisory lock: "octroi" in ASCII.
const LOCK: i64 = 0x6f63_7472_6f69;
const PLATFORM_HISTORY: &str = "platform_migration";
const SERVICE_HISTORY: &str = "service_migration";
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
/// The database's, or a history that differs from the files.
pub async fn migrate(config: &Config, schema: &str, files: &[(&str, &str)]) -> Result<(), Error> {
    let mut client = connect(config, schema).await?;
    client
        .execute("SELECT pg_advisory_lock($1)", &[&LOCK])
        .await?;
    run(&mut client, PLATFORM_HISTORY, &OWN).await?;
    run(&mut client, SERVICE_HISTORY, files).await?;
    client
        .execute("SELECT pg_advisory_unlock($1)", &[&LOCK])
        .await?;
    Ok(())
}

async fn run(client: &mut Client, history: &str, files: &[(&str, &str)]) -> Result<(), Error> {
    let migrations = files
        .iter()
        .map(|(name, sql)| migration(name, sql))
        .collect::<Result<Vec<_>, _>>()?;
    let mut runner = Runner::new(&migrations)
        .set_grouped(true)
        // A newer release may have migrated already: its files are not missing, only not ours.
        .set_abort_missing(false);
    runner.set_migration_table_name(history);
    runner
        .run_async(client)
        .await
        .map_err(|error| Error::Internal(error.into()))?;
    Ok(())
}

/// What a schema lacks for a program with so many migrations of its own beside the platform's: whose history, its version
/// (0 when it was never migrated) and the version needed.
///
/// # Errors
/// The database's.
pub async fn lacks(
    config: &Config,
    schema: &str,
    migrations: usize,
) -> Result<Option<(&'static str, u32, u32)>, Error> {
    let client = connect(config, schema).await?;
    for (history, needed) in [(PLATFORM_HISTORY, OWN.len()), (SERVICE_HISTORY, migrations)] {
        let needed = u32::try_from(needed).unwrap_or(u32::MAX);
        let found = version(&client, schema, history).await?;
        if found < needed {
            return Ok(Some((history, found, needed)));
        }
    }
    Ok(None)
}

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
