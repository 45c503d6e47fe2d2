//! What billing's answers mean for an order being paid: a charge is found before its request is judged, and only what is
//! known for a decline is one.

use octroi_api::billing::v1::settle_order_response::Outcome;
use octroi_api::billing::v1::{Quote, SettleOrderRequest};
use octroi_api::licensing::v1::{PayOrderRequest, order};
use octroi_api::r#type::v1::Money;
use octroi_tests::harness::{
    Answer as _, BUSINESS, Customer, Installation, ServiceName, eventually, method, new_group,
    request_id,
};
use prost::Message as _;
use tonic::Code;

use crate::paying::setup_fee;

const WAITS: &str = "orders: none has been paying for more than 15 minutes";

/// The charge was made and its answer lost; then billing no longer takes what it was asked with.
#[tokio::test]
async fn a_charge_is_found_before_its_request_is_judged() {
    let octroi = Installation::start().await;
    setup_fee(&octroi, 2_50).await;
    let acme = octroi.customer("acme").await;
    let quote = ordered(&acme, "o1").await;
    let billing = octroi.service(ServiceName::Licensing).settlement();
    let asked = SettleOrderRequest {
        order: acme.order_name("o1"),
        attempt: 1,
        quote: Some(quote.clone()),
        new_payment_method: None,
    };
    let first = billing.clone().settle_order(asked.clone()).await.got();
    assert_eq!(first.outcome(), Outcome::Succeeded);

    octroi
        .sql
        .batch_execute(
            "UPDATE billing.account SET currency = 'USD';
             UPDATE billing.seller SET siren = '';
             UPDATE billing.payment_method SET is_default = false",
        )
        .await
        .unwrap();
    let dropped_currency = Quote {
        due_now: Some(Money {
            currency_code: "XTS".to_owned(),
            amount: "1.00".to_owned(),
        }),
        ..quote.clone()
    };
    let dropped_category = Quote {
        tax_category: "X".to_owned(),
        ..quote.clone()
    };
    let other_sums = Quote {
        net: quote.due_now.clone(),
        ..quote.clone()
    };
    for quote in [
        Some(dropped_currency),
        Some(dropped_category.clone()),
        Some(other_sums),
        None,
    ] {
        let again = SettleOrderRequest {
            quote,
            new_payment_method: Some(method("no token")),
            ..asked.clone()
        };
        assert_eq!(billing.clone().settle_order(again).await.got(), first);
    }
    requote(&octroi, "o1", &dropped_category).await;
    let paid = acme.pays("o1").await.got();
    assert_eq!(
        (paid.state(), paid.payment_attempts),
        (order::State::Completed, 1)
    );
    assert_eq!((paid.payment, paid.invoice), (first.payment, first.invoice));
    let currency = "UPDATE billing.account SET currency = 'EUR'";
    octroi.sql.execute(currency, &[]).await.unwrap();
    octroi.finish().await;
}

/// A bill run or another attempt may hold the account for long: what is decided is told meanwhile.
#[tokio::test]
async fn a_known_attempt_does_not_wait_for_its_account() {
    let octroi = Installation::start().await;
    setup_fee(&octroi, 2_50).await;
    let acme = octroi.customer("acme").await;
    let quote = Some(ordered(&acme, "o1").await);
    let billing = octroi.service(ServiceName::Licensing).settlement();
    let asked = SettleOrderRequest {
        order: acme.order_name("o1"),
        attempt: 1,
        quote,
        new_payment_method: None,
    };
    let first = billing.clone().settle_order(asked.clone()).await.got();
    assert_eq!(first.outcome(), Outcome::Succeeded);
    let lock = "BEGIN; SELECT FROM billing.account WHERE account = 'acme' FOR UPDATE";
    octroi.sql.batch_execute(lock).await.unwrap();
    // Who waits for the lock fails.
    assert_eq!(billing.clone().settle_order(asked).await.got(), first);
    octroi.sql.batch_execute("ROLLBACK").await.unwrap();
    acme.pays("o1").await.got();
    octroi.finish().await;
}

