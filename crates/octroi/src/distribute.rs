//! `octroi distribute`: spreads an installation's tables over the nodes of a Citus cluster, as [`tables`] declares them.
//! It goes step by step and can be run again after any of them: what was dropped for the time is written down first.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use octroi_server::process;
use tokio_postgres::{Client, Config};

use crate::connect::connect;
use crate::failure::Failure;
use crate::interrupt::unless_interrupted;
use crate::output;
use crate::place::{PlaceArgs, find_admin};
use crate::tables::{self, Kind};

/// Spreads the tables that are not spread yet, and tells each step.
///
/// # Errors
/// When the database is none that can be spread, or a service is connected to it.
pub async fn distribute(args: &PlaceArgs) -> Result<ExitCode, Failure> {
    let interrupt = process::until_signal();
    let Some((admin, place)) = unless_interrupted(&interrupt, find_admin(args)).await? else {
        return Err(anyhow::anyhow!("interrupted before anything was done").into());
    };
    // Each step is whole or not there at all, and the next try goes on from it.
    let done = unless_interrupted(&interrupt, run(&admin, tables::all(), output::line)).await;
    if let Some(place) = place {
        place.close().await?;
    }
    match done? {
        Some(()) => Ok(ExitCode::SUCCESS),
        None => Err(anyhow::anyhow!("interrupted: run it again, it goes on where it was").into()),
    }
}

/// Spreads the declared tables that are not spread yet, and tells each step.
///
/// # Errors
/// As [`distribute`].
pub async fn run(
    admin: &Config,
    declared: Vec<(String, Kind)>,
    mut tell: impl FnMut(String) -> anyhow::Result<()>,
) -> Result<(), Failure> {
    let client = connect(admin).await.map_err(anyhow::Error::new)?;
    check(&client).await?;
    let declared: BTreeMap<String, Kind> = declared.into_iter().collect();
    hold_to(&declared, &tables_there(&client).await?)?;
    let spread = spread(&client).await?;
    let mut wanted: Vec<(&str, Kind)> = Vec::new();
    for (table, kind) in &declared {
        let as_declared = as_declared(*kind);
        if spread
            .get(table)
            .is_some_and(|it| as_declared.as_ref() != Some(it))
        {
            return Err(unusable(format!(
                "{table} is spread in another way than this release needs: nothing was done"
            )));
        }
        if as_declared.is_some() {
            wanted.push((table, *kind));
        }
    }
    // Reference tables first: others refer to them.
    wanted.sort_by_key(|(_, kind)| *kind != Kind::Reference);
    client.batch_execute(SETTINGS).await.map_err(failed)?;
    let pending = wanted.iter().map(|(table, _)| *table);
    let pending: Vec<&str> = pending.filter(|it| !spread.contains_key(*it)).collect();
    drop_keys(&client, &pending, &mut tell).await?;
    // The tables of one account lie together: with the first one of them.
    let first = wanted
        .iter()
        .find(|(table, kind)| *kind == Kind::Account && spread.contains_key(*table));
    let mut together = first.map_or("none", |(table, _)| *table);
    for (table, kind) in wanted {
        if pending.contains(&table) {
            let (sql, how) = match kind {
                Kind::Account => (
                    by_column(table, "account", together),
                    "by account".to_owned(),
                ),
                Kind::Directory(column) => {
                    (by_column(table, column, "none"), format!("by {column}"))
                }
                Kind::Reference | Kind::Installation => (
                    format!("SELECT create_reference_table('{table}')"),
                    "on every node".to_owned(),
                ),
            };
            client.batch_execute(&sql).await.map_err(failed)?;
            if kind == Kind::Account && together == "none" {
                together = table;
            }
            tell(format!("{table} is {how}"))?;
        }
        // A run may have been cut short here, so that what it copied still stands on the coordinator as well.
        let emptied = format!(
            "SELECT truncate_local_data_after_distributing_table('{table}')
             WHERE pg_relation_size('{table}') > 0"
        );
        client.batch_execute(&emptied).await.map_err(failed)?;
    }
    restore(&client, &mut tell).await?;
    let defaults = client.query(DEFAULTS, &[]).await.map_err(failed)?;
    for row in &defaults {
        let statement: &str = row.try_get(0).map_err(failed)?;
        client.batch_execute(statement).await.map_err(failed)?;
    }
    tell("everything is spread as this release needs it".to_owned())?;
    Ok(())
}

