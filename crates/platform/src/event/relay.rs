//! Delivers a service's events to one subscriber. It leases them by aggregate, so that two instances share the work and
//! each aggregate stays in order; what a subscriber cannot take holds up its own aggregate only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use octroi_api::event::v1::delivery_outcome::Result as Outcome;
use octroi_api::event::v1::event_intake_service_client::EventIntakeServiceClient;
use octroi_api::event::v1::{DeliverEventsRequest, Delivery, DeliveryOutcome};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tracing::Instrument as _;
use uuid::Uuid;

use crate::db::Db;
use crate::error::Error;
use crate::event::lease::{Key, Leased, Leases, Start};
use crate::event::progress::{Horizon, complete_through};
use crate::limits::MESSAGE;
use crate::panic::caught;
use crate::peer::Peer;
use crate::time::to_proto;

/// How many deliveries are under way at once: each has other aggregates.
const AT_ONCE: usize = 4;
/// After how long another one begins though the last had all that was due: before, what comes meanwhile makes the next
/// one larger.
const SLOW: Duration = Duration::from_millis(100);
/// What the events of one delivery may weigh: well below what a receiver reads, whatever their frames add.
const WEIGHT: usize = MESSAGE / 4;
/// How often the log is polled, beside the hints.
const POLL: Duration = Duration::from_secs(1);
/// How often a subscriber is told how far it is complete when there is nothing to deliver.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// After what a subscriber put off, how long until the next look.
const PUT_OFF: Duration = Duration::from_millis(25);

/// Delivers to one subscriber.
pub struct Relay {
    db: Db,
    source: &'static str,
    leases: Leases,
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
    /// Some were taken; others wait or were refused, and what is behind them was given back.
    Partly,
    /// Some wait or were refused, and none was taken.
    PutOff,
    /// There was nothing to deliver.
    Nothing,
}

/// What became of the aggregates of one lease.
#[derive(Default)]
struct Settled<'a> {
    /// The sequence of the last event that the receiver has of each.
    taken: BTreeMap<Key<'a>, i64>,
    /// Those that are done with for now: an event of theirs waits or was refused, or the lease is lost.
    stopped: BTreeSet<Key<'a>>,
    /// The events that wait or were refused, whether they were, and why.
    put_off: Vec<(&'a Leased, bool, String)>,
}

impl<'a> Settled<'a> {
    fn stop(&mut self, leased: &'a Leased, refused: bool, reason: String) {
        if self.stopped.insert(leased.key()) {
            self.put_off.push((leased, refused, reason));
        }
    }

    fn note(&mut self, batch: &[&'a Leased], outcomes: &[DeliveryOutcome]) {
        for (&leased, outcome) in batch.iter().zip(outcomes) {
            match outcome.result() {
                Outcome::Applied | Outcome::Duplicate => {
                    self.taken.insert(leased.key(), leased.sequence);
                }
                result @ (Outcome::Waiting | Outcome::Refused | Outcome::Unspecified) => {
                    let refused = result == Outcome::Refused;
                    self.stop(leased, refused, outcome.reason.clone());
                }
            }
        }
    }
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
        let leases = Leases {
            db: db.clone(),
            subscriber,
        };
        let relay = Self {
            db,
            source,
            leases,
            peer,
            horizon,
            nudge: Arc::clone(&nudge),
            told: sender,
        };
        (relay, RelayHandle { nudge, told })
    }

