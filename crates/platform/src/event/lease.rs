//! Leases on deliveries. What is due is read in the order of an index and without locks, then claimed by a guarded write
//! that names its accounts; every later write compares the token, so that what another instance holds by then is left
//! alone.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Duration, Instant};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::db::{Db, row_get};
use crate::error::Error;
use crate::intake::MOST;

/// After so many refusals an event is a dead letter, until a person replays it.
const REFUSALS: i32 = 12;

/// How often the queue is read from its beginning.
const WHOLE: Duration = Duration::from_secs(1);
/// How long before what was found last it is read else: what came a little later may be due a little earlier.
const OVERLAP: SignedDuration = SignedDuration::from_millis(100);

/// Where the queue is read from. What was taken lies before, in the index still, and is not passed over each time.
#[derive(Default)]
pub(super) struct Start {
    from: Option<Timestamp>,
    whole_at: Option<Instant>,
}

impl Start {
    /// From the beginning next.
    pub(super) fn again(&mut self) {
        *self = Self::default();
    }

    fn at(&mut self, now: Instant) -> Timestamp {
        if self.whole_at.is_none_or(|at| at <= now) {
            (self.from, self.whole_at) = (None, Some(now + WHOLE));
        }
        self.from.unwrap_or(Timestamp::UNIX_EPOCH)
    }

    fn found(&mut self, last: Timestamp) {
        self.from = self.from.max(last.checked_sub(OVERLAP).ok());
    }
}

/// An aggregate's account and name.
pub(super) type Key<'a> = (&'a str, &'a str);
/// The same, kept.
pub(super) type OwnedKey = (String, String);

/// The deliveries to one subscriber.
pub(super) struct Leases {
    pub(super) db: Db,
    pub(super) subscriber: &'static str,
}

/// A delivery that is leased.
pub(super) struct Leased {
    pub(super) account: String,
    pub(super) aggregate: String,
    pub(super) sequence: i64,
    pub(super) previous: i64,
    pub(super) event: Vec<u8>,
    pub(super) secret: Vec<u8>,
}

impl Leased {
    pub(super) fn key(&self) -> Key<'_> {
        (&self.account, &self.aggregate)
    }

    pub(super) fn owned_key(&self) -> OwnedKey {
        (self.account.clone(), self.aggregate.clone())
    }

    pub(super) fn weight(&self) -> usize {
        self.event.len() + self.secret.len()
    }

    fn place(&self) -> Place<'_> {
        (&self.account, &self.aggregate, self.sequence)
    }
}

/// Account, aggregate and sequence of a delivery.
type Place<'a> = (&'a str, &'a str, i64);

/// A delivery that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Due {
    account: String,
    aggregate: String,
    sequence: i64,
    previous: i64,
    /// When to look again for what it waits behind: an earlier delivery of its aggregate, which was not due.
    behind: Option<Timestamp>,
}

impl Due {
    fn place(&self) -> Place<'_> {
        (&self.account, &self.aggregate, self.sequence)
    }
}

/// What is done with what is due: claimed, or set aside until what it waits behind is looked at.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    claimed: Vec<Due>,
    aside: Vec<(Due, Timestamp)>,
}

/// Of each aggregate that is not busy, what is due from its first delivery on, without a gap. What waits behind something
/// else is set aside, in its order, so that it is not read again until then and keeps nothing else from being read.
fn plan(mut due: Vec<Due>, busy: &BTreeSet<OwnedKey>) -> Plan {
    due.sort_by(|a, b| a.place().cmp(&b.place()));
    let mut plan = Plan::default();
    let mut last: Option<(OwnedKey, i64, Option<Timestamp>)> = None;
    for one in due {
        let key = (one.account.clone(), one.aggregate.clone());
        if busy.contains(&key) {
            continue;
        }
        let until = match last.take() {
            Some((before, _, Some(until))) if before == key => Some(until),
            Some((before, sequence, None)) if before == key && sequence == one.previous => None,
            _ => one.behind,
        };
        let until = until.map(|until| {
            let after = SignedDuration::from_micros(1);
            until.checked_add(after).unwrap_or(Timestamp::MAX)
        });
        last = Some((key, one.sequence, until));
        match until {
            None => plan.claimed.push(one),
            Some(until) => plan.aside.push((one, until)),
        }
    }
    plan
}

