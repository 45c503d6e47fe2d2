//! "You are taken to the order page to pay": what payments come to, and what is due at all.

use octroi_api::billing::v1::{ListPaymentsRequest, NewPaymentMethod, payment};
use octroi_api::licensing::v1::{PayOrderRequest, order};
use octroi_tests::harness::{
    Answer as _, BUSINESS, Installation, Price, Refused, amount, at, eventually, method, new_group,
    request_id,
};
use tokio::task::JoinSet;
use tonic::Code;

#[tokio::test]
async fn nothing_due_still_checks_the_method() {
    let octroi = Installation::start().await;
    let acme = octroi.newcomer("acme").await;
    acme.asks_for("o1", new_group("office"), &[(BUSINESS, 1)])
        .await
        .got();
    let refused = acme.pays("o1").await.refused();
    refused.is(Code::FailedPrecondition, "PAYMENT_METHOD_MISSING");
    let refused = acme
        .pays_by("o1", "test-decline-card-expired")
        .await
        .refused();
    refused.is(Code::FailedPrecondition, "PAYMENT_DECLINED");
    assert_eq!(refused.metadata["decline_reason"], "card_expired");
    let waiting = acme.order("o1").await;
    assert_eq!(waiting.state(), order::State::AwaitingPayment);
    assert_eq!(
        (waiting.decline_reason.as_str(), waiting.payment_attempts),
        ("card_expired", 2)
    );

    let paid = acme.pays_by("o1", "test-success").await.got();
    assert_eq!(paid.state(), order::State::Completed);
    assert_eq!((paid.payment.as_str(), paid.invoice.as_str()), ("", ""));
    assert!(acme.invoices().await.is_empty());
    octroi.finish().await;
}

