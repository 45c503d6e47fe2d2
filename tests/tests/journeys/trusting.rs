//! Who is trusted with what: a token that is bound to an account moves nothing of the installation and nothing of
//! another account, and a service speaks for itself alone.

use octroi_api::billing::v1::{
    Account, BillRun, CreateAccountRequest, CreateBillRunRequest, GetAccountRequest,
    GetBillRunRequest, ListBillRunsRequest, QuoteOrderRequest, QuotedLine, SettleOrderRequest,
    UpdateAccountRequest,
};
use octroi_api::event::v1::delivery_outcome::Result as Outcome;
use octroi_api::event::v1::event::Payload;
use octroi_api::event::v1::{
    DeliverEventsRequest, Delivery, DeliveryOutcome, Event, ListEventsRequest,
};
use octroi_api::licensing::v1::{
    CreateOrderRequest, ListOrdersRequest, Order, OrderLine, SignInRequest, SignInResponse,
};
use octroi_api::notification::v1::ListEmailsRequest;
use octroi_api::testing::v1::{AdvanceClockRequest, GetClockRequest, SetClockRequest};
use octroi_platform::time::to_proto;
use octroi_tests::harness::{
    Answer as _, BUSINESS, CHOSEN, Caller, Customer, Installation, ServiceName, account, at,
    request_id,
};
use prost::Message as _;
use prost_types::FieldMask;
use tonic::{Code, Response, Status};

/// With every scope it neither reads nor moves the clock, and starts and reads no bill run.
#[tokio::test]
async fn a_bound_token_moves_nothing_of_the_installation() {
    let octroi = Installation::start().await;
    octroi.customer("acme").await;
    let bound = octroi.bound_to("acme");
    let before = octroi.now().await;
    let day = prost_types::Duration {
        seconds: 86_400,
        nanos: 0,
    };
    let advance = AdvanceClockRequest {
        duration: Some(day),
    };
    let set = SetClockRequest {
        time: Some(prost_types::Timestamp {
            seconds: before.as_second() + 86_400,
            nanos: 0,
        }),
    };
    let run = CreateBillRunRequest {
        bill_run: Some(BillRun {
            month: "2026-01".to_owned(),
            ..BillRun::default()
        }),
        ..CreateBillRunRequest::default()
    };
    let get = GetBillRunRequest {
        name: "billRuns/none".to_owned(),
    };
    let list = ListBillRunsRequest::default();
    for refused in [
        bound.clock().advance_clock(advance).await.refused(),
        bound.clock().set_clock(set).await.refused(),
        bound.clock().get_clock(GetClockRequest {}).await.refused(),
        bound.bill_runs().create_bill_run(run).await.refused(),
        bound.bill_runs().get_bill_run(get).await.refused(),
        bound.bill_runs().list_bill_runs(list).await.refused(),
    ] {
        refused.is(Code::PermissionDenied, "BOUND_TOKEN");
        assert_eq!(refused.metadata["account"], "acme");
    }
    assert!(octroi.now().await.duration_since(before).as_hours() < 1);
    octroi.finish().await;
}

