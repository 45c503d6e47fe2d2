//! "An invoice with its number and date": sellers, their series, and the dates that invoices bear.

use octroi_api::billing::v1::Account;
use octroi_tests::harness::{Answer as _, BUSINESS, Customer, Installation};
use tonic::Code;

/// A customer of this seller.
async fn customer_of(octroi: &Installation, id: &str, seller: &str) -> Customer {
    let customer = octroi.customer(id).await;
    let account = Account {
        seller: seller.to_owned(),
        ..Account::default()
    };
    customer.changes(&["seller"], account).await.got();
    customer
}

/// Each seller has its own numbers; one that may not invoice stops nobody else's invoices.
#[tokio::test]
async fn each_seller_for_itself() {
    let octroi = Installation::start().await;
    octroi.another_seller("other").await;
    let mut customers = Vec::new();
    for (id, seller) in [
        ("a1", "specimen"),
        ("b1", "other"),
        ("a2", "specimen"),
        ("b2", "other"),
    ] {
        let customer = customer_of(&octroi, id, &format!("sellers/{seller}")).await;
        customer.buys("office", &[(BUSINESS, 1)]).await;
        customer.activates("office", 1, "sales").await;
        customers.push(customer);
    }
    let siren = async |seller: &str, siren: &str| {
        let set = "UPDATE billing.seller SET siren = $2 WHERE id = $1";
        octroi.sql.execute(set, &[&seller, &siren]).await.unwrap();
    };
    let kept = octroi
        .sql
        .query_one("SELECT siren FROM billing.seller WHERE id = 'other'", &[]);
    let kept: String = kept.await.unwrap().get(0);
    octroi.advance_to("2026-03-01T08:00:00Z").await;
    siren("specimen", "").await;
    siren("other", "").await;
    let refused = octroi.asks_to_bill("2026-02", false).await.refused();
    refused.is(Code::FailedPrecondition, "SELLER_INCOMPLETE");
    siren("specimen", &kept).await;
    let dry = octroi.tries_to_bill("2026-02").await;
    let run = octroi.bills("2026-02").await;
    for run in [&dry, &run] {
        assert_eq!((run.invoices, run.failed), (2, 2), "{run:?}");
        let failed: Vec<_> = run
            .failures
            .iter()
            .map(|failure| (&*failure.account, &*failure.reason))
            .collect();
        assert_eq!(
            failed,
            [
                ("accounts/b1", "SELLER_INCOMPLETE"),
                ("accounts/b2", "SELLER_INCOMPLETE")
            ]
        );
    }
    siren("other", &kept).await;
    let run = octroi.bills("2026-02").await;
    assert_eq!((run.invoices, run.skipped, run.failed), (2, 2, 0));
    let mut numbers = Vec::new();
    for customer in &customers {
        numbers.push(customer.invoices().await.remove(0).number);
    }
    assert_eq!(
        numbers,
        [
            "F-2026-000001",
            "F-2026-000001",
            "F-2026-000002",
            "F-2026-000002"
        ]
    );
    octroi.finish().await;
}
