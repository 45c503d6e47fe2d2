//! Deliveries that outlast their lease: who lost one changes nothing of what its next holder does.

use jiff::Timestamp;
use octroi_api::event::v1::delivery_outcome::Result as Outcome;
use octroi_api::event::v1::event_intake_service_server::{
    EventIntakeService, EventIntakeServiceServer,
};
use octroi_api::event::v1::{
    DeliverEventsRequest, DeliverEventsResponse, Delivery, DeliveryOutcome,
};
use octroi_platform::db::BY_KEY;
use octroi_platform::lease::{CLAIM, DUE, TAKEN};
use octroi_tests::harness::{BUSINESS, Customer, Installation, ServiceName, eventually};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::types::ToSql;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use uuid::Uuid;

/// A delivery that waits for its answer.
struct Held {
    source: String,
    deliveries: Vec<Delivery>,
    answer: oneshot::Sender<Result<DeliverEventsResponse, Status>>,
}

impl Held {
    /// The same outcome for each event.
    fn answers(self, result: Outcome) {
        let outcome = DeliveryOutcome {
            result: result.into(),
            reason: String::new(),
        };
        let outcomes = vec![outcome; self.deliveries.len()];
        let _ = self.answer.send(Ok(DeliverEventsResponse { outcomes }));
    }

    fn fails(self, status: Status) {
        let _ = self.answer.send(Err(status));
    }
}

/// A receiver that answers when the test does.
struct Receiver(mpsc::UnboundedSender<Held>);

#[tonic::async_trait]
impl EventIntakeService for Receiver {
    async fn deliver_events(
        &self,
        request: Request<DeliverEventsRequest>,
    ) -> Result<Response<DeliverEventsResponse>, Status> {
        let request = request.into_inner();
        let (answer, answered) = oneshot::channel();
        let held = Held {
            source: request.source,
            deliveries: request.deliveries,
            answer,
        };
        let gone = || Status::unavailable("the test is over");
        self.0.send(held).map_err(|_| gone())?;
        let answer = answered.await.map_err(|_| gone())?;
        answer.map(Response::new)
    }
}

/// What arrives where notification was.
struct Inbound(mpsc::UnboundedReceiver<Held>);

impl Inbound {
    async fn instead_of_notification(octroi: &mut Installation) -> Self {
        let url = octroi.plan().url(ServiceName::Notification);
        octroi.stop(ServiceName::Notification).await;
        let address = url.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind(address).await.unwrap();
        let (sender, receiver) = mpsc::unbounded_channel();
        let serving = tonic::transport::Server::builder()
            .add_service(EventIntakeServiceServer::new(Receiver(sender)))
            .serve_with_incoming(TcpIncoming::from(listener));
        tokio::spawn(serving);
        Self(receiver)
    }

    /// The next call of licensing's, perhaps one that delivers nothing; whatever billing delivers is taken.
    async fn call(&mut self) -> Held {
        loop {
            let held = self.0.recv().await.unwrap();
            if held.source == "licensing" {
                return held;
            }
            held.answers(Outcome::Applied);
        }
    }

    /// The next delivery of licensing's.
    async fn delivery(&mut self) -> Held {
        loop {
            let held = self.call().await;
            if !held.deliveries.is_empty() {
                return held;
            }
            held.answers(Outcome::Applied);
        }
    }

    /// Takes whatever is delivered until this holds.
    async fn takes_all_until(&mut self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let taking = async {
            loop {
                self.call().await.answers(Outcome::Applied);
            }
        };
        let holding = eventually(what, async || holds().await.then_some(()));
        tokio::select! {
            () = taking => {}
            () = holding => {}
        }
    }
}

/// A customer with six activated licences, of which notification is told when the test says so.
async fn with_licenses(octroi: &mut Installation) -> (Customer, Inbound) {
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 6)]).await;
    octroi.drained().await;
    let put_off = "
        CREATE FUNCTION licensing.put_off() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.subscriber = 'notification' THEN
                NEW.due_at := clock_timestamp() + interval '1 hour';
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER put_off BEFORE INSERT ON licensing.delivery
            FOR EACH ROW EXECUTE FUNCTION licensing.put_off()";
    octroi.sql.batch_execute(put_off).await.unwrap();
    for number in 1..=6 {
        acme.activates("office", number, &format!("user{number}"))
            .await;
    }
    let inbound = Inbound::instead_of_notification(octroi).await;
    (acme, inbound)
}

