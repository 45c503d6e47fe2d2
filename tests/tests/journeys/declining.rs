//! A decline is an effect: it is recorded under its request id like any other, and what came with it is not kept.

use std::collections::BTreeSet;

use octroi_api::billing::v1::{ListPaymentMethodsRequest, ListPaymentsRequest, Payment, payment};
use octroi_api::licensing::v1::{Order, PayOrderRequest, order};
use octroi_tests::harness::{
    Answer as _, BUSINESS, Customer, ENTERPRISE, Installation, Refused, eventually, method,
    new_group, request_id,
};
use tokio::task::JoinSet;
use tonic::{Code, Response, Status};

use crate::paying::setup_fee;

const DECLINES: &str = "test-decline-insufficient-funds";

/// One request id, sent 64 times at once and again later, is one attempt and one answer, whatever came after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decline_is_answered_for_ever() {
    let octroi = Installation::start().await;
    setup_fee(&octroi, 2_50).await;
    let acme = octroi.customer("acme").await;
    for id in ["o1", "o2"] {
        acme.asks_for(id, new_group(id), &[(BUSINESS, 3)])
            .await
            .got();
    }
    let first = paying(&acme, "o1", Some(DECLINES));
    let mut twins = JoinSet::new();
    for _ in 0..64 {
        let (by, request) = (acme.by.clone(), first.clone());
        twins.spawn(async move { by.orders().pay_order(request).await });
    }
    let mut answers = BTreeSet::new();
    while let Some(answer) = twins.join_next().await {
        answers.insert(whole(&answer.unwrap()));
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    let declined = sends(&acme, &first).await.refused();
    declined.is(Code::FailedPrecondition, "PAYMENT_DECLINED");
    assert_eq!(declined.metadata["decline_reason"], "insufficient_funds");
    let told = |order: &Order| (order.state(), order.payment_attempts);
    let waiting = acme.order("o1").await;
    assert_eq!(told(&waiting), (order::State::AwaitingPayment, 1));
    assert_eq!(attempts(&acme).await, [("o1", 1, payment::State::Declined)]);

    // The id is taken, by whatever else it is sent with.
    let reused = async |order: &str, token| {
        let other = PayOrderRequest {
            request_id: first.request_id.clone(),
            ..paying(&acme, order, token)
        };
        let refused = sends(&acme, &other).await.refused();
        refused.is(Code::InvalidArgument, "REQUEST_ID_REUSED");
    };
    let others = [
        ("o1", Some("test-success")),
        ("o1", None),
        ("o2", Some(DECLINES)),
        ("none", Some(DECLINES)),
    ];
    for (order, token) in others {
        reused(order, token).await;
    }
    assert_eq!(acme.order("o1").await, waiting);

    // Another decline and a success come after it; each keeps its own answer.
    let second = paying(&acme, "o1", Some("test-decline-card-expired"));
    let expired = sends(&acme, &second).await.refused();
    assert_eq!(expired.metadata["decline_reason"], "card_expired");
    assert_eq!(sends(&acme, &first).await.refused(), declined);
    let third = paying(&acme, "o1", None);
    let paid = sends(&acme, &third).await.got();
    assert_eq!(told(&paid), (order::State::Completed, 3));
    assert!(answers.contains(&whole(&sends(&acme, &first).await)));
    assert_eq!(sends(&acme, &second).await.refused(), expired);
    assert_eq!(sends(&acme, &third).await.got(), paid);
    for (order, token) in others {
        reused(order, token).await;
    }
    assert_eq!(acme.order("o1").await, paid);
    assert_eq!(attempts(&acme).await.len(), 3);
    octroi.finish().await;
}

/// What is declined only after the call was answered is the same attempt, and the same request gets its outcome.
#[tokio::test]
async fn a_decline_that_comes_later_is_that_attempts() {
    let octroi = Installation::start().await;
    setup_fee(&octroi, 2_50).await;
    let acme = octroi.customer("acme").await;
    acme.asks_for("o1", new_group("office"), &[(BUSINESS, 3)])
        .await
        .got();
    let request = paying(&acme, "o1", Some("test-timeout-then-decline"));
    let processing = sends(&acme, &request).await.refused();
    processing.is(Code::Unavailable, "PAYMENT_PROCESSING");
    eventually("the payment is declined", async || {
        let order = acme.order("o1").await;
        (order.state() == order::State::AwaitingPayment).then_some(())
    })
    .await;
    for _ in 0..2 {
        let declined = sends(&acme, &request).await.refused();
        declined.is(Code::FailedPrecondition, "PAYMENT_DECLINED");
        assert_eq!(declined.metadata["decline_reason"], "do_not_honor");
    }
    assert_eq!(acme.order("o1").await.payment_attempts, 1);
    assert_eq!(attempts(&acme).await, [("o1", 1, payment::State::Declined)]);
    octroi.finish().await;
}

