//! "Order a licence": offers, orders, quotes.

use jiff::SignedDuration;
use octroi_api::billing::v1::{GetPaymentRequest, invoice, payment};
use octroi_api::licensing::v1::{
    BillingMode, CancelOrderRequest, CreateOrderRequest, GetOfferRequest, ListOffersRequest,
    ListOrdersRequest, NewLicenseGroup, Order, license, offer, order,
};
use octroi_tests::harness::{
    Answer as _, BUSINESS, Customer, ENTERPRISE, Installation, amount, instant, lines, new_group,
};
use tonic::Code;

use crate::paying::setup_fee;

#[tokio::test]
async fn offers() {
    let octroi = Installation::start().await;
    let by = octroi.operator();
    let listed = by
        .offers()
        .list_offers(ListOffersRequest::default())
        .await
        .got()
        .offers;
    let names: Vec<_> = listed.iter().map(|offer| offer.name.as_str()).collect();
    assert_eq!(names, [BUSINESS, ENTERPRISE]);
    let [business, enterprise] = listed.as_slice() else {
        panic!("two offers: {listed:?}");
    };
    assert_eq!(business.state(), offer::State::Active);
    assert_eq!(
        (business.group_license_limit, enterprise.group_license_limit),
        (300, 0)
    );
    assert_eq!(
        (
            business.shared_computer_activation,
            enterprise.shared_computer_activation
        ),
        (false, true)
    );
    let programs = "Excel Word PowerPoint Outlook OneNote Publisher";
    assert_eq!(business.applications.join(" "), programs);
    assert_eq!(
        enterprise.applications.join(" "),
        format!("{programs} Access")
    );
    for offer in &listed {
        let limits = (
            offer.computer_limit,
            offer.tablet_limit,
            offer.smartphone_limit,
        );
        assert_eq!(limits, (5, 5, 5));
        let name = offer.name.clone();
        assert_eq!(
            &by.offers().get_offer(GetOfferRequest { name }).await.got(),
            offer
        );
    }
    let name = "offers/apps-for-nobody".to_owned();
    let missing = by
        .offers()
        .get_offer(GetOfferRequest { name })
        .await
        .refused();
    missing.is(Code::NotFound, "NOT_FOUND");
    octroi.finish().await;
}

#[tokio::test]
async fn a_group_is_ordered_quoted_and_paid() {
    let octroi = Installation::start().await;
    setup_fee(&octroi, 2_50).await;
    let acme = octroi.customer("acme").await;
    let group = NewLicenseGroup {
        display_name: "Head office".to_owned(),
        renewal_period: "P3M".to_owned(),
        auto_renew: Some(false),
        ..new_group("office")
    };
    let asked = acme
        .asks_for("o1", group, &[(BUSINESS, 10), (ENTERPRISE, 2)])
        .await
        .got();
    assert_eq!(asked.name, "accounts/acme/orders/o1");
    assert_eq!(asked.state(), order::State::AwaitingPayment);
    assert_eq!(asked.license_group, acme.group_name("office"));
    let day = SignedDuration::from_hours(24);
    assert_eq!(instant(asked.expire_time), instant(asked.create_time) + day);
    let quote = asked.quote.clone().unwrap();
    let [business, enterprise] = quote.lines.as_slice() else {
        panic!("a line each: {quote:?}");
    };
    assert_eq!(amount(business.setup_amount.as_ref()), "25.00 EUR");
    assert_eq!(amount(business.monthly_price.as_ref()), "9.99 EUR");
    assert_eq!(amount(enterprise.setup_amount.as_ref()), "0.00 EUR");
    assert_eq!(amount(enterprise.monthly_price.as_ref()), "13.99 EUR");
    assert_eq!(quote.tax_rate_ppm, 200_000);
    assert_eq!(amount(quote.net.as_ref()), "25.00 EUR");
    assert_eq!(amount(quote.tax.as_ref()), "5.00 EUR");
    assert_eq!(amount(quote.due_now.as_ref()), "30.00 EUR");

    // Until it is paid there is neither group nor licence.
    let missing = acme
        .by
        .groups()
        .get_license_group(named(&acme, "office"))
        .await
        .refused();
    missing.is(Code::NotFound, "NOT_FOUND");
    let paid = acme.pays("o1").await.got();
    assert_eq!(paid.state(), order::State::Completed);
    assert_eq!(paid.payment_attempts, 1);
    assert_eq!(acme.order("o1").await, paid);
    let group = acme.group("office").await;
    assert_eq!(group.display_name, "Head office");
    assert_eq!(
        (group.renewal_period.as_str(), group.auto_renew),
        ("P3M", Some(false))
    );
    assert_eq!(group.billing_mode(), BillingMode::Postpaid);
    let seats: Vec<_> = group
        .offers
        .iter()
        .map(|seats| {
            (
                seats.offer.as_str(),
                seats.licenses,
                seats.active,
                seats.reserved,
                seats.limit,
            )
        })
        .collect();
    assert_eq!(seats, [(BUSINESS, 10, 0, 0, 300), (ENTERPRISE, 2, 0, 0, 0)]);
    for number in 1..=12 {
        let license = acme.license("office", number).await;
        assert_eq!(license.state(), license::State::Unassigned);
        assert_eq!(
            license.offer,
            if number <= 10 { BUSINESS } else { ENTERPRISE }
        );
    }

    let name = paid.payment.clone();
    let payment = acme
        .by
        .payments()
        .get_payment(GetPaymentRequest { name })
        .await
        .got();
    assert_eq!(payment.state(), payment::State::Succeeded);
    assert_eq!(amount(payment.amount.as_ref()), "30.00 EUR");
    assert_eq!(
        (payment.order.as_str(), payment.attempt),
        (paid.name.as_str(), 1)
    );
    let invoices = acme.invoices().await;
    let [invoice] = invoices.as_slice() else {
        panic!("one invoice: {invoices:?}");
    };
    assert_eq!(
        (&invoice.name, &payment.invoice),
        (&paid.invoice, &paid.invoice)
    );
    assert_eq!(
        (invoice.state(), invoice.kind()),
        (invoice::State::Paid, invoice::Kind::Order)
    );
    assert_eq!(invoice.order, paid.name);
    assert_eq!(amount(invoice.total.as_ref()), "30.00 EUR");
    assert_eq!(
        invoice.lines.len(),
        1,
        "what costs nothing is no line: {invoice:?}"
    );
    acme.receives("order-completed", 1).await;
    octroi.finish().await;
}