/// Refuses a database whose tables are not the declared ones.
fn hold_to(declared: &BTreeMap<String, Kind>, there: &BTreeSet<String>) -> Result<(), Failure> {
    let unknown = there.iter().filter(|table| !declared.contains_key(*table));
    let unknown: Vec<&str> = unknown.map(String::as_str).collect();
    if !unknown.is_empty() {
        return Err(unusable(format!(
            "this release does not know what belongs to whom in {}: nothing was done",
            unknown.join(", ")
        )));
    }
    let missing = declared.keys().filter(|it| !there.contains(*it));
    let missing: Vec<&str> = missing
        .filter(|table| !table.starts_with("testing."))
        .map(String::as_str)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(unusable(format!(
        "{} are missing: run this release's migrations first",
        missing.join(", ")
    )))
}

/// Drops the foreign keys of and to tables that are to be spread, and writes them down first.
async fn drop_keys(
    client: &Client,
    pending: &[&str],
    tell: &mut impl FnMut(String) -> anyhow::Result<()>,
) -> Result<(), Failure> {
    let keys = client.query(DROP_KEYS, &[&pending]).await.map_err(failed)?;
    if keys.is_empty() {
        return Ok(());
    }
    let mut statements = format!("BEGIN;{KEEP_KEYS}");
    for row in &keys {
        statements.push_str(row.try_get(0).map_err(failed)?);
    }
    statements.push_str("COMMIT");
    client.batch_execute(&statements).await.map_err(failed)?;
    tell(format!(
        "{} foreign keys are dropped for the time",
        keys.len()
    ))?;
    Ok(())
}

fn by_column(table: &str, column: &str, together: &str) -> String {
    format!("SELECT create_distributed_table('{table}', '{column}', colocate_with => '{together}')")
}

/// Gives the foreign keys back that were dropped, now or by a run that was cut short.
async fn restore(
    client: &Client,
    tell: &mut impl FnMut(String) -> anyhow::Result<()>,
) -> Result<(), Failure> {
    let kept = client.query(IS_KEPT, &[]).await.map_err(failed)?;
    if kept.is_empty() {
        return Ok(());
    }
    let keys = client.query(KEPT_KEYS, &[]).await.map_err(failed)?;
    for row in &keys {
        // One at a time: Citus hands its text on to the workers as it is.
        let statement: &str = row.try_get(0).map_err(failed)?;
        client.batch_execute(statement).await.map_err(failed)?;
    }
    let all = "DROP SCHEMA octroi_distribution CASCADE";
    client.batch_execute(all).await.map_err(failed)?;
    tell(format!("{} foreign keys are back", keys.len()))?;
    Ok(())
}

/// Refuses a database without Citus, and one that services are connected to.
async fn check(client: &Client) -> Result<(), Failure> {
    let sql = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus'),
        EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
                AND application_name IN ('octroi-licensing', 'octroi-billing', 'octroi-notification'))";
    let row = client.query_one(sql, &[]).await.map_err(failed)?;
    if !row.try_get::<_, bool>(0).map_err(failed)? {
        return Err(unusable(
            "the database is on no Citus cluster: CREATE EXTENSION citus on every node, and add the workers to the \
             coordinator"
                .to_owned(),
        ));
    }
    if row.try_get(1).map_err(failed)? {
        let reason = anyhow::anyhow!("services are connected to the database: stop them first");
        return Err(Failure::new(75, reason));
    }
    Ok(())
}

async fn tables_there(client: &Client) -> Result<BTreeSet<String>, Failure> {
    let sql = "SELECT relnamespace::regnamespace || '.' || relname FROM pg_class
        WHERE relkind IN ('r', 'p') AND NOT relispartition
          AND relnamespace::regnamespace::text IN ('billing', 'licensing', 'notification', 'testing')";
    let rows = client.query(sql, &[]).await.map_err(failed)?;
    let names = rows.iter().map(|row| row.try_get(0));
    names.collect::<Result<_, _>>().map_err(failed)
}

