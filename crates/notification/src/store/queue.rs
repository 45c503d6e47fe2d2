//! The queue of e-mails. One is in line, where `place` says, or waits for its time: a back-off, the end of a lease, or a
//! look at whether its account is known by now. Places, leases and back-offs are machine time, the database's, which no
//! test clock moves.
//!
//! What is due is read without locks, planned for the queue as it is, and taken by a guarded write that names its accounts:
//! of several that read the same e-mail one takes it. A row that somebody has locked holds up its writer briefly. What a
//! write guards stands within CASE, so that its rows are found by their keys: by an index of the queue, an account's whole
//! queue would be read for each.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use octroi_platform::{AccountId, Call, Db, Error, ToSql, Tx, row_get};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::domain::email::{Email, EmailId};
use crate::domain::retry::GIVE_UP_AFTER;
use crate::store::email::{from_row, select_email};
use crate::store::{milliseconds, seconds};

/// How long a lease lasts unless it is renewed.
pub const LEASE: Duration = Duration::from_secs(30);

/// How far apart the places of an account's e-mails are. Who has many e-mails stands so far behind whoever has few.
const APART: SignedDuration = SignedDuration::from_secs(1);

/// How long an e-mail of an unknown account waits, unless its account becomes known.
const UNKNOWN: Duration = Duration::from_secs(600);

/// How long an e-mail waits whose row is corrupt.
const UNREADABLE: Duration = Duration::from_secs(600);

/// Has the transaction plan its writes for what the tables hold now.
const PLANNED: &str = "-- delivery::planned
    SELECT set_config('plan_cache_mode', 'force_custom_plan', true)";

/// An e-mail with its lease.
pub struct Leased {
    pub email: Email,
    /// Fences the lease: writes of a worker that lost it do nothing.
    pub token: Uuid,
    /// Time until the e-mail is given up, when the lease was taken.
    pub left: Duration,
}

/// An e-mail in line, which is not leased yet.
#[derive(Clone)]
pub struct Candidate {
    pub email: Email,
    pub left: Duration,
}

/// An e-mail whose time has come.
#[derive(Clone)]
pub struct Due {
    pub id: Uuid,
    account: AccountId,
    /// Since when, which also tells whether it was written meanwhile.
    due_at: Timestamp,
    next: Placing,
}

/// Where an e-mail goes whose time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placing {
    Line(Timestamp),
    /// Its account is not known.
    Later(Duration),
}

const DUE: &str = select_email!(
    "delivery::due",
    "e.account",
    "WHERE e.state = 'QUEUED' AND e.place IS NOT NULL AND e.bulk = $1 ORDER BY e.place LIMIT $2"
);

/// The first e-mails in line. Those whose row is corrupt are named instead.
pub async fn first_in_line(
    db: &Db,
    bulk: bool,
    limit: i64,
) -> Result<(Vec<Candidate>, Vec<(EmailId, Error)>), Error> {
    let params = [
        (&bulk as &(dyn ToSql + Sync), Type::BOOL),
        (&limit, Type::INT8),
    ];
    let (mut candidates, mut corrupt) = (Vec::new(), Vec::new());
    for row in &db.query_planned(DUE, &params).await? {
        let left = match row_get::<Option<i64>>(row, "left_millis")? {
            Some(millis) => Duration::from_millis(u64::try_from(millis).unwrap_or_default()),
            None => GIVE_UP_AFTER,
        };
        match from_row(row) {
            Ok(email) => candidates.push(Candidate { email, left }),
            Err(error) => corrupt.push((id(row)?, error)),
        }
    }
    Ok((candidates, corrupt))
}

fn id(row: &Row) -> Result<EmailId, Error> {
    Ok(EmailId {
        account: row_get(row, "account")?,
        id: row_get(row, "id")?,
    })
}

