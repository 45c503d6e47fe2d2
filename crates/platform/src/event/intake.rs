//! The inbox: applies other services' events, each exactly once, in the order of its aggregate, in one transaction with its
//! inbox row.

use std::future::Future;
use std::sync::Arc;

use futures_util::StreamExt as _;
use octroi_api::event::v1::delivery_outcome::Result as Outcome;
use octroi_api::event::v1::event::Payload;
use octroi_api::event::v1::event_intake_service_server::EventIntakeService;
use octroi_api::event::v1::{
    DeliverEventsRequest, DeliverEventsResponse, Delivery, DeliveryOutcome, Event,
};
use octroi_api::r#type::v1::ErrorReason;
use prost::Message as _;
use tonic::{Code, Request, Response, Status};
use tracing::Instrument as _;

use crate::call::{Call, TRACEPARENT};
use crate::db::{Db, row_get};
use crate::error::Error;
use crate::name::{AccountId, Name as _};
use crate::new_event::key;
use crate::params;
use crate::refusal::Refusal;
use crate::request::open;
use crate::time::from_proto;
use crate::tx::{Rows, Tx};

/// How many aggregates of one delivery are applied at the same time.
const AT_ONCE: usize = 4;
/// The most events in one delivery.
pub(crate) const MOST: usize = 500;
/// The most accounts that a delivery names as held.
pub(crate) const MOST_HELD: usize = 1_000;
/// The longest name of a resource that events are kept under, in bytes.
const MOST_NAME: usize = 256;

/// What a service does with other services' events.
pub trait Intake: Send + Sync + 'static {
    /// Applies an event within `tx`: reads with [`Tx::query`], queues writes, does not commit. Between aggregates any
    /// order of arrival must lead to the same state. Payloads are matched without `_`, so that none is forgotten.
    fn apply(
        &self,
        tx: &mut Tx,
        event: &Event,
        payload: &Payload,
        secret: Option<&[u8]>,
    ) -> impl Future<Output = Result<Applied, Error>> + Send;

    /// Called after events were applied and committed, to wake the work that they cause.
    fn applied(&self) {}
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// Its writes are queued, or it needs none.
    Done,
    /// Its type does not name this service. It waits: a release that names it knows what to do with it, and a mistake
    /// shows as a delivery that grows old.
    NotForUs,
}

/// Serves EventIntakeService.
pub struct IntakeApi<I> {
    /// Where the inbox is.
    pub db: Db,
    /// What applies the events.
    pub intake: Arc<I>,
}

#[tonic::async_trait]
impl<I: Intake> EventIntakeService for IntakeApi<I> {
    async fn deliver_events(
        &self,
        request: Request<DeliverEventsRequest>,
    ) -> Result<Response<DeliverEventsResponse>, Status> {
        let (call, (request, complete, held)) = open(request, |it, fields| {
            if it.source.is_empty() {
                fields.add("source", "must name the service that recorded the events");
            }
            if it.deliveries.len() > MOST {
                fields.add("deliveries", format!("must be at most {MOST}"));
            }
            let complete = it.complete_through.as_ref().map(from_proto);
            if complete == Some(None) {
                fields.add("complete_through", "must be an instant");
            }
            let held = it.held_accounts.iter().map(|name| AccountId::parse(name));
            let held = held.map(|id| id.filter(|id| id.as_str() != "-"));
            let held = held.collect::<Option<Vec<_>>>();
            let held = held.filter(|held| held.len() <= MOST_HELD);
            let rule = format!("must be at most {MOST_HELD}, each accounts/{{account}}");
            let held = fields.check("held_accounts", held.ok_or(rule));
            Some((it, complete.flatten(), held?))
        })?;
        if call.caller.subject != format!("service:{}", request.source) {
            let message = "a service delivers its own events only";
            let reason = ErrorReason::ServicesOnly;
            return Err(Refusal::shared(Code::PermissionDenied, reason, message).status());
        }
        let outcomes = self.apply_all(&request.source, request.deliveries).await;
        if outcomes
            .iter()
            .any(|outcome| outcome.result() == Outcome::Applied)
        {
            self.intake.applied();
        }
        if let Some(told) = complete {
            // Who has told everything up to a later instant has told everything up to now.
            let now = self.db.clock.now();
            let complete = told.min(now);
            if told > now {
                let source = request.source.as_str();
                tracing::warn!(source, %told, "a service's clock is ahead, or this one's is behind");
            }
            self.db
                .execute(
                    "-- progress
                     INSERT INTO intake_progress (source, complete_through, held_accounts) VALUES ($1, $2, $3)
                     ON CONFLICT (source) DO UPDATE
                     SET complete_through = excluded.complete_through, held_accounts = excluded.held_accounts
                     WHERE intake_progress.complete_through <= excluded.complete_through
                        OR intake_progress.complete_through > $4",
                    &[&request.source, &complete, &held, &now],
                )
                .await?;
        }
        Ok(Response::new(DeliverEventsResponse { outcomes }))
    }
}

