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

mod fill;
mod goes_on;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use octroi_tests::harness::{Earlier, Installation, present, written};

/// Tables that a life leaves empty: notification has no facts of its own, and no method of it changes anything.
const EMPTY: [&str; 4] = [
    "notification.delivery",
    "notification.event",
    "notification.event_position",
    "notification.idempotency",
];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/upgrading")
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

/// From each schema that was: after the migrations each table holds what it held, the stored data is sound, and the
/// customers go on as if nothing had been.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_loses_nothing() {
    let kept = kept();
    assert!(!kept.is_empty(), "no filled database");
    for (name, script) in kept {
        let earlier = Earlier::read(&script).await;
        let before = earlier.rows().await;
        earlier.migrate().await;
        let after = earlier.rows().await;
        let lost: Vec<_> = before
            .iter()
            .filter(|(table, rows)| after.get(*table).is_none_or(|now| now < rows))
            .collect();
        assert!(lost.is_empty(), "{name} had {lost:?}, and now {after:?}");
        goes_on::play(earlier.start().await).await;
    }
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