const CLAIM: &str = "-- delivery::claim
    UPDATE email e
    SET attempts = c.attempts, recipient = c.recipient, locale = c.locale, customer = c.customer,
        time_zone = c.time_zone, place = NULL, lease_token = $8,
        lease_expires_at = now() + $9::bigint * interval '1 second',
        give_up_at = least(e.give_up_at, now() + $10::bigint * interval '1 second')
    FROM unnest($1::text[], $2::uuid[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[])
         AS c (account, id, attempts, recipient, locale, customer, time_zone)
    WHERE e.account = c.account AND e.id = c.id AND e.account = ANY ($1)
      AND CASE WHEN e.state = 'QUEUED' THEN e.place IS NOT NULL END AND e.attempts = c.attempts - 1
      AND (e.lease_expires_at IS NULL OR e.lease_expires_at <= now())
    RETURNING e.id";

/// Leases e-mails whose attempt begins, under this token, and fixes their addressees; which of them nobody else has taken.
pub async fn claim(tx: &Tx, begun: Vec<Candidate>, token: Uuid) -> Result<Vec<Leased>, Error> {
    let columns: Option<Vec<_>> = begun
        .iter()
        .map(|it| {
            let (email, to) = (&it.email, it.email.addressee.as_ref()?);
            let (customer, zone) = (to.customer.as_str(), to.time_zone.as_str());
            let to = (to.email.as_str(), to.locale.tag(), customer, zone);
            Some((&email.id, email.attempts, to))
        })
        .collect();
    let columns = columns
        .ok_or_else(|| Error::Internal(anyhow::anyhow!("an attempt without an addressee")))?;
    let (accounts, ids): (Vec<_>, Vec<_>) = split(columns.iter().map(|(id, ..)| *id));
    let attempts: Vec<i32> = columns.iter().map(|it| it.1).collect();
    let to = |part: fn((&str, &str, &str, &str)) -> String| -> Vec<String> {
        columns.iter().map(|it| part(it.2)).collect()
    };
    let recipients = to(|it| it.0.to_owned());
    let locales = to(|it| it.1.to_owned());
    let customers = to(|it| it.2.to_owned());
    let zones = to(|it| it.3.to_owned());
    let params: [&(dyn ToSql + Sync); 10] = [
        &accounts,
        &ids,
        &attempts,
        &recipients,
        &locales,
        &customers,
        &zones,
        &token,
        &seconds(LEASE),
        &seconds(GIVE_UP_AFTER),
    ];
    let taken = written(tx, CLAIM, &params).await?;
    let leased = begun
        .into_iter()
        .filter(|it| taken.contains(&it.email.id.id));
    let leased = leased.map(|Candidate { email, left }| Leased { email, token, left });
    Ok(leased.collect())
}

/// The ids of the e-mails that a write over many accounts returned.
pub(super) async fn written(
    tx: &Tx,
    sql: &str,
    params: &[&(dyn ToSql + Sync)],
) -> Result<HashSet<Uuid>, Error> {
    let rows = tx.query(sql, params).await?;
    rows.iter().map(|row| row_get(row, "id")).collect()
}

/// Begins a transaction over many accounts, whose writes are planned for what the tables hold now.
pub async fn begin(db: &Db, call: &Call) -> Result<Tx, Error> {
    Ok(db.begin_work(call, PLANNED, &[]).await?.0)
}

pub(super) fn split<'a>(ids: impl Iterator<Item = &'a EmailId>) -> (Vec<&'a AccountId>, Vec<Uuid>) {
    ids.map(|it| (&it.account, it.id)).unzip()
}

const DUE_AGAIN: &str = "-- delivery::due_again
    SELECT e.account, e.id, e.bulk, coalesce(e.lease_expires_at, e.next_attempt_at) AS due_at, now() AS now,
           e.recipient IS NOT NULL OR EXISTS (SELECT FROM account a WHERE a.account = e.account) AS is_known,
           (SELECT max(l.place) FROM email l
            WHERE l.account = e.account AND l.bulk = e.bulk AND l.state = 'QUEUED' AND l.place IS NOT NULL) AS last_place
    FROM email e
    WHERE e.state = 'QUEUED' AND e.place IS NULL AND coalesce(e.lease_expires_at, e.next_attempt_at) <= now()
    ORDER BY coalesce(e.lease_expires_at, e.next_attempt_at) LIMIT $1";

/// The e-mails whose time came first, each with its place behind its account's others.
pub async fn due_again(db: &Db, limit: i64) -> Result<Vec<Due>, Error> {
    let rows = db.query_planned(DUE_AGAIN, &[(&limit, Type::INT8)]).await?;
    let mut last: HashMap<(AccountId, bool), Timestamp> = HashMap::new();
    let mut due = Vec::with_capacity(rows.len());
    for row in &rows {
        let EmailId { account, id } = id(row)?;
        let next = match row_get(row, "is_known")? {
            false => Placing::Later(UNKNOWN),
            true => {
                let line = (account.clone(), row_get(row, "bulk")?);
                let before = match last.get(&line) {
                    Some(place) => Some(*place),
                    None => row_get(row, "last_place")?,
                };
                let place = next_place(row_get(row, "now")?, before);
                last.insert(line, place);
                Placing::Line(place)
            }
        };
        due.push(Due {
            account,
            id,
            due_at: row_get(row, "due_at")?,
            next,
        });
    }
    Ok(due)
}

/// The place behind the account's last one.
fn next_place(now: Timestamp, last: Option<Timestamp>) -> Timestamp {
    let behind = last.map(|last| last.saturating_add(APART).unwrap_or(Timestamp::MAX));
    behind.map_or(now, |behind| behind.max(now))
}

