//! What is heavy is answered in parts: no answer comes near the 4 MiB that clients take by default.

use std::collections::BTreeSet;

use octroi_api::billing::v1::{
    GetInvoiceRequest, Invoice, InvoiceLine, InvoiceView, ListInvoiceLinesRequest,
    ListInvoicesRequest,
};
use octroi_api::event::v1::event::Payload;
use octroi_api::event::v1::{LicenseGroupTerminated, ListEventsRequest};
use octroi_api::licensing::v1::ListOrdersRequest;
use octroi_api::notification::v1::{EmailView, ListEmailsRequest};
use octroi_platform::{Call, Clock, Db, NewEvent};
use octroi_tests::harness::{Answer as _, BUSINESS, Customer, Installation, ServiceName, lines};
use prost::Message;

/// A quarter of what clients take.
const MOST: usize = 1 << 20;
/// Groups of two offers each that an account uses the whole month.
const GROUPS: i32 = 1_000;
/// As many rows as a page may have.
const ROWS: i32 = 1_000;

#[track_caller]
fn light<M: Message>(answer: M) -> M {
    let weight = answer.encoded_len();
    assert!(weight < MOST, "an answer of {weight} bytes");
    answer
}

#[tokio::test]
async fn an_invoice_of_many_lines() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    use_much(&octroi).await;
    let preview = light(acme.preview("2026-02").await);
    let of_preview = ListInvoiceLinesRequest {
        parent: acme.name(),
        month: "2026-02".to_owned(),
        page_size: ROWS,
        ..ListInvoiceLinesRequest::default()
    };
    // Each page of a preview computes it anew: one shows that they go on where it ended.
    let next = ListInvoiceLinesRequest {
        page_token: preview.next_lines_page_token.clone(),
        ..of_preview
    };
    let page = light(acme.lines(&next).await.got());
    assert_ne!(page.next_page_token, "");
    let previewed = [preview.lines, page.lines].concat();
    octroi.advance_to("2026-03-02T08:00:00Z").await;
    let run = octroi.bills("2026-02").await;
    assert_eq!((run.invoices, run.failed), (1, 0), "{run:?}");

    let mut invoices = acme.by.invoices();
    let mut request = ListInvoicesRequest {
        parent: acme.name(),
        ..ListInvoicesRequest::default()
    };
    let basic = light(invoices.list_invoices(request.clone()).await.got());
    let [basic] = basic.invoices.as_slice() else {
        panic!("one invoice: {basic:?}");
    };
    assert_eq!((basic.lines.len(), basic.line_count), (0, 2 * GROUPS));
    assert_eq!(basic.next_lines_page_token, "");
    request.view = InvoiceView::Full.into();
    let full = light(invoices.list_invoices(request).await.got()).invoices;
    let name = basic.name.clone();
    let get = GetInvoiceRequest { name: name.clone() };
    let whole = light(invoices.get_invoice(get).await.got());
    assert_eq!(full, std::slice::from_ref(&whole));
    let of_invoice = ListInvoiceLinesRequest {
        parent: name,
        page_size: ROWS,
        ..ListInvoiceLinesRequest::default()
    };
    let after = check_lines(&acme, &whole, &of_invoice).await;
    let all = read(&acme, of_invoice).await;
    assert!(all == after, "the lines differ");
    let told = |line: &InvoiceLine| {
        (
            line.license_group.clone(),
            line.offer.clone(),
            line.amount.clone(),
        )
    };
    let first = all.iter().take(previewed.len());
    assert!(
        first.map(told).eq(previewed.iter().map(told)),
        "the preview differs"
    );
    octroi.abandon().await;
}

/// Every line is seen once, after those that the invoice carries, and they sum up to its net.
async fn check_lines(
    acme: &Customer,
    invoice: &Invoice,
    all: &ListInvoiceLinesRequest,
) -> Vec<InvoiceLine> {
    assert_eq!(invoice.line_count, 2 * GROUPS);
    assert!((1..1000).contains(&invoice.lines.len()));
    let after = ListInvoiceLinesRequest {
        page_token: invoice.next_lines_page_token.clone(),
        ..all.clone()
    };
    let mut lines = invoice.lines.clone();
    lines.extend(read(acme, after).await);
    let keys: BTreeSet<_> = lines
        .iter()
        .map(|line| (&line.license_group, &line.offer))
        .collect();
    let used = usize::try_from(2 * GROUPS).unwrap();
    assert_eq!((keys.len(), lines.len()), (used, used));
    let weight: usize = lines.iter().map(Message::encoded_len).sum();
    assert!(weight > MOST, "all lines would fit in one answer");
    let net: i64 = lines.iter().map(|line| cents(line.amount.as_ref())).sum();
    assert_eq!(net, cents(invoice.net.as_ref()));
    lines
}

async fn read(acme: &Customer, mut request: ListInvoiceLinesRequest) -> Vec<InvoiceLine> {
    let mut lines = Vec::new();
    loop {
        let page = light(acme.lines(&request).await.got());
        lines.extend(page.lines);
        if page.next_page_token.is_empty() {
            return lines;
        }
        request.page_token = page.next_page_token;
    }
}

fn cents(money: Option<&octroi_api::r#type::v1::Money>) -> i64 {
    let money = money.unwrap();
    assert_eq!(money.currency_code, "EUR");
    money.amount.replace('.', "").parse().unwrap()
}

