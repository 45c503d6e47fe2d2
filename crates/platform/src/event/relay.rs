//! Delivers a service's events to one subscriber. It leases whole aggregates, so that two instances share the work and
//! each aggregate stays in order; what a subscriber cannot take holds up its own aggregate only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use octroi_api::event::v1::delivery_outcome::Result as Outcome;
use octroi_api::event::v1::event_intake_service_client::EventIntakeServiceClient;
use octroi_api::event::v1::{DeliverEventsRequest, Delivery, DeliveryOutcome};
use tokio::sync::{Notify, watch};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tracing::Instrument as _;
use uuid::Uuid;

use crate::db::{Db, row_get};
use crate::error::Error;
use crate::event::progress::{Horizon, complete_through};
use crate::intake::MOST;
use crate::limits::MESSAGE;
use crate::panic::caught;
use crate::peer::Peer;
use crate::time::to_proto;

/// How many aggregates are leased at once, and how many events of each: no more than one delivery may carry.
const AGGREGATES: i64 = 62;
const EVENTS_EACH: i64 = 8;
const _: () = assert!((AGGREGATES * EVENTS_EACH) as usize <= MOST);
/// What the events of one delivery may weigh: well below what a receiver reads, whatever their frames add.
const WEIGHT: usize = MESSAGE / 4;
/// How often the log is polled, beside the hints.
const POLL: Duration = Duration::from_secs(1);
/// How often a subscriber is told how far it is complete when there is nothing to deliver.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// After so many refusals an event is a dead letter, until a person replays it.
const REFUSALS: i32 = 12;

/// Delivers to one subscriber.
pub struct Relay {
    db: Db,
    source: &'static str,
    subscriber: &'static str,
    peer: Peer,
    horizon: Option<Horizon>,
    nudge: Arc<Notify>,
    told: watch::Sender<Option<Timestamp>>,
}

/// What the test clock needs of a relay.
#[derive(Clone)]
pub struct RelayHandle {
    /// Asks for a delivery or a heartbeat now.
    pub nudge: Arc<Notify>,
    /// Up to when the subscriber was told that it is complete.
    pub told: watch::Receiver<Option<Timestamp>>,
}

/// What a delivery came to.
enum Progress {
    /// Events were taken: there may be more at once.
    Taken,
    /// Some wait or were refused, and none was taken.
    PutOff,
    /// There was nothing to deliver.
    Nothing,
}

struct Leased {
    account: String,
    aggregate: String,
    sequence: i64,
    previous: i64,
    event: Vec<u8>,
    secret: Vec<u8>,
}

impl Leased {
    fn key(&self) -> (&str, &str) {
        (&self.account, &self.aggregate)
    }

    fn weight(&self) -> usize {
        self.event.len() + self.secret.len()
    }
}

/// What became of the aggregates of one lease.
#[derive(Default)]
struct Settled<'a> {
    /// The sequence of the last event that the receiver has of each.
    taken: BTreeMap<(&'a str, &'a str), i64>,
    /// Those that are done with for now: an event of theirs waits or was refused.
    stopped: BTreeSet<(&'a str, &'a str)>,
}

/// Whether a delivery that failed so would fail again because of what it carries. The others say that the receiver is
/// away or does not know us, which no event is to blame for.
fn blames_the_events(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument
            | Code::OutOfRange
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Internal
            | Code::DataLoss
    )
}

impl Relay {
    /// From a service to a subscriber.
    pub fn new(
        db: Db,
        (source, subscriber): (&'static str, &'static str),
        peer: Peer,
        horizon: Option<Horizon>,
    ) -> (Self, RelayHandle) {
        let (sender, told) = watch::channel(None);
        let nudge = Arc::new(Notify::new());
        let relay = Self {
            db,
            source,
            subscriber,
            peer,
            horizon,
            nudge: Arc::clone(&nudge),
            told: sender,
        };
        (relay, RelayHandle { nudge, told })
    }