/// The activations of these licences are due.
async fn due(octroi: &Installation, acme: &Customer, numbers: std::ops::RangeInclusive<i32>) {
    let licenses: Vec<String> = numbers
        .map(|number| acme.license_name("office", number))
        .collect();
    let due = "UPDATE licensing.delivery SET due_at = clock_timestamp()
               WHERE subscriber = 'notification' AND aggregate = ANY ($1)";
    octroi.sql.execute(due, &[&licenses]).await.unwrap();
}

/// What is written of a licence's delivery to notification: token, tries and refusals.
async fn written(octroi: &Installation, license: &str) -> Vec<(Option<Uuid>, i32, i32)> {
    let written = "SELECT lease_token, attempts, refusals FROM licensing.delivery
                   WHERE subscriber = 'notification' AND aggregate = $1";
    let rows = octroi.sql.query(written, &[&license]).await.unwrap();
    rows.iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect()
}

/// What the time does to a lease whose holder is slow.
async fn end_leases(octroi: &Installation) {
    let end = "UPDATE licensing.delivery SET lease_until = clock_timestamp() - interval '1 second'
               WHERE subscriber = 'notification' AND lease_until IS NOT NULL";
    octroi.sql.batch_execute(end).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_lost_one_leaves_its_next_holder_alone() {
    let mut octroi = Installation::start().await;
    let (acme, mut inbound) = with_licenses(&mut octroi).await;
    let license = acme.license_name("office", 1);
    due(&octroi, &acme, 1..=1).await;
    let mut slow = inbound.delivery().await;
    octroi.second_licensing().await;
    for ending in 0..4 {
        end_leases(&octroi).await;
        // The other instance takes the same event up, and now holds it.
        let next = inbound.delivery().await;
        assert_eq!(next.deliveries, slow.deliveries);
        let before = written(&octroi, &license).await;
        assert!(before.len() == 1 && before[0].0.is_some(), "{before:?}");
        match ending {
            0 => slow.answers(Outcome::Refused),
            1 => slow.fails(Status::invalid_argument("it cannot be read")),
            2 => slow.fails(Status::unavailable("it is gone")),
            _ => slow.answers(Outcome::Applied),
        }
        // Whoever lost it goes on with this one, when all that it has to write is written.
        due(&octroi, &acme, ending + 2..=ending + 2).await;
        let other = inbound.delivery().await;
        assert_eq!(other.deliveries.len(), 1, "ending {ending}: two hold it");
        assert_ne!(other.deliveries, next.deliveries, "ending {ending}");
        assert_eq!(written(&octroi, &license).await, before, "ending {ending}");
        other.answers(Outcome::Applied);
        slow = next;
    }
    slow.answers(Outcome::Applied);
    inbound
        .takes_all_until("the holder's word counts", async || {
            written(&octroi, &license).await.is_empty()
        })
        .await;
    octroi.abandon().await;
}

/// A delivery that is made in pieces renews its leases before each, and goes on with what it still holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_in_pieces_renews_what_it_holds() {
    let mut octroi = Installation::start().await;
    let (acme, mut inbound) = with_licenses(&mut octroi).await;
    due(&octroi, &acme, 1..=4).await;
    let whole = inbound.delivery().await;
    assert_eq!(whole.deliveries.len(), 4);
    let lost = acme.license_name("office", 2);
    end_leases(&octroi).await;
    let other = Uuid::now_v7();
    let taken = "UPDATE licensing.delivery
                 SET lease_token = $1, lease_until = clock_timestamp() + interval '1 hour'
                 WHERE subscriber = 'notification' AND aggregate = $2";
    assert_eq!(
        octroi.sql.execute(taken, &[&other, &lost]).await.unwrap(),
        1
    );
    whole.fails(Status::invalid_argument("one of them cannot be read"));

    let piece = inbound.delivery().await;
    assert_eq!(piece.deliveries.len(), 1, "the other half is lost in part");
    let lapsing = "SELECT count(*) FROM licensing.delivery
                   WHERE subscriber = 'notification' AND lease_token <> $1
                     AND lease_until < clock_timestamp() + interval '15 seconds'";
    let lapsing = octroi.sql.query_one(lapsing, &[&other]).await.unwrap();
    assert_eq!(lapsing.get::<_, i64>(0), 0, "a lease was not renewed");
    piece.answers(Outcome::Applied);
    inbound
        .takes_all_until("what it still held is delivered", async || {
            let left = written(&octroi, &lost).await;
            assert_eq!(left, [(Some(other), 0, 0)]);
            octroi.undelivered().await == 3
        })
        .await;
    octroi.abandon().await;
}

