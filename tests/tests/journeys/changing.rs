//! "Your account": what a change of it governs, and from when.

use octroi_api::billing::v1::{Account, UpdateAccountRequest};
use octroi_tests::harness::{Answer as _, Installation, eventually, instant, request_id};
use prost_types::FieldMask;

/// Of two changes at once, the one that is kept last is the one that is shown and the one that governs, although it was
/// asked for first.
#[tokio::test]
async fn the_shown_zone_governs() {
    const WAITING: &str = "SELECT FROM pg_locks
        WHERE relation = 'billing.idempotency'::regclass AND NOT granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    let in_zone = |zone: &str| Account {
        name: acme.name(),
        time_zone: zone.to_owned(),
        ..Account::default()
    };
    // Who names a request waits for the table of requests; who names none passes.
    octroi
        .sql
        .batch_execute("BEGIN; LOCK TABLE billing.idempotency IN SHARE MODE")
        .await
        .unwrap();
    let first = UpdateAccountRequest {
        account: Some(in_zone("Asia/Tokyo")),
        update_mask: Some(FieldMask {
            paths: vec!["time_zone".to_owned()],
        }),
        request_id: request_id(),
    };
    let mut accounts = acme.by.accounts();
    let first = tokio::spawn(async move { accounts.update_account(first).await });
    eventually("the first change waits", async || {
        octroi.sql.query_opt(WAITING, &[]).await.unwrap()
    })
    .await;
    let second = in_zone("America/New_York");
    let second = acme.changes(&["time_zone"], second).await.got();
    octroi.sql.batch_execute("COMMIT").await.unwrap();
    let first = first.await.unwrap().got();
    assert_eq!(first.time_zone, "Asia/Tokyo");
    assert!(instant(first.update_time) > instant(second.update_time));
    // Tokyo's midnight, not New York's.
    let end = instant(acme.preview("2026-03").await.period_end_time);
    assert_eq!(end.to_string(), "2026-03-31T15:00:00Z");
    octroi.finish().await;
}