#[tokio::test]
async fn a_declined_payment_is_tried_again() {
    let octroi = Installation::start().await;
    setup_fee(&octroi, 2_50).await;
    let acme = octroi.newcomer("acme").await;
    acme.pays_with("test-decline-insufficient-funds").await;
    acme.asks_for("o1", new_group("office"), &[(BUSINESS, 10)])
        .await
        .got();
    let refused = acme.pays("o1").await.refused();
    refused.is(Code::FailedPrecondition, "PAYMENT_DECLINED");
    assert_eq!(refused.metadata["decline_reason"], "insufficient_funds");
    let waiting = acme.order("o1").await;
    assert_eq!(waiting.state(), order::State::AwaitingPayment);
    assert_eq!(waiting.decline_reason, "insufficient_funds");

    let paid = acme.pays_by("o1", "test-success").await.got();
    assert_eq!(
        (paid.state(), paid.payment_attempts),
        (order::State::Completed, 2)
    );
    assert_eq!(paid.decline_reason, "");
    let request = ListPaymentsRequest {
        parent: acme.name(),
        ..ListPaymentsRequest::default()
    };
    let payments = acme
        .by
        .payments()
        .list_payments(request)
        .await
        .got()
        .payments;
    let told: Vec<_> = payments
        .iter()
        .map(|payment| {
            (
                payment.attempt,
                payment.state(),
                payment.decline_reason.as_str(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (2, payment::State::Succeeded, ""),
            (1, payment::State::Declined, "insufficient_funds")
        ]
    );
    let again = acme.pays("o1").await.refused();
    again.is(Code::FailedPrecondition, "ORDER_STATE");
    assert_eq!(again.metadata["state"], "COMPLETED");
    octroi.finish().await;
}

/// Payments without an answer: the order is PAYING until the outcome is found out, and nobody has to ask.
#[tokio::test]
async fn a_payment_without_an_answer_ends_by_itself() {
    let octroi = Installation::start().await;
    setup_fee(&octroi, 2_50).await;
    let acme = octroi.newcomer("acme").await;
    let cases = [
        ("processing", "test-processing", order::State::Completed, ""),
        (
            "well",
            "test-timeout-then-success",
            order::State::Completed,
            "",
        ),
        (
            "badly",
            "test-timeout-then-decline",
            order::State::AwaitingPayment,
            "do_not_honor",
        ),
    ];
    for (id, token, end, reason) in cases {
        acme.asks_for(id, new_group(id), &[(BUSINESS, 3)])
            .await
            .got();
        let refused = acme.pays_by(id, token).await.refused();
        refused.is(Code::Unavailable, "PAYMENT_PROCESSING");
        assert!(refused.retry.is_some());
        let ended = eventually("the payment ends", async || {
            let order = acme.order(id).await;
            (order.state() != order::State::Paying).then_some(order)
        })
        .await;
        let told = (ended.state(), ended.decline_reason.as_str());
        assert_eq!(told, (end, reason), "{token}");
    }
    assert_eq!(
        acme.invoices().await.len(),
        2,
        "nothing is charged for a decline"
    );
    octroi.finish().await;
}

/// A quote stays as it was made, whatever prices do before it is paid.
#[tokio::test]
async fn a_quote_is_frozen() {
    let octroi = Installation::start().await;
    setup_fee(&octroi, 1_00).await;
    let acme = octroi.customer("acme").await;
    acme.asks_for("o1", new_group("office"), &[(BUSINESS, 2)])
        .await
        .got();
    let dearer = Price {
        offer: BUSINESS,
        monthly: 19_99,
        setup: 10_000,
        policy: "PEAK",
    };
    octroi.price(dearer, at("2026-02-02T09:00:00Z")).await;
    octroi.advance_to("2026-02-02T10:00:00Z").await;
    let paid = acme.pays("o1").await.got();
    assert_eq!(amount(paid.quote.unwrap().due_now.as_ref()), "2.40 EUR");
    let invoices = acme.invoices().await;
    assert_eq!(amount(invoices[0].total.as_ref()), "2.40 EUR");
    octroi.finish().await;
}

#[tokio::test]
async fn a_method_of_no_gateway_is_refused() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.asks_for("o1", new_group("office"), &[(BUSINESS, 1)])
        .await
        .got();
    let request = PayOrderRequest {
        name: acme.order_name("o1"),
        new_payment_method: Some(NewPaymentMethod {
            display_name: " two\nlines".to_owned(),
            ..method("")
        }),
        request_id: request_id(),
    };
    let refused = acme.by.orders().pay_order(request).await.refused();
    refused.names(&[
        "new_payment_method.gateway_token",
        "new_payment_method.display_name",
    ]);
    let refused = acme.pays_by("o1", "4242424242424242").await.refused();
    refused.is(Code::FailedPrecondition, "PAYMENT_DECLINED");
    assert_eq!(refused.metadata["decline_reason"], "payment_method_unknown");
    assert_eq!(
        acme.order("o1").await.state(),
        order::State::AwaitingPayment
    );
    acme.pays("o1").await.got();
    octroi.finish().await;
}

/// From now on a licence of Apps for business costs this much at once.
pub async fn setup_fee(octroi: &Installation, setup: i64) {
    let price = Price {
        offer: BUSINESS,
        monthly: 9_99,
        setup,
        policy: "PEAK",
    };
    octroi.price(price, at("2026-01-01T00:00:00Z")).await;
}

/// However often an order is paid at once, it is charged once.
#[tokio::test]
async fn an_order_is_charged_once() {
    let octroi = Installation::start().await;
    setup_fee(&octroi, 1_00).await;
    let acme = octroi.customer("acme").await;
    acme.asks_for("o1", new_group("office"), &[(BUSINESS, 3)])
        .await
        .got();
    let mut paying = JoinSet::new();
    for _ in 0..24 {
        let by = acme.by.clone();
        let request = PayOrderRequest {
            name: acme.order_name("o1"),
            request_id: request_id(),
            ..PayOrderRequest::default()
        };
        paying.spawn(async move { by.orders().pay_order(request).await });
    }
    let mut paid = 0;
    while let Some(answer) = paying.join_next().await {
        match answer.unwrap() {
            Ok(_) => paid += 1,
            Err(status) => {
                let refused = Refused::of(&status);
                let reasons = ["ORDER_STATE", "PAYMENT_PROCESSING"];
                assert!(reasons.contains(&&*refused.reason), "{refused:?}");
            }
        }
    }
    assert_eq!(paid, 1);
    let payments = ListPaymentsRequest {
        parent: acme.name(),
        ..ListPaymentsRequest::default()
    };
    let payments = acme.by.payments().list_payments(payments).await.got();
    assert_eq!(payments.payments.len(), 1);
    assert_eq!(acme.group("office").await.offers[0].licenses, 3);
    octroi.finish().await;
}
