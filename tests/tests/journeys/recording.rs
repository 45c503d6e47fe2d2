//! The facts that services record, and what they never hold.

use std::collections::BTreeMap;

use octroi_api::event::v1::DeliverEventsRequest;
use octroi_api::event::v1::delivery_outcome::Result as Outcome;
use octroi_api::event::v1::event::Payload;
use octroi_api::licensing::v1::NewLicenseGroup;
use octroi_tests::harness::{
    Answer as _, BUSINESS, CHOSEN, Installation, ServiceName, at, instant, new_group, request_id,
};
use prost::Message as _;
use tonic::Code;

#[tokio::test]
async fn facts_in_their_order() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 2)]).await;
    let active = acme.activates("office", 1, "sales").await;
    let licensing = acme.events(ServiceName::Licensing).await;
    let kinds: Vec<_> = licensing
        .iter()
        .map(|event| event.r#type.as_str())
        .collect();
    assert_eq!(
        kinds,
        [
            "licensing.order.created",
            "licensing.order.completed",
            "licensing.group.changed",
            "licensing.license.activated"
        ]
    );
    let billing = acme.events(ServiceName::Billing).await;
    assert_eq!(billing[0].r#type, "billing.account.changed");
    assert!(acme.events(ServiceName::Notification).await.is_empty());

    let mut last: BTreeMap<&str, i64> = BTreeMap::new();
    for event in licensing.iter().chain(&billing) {
        assert_eq!(event.account, "accounts/acme");
        assert!(event.payload.is_some() && !event.id.is_empty());
        let sequence = last.entry(&event.aggregate).or_default();
        *sequence += 1;
        assert_eq!(event.sequence, *sequence, "{}", event.aggregate);
    }
    let event = &licensing[3];
    assert_eq!(event.aggregate, active.name);
    assert_eq!(instant(event.effective_time), instant(active.activate_time));
    assert!(instant(event.record_time) >= at("2026-02-02T08:00:00Z"));
    let Some(Payload::LicenseActivated(payload)) = &event.payload else {
        panic!("{event:?}");
    };
    assert_eq!((payload.seat, payload.offer.as_str()), (1, BUSINESS));
    assert_eq!(payload.activation_email, active.activation_email);
    octroi.finish().await;
}

/// No row of any table holds a password, but for the e-mail's sealed one.
#[tokio::test]
async fn and_never_a_secret() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    acme.activates("office", 1, "sales").await;
    acme.receives("license-activated", 1).await;
    octroi.mailed().await;
    for event in acme.events(ServiceName::Licensing).await {
        let text = String::from_utf8_lossy(&event.encode_to_vec()).into_owned();
        assert!(!text.contains(CHOSEN), "{event:?}");
    }
    let tables = octroi
        .sql
        .query(
            "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables
             WHERE table_schema IN ('licensing', 'billing', 'notification') AND table_type = 'BASE TABLE'",
            &[],
        )
        .await
        .unwrap();
    assert!(tables.len() > 20, "{}", tables.len());
    for table in tables {
        let table: String = table.get(0);
        let holding = format!(
            "SELECT count(*) FROM {table} AS t
             WHERE position($1 IN t::text) > 0 OR position(encode(convert_to($1, 'UTF8'), 'hex') IN t::text) > 0"
        );
        let rows: i64 = octroi
            .sql
            .query_one(&holding, &[&CHOSEN])
            .await
            .unwrap()
            .get(0);
        assert_eq!(rows, 0, "{table}");
    }
    octroi.finish().await;
}

/// A fact that is told again is known; one that is told too early waits.
#[tokio::test]
async fn told_again() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    acme.activates("office", 1, "sales").await;
    octroi.drained().await;
    let licensing = octroi.service(ServiceName::Licensing);
    let mut request = DeliverEventsRequest {
        source: "licensing".to_owned(),
        ..DeliverEventsRequest::default()
    };
    for service in [ServiceName::Notification, ServiceName::Billing] {
        let deliveries = octroi.facts(ServiceName::Licensing, service, "acme").await;
        request.deliveries = deliveries.clone();
        let answer = licensing
            .intake(service)
            .deliver_events(request.clone())
            .await
            .got();
        let results: Vec<_> = answer
            .outcomes
            .iter()
            .map(|outcome| outcome.result())
            .collect();
        assert_eq!(
            results,
            vec![Outcome::Duplicate; deliveries.len()],
            "{service}"
        );
        assert!(!results.is_empty());
    }
    // Nobody speaks for another service.
    let refused = octroi
        .service(ServiceName::Billing)
        .intake(ServiceName::Notification)
        .deliver_events(request.clone())
        .await
        .refused();
    refused.is(Code::PermissionDenied, "SERVICES_ONLY");
    let before = acme.preview("2026-02").await;
    let mut early = request.deliveries.last().cloned().unwrap();
    early.previous_sequence = Some(early.sequence + 1);
    early.sequence += 2;
    let request = DeliverEventsRequest {
        deliveries: vec![early],
        ..request
    };
    let answer = licensing
        .intake(ServiceName::Billing)
        .deliver_events(request)
        .await
        .got();
    assert_eq!(answer.outcomes[0].result(), Outcome::Waiting, "{answer:?}");
    assert_eq!(
        acme.preview("2026-02").await.lines.len(),
        before.lines.len()
    );
    octroi.finish().await;
}

/// A fact names the request id of the call that caused it, where that gave one; nothing else is put in its place.
#[tokio::test]
async fn the_request_behind_a_fact() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    let group = NewLicenseGroup {
        auto_renew: Some(false),
        ..new_group("office")
    };
    acme.asks_for("o1", group, &[(BUSINESS, 2)]).await.got();
    acme.pays("o1").await.got();
    acme.activates("office", 1, "without").await;
    let mut with = acme.activation("office", 2, "with");
    with.request_id = request_id();
    let given = with.request_id.clone();
    acme.by.licenses().activate_license(with).await.got();
    octroi.advance_to("2026-03-02T08:00:00Z").await;
    let events = acme.events(ServiceName::Licensing).await;
    let ended = "licensing.license.deactivated";
    assert!(events.iter().any(|event| event.r#type == ended));
    for event in events {
        let second = event.r#type == "licensing.license.activated"
            && event.aggregate == acme.license_name("office", 2);
        let expected = if second { given.as_str() } else { "" };
        assert_eq!(event.request_id, expected, "{event:?}");
    }
    octroi.finish().await;
}