/// A token that says it is a service's and is bound to an account is not a service's. Nor is one of somebody else, of a
/// service whose business the method is not, or of the service that is called.
#[tokio::test]
async fn a_services_methods_ask_whose_token_it_is() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    let quote = QuoteOrderRequest {
        account: acme.name(),
        lines: vec![QuotedLine {
            offer: BUSINESS.to_owned(),
            quantity: 1,
        }],
        ..QuoteOrderRequest::default()
    };
    let licensing = octroi.service(ServiceName::Licensing).settlement();
    let quoted = licensing.clone().quote_order(quote.clone()).await.got();
    let settle = SettleOrderRequest {
        order: acme.order_name("foreign"),
        attempt: 1,
        quote: quoted.quote,
        ..SettleOrderRequest::default()
    };
    let (service, other) = ("service:licensing", Some("other"));
    let strangers = [
        (octroi.caller_as(service, "service", other), "BOUND_TOKEN"),
        (
            octroi.caller_as(service, "service *", Some("acme")),
            "BOUND_TOKEN",
        ),
        (octroi.caller_as("ops", "service *", None), "SERVICES_ONLY"),
        (
            octroi.caller_as("licensing", "service", None),
            "SERVICES_ONLY",
        ),
        (octroi.service(ServiceName::Notification), "SERVICES_ONLY"),
        (octroi.service(ServiceName::Billing), "SERVICES_ONLY"),
    ];
    for (stranger, reason) in strangers {
        let mut settlement = stranger.settlement();
        let refused = settlement.quote_order(quote.clone()).await.refused();
        refused.is(Code::PermissionDenied, reason);
        let refused = settlement.settle_order(settle.clone()).await.refused();
        refused.is(Code::PermissionDenied, reason);
    }
    let charged = "SELECT count(*) FROM billing.settlement WHERE order_id = 'foreign'";
    let charged: i64 = octroi.sql.query_one(charged, &[]).await.unwrap().get(0);
    assert_eq!(charged, 0);

    let empty = |source: &str| DeliverEventsRequest {
        source: source.to_owned(),
        ..DeliverEventsRequest::default()
    };
    let bound = octroi.caller_as(service, "service", other);
    let mut intake = bound.intake(ServiceName::Billing);
    let refused = intake.deliver_events(empty("licensing")).await.refused();
    refused.is(Code::PermissionDenied, "BOUND_TOKEN");
    for service in ServiceName::ALL {
        let mut intake = octroi.service(service).intake(service);
        let refused = intake
            .deliver_events(empty(service.as_str()))
            .await
            .refused();
        refused.is(Code::PermissionDenied, "SERVICES_ONLY");
    }
    octroi.finish().await;
}

/// What one service gives to go on from means nothing to another: its positions are its own.
#[tokio::test]
async fn a_token_of_one_services_facts_is_not_anothers() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    let mut request = ListEventsRequest {
        parent: acme.name(),
        page_size: 1,
        ..ListEventsRequest::default()
    };
    let mut licensing = acme.by.events(ServiceName::Licensing);
    let answer = licensing.list_events(request.clone()).await.got();
    for token in [answer.next_page_token, answer.resume_token] {
        request.page_token = token;
        licensing.list_events(request.clone()).await.got();
        let mut billing = acme.by.events(ServiceName::Billing);
        let refused = billing.list_events(request.clone()).await.refused();
        refused.is(Code::InvalidArgument, "INVALID_FIELDS");
        assert_eq!(refused.fields, ["page_token"]);
    }
    octroi.finish().await;
}

/// To a bound token "accounts/-" is its own account, in every service, in what is read and in what is changed.
#[tokio::test]
async fn a_bound_token_need_not_name_its_account() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    acme.receives("order-completed", 1).await;
    octroi.customer("other").await;
    let bound = octroi.bound_to("acme");
    let own = || "accounts/-".to_owned();
    let request = GetAccountRequest { name: own() };
    assert_eq!(
        bound.accounts().get_account(request).await.got().name,
        acme.name()
    );
    let request = ListOrdersRequest {
        parent: own(),
        ..ListOrdersRequest::default()
    };
    let orders = bound.orders().list_orders(request).await.got().orders;
    assert_eq!(orders.len(), 1);
    let request = ListEmailsRequest {
        parent: own(),
        ..ListEmailsRequest::default()
    };
    assert!(
        !bound
            .emails()
            .list_emails(request)
            .await
            .got()
            .emails
            .is_empty()
    );
    for service in ServiceName::ALL {
        let request = ListEventsRequest {
            parent: own(),
            ..ListEventsRequest::default()
        };
        bound.events(service).list_events(request).await.got();
    }
    let more = Order {
        license_group: format!("{}/licenseGroups/office", own()),
        lines: vec![OrderLine {
            offer: BUSINESS.to_owned(),
            quantity: 1,
        }],
        ..Order::default()
    };
    let request = CreateOrderRequest {
        parent: own(),
        order: Some(more),
        ..CreateOrderRequest::default()
    };
    let order = bound.orders().create_order(request).await.got();
    assert!(
        order.name.starts_with("accounts/acme/orders/"),
        "{}",
        order.name
    );
    let update = UpdateAccountRequest {
        account: Some(Account {
            name: own(),
            legal_name: "Acme SA".to_owned(),
            ..Account::default()
        }),
        update_mask: Some(FieldMask {
            paths: vec!["legal_name".to_owned()],
        }),
        ..UpdateAccountRequest::default()
    };
    assert_eq!(
        bound.accounts().update_account(update).await.got().name,
        acme.name()
    );
    // To a token that is not bound it is no account.
    let request = GetAccountRequest { name: own() };
    let refused = octroi
        .caller("*")
        .accounts()
        .get_account(request)
        .await
        .refused();
    refused.is(Code::NotFound, "NOT_FOUND");
    octroi.finish().await;
}

