//! The same facts, shuffled, duplicated and in other batches, make the same invoice.

use std::collections::BTreeMap;

use octroi_api::billing::v1::Invoice;
use octroi_api::event::v1::delivery_outcome::Result as Outcome;
use octroi_api::event::v1::event::Payload;
use octroi_api::event::v1::{
    DeliverEventsRequest, Delivery, Event, LicenseActivated, LicenseDeactivated,
    LicenseGroupChanged, OrderCompleted, OrderedLine,
};
use octroi_platform::time::to_proto;
use octroi_tests::harness::{
    Answer as _, BUSINESS, Caller, ENTERPRISE, Installation, Price, ServiceName, amount, at,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use prost::Message as _;
use uuid::Uuid;

/// The facts of one account's month, aggregate by aggregate in their sequence.
fn facts(account: &str, prices: &BTreeMap<&str, String>) -> Vec<Vec<Event>> {
    let group = format!("accounts/{account}/licenseGroups/office");
    let event = |aggregate: &str, time: &str, kind: &str, payload| Event {
        id: Uuid::now_v7().to_string(),
        r#type: kind.to_owned(),
        account: format!("accounts/{account}"),
        aggregate: aggregate.to_owned(),
        effective_time: Some(to_proto(at(time))),
        record_time: Some(to_proto(at(time))),
        payload: Some(payload),
        ..Event::default()
    };
    let ordered = |order: &str, time: &str, offer: &str, price: &str| {
        let order = format!("accounts/{account}/orders/{order}");
        let payload = Payload::OrderCompleted(OrderCompleted {
            order: order.clone(),
            license_group: group.clone(),
            group_display_name: format!("Office {time}"),
            lines: vec![OrderedLine {
                offer: offer.to_owned(),
                offer_display_name: format!("Apps {price}"),
                quantity: 5,
                price: prices[price].clone(),
            }],
            ..OrderCompleted::default()
        });
        vec![event(&order, time, "licensing.order.completed", payload)]
    };
    let renamed = |version, time, name: &str| {
        let payload = Payload::LicenseGroupChanged(LicenseGroupChanged {
            version,
            display_name: name.to_owned(),
            ..LicenseGroupChanged::default()
        });
        event(&group, time, "licensing.group.changed", payload)
    };
    let seat = |number: i32, offer: &str, times: &[&str]| {
        let aggregate = format!("{group}/licenses/{number}");
        let change = |(at, time): (usize, &&str)| match at % 2 {
            0 => {
                let payload = Payload::LicenseActivated(LicenseActivated {
                    license_group: group.clone(),
                    seat: number,
                    offer: offer.to_owned(),
                    ..LicenseActivated::default()
                });
                event(&aggregate, time, "licensing.license.activated", payload)
            }
            _ => {
                let payload = Payload::LicenseDeactivated(LicenseDeactivated {
                    license_group: group.clone(),
                    seat: number,
                    offer: offer.to_owned(),
                    ..LicenseDeactivated::default()
                });
                event(&aggregate, time, "licensing.license.deactivated", payload)
            }
        };
        times.iter().enumerate().map(change).collect()
    };
    vec![
        ordered("o1", "2026-02-02T09:00:00Z", BUSINESS, "first"),
        ordered("o2", "2026-02-04T09:00:00Z", BUSINESS, "second"),
        ordered("o3", "2026-02-04T09:00:00Z", ENTERPRISE, "other"),
        vec![
            renamed(2, "2026-02-03T09:00:00Z", "Second name"),
            renamed(3, "2026-02-03T10:00:00Z", "Third name"),
        ],
        seat(
            1,
            BUSINESS,
            &[
                "2026-02-02T10:00:00Z",
                "2026-02-05T10:00:00Z",
                "2026-02-05T10:00:00Z",
            ],
        ),
        seat(
            2,
            BUSINESS,
            &["2026-02-05T10:00:00Z", "2026-02-09T23:00:00Z"],
        ),
        seat(
            3,
            BUSINESS,
            &[
                "2026-02-07T10:00:00Z",
                "2026-02-07T10:00:00Z",
                "2026-02-20T10:00:00Z",
            ],
        ),
        seat(4, ENTERPRISE, &["2026-02-04T10:00:00Z"]),
    ]
}

/// Delivers events as they come: shuffled, some twice, in batches; what waits comes again. Of each aggregate two in three
/// are not for the receiver.
async fn deliver(intake: &Caller, events: &[Vec<Event>], runner: &mut TestRunner) {
    let mut open: Vec<Delivery> = events
        .iter()
        .flat_map(|aggregate| (1..).zip(aggregate))
        .map(|(at, event): (i64, _)| Delivery {
            event: event.encode_to_vec(),
            sequence: 3 * at,
            previous_sequence: Some(3 * (at - 1)),
            sealed_secret: Vec::new(),
        })
        .collect();
    let extra: Vec<Delivery> = open.iter().step_by(3).cloned().collect();
    open.extend(extra);
    while !open.is_empty() {
        open = Just(open)
            .prop_shuffle()
            .new_tree(runner)
            .unwrap()
            .current();
        let size = (1..=open.len()).new_tree(runner).unwrap().current();
        let batch: Vec<Delivery> = open.drain(..size).collect();
        let request = DeliverEventsRequest {
            source: "licensing".to_owned(),
            deliveries: batch.clone(),
            ..DeliverEventsRequest::default()
        };
        let outcomes = intake
            .intake(ServiceName::Billing)
            .deliver_events(request)
            .await
            .got()
            .outcomes;
        for (delivery, outcome) in batch.into_iter().zip(outcomes) {
            match outcome.result() {
                Outcome::Applied | Outcome::Duplicate => {}
                Outcome::Waiting => open.push(delivery),
                Outcome::Refused | Outcome::Unspecified => panic!("{outcome:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_in_any_order_make_the_same_invoice() {
    let octroi = Installation::start().await;
    let mut prices = BTreeMap::new();
    for (name, offer, monthly, policy, from) in [
        ("first", BUSINESS, 1_500, "PEAK", "2026-01-10T00:00:00Z"),
        (
            "second",
            BUSINESS,
            1_700,
            "DISTINCT",
            "2026-02-03T00:00:00Z",
        ),
        ("other", ENTERPRISE, 2_099, "DAILY", "2026-02-03T00:00:00Z"),
    ] {
        let price = Price {
            offer,
            monthly,
            setup: 0,
            policy,
        };
        octroi.price(price, at(from)).await;
        let found = "SELECT id FROM billing.price WHERE offer = $1 AND valid_from = $2";
        let row = octroi
            .sql
            .query_one(found, &[&offer, &at(from)])
            .await
            .unwrap();
        prices.insert(name, format!("prices/{}", row.get::<_, Uuid>(0)));
    }
    let licensing = octroi.service(ServiceName::Licensing);
    let mut runner = TestRunner::deterministic();
    let mut made: Option<Invoice> = None;
    octroi.advance_to("2026-03-02T00:00:00Z").await;
    for number in 1..=25 {
        let id = format!("a{number}");
        let customer = octroi.newcomer(&id).await;
        deliver(&licensing, &facts(&id, &prices), &mut runner).await;
        let mut invoice = customer.preview("2026-02").await;
        invoice.buyer = None;
        for line in &mut invoice.lines {
            line.license_group = line.license_group.replace(&id, "");
        }
        assert_eq!(
            *made.get_or_insert_with(|| invoice.clone()),
            invoice,
            "{id}"
        );
    }
    let invoice = made.unwrap();
    let lines: Vec<_> = invoice
        .lines
        .iter()
        .map(|line| {
            (
                line.offer.as_str(),
                line.quantity,
                amount(line.amount.as_ref()),
                line.group_display_name.as_str(),
            )
        })
        .collect();
    // 25 of February's 28 days at 20.99 €, and at most two of the first order's price at a time.
    assert_eq!(
        lines,
        [
            (BUSINESS, 2, "30.00 EUR".to_owned(), "Third name"),
            (ENTERPRISE, 25, "18.74 EUR".to_owned(), "Third name"),
        ]
    );
}
