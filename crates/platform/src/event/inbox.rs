//! The inbox: applies other services' events, each exactly once, in the order of its aggregate, in a transaction with its
//! inbox row.

use std::collections::{HashMap, HashSet, VecDeque};

use jiff::Timestamp;
use octroi_api::event::v1::delivery_outcome::Result as Outcome;
use octroi_api::event::v1::event::Payload;
use octroi_api::event::v1::{Delivery, DeliveryOutcome, Event};
use prost::Message as _;
use tokio_postgres::types::{ToSql, Type};
use tracing::Instrument as _;

use crate::call::{Call, TRACEPARENT};
use crate::db::row_get;
use crate::error::Error;
use crate::intake::{Applied, Intake, IntakeApi};
use crate::name::{AccountId, Name as _};
use crate::new_event::key;
use crate::params;
use crate::time::from_proto;
use crate::tx::{Rows, Tx};

/// How many events are applied in one transaction. Those of one account are never in two, as they might wait for each
/// other.
const TOGETHER: usize = 64;
/// How often the events of one transaction wait for what is locked, and how long. Whoever delivers them comes again.
const WAITS: usize = 8;
const PATIENCE: &str = "SET LOCAL lock_timeout = '50ms'";
const NO_PATIENCE: &str = "SET LOCAL lock_timeout = '1ms'";
const MISSING: &str = "an earlier event of the aggregate is missing";
/// The longest name of a resource that events are kept under, in bytes.
const MOST_NAME: usize = 256;

/// An event to apply, with its place in the request.
struct Arrived {
    at: usize,
    account: String,
    now: Timestamp,
    delivery: Delivery,
    event: Event,
}

/// What became of events, each by its place in the request.
type Outcomes = Vec<(usize, DeliveryOutcome)>;

impl<I: Intake> IntakeApi<I> {
    /// Applies events, many in one transaction and an account's in their order.
    pub(super) async fn apply_all(
        &self,
        source: &str,
        deliveries: Vec<Delivery>,
    ) -> Vec<DeliveryOutcome> {
        let mut outcomes = vec![DeliveryOutcome::default(); deliveries.len()];
        let mut arrived = Vec::with_capacity(deliveries.len());
        for (at, delivery) in deliveries.into_iter().enumerate() {
            match self.read(source, at, delivery) {
                Ok(one) => arrived.push(one),
                Err(other) => outcomes[at] = other,
            }
        }
        arrived.sort_by(|a, b| a.account.cmp(&b.account));
        let mut together: Vec<Vec<Arrived>> = Vec::new();
        for one in arrived {
            let is_next = |last: &&mut Vec<Arrived>| {
                last.len() < TOGETHER || last.last().is_some_and(|it| it.account == one.account)
            };
            match together.last_mut().filter(is_next) {
                Some(last) => last.push(one),
                None => together.push(vec![one]),
            }
        }
        for events in together {
            for (at, outcome) in self.apply(source, events).await {
                outcomes[at] = outcome;
            }
        }
        outcomes
    }

