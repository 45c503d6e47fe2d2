//! Looking at a month's invoice before it is made.

use octroi_api::billing::v1::{
    Account, CreateAccountRequest, InvoiceLine, ListInvoiceLinesRequest, PreviewInvoiceRequest,
};
use octroi_tests::harness::{
    Answer as _, BUSINESS, Customer, ENTERPRISE, Installation, account, amount, at, instant,
};
use tonic::Code;

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

/// A group and a quantity for each line.
fn figures(lines: &[InvoiceLine]) -> Vec<(&str, i32)> {
    let lines = lines.iter();
    lines
        .map(|line| (line.group_display_name.as_str(), line.quantity))
        .collect()
}

/// Every line after the pages that the request's token leaves out, one a page.
async fn rest(customer: &Customer, mut request: ListInvoiceLinesRequest) -> Vec<InvoiceLine> {
    let mut lines = Vec::new();
    loop {
        let page = customer.lines(&request).await.got();
        lines.extend(page.lines);
        if page.next_page_token.is_empty() {
            return lines;
        }
        request.page_token = page.next_page_token;
    }
}

/// Pages of a preview show it as it was at its first page, whatever happens in between; pages of an invoice show it.
#[tokio::test]
async fn page_by_page() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    for group in ["a", "b", "c"] {
        acme.buys(group, &[(BUSINESS, 2), (ENTERPRISE, 2)]).await;
        acme.activates(group, 1, "first").await;
    }
    octroi.drained().await;
    let preview = ListInvoiceLinesRequest {
        parent: acme.name(),
        month: "2026-02".to_owned(),
        page_size: 1,
        ..ListInvoiceLinesRequest::default()
    };
    let first = acme.lines(&preview).await.got();
    assert_eq!(figures(&first.lines), [("a", 1)]);
    // Changes a line that was shown and one that was not, and adds one before and one after.
    for (group, number) in [("a", 2), ("a", 3), ("c", 2), ("c", 3)] {
        let login = format!("next{number}");
        acme.activates(group, number, &login).await;
    }
    octroi.drained().await;
    let goes_on = ListInvoiceLinesRequest {
        page_token: first.next_page_token,
        ..preview.clone()
    };
    let lines = rest(&acme, goes_on).await;
    assert_eq!(figures(&lines), [("b", 1), ("c", 1)]);
    let lines = rest(&acme, preview).await;
    let now = [("a", 2), ("a", 1), ("b", 1), ("c", 2), ("c", 1)];
    assert_eq!(figures(&lines), now);
    let whole = acme.preview("2026-02").await;
    assert_eq!((&whole.lines, whole.line_count), (&lines, 5));
    assert_eq!(whole.next_lines_page_token, "");

    octroi.advance_to("2026-03-02T08:00:00Z").await;
    octroi.bills("2026-02").await;
    let invoice = acme.invoices().await.pop().unwrap();
    let pages = ListInvoiceLinesRequest {
        parent: invoice.name.clone(),
        page_size: 1,
        ..ListInvoiceLinesRequest::default()
    };
    let lines = rest(&acme, pages.clone()).await;
    assert_eq!((&invoice.lines, invoice.line_count), (&lines, 5));
    assert_eq!(figures(&lines), now);
    let elsewhere = ListInvoiceLinesRequest {
        parent: pages.parent.replace("acme", "other"),
        ..pages
    };
    let refused = acme.lines(&elsewhere).await.refused();
    refused.is(Code::NotFound, "NOT_FOUND");
    octroi.finish().await;
}

/// What took effect before a preview's first page and is told after it makes the preview one that was never shown: it
/// is begun again.
#[tokio::test]
async fn and_told_in_between() {
    let mut octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    for group in ["a", "b"] {
        acme.buys(group, &[(BUSINESS, 2)]).await;
        acme.activates(group, 1, "first").await;
    }
    octroi.drained().await;
    // Billing waits for the account before it takes usage.
    let held = octroi.sql.transaction().await.unwrap();
    let lock = "SELECT FROM billing.account WHERE account = 'acme' FOR UPDATE";
    held.execute(lock, &[]).await.unwrap();
    acme.activates("b", 2, "second").await;
    let preview = ListInvoiceLinesRequest {
        parent: acme.name(),
        month: "2026-02".to_owned(),
        page_size: 1,
        ..ListInvoiceLinesRequest::default()
    };
    let first = acme.lines(&preview).await.got();
    assert_eq!(figures(&first.lines), [("a", 1)]);
    held.rollback().await.unwrap();
    octroi.drained().await;
    let goes_on = ListInvoiceLinesRequest {
        page_token: first.next_page_token,
        ..preview.clone()
    };
    let refused = acme.lines(&goes_on).await.refused();
    refused.names(&["page_token"]);
    let lines = rest(&acme, preview).await;
    assert_eq!(figures(&lines), [("a", 1), ("b", 2)]);
    octroi.finish().await;
}