impl Leases {
    /// Leases what is due of aggregates that are not busy, and tells whether there may be more of it.
    pub(super) async fn take(
        &self,
        token: Uuid,
        busy: &BTreeSet<OwnedKey>,
        start: &mut Start,
    ) -> Result<(Vec<Leased>, bool), Error> {
        let most = i64::try_from(MOST).unwrap_or(i64::MAX);
        let from = start.at(Instant::now());
        let of = [
            (&self.subscriber as _, Type::TEXT),
            (&most as _, Type::INT8),
            (&from as _, Type::TIMESTAMPTZ),
        ];
        let rows = self.db.query_planned(DUE, &of).await?;
        let due = rows.iter().map(|row| {
            Ok(Due {
                account: row_get(row, "account")?,
                aggregate: row_get(row, "aggregate")?,
                sequence: row_get(row, "sequence")?,
                previous: row_get(row, "previous_sequence")?,
                behind: row_get(row, "behind")?,
            })
        });
        let due: Vec<Due> = due.collect::<Result<_, Error>>()?;
        // What is busy is looked for again.
        let is_busy = |one: &Due| busy.contains(&(one.account.clone(), one.aggregate.clone()));
        let last = due
            .iter()
            .position(is_busy)
            .unwrap_or(rows.len().saturating_sub(1));
        if let Some(last) = rows.get(last) {
            start.found(row_get(last, "due_at")?);
        }
        let plan = plan(due, busy);
        let until: Vec<_> = plan.aside.iter().map(|(_, until)| *until).collect();
        let aside = plan.aside.iter().map(|(due, _)| due.place());
        self.write(ASIDE, aside, &[(&until, Type::TIMESTAMPTZ_ARRAY)])
            .await?;
        let more = rows.len() >= MOST && !(plan.claimed.is_empty() && plan.aside.is_empty());
        let leased = self.claim(token, &plan.claimed).await?;
        if leased.len() < plan.claimed.len() {
            start.again();
        }
        Ok((leased, more))
    }

    /// Claims what is due, of each aggregate up to the first that somebody else has by now.
    async fn claim(&self, token: Uuid, due: &[Due]) -> Result<Vec<Leased>, Error> {
        let places = due.iter().map(Due::place);
        let rows = self.write(CLAIM, places, &[(&token, Type::UUID)]).await?;
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
        leased.sort_by(|a, b| a.place().cmp(&b.place()));
        let claimed: BTreeSet<_> = leased.iter().map(Leased::place).collect();
        let mut lost = BTreeMap::new();
        for (account, aggregate, sequence) in due.iter().map(Due::place) {
            if !claimed.contains(&(account, aggregate, sequence)) {
                lost.entry((account, aggregate)).or_insert(sequence);
            }
        }
        let (behind, whole): (Vec<_>, Vec<_>) = leased.into_iter().partition(|one| {
            lost.get(&one.key())
                .is_some_and(|lost| one.sequence > *lost)
        });
        self.give_back(token, behind.iter()).await?;
        Ok(whole)
    }