    /// An event that may be applied, or what becomes of it.
    fn read(
        &self,
        source: &str,
        at: usize,
        delivery: Delivery,
    ) -> Result<Arrived, DeliveryOutcome> {
        let refused = |why| outcome(Outcome::Refused, why);
        let event = Event::decode(delivery.event.as_slice())
            .map_err(|_| refused("the event cannot be decoded"))?;
        let known = event.payload.as_ref().map(Payload::event_type);
        let known = known.filter(|known| known.name == event.r#type);
        let known = known.ok_or_else(|| outcome(Outcome::Waiting, "its type is not known here"))?;
        let r#type = &event.r#type;
        // Only this event is refused: the source's own events in the same call are good.
        if known.source != source {
            tracing::warn!(source, r#type, "an event is not its source's");
            return Err(refused("events of its type are another service's to tell"));
        }
        if !is_of_one_account(&event) {
            let what = "an event is not of the account that it names";
            tracing::warn!(source, r#type, "{what}");
            let why = "its names are not of the account that it is kept under";
            return Err(refused(why));
        }
        let of = event.account.strip_prefix("accounts/").unwrap_or_default();
        let account = key(of, &event.aggregate).to_owned();
        let effective = event.effective_time.as_ref().map(from_proto);
        let now = effective.unwrap_or_else(|| Some(self.db.clock.now()));
        Ok(Arrived {
            at,
            account,
            now: now.ok_or_else(|| refused("its effective_time is no instant"))?,
            delivery,
            event,
        })
    }

    /// Applies events in one transaction. Where one fails, the others are applied without it and without what follows it
    /// in its aggregate. It is refused only where nothing was applied before it. After a failure few are tried together,
    /// and more with each success: however many fail, no event is tried often for the others' sake.
    async fn apply(&self, source: &str, events: Vec<Arrived>) -> Outcomes {
        let mut outcomes = Vec::with_capacity(events.len());
        let mut rest = VecDeque::from(events);
        let (mut most, mut waits) = (rest.len(), 0);
        while !rest.is_empty() {
            let tried = most.min(rest.len());
            let patience = if waits < WAITS { PATIENCE } else { NO_PATIENCE };
            let events = &rest.make_contiguous()[..tried];
            let (at, error) = match self.try_apply(source, events, patience).await {
                Ok(applied) => {
                    outcomes.extend(applied);
                    rest.drain(..tried);
                    most = tried.saturating_mul(2);
                    continue;
                }
                Err(failed) => failed,
            };
            let is_away = error.is_away();
            let at = at.or((is_away || tried == 1).then_some(0));
            // Those before it went well; who is at fault among many is in one half of them.
            most = at.unwrap_or(tried / 2).max(1);
            waits += usize::from(error.is_transient());
            let is_final = |at: &usize| *at == 0 || error.is_transient();
            let Some(at) = at.filter(is_final) else {
                continue;
            };
            let mut behind = rest.split_off(at);
            let Some(one) = behind.pop_front() else {
                continue;
            };
            let first = failed(source, &one, error);
            let left = match first.result() {
                Outcome::Refused => outcome(Outcome::Waiting, MISSING),
                _ => first.clone(),
            };
            outcomes.push((one.at, first));
            if is_away {
                behind.extend(rest.drain(..));
            }
            behind.retain(|other| {
                let goes_on = !is_away && other.event.aggregate != one.event.aggregate;
                if !goes_on {
                    outcomes.push((other.at, left.clone()));
                }
                goes_on
            });
            rest.append(&mut behind);
        }
        outcomes
    }

    /// Applies events in one transaction. A failure says which event met it, where that is known.
    async fn try_apply(
        &self,
        source: &str,
        events: &[Arrived],
        patience: &str,
    ) -> Result<Outcomes, (Option<usize>, Error)> {
        let Some(first) = events.first() else {
            return Ok(Vec::new());
        };
        let somewhere = |error| (None, error);
        let mut had = self.had(source, events).await.map_err(somewhere)?;
        let call = Call::background(
            first.now,
            "octroi.event.v1.EventIntakeService/DeliverEvents",
        );
        let begun = self.db.begin_work(&call, patience, &[]).await;
        let (mut tx, _) = begun.map_err(somewhere)?;
        let mut outcomes = Vec::with_capacity(events.len());
        // How many writes there were at the end of each event.
        let mut ends: Vec<usize> = Vec::with_capacity(events.len());
        let met = |ends: &[usize], (write, error): (Option<usize>, Error)| {
            (
                write.map(|write| ends.partition_point(|end| *end <= write)),
                error,
            )
        };
        let mut seen = HashSet::new();
        for (at, one) in events.iter().enumerate() {
            let aggregate = one.event.aggregate.as_str();
            let last = had.get(aggregate).copied();
            let delivery = &one.delivery;
            let previous = delivery.previous_sequence;
            let mut result = place(last.unwrap_or(0), previous, delivery.sequence);
            let mut why = "";
            match result {
                Outcome::Applied => {
                    if !seen.insert(aggregate) {
                        // What the one before it wrote is there when it looks.
                        tx.flush().await.map_err(|failed| met(&ends, failed))?;
                    }
                    advance(&mut tx, source, one, last);
                    let applied = self.apply_one(&mut tx, one).await;
                    match applied.map_err(|error| (Some(at), error))? {
                        Applied::Done => {
                            had.insert(aggregate.to_owned(), delivery.sequence);
                        }
                        Applied::NotForUs => {
                            tx.withdraw();
                            result = Outcome::Waiting;
                            why = "events of its type are not for this service";
                        }
                    }
                }
                Outcome::Waiting => why = MISSING,
                _ => {}
            }
            ends.push(tx.written());
            outcomes.push((one.at, outcome(result, why)));
        }
        tx.flush().await.map_err(|failed| met(&ends, failed))?;
        tx.commit_work().await.map_err(somewhere)?;
        Ok(outcomes)
    }

    /// Applies one of them, in the trace of the call that it came of and not of the delivery.
    async fn apply_one(&self, tx: &mut Tx, one: &Arrived) -> Result<Applied, Error> {
        let event = &one.event;
        let Some(payload) = &event.payload else {
            return Ok(Applied::NotForUs);
        };
        tx.serve(one.now, &event.traceparent);
        let secret = &one.delivery.sealed_secret;
        let secret = (!secret.is_empty()).then_some(secret.as_slice());
        let applied = self.intake.apply(tx, event, payload, secret);
        let span = tracing::info_span!(
            "event",
            id = event.id,
            r#type = event.r#type,
            traceparent = event.traceparent
        );
        let applied = TRACEPARENT.scope(event.traceparent.clone(), applied);
        applied.instrument(span).await
    }

    /// Through which sequence of each aggregate events were applied; none where none was. Read without locks: each write
    /// finds whether it is still so.
    async fn had(&self, source: &str, events: &[Arrived]) -> Result<HashMap<String, i64>, Error> {
        let accounts: Vec<_> = events.iter().map(|one| &one.account).collect();
        let aggregates: Vec<_> = events.iter().map(|one| &one.event.aggregate).collect();
        let of = [
            (&source as &(dyn ToSql + Sync), Type::TEXT),
            (&accounts, Type::TEXT_ARRAY),
            (&aggregates, Type::TEXT_ARRAY),
        ];
        let rows = self.db.query_by_key(INBOX, &of).await?;
        let had = |row| Ok((row_get(row, "aggregate")?, row_get(row, "sequence")?));
        rows.iter().map(had).collect()
    }
}

/// Queues the inbox's row, before what the event writes: of twins the later stops here, before it meets what the earlier
/// wrote.
fn advance(tx: &mut Tx, source: &str, one: &Arrived, last: Option<i64>) {
    let key = params![
        one.account.clone(),
        source.to_owned(),
        one.event.aggregate.clone(),
        one.delivery.sequence,
        last.unwrap_or(0),
    ];
    let sql = if last.is_some() {
        "-- advance
         UPDATE inbox SET sequence = $4
         WHERE account = $1 AND source = $2 AND aggregate = $3 AND sequence = $5"
    } else {
        "-- open
         INSERT INTO inbox (account, source, aggregate, sequence) SELECT $1, $2, $3, $4 WHERE $5::bigint = 0"
    };
    tx.write(sql, key, Rows::Exactly(1));
}

/// What becomes of an event that could not be applied, and of those that follow it.
fn failed(source: &str, one: &Arrived, error: Error) -> DeliveryOutcome {
    // A twin of this delivery won; the next try finds it applied.
    if error.violates("inbox_pkey") {
        return outcome(Outcome::Waiting, "the same event is being applied");
    }
    if error.is_transient() {
        return outcome(Outcome::Waiting, &error.to_string());
    }
    tracing::warn!(
        source,
        aggregate = one.event.aggregate,
        sequence = one.delivery.sequence,
        r#type = one.event.r#type,
        error = format!("{:#}", anyhow::Error::new(error)),
        "an event could not be applied"
    );
    outcome(
        Outcome::Refused,
        "it could not be applied; the receiver's log says why",
    )
}

/// Each by its key.
const INBOX: &str = "-- inbox
    SELECT i.aggregate, i.sequence
    FROM unnest($2::text[], $3::text[]) AS t (account, aggregate)
    JOIN inbox i ON i.account = t.account AND i.source = $1 AND i.aggregate = t.aggregate";

/// Whether an event is kept under the account that what it happened to, and what its payload names by an account's name,
/// belongs to.
fn is_of_one_account(event: &Event) -> bool {
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
        && event
            .payload
            .iter()
            .flat_map(Payload::names)
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