const ENQUEUE: &str = "-- delivery::enqueue
    UPDATE email e
    SET place = d.place, lease_token = NULL, lease_expires_at = NULL,
        next_attempt_at = to_timestamp(extract(epoch FROM now()) + d.wait / 1000.0)
    FROM unnest($1::text[], $2::uuid[], $3::timestamptz[], $4::timestamptz[], $5::bigint[])
         AS d (account, id, due_at, place, wait)
    WHERE e.account = d.account AND e.id = d.id AND e.account = ANY ($1)
      AND CASE WHEN e.state = 'QUEUED' AND e.place IS NULL
               THEN coalesce(e.lease_expires_at, e.next_attempt_at) = d.due_at END
    RETURNING e.id";

/// Puts e-mails in line, or off while their account is unknown; how many stand in line now.
pub async fn enqueue(tx: &Tx, due: &[Due], random: u64) -> Result<u64, Error> {
    let (accounts, ids): (Vec<_>, Vec<_>) = due.iter().map(|it| (&it.account, it.id)).unzip();
    let times: Vec<Timestamp> = due.iter().map(|it| it.due_at).collect();
    let mut jitter = random;
    let (places, waits): (Vec<Option<Timestamp>>, Vec<i64>) = due
        .iter()
        .map(|it| match it.next {
            Placing::Line(place) => (Some(place), 0),
            Placing::Later(wait) => {
                jitter = jitter
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let most = milliseconds(wait);
                let less = i64::try_from(jitter >> 33).unwrap_or_default() % (most / 2).max(1);
                (None, most - less)
            }
        })
        .unzip();
    let params: [&(dyn ToSql + Sync); 5] = [&accounts, &ids, &times, &places, &waits];
    let moved = written(tx, ENQUEUE, &params).await?;
    let in_line = due
        .iter()
        .filter(|it| matches!(it.next, Placing::Line(_)) && moved.contains(&it.id));
    Ok(in_line.count() as u64)
}

const DEFER: &str = "-- delivery::defer
    UPDATE email e SET place = NULL, next_attempt_at = now() + $3::bigint * interval '1 millisecond'
    FROM unnest($1::text[], $2::uuid[]) AS d (account, id)
    WHERE e.account = d.account AND e.id = d.id AND e.account = ANY ($1)
      AND CASE WHEN e.state = 'QUEUED' THEN e.place IS NOT NULL END
    RETURNING e.id";

/// Takes e-mails out of the line for a while, so that those behind them come forward.
pub async fn defer(tx: &Tx, emails: &[EmailId], wait: Duration) -> Result<(), Error> {
    let (accounts, ids) = split(emails.iter());
    let params: [&(dyn ToSql + Sync); 3] = [&accounts, &ids, &milliseconds(wait)];
    written(tx, DEFER, &params).await?;
    Ok(())
}

const RELEASE: &str = "-- delivery::release
    UPDATE email e
    SET attempts = e.attempts - 1, lease_token = NULL, lease_expires_at = NULL,
        next_attempt_at = now() + $4::bigint * interval '1 millisecond'
    FROM unnest($1::text[], $2::uuid[], $3::uuid[]) AS d (account, id, token)
    WHERE e.account = d.account AND e.id = d.id AND e.account = ANY ($1) AND e.lease_token = d.token
    RETURNING e.id";

/// Gives leases back whose attempt did not begin.
pub async fn release(tx: &Tx, leases: &[Leased], wait: Duration) -> Result<(), Error> {
    let (accounts, ids) = split(leases.iter().map(|it| &it.email.id));
    let tokens: Vec<Uuid> = leases.iter().map(|it| it.token).collect();
    let params: [&(dyn ToSql + Sync); 4] = [&accounts, &ids, &tokens, &milliseconds(wait)];
    written(tx, RELEASE, &params).await?;
    Ok(())
}

/// Puts an e-mail off whose row is corrupt.
pub async fn put_off(db: &Db, id: &EmailId, error: &str) -> Result<(), Error> {
    db.execute(
        "-- delivery::put_off
         UPDATE email
         SET place = NULL, next_attempt_at = now() + $3::bigint * interval '1 second', last_error = $4
         WHERE account = $1 AND id = $2 AND state = 'QUEUED'",
        &[&id.account, &id.id, &seconds(UNREADABLE), &error],
    )
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_s_places_are_apart_and_never_in_the_past() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(next_place(at(100), None), at(100));
        assert_eq!(next_place(at(100), Some(at(50))), at(100));
        assert_eq!(next_place(at(100), Some(at(100))), at(101));
        assert_eq!(next_place(at(100), Some(at(250))), at(251));
        assert_eq!(next_place(at(100), Some(Timestamp::MAX)), Timestamp::MAX);
    }
}
