//! A lock on a node is waited for as long as on one server, and not for as long as a node would by itself.

use std::time::Duration;

use octroi_tests::harness::{BUSINESS, Citus, Installation, ServiceName, amount, within};

const SEATS: i32 = 3;
/// How often each event was tried to bring to whom the locked account is behind. A node would wait ten seconds each time.
const TRIES: i32 = 4;
const PATIENCE: Duration = Duration::from_secs(25);

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_account_on_a_node_holds_up_itself_alone() {
    let Some(citus) = Citus::there().await else {
        return;
    };
    let mut octroi = Installation::distributed(&citus, "2026-02-02T08:00:00Z").await;
    let customers = [octroi.customer("acme").await, octroi.customer("zeta").await];
    for customer in &customers {
        customer.buys("office", &[(BUSINESS, SEATS)]).await;
    }
    octroi.drained().await;
    octroi.stop(ServiceName::Billing).await;
    for number in 1..=SEATS {
        for customer in &customers {
            let login = format!("user{number}");
            customer.activates("office", number, &login).await;
        }
    }
    let lock = "BEGIN; SELECT FROM billing.account WHERE account = 'acme' FOR UPDATE";
    octroi.sql.batch_execute(lock).await.unwrap();
    octroi.restart(ServiceName::Billing).await;
    let open = "SELECT account, attempts FROM licensing.delivery WHERE subscriber = 'billing'";
    within(
        PATIENCE,
        "the others are taken, and these tried",
        async || {
            let open = octroi.sql.query(open, &[]).await.unwrap();
            let own = open.iter().all(|row| row.get::<_, &str>(0) == "acme");
            let tried = open.iter().map(|row| row.get::<_, i32>(1)).max();
            (own && tried >= Some(TRIES)).then_some(())
        },
    )
    .await;
    octroi.sql.batch_execute("ROLLBACK").await.unwrap();
    octroi.drained().await;
    for customer in &customers {
        let preview = customer.preview("2026-02").await;
        assert_eq!(amount(preview.net.as_ref()), "29.97 EUR");
    }
    octroi.finish().await;
}
