//! What is large takes longer, and no more than that.

use octroi_api::event::v1::LicenseGroupTerminated;
use octroi_api::event::v1::event::Payload;
use octroi_platform::{Call, Clock, Db, NewEvent};
use octroi_tests::harness::Installation;

/// As many seats as the largest groups have, half.
const EVENTS: usize = 50_000;

/// One transaction appends the facts of a large group's end within the database's time-outs, on a connection that has
/// appended single facts before, when there were few.
#[tokio::test]
async fn many_facts_of_one_transaction() {
    let octroi = Installation::start().await;
    let config = octroi.plan().databases.licensing.clone();
    let db = Db::new(&config, "licensing", 1, Clock::system()).unwrap();
    octroi
        .sql
        .batch_execute("ANALYZE licensing.event")
        .await
        .unwrap();
    for few in 0..10 {
        append(&db, "few", few..few + 1).await;
    }
    append(&db, "many", 0..EVENTS).await;
    // A second one of each is numbered after the first.
    append(&db, "many", 0..EVENTS).await;
    let row = octroi
        .sql
        .query_one(
            "SELECT count(*), min(last), max(last) FROM (
                 SELECT max(sequence) AS last FROM licensing.event WHERE account = 'many' GROUP BY aggregate) AS each",
            &[],
        )
        .await
        .unwrap();
    let counted: (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    assert_eq!(counted, (i64::try_from(EVENTS).unwrap(), 2, 2));
    octroi.abandon().await;
}

async fn append(db: &Db, account: &str, numbers: std::ops::Range<usize>) {
    let now = Clock::system().now();
    let call = Call::background(now, "octroi.event.v1.EventService/ListEvents");
    let (mut tx, _) = db.begin_work(&call, "SELECT 1", &[]).await.unwrap();
    for number in numbers {
        let aggregate = format!("accounts/{account}/licenseGroups/large/licenses/{number}");
        let payload = Payload::LicenseGroupTerminated(LicenseGroupTerminated::default());
        tx.emit(NewEvent::new(account, aggregate, now, payload));
    }
    tx.commit_work().await.unwrap();
}
