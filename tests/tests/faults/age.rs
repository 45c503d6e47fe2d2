//! A command that takes too long leaves nothing behind, wherever its time went.

use octroi_api::billing::v1::{Account, GetAccountRequest};
use octroi_tests::harness::{Answer as _, Installation, ServiceName};
use tonic::Code;

/// Two statements of the last pipeline take 16 s each: neither runs into the statements' own limit of 20 s, and when
/// the last one has run the command is older than the 30 s that it may be.
const SLOW: &str = "
    CREATE FUNCTION billing.slow() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_sleep(16);
        RETURN NEW;
    END $$;
    CREATE TRIGGER slow BEFORE INSERT ON billing.audit FOR EACH ROW EXECUTE FUNCTION billing.slow();
    CREATE TRIGGER slow BEFORE INSERT ON billing.event FOR EACH ROW EXECUTE FUNCTION billing.slow()";
const FAST: &str = "
    DROP TRIGGER slow ON billing.audit;
    DROP TRIGGER slow ON billing.event";

#[tokio::test]
async fn slow_writes_are_not_committed_late() {
    let octroi = Installation::start().await;
    let acme = octroi.newcomer("acme").await;
    let name = acme.name();
    let before = acme
        .by
        .accounts()
        .get_account(GetAccountRequest { name })
        .await
        .got();
    let facts = acme.events(ServiceName::Billing).await;
    octroi.sql.batch_execute(SLOW).await.unwrap();
    let moved = Account {
        contact_email: "new@acme.test".to_owned(),
        ..Account::default()
    };
    let refused = acme
        .changes(&["contact_email"], moved.clone())
        .await
        .refused();
    refused.is(Code::Unavailable, "UNAVAILABLE");
    octroi.sql.batch_execute(FAST).await.unwrap();
    let name = acme.name();
    let after = acme
        .by
        .accounts()
        .get_account(GetAccountRequest { name })
        .await
        .got();
    assert_eq!(after, before);
    assert_eq!(acme.events(ServiceName::Billing).await, facts);
    acme.changes(&["contact_email"], moved).await.got();
    octroi.finish().await;
}
