//! What customers and operators do after an upgrade, with what [`crate::fill`] left.

use octroi_api::billing::v1::{
    ListAccountsRequest, ListBillRunsRequest, ListPaymentMethodsRequest,
};
use octroi_api::billing::v1::{ListPaymentsRequest, invoice};
use octroi_api::licensing::v1::{
    ListLicenseGroupsRequest, ListLicensesRequest, ListOrdersRequest, ListOwnDevicesRequest, order,
};
use octroi_tests::harness::{
    Answer as _, CHOSEN, Customer, Installation, ServiceName, eventually, mailed_password,
};

use crate::fill::{OWN_PASSWORD, activated_again, moved_again, paid_again};

/// Goes on with the customers' lives until the next month is invoiced.
pub async fn play(octroi: Installation) {
    let customer = |id: &str| Customer {
        id: id.to_owned(),
        by: octroi.operator(),
    };
    let (acme, kiri) = (customer("acme"), customer("kiri"));
    answered_again(&octroi, &acme).await;
    everything_is_listed(&acme).await;
    users_come_in(&acme).await;

    let replayed = octroi::replay::run(&octroi.plan().databases.admin).await;
    assert_eq!(replayed.unwrap().len(), 1);
    octroi.drained().await;
    eventually("the payment without an answer ends", async || {
        let paying = acme.order("paying").await;
        (paying.state() == order::State::Completed).then_some(())
    })
    .await;
    octroi.sound().await;

    acme.pays_by("unpaid", "test-success").await.got();
    acme.activates("unpaid", 1, "new").await;
    acme.activates("office", 5, "day").await;
    octroi.drained().await;
    for service in [ServiceName::Licensing, ServiceName::Billing] {
        let count = format!("SELECT count(*) FROM {service}.event WHERE account = 'acme'");
        let kept: i64 = octroi.sql.query_one(&count, &[]).await.unwrap().get(0);
        eventually("every fact is listed", async || {
            (acme.events(service).await.len() == usize::try_from(kept).unwrap()).then_some(())
        })
        .await;
    }

    octroi.advance_to("2026-03-03T08:00:00Z").await;
    let mut expected = Vec::new();
    for customer in [&acme, &kiri] {
        expected.push(customer.preview("2026-02").await);
    }
    let run = octroi.bills("2026-02").await;
    assert_eq!((run.invoices, run.failed), (3, 1), "{run:?}");
    for (customer, expected) in [&acme, &kiri].into_iter().zip(expected) {
        let invoices = customer.invoices().await;
        let made = invoices.last().unwrap();
        assert_eq!(
            (&made.month, made.kind()),
            (&"2026-02".to_owned(), invoice::Kind::BillRun)
        );
        assert_eq!((&made.total, &made.net), (&expected.total, &expected.net));
    }
    octroi.finish().await;
}

/// A request that was answered before is answered so again, and does nothing.
async fn answered_again(octroi: &Installation, acme: &Customer) {
    let told = [
        acme.name(),
        acme.order_name("office"),
        acme.license_name("office", 2),
    ];
    let facts = async || -> i64 {
        let count = "SELECT (SELECT count(*) FROM licensing.event WHERE aggregate = ANY($1))
                          + (SELECT count(*) FROM billing.event WHERE aggregate = ANY($1))";
        octroi
            .sql
            .query_one(count, &[&&told[..]])
            .await
            .unwrap()
            .get(0)
    };
    let before = facts().await;
    let paid = acme.by.orders().pay_order(paid_again(acme)).await.got();
    assert_eq!(paid.state(), order::State::Completed);
    let moved = acme.by.accounts().update_account(moved_again(acme)).await;
    assert_eq!(moved.got().contact_email, "new@acme.test");
    let mut licenses = acme.by.licenses();
    licenses.activate_license(activated_again(acme)).await.got();
    assert_eq!(facts().await, before, "a request was taken for another");
}

/// Each list answers, and none of what must be there is missing.
async fn everything_is_listed(acme: &Customer) {
    let (by, parent) = (&acme.by, acme.name());
    let request = ListAccountsRequest::default();
    let accounts = by.accounts().list_accounts(request).await.got().accounts;
    assert_eq!(accounts.len(), 5);
    let request = ListBillRunsRequest::default();
    let runs = by.bill_runs().list_bill_runs(request).await.got().bill_runs;
    assert_eq!(runs.len(), 2);
    let request = ListOrdersRequest {
        parent: parent.clone(),
        ..ListOrdersRequest::default()
    };
    let orders = by.orders().list_orders(request).await.got().orders;
    assert_eq!(orders.len(), 8);
    let request = ListLicenseGroupsRequest {
        parent: parent.clone(),
        ..ListLicenseGroupsRequest::default()
    };
    let groups = by.groups().list_license_groups(request).await.got();
    assert_eq!(groups.license_groups.len(), 3);
    let request = ListLicensesRequest {
        parent: acme.group_name("office"),
        ..ListLicensesRequest::default()
    };
    let licenses = by.licenses().list_licenses(request).await.got().licenses;
    assert!(licenses.len() >= 7, "{licenses:?}");
    let request = ListPaymentMethodsRequest {
        parent: parent.clone(),
        ..ListPaymentMethodsRequest::default()
    };
    let methods = by.payment_methods().list_payment_methods(request).await;
    assert!(!methods.got().payment_methods.is_empty());
    let request = ListPaymentsRequest {
        parent,
        ..ListPaymentsRequest::default()
    };
    let payments = by.payments().list_payments(request).await.got().payments;
    assert!(payments.len() >= 3, "{payments:?}");
    // Two orders with a fee, and January.
    assert!(acme.invoices().await.len() >= 3);
    let january = acme.preview("2026-01").await;
    assert!(!january.lines.is_empty());
}

/// Users sign in with what they chose and with what was mailed to them, which can be read again.
async fn users_come_in(acme: &Customer) {
    let address = acme.license("office", 1).await.activation_email;
    let user = acme.user(&address, OWN_PASSWORD).await;
    let devices = user
        .portal()
        .list_own_devices(ListOwnDevicesRequest::default())
        .await
        .got();
    assert!(!devices.devices.is_empty());
    let emails = acme.emails().await;
    let mailed = emails
        .iter()
        .find(|email| email.template == "password-changed")
        .unwrap();
    let password = mailed_password(&mailed.text_body);
    let address = acme.license("office", 7).await.activation_email;
    acme.signs_in(&address, &password).await.got();
    acme.signs_in(&address, CHOSEN).await.refused();
}