    /// Delivers until told to stop.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut client = EventIntakeServiceClient::new(self.peer.clone());
        let mut failures = 0_u32;
        let mut told_at: Option<tokio::time::Instant> = None;
        loop {
            // Registered before the log is read, so that a hint that comes meanwhile is not missed.
            let hint = self.db.hint.notified();
            let nudge = self.nudge.notified();
            tokio::pin!(hint, nudge);
            hint.as_mut().enable();
            let pause;
            let beat = told_at.is_none_or(|at| at.elapsed() >= HEARTBEAT);
            let span = tracing::info_span!("relay", subscriber = self.subscriber);
            match caught(self.deliver(&mut client, beat))
                .instrument(span)
                .await
            {
                Ok(progress) => {
                    failures = 0;
                    if beat {
                        told_at = Some(tokio::time::Instant::now());
                    }
                    pause = match progress {
                        Progress::Taken if !shutdown.is_cancelled() => continue,
                        Progress::Taken | Progress::Nothing => POLL,
                        Progress::PutOff => Duration::from_millis(25),
                    };
                }
                Err(error) => {
                    pause = Duration::from_millis(50 << failures.min(6));
                    failures = failures.saturating_add(1);
                    if failures == 1 || failures.is_multiple_of(20) {
                        tracing::warn!(subscriber = self.subscriber, %error, failures, "delivery failed; it goes on");
                    }
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                () = &mut hint, if failures == 0 => {}
                () = &mut nudge => told_at = None,
            }
        }
    }

    /// One delivery.
    async fn deliver(
        &self,
        client: &mut EventIntakeServiceClient<Peer>,
        beat: bool,
    ) -> anyhow::Result<Progress> {
        let token = Uuid::now_v7();
        let leased = self.lease(token).await?;
        if leased.is_empty() && !beat {
            return Ok(Progress::Nothing);
        }
        let complete = complete_through(&self.db, self.subscriber, self.horizon.as_ref()).await?;
        let mut settled = Settled::default();
        let mut sent = false;
        // An aggregate's events go in their order: a later one waits for the earlier ones.
        let mut batches = vec![leased.iter().collect::<Vec<_>>()];
        while let Some(mut batch) = batches.pop() {
            batch.retain(|leased| !settled.stopped.contains(&leased.key()));
            if batch.is_empty() && !leased.is_empty() {
                continue;
            }
            let weight: usize = batch.iter().map(|leased| leased.weight()).sum();
            if weight <= WEIGHT || batch.len() == 1 {
                if sent {
                    // A piece takes its own time, of which the leases must not run out.
                    let lost = self.renew(token, &leased).await?;
                    settled.stopped.extend(lost);
                    batch.retain(|leased| !settled.stopped.contains(&leased.key()));
                    if batch.is_empty() {
                        continue;
                    }
                }
                sent = true;
                match self.send(client, &batch, &complete).await {
                    Ok(outcomes) => {
                        self.note(token, &batch, &outcomes, &mut settled).await?;
                        continue;
                    }
                    Err(status) if batch.is_empty() || !blames_the_events(&status) => {
                        self.acknowledge(token, &leased, &settled.taken).await?;
                        let all: Vec<_> = leased.iter().collect();
                        self.held(GIVE_BACK, token, &all).await?;
                        anyhow::bail!("{}: {}", status.code(), status.message());
                    }
                    Err(status) if batch.len() == 1 => {
                        let reason = format!("{}: {}", status.code(), status.message());
                        self.put_off(token, batch[0], true, &reason).await?;
                        settled.stopped.insert(batch[0].key());
                        continue;
                    }
                    Err(_) => {}
                }
            }
            // In halves, down to the one event that is at fault: it holds up its own aggregate alone.
            let behind = batch.split_off(batch.len() / 2);
            batches.extend([behind, batch]);
        }
        self.acknowledge(token, &leased, &settled.taken).await?;
        self.told.send_replace(Some(complete.0));
        Ok(if !settled.taken.is_empty() {
            Progress::Taken
        } else if !settled.stopped.is_empty() {
            Progress::PutOff
        } else {
            Progress::Nothing
        })
    }