/// The right to read one service's facts is none to read another's.
#[tokio::test]
async fn the_facts_of_one_service_are_not_anothers() {
    let octroi = Installation::start().await;
    octroi.customer("acme").await;
    // Licensing and notification hear of the account a moment later.
    octroi.drained().await;
    let request = ListEventsRequest {
        parent: "accounts/acme".to_owned(),
        ..ListEventsRequest::default()
    };
    let everywhere = octroi.caller("events.read");
    for granted in ServiceName::ALL {
        let reader = octroi.caller(&format!("{granted}.events.read"));
        for asked in ServiceName::ALL {
            let answer = reader.events(asked).list_events(request.clone()).await;
            if asked == granted {
                answer.got();
                continue;
            }
            let refused = answer.refused();
            refused.is(Code::PermissionDenied, "SCOPE_MISSING");
            assert_eq!(refused.metadata["scope"], format!("{asked}.events.read"));
        }
        let answer = everywhere
            .events(granted)
            .list_events(request.clone())
            .await;
        answer.refused().is(Code::PermissionDenied, "SCOPE_MISSING");
        let operator = octroi.operator();
        operator
            .events(granted)
            .list_events(request.clone())
            .await
            .got();
    }
    octroi.finish().await;
}

/// A fact is taken from the service whose it is. What another service tells in its name is refused, one fact at a time:
/// what is good in the same delivery is applied, and nothing of the wronged service waits for it.
#[tokio::test]
async fn a_service_tells_its_own_facts_alone() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    acme.activates("office", 1, "sales").await;
    octroi.drained().await;
    octroi.mailed().await;
    let notification = ServiceName::Notification;
    let billing = octroi.facts(ServiceName::Billing, notification, "acme");
    let billing = billing.await;
    let licensing = octroi.facts(ServiceName::Licensing, notification, "acme");
    let licensing = licensing.await;
    let mailed = acme.emails().await.len();

    // Notification moves acme's letters to itself.
    let stolen = forged(&billing, |event| match &mut event.payload {
        Some(Payload::AccountChanged(changed)) => {
            changed.version += 1;
            changed.contact_email = "thief@elsewhere.test".to_owned();
            changed.locale = "fr".to_owned();
            true
        }
        _ => false,
    });
    let outcomes = tells(
        &octroi,
        ServiceName::Notification,
        ServiceName::Licensing,
        &stolen,
    )
    .await;
    assert_eq!(outcomes[0].result(), Outcome::Refused, "{outcomes:?}");
    let locale = "SELECT locale FROM licensing.account WHERE account = 'acme'";
    let locale: String = octroi.sql.query_one(locale, &[]).await.unwrap().get(0);
    assert_eq!(locale, "en");

    // Billing tells notification of an activation that licensing never told; its own fact beside it is known.
    let made_up = forged(&licensing, |event| {
        event.aggregate = acme.license_name("office", 7);
        event.id = "01920000-0000-7000-8000-000000000001".to_owned();
        matches!(event.payload, Some(Payload::LicenseActivated(_)))
    });
    let both = [made_up[0].clone(), billing[0].clone()];
    let outcomes = tells(
        &octroi,
        ServiceName::Billing,
        ServiceName::Notification,
        &both,
    )
    .await;
    let results: Vec<_> = outcomes.iter().map(|outcome| outcome.result()).collect();
    assert_eq!(
        results,
        [Outcome::Refused, Outcome::Duplicate],
        "{outcomes:?}"
    );
    assert_eq!(acme.emails().await.len(), mailed);

    // A fact of a newer release waits, whoever tells it; so does one whose type is another than its payload's.
    let newer = forged(&licensing, |event| {
        event.aggregate = acme.license_name("office", 8);
        event.r#type = "licensing.license.lent".to_owned();
        true
    });
    for source in [ServiceName::Licensing, ServiceName::Billing] {
        let outcomes = tells(&octroi, source, ServiceName::Notification, &newer[..1]).await;
        assert_eq!(outcomes[0].result(), Outcome::Waiting, "{outcomes:?}");
    }

    // The aggregates that were spoken for go on.
    let moved = Account {
        contact_email: "new@acme.test".to_owned(),
        ..Account::default()
    };
    acme.changes(&["contact_email"], moved).await.got();
    octroi.drained().await;
    octroi.finish().await;
}