#[tokio::test]
async fn an_order_expires_or_is_cancelled() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.asks_for("late", new_group("late"), &[(BUSINESS, 1)])
        .await
        .got();
    acme.asks_for("dropped", new_group("dropped"), &[(BUSINESS, 1)])
        .await
        .got();

    let stale = CancelOrderRequest {
        name: acme.order_name("dropped"),
        etag: "999".to_owned(),
        ..CancelOrderRequest::default()
    };
    let refused = acme.by.orders().cancel_order(stale).await.refused();
    refused.is(Code::Aborted, "ETAG_MISMATCH");
    let cancel = CancelOrderRequest {
        name: acme.order_name("dropped"),
        etag: acme.order("dropped").await.etag,
        ..CancelOrderRequest::default()
    };
    let cancelled = acme.by.orders().cancel_order(cancel.clone()).await.got();
    assert_eq!(cancelled.state(), order::State::Cancelled);
    let refused = acme.pays("dropped").await.refused();
    refused.is(Code::FailedPrecondition, "ORDER_STATE");

    octroi.advance_to("2026-02-03T08:30:00Z").await;
    assert_eq!(acme.order("late").await.state(), order::State::Expired);
    let refused = acme.pays("late").await.refused();
    assert!(
        ["ORDER_EXPIRED", "ORDER_STATE"].contains(&refused.reason.as_str()),
        "{refused:?}"
    );
    // An id that was held once is never free again.
    let refused = acme
        .asks_for("again", new_group("late"), &[(BUSINESS, 1)])
        .await
        .refused();
    refused.is(Code::AlreadyExists, "ALREADY_EXISTS");
    let refused = acme
        .asks_for("late", new_group("later"), &[(BUSINESS, 1)])
        .await
        .refused();
    refused.is(Code::AlreadyExists, "ALREADY_EXISTS");
    octroi.finish().await;
}

