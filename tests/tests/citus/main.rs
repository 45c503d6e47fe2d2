//! Octroi on a cluster of Citus, whose coordinator's administrator OCTROI_CITUS_URL names.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

mod locked;
mod moving;

use std::collections::BTreeSet;

use octroi_api::licensing::v1::{
    ChangeOwnPasswordRequest, DeleteLicenseRequest, Device, Platform, RegisterDeviceRequest,
    TerminateLicenseGroupRequest, TerminationReason, license_group, order,
};
use octroi_server::Running;
use octroi_tests::harness::{
    Answer as _, BUSINESS, CHOSEN, Caller, Citus, Customer, ENTERPRISE, Installation, Price,
    ServiceName, at, eventually, instant, mailed_password, new_group,
};
use tokio::task::{JoinSet, LocalSet};
use tokio_util::sync::CancellationToken;

/// How many accounts live the guide's life.
const ACCOUNTS: usize = 20;
/// How many of them at once.
const AT_ONCE: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn the_guides_life_on_a_cluster() {
    let Some(citus) = Citus::there().await else {
        return;
    };
    let octroi = Installation::distributed(&citus, "2026-02-25T08:00:00Z").await;
    let price = Price {
        offer: BUSINESS,
        monthly: 9_99,
        setup: 5_00,
        policy: "PEAK",
    };
    octroi.price(price, at("2026-01-01T00:00:00Z")).await;
    let mut customers = Vec::new();
    // Several at once, and no more than a loaded machine answers in time.
    for first in (0..ACCOUNTS).step_by(AT_ONCE) {
        let mut lives = JoinSet::new();
        let together = async {
            for number in first..first + AT_ONCE {
                lives.spawn_local(live(octroi.operator(), format!("acme-{number}")));
            }
            lives.join_all().await
        };
        customers.extend(LocalSet::new().run_until(together).await);
    }
    octroi.mailed().await;
    let mut numbers = BTreeSet::new();
    for customer in &customers {
        numbers.extend(customer.invoices().await.into_iter().map(|it| it.number));
    }
    assert_eq!(numbers, numbered(1..=2 * ACCOUNTS));

    // Two runs of a month at once, and two replicas to do them: each account is invoiced once.
    let shutdown = CancellationToken::new();
    let another = another_billing(&octroi, &shutdown).await;
    octroi.advance_to("2026-03-01T08:00:00Z").await;
    let (one, two) = tokio::join!(octroi.bills("2026-02"), octroi.bills("2026-02"));
    let made = [one.invoices + two.invoices, one.failed, two.failed];
    assert_eq!(made, [all(), 0, 0], "{one:?} {two:?}");
    shutdown.cancel();
    another.stopped().await.unwrap();
    for (at, customer) in customers.iter().enumerate() {
        let invoices = customer.invoices().await;
        numbers.extend(invoices.iter().map(|it| it.number.clone()));
        let lines: Vec<_> = invoices[2].lines.iter().map(|it| it.quantity).collect();
        assert_eq!((invoices.len(), lines), (3, vec![2]), "{invoices:?}");
        customer.receives("invoice-issued", 3).await;
        let request = TerminateLicenseGroupRequest {
            name: customer.group_name("office"),
            reasons: vec![TerminationReason::TooExpensive.into()],
            at_period_end: at % 2 == 0,
            ..TerminateLicenseGroupRequest::default()
        };
        let mut groups = customer.by.groups();
        groups.terminate_license_group(request).await.got();
    }
    assert_eq!(numbers, numbered(1..=3 * ACCOUNTS));

    moving::a_shard_moves_while_they_work(&octroi, &customers).await;

    // "kept" is renewed at the end of its period, and "office" has ended by then.
    octroi.advance_to("2026-04-01T08:00:00Z").await;
    for customer in &customers {
        let ended = customer.group("office").await;
        assert_eq!(ended.state(), license_group::State::Terminated, "{ended:?}");
        customer.receives("group-terminated", 1).await;
        let kept = customer.group("kept").await;
        assert_eq!(instant(kept.period_start_time), at(RENEWED));
    }
    let run = octroi.bills("2026-03").await;
    assert_eq!((run.invoices, run.failed), (all(), 0), "{run:?}");
    octroi.mailed().await;
    octroi.finish().await;
}

/// When a month from the first day has passed in Paris.
const RENEWED: &str = "2026-03-25T00:00:00+01:00";

fn all() -> i32 {
    i32::try_from(ACCOUNTS).unwrap()
}

async fn another_billing(octroi: &Installation, shutdown: &CancellationToken) -> Running {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = octroi_billing::Settings {
        platform: octroi.plan().settings(ServiceName::Billing, Some(listener)),
        seller_file: None,
        specimen_seller: true,
    };
    let started = octroi_billing::start(settings, shutdown.clone());
    started.await.unwrap()
}

fn numbered(numbers: std::ops::RangeInclusive<usize>) -> BTreeSet<String> {
    numbers.map(|it| format!("F-2026-{it:06}")).collect()
}

/// Pays, or waits for the outcome where that takes longer than the call.
async fn pays(customer: &Customer, order: &str) {
    if customer.pays(order).await.is_err() {
        eventually("the order is paid", async || {
            let order = customer.order(order).await;
            (order.state() == order::State::Completed).then_some(())
        })
        .await;
    }
}

/// Buys, also after a decline, activates, installs, and gives a licence back.
async fn live(by: Caller, id: String) -> Customer {
    let customer = Customer::paying(by, &id).await;
    let kept = customer.asks_for("kept", new_group("kept"), &[(ENTERPRISE, 1)]);
    kept.await.got();
    pays(&customer, "kept").await;
    let office = customer.asks_for("office", new_group("office"), &[(BUSINESS, 3)]);
    office.await.got();
    let declined = customer.pays_by("office", "test-decline-card-expired");
    declined.await.refused();
    eventually("the decline is known", async || {
        let order = customer.order("office").await;
        (order.state() == order::State::AwaitingPayment).then_some(())
    })
    .await;
    pays(&customer, "office").await;
    let more = customer.asks_for_more("more", "office", &[(BUSINESS, 2)]);
    more.await.got();
    pays(&customer, "more").await;
    let license = customer.activates("office", 1, "sales").await;
    assert_eq!(customer.license("office", 1).await, license);
    let license = customer.activates_generated("office", 2, "second").await;
    let email = customer.receives("license-activated", 2).await;
    let password = mailed_password(&email.text_body);
    let user = customer.user(&license.activation_email, &password).await;
    let change = ChangeOwnPasswordRequest {
        current_password: password,
        new_password: CHOSEN.to_owned(),
        ..ChangeOwnPasswordRequest::default()
    };
    user.portal().change_own_password(change).await.got();
    let user = customer.user(&license.activation_email, CHOSEN).await;
    let laptop = RegisterDeviceRequest {
        device: Some(Device {
            platform: Platform::Windows.into(),
            display_name: "A laptop".to_owned(),
            ..Device::default()
        }),
        ..RegisterDeviceRequest::default()
    };
    user.portal().register_device(laptop).await.got();
    let name = customer.license_name("office", 5);
    let delete = DeleteLicenseRequest {
        name,
        ..DeleteLicenseRequest::default()
    };
    customer.by.licenses().delete_license(delete).await.got();
    customer
}
