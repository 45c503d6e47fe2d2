//! Looking at a month's invoice before it is made.

use octroi_api::billing::v1::{Account, CreateAccountRequest, PreviewInvoiceRequest};
use octroi_tests::harness::{
    Answer as _, BUSINESS, Customer, Installation, account, amount, at, instant,
};

use crate::invoicing::assert_evidence;

/// What a month would cost if it ended now.
#[tokio::test]
async fn seen_before_it_is_made() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    assert_eq!(acme.preview("2026-02").await.lines, []);
    acme.buys("office", &[(BUSINESS, 5)]).await;
    acme.activates("office", 1, "sales").await;
    octroi.advance_to("2026-02-10T08:00:00Z").await;
    acme.activates("office", 2, "night").await;
    octroi.drained().await;
    let preview = acme.preview("2026-02").await;
    assert_eq!((preview.name.as_str(), preview.number.as_str()), ("", ""));
    assert_eq!(
        (preview.lines[0].quantity, preview.lines[0].days.len()),
        (2, 9)
    );
    assert_eq!(amount(preview.total.as_ref()), "23.98 EUR");
    assert_evidence(&acme, &preview, "2026-02").await;
    assert_eq!(acme.invoices().await, []);
    let bad = PreviewInvoiceRequest {
        parent: "acme".to_owned(),
        month: "February".to_owned(),
    };
    let refused = octroi
        .operator()
        .invoices()
        .preview_invoice(bad)
        .await
        .refused();
    refused.names(&["parent", "month"]);
    octroi.finish().await;
}

/// The calendar that counts is the account's own, whoever's month was looked at before.
#[tokio::test]
async fn in_each_accounts_calendar() {
    let octroi = Installation::start().await;
    let by = octroi.operator();
    let auckland = CreateAccountRequest {
        account_id: "kiwi".to_owned(),
        account: Some(Account {
            time_zone: "Pacific/Auckland".to_owned(),
            ..account("Kiwi")
        }),
        ..CreateAccountRequest::default()
    };
    by.accounts().create_account(auckland).await.got();
    let id = "kiwi".to_owned();
    let kiwi = Customer { id, by };
    kiwi.pays_with("test-success").await;
    let acme = octroi.customer("acme").await;
    for customer in [&acme, &kiwi] {
        customer.buys("office", &[(BUSINESS, 2)]).await;
        customer.activates("office", 1, "sales").await;
    }
    // Still February in Paris, March already in Auckland.
    octroi.advance_to("2026-02-28T12:00:00Z").await;
    for customer in [&acme, &kiwi] {
        customer.activates("office", 2, "night").await;
    }
    octroi.drained().await;
    let starts = [
        (&acme, 2, "2026-01-31T23:00:00Z"),
        (&kiwi, 1, "2026-01-31T11:00:00Z"),
    ];
    for (customer, peak, start) in starts.into_iter().cycle().take(6) {
        let preview = customer.preview("2026-02").await;
        assert_eq!(preview.lines[0].quantity, peak, "{}", customer.id);
        assert_eq!(instant(preview.period_start_time), at(start));
        assert_evidence(customer, &preview, "2026-02").await;
    }
    octroi.finish().await;
}