    /// Delivers until told to stop.
    pub async fn run(self, shutdown: CancellationToken) {
        let subscriber = self.leases.subscriber;
        let client = EventIntakeServiceClient::new(self.peer.clone());
        let mut under_way = FuturesUnordered::new();
        let mut done = Vec::new();
        // The aggregates that are under way.
        let mut busy = BTreeSet::new();
        let mut failures = 0_u32;
        let mut told_at: Option<Instant> = None;
        let mut look_at = Instant::now();
        let mut start = Start::default();
        while !shutdown.is_cancelled() {
            for (leased, ended) in done.drain(..) {
                let leased: Vec<Leased> = leased;
                for leased in &leased {
                    busy.remove(&leased.owned_key());
                }
                match ended {
                    Ok(progress) => {
                        failures = 0;
                        look_at = Instant::now();
                        if let Progress::PutOff = progress {
                            look_at += PUT_OFF;
                        }
                        if let Progress::PutOff | Progress::Partly = progress {
                            start.again();
                        }
                    }
                    Err(error) => {
                        told_at = None;
                        look_at = self.failed(&mut failures, &error);
                        start.again();
                    }
                }
            }
            // Registered before the log is read, so that a hint that comes meanwhile is not missed.
            let hint = self.db.hint.notified();
            let nudge = self.nudge.notified();
            tokio::pin!(hint, nudge);
            hint.as_mut().enable();
            if look_at <= Instant::now() && under_way.len() < AT_ONCE {
                let token = Uuid::now_v7();
                let idle = under_way.is_empty();
                let beat = idle && told_at.is_none_or(|at| at.elapsed() >= HEARTBEAT);
                let span = tracing::info_span!("relay", subscriber);
                let lease = caught(async { Ok(self.leases.take(token, &busy, &mut start).await?) });
                // What is under way goes on meanwhile: it may hold what is waited for here.
                let lease = async {
                    let lease = lease.instrument(span.clone());
                    tokio::pin!(lease);
                    loop {
                        tokio::select! {
                            lease = &mut lease => return lease,
                            Some(ended) = under_way.next() => done.push(ended),
                        }
                    }
                };
                match lease.await {
                    Ok((leased, more)) => {
                        look_at = Instant::now();
                        if leased.is_empty() && !beat {
                            look_at += if more || idle { POLL } else { SLOW };
                        } else {
                            if beat {
                                told_at = Some(look_at);
                            }
                            if !more {
                                look_at += SLOW;
                            }
                            busy.extend(leased.iter().map(Leased::owned_key));
                            let (mut client, relay) = (client.clone(), &self);
                            under_way.push(async move {
                                let delivery = relay.deliver(&mut client, token, &leased);
                                let ended = caught(delivery).instrument(span).await;
                                (leased, ended)
                            });
                            continue;
                        }
                    }
                    Err(error) => {
                        look_at = self.failed(&mut failures, &error);
                        start.again();
                    }
                }
            }
            let look =
                look_at.max(Instant::now() + PUT_OFF * u32::from(under_way.len() == AT_ONCE));
            tokio::select! {
                () = shutdown.cancelled() => {}
                Some(ended) = under_way.next() => done.push(ended),
                () = sleep_until(look) => {}
                () = &mut hint, if failures == 0 && under_way.is_empty() => look_at = Instant::now(),
                () = &mut nudge => {
                    (told_at, look_at) = (None, Instant::now());
                    start.again();
                }
            }
        }
        while under_way.next().await.is_some() {}
    }

    /// Notes a failure; when to try again.
    fn failed(&self, failures: &mut u32, error: &anyhow::Error) -> Instant {
        let pause = Duration::from_millis(50 << (*failures).min(6));
        *failures = failures.saturating_add(1);
        if *failures == 1 || failures.is_multiple_of(20) {
            let subscriber = self.leases.subscriber;
            tracing::warn!(subscriber, %error, failures, "delivery failed; it goes on");
        }
        Instant::now() + pause
    }

    /// One delivery.
    async fn deliver(
        &self,
        client: &mut EventIntakeServiceClient<Peer>,
        token: Uuid,
        leased: &[Leased],
    ) -> anyhow::Result<Progress> {
        let complete =
            complete_through(&self.db, self.leases.subscriber, self.horizon.as_ref()).await?;
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
                    let lost = self.leases.renew(token, leased).await?;
                    settled.stopped.extend(lost);
                    batch.retain(|leased| !settled.stopped.contains(&leased.key()));
                    if batch.is_empty() {
                        continue;
                    }
                }
                sent = true;
                match self.send(client, &batch, &complete).await {
                    Ok(outcomes) => {
                        settled.note(&batch, &outcomes);
                        continue;
                    }
                    Err(status) if batch.is_empty() || !blames_the_events(&status) => {
                        self.settle(token, leased, &settled).await?;
                        anyhow::bail!("{}: {}", status.code(), status.message());
                    }
                    Err(status) if batch.len() == 1 => {
                        let reason = format!("{}: {}", status.code(), status.message());
                        settled.stop(batch[0], true, reason);
                        continue;
                    }
                    Err(_) => {}
                }
            }
            // In halves, down to the one event that is at fault: it holds up its own aggregate alone.
            let behind = batch.split_off(batch.len() / 2);
            batches.extend([behind, batch]);
        }
        self.settle(token, leased, &settled).await?;
        self.told.send_replace(Some(complete.0));
        let (taken, stopped) = (!settled.taken.is_empty(), !settled.stopped.is_empty());
        Ok(match (taken, stopped) {
            (true, false) => Progress::Taken,
            (true, true) => Progress::Partly,
            (false, true) => Progress::PutOff,
            (false, false) => Progress::Nothing,
        })
    }

    /// Writes what became of a lease: what was taken is deleted, what was not is put off, and the rest is given back.
    async fn settle(
        &self,
        token: Uuid,
        leased: &[Leased],
        settled: &Settled<'_>,
    ) -> Result<(), Error> {
        // Of each aggregate all through this sequence.
        let is_taken = |one: &&Leased| {
            let last = settled.taken.get(&one.key());
            last.is_some_and(|last| one.sequence <= *last)
        };
        let (taken, rest): (Vec<_>, Vec<_>) = leased.iter().partition(is_taken);
        self.leases.acknowledge(token, taken.into_iter()).await?;
        self.leases.put_off(token, &settled.put_off).await?;
        self.leases.give_back(token, rest.into_iter()).await
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
}
