//! What is locked or refused holds up its own events, and nobody else's: many are applied together.

use octroi_api::event::v1::delivery_outcome::Result as Outcome;
use octroi_api::event::v1::event::Payload;
use octroi_api::event::v1::{DeliverEventsRequest, Delivery, Event, OrderCreated};
use octroi_api::licensing::v1::{ChangePasswordRequest, ReleaseLicenseRequest, order};
use octroi_api::notification::v1::email::SecretState;
use octroi_platform::time::to_proto;
use octroi_tests::harness::{
    Answer as _, BUSINESS, Customer, Installation, Options, ServiceName, amount, at, eventually,
};
use prost::Message as _;
use tonic::Code;
use uuid::Uuid;

use crate::log::open_to;

/// More than are applied at the same time.
const SEATS: i32 = 12;
/// How often each event must have been tried while the rest was delivered: waiting for the lock until it is given up
/// takes longer each time than is waited for all of it here.
const TRIES: i32 = 7;
/// So many that to wait for each of them, until it is given up, takes longer than is waited here.
const MANY: i32 = 8;

/// Two customers with as many licences each, of whose activations billing is not told yet.
async fn told_nothing(octroi: &mut Installation) -> [Customer; 2] {
    let customers = [octroi.customer("acme").await, octroi.customer("zeta").await];
    for customer in &customers {
        customer.buys("office", &[(BUSINESS, SEATS)]).await;
    }
    octroi.drained().await;
    octroi.stop(ServiceName::Billing).await;
    for number in 1..=SEATS {
        for customer in &customers {
            let login = format!("user{number}");
            customer.activates("office", number, &login).await;
        }
    }
    customers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_account_holds_up_itself_alone() {
    let mut octroi = Installation::start().await;
    let customers = told_nothing(&mut octroi).await;
    let lock = "BEGIN; SELECT FROM billing.account WHERE account = 'acme' FOR UPDATE";
    octroi.sql.batch_execute(lock).await.unwrap();
    octroi.restart(ServiceName::Billing).await;
    let held = eventually("the other's are taken, and these tried again", async || {
        let open = open_to(&octroi, "billing").await;
        let few = open.len() <= usize::try_from(SEATS).unwrap();
        (few && open.iter().any(|open| open.attempts >= TRIES)).then_some(open)
    })
    .await;
    assert_eq!(held.len(), usize::try_from(SEATS).unwrap());
    for open in &held {
        assert!(open.aggregate.starts_with("accounts/acme/"), "{open:?}");
        assert!(!open.parked, "{open:?}");
    }
    octroi.sql.batch_execute("ROLLBACK").await.unwrap();
    octroi.drained().await;
    for customer in &customers {
        let preview = customer.preview("2026-02").await;
        assert_eq!(amount(preview.net.as_ref()), "119.88 EUR");
    }
    octroi.finish().await;
}

/// One of many cannot be written: the others are written together and once, those of its account too, and what comes after
/// others in its own aggregate after these.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_event_of_many_holds_up_its_aggregate_alone() {
    let mut octroi = Installation::start().await;
    let [acme, zeta] = told_nothing(&mut octroi).await;
    for customer in [&acme, &zeta] {
        let release = ReleaseLicenseRequest {
            name: customer.license_name("office", 7),
            ..ReleaseLicenseRequest::default()
        };
        customer.by.licenses().release_license(release).await.got();
        customer.activates("office", 7, "another").await;
    }
    let refuse = "CREATE FUNCTION billing.refuse() RETURNS trigger LANGUAGE plpgsql
                  AS 'BEGIN RAISE EXCEPTION ''not this one''; END';
                  CREATE TRIGGER refuse BEFORE INSERT ON billing.usage_interval
                  FOR EACH ROW WHEN (new.account = 'acme' AND new.seat = 7) EXECUTE FUNCTION billing.refuse()";
    octroi.sql.batch_execute(refuse).await.unwrap();
    octroi.restart(ServiceName::Billing).await;
    let held = eventually("the others are taken", async || {
        let open = open_to(&octroi, "billing").await;
        (open.len() == 3 && open[0].attempts > 2).then_some(open)
    })
    .await;
    for open in &held {
        assert_eq!(open.aggregate, acme.license_name("office", 7));
    }
    assert!(
        held[0].last_error.contains("could not be applied"),
        "{held:?}"
    );
    assert_eq!((held[1].attempts, held[2].attempts), (0, 0));
    let together = "
        SELECT count(*), count(DISTINCT xmin::text) FROM billing.inbox
        WHERE source = 'licensing' AND aggregate LIKE '%/licenses/%'";
    let row = octroi.sql.query_one(together, &[]).await.unwrap();
    let (applied, transactions): (i64, i64) = (row.get(0), row.get(1));
    assert_eq!(applied, i64::from(2 * SEATS - 1));
    assert!(
        transactions <= 8,
        "{applied} events took {transactions} transactions"
    );
    let heal = "DROP FUNCTION billing.refuse() CASCADE";
    octroi.sql.batch_execute(heal).await.unwrap();
    octroi.drained().await;
    for customer in [&acme, &zeta] {
        let preview = customer.preview("2026-02").await;
        assert_eq!(amount(preview.net.as_ref()), "119.88 EUR");
    }
    octroi.finish().await;
}