/// A method that comes with an order is put on file once it has paid, and not before; a decline moves no default.
#[tokio::test]
async fn a_declined_method_is_not_kept() {
    let octroi = Installation::start().await;
    setup_fee(&octroi, 2_50).await;
    let acme = octroi.newcomer("acme").await;
    for (id, offer) in [("free", ENTERPRISE), ("o1", BUSINESS), ("o2", BUSINESS)] {
        acme.asks_for(id, new_group(id), &[(offer, 3)]).await.got();
    }
    let none: [(String, bool); 0] = [];
    for (order, token) in [
        ("free", DECLINES),
        ("o1", DECLINES),
        ("o1", "test-timeout-then-decline"),
    ] {
        acme.pays_by(order, token).await.refused();
        assert_eq!(methods(&acme).await, none, "{order} {token}");
        eventually("the payment is declined", async || {
            let order = acme.order(order).await;
            (order.state() == order::State::AwaitingPayment).then_some(())
        })
        .await;
        assert_eq!(methods(&acme).await, none, "{order} {token}");
        let missing = acme.pays(order).await.refused();
        missing.is(Code::FailedPrecondition, "PAYMENT_METHOD_MISSING");
    }
    let declined = payments(&acme).await;
    assert_eq!(declined.len(), 2);
    for payment in declined {
        assert_eq!(payment.payment_method, "", "{payment:?}");
    }

    acme.pays_by("o1", "test-timeout-then-success")
        .await
        .refused();
    eventually("the payment succeeds", async || {
        let order = acme.order("o1").await;
        (order.state() == order::State::Completed).then_some(())
    })
    .await;
    let kept = methods(&acme).await;
    let [(first, true)] = kept.as_slice() else {
        panic!("one default: {kept:?}");
    };
    assert_eq!(payments(&acme).await[0].payment_method, *first);
    for token in [DECLINES, "test-decline-card-expired"] {
        let refused = acme.pays_by("o2", token).await.refused();
        refused.is(Code::FailedPrecondition, "PAYMENT_DECLINED");
        assert_eq!(methods(&acme).await, kept, "{token}");
    }
    acme.pays_by("o2", "test-success").await.got();
    let kept = methods(&acme).await;
    let [(old, false), (new, true)] = kept.as_slice() else {
        panic!("a default after another: {kept:?}");
    };
    assert_eq!(
        (old, &payments(&acme).await[0].payment_method),
        (first, new)
    );
    acme.pays("free").await.got();
    assert_eq!(methods(&acme).await, kept);
    octroi.finish().await;
}

fn paying(customer: &Customer, order: &str, token: Option<&str>) -> PayOrderRequest {
    PayOrderRequest {
        name: customer.order_name(order),
        new_payment_method: token.map(method),
        request_id: request_id(),
    }
}

async fn sends(customer: &Customer, request: &PayOrderRequest) -> Result<Response<Order>, Status> {
    customer.by.orders().pay_order(request.clone()).await
}

/// An answer with all that it says.
fn whole(answer: &Result<Response<Order>, Status>) -> String {
    match answer {
        Ok(order) => format!("{:?}", order.get_ref()),
        Err(status) => format!("{:?} {:?}", Refused::of(status), status.details()),
    }
}

async fn payments(customer: &Customer) -> Vec<Payment> {
    let request = ListPaymentsRequest {
        parent: customer.name(),
        ..ListPaymentsRequest::default()
    };
    let mut payments = customer.by.payments();
    payments.list_payments(request).await.got().payments
}

/// The name of each method on file and whether it is the default, oldest first.
async fn methods(customer: &Customer) -> Vec<(String, bool)> {
    let request = ListPaymentMethodsRequest {
        parent: customer.name(),
        ..ListPaymentMethodsRequest::default()
    };
    let mut methods = customer.by.payment_methods();
    let listed = methods.list_payment_methods(request).await.got();
    let told = listed.payment_methods.into_iter();
    told.map(|method| (method.name, method.default)).collect()
}

/// Order, attempt and state of each payment, newest first.
async fn attempts(customer: &Customer) -> Vec<(&'static str, i32, payment::State)> {
    let payments = payments(customer).await;
    let told = payments.iter().map(|payment| {
        let order = match payment.order.rsplit('/').next() {
            Some("o1") => "o1",
            _ => "another",
        };
        (order, payment.attempt, payment.state())
    });
    told.collect()
}
