//! Three processes, in any order, one of them down for a while: they converge without a hand.

use octroi_api::licensing::v1::order;
use octroi_tests::harness::{
    Answer as _, BUSINESS, Customer, Installation, ServiceName, account, amount, eventually,
    new_group,
};
use tonic::Code;

#[tokio::test]
async fn in_any_order() {
    use ServiceName::{Billing, Licensing, Notification};
    let mut octroi = Installation::start().await;
    let orders = [
        [Notification, Licensing, Billing],
        [Billing, Notification, Licensing],
        [Licensing, Billing, Notification],
    ];
    for (at, order) in orders.into_iter().enumerate() {
        for service in order {
            octroi.stop(service).await;
        }
        for service in order.into_iter().rev() {
            octroi.restart(service).await;
        }
        let customer = octroi.customer(&format!("acme{at}")).await;
        customer.buys("office", &[(BUSINESS, 1)]).await;
        customer.activates("office", 1, "sales").await;
        customer.receives("license-activated", 1).await;
    }
    octroi.finish().await;
}

/// Without notification everything goes on, and the mail comes when it is back.
#[tokio::test]
async fn without_notification_for_a_while() {
    let mut octroi = Installation::start().await;
    octroi.stop(ServiceName::Notification).await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    acme.activates("office", 1, "sales").await;
    assert!(octroi.undelivered().await > 0);
    octroi.restart(ServiceName::Notification).await;
    acme.receives("license-activated", 1).await;
    acme.receives("order-completed", 1).await;
    octroi.mailed().await;
    octroi.finish().await;
}

/// Without billing nothing can be quoted, but licences are given out, and their usage is told later.
#[tokio::test]
async fn without_billing_for_a_while() {
    let mut octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 2)]).await;
    acme.asks_for_more("more", "office", &[(BUSINESS, 1)])
        .await
        .got();
    octroi.stop(ServiceName::Billing).await;
    let refused = acme
        .asks_for("o2", new_group("branch"), &[(BUSINESS, 1)])
        .await
        .refused();
    refused.is(Code::Unavailable, "UNAVAILABLE");
    let refused = acme.pays("more").await.refused();
    refused.is(Code::Unavailable, "PAYMENT_PROCESSING");
    acme.activates("office", 1, "sales").await;
    acme.activates("office", 2, "night").await;
    octroi.restart(ServiceName::Billing).await;
    eventually("the payment ends by itself", async || {
        (acme.order("more").await.state() == order::State::Completed).then_some(())
    })
    .await;
    octroi.drained().await;
    let preview = acme.preview("2026-02").await;
    assert_eq!(amount(preview.net.as_ref()), "19.98 EUR");
    octroi.finish().await;
}

/// An account opened while licensing was down can order at once: the quote brings what licensing needs of it.
#[tokio::test]
async fn without_licensing_for_a_while() {
    let mut octroi = Installation::start().await;
    octroi.stop(ServiceName::Licensing).await;
    let by = octroi.operator();
    let request = octroi_api::billing::v1::CreateAccountRequest {
        account_id: "acme".to_owned(),
        account: Some(account("Acme")),
        ..Default::default()
    };
    by.accounts().create_account(request).await.got();
    let acme = Customer {
        id: "acme".to_owned(),
        by,
    };
    acme.pays_with("test-success").await;
    octroi.restart(ServiceName::Licensing).await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    acme.activates("office", 1, "sales").await;
    octroi.finish().await;
}