/// Every second of many events of one account is refused: each is tried a few times, and not as often as others fail.
#[tokio::test(flavor = "multi_thread")]
async fn refused_events_of_one_account_cost_the_others_little() {
    const EVENTS: usize = 400;
    let octroi = Installation::with(Options {
        tapped: true,
        ..Options::default()
    })
    .await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    octroi.drained().await;
    let refuse = "CREATE FUNCTION billing.refuse() RETURNS trigger LANGUAGE plpgsql
                  AS 'BEGIN RAISE EXCEPTION ''not this one''; END';
                  CREATE TRIGGER refuse BEFORE INSERT ON billing.inbox
                  FOR EACH ROW WHEN (new.aggregate LIKE '%/bad%') EXECUTE FUNCTION billing.refuse()";
    octroi.sql.batch_execute(refuse).await.unwrap();
    let expected = [Outcome::Applied, Outcome::Refused].repeat(EVENTS / 2);
    let deliveries = expected.iter().enumerate().map(|(number, outcome)| {
        let kind = if *outcome == Outcome::Refused {
            "bad"
        } else {
            "good"
        };
        created(&acme.order_name(&format!("{kind}{number}")))
    });
    let request = DeliverEventsRequest {
        source: "licensing".to_owned(),
        deliveries: deliveries.collect(),
        ..DeliverEventsRequest::default()
    };
    let wire = octroi.wire(ServiceName::Billing);
    wire.take();
    let mut intake = octroi
        .service(ServiceName::Licensing)
        .intake(ServiceName::Billing);
    let told = intake.deliver_events(request).await.got().outcomes;
    let asked = wire.take().into_iter().flat_map(|turn| turn.statements);
    let tries = asked.filter(|statement| statement == "open").count();
    let outcomes: Vec<_> = told.iter().map(|outcome| outcome.result()).collect();
    assert_eq!(outcomes, expected);
    assert!(
        (EVENTS..4 * EVENTS).contains(&tries),
        "{EVENTS} events took {tries} tries"
    );
    octroi.abandon().await;
}

/// That an order of acme's was kept.
fn created(order: &str) -> Delivery {
    let payload = Payload::OrderCreated(OrderCreated {
        order: order.to_owned(),
    });
    let event = Event {
        id: Uuid::now_v7().to_string(),
        r#type: payload.event_type().name.to_owned(),
        account: "accounts/acme".to_owned(),
        aggregate: order.to_owned(),
        effective_time: Some(to_proto(at("2026-02-02T08:00:00Z"))),
        payload: Some(payload),
        ..Event::default()
    };
    Delivery {
        event: event.encode_to_vec(),
        sequence: 1,
        ..Delivery::default()
    }
}

/// A later event of the same aggregate finds what the earlier one wrote, in one transaction with it.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_finds_what_the_one_before_it_wrote() {
    let mut octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    octroi.drained().await;
    octroi.stop(ServiceName::Notification).await;
    acme.activates_generated("office", 1, "sales").await;
    let change = ChangePasswordRequest {
        name: acme.license_name("office", 1),
        ..ChangePasswordRequest::default()
    };
    acme.by.licenses().change_password(change).await.got();
    octroi.restart(ServiceName::Notification).await;
    octroi.drained().await;
    let mut states = Vec::new();
    for template in ["license-activated", "password-changed"] {
        let email = acme.emails().await.into_iter();
        let email = email.filter(|email| email.template == template);
        states.extend(email.map(|email| email.secret_state()));
    }
    assert_eq!(states, [SecretState::Erased, SecretState::Readable]);
    octroi.finish().await;
}

/// Of two customers' due work one's is locked, more than is worked on at once: the other's is done meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_locked_holds_up_no_other_due_work() {
    let mut octroi = Installation::start().await;
    let [acme, zeta] = [octroi.customer("acme").await, octroi.customer("zeta").await];
    for (customer, orders) in [(&acme, MANY), (&zeta, 1)] {
        for number in 1..=orders {
            let group = format!("group{number}");
            customer.buys(&group, &[(BUSINESS, 1)]).await;
            let order = format!("more{number}");
            let more = customer.asks_for_more(&order, &group, &[(BUSINESS, 1)]);
            more.await.got();
        }
    }
    octroi.drained().await;
    octroi.stop(ServiceName::Billing).await;
    for (customer, orders) in [(&acme, MANY), (&zeta, 1)] {
        for number in 1..=orders {
            let refused = customer.pays(&format!("more{number}")).await.refused();
            refused.is(Code::Unavailable, "PAYMENT_PROCESSING");
        }
    }
    let lock = "BEGIN; SELECT FROM licensing.payment_attempt WHERE account = 'acme' FOR UPDATE";
    octroi.sql.batch_execute(lock).await.unwrap();
    octroi.restart(ServiceName::Billing).await;
    eventually("the other's order completes", async || {
        (zeta.order("more1").await.state() == order::State::Completed).then_some(())
    })
    .await;
    assert_eq!(acme.order("more1").await.state(), order::State::Paying);
    octroi.sql.batch_execute("ROLLBACK").await.unwrap();
    eventually("and then the first one's", async || {
        let last = acme.order(&format!("more{MANY}")).await;
        (last.state() == order::State::Completed).then_some(())
    })
    .await;

    let end = zeta.group("group1").await.period_end_time;
    let lock = "BEGIN; SELECT FROM licensing.license_group WHERE account = 'acme' FOR UPDATE";
    octroi.sql.batch_execute(lock).await.unwrap();
    octroi.advance_to("2026-03-02T00:00:00Z").await;
    assert_ne!(zeta.group("group1").await.period_end_time, end);
    assert_eq!(acme.group("group1").await.period_end_time, end);
    octroi.sql.batch_execute("ROLLBACK").await.unwrap();
    octroi.advance_to("2026-03-02T01:00:00Z").await;
    assert_ne!(acme.group("group1").await.period_end_time, end);
    octroi.finish().await;
}