/// How many deliveries wait, how many are looked for, and the pages that each of those may cost.
const QUEUE: i64 = 100_000;
const LIMIT: i64 = 10;
const PAGES_EACH: i64 = 16;

/// The statements of a lease read and write no more than they take, however much waits, and though the planner was told
/// that nothing does.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_queue_is_not_read_whole() {
    let mut octroi = Installation::start().await;
    for service in ServiceName::ALL {
        octroi.stop(service).await;
    }
    let fill = format!(
        "SET search_path = licensing;
         ALTER TABLE delivery SET (autovacuum_enabled = false);
         ALTER TABLE event SET (autovacuum_enabled = false);
         ANALYZE delivery, event;
         INSERT INTO event (account, id, type, aggregate, sequence, effective_at, recorded_at, body)
         SELECT 'a' || g % 1000, gen_random_uuid(), 'x', 'accounts/x/' || g, 1, now(), now(), ''
         FROM generate_series(1, {QUEUE}) g;
         INSERT INTO delivery (account, subscriber, aggregate, sequence, event_id, effective_at)
         SELECT account, 'billing', aggregate, sequence, id, effective_at FROM event"
    );
    octroi.sql.batch_execute(&fill).await.unwrap();
    // And as many that are not due, behind one that is put off.
    let behind = format!(
        "INSERT INTO delivery (account, subscriber, aggregate, sequence, previous_sequence, event_id, effective_at, due_at)
         SELECT 'b', 'billing', 'accounts/b', g, g - 1, gen_random_uuid(), now(), now() + g * interval '1 hour'
         FROM generate_series(1, {QUEUE}) g"
    );
    octroi.sql.batch_execute(&behind).await.unwrap();

    let first = Timestamp::UNIX_EPOCH;
    let due: [&(dyn ToSql + Sync); 3] = [&"billing", &LIMIT, &first];
    let found = octroi.sql.query(DUE, &due).await.unwrap();
    let column = |name| {
        found
            .iter()
            .map(|row| row.get(name))
            .collect::<Vec<String>>()
    };
    let (accounts, aggregates) = (column("account"), column("aggregate"));
    let sequences: Vec<i64> = found.iter().map(|row| row.get("sequence")).collect();
    assert_eq!(sequences, [1; 10]);
    let token = Uuid::now_v7();
    let of: [&(dyn ToSql + Sync); 5] = [&"billing", &accounts, &aggregates, &sequences, &token];
    let statements: [(&str, &str, &[&(dyn ToSql + Sync)]); 3] =
        [("", DUE, &due), (BY_KEY, CLAIM, &of), (BY_KEY, TAKEN, &of)];
    let reads_little = async |settings: &str, sql: &str, params: &[&(dyn ToSql + Sync)]| {
        octroi.sql.batch_execute("BEGIN").await.unwrap();
        octroi.sql.batch_execute(settings).await.unwrap();
        let explain = format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}");
        let plan: Value = octroi.sql.query_one(&explain, params).await.unwrap().get(0);
        octroi.sql.batch_execute("COMMIT").await.unwrap();
        let read = |kind: &str| plan[0]["Plan"][kind].as_i64().unwrap();
        let pages = read("Shared Hit Blocks") + read("Shared Read Blocks");
        assert!(pages <= LIMIT * PAGES_EACH, "{pages} pages: {plan:#}");
    };
    for (settings, sql, params) in statements {
        reads_little(settings, sql, params).await;
    }
    let left = "SELECT count(*) FROM delivery WHERE account <> 'b'";
    let left: i64 = octroi.sql.query_one(left, &[]).await.unwrap().get(0);
    assert_eq!(left, QUEUE - LIMIT, "what was claimed is taken");
    // Nor is what was taken passed over by who begins behind it.
    let taken = format!(
        "DELETE FROM delivery d USING (SELECT account, aggregate FROM delivery ORDER BY due_at LIMIT {QUEUE} / 2) t
         WHERE d.account = t.account AND d.aggregate = t.aggregate"
    );
    octroi.sql.batch_execute(&taken).await.unwrap();
    let from = "SELECT min(due_at) FROM delivery";
    let from: Timestamp = octroi.sql.query_one(from, &[]).await.unwrap().get(0);
    reads_little("", DUE, &[&"billing", &LIMIT, &from]).await;
    octroi.abandon().await;
}