    /// Leases the first events of aggregates that nobody holds. Each row carries the token, and every later write
    /// compares it: what another instance holds by then is left alone.
    async fn lease(&self, token: Uuid) -> Result<Vec<Leased>, Error> {
        let rows = self
            .db
            .query_planned(
                LEASE,
                &[
                    (&self.subscriber, Type::TEXT),
                    (&token, Type::UUID),
                    (&AGGREGATES, Type::INT8),
                    (&EVENTS_EACH, Type::INT8),
                ],
            )
            .await?;
        let mut leased = rows
            .iter()
            .map(|row| {
                Ok(Leased {
                    account: row_get(row, "account")?,
                    aggregate: row_get(row, "aggregate")?,
                    sequence: row_get(row, "sequence")?,
                    previous: row_get(row, "previous_sequence")?,
                    event: row_get(row, "body")?,
                    secret: row_get(row, "secret")?,
                })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        leased.sort_by(|a, b| (a.key(), a.sequence).cmp(&(b.key(), b.sequence)));
        Ok(leased)
    }

    /// Renews the leases that still hold; the aggregates of those that do not.
    async fn renew<'a>(
        &self,
        token: Uuid,
        leased: &'a [Leased],
    ) -> Result<Vec<(&'a str, &'a str)>, Error> {
        let rows = self
            .held(RENEW, token, &leased.iter().collect::<Vec<_>>())
            .await?;
        let mut held = BTreeSet::new();
        for row in &rows {
            let aggregate: &str = row_get(row, "aggregate")?;
            held.insert((aggregate, row_get::<i64>(row, "sequence")?));
        }
        let lost = leased
            .iter()
            .filter(|one| !held.contains(&(one.aggregate.as_str(), one.sequence)));
        Ok(lost.map(Leased::key).collect())
    }

    async fn send(
        &self,
        client: &mut EventIntakeServiceClient<Peer>,
        batch: &[&Leased],
        (complete, held): &(Timestamp, Vec<String>),
    ) -> Result<Vec<DeliveryOutcome>, Status> {
        let deliveries = batch.iter().map(|leased| Delivery {
            event: leased.event.clone(),
            sequence: leased.sequence,
            sealed_secret: leased.secret.clone(),
            previous_sequence: Some(leased.previous),
        });
        let request = DeliverEventsRequest {
            source: self.source.to_owned(),
            deliveries: deliveries.collect(),
            complete_through: Some(to_proto(*complete)),
            held_accounts: held.clone(),
        };
        let answer = client.deliver_events(request).await?;
        Ok(answer.into_inner().outcomes)
    }

    /// Notes what was taken and puts off what was not.
    async fn note<'a>(
        &self,
        token: Uuid,
        batch: &[&'a Leased],
        outcomes: &[DeliveryOutcome],
        settled: &mut Settled<'a>,
    ) -> Result<(), Error> {
        for (&leased, outcome) in batch.iter().zip(outcomes) {
            match outcome.result() {
                Outcome::Applied | Outcome::Duplicate => {
                    settled.taken.insert(leased.key(), leased.sequence);
                }
                result @ (Outcome::Waiting | Outcome::Refused | Outcome::Unspecified) => {
                    if settled.stopped.insert(leased.key()) {
                        let refused = result == Outcome::Refused;
                        self.put_off(token, leased, refused, &outcome.reason)
                            .await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Deletes what was taken.
    async fn acknowledge(
        &self,
        token: Uuid,
        leased: &[Leased],
        taken: &BTreeMap<(&str, &str), i64>,
    ) -> Result<(), Error> {
        let through = |one: &&Leased| {
            taken
                .get(&one.key())
                .is_some_and(|last| one.sequence <= *last)
        };
        let taken: Vec<&Leased> = leased.iter().filter(through).collect();
        self.held(TAKEN, token, &taken).await?;
        Ok(())
    }

    async fn put_off(
        &self,
        token: Uuid,
        leased: &Leased,
        refused: bool,
        reason: &str,
    ) -> Result<(), Error> {
        let rows = self
            .db
            .query(
                PUT_OFF,
                &[
                    &leased.account,
                    &self.subscriber,
                    &leased.aggregate,
                    &leased.sequence,
                    &i32::from(refused),
                    &reason,
                    &REFUSALS,
                    &token,
                ],
            )
            .await?;
        if let Some(row) = rows.first()
            && row_get(row, "parked")?
        {
            tracing::error!(
                subscriber = self.subscriber,
                aggregate = leased.aggregate,
                sequence = leased.sequence,
                reason,
                "an event is a dead letter: it was refused too often"
            );
        }
        Ok(())
    }

    /// Runs the rest of a statement on those of the rows that still carry the token.
    async fn held(&self, sql: &str, token: Uuid, rows: &[&Leased]) -> Result<Vec<Row>, Error> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let accounts: Vec<&str> = rows.iter().map(|one| one.account.as_str()).collect();
        let aggregates: Vec<&str> = rows.iter().map(|one| one.aggregate.as_str()).collect();
        let sequences: Vec<i64> = rows.iter().map(|one| one.sequence).collect();
        self.db
            .query_planned(
                &format!("{HELD}{sql}"),
                &[
                    (&self.subscriber, Type::TEXT),
                    (&accounts, Type::TEXT_ARRAY),
                    (&aggregates, Type::TEXT_ARRAY),
                    (&sequences, Type::INT8_ARRAY),
                    (&token, Type::UUID),
                ],
            )
            .await
    }
}

const LEASE: &str = "-- lease
    WITH head AS (
        SELECT d.account, d.aggregate
        FROM delivery d
        WHERE d.subscriber = $1 AND NOT d.parked AND d.due_at <= clock_timestamp()
          AND (d.lease_until IS NULL OR d.lease_until < clock_timestamp())
          AND NOT EXISTS (
              SELECT FROM delivery earlier
              WHERE earlier.account = d.account AND earlier.subscriber = d.subscriber
                AND earlier.aggregate = d.aggregate AND earlier.sequence < d.sequence)
        ORDER BY d.due_at
        LIMIT $3
        FOR UPDATE SKIP LOCKED
    ), batch AS (
        SELECT d.account, d.aggregate, d.sequence
        FROM head CROSS JOIN LATERAL (
            SELECT * FROM delivery d
            WHERE d.account = head.account AND d.subscriber = $1 AND d.aggregate = head.aggregate
            ORDER BY d.sequence
            LIMIT $4
        ) d
    )
    UPDATE delivery d
    SET lease_token = $2, lease_until = clock_timestamp() + interval '30 seconds'
    FROM batch b, event e
    WHERE d.account = b.account AND d.subscriber = $1 AND d.aggregate = b.aggregate AND d.sequence = b.sequence
      AND e.account = d.account AND e.id = d.event_id
    RETURNING d.account, d.aggregate, d.sequence, d.previous_sequence, coalesce(d.secret, '') AS secret, e.body";

/// The beginning of the three below. Rows are locked in one order, so that whoever lost a lease and whoever has it now do
/// not wait for each other.
const HELD: &str = "-- held
    WITH held AS (
        SELECT d.account, d.subscriber, d.aggregate, d.sequence
        FROM delivery d
        JOIN unnest($2::text[], $3::text[], $4::bigint[]) AS t (account, aggregate, sequence)
            ON d.account = t.account AND d.aggregate = t.aggregate AND d.sequence = t.sequence
        WHERE d.subscriber = $1 AND d.lease_token = $5
        ORDER BY d.account, d.aggregate, d.sequence
        FOR UPDATE OF d
    ) ";

const RENEW: &str = "
    UPDATE delivery SET lease_until = clock_timestamp() + interval '30 seconds'
    WHERE (account, subscriber, aggregate, sequence) IN (SELECT * FROM held)
    RETURNING aggregate, sequence";

const GIVE_BACK: &str = "
    UPDATE delivery SET lease_token = NULL, lease_until = NULL
    WHERE (account, subscriber, aggregate, sequence) IN (SELECT * FROM held)";

const TAKEN: &str = "
    DELETE FROM delivery WHERE (account, subscriber, aggregate, sequence) IN (SELECT * FROM held)";

const PUT_OFF: &str = "-- put_off
    UPDATE delivery
    SET attempts = attempts + 1,
        refusals = refusals + $5,
        parked = refusals + $5 >= $7,
        last_error = $6,
        lease_token = NULL,
        lease_until = NULL,
        due_at = clock_timestamp()
               + least(interval '20 milliseconds' * power(2, least(attempts, 12)), interval '30 seconds')
    WHERE account = $1 AND subscriber = $2 AND aggregate = $3 AND sequence = $4 AND lease_token = $8
    RETURNING parked";
