//! Faults of the database that pass, and what is said of those that do not.

use octroi_platform::Error;
use octroi_tests::harness::{BUSINESS, Installation, eventually};
use tonic::{Code, Status};

use crate::log::open_to;

/// More tries than refusals park an event after.
const TRIES: i32 = 15;

/// While the receiver's disk is full events wait, however often they are tried; then they are applied.
#[tokio::test]
async fn a_full_disk_parks_nothing() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    octroi.drained().await;
    let full = "
        CREATE FUNCTION billing.disk_full() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN RAISE 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
        CREATE TRIGGER disk_full BEFORE INSERT OR UPDATE ON billing.inbox
            FOR EACH ROW EXECUTE FUNCTION billing.disk_full();";
    octroi.sql.batch_execute(full).await.unwrap();
    acme.activates("office", 1, "sales").await;

    // The pauses between its tries are cut short; what is being delivered is left to the relay.
    let hurry = "
        UPDATE licensing.delivery SET due_at = clock_timestamp() WHERE ctid IN (
            SELECT ctid FROM licensing.delivery WHERE NOT parked FOR UPDATE SKIP LOCKED)";
    let waiting = eventually("the event was tried often", async || {
        octroi.sql.execute(hurry, &[]).await.unwrap();
        let waiting = open_to(&octroi, "billing").await;
        let tried = waiting
            .iter()
            .any(|open| open.attempts >= TRIES || open.parked);
        tried.then_some(waiting)
    })
    .await;
    assert!(waiting.iter().all(|open| !open.parked), "{waiting:?}");

    let room = "DROP FUNCTION billing.disk_full() CASCADE";
    octroi.sql.batch_execute(room).await.unwrap();
    // A try that failed just before has put the next one off.
    eventually("the event is applied", async || {
        octroi.sql.execute(hurry, &[]).await.unwrap();
        (octroi.undelivered().await == 0).then_some(())
    })
    .await;
    octroi.finish().await;
}

/// An error that is logged names what was refused, and nothing of the row: its detail would quote a password's hash.
#[tokio::test]
async fn what_is_logged_quotes_no_row() {
    let octroi = Installation::start().await;
    let insert = "INSERT INTO licensing.inbox (account, source, aggregate, sequence) VALUES ('acme', 'x', 'hidden', 0)";
    let refused = octroi.sql.execute(insert, &[]).await.unwrap_err();
    let detail = refused.as_db_error().unwrap().detail().unwrap();
    assert!(detail.contains("hidden"), "{detail}");
    let error = Error::from(refused);
    assert!(error.violates("inbox_sequence_check"));
    let logged = format!("{error:#}");
    for named in ["23514", "inbox", "inbox_sequence_check"] {
        assert!(logged.contains(named), "{logged}");
    }
    assert!(!logged.contains("hidden"), "{logged}");
    // Nor does what a log adds to it.
    assert!(std::error::Error::source(&error).is_none());
    octroi.finish().await;
}

/// What passes by itself is told to callers as such.
#[tokio::test]
async fn callers_are_told_to_try_again() {
    let octroi = Installation::start().await;
    for code in [
        "53100", "53200", "53300", "25006", "25P03", "08006", "57P01", "58030",
    ] {
        let raise = format!("DO $$ BEGIN RAISE EXCEPTION 'so' USING ERRCODE = '{code}'; END $$");
        let error = octroi.sql.batch_execute(&raise).await.unwrap_err();
        let error = Error::from(error);
        assert!(error.is_transient(), "{code}: {error:?}");
        assert_eq!(Status::from(error).code(), Code::Unavailable, "{code}");
    }
    octroi.finish().await;
}
