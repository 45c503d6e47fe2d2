//! Request ids are known for thirty days; those of what moves money, for ever.

use octroi_api::billing::v1::{Account, BillRun, CreateBillRunRequest, UpdateAccountRequest};
use octroi_api::licensing::v1::{PayOrderRequest, order};
use octroi_tests::harness::{Answer as _, BUSINESS, Customer, Installation, new_group, request_id};
use prost_types::FieldMask;

#[tokio::test]
async fn old_request_ids() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.asks_for("o1", new_group("office"), &[(BUSINESS, 1)])
        .await
        .got();
    let pay = PayOrderRequest {
        name: format!("{}/orders/o1", acme.name()),
        request_id: request_id(),
        ..PayOrderRequest::default()
    };
    let mut orders = acme.by.orders();
    let paid = orders.pay_order(pay.clone()).await.got();
    assert_eq!(paid.state(), order::State::Completed);
    let run = CreateBillRunRequest {
        bill_run_id: "none".to_owned(),
        bill_run: Some(BillRun {
            month: "2026-01".to_owned(),
            ..BillRun::default()
        }),
        request_id: request_id(),
    };
    let mut runs = acme.by.bill_runs();
    let begun = runs.create_bill_run(run.clone()).await.got();
    let (old, young) = (request_id(), request_id());
    renamed(&acme, &old, "Acme SA").await.got();
    let age = "UPDATE billing.idempotency SET created_at = created_at - interval '31 days'";
    octroi.sql.execute(age, &[]).await.unwrap();
    renamed(&acme, &young, "Acme SAS").await.got();

    octroi.advance_to("2026-02-03T08:00:00Z").await;
    let kept = "SELECT request_id::text FROM billing.idempotency ORDER BY created_at";
    let kept = octroi.sql.query(kept, &[]).await.unwrap();
    let kept: Vec<String> = kept.iter().map(|row| row.get(0)).collect();
    assert_eq!(kept, [run.request_id.clone(), young.clone()]);

    renamed(&acme, &old, "Acme SARL").await.got();
    let reused = renamed(&acme, &young, "Acme Ltd").await.refused();
    assert_eq!(reused.reason, "REQUEST_ID_REUSED");
    assert_eq!(runs.create_bill_run(run).await.got(), begun);
    assert_eq!(orders.pay_order(pay).await.got(), paid);
    octroi.finish().await;
}

async fn renamed(
    customer: &Customer,
    request_id: &str,
    legal_name: &str,
) -> Result<tonic::Response<Account>, tonic::Status> {
    let request = UpdateAccountRequest {
        account: Some(Account {
            name: customer.name(),
            legal_name: legal_name.to_owned(),
            ..Account::default()
        }),
        update_mask: Some(FieldMask {
            paths: vec!["legal_name".to_owned()],
        }),
        request_id: request_id.to_owned(),
    };
    customer.by.accounts().update_account(request).await
}
