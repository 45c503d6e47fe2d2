//! The whole life in one breath: account, order, payment, activation, e-mail, invoice.

use octroi_api::billing::v1::{ListInvoicesRequest, invoice};
use octroi_api::licensing::v1::{license, order};
use octroi_tests::harness::{Answer as _, BUSINESS, Installation};

#[tokio::test]
async fn from_an_account_to_an_invoice() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;

    let order = acme.buys("office", &[(BUSINESS, 10)]).await;
    assert_eq!(order.state(), order::State::Completed);
    let active = acme.activates_generated("office", 1, "sales").await;
    assert_eq!(active.state(), license::State::Active);
    assert_eq!(
        active.activation_email,
        "sales@office.acme.users.octroi.example"
    );

    let email = acme.receives("license-activated", 1).await;
    assert!(
        email.text_body.contains(&active.activation_email),
        "{}",
        email.text_body
    );

    octroi.advance_to("2026-03-02T08:00:00Z").await;
    let run = octroi.bills("2026-02").await;
    assert_eq!((run.invoices, run.failed), (1, 0), "{run:?}");
    let request = ListInvoicesRequest {
        parent: acme.name(),
        ..ListInvoicesRequest::default()
    };
    let invoices = acme
        .by
        .invoices()
        .list_invoices(request)
        .await
        .got()
        .invoices;
    let [invoice] = invoices.as_slice() else {
        panic!("one invoice: {invoices:?}");
    };
    assert_eq!(invoice.state(), invoice::State::Open);
    assert_eq!(invoice.number, "F-2026-000001");
    assert_eq!(invoice.total.clone().unwrap_or_default().amount, "11.99");
    octroi.finish().await;
}