    /// Renews the leases that still hold; the aggregates of those that do not.
    pub(super) async fn renew<'a>(
        &self,
        token: Uuid,
        leased: &'a [Leased],
    ) -> Result<Vec<Key<'a>>, Error> {
        let places = leased.iter().map(Leased::place);
        let rows = self.write(RENEW, places, &[(&token, Type::UUID)]).await?;
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

    /// Ends those of the leases that still hold.
    pub(super) async fn give_back<'a>(
        &self,
        token: Uuid,
        leased: impl Iterator<Item = &'a Leased>,
    ) -> Result<(), Error> {
        let places = leased.map(Leased::place);
        self.write(GIVE_BACK, places, &[(&token, Type::UUID)])
            .await?;
        Ok(())
    }

    /// Deletes what was taken.
    pub(super) async fn acknowledge<'a>(
        &self,
        token: Uuid,
        taken: impl Iterator<Item = &'a Leased>,
    ) -> Result<(), Error> {
        let places = taken.map(Leased::place);
        self.write(TAKEN, places, &[(&token, Type::UUID)]).await?;
        Ok(())
    }

    /// Puts off what was not taken, each with whether it was refused and why; what was refused too often is a dead letter.
    pub(super) async fn put_off(
        &self,
        token: Uuid,
        not_taken: &[(&Leased, bool, String)],
    ) -> Result<(), Error> {
        let places = not_taken.iter().map(|(leased, ..)| leased.place());
        let refused: Vec<_> = not_taken.iter().map(|(_, it, _)| i32::from(*it)).collect();
        let reasons: Vec<_> = not_taken.iter().map(|(.., reason)| reason).collect();
        let more: [Given<'_>; 4] = [
            (&token, Type::UUID),
            (&refused, Type::INT4_ARRAY),
            (&reasons, Type::TEXT_ARRAY),
            (&REFUSALS, Type::INT4),
        ];
        for row in self.write(PUT_OFF, places, &more).await? {
            if row_get(&row, "parked")? {
                tracing::error!(
                    subscriber = self.subscriber,
                    aggregate = row_get::<&str>(&row, "aggregate")?,
                    sequence = row_get::<i64>(&row, "sequence")?,
                    reason = row_get::<&str>(&row, "last_error")?,
                    "an event is a dead letter: it was refused too often"
                );
            }
        }
        Ok(())
    }

    /// A statement on some deliveries: `$1` subscriber, `$2` accounts, `$3` aggregates, `$4` sequences, and more.
    async fn write<'a>(
        &self,
        sql: &str,
        places: impl Iterator<Item = Place<'a>>,
        more: &[Given<'_>],
    ) -> Result<Vec<Row>, Error> {
        let (mut accounts, mut aggregates, mut sequences) = (vec![], vec![], vec![]);
        for (account, aggregate, sequence) in places {
            accounts.push(account);
            aggregates.push(aggregate);
            sequences.push(sequence);
        }
        if accounts.is_empty() {
            return Ok(Vec::new());
        }
        let of: [Given<'_>; 4] = [
            (&self.subscriber, Type::TEXT),
            (&accounts, Type::TEXT_ARRAY),
            (&aggregates, Type::TEXT_ARRAY),
            (&sequences, Type::INT8_ARRAY),
        ];
        self.db.query_by_key(sql, &[&of, more].concat()).await
    }
}

/// A value and its type.
type Given<'a> = (&'a (dyn ToSql + Sync), Type);

/// The first deliveries that are due and not leased, each with when to look for the one of its aggregate that comes
/// before it, if that is still there. One that is leased by somebody else may be gone at any time. The bounds are those of
/// the index: of `subscriber = $1` the planner would expect so few that it would read them all and sort.
pub const DUE: &str = "-- lease
    SELECT d.account, d.aggregate, d.sequence, d.previous_sequence, d.due_at,
           least(CASE WHEN p.parked THEN 'infinity'
                      WHEN p.lease_until > now() THEN least(p.lease_until, now() + interval '250 milliseconds')
                      ELSE p.due_at
                 END,
                 CASE WHEN p.account IS NOT NULL THEN now() + interval '10 minutes' END) AS behind
    FROM delivery d
    LEFT JOIN delivery p ON p.account = d.account AND p.subscriber = d.subscriber AND p.aggregate = d.aggregate
        AND p.sequence = d.previous_sequence
    WHERE (d.subscriber, d.due_at) >= ($1, $3) AND (d.subscriber, d.due_at) <= ($1, now()) AND NOT d.parked
      AND (d.lease_until IS NULL OR d.lease_until <= now())
    ORDER BY d.subscriber, d.due_at
    LIMIT $2";

/// Whoever claims at the same time waits for the row and finds it changed. That it is not parked and due is said as no
/// index has it, so that each row is found by its key.
pub const CLAIM: &str = "-- claim_delivery
    UPDATE delivery d SET lease_token = $5, lease_until = now() + interval '30 seconds'
    FROM unnest($2::text[], $3::text[], $4::bigint[]) AS t (account, aggregate, sequence), event e
    WHERE d.account = t.account AND d.subscriber = $1 AND d.aggregate = t.aggregate AND d.sequence = t.sequence
      AND (d.parked, d.due_at) <= (false, now()) AND (d.lease_until IS NULL OR d.lease_until <= now())
      AND e.account = t.account AND e.id = d.event_id
    RETURNING d.account, d.aggregate, d.sequence, d.previous_sequence, coalesce(d.secret, '') AS secret, e.body";

const ASIDE: &str = "-- aside
    UPDATE delivery d SET due_at = t.due_at
    FROM unnest($2::text[], $3::text[], $4::bigint[], $5::timestamptz[]) AS t (account, aggregate, sequence, due_at)
    WHERE d.account = t.account AND d.subscriber = $1 AND d.aggregate = t.aggregate AND d.sequence = t.sequence
      AND (d.parked, d.due_at) <= (false, now()) AND (d.lease_until IS NULL OR d.lease_until <= now())";

