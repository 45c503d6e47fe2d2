//! Two releases side by side: what the older one does with what the newer one writes.

use std::error::Error as _;

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

/// A schema is one release's: an earlier or a later one neither serves it nor migrates it back. The service's tables and
/// the platform's have a history each.
#[tokio::test]
async fn a_schema_of_another_release_is_refused() {
    let octroi = Installation::start().await;
    for history in ["service_migration", "platform_migration"] {
        let table = format!("licensing.{history}");
        let count = format!("SELECT count(*) FROM {table}");
        let needed: i64 = octroi.sql.query_one(&count, &[]).await.unwrap().get(0);
        let later = format!(
            "INSERT INTO {table} SELECT version + 1, 'later', applied_on, '1' FROM {table} ORDER BY version DESC LIMIT 1"
        );
        let back = format!("DELETE FROM {table} WHERE name = 'later'");
        let earlier =
            format!("DELETE FROM {table} WHERE version = (SELECT max(version) FROM {table})");
        octroi.sql.batch_execute(&later).await.unwrap();
        refuses(&octroi, history, [needed + 1, needed], "a later release").await;
        let migrated = octroi.plan().migrate().await.unwrap_err();
        assert_eq!(migrated.exit_code(), 78);
        let why = migrated.source().unwrap().to_string();
        assert!(why.contains("a later release"), "{why}");
        assert_eq!(octroi.sql.execute(&back, &[]).await.unwrap(), 1);
        assert_eq!(octroi.sql.execute(&earlier, &[]).await.unwrap(), 1);
        refuses(&octroi, history, [needed - 1, needed], "run the migrations").await;
    }
    octroi.finish().await;
}

/// Licensing does not start, and says which schema it found and which it needs.
async fn refuses(octroi: &Installation, history: &str, versions: [i64; 2], what: &str) {
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
    let [found, needed] = versions;
    let told =
        format!("licensing is at version {found} of {history}, and this release needs {needed}:");
    let refused = refused.to_string();
    assert!(
        refused.contains(&told) && refused.contains(what),
        "{refused}"
    );
}