/// Two offers used in each of many groups, as licensing would have told.
async fn use_much(octroi: &Installation) {
    let groups = format!("generate_series(1, {GROUPS})");
    let statements = format!(
        "INSERT INTO billing.usage_group (account, group_id, display_name, version, named_time)
         SELECT 'acme', 'group-' || n, 'Group ' || n, 0, '2026-02-02T08:00:00Z' FROM {groups} AS n;
         INSERT INTO billing.usage_interval (account, group_id, seat, opened_by, offer, start_time)
         SELECT 'acme', 'group-' || n, seat, gen_random_uuid(), offer, '2026-02-02T08:00:00Z'
         FROM {groups} AS n,
             (VALUES (1, 'offers/apps-for-business'), (2, 'offers/apps-for-enterprise')) AS used (seat, offer)"
    );
    octroi.sql.batch_execute(&statements).await.unwrap();
}

/// Every page of a list, asked for with all that a page may have.
macro_rules! rows {
    ($client:expr, $list:ident, $request:expr, $items:ident) => {{
        let mut request = $request;
        request.page_size = ROWS;
        let mut rows = 0;
        loop {
            let page = light($client.$list(request.clone()).await.got());
            rows += page.$items.len();
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break rows;
            }
        }
    }};
}

#[tokio::test]
async fn pages_of_heavy_rows() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    let offers = long_offers(&octroi).await;
    let wanted: Vec<(&str, i32)> = offers.iter().map(|offer| (offer.as_str(), 1)).collect();
    assert_eq!(lines(&wanted).len(), 20);
    acme.buys("office", &wanted).await;
    acme.receives("order-completed", 1).await;
    let parent = acme.name();
    let rows = usize::try_from(ROWS).unwrap();

    let copies = format!("generate_series(1, {ROWS}) AS n");
    let orders = format!(
        "INSERT INTO licensing.license_order
         SELECT (jsonb_populate_record(given, jsonb_build_object(
             'order_id', 'copy-' || n, 'group_id', 'copy-' || n, 'state', 'CANCELLED', 'completed_at', NULL
         ))).* FROM licensing.license_order AS given, {copies};
         INSERT INTO licensing.order_line
         SELECT (jsonb_populate_record(given, jsonb_build_object('order_id', 'copy-' || n))).*
         FROM licensing.order_line AS given, {copies}"
    );
    octroi.sql.batch_execute(&orders).await.unwrap();
    let request = ListOrdersRequest {
        parent: parent.clone(),
        ..ListOrdersRequest::default()
    };
    let listed = rows!(acme.by.orders(), list_orders, request, orders);
    assert_eq!(listed, rows + 1);

    let emails = format!(
        "INSERT INTO notification.email
         SELECT (jsonb_populate_record(given, jsonb_build_object('id', gen_random_uuid(), 'event', gen_random_uuid()))).*
         FROM notification.email AS given, {copies} WHERE given.template = 'order-completed'"
    );
    octroi.sql.batch_execute(&emails).await.unwrap();
    let request = ListEmailsRequest {
        parent: parent.clone(),
        view: EmailView::Full.into(),
        ..ListEmailsRequest::default()
    };
    let listed = rows!(acme.by.emails(), list_emails, request, emails);
    assert!(listed > rows, "{listed}");

    record(&octroi).await;
    let request = ListEventsRequest {
        parent,
        ..ListEventsRequest::default()
    };
    let mut events = acme.by.events(ServiceName::Licensing);
    let listed = rows!(events, list_events, request, events);
    assert!(listed > rows, "{listed}");
    octroi.abandon().await;
}

/// As many offers as an order may have, with ids as long as they may be.
async fn long_offers(octroi: &Installation) -> Vec<String> {
    let ids = "(SELECT rpad('offer-' || n || '-', 60, 'x') AS id, n FROM generate_series(1, 20) AS n) AS made";
    let statements = format!(
        "INSERT INTO licensing.offer
         SELECT (jsonb_populate_record(given, jsonb_build_object('offer', made.id, 'display_name', rpad(made.id, 100, 'y')))).*
         FROM licensing.offer AS given, {ids} WHERE offer = 'apps-for-business';
         INSERT INTO billing.price
         SELECT (jsonb_populate_record(given, jsonb_build_object('id', gen_random_uuid(), 'offer', 'offers/' || made.id))).*
         FROM billing.price AS given, {ids} WHERE given.id = (
             SELECT id FROM billing.price WHERE offer = '{BUSINESS}' ORDER BY valid_from LIMIT 1
         )"
    );
    octroi.sql.batch_execute(&statements).await.unwrap();
    let made = format!("SELECT id FROM {ids}");
    let ids = octroi.sql.query(&made, &[]).await.unwrap();
    ids.iter()
        .map(|row| format!("offers/{}", row.get::<_, String>(0)))
        .collect()
}

/// Many facts of 5 KB each.
async fn record(octroi: &Installation) {
    let config = octroi.plan().databases.licensing.clone();
    let db = Db::new(&config, "licensing", 1, Clock::system()).unwrap();
    let now = octroi.now().await;
    let call = Call::background(now, "octroi.event.v1.EventService/ListEvents");
    let (mut tx, _) = db.begin_work(&call, "SELECT 1", &[]).await.unwrap();
    for number in 0..ROWS {
        let aggregate = format!("accounts/acme/licenseGroups/heavy-{number}");
        let payload = Payload::LicenseGroupTerminated(LicenseGroupTerminated {
            display_name: "x".repeat(5_000),
            ..LicenseGroupTerminated::default()
        });
        tx.emit(NewEvent::new("acme", aggregate, now, payload));
    }
    tx.commit_work().await.unwrap();
}
