//! Who may call what: tokens, scopes, accounts, services and their ports. Every declared method is held to it.

use std::collections::BTreeSet;

use octroi_api::billing::v1::settle_order_response::Outcome;
use octroi_api::billing::v1::{QuoteOrderRequest, QuotedLine, SettleOrderRequest};
use octroi_api::licensing::v1::order;
use octroi_api::{METHODS, Method, Reach};
use octroi_tests::harness::{
    Answer as _, BUSINESS, Caller, Installation, Refused, ServiceName, server,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::methods::{every_request, with_everything};

fn method(path: &str) -> &'static Method {
    Method::find(path).unwrap_or_else(|| panic!("{path} is not declared"))
}

/// The scope that a method needs where these tests call it.
fn scope(method: &Method) -> String {
    method.scope_at(server(method).as_str()).into_owned()
}

async fn refusal(caller: &Caller, path: &str, message: &[u8]) -> Refused {
    let service = server(method(path));
    let answer = caller.call(service, path, message.to_vec()).await;
    match answer {
        Ok(_) => panic!("{path} was not refused"),
        Err(status) => Refused::of(&status),
    }
}

/// The rest of this file speaks of every method: none may be missing.
#[tokio::test]
async fn every_method_is_spoken_of() {
    let octroi = Installation::start().await;
    let (_, known) = with_everything(&octroi, "acme").await;
    let requests = every_request("acme", &known);
    let spoken: BTreeSet<_> = requests.iter().map(|(path, _)| *path).collect();
    let declared: BTreeSet<_> = METHODS.iter().map(|method| method.path).collect();
    assert_eq!(spoken, declared);
    assert_eq!(spoken.len(), requests.len());
    octroi.finish().await;
}

#[tokio::test]
async fn with_a_token_that_can_be_believed() {
    let octroi = Installation::start().await;
    let (_, known) = with_everything(&octroi, "acme").await;
    let good = octroi.token("*");
    let (head, signature) = good.rsplit_once('.').unwrap();
    let forged = format!("{head}.{}", signature.chars().rev().collect::<String>());
    let bad = [
        octroi.stranger(),
        octroi.stranger().with_token("nonsense"),
        octroi.stranger().with_token(&forged),
        octroi
            .stranger()
            .with_token(&octroi.token_of_another_issuer()),
        octroi.stranger().with_token(&octroi.expired_token()),
        // What the services do by themselves goes by this name.
        octroi.stranger().with_token(&octroi.token_named("system")),
    ];
    for (path, message) in every_request("acme", &known) {
        for caller in &bad {
            let refused = refusal(caller, path, &message).await;
            refused.is(Code::Unauthenticated, "UNAUTHENTICATED");
        }
    }
    octroi.finish().await;
}

#[tokio::test]
async fn with_the_methods_scope() {
    let octroi = Installation::start().await;
    let (_, known) = with_everything(&octroi, "acme").await;
    let scopes: BTreeSet<_> = METHODS.iter().map(scope).collect();
    for (path, message) in every_request("acme", &known) {
        let needed = scope(method(path));
        let others: Vec<_> = scopes
            .iter()
            .filter(|scope| **scope != needed)
            .cloned()
            .collect();
        let refused = refusal(&octroi.caller(&others.join(" ")), path, &message).await;
        if needed == "service" {
            refused.is(Code::PermissionDenied, "SERVICES_ONLY");
            // An operator may do everything that people may.
            let refused = refusal(&octroi.operator(), path, &message).await;
            refused.is(Code::PermissionDenied, "SERVICES_ONLY");
            continue;
        }
        refused.is(Code::PermissionDenied, "SCOPE_MISSING");
        assert_eq!(refused.metadata["scope"], needed);
    }
    // A service may nothing else.
    let service = octroi.service(ServiceName::Licensing);
    for (path, message) in every_request("acme", &known) {
        if method(path).scope != "service" {
            refusal(&service, path, &message)
                .await
                .is(Code::PermissionDenied, "SCOPE_MISSING");
        }
    }
    octroi.finish().await;
}