#[tokio::test]
async fn at_most_300_licences_of_an_offer_in_a_group() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    let refused = acme
        .asks_for("o1", new_group("office"), &[(BUSINESS, 301)])
        .await
        .refused();
    refused.is(Code::FailedPrecondition, "LICENSE_LIMIT_REACHED");
    assert_eq!(refused.quotas[0].0, BUSINESS);
    assert_eq!(
        (&*refused.metadata["limit"], &*refused.metadata["offer"]),
        ("300", BUSINESS)
    );

    // It counts per group and offer.
    acme.buys("office", &[(BUSINESS, 300), (ENTERPRISE, 1000)])
        .await;
    acme.buys("branch", &[(BUSINESS, 299)]).await;
    let refused = acme
        .asks_for_more("o2", "office", &[(BUSINESS, 1)])
        .await
        .refused();
    refused.is(Code::FailedPrecondition, "LICENSE_LIMIT_REACHED");
    acme.buys_more("o3", "office", &[(ENTERPRISE, 1)]).await;

    // Both orders see room when they are made; the seats are reserved when they are paid.
    acme.asks_for_more("first", "branch", &[(BUSINESS, 1)])
        .await
        .got();
    acme.asks_for_more("second", "branch", &[(BUSINESS, 1)])
        .await
        .got();
    acme.pays("first").await.got();
    let refused = acme.pays("second").await.refused();
    refused.is(Code::FailedPrecondition, "LICENSE_LIMIT_REACHED");
    let waiting = acme.order("second").await;
    assert_eq!(
        (waiting.state(), waiting.payment_attempts),
        (order::State::AwaitingPayment, 0)
    );
    octroi.finish().await;
}

#[tokio::test]
async fn orders_that_cannot_be() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    let bad = CreateOrderRequest {
        parent: acme.name(),
        order_id: "No Good".to_owned(),
        order: Some(Order {
            new_group: Some(NewLicenseGroup {
                id: "-".to_owned(),
                display_name: "Two\nlines".to_owned(),
                renewal_period: "P2M".to_owned(),
                ..NewLicenseGroup::default()
            }),
            license_group: acme.group_name("office"),
            lines: lines(&[(BUSINESS, 0), ("offer", 1), (BUSINESS, 100_001)]),
            ..Order::default()
        }),
        request_id: "7".to_owned(),
        ..CreateOrderRequest::default()
    };
    acme.by.orders().create_order(bad).await.refused().names(&[
        "order_id",
        "order.new_group.id",
        "order.new_group.display_name",
        "order.new_group.renewal_period",
        "order.license_group",
        "order.lines[0].quantity",
        "order.lines[1].offer",
        "order.lines[2].offer",
        "order.lines[2].quantity",
        "request_id",
    ]);
    let empty = CreateOrderRequest {
        parent: acme.name(),
        order: Some(Order::default()),
        ..CreateOrderRequest::default()
    };
    let refused = acme.by.orders().create_order(empty).await.refused();
    refused.names(&["order.new_group", "order.lines"]);
    let unknown = acme
        .asks_for("o1", new_group("office"), &[("offers/none", 1)])
        .await
        .refused();
    unknown.names(&["order.lines[0].offer"]);

    let prepaid = NewLicenseGroup {
        billing_mode: BillingMode::Prepaid.into(),
        ..new_group("office")
    };
    let refused = acme
        .asks_for("o1", prepaid, &[(BUSINESS, 1)])
        .await
        .refused();
    refused.is(Code::FailedPrecondition, "BILLING_MODE_UNAVAILABLE");
    let refused = acme
        .asks_for_more("o1", "office", &[(BUSINESS, 1)])
        .await
        .refused();
    refused.is(Code::NotFound, "NOT_FOUND");
    let nobody = Customer {
        id: "nobody".to_owned(),
        by: acme.by.clone(),
    };
    let refused = nobody
        .asks_for("o1", new_group("office"), &[(BUSINESS, 1)])
        .await
        .refused();
    refused.is(Code::NotFound, "NOT_FOUND");
    assert_eq!(orders(&acme).await, Vec::<String>::new());
    octroi.finish().await;
}

