//! Two releases side by side: what the older one does with what the newer one writes.

use octroi_api::event::v1::delivery_outcome::Result as Outcome;
use octroi_api::event::v1::{DeliverEventsRequest, Delivery, Event};
use octroi_api::licensing::v1::ReleaseLicenseRequest;
use octroi_server::StartError;
use octroi_tests::harness::{Answer as _, BUSINESS, Installation, ServiceName, eventually};
use prost::Message as _;
use tokio_util::sync::CancellationToken;

use crate::log::{first_of, open, rewrite};

/// A field of `Event` that no release has, holding "new".
const NEWER_PAYLOAD: [u8; 6] = [0xa2, 0x3f, 3, b'n', b'e', b'w'];
const UNKNOWN: &str = "its type is not known here";

/// The same event with a payload from a later release.
fn made_newer(body: &[u8]) -> Vec<u8> {
    let mut event = Event::decode(body).unwrap();
    event.payload = None;
    event.r#type = "licensing.license.lent".to_owned();
    let mut body = event.encode_to_vec();
    body.extend(NEWER_PAYLOAD);
    let read = Event::decode(body.as_slice()).unwrap();
    assert_eq!(read, event, "this release knows the field");
    body
}

/// A fact that the receiver's release does not know waits, holds up what comes after it on the same licence and nothing
/// else, and is taken as soon as the receiver knows it.
#[tokio::test]
async fn a_fact_from_a_newer_release_waits() {
    let mut octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 3)]).await;
    octroi.drained().await;
    octroi.stop(ServiceName::Billing).await;
    octroi.stop(ServiceName::Notification).await;
    acme.activates_generated("office", 1, "first").await;
    let held = acme.license_name("office", 1);
    let body = first_of(&octroi.sql, &held).await;
    let newer = made_newer(&body);
    rewrite(&octroi.sql, &held, &newer).await;
    let release = ReleaseLicenseRequest {
        name: held.clone(),
        ..ReleaseLicenseRequest::default()
    };
    acme.by.licenses().release_license(release).await.got();
    octroi.restart(ServiceName::Billing).await;
    octroi.restart(ServiceName::Notification).await;

    acme.activates("office", 2, "second").await;
    acme.receives("license-activated", 1).await;
    let waiting = eventually("only the newer fact and what follows it wait", async || {
        let open = open(&octroi.sql).await;
        let tried = open.iter().filter(|open| open.attempts >= 2).count();
        (open.len() == 4 && tried == 2).then_some(open)
    })
    .await;
    let told: Vec<_> = waiting
        .iter()
        .map(|open| {
            assert_eq!((&open.aggregate, open.parked), (&held, false), "{open:?}");
            (
                open.subscriber.as_str(),
                open.sequence,
                open.last_error.as_str(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("billing", 1, UNKNOWN),
            ("billing", 2, ""),
            ("notification", 1, UNKNOWN),
            ("notification", 2, "")
        ]
    );
    // Kept and forwarded as it is, whoever reads it.
    assert_eq!(first_of(&octroi.sql, &held).await, newer);
    delivered_by_hand(&octroi, &newer).await;

    // A receiver that knows it: here the fact becomes one that this release knows.
    rewrite(&octroi.sql, &held, &body).await;
    acme.receives("license-activated", 2).await;
    octroi.finish().await;
}

/// However often it comes, the answer is the same and nothing is kept of it.
async fn delivered_by_hand(octroi: &Installation, event: &[u8]) {
    let delivery = |sequence| Delivery {
        event: event.to_vec(),
        sequence,
        ..Delivery::default()
    };
    let request = DeliverEventsRequest {
        source: "licensing".to_owned(),
        deliveries: vec![delivery(1), delivery(1), delivery(7)],
        ..DeliverEventsRequest::default()
    };
    let licensing = octroi.service(ServiceName::Licensing);
    for receiver in [ServiceName::Billing, ServiceName::Notification] {
        let mut intake = licensing.intake(receiver);
        let answer = intake.deliver_events(request.clone()).await.got();
        assert_eq!(answer.outcomes.len(), 3);
        for outcome in answer.outcomes {
            assert_eq!(outcome.result(), Outcome::Waiting);
            assert_eq!(outcome.reason, UNKNOWN);
        }
    }
}

/// A newer release has migrated: its tables are wider and its history longer. The older one migrates nothing, starts
/// and serves.
#[tokio::test]
async fn a_newer_schema_is_good_enough() {
    let mut octroi = Installation::start().await;
    let newer = "
        INSERT INTO licensing.service_migration SELECT 900, 'newer', applied_on, '1'
            FROM licensing.service_migration LIMIT 1;
        INSERT INTO billing.service_migration SELECT 900, 'newer', applied_on, '1'
            FROM billing.service_migration LIMIT 1;
        INSERT INTO notification.service_migration SELECT 900, 'newer', applied_on, '1'
            FROM notification.service_migration LIMIT 1;
        ALTER TABLE licensing.license ADD COLUMN newer text;
        ALTER TABLE billing.account ADD COLUMN newer text NOT NULL DEFAULT '';
        ALTER TABLE notification.email ADD COLUMN newer int;";
    octroi.sql.batch_execute(newer).await.unwrap();
    octroi.plan().migrate().await.unwrap();
    for service in ServiceName::ALL {
        octroi.restart(service).await;
    }
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    acme.activates("office", 1, "sales").await;
    acme.receives("license-activated", 1).await;
    octroi.finish().await;
}

/// A program that needs more of a schema than there is does not start: the service's tables and the platform's have a
/// history each.
#[tokio::test]
async fn an_older_schema_is_not() {
    let octroi = Installation::start().await;
    for history in ["service_migration", "platform_migration"] {
        let table = format!("licensing.{history}");
        let older =
            format!("DELETE FROM {table} WHERE version = (SELECT max(version) FROM {table})");
        assert_eq!(octroi.sql.execute(&older, &[]).await.unwrap(), 1);
        let settings = octroi_licensing::Settings {
            platform: octroi.plan().settings(ServiceName::Licensing, None),
            activation_domain: "users.octroi.example".to_owned(),
            download_url: "https://download.octroi.example".to_owned(),
        };
        let started = octroi_licensing::start(settings, CancellationToken::new()).await;
        let Err(refused @ StartError::Schema { .. }) = started else {
            panic!(
                "it started, or refused for another reason: {:?}",
                started.err()
            );
        };
        assert_eq!(refused.exit_code(), 78);
        assert!(refused.to_string().contains(history), "{refused}");
    }
    octroi.finish().await;
}
