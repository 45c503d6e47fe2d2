//! "An invoice with its number and date": sellers, their series, and the dates that invoices bear.

use octroi_api::billing::v1::{Account, Invoice};
use octroi_api::licensing::v1::order;
use octroi_tests::harness::{
    Answer as _, BUSINESS, Customer, Installation, at, eventually, new_group,
};
use tonic::Code;

use crate::paying::setup_fee;

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

fn dated(invoices: &[Invoice]) -> Vec<(&str, &str)> {
    invoices
        .iter()
        .map(|invoice| (invoice.number.as_str(), invoice.issue_date.as_str()))
        .collect()
}

/// A number is of the day on which it is taken: an invoice that waits for its turn over New Year is the new year's.
#[tokio::test]
async fn across_a_years_end() {
    let octroi = Installation::start_at("2026-12-30T08:00:00Z").await;
    setup_fee(&octroi, 1_00).await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    acme.activates("office", 1, "sales").await;
    octroi.advance_to("2026-12-31T22:00:00Z").await;
    acme.asks_for("o2", new_group("branch"), &[(BUSINESS, 1)])
        .await
        .got();
    octroi.advance_to("2026-12-31T22:59:56Z").await;
    // Somebody else holds the series until it is midnight in Paris.
    octroi
        .sql
        .batch_execute("BEGIN; SELECT FROM billing.series FOR UPDATE")
        .await
        .unwrap();
    let paying = tokio::spawn({
        let acme = acme.clone();
        async move { acme.pays("o2").await }
    });
    eventually("it is midnight", async || {
        (octroi.now().await >= at("2026-12-31T23:00:00Z")).then_some(())
    })
    .await;
    octroi.sql.batch_execute("ROLLBACK").await.unwrap();
    if let Err(status) = paying.await.unwrap() {
        let refused = octroi_tests::harness::Refused::of(&status);
        refused.is(Code::Unavailable, "PAYMENT_PROCESSING");
    }
    eventually("the order completes", async || {
        (acme.order("o2").await.state() == order::State::Completed).then_some(())
    })
    .await;
    octroi.advance_to("2027-01-02T08:00:00Z").await;
    octroi.bills("2026-12").await;
    assert_eq!(
        dated(&acme.invoices().await),
        [
            ("F-2026-000001", "2026-12-30"),
            ("F-2027-000001", "2027-01-01"),
            ("F-2027-000002", "2027-01-02")
        ]
    );
    octroi.finish().await;
}

/// The seller's calendar dates an invoice, not the customer's; and no invoice is dated before the one that precedes it.
#[tokio::test]
async fn by_the_sellers_calendar_and_never_back() {
    let octroi = Installation::start_at("2026-02-02T23:30:00Z").await;
    setup_fee(&octroi, 1_00).await;
    let acme = octroi.customer("acme").await;
    let york = Account {
        time_zone: "America/New_York".to_owned(),
        ..Account::default()
    };
    acme.changes(&["time_zone"], york).await.got();
    acme.buys("office", &[(BUSINESS, 1)]).await;
    // As a clock that was set back would leave it.
    octroi
        .sql
        .execute("UPDATE billing.series SET last_date = '2026-02-20'", &[])
        .await
        .unwrap();
    acme.buys("branch", &[(BUSINESS, 1)]).await;
    let invoices = acme.invoices().await;
    assert_eq!(
        dated(&invoices),
        [
            ("F-2026-000001", "2026-02-03"),
            ("F-2026-000002", "2026-02-20")
        ]
    );
    assert_eq!(invoices[1].due_date, "2026-02-20");
    octroi.finish().await;
}