/// The column by which each table is spread that is; none for a reference table.
async fn spread(client: &Client) -> Result<BTreeMap<String, Option<String>>, Failure> {
    let sql = "SELECT c.relnamespace::regnamespace || '.' || c.relname, column_to_column_name(p.logicalrelid, p.partkey)
        FROM pg_dist_partition p JOIN pg_class c ON c.oid = p.logicalrelid
        WHERE NOT (p.partmethod = 'n' AND p.repmodel <> 't')";
    let rows = client.query(sql, &[]).await.map_err(failed)?;
    let pairs = rows
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    pairs.collect::<Result<_, _>>().map_err(failed)
}

/// As [`spread`] shows a table of this kind; none where it stays on the coordinator.
#[expect(
    clippy::option_option,
    reason = "stays, or is on every node, or by a column"
)]
fn as_declared(kind: Kind) -> Option<Option<String>> {
    match kind {
        Kind::Account => Some(Some("account".to_owned())),
        Kind::Directory(column) => Some(Some(column.to_owned())),
        Kind::Reference => Some(None),
        Kind::Installation => None,
    }
}

fn unusable(reason: String) -> Failure {
    Failure::new(78, anyhow::Error::msg(reason))
}

fn failed(error: tokio_postgres::Error) -> Failure {
    let told = error.as_db_error().map(ToString::to_string);
    let reason = anyhow::Error::new(error).context(told.unwrap_or_default());
    reason
        .context("the cluster refused a step; once that is mended, run it again")
        .into()
}

/// Triggers are unsafe to Citus as they may write elsewhere: ours look at their own account's rows alone.
const SETTINGS: &str = "SET citus.enable_unsafe_triggers = on;
    SET citus.multi_shard_modify_mode = 'sequential';
    SET client_min_messages = warning";

/// What every connection of the services needs. A transaction has one connection to a node, so that it may read accounts
/// and then write what they refer to. Locks are waited for on the nodes, which are told of a transaction's time-outs and not of
/// a session's.
const DEFAULTS: &str = "
    SELECT format('ALTER DATABASE %I SET citus.multi_shard_modify_mode = sequential', current_database())
    UNION ALL
    SELECT format('ALTER DATABASE %I SET citus.enable_unsafe_triggers = on', current_database())
    UNION ALL
    SELECT format('ALTER DATABASE %I SET jit = off', current_database())
    UNION ALL
    SELECT format('ALTER ROLE %s IN DATABASE %I SET lock_timeout = ''10s''', nspowner::regrole, current_database())
    FROM pg_namespace WHERE nspname IN ('billing', 'licensing', 'notification')";

const KEEP_KEYS: &str = "
    CREATE SCHEMA IF NOT EXISTS octroi_distribution;
    CREATE TABLE IF NOT EXISTS octroi_distribution.foreign_key
        (on_table text, name text, definition text, PRIMARY KEY (on_table, name));";

/// What writes each foreign key of or to these tables down and drops it.
const DROP_KEYS: &str = "
    SELECT format('INSERT INTO octroi_distribution.foreign_key VALUES (%1$L, %2$L, %3$L) ON CONFLICT DO NOTHING;
                   ALTER TABLE %1$s DROP CONSTRAINT %2$I;',
                  conrelid::regclass, conname, pg_get_constraintdef(oid))
    FROM pg_constraint
    WHERE contype = 'f' AND ARRAY[conrelid, confrelid]::regclass[] && $1::text[]::regclass[]";

const IS_KEPT: &str = "SELECT WHERE to_regclass('octroi_distribution.foreign_key') IS NOT NULL";

/// What gives each foreign key back, if it is not there already.
const KEPT_KEYS: &str = "
    SELECT format('ALTER TABLE %s ADD CONSTRAINT %I %s', on_table, name, definition)
    FROM octroi_distribution.foreign_key
    WHERE NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = on_table::regclass AND conname = name)
    ORDER BY on_table, name";
