//! An upgrade on a filled database: every migration since, then the services, and nothing is lost.
//!
//! Each `.sql` beside this file is what [`fill`] left in the database of the schema that its name and its first line
//! tell, written by
//!
//! ```sh
//! OCTROI_FILL=1 cargo test -p octroi-tests --test upgrading what_is_written_is_read_again
//! ```
//!
//! A change that adds a migration is tested on the newest of them as it is. Once the migration has landed, the command
//! writes the next one, in which the new tables are filled too (put into `fill.rs` what fills them); the older ones stay
//! for as long as an upgrade from them is promised. The keys under which it was sealed are the harness's fixed ones.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod evidence;
mod fill;
mod goes_on;
mod spread;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use octroi_api::EVENT_TYPES;
use octroi_tests::harness::{Contents, Earlier, Installation, present, written};

/// The oldest that is kept. What declines left that were repeated under their ids was added by hand: once a success
/// followed in the same order, once nothing did.
const OLDEST: &str = "platform2-licensing3-billing2-notification1.sql";

/// Table and column whose contents a migration changes; all else stays as it was.
const CHANGED: [(&str, &str); 7] = [
    // Ranges are leased from there on.
    ("billing.bill_run", "done_through"),
    // What joins an issued invoice is told otherwise.
    ("billing.invoice", "issued_by"),
    // Nothing read it.
    ("licensing.event", "transaction"),
    ("billing.event", "transaction"),
    ("notification.event", "transaction"),
    // A request begins one attempt: see [`ATTEMPTS`].
    ("licensing.payment_attempt", "request_id"),
    ("licensing.payment_attempt", "fingerprint"),
];
/// Which attempt answers a request, and for which body.
const ATTEMPTS: &str = "
    SELECT order_id || ' ' || attempt, request_id || ' ' || encode(fingerprint, 'hex')
    FROM licensing.payment_attempt WHERE request_id IS NOT NULL ORDER BY order_id, attempt";
/// Those of [`OLDEST`] that a later one with the same id takes it from.
const REPEATED: [&str; 2] = ["more 1", "never 1"];
const SENTENCES: &str =
    "SELECT early_payment_discount, early_payment_discount_en FROM billing.seller";

/// Tables that a life leaves empty: a bill run that is over has no ranges left, notification has no facts of its own, and
/// no method of it changes anything.
const EMPTY: [&str; 5] = [
    "billing.bill_run_range",
    "notification.delivery",
    "notification.event",
    "notification.event_position",
    "notification.idempotency",
];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/upgrading")
}

/// What an earlier release still had to deliver to services that the events' types do not name any more: each table, and
/// its rows as [`Earlier::contents`] has them.
async fn routed_away(earlier: &Earlier, contents: &Contents) -> Vec<(String, BTreeSet<String>)> {
    let mut away = Vec::new();
    for source in ["licensing", "billing"] {
        let table = format!("{source}.delivery");
        let columns = contents[&table].0.join(", ");
        let types = EVENT_TYPES.iter().filter(|it| it.source == source);
        let routes: Vec<String> = types
            .flat_map(|it| it.subscribers.iter().map(|to| format!("{} {to}", it.name)))
            .collect();
        let select = format!(
            "SELECT ROW({columns})::text FROM {table} d
             WHERE (SELECT e.type FROM {source}.event e WHERE e.account = d.account AND e.id = d.event_id)
                   || ' ' || subscriber <> ALL ($1)"
        );
        let rows = earlier.sql.query(&select, &[&routes]).await.unwrap();
        away.push((table, rows.iter().map(|row| row.get(0)).collect()));
    }
    away
}

/// The filled databases that are kept: file name and text.
fn kept() -> BTreeMap<String, String> {
    let files = fs::read_dir(directory()).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "sql"))
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect()
}

async fn pairs(earlier: &Earlier, select: &str) -> Vec<(String, String)> {
    let rows = earlier.sql.query(select, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// From each schema that was: after the migrations each table holds what it held, the stored data is sound, and the
/// customers go on as if nothing had been.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_loses_nothing() {
    let kept = kept();
    assert!(!kept.is_empty(), "no filled database");
    let mut routed = 0;
    for (name, script) in kept {
        let earlier = Earlier::read(&script).await;
        let (mut rows, mut before) = (earlier.rows().await, earlier.contents(&CHANGED, None).await);
        let proven = evidence::days(&earlier).await;
        assert!(!proven.is_empty(), "{name} proves no line");
        rows.remove(evidence::MOVED);
        before.remove(evidence::MOVED);
        let away = routed_away(&earlier, &before).await;
        routed += away.iter().map(|(_, rows)| rows.len()).sum::<usize>();
        for (table, gone) in &away {
            *rows.get_mut(table).unwrap() -= i64::try_from(gone.len()).unwrap();
            let kept = &mut before.get_mut(table).unwrap().1;
            kept.retain(|row| !gone.contains(row));
        }
        let mut attempts = pairs(&earlier, ATTEMPTS).await;
        earlier.migrate().await;
        assert_eq!(evidence::days(&earlier).await, proven, "{name}");
        let now = earlier.rows().await;
        let lost: Vec<_> = rows
            .iter()
            .filter(|(table, rows)| now.get(*table).is_none_or(|now| now < rows))
            .collect();
        assert!(lost.is_empty(), "{name} had {lost:?}, and now {now:?}");
        let after = earlier.contents(&CHANGED, Some(&before)).await;
        for (table, (_, before)) in &before {
            let (_, after) = &after[table];
            let lost: Vec<_> = before.difference(after).collect();
            assert!(lost.is_empty(), "{name}: {table} had {lost:?}");
        }
        for (table, gone) in &away {
            assert!(gone.is_disjoint(&after[table].1), "{name}: {table}");
        }
        if name == OLDEST {
            attempts.retain(|(attempt, _)| !REPEATED.contains(&attempt.as_str()));
            assert_eq!(attempts.len(), 3);
        }
        assert_eq!(pairs(&earlier, ATTEMPTS).await, attempts);
        let sentence = (
            "Pas d'escompte pour paiement anticipé".to_owned(),
            "No discount for early payment".to_owned(),
        );
        assert_eq!(pairs(&earlier, SENTENCES).await, [sentence]);
        goes_on::play(earlier.start().await).await;
    }
    assert_ne!(routed, 0, "every delivery is still for whom it was");
}

/// The present schema is filled and written down, and what is read again is the same to the last byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_is_read_again() {
    let mut octroi = Installation::start_at(fill::START).await;
    fill::play(&mut octroi).await;
    let script = written(&octroi.sql).await;
    if std::env::var_os("OCTROI_FILL").is_some() {
        let name = present(&octroi.sql)
            .await
            .replace(", ", "-")
            .replace(' ', "");
        fs::write(directory().join(format!("{name}.sql")), &script).unwrap();
    }
    octroi.abandon().await;

    let earlier = Earlier::read(&script).await;
    let rows = earlier.rows().await;
    let empty: Vec<&str> = rows
        .iter()
        .filter(|(_, rows)| **rows == 0)
        .map(|(table, _)| table.as_str())
        .collect();
    assert_eq!(empty, EMPTY, "tables that nothing fills");
    let without_clock = |script: &str| -> Vec<String> {
        let lines = script.lines().map(ToOwned::to_owned);
        lines.filter(|line| !line.contains("timestamptz")).collect()
    };
    let again = written(&earlier.sql).await;
    assert_eq!(without_clock(&again), without_clock(&script));
    earlier.drop().await;
}
