//! Facts go to the services that their types name, and to no others.

use octroi_api::EVENT_TYPES;
use octroi_api::event::v1::delivery_outcome::Result as Outcome;
use octroi_api::event::v1::{DeliverEventsRequest, Delivery, Event};
use octroi_api::licensing::v1::{ChangePasswordRequest, ReleaseLicenseRequest};
use octroi_platform::time::to_proto;
use octroi_tests::harness::{Answer as _, BUSINESS, Installation, ServiceName, amount, at};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use uuid::Uuid;

/// Billing is told of the activation and of the release, notification of the password between them too. Each goes on
/// from the last fact that it was told of, and the month is billed.
#[tokio::test]
async fn a_password_passes_billing_by() {
    let mut octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    octroi.drained().await;
    octroi.stop(ServiceName::Billing).await;
    octroi.stop(ServiceName::Notification).await;
    acme.activates_generated("office", 1, "sales").await;
    let name = acme.license_name("office", 1);
    let change = ChangePasswordRequest {
        name: name.clone(),
        password: "Green-Kettle-43".to_owned(),
        ..ChangePasswordRequest::default()
    };
    let release = ReleaseLicenseRequest {
        name: name.clone(),
        ..ReleaseLicenseRequest::default()
    };
    acme.by.licenses().change_password(change).await.got();
    acme.by.licenses().release_license(release).await.got();

    let waiting = "SELECT subscriber, sequence, previous_sequence FROM licensing.delivery
                   WHERE aggregate = $1 ORDER BY subscriber, sequence";
    let rows = octroi.sql.query(waiting, &[&name]).await.unwrap();
    let told: Vec<(&str, i64, i64)> = rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    assert_eq!(
        told,
        [
            ("billing", 1, 0),
            ("billing", 3, 1),
            ("notification", 1, 0),
            ("notification", 2, 1),
            ("notification", 3, 2)
        ]
    );
    octroi.restart(ServiceName::Billing).await;
    octroi.restart(ServiceName::Notification).await;
    octroi.drained().await;
    octroi.advance_to("2026-03-02T08:00:00Z").await;
    let run = octroi.bills("2026-02").await;
    assert_eq!((run.invoices, run.failed), (1, 0), "{run:?}");
    let [invoice] = acme.invoices().await.try_into().unwrap();
    assert_eq!(amount(invoice.net.as_ref()), "9.99 EUR");
    // Licensing has heard of the account, and of none of the invoices and payments.
    let heard = "SELECT DISTINCT aggregate FROM licensing.inbox";
    let heard = octroi.sql.query(heard, &[]).await.unwrap();
    let heard: Vec<&str> = heard.iter().map(|row| row.get(0)).collect();
    assert_eq!(heard, [acme.name()]);
    octroi.finish().await;
}

/// Every declared payload, empty, as an event of the type that is declared for it.
fn payloads() -> Vec<Event> {
    let files = FileDescriptorSet::decode(octroi_api::DESCRIPTORS).unwrap();
    let messages = files.file.iter().flat_map(|file| {
        let ours = file.package() == "octroi.event.v1";
        file.message_type.iter().filter(move |_| ours)
    });
    let mut event = messages.filter(|message| message.name() == "Event");
    let fields = event.next().unwrap().field.iter();
    let payloads = fields.filter(|field| field.oneof_index.is_some());
    payloads
        .map(|field| {
            let mut body = Vec::new();
            let wire = prost::encoding::WireType::LengthDelimited;
            prost::encoding::encode_key(field.number().try_into().unwrap(), wire, &mut body);
            body.push(0);
            let mut event = Event::decode(body.as_slice()).unwrap();
            event.r#type = event.payload.as_ref().unwrap().event_type().name.to_owned();
            event.id = Uuid::now_v7().to_string();
            event.account = "accounts/acme".to_owned();
            event.effective_time = Some(to_proto(at("2026-02-02T08:00:00Z")));
            event.aggregate = format!("accounts/acme/probes/{}", field.number());
            event
        })
        .collect()
}

/// What a service does with a fact and what the contract says of it are the same: whoever is named takes it, or refuses
/// it as the empty payload that it is, and anyone else lets it wait.
#[tokio::test]
async fn intakes_agree_with_the_contract() {
    let octroi = Installation::start().await;
    octroi.customer("acme").await;
    octroi.drained().await;
    let events = payloads();
    assert_eq!(events.len(), EVENT_TYPES.len());
    for event in events {
        let of = event.payload.as_ref().unwrap().event_type();
        let by_name = |name: &str| ServiceName::ALL.into_iter().find(|it| it.as_str() == name);
        let source = by_name(of.source).unwrap();
        for to in ServiceName::ALL.into_iter().filter(|to| *to != source) {
            let request = DeliverEventsRequest {
                source: of.source.to_owned(),
                deliveries: vec![Delivery {
                    event: event.encode_to_vec(),
                    sequence: 1,
                    ..Delivery::default()
                }],
                ..DeliverEventsRequest::default()
            };
            let mut intake = octroi.service(source).intake(to);
            let answer = intake.deliver_events(request).await.got();
            let [outcome] = answer.outcomes.try_into().unwrap();
            let taken = matches!(outcome.result(), Outcome::Applied | Outcome::Refused);
            assert_eq!(
                taken,
                of.subscribers.contains(&to.as_str()),
                "{} at {to}: {outcome:?}",
                of.name
            );
            if !taken {
                assert_eq!(outcome.result(), Outcome::Waiting);
                assert_eq!(
                    outcome.reason,
                    "events of its type are not for this service"
                );
            }
        }
    }
    octroi.abandon().await;
}
