//! Stored bytes that cannot be read are a fault that is told, never an absence.

use octroi_api::event::v1::ListEventsRequest;
use octroi_api::licensing::v1::{GetOrderRequest, ListOrdersRequest, Order, PayOrderRequest};
use octroi_tests::harness::{Answer as _, BUSINESS, Installation, ServiceName, new_group};
use tonic::Code;

/// No message of protobuf's begins so.
const NONSENSE: &[u8] = &[0xff];

#[tokio::test]
async fn an_order_whose_quote_cannot_be_read_is_not_one_without_a_quote() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    let asked = acme.asks_for("office", new_group("office"), &[(BUSINESS, 1)]);
    let before: Order = asked.await.got();
    let rewrite = "UPDATE licensing.license_order SET quote = $1 RETURNING
                   (SELECT quote FROM licensing.license_order)";
    let kept = octroi.sql.query_one(rewrite, &[&NONSENSE]).await.unwrap();
    let kept: Vec<u8> = kept.get(0);

    let name = acme.order_name("office");
    let mut orders = acme.by.orders();
    let request = GetOrderRequest { name: name.clone() };
    let read = orders.get_order(request).await.refused();
    read.is(Code::Internal, "INTERNAL");
    let request = ListOrdersRequest {
        parent: acme.name(),
        ..ListOrdersRequest::default()
    };
    let listed = orders.list_orders(request).await.refused();
    listed.is(Code::Internal, "INTERNAL");

    let repaired = octroi.sql.execute(rewrite, &[&kept]).await.unwrap();
    assert_eq!(repaired, 1);
    assert_eq!(acme.order("office").await, before);
    let request = PayOrderRequest {
        name,
        ..PayOrderRequest::default()
    };
    orders.pay_order(request).await.got();
    octroi.finish().await;
}

#[tokio::test]
async fn a_fact_that_cannot_be_read_is_not_left_out() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    octroi.drained().await;
    let whole = acme.events(ServiceName::Billing).await;
    let rewrite = "UPDATE billing.event SET body = $1";
    octroi.sql.execute(rewrite, &[&NONSENSE]).await.unwrap();
    let request = ListEventsRequest {
        parent: acme.name(),
        ..ListEventsRequest::default()
    };
    let mut events = acme.by.events(ServiceName::Billing);
    let refused = events.list_events(request).await.refused();
    refused.is(Code::Internal, "INTERNAL");
    assert!(!whole.is_empty());
    octroi.abandon().await;
}
