//! The event log and its deliveries, looked at and tampered with as no service would.

use octroi_tests::harness::{Installation, eventually};
use tokio_postgres::Client;

/// One delivery that is still to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    pub subscriber: String,
    pub aggregate: String,
    pub sequence: i64,
    pub attempts: i32,
    pub parked: bool,
    pub last_error: String,
}

/// What licensing still has to deliver.
pub async fn open(sql: &Client) -> Vec<Open> {
    let rows = sql
        .query(
            "SELECT subscriber, aggregate, sequence, attempts, parked, coalesce(last_error, '')
             FROM licensing.delivery ORDER BY subscriber, aggregate, sequence",
            &[],
        )
        .await
        .unwrap();
    rows.iter()
        .map(|row| Open {
            subscriber: row.get(0),
            aggregate: row.get(1),
            sequence: row.get(2),
            attempts: row.get(3),
            parked: row.get(4),
            last_error: row.get(5),
        })
        .collect()
}

/// The deliveries that are still to be made to a subscriber.
pub async fn open_to(octroi: &Installation, subscriber: &str) -> Vec<Open> {
    let mut open = open(&octroi.sql).await;
    open.retain(|open| open.subscriber == subscriber);
    open
}

/// The stored bytes of the first event of an aggregate of licensing's.
pub async fn first_of(sql: &Client, aggregate: &str) -> Vec<u8> {
    let row = sql
        .query_one(
            "SELECT body FROM licensing.event WHERE aggregate = $1 AND sequence = 1",
            &[&aggregate],
        )
        .await
        .unwrap();
    row.get(0)
}

/// Puts other bytes in their place, when no relay holds what it read of them before.
pub async fn rewrite(sql: &Client, aggregate: &str, body: &[u8]) {
    let rewritten = eventually("nobody is delivering it", async || {
        // With the table locked, a look for what is due has either shown its leases or reads the new bytes.
        sql.batch_execute("BEGIN; LOCK TABLE licensing.delivery IN SHARE ROW EXCLUSIVE MODE")
            .await
            .unwrap();
        let rewritten = sql
            .execute(
                "UPDATE licensing.event SET body = $2
                 WHERE aggregate = $1 AND sequence = 1 AND NOT EXISTS (
                     SELECT FROM licensing.delivery
                     WHERE aggregate = $1 AND sequence = 1 AND lease_until >= clock_timestamp())",
                &[&aggregate, &body],
            )
            .await
            .unwrap();
        sql.batch_execute("COMMIT").await.unwrap();
        (rewritten > 0).then_some(rewritten)
    })
    .await;
    assert_eq!(rewritten, 1);
}