const RENEW: &str = "-- renew
    UPDATE delivery d SET lease_until = now() + interval '30 seconds'
    FROM unnest($2::text[], $3::text[], $4::bigint[]) AS t (account, aggregate, sequence)
    WHERE d.account = t.account AND d.subscriber = $1 AND d.aggregate = t.aggregate AND d.sequence = t.sequence
      AND d.lease_token = $5
    RETURNING d.aggregate, d.sequence";

const GIVE_BACK: &str = "-- give_back
    UPDATE delivery d SET lease_token = NULL, lease_until = NULL
    FROM unnest($2::text[], $3::text[], $4::bigint[]) AS t (account, aggregate, sequence)
    WHERE d.account = t.account AND d.subscriber = $1 AND d.aggregate = t.aggregate AND d.sequence = t.sequence
      AND d.lease_token = $5";

/// What was claimed is taken.
pub const TAKEN: &str = "-- taken
    DELETE FROM delivery d
    USING unnest($2::text[], $3::text[], $4::bigint[]) AS t (account, aggregate, sequence)
    WHERE d.account = t.account AND d.subscriber = $1 AND d.aggregate = t.aggregate AND d.sequence = t.sequence
      AND d.lease_token = $5";

const PUT_OFF: &str = "-- put_off
    UPDATE delivery d
    SET attempts = d.attempts + 1,
        refusals = d.refusals + t.refused,
        parked = d.refusals + t.refused >= $8,
        last_error = t.reason,
        lease_token = NULL,
        lease_until = NULL,
        due_at = to_timestamp(extract(epoch FROM now()) + least(0.02 * power(2, least(d.attempts, 12)), 30))
    FROM unnest($2::text[], $3::text[], $4::bigint[], $6::integer[], $7::text[])
        AS t (account, aggregate, sequence, refused, reason)
    WHERE d.account = t.account AND d.subscriber = $1 AND d.aggregate = t.aggregate AND d.sequence = t.sequence
      AND d.lease_token = $5
    RETURNING d.aggregate, d.sequence, d.parked, d.last_error";

#[cfg(test)]
mod tests {
    use super::*;

    fn due(aggregate: &str, sequence: i64, previous: i64, behind: Option<i64>) -> Due {
        Due {
            account: "acme".to_owned(),
            aggregate: aggregate.to_owned(),
            sequence,
            previous,
            behind: behind.map(|micros| Timestamp::from_microsecond(micros).unwrap()),
        }
    }

    #[test]
    fn the_queue_is_read_from_where_it_was_read_to_and_whole_now_and_then() {
        let (mut start, begun) = (Start::default(), Instant::now());
        let (at, whole) = (
            Timestamp::from_second(1_000).unwrap(),
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(start.at(begun), whole);
        start.found(at);
        assert_eq!(start.at(begun), at - OVERLAP);
        // What is found anew lies before what was found last.
        start.found(at - SignedDuration::from_secs(1));
        assert_eq!(start.at(begun), at - OVERLAP);
        assert_eq!(start.at(begun + WHOLE), whole);
        start.found(at);
        start.again();
        assert_eq!(start.at(begun + WHOLE), whole);
    }

    #[test]
    fn an_aggregate_is_claimed_from_its_first_delivery_on() {
        let busy = [("acme".to_owned(), "d".to_owned())].into();
        let found = vec![
            // Whole, though found in another order and with events between them that are for others.
            due("a", 7, 3, Some(10)),
            due("a", 3, 0, None),
            // The one before the second is not due.
            due("b", 1, 0, None),
            due("b", 5, 4, Some(50)),
            due("b", 6, 5, Some(20)),
            // All wait behind one that is put off.
            due("c", 2, 1, Some(30)),
            due("c", 3, 2, Some(20)),
            // Under way.
            due("d", 2, 1, Some(40)),
        ];
        let plan = plan(found, &busy);
        let claimed: Vec<_> = plan.claimed.iter().map(Due::place).collect();
        assert_eq!(
            claimed,
            [("acme", "a", 3), ("acme", "a", 7), ("acme", "b", 1)]
        );
        let aside: Vec<_> = plan
            .aside
            .iter()
            .map(|(due, until)| (due.aggregate.as_str(), due.sequence, until.as_microsecond()))
            .collect();
        assert_eq!(
            aside,
            [("b", 5, 51), ("b", 6, 52), ("c", 2, 31), ("c", 3, 32)]
        );
    }
}