#[tokio::test]
async fn an_archived_offer_is_not_sold_and_a_price_is_never_assumed() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    octroi
        .sql
        .execute(
            "UPDATE licensing.offer SET state = 'ARCHIVED' WHERE offer = 'apps-for-business'",
            &[],
        )
        .await
        .unwrap();
    let refused = acme
        .asks_for("o1", new_group("office"), &[(BUSINESS, 1)])
        .await
        .refused();
    refused.is(Code::FailedPrecondition, "OFFER_ARCHIVED");
    octroi
        .sql
        .batch_execute(
            "INSERT INTO licensing.offer SELECT 'free', display_name, applications, 10, 5, 5, 5, false, 'ACTIVE', created_at
             FROM licensing.offer LIMIT 1;
             UPDATE billing.account SET country = 'DE'",
        )
        .await
        .unwrap();
    let refused = acme
        .asks_for("o1", new_group("office"), &[("offers/free", 1)])
        .await
        .refused();
    assert!(
        ["PRICE_MISSING", "TAX_RATE_MISSING"].contains(&refused.reason.as_str()),
        "{refused:?}"
    );
    let refused = acme
        .asks_for("o1", new_group("office"), &[(ENTERPRISE, 1)])
        .await
        .refused();
    refused.is(Code::FailedPrecondition, "TAX_RATE_MISSING");
    octroi
        .sql
        .execute("UPDATE billing.account SET country = 'FR'", &[])
        .await
        .unwrap();
    let refused = acme
        .asks_for("o1", new_group("office"), &[("offers/free", 1)])
        .await
        .refused();
    refused.is(Code::FailedPrecondition, "PRICE_MISSING");
    octroi.finish().await;
}

#[tokio::test]
async fn trying_keeps_nothing() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    let tried = CreateOrderRequest {
        parent: acme.name(),
        order_id: "o1".to_owned(),
        order: Some(Order {
            new_group: Some(new_group("office")),
            lines: lines(&[(BUSINESS, 7)]),
            ..Order::default()
        }),
        validate_only: true,
        ..CreateOrderRequest::default()
    };
    let quoted = acme.by.orders().create_order(tried.clone()).await.got();
    assert_eq!(quoted.quote.unwrap().lines[0].quantity, 7);
    assert_eq!(orders(&acme).await, Vec::<String>::new());
    let too_many = CreateOrderRequest {
        order: Some(Order {
            lines: lines(&[(BUSINESS, 301)]),
            ..tried.order.clone().unwrap()
        }),
        ..tried
    };
    let refused = acme.by.orders().create_order(too_many).await.refused();
    refused.is(Code::FailedPrecondition, "LICENSE_LIMIT_REACHED");
    // The id was not held.
    acme.buys("office", &[(BUSINESS, 7)]).await;
    assert_eq!(orders(&acme).await, ["accounts/acme/orders/office"]);
    octroi.finish().await;
}

/// Whether the ids are free is tried as well.
#[tokio::test]
async fn trying_with_ids_that_are_taken() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.asks_for("o1", new_group("office"), &[(BUSINESS, 1)])
        .await
        .got();
    let tries = async |order_id: &str, group: &str, validate_only| {
        let request = CreateOrderRequest {
            parent: acme.name(),
            order_id: order_id.to_owned(),
            order: Some(Order {
                new_group: Some(new_group(group)),
                lines: lines(&[(BUSINESS, 1)]),
                ..Order::default()
            }),
            validate_only,
            ..CreateOrderRequest::default()
        };
        acme.by.orders().create_order(request).await
    };
    for (order, group) in [("o1", "branch"), ("o2", "office"), ("o1", "office")] {
        let tried = tries(order, group, true).await.refused();
        tried.is(Code::AlreadyExists, "ALREADY_EXISTS");
        assert_eq!(tried, tries(order, group, false).await.refused());
    }
    tries("o2", "branch", true).await.got();
    // More for a group that exists asks for its own id alone.
    acme.pays("o1").await.got();
    let more = CreateOrderRequest {
        parent: acme.name(),
        order: Some(Order {
            license_group: acme.group_name("office"),
            lines: lines(&[(BUSINESS, 1)]),
            ..Order::default()
        }),
        validate_only: true,
        ..CreateOrderRequest::default()
    };
    let mut service = acme.by.orders();
    service.create_order(more.clone()).await.got();
    let taken = CreateOrderRequest {
        order_id: "o1".to_owned(),
        ..more
    };
    let refused = service.create_order(taken).await.refused();
    refused.is(Code::AlreadyExists, "ALREADY_EXISTS");
    octroi.finish().await;
}

async fn orders(customer: &Customer) -> Vec<String> {
    let request = ListOrdersRequest {
        parent: customer.name(),
        ..ListOrdersRequest::default()
    };
    let orders = customer.by.orders().list_orders(request).await.got().orders;
    orders.into_iter().map(|order| order.name).collect()
}

fn named(customer: &Customer, group: &str) -> octroi_api::licensing::v1::GetLicenseGroupRequest {
    let name = customer.group_name(group);
    octroi_api::licensing::v1::GetLicenseGroupRequest { name }
}