/// With the scope alone each method does what it does.
#[tokio::test]
async fn and_no_more_than_that() {
    let octroi = Installation::start().await;
    let (_, known) = with_everything(&octroi, "acme").await;
    for (path, message) in every_request("acme", &known) {
        let scope = scope(method(path));
        if scope == "service" || scope == "testing.clock.write" {
            continue;
        }
        let caller = octroi.caller(&scope).with_session(&known.session);
        let answer = caller.call(server(method(path)), path, message).await;
        if let Err(status) = answer {
            let refused = Refused::of(&status);
            assert!(
                !["SCOPE_MISSING", "UNAUTHENTICATED"].contains(&&*refused.reason),
                "{path}: {refused:?}"
            );
        }
    }
    octroi.finish().await;
}

/// What a token bound to an account may do with each method is what the method's reach says. It learns nothing of
/// another account: the answer is that of a resource that does not exist.
#[tokio::test]
async fn for_one_account_alone() {
    let octroi = Installation::start().await;
    let (_, known) = with_everything(&octroi, "acme").await;
    octroi.newcomer("other").await;
    let bound = octroi.bound_to("other");
    let a_service = octroi.caller_as("service:licensing", "service", Some("other"));
    let session_of_none = known.session.replacen("acme", "missing", 1);
    let there = every_request("acme", &known);
    let missing = every_request("missing", &known);
    for ((path, there), (_, missing)) in there.into_iter().zip(missing) {
        let (method, service) = (method(path), server(method(path)));
        let as_missing: &[_] = match method.reach {
            Reach::Unspecified => panic!("{path} declares no reach"),
            Reach::None => {
                let caller = match method.scope {
                    "service" => &a_service,
                    _ => &bound,
                };
                let refused = refusal(caller, path, &there).await;
                refused.is(Code::PermissionDenied, "BOUND_TOKEN");
                continue;
            }
            Reach::Catalogue => {
                let operators = octroi.operator();
                let operators = operators.call(service, path, there.clone()).await.unwrap();
                let own = bound.call(service, path, there).await.unwrap();
                assert_eq!(own.into_inner(), operators.into_inner(), "{path}");
                continue;
            }
            Reach::Own if there == missing => {
                let listed = bound.call(service, path, there).await.unwrap();
                let listed = String::from_utf8_lossy(listed.get_ref()).into_owned();
                assert!(listed.contains("accounts/other"), "{path}: {listed}");
                assert!(!listed.contains("accounts/acme"), "{path}: {listed}");
                continue;
            }
            Reach::Own => &["NOT_FOUND"],
            Reach::Session => &["SESSION_INVALID", "SIGN_IN_FAILED"],
        };
        let one = bound.with_session(&known.session);
        let two = bound.with_session(&session_of_none);
        let one = one.call(service, path, there).await.unwrap_err();
        let two = two.call(service, path, missing).await.unwrap_err();
        assert_eq!(told(&one), told(&two), "{path}");
        let refused = Refused::of(&one);
        assert!(
            as_missing.contains(&&*refused.reason),
            "{path}: {refused:?}"
        );
    }
    octroi.finish().await;
}

/// What is the account's own is there for its token.
#[tokio::test]
async fn with_all_that_is_its_own() {
    let octroi = Installation::start().await;
    let (_, known) = with_everything(&octroi, "acme").await;
    let bound = octroi.bound_to("acme").with_session(&known.session);
    for (path, message) in every_request("acme", &known) {
        if method(path).reach == Reach::None {
            continue;
        }
        let answer = bound.call(server(method(path)), path, message).await;
        if let Err(status) = answer {
            let refused = Refused::of(&status);
            let strange = ["NOT_FOUND", "BOUND_TOKEN", "SCOPE_MISSING"];
            assert!(!strange.contains(&&*refused.reason), "{path}: {refused:?}");
        }
    }
    octroi.finish().await;
}