/// Nothing of the future is taken for told, and a fact is of one account alone, under a name of a name's length.
#[tokio::test]
async fn what_cannot_be_is_not_believed() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    octroi.newcomer("other").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    acme.activates("office", 1, "sales").await;
    octroi.drained().await;
    let mut intake = octroi
        .service(ServiceName::Licensing)
        .intake(ServiceName::Billing);
    let told = DeliverEventsRequest {
        source: "licensing".to_owned(),
        complete_through: Some(to_proto(at("2099-01-01T00:00:00Z"))),
        ..DeliverEventsRequest::default()
    };
    intake.deliver_events(told.clone()).await.got();
    let believed = "SELECT complete_through > '2027-01-01' FROM billing.intake_progress WHERE source = 'licensing'";
    let believed: bool = octroi.sql.query_one(believed, &[]).await.unwrap().get(0);
    assert!(!believed);
    for held in ["accounts/-", "offers/office"] {
        let request = DeliverEventsRequest {
            held_accounts: vec![held.to_owned()],
            ..told.clone()
        };
        let refused = intake.deliver_events(request).await.refused();
        refused.names(&["held_accounts"]);
    }

    let notification = ServiceName::Notification;
    let facts = octroi
        .facts(ServiceName::Licensing, notification, "acme")
        .await;
    let elsewhere = "accounts/other/licenseGroups/office/licenses/7";
    let long = format!("{}/{}", acme.name(), "a".repeat(1000));
    for (account, aggregate) in [
        ("accounts/other", acme.license_name("office", 7).as_str()),
        ("accounts/other", elsewhere),
        ("accounts/acme", elsewhere),
        ("other", elsewhere),
        ("", &acme.license_name("office", 7)),
        ("accounts/acme", &long),
    ] {
        let forged = forged(&facts, |event| {
            event.account = account.to_owned();
            event.aggregate = aggregate.to_owned();
            matches!(event.payload, Some(Payload::LicenseActivated(_)))
        });
        let outcomes = tells(&octroi, ServiceName::Licensing, notification, &forged[..1]).await;
        let outcome = &outcomes[0];
        assert_eq!(
            outcome.result(),
            Outcome::Refused,
            "{account} {aggregate}: {outcome:?}"
        );
    }
    octroi.finish().await;
}

/// Facts as they were told first, each changed if `change` says so.
fn forged(told: &[Delivery], change: impl Fn(&mut Event) -> bool) -> Vec<Delivery> {
    let forged: Vec<_> = told
        .iter()
        .filter_map(|delivery| {
            let mut event = Event::decode(delivery.event.as_slice()).unwrap();
            change(&mut event).then(|| Delivery {
                event: event.encode_to_vec(),
                sequence: 1,
                ..Delivery::default()
            })
        })
        .collect();
    assert!(!forged.is_empty());
    forged
}

/// A service delivers, as itself.
async fn tells(
    octroi: &Installation,
    source: ServiceName,
    to: ServiceName,
    deliveries: &[Delivery],
) -> Vec<DeliveryOutcome> {
    let request = DeliverEventsRequest {
        source: source.as_str().to_owned(),
        deliveries: deliveries.to_vec(),
        ..DeliverEventsRequest::default()
    };
    let mut intake = octroi.service(source).intake(to);
    intake.deliver_events(request).await.got().outcomes
}

