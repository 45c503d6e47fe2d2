//! Lists: in pages, each with the next one's token; nothing that is not available yet is ignored in silence.

use std::collections::BTreeSet;
use std::time::Duration;

use octroi_api::METHODS;
use octroi_api::billing::v1::{
    BillRun, CreateBillRunRequest, InvoiceView, ListAccountsRequest, ListBillRunsRequest,
    ListInvoiceLinesRequest, ListInvoicesRequest, ListPaymentMethodsRequest, ListPaymentsRequest,
};
use octroi_api::event::v1::ListEventsRequest;
use octroi_api::licensing::v1::{
    CreateOrderRequest, ListLicenseGroupsRequest, ListLicensesRequest, ListOffersRequest,
    ListOrdersRequest, ListOwnDevicesRequest, Order, OrderLine,
};
use octroi_api::notification::v1::{EmailView, ListEmailsRequest};
use octroi_tests::harness::{
    Answer as _, BUSINESS, CHOSEN, Caller, Installation, Refused, ServiceName, new_group,
};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::methods::with_everything;

/// Pages through a list one by one and holds it to the whole; then hands it everything that it must refuse.
macro_rules! pages {
    ($client:expr, $list:ident, $request:expr, $items:ident, $key:ident) => {{
        let query = $request;
        let whole = $client.$list(query.clone()).await.got();
        assert_eq!(whole.next_page_token, "", "one page holds it all");
        assert!(
            whole.$items.len() >= 2,
            "{} has too little",
            stringify!($list)
        );
        let keys: BTreeSet<_> = whole.$items.iter().map(|item| item.$key.clone()).collect();
        assert_eq!(keys.len(), whole.$items.len(), "each once");
        let mut request = query.clone();
        request.page_size = 1;
        let mut paged = Vec::new();
        let mut token = None;
        loop {
            let page = $client.$list(request.clone()).await.got();
            assert_eq!(page.$items.len(), 1);
            paged.extend(page.$items);
            request.page_token = page.next_page_token.clone();
            if page.next_page_token.is_empty() {
                break;
            }
            token.get_or_insert(page.next_page_token);
        }
        assert_eq!(paged, whole.$items, "{}", stringify!($list));
        let mut huge = query.clone();
        huge.page_size = i32::MAX;
        assert_eq!($client.$list(huge).await.got().$items, whole.$items);
        let mut bad = query;
        bad.page_size = -1;
        bad.page_token = "bm9uc2Vuc2U".to_owned();
        bad.filter = "state = ACTIVE".to_owned();
        bad.order_by = "name desc".to_owned();
        let refused = $client.$list(bad).await.refused();
        refused.names(&["page_size", "page_token", "filter", "order_by"]);
        token.unwrap()
    }};
}

/// A token continues its own query and no other.
macro_rules! refuses_token {
    ($client:expr, $list:ident, $request:expr, $token:expr) => {{
        let query = $request;
        let mut request = query.clone();
        request.page_token = $token.clone();
        $client
            .$list(request)
            .await
            .refused()
            .names(&["page_token"]);
    }};
}