/// All that a caller is told, with the account's id masked.
fn told(status: &Status) -> String {
    let details = format!("{:?}", status.get_error_details());
    let told = format!("{:?} {} {details}", status.code(), status.message());
    told.replace("acme", "(account)")
        .replace("missing", "(account)")
}

/// A method called at another service's port is told where it is served.
#[tokio::test]
async fn at_the_right_port() {
    let octroi = Installation::start().await;
    let (_, known) = with_everything(&octroi, "acme").await;
    let operator = octroi.operator();
    for (path, message) in every_request("acme", &known) {
        let area = method(path).area();
        let port = match area {
            "licensing" => "50051",
            "billing" => "50052",
            "notification" => "50053",
            _ => continue,
        };
        for service in ServiceName::ALL {
            if service.as_str() == area {
                continue;
            }
            let status = operator
                .call(service, path, message.clone())
                .await
                .unwrap_err();
            let refused = Refused::of(&status);
            refused.is(Code::Unimplemented, "WRONG_SERVICE");
            assert_eq!(
                (&*refused.metadata["service"], &*refused.metadata["port"]),
                (area, port)
            );
        }
    }
    let unknown = "/octroi.licensing.v1.OrderService/EatOrder";
    let status = operator
        .call(ServiceName::Licensing, unknown, Vec::new())
        .await
        .unwrap_err();
    Refused::of(&status).is(Code::Unimplemented, "NO_SUCH_METHOD");
    octroi.finish().await;
}

/// Services alone quote and settle. What licensing asks for afterwards is settled already, and it says so.
#[tokio::test]
async fn settlement_is_for_services() {
    let octroi = Installation::start().await;
    let (acme, known) = with_everything(&octroi, "acme").await;
    let licensing = octroi.service(ServiceName::Licensing);
    for (path, message) in every_request("acme", &known) {
        if !path.contains("SettlementService") {
            continue;
        }
        let answer = licensing.call(ServiceName::Billing, path, message).await;
        if let Err(status) = answer {
            let refused = Refused::of(&status);
            assert_ne!(refused.code, Code::PermissionDenied, "{refused:?}");
        }
    }
    let request = QuoteOrderRequest {
        account: acme.name(),
        lines: vec![QuotedLine {
            offer: BUSINESS.to_owned(),
            quantity: 1,
        }],
        ..Default::default()
    };
    let quoted = licensing
        .settlement()
        .quote_order(request.clone())
        .await
        .got();
    assert_eq!(quoted.account.unwrap().currency_code, "EUR");
    let prepaid = QuoteOrderRequest {
        prepaid: true,
        ..request
    };
    let refused = licensing.settlement().quote_order(prepaid).await.refused();
    refused.is(Code::FailedPrecondition, "BILLING_MODE_UNAVAILABLE");

    let attempt = SettleOrderRequest {
        order: acme.order_name("open"),
        attempt: 1,
        quote: quoted.quote,
        new_payment_method: None,
    };
    let mut settlement = licensing.settlement();
    let first = settlement.settle_order(attempt.clone()).await.got();
    assert_eq!(first.outcome(), Outcome::Succeeded);
    let again = settlement.settle_order(attempt.clone()).await.got();
    assert_eq!(first, again, "one charge however often it is asked for");
    let second = SettleOrderRequest {
        attempt: 2,
        ..attempt
    };
    let refused = settlement.settle_order(second).await.refused();
    refused.is(Code::FailedPrecondition, "ORDER_SETTLED");

    let order = acme.pays("open").await.got();
    assert_eq!(order.state(), order::State::Completed);
    assert_eq!(
        (order.payment, order.invoice),
        (first.payment, first.invoice)
    );
    octroi.finish().await;
}
