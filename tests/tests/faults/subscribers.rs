//! A service that does not take its events holds up as little as can be.

use octroi_api::event::v1::Event;
use octroi_api::event::v1::event::Payload;
use octroi_api::licensing::v1::ReleaseLicenseRequest;
use octroi_tests::harness::{Answer as _, BUSINESS, Installation, ServiceName, amount, eventually};
use prost::Message as _;

use crate::log::{first_of, open_to, rewrite};

/// Billing hears everything though notification is gone, and notification hears everything when it is back.
#[tokio::test]
async fn a_dead_subscriber_holds_up_itself_alone() {
    let mut octroi = Installation::start().await;
    octroi.stop(ServiceName::Notification).await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 20)]).await;
    for number in 1..=20 {
        acme.activates("office", number, &format!("user{number}"))
            .await;
    }
    eventually("billing has heard everything", async || {
        open_to(&octroi, "billing").await.is_empty().then_some(())
    })
    .await;
    let preview = acme.preview("2026-02").await;
    assert_eq!(amount(preview.net.as_ref()), "199.80 EUR");
    let waiting = open_to(&octroi, "notification").await;
    let activated = waiting.iter().filter(|open| {
        let (_, license) = open.aggregate.rsplit_once('/').unwrap();
        open.sequence == 1 && license.parse::<i32>().is_ok()
    });
    assert_eq!(activated.count(), 20, "{waiting:?}");
    assert!(waiting.iter().all(|open| !open.parked), "{waiting:?}");
    octroi.restart(ServiceName::Notification).await;
    acme.receives("license-activated", 20).await;
    octroi.finish().await;
}

/// An event that is refused again and again is parked, where everybody sees it; the rest goes on. Repaired and taken
/// up again, it is applied with what waited behind it.
#[tokio::test]
async fn a_parked_event_holds_up_its_own_aggregate_alone() {
    let mut octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 2)]).await;
    octroi.drained().await;
    octroi.stop(ServiceName::Billing).await;
    acme.activates("office", 1, "first").await;
    let held = acme.license_name("office", 1);
    let body = first_of(&octroi.sql, &held).await;
    rewrite(&octroi.sql, &held, &broken(&body)).await;
    let release = ReleaseLicenseRequest {
        name: held.clone(),
        ..ReleaseLicenseRequest::default()
    };
    acme.by.licenses().release_license(release).await.got();
    octroi.restart(ServiceName::Billing).await;

    // The pauses between its tries are cut short.
    let hurry = "UPDATE licensing.delivery SET due_at = clock_timestamp() WHERE NOT parked AND due_at > clock_timestamp()";
    let waiting = eventually("the broken event is parked", async || {
        octroi.sql.execute(hurry, &[]).await.unwrap();
        let waiting = open_to(&octroi, "billing").await;
        waiting.iter().any(|open| open.parked).then_some(waiting)
    })
    .await;
    let told: Vec<_> = waiting
        .iter()
        .map(|open| (&open.aggregate, open.sequence, open.parked))
        .collect();
    assert_eq!(told, [(&held, 1, true), (&held, 2, false)]);
    assert!(
        waiting[0].last_error.contains("could not be applied"),
        "{waiting:?}"
    );
    let report = octroi::verify::run(&octroi.plan().databases.admin).await;
    let report = report.unwrap().to_string();
    assert!(report.contains(&held), "verify does not name it: {report}");

    acme.activates("office", 2, "second").await;
    acme.receives("license-activated", 2).await;
    eventually("the rest goes on", async || {
        (open_to(&octroi, "billing").await.len() == 2).then_some(())
    })
    .await;

    rewrite(&octroi.sql, &held, &body).await;
    let admin = &octroi.plan().databases.admin;
    let again = octroi::replay::run(admin).await.unwrap();
    assert!(
        matches!(again.as_slice(), [one] if one.contains(&held)),
        "{again:?}"
    );
    octroi.drained().await;
    let preview = acme.preview("2026-02").await;
    assert_eq!(amount(preview.net.as_ref()), "9.99 EUR");
    octroi.finish().await;
}

/// The same activation of what is no offer.
pub fn broken(body: &[u8]) -> Vec<u8> {
    let mut event = Event::decode(body).unwrap();
    let Some(Payload::LicenseActivated(activated)) = &mut event.payload else {
        panic!("no activation: {event:?}");
    };
    activated.offer = "nothing".to_owned();
    event.encode_to_vec()
}