/// An aggregate's name and its events, each with its place in the request.
type Aggregate = (String, Vec<(usize, Delivery, Event)>);

impl<I: Intake> IntakeApi<I> {
    /// Applies aggregates side by side and each aggregate's events in order.
    async fn apply_all(&self, source: &str, deliveries: Vec<Delivery>) -> Vec<DeliveryOutcome> {
        let mut groups: Vec<Aggregate> = Vec::new();
        let mut outcomes = vec![DeliveryOutcome::default(); deliveries.len()];
        for (at, delivery) in deliveries.into_iter().enumerate() {
            match Event::decode(delivery.event.as_slice()) {
                Ok(event) => match groups.iter_mut().find(|group| group.0 == event.aggregate) {
                    Some(group) => group.1.push((at, delivery, event)),
                    None => groups.push((event.aggregate.clone(), vec![(at, delivery, event)])),
                },
                Err(_) => outcomes[at] = outcome(Outcome::Refused, "the event cannot be decoded"),
            }
        }
        let applied: Vec<Vec<(usize, DeliveryOutcome)>> = futures_util::stream::iter(groups)
            .map(|(_, events)| async move {
                let mut outcomes = Vec::with_capacity(events.len());
                for (at, delivery, event) in events {
                    // Of the call that the event came of, not of the delivery.
                    let span = tracing::info_span!(
                        "event",
                        id = event.id,
                        r#type = event.r#type,
                        traceparent = event.traceparent
                    );
                    let applied = self.apply(source, &delivery, &event).instrument(span);
                    outcomes.push((at, applied.await));
                }
                outcomes
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for (at, outcome) in applied.into_iter().flatten() {
            outcomes[at] = outcome;
        }
        outcomes
    }

    async fn apply(&self, source: &str, delivery: &Delivery, event: &Event) -> DeliveryOutcome {
        match self.try_apply(source, delivery, event).await {
            Ok(outcome) => outcome,
            Err(error) if error.is_transient() => outcome(Outcome::Waiting, &error.to_string()),
            Err(error) => {
                tracing::warn!(
                    source,
                    aggregate = event.aggregate,
                    sequence = delivery.sequence,
                    r#type = event.r#type,
                    error = format!("{:#}", anyhow::Error::new(error)),
                    "an event could not be applied"
                );
                outcome(
                    Outcome::Refused,
                    "it could not be applied; the receiver's log says why",
                )
            }
        }
    }

    async fn try_apply(
        &self,
        source: &str,
        delivery: &Delivery,
        event: &Event,
    ) -> Result<DeliveryOutcome, Error> {
        let known = event.payload.as_ref();
        let Some(payload) = known.filter(|it| it.event_type().name == event.r#type) else {
            return Ok(outcome(Outcome::Waiting, "its type is not known here"));
        };
        // Only this event is refused: the source's own events in the same call are good.
        if payload.event_type().source != source {
            tracing::warn!(
                source,
                r#type = event.r#type,
                "an event is not its source's"
            );
            return Ok(outcome(
                Outcome::Refused,
                "events of its type are another service's to tell",
            ));
        }
        if !is_of_one_account(event, payload) {
            let (source, r#type) = (source, &event.r#type);
            tracing::warn!(
                source,
                r#type,
                "an event is not of the account that it names"
            );
            let reason = "its names are not of the account that it is kept under";
            return Ok(outcome(Outcome::Refused, reason));
        }
        let of = event.account.strip_prefix("accounts/").unwrap_or_default();
        let account = key(of, &event.aggregate).to_owned();
        let effective = event.effective_time.as_ref().map(from_proto);
        let Some(now) = effective.unwrap_or_else(|| Some(self.db.clock.now())) else {
            return Ok(outcome(
                Outcome::Refused,
                "its effective_time is no instant",
            ));
        };
        let mut call = Call::background(now, "octroi.event.v1.EventIntakeService/DeliverEvents");
        call.traceparent.clone_from(&event.traceparent);
        let (mut tx, rows) = self
            .db
            .begin_work(
                &call,
                "-- inbox
                 SELECT sequence FROM inbox
                 WHERE account = $1 AND source = $2 AND aggregate = $3 FOR UPDATE",
                &[&account, &source, &event.aggregate],
            )
            .await?;
        let last: Option<i64> = rows
            .first()
            .map(|row| row_get(row, "sequence"))
            .transpose()?;
        let had = last.unwrap_or(0);
        let place = place(had, delivery.previous_sequence, delivery.sequence);
        if place != Outcome::Applied {
            tx.rollback().await;
            let missing = "an earlier event of the aggregate is missing";
            return Ok(outcome(
                place,
                if place == Outcome::Waiting {
                    missing
                } else {
                    ""
                },
            ));
        }
        let secret =
            (!delivery.sealed_secret.is_empty()).then_some(delivery.sealed_secret.as_slice());
        // First, so that of twins the later stops here, before it meets what the earlier wrote.
        let key = params![
            account,
            source.to_owned(),
            event.aggregate.clone(),
            delivery.sequence,
            had,
        ];
        let advance = if last.is_some() {
            "-- advance
             UPDATE inbox SET sequence = $4
             WHERE account = $1 AND source = $2 AND aggregate = $3 AND sequence = $5"
        } else {
            "-- open
             INSERT INTO inbox (account, source, aggregate, sequence) SELECT $1, $2, $3, $4 WHERE $5::bigint = 0"
        };
        tx.write(advance, key, Rows::Exactly(1));
        let traceparent = event.traceparent.clone();
        let applied = self.intake.apply(&mut tx, event, payload, secret);
        if TRACEPARENT.scope(traceparent, applied).await? == Applied::NotForUs {
            tx.rollback().await;
            let why = "events of its type are not for this service";
            return Ok(outcome(Outcome::Waiting, why));
        }
        match tx.commit_work().await {
            Ok(()) => Ok(outcome(Outcome::Applied, "")),
            // A twin of this delivery won; the next try finds it applied.
            Err(error) if error.violates("inbox_pkey") => {
                Ok(outcome(Outcome::Waiting, "the same event is being applied"))
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether an event is kept under the account that what it happened to, and what its payload names by an account's name,
/// belongs to.
fn is_of_one_account(event: &Event, payload: &Payload) -> bool {
    if event.aggregate.len() > MOST_NAME {
        return false;
    }
    if event.account.is_empty() {
        return !event.aggregate.starts_with("accounts/");
    }
    let of_it = |name: &str| {
        let below = name.strip_prefix(&event.account);
        below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    AccountId::parse(&event.account).is_some()
        && of_it(&event.aggregate)
        && payload
            .names()
            .into_iter()
            .all(|name| !name.starts_with("accounts/") || of_it(name))
}

/// Whether to apply an event of an aggregate whose events through `had` were applied: it must be later than those, and its
/// predecessor for this subscriber, `previous`, among them. Senders without routing give no predecessor.
fn place(had: i64, previous: Option<i64>, sequence: i64) -> Outcome {
    let previous = previous.unwrap_or_else(|| sequence.saturating_sub(1));
    if sequence <= had {
        Outcome::Duplicate
    } else if previous > had {
        Outcome::Waiting
    } else {
        Outcome::Applied
    }
}

fn outcome(result: Outcome, reason: &str) -> DeliveryOutcome {
    DeliveryOutcome {
        result: result.into(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A receiver of events 2, 5 and 6 of an aggregate, one line for how far it has come.
    #[test]
    fn an_event_is_taken_after_the_one_before_it_and_once() {
        use Outcome::{Applied, Duplicate, Waiting};
        for (had, expected) in [
            (0, [Applied, Waiting, Waiting]),
            (2, [Duplicate, Applied, Waiting]),
            // What an earlier release took was numbered without regard to whom it is for.
            (1, [Applied, Waiting, Waiting]),
            (3, [Duplicate, Applied, Waiting]),
            (4, [Duplicate, Applied, Waiting]),
            (5, [Duplicate, Duplicate, Applied]),
            (6, [Duplicate; 3]),
            (7, [Duplicate; 3]),
        ] {
            let places =
                [(0, 2), (2, 5), (5, 6)].map(|(previous, it)| place(had, Some(previous), it));
            assert_eq!(places, expected, "had {had}");
        }
    }

    /// Events 4 and 5 from a release that does not route: each follows the one before it.
    #[test]
    fn an_event_of_no_known_predecessor_follows_the_one_before_it() {
        use Outcome::{Applied, Duplicate, Waiting};
        for (had, expected) in [
            (0, [Waiting, Waiting]),
            (3, [Applied, Waiting]),
            (4, [Duplicate, Applied]),
            (5, [Duplicate; 2]),
        ] {
            assert_eq!([4, 5].map(|it| place(had, None, it)), expected, "had {had}");
        }
        assert_eq!(place(0, None, 1), Applied);
    }
}