/// For a token of one account the logins of another do not exist: it can neither shut one, nor the client address or
/// the share of the installation that its users come by.
#[tokio::test]
async fn nobody_shuts_another_accounts_logins() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    octroi.newcomer("other").await;
    let (sales, night) = two_users(&acme).await;
    let other = octroi.bound_to("other");
    let portal = octroi.caller("licensing.portal");
    let home = "192.0.2.7";
    for at in 0..6 {
        // What exists elsewhere and what exists nowhere answer alike, and shut alike.
        for address in [sales.as_str(), "nobody@nowhere.test"] {
            let refused = signs_in(&other, address, "Wrong-Password-1", home)
                .await
                .refused();
            match at {
                0..5 => refused.is(Code::Unauthenticated, "SIGN_IN_FAILED"),
                _ => refused.is(Code::ResourceExhausted, "SIGN_IN_THROTTLED"),
            };
        }
    }
    signs_in(&portal, &sales, CHOSEN, home).await.got();
    let own = octroi.bound_to("acme");
    signs_in(&own, &sales, CHOSEN, home).await.got();

    // The right password is as wrong.
    let refused = signs_in(&other, &night, CHOSEN, home).await.refused();
    refused.is(Code::Unauthenticated, "SIGN_IN_FAILED");

    // On the brink of what an address and a share may fail, all that it moves is its own.
    for kind in ["CLIENT", "OVERALL"] {
        let brink = "UPDATE licensing.sign_in_failure SET failures = 1000, blocked_until = clock_timestamp()
                     WHERE kind = $1 AND failures > 0";
        assert!(
            octroi.sql.execute(brink, &[&kind]).await.unwrap() > 0,
            "{kind}"
        );
        let mut shut = 0;
        for at in 0..40 {
            let address = format!("nobody{at}@nowhere.test");
            let refused = signs_in(&other, &address, "Wrong-Password-1", home)
                .await
                .refused();
            shut += i32::from(refused.reason == "SIGN_IN_THROTTLED");
        }
        assert!(shut > 0, "{kind}");
        for address in [&sales, &night] {
            signs_in(&portal, address, CHOSEN, home).await.got();
            signs_in(&own, address, CHOSEN, home).await.got();
        }
        let open =
            "UPDATE licensing.sign_in_failure SET failures = 0, blocked_until = clock_timestamp()
                    WHERE kind = $1";
        octroi.sql.execute(open, &[&kind]).await.unwrap();
    }

    // Its own users' failures are one count, whoever lets them in.
    for at in 0..5 {
        let by = if at % 2 == 0 { &own } else { &portal };
        let refused = signs_in(by, &sales, "Wrong-Password-1", "").await.refused();
        refused.is(Code::Unauthenticated, "SIGN_IN_FAILED");
    }
    for by in [&own, &portal] {
        let refused = signs_in(by, &sales, CHOSEN, "").await.refused();
        refused.is(Code::ResourceExhausted, "SIGN_IN_THROTTLED");
    }
    octroi.finish().await;
}

/// The request ids of accounts that come to be are not one pot: a token of one account neither learns which came before
/// nor uses one up.
#[tokio::test]
async fn nobody_uses_up_anothers_request_ids() {
    let octroi = Installation::start().await;
    let operator = octroi.operator();
    let creates = async |by: &Caller, id: &str, request_id: &str| {
        let request = CreateAccountRequest {
            account_id: id.to_owned(),
            account: Some(account("Somebody")),
            request_id: request_id.to_owned(),
        };
        by.accounts().create_account(request).await
    };
    let (one, two) = (request_id(), request_id());
    creates(&operator, "first", &one).await.got();
    let second = octroi.bound_to("second");
    creates(&second, "second", &one).await.got();
    let third = octroi.bound_to("third");
    creates(&third, "third", &two).await.got();
    creates(&operator, "fourth", &two).await.got();
    for (by, id, request) in [(&operator, "first", &one), (&second, "second", &one)] {
        creates(by, id, request).await.got();
    }
    octroi.finish().await;
}

async fn two_users(acme: &Customer) -> (String, String) {
    acme.buys("office", &[(BUSINESS, 2)]).await;
    let sales = acme.activates("office", 1, "sales").await;
    let night = acme.activates("office", 2, "night").await;
    (sales.activation_email, night.activation_email)
}

async fn signs_in(
    by: &Caller,
    address: &str,
    password: &str,
    from: &str,
) -> Result<Response<SignInResponse>, Status> {
    let request = SignInRequest {
        activation_email: address.to_owned(),
        password: password.to_owned(),
        client_address: from.to_owned(),
    };
    by.portal().sign_in(request).await
}