#[tokio::test]
async fn every_list_has_pages() {
    let octroi = Installation::start().await;
    let (acme, known) = with_everything(&octroi, "acme").await;
    let user = acme.by.with_session(&known.session);
    let device = octroi_api::licensing::v1::RegisterDeviceRequest {
        device: Some(octroi_api::licensing::v1::Device {
            platform: octroi_api::licensing::v1::Platform::Ios.into(),
            display_name: "A phone".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    user.portal().register_device(device).await.got();
    acme.buys("branch", &[(BUSINESS, 2)]).await;
    let night = acme.activates("branch", 1, "night").await.activation_email;
    let night = acme.user(&night, CHOSEN).await;
    acme.asks_for("third", new_group("third"), &[(BUSINESS, 1)])
        .await
        .got();
    acme.pays_with("test-processing").await;
    let other = octroi.newcomer("other").await;
    octroi.bills("2026-01").await;
    octroi.tries_to_bill("2026-01").await;
    octroi.mailed().await;
    octroi.drained().await;
    let by = &acme.by;
    let parent = acme.name();

    let offers = pages!(
        by.offers(),
        list_offers,
        ListOffersRequest::default(),
        offers,
        name
    );
    let accounts = pages!(
        by.accounts(),
        list_accounts,
        ListAccountsRequest::default(),
        accounts,
        name
    );
    let runs = pages!(
        by.bill_runs(),
        list_bill_runs,
        ListBillRunsRequest::default(),
        bill_runs,
        name
    );
    refuses_token!(
        by.accounts(),
        list_accounts,
        ListAccountsRequest::default(),
        runs
    );
    refuses_token!(
        by.bill_runs(),
        list_bill_runs,
        ListBillRunsRequest::default(),
        accounts
    );
    refuses_token!(by.offers(), list_offers, ListOffersRequest::default(), runs);

    macro_rules! of_an_account {
        ($client:expr, $list:ident, $request:ident, $items:ident) => {{
            let of = |parent: &str| $request {
                parent: parent.to_owned(),
                ..$request::default()
            };
            let token = pages!($client, $list, of(&parent), $items, name);
            refuses_token!($client, $list, of(&other.name()), token);
            refuses_token!($client, $list, of(&parent), offers);
        }};
    }
    of_an_account!(by.orders(), list_orders, ListOrdersRequest, orders);
    of_an_account!(
        by.groups(),
        list_license_groups,
        ListLicenseGroupsRequest,
        license_groups
    );
    of_an_account!(
        by.payment_methods(),
        list_payment_methods,
        ListPaymentMethodsRequest,
        payment_methods
    );
    of_an_account!(by.payments(), list_payments, ListPaymentsRequest, payments);
    of_an_account!(by.invoices(), list_invoices, ListInvoicesRequest, invoices);
    of_an_account!(by.emails(), list_emails, ListEmailsRequest, emails);

    let lines = ListInvoiceLinesRequest {
        parent: parent.clone(),
        month: "2026-02".to_owned(),
        ..ListInvoiceLinesRequest::default()
    };
    let token = pages!(
        by.invoices(),
        list_invoice_lines,
        lines.clone(),
        lines,
        license_group
    );
    let another = ListInvoiceLinesRequest {
        month: "2026-01".to_owned(),
        ..lines
    };
    refuses_token!(by.invoices(), list_invoice_lines, another, token);
    let invoice = acme.invoices().await.remove(0).name;
    let of_invoice = ListInvoiceLinesRequest {
        parent: invoice,
        ..ListInvoiceLinesRequest::default()
    };
    refuses_token!(by.invoices(), list_invoice_lines, of_invoice, token);

    let events = ListEventsRequest {
        parent: parent.clone(),
        ..ListEventsRequest::default()
    };
    for service in [ServiceName::Licensing, ServiceName::Billing] {
        let token = pages!(by.events(service), list_events, events.clone(), events, id);
        let others = ListEventsRequest {
            parent: other.name(),
            ..ListEventsRequest::default()
        };
        refuses_token!(by.events(service), list_events, others, token);
    }
    let licenses = ListLicensesRequest {
        parent: acme.group_name("office"),
        ..ListLicensesRequest::default()
    };
    let token = pages!(
        by.licenses(),
        list_licenses,
        licenses.clone(),
        licenses,
        name
    );
    let deleted = ListLicensesRequest {
        show_deleted: true,
        ..licenses
    };
    refuses_token!(by.licenses(), list_licenses, deleted, token);
    let devices = ListOwnDevicesRequest::default();
    let token = pages!(
        user.portal(),
        list_own_devices,
        devices.clone(),
        devices,
        name
    );
    let all = ListOwnDevicesRequest {
        show_deactivated: true,
        ..devices.clone()
    };
    refuses_token!(user.portal(), list_own_devices, all, token);
    refuses_token!(night.portal(), list_own_devices, devices.clone(), token);
    let bad = ListOwnDevicesRequest {
        page_size: -1,
        ..devices
    };
    let refused = by.portal().list_own_devices(bad).await.refused();
    refused.is(Code::Unauthenticated, "SESSION_INVALID");
    octroi.finish().await;
}

/// The journey above knows every list that is declared.
#[test]
fn no_list_is_forgotten() {
    let lists: Vec<_> = METHODS
        .iter()
        .filter_map(|method| method.path.rsplit_once('/'))
        .map(|(_, name)| name)
        .filter(|name| name.starts_with("List") && *name != "ListInstallers")
        .collect();
    let source = include_str!("listing.rs");
    for list in lists {
        let shown = format!("{list}Request");
        assert!(
            source.matches(&shown).count() > 1,
            "{list} is not paged through"
        );
    }
}

/// A parent that does not exist has no list, as it has no name.
#[tokio::test]
async fn a_bad_parent_is_named() {
    let octroi = Installation::start().await;
    let by = octroi.operator();
    let bad = || "account/acme".to_owned();
    let orders = ListOrdersRequest {
        parent: bad(),
        page_size: -5,
        ..ListOrdersRequest::default()
    };
    by.orders()
        .list_orders(orders)
        .await
        .refused()
        .names(&["parent", "page_size"]);
    let invoices = ListInvoicesRequest {
        parent: bad(),
        filter: "x".to_owned(),
        ..ListInvoicesRequest::default()
    };
    by.invoices()
        .list_invoices(invoices)
        .await
        .refused()
        .names(&["parent", "filter"]);
    let views = ListInvoicesRequest {
        parent: "accounts/acme".to_owned(),
        view: 9,
        ..ListInvoicesRequest::default()
    };
    let refused = by.invoices().list_invoices(views).await.refused();
    refused.names(&["view"]);
    for (parent, month, named) in [
        ("account/acme", "", &["parent"] as &[&str]),
        ("accounts/acme/invoices/1", "2026-02", &["month", "parent"]),
        ("accounts/acme", "", &["month"]),
        ("accounts/acme", "February", &["month"]),
    ] {
        let lines = ListInvoiceLinesRequest {
            parent: parent.to_owned(),
            month: month.to_owned(),
            ..ListInvoiceLinesRequest::default()
        };
        let refused = by.invoices().list_invoice_lines(lines).await.refused();
        refused.names(named);
    }
    let emails = ListEmailsRequest {
        parent: bad(),
        order_by: "x".to_owned(),
        ..ListEmailsRequest::default()
    };
    by.emails()
        .list_emails(emails)
        .await
        .refused()
        .names(&["parent", "order_by"]);
    let run = CreateBillRunRequest {
        bill_run: Some(BillRun::default()),
        ..CreateBillRunRequest::default()
    };
    by.bill_runs()
        .create_bill_run(run)
        .await
        .refused()
        .names(&["bill_run.month"]);
    octroi.finish().await;
}

/// How much of each row is shown is not what is listed: the next page may show more, or less.
#[tokio::test]
async fn a_token_is_good_for_any_view() {
    let octroi = Installation::start().await;
    let (acme, _) = with_everything(&octroi, "acme").await;
    acme.buys("branch", &[(BUSINESS, 2)]).await;
    octroi.mailed().await;
    let (mut emails, mut invoices) = (acme.by.emails(), acme.by.invoices());
    let of_emails = |page_token: &str, view: EmailView| ListEmailsRequest {
        parent: acme.name(),
        page_size: 1,
        page_token: page_token.to_owned(),
        view: view.into(),
        ..ListEmailsRequest::default()
    };
    let first = emails.list_emails(of_emails("", EmailView::Full)).await;
    let token = first.got().next_page_token;
    for view in [EmailView::Unspecified, EmailView::Basic, EmailView::Full] {
        let page = emails.list_emails(of_emails(&token, view)).await.got();
        assert_eq!(page.emails[0].text_body.is_empty(), view != EmailView::Full);
    }
    let of_invoices = |page_token: &str, view: InvoiceView| ListInvoicesRequest {
        parent: acme.name(),
        page_size: 1,
        page_token: page_token.to_owned(),
        view: view.into(),
        ..ListInvoicesRequest::default()
    };
    let first = of_invoices("", InvoiceView::Unspecified);
    let token = invoices.list_invoices(first).await.got().next_page_token;
    for view in [
        InvoiceView::Unspecified,
        InvoiceView::Basic,
        InvoiceView::Full,
    ] {
        let page = invoices
            .list_invoices(of_invoices(&token, view))
            .await
            .got();
        assert_eq!(page.invoices[0].lines.is_empty(), view != InvoiceView::Full);
    }
    octroi.finish().await;
}

/// What is not there yet, and what may not be seen, is not found alike, whatever service is asked; one that hears of
/// accounts from another says when to ask again.
#[tokio::test]
async fn an_unknown_account_is_not_found() {
    let octroi = Installation::start().await;
    octroi.customer("other").await;
    octroi.drained().await;
    let (operator, bound) = (octroi.operator(), octroi.bound_to("acme"));
    macro_rules! refused {
        ($at:ident, $client:ident($($of:expr)?), $list:ident, $request:ident) => {{
            let of = |parent: &str| $request {
                parent: format!("accounts/{parent}"),
                ..$request::default()
            };
            let asks = |by: &Caller, parent: &str| {
                let (mut client, request) = (by.$client($($of)?), of(parent));
                async move { client.$list(request).await }
            };
            asks(&operator, "other").await.got();
            let unknown = asks(&operator, "never").await.refused();
            unknown.is(Code::NotFound, "NOT_FOUND");
            let second = (ServiceName::$at != ServiceName::Billing).then_some(Duration::from_secs(1));
            assert_eq!(unknown.retry, second, "{}", stringify!($list));
            assert_eq!(asks(&bound, "never").await.refused(), unknown);
            let hidden = asks(&bound, "other").await.refused();
            let named = unknown.message.replace("never", "other");
            assert_eq!(hidden, Refused { message: named, ..unknown });
        }};
    }
    refused!(Licensing, orders(), list_orders, ListOrdersRequest);
    refused!(
        Licensing,
        groups(),
        list_license_groups,
        ListLicenseGroupsRequest
    );
    refused!(Billing, payments(), list_payments, ListPaymentsRequest);
    refused!(
        Billing,
        payment_methods(),
        list_payment_methods,
        ListPaymentMethodsRequest
    );
    refused!(Billing, invoices(), list_invoices, ListInvoicesRequest);
    refused!(Notification, emails(), list_emails, ListEmailsRequest);
    refused!(
        Licensing,
        events(ServiceName::Licensing),
        list_events,
        ListEventsRequest
    );
    refused!(
        Billing,
        events(ServiceName::Billing),
        list_events,
        ListEventsRequest
    );
    refused!(
        Notification,
        events(ServiceName::Notification),
        list_events,
        ListEventsRequest
    );
    // What no event can be about is no account that may turn up.
    for parent in [BUSINESS, "sellers/specimen"] {
        let list = ListEventsRequest {
            parent: parent.to_owned(),
            ..ListEventsRequest::default()
        };
        let mut events = operator.events(ServiceName::Licensing);
        let status = events.list_events(list).await.unwrap_err();
        let refused = Refused::of(&status);
        refused.is(Code::NotFound, "NOT_FOUND");
        assert_eq!(refused.retry, None, "{parent}");
        let details = status.get_error_details();
        let resource = details.resource_info().unwrap();
        let told = (&*resource.resource_type, &*resource.resource_name);
        assert_eq!(told, ("resource", parent));
    }
    // Who orders is answered by billing, which has not heard of the account and will not.
    let order = |account: &str| CreateOrderRequest {
        parent: format!("accounts/{account}"),
        order_id: "first".to_owned(),
        order: Some(Order {
            new_group: Some(new_group("office")),
            lines: vec![OrderLine {
                offer: BUSINESS.to_owned(),
                quantity: 1,
            }],
            ..Order::default()
        }),
        ..CreateOrderRequest::default()
    };
    for (by, account) in [(&operator, "never"), (&bound, "never"), (&bound, "other")] {
        let refused = by.orders().create_order(order(account)).await.refused();
        refused.is(Code::NotFound, "NOT_FOUND");
        assert_eq!(refused.retry, None);
        let named = format!("accounts/{account}");
        assert!(refused.message.contains(&named), "{refused:?}");
    }
    octroi.finish().await;
}