/// A refusal that licensing does not know says nothing of the money: the order goes on paying, and a person is told.
#[tokio::test]
async fn an_unknown_refusal_is_no_decline() {
    let octroi = Installation::start().await;
    setup_fee(&octroi, 2_50).await;
    let acme = octroi.customer("acme").await;
    let quote = ordered(&acme, "o1").await;
    let unknown = Quote {
        tax_category: "X".to_owned(),
        ..quote.clone()
    };
    requote(&octroi, "o1", &unknown).await;
    let request = PayOrderRequest {
        name: acme.order_name("o1"),
        request_id: request_id(),
        ..PayOrderRequest::default()
    };
    let pays = async || acme.by.orders().pay_order(request.clone()).await;
    let refused = pays().await.refused();
    refused.is(Code::Unavailable, "PAYMENT_PROCESSING");
    assert_eq!(acme.order("o1").await.state(), order::State::Paying);
    let waits = async || {
        let report = octroi::verify::run(&octroi.plan().databases.admin)
            .await
            .unwrap();
        let waits = report.findings.into_iter().find(|it| it.check == WAITS);
        waits.unwrap().examples
    };
    assert!(waits().await.is_empty());
    let later = "UPDATE licensing.payment_attempt SET begun_at = begun_at - interval '15 minutes'";
    octroi.sql.execute(later, &[]).await.unwrap();
    assert_eq!(waits().await, ["acme/o1/1"]);
    eventually("it is asked about again", async || {
        let tries = "SELECT tries FROM licensing.payment_attempt WHERE tries > 2";
        octroi.sql.query_opt(tries, &[]).await.unwrap()
    })
    .await;

    requote(&octroi, "o1", &quote).await;
    let now = "UPDATE licensing.payment_attempt SET next_try_at = clock_timestamp()";
    octroi.sql.execute(now, &[]).await.unwrap();
    eventually("the payment ends", async || {
        let order = acme.order("o1").await;
        (order.state() != order::State::Paying).then_some(())
    })
    .await;
    let paid = pays().await.got();
    assert_eq!(
        (paid.state(), paid.payment_attempts),
        (order::State::Completed, 1)
    );
    octroi.finish().await;
}

/// What billing cannot charge gives the order back, and a question that was on its way does not charge it later.
#[tokio::test]
async fn what_billing_cannot_charge_is_declined_for_good() {
    let octroi = Installation::start().await;
    setup_fee(&octroi, 2_50).await;
    let acme = octroi.customer("acme").await;
    let quote = ordered(&acme, "o1").await;
    let other_sums = Quote {
        tax: quote.net.clone(),
        ..quote.clone()
    };
    let declined = async |reason: &str| {
        let refused = acme.pays("o1").await.refused();
        refused.is(Code::FailedPrecondition, "PAYMENT_DECLINED");
        assert_eq!(refused.metadata["decline_reason"], reason);
        let waiting = acme.order("o1").await;
        assert_eq!(waiting.state(), order::State::AwaitingPayment);
        waiting.payment_attempts
    };
    requote(&octroi, "o1", &other_sums).await;
    assert_eq!(declined("quote_mismatch").await, 1);
    requote(&octroi, "o1", &quote).await;
    let billing = octroi.service(ServiceName::Licensing).settlement();
    let late = async |attempt: i32| {
        let late = SettleOrderRequest {
            order: acme.order_name("o1"),
            attempt,
            quote: Some(quote.clone()),
            new_payment_method: None,
        };
        let late = billing.clone().settle_order(late).await.got();
        assert_eq!(late.outcome(), Outcome::Declined);
    };
    late(1).await;
    let siren = async |text: &str| {
        let siren = "UPDATE billing.seller SET siren = $1";
        octroi.sql.execute(siren, &[&text]).await.unwrap();
    };
    let seller = octroi
        .sql
        .query_one("SELECT siren FROM billing.seller", &[]);
    let known: String = seller.await.unwrap().get(0);
    siren("").await;
    let attempt = declined("seller_incomplete").await;
    assert_eq!(attempt, 2);
    siren(&known).await;

    late(attempt).await;
    let paid = acme.pays("o1").await.got();
    assert_eq!(
        (paid.state(), paid.payment_attempts),
        (order::State::Completed, 3)
    );
    octroi.finish().await;
}

/// An order of three licences; what it costs.
async fn ordered(customer: &Customer, order: &str) -> Quote {
    let asked = customer
        .asks_for(order, new_group(order), &[(BUSINESS, 3)])
        .await
        .got();
    asked.quote.unwrap()
}

/// Makes licensing ask billing with another quote, as it would look to a billing that no longer takes the first.
async fn requote(octroi: &Installation, order: &str, quote: &Quote) {
    let sql = "UPDATE licensing.license_order SET quote = $2 WHERE order_id = $1";
    let quote = quote.encode_to_vec();
    let rows = octroi.sql.execute(sql, &[&order, &quote]).await;
    assert_eq!(rows.unwrap(), 1);
}
