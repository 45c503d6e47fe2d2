//! The queue of e-mails to send, and the expired passwords. Leases and retry times are machine time, the database's, which
//! no test clock moves.

use std::time::Duration;

use jiff::Timestamp;
use octroi_platform::{Call, Db, Error, Rows, Shown, Tx, params, row_get};
use uuid::Uuid;

use crate::domain::email::{Email, Next};
use crate::domain::retry::GIVE_UP_AFTER;
use crate::store::email::{from_row, select_email};

/// How long a lease lasts unless it is renewed.
const LEASE: Duration = Duration::from_secs(30);

/// How often a lease is renewed: sending to a slow server may take minutes.
pub const RENEW_EVERY: Duration = Duration::from_secs(10);

/// The back-off of an e-mail whose row is corrupt.
const UNREADABLE: Duration = Duration::from_secs(600);

/// An e-mail with its lease.
pub struct Leased {
    pub email: Email,
    /// Fences the lease: writes of a worker that lost it do nothing.
    pub token: Uuid,
    /// Time until the e-mail is given up, when the lease was taken.
    pub left: Duration,
}

/// The next e-mail that is due, locked, in a transaction. One whose row is corrupt backs off, so that it does not block
/// the queue.
pub async fn due(db: &Db, call: &Call) -> Result<(Tx, Option<(Email, Duration)>), Error> {
    let (mut tx, rows) = db
        .begin_work(
            call,
            select_email!(
                "delivery::due",
                "WHERE e.state = 'QUEUED' AND e.next_attempt_at <= now()
                   AND (e.lease_expires_at <= now()) IS NOT FALSE
                   AND (e.recipient IS NOT NULL OR a.version IS NOT NULL)
                 ORDER BY e.next_attempt_at LIMIT 1
                 FOR UPDATE OF e SKIP LOCKED"
            ),
            &[],
        )
        .await?;
    let Some(row) = rows.first() else {
        return Ok((tx, None));
    };
    let left = match row_get::<Option<i64>>(row, "left_millis")? {
        Some(millis) => Duration::from_millis(u64::try_from(millis).unwrap_or_default()),
        None => GIVE_UP_AFTER,
    };
    match from_row(row) {
        Ok(email) => Ok((tx, Some((email, left)))),
        Err(error) => {
            let key: (String, Uuid) = (row_get(row, "account")?, row_get(row, "id")?);
            tx.write(
                "-- delivery::put_back
                 UPDATE email SET next_attempt_at = now() + $3::bigint * interval '1 second', last_error = $4
                 WHERE account = $1 AND id = $2 AND state = 'QUEUED'",
                params![key.0, key.1, seconds(UNREADABLE), error.to_string()],
                Rows::Exactly(1),
            );
            tx.commit_work().await?;
            Err(error)
        }
    }
}

/// Leases an e-mail and fixes its addressee.
///
/// # Errors
/// [`Error::Internal`] when it has no addressee.
pub fn lease(tx: &mut Tx, email: &Email, token: Uuid) -> Result<(), Error> {
    let to = email
        .addressee
        .as_ref()
        .ok_or_else(|| Error::Internal(anyhow::anyhow!("an attempt without an addressee")))?;
    tx.write(
        "-- delivery::lease
         UPDATE email
         SET attempts = $3, recipient = $4, locale = $5, customer = $6, time_zone = $7,
             lease_token = $8, lease_expires_at = now() + $9::bigint * interval '1 second',
             give_up_at = coalesce(give_up_at, now() + $10::bigint * interval '1 second')
         WHERE account = $1 AND id = $2 AND state = 'QUEUED'",
        params![
            email.id.account.clone(),
            email.id.id,
            email.attempts,
            to.email.clone(),
            to.locale.tag(),
            to.customer.clone(),
            to.time_zone.clone(),
            token,
            seconds(LEASE),
            seconds(GIVE_UP_AFTER),
        ],
        Rows::Exactly(1),
    );
    Ok(())
}

/// Renews a lease unless another worker holds it by now.
pub async fn renew(db: &Db, leased: &Leased) -> Result<(), Error> {
    db.execute(
        "-- delivery::renew
         UPDATE email SET lease_expires_at = now() + $4::bigint * interval '1 second'
         WHERE account = $1 AND id = $2 AND lease_token = $3",
        &[
            &leased.email.id.account,
            &leased.email.id.id,
            &leased.token,
            &seconds(LEASE),
        ],
    )
    .await?;
    Ok(())
}

/// The sealed password of a leased e-mail, read right before it is sent; none when it has ended or the lease is lost.
pub async fn sealed_secret(
    db: &Db,
    leased: &Leased,
    now: Timestamp,
) -> Result<Option<Vec<u8>>, Error> {
    let row = db
        .query_opt(
            "-- delivery::sealed_secret
             SELECT sealed_secret FROM email
             WHERE account = $1 AND id = $2 AND lease_token = $3 AND secret_expires_at > $4
               AND secret_state = 'READABLE'",
            &[
                &leased.email.id.account,
                &leased.email.id.id,
                &leased.token,
                &now,
            ],
        )
        .await?;
    row.map(|row| row_get(&row, "sealed_secret")).transpose()
}

/// Whether the lease is still held; the e-mail is then locked, in a transaction.
pub async fn held(db: &Db, call: &Call, leased: &Leased) -> Result<(Tx, bool), Error> {
    let (tx, rows) = db
        .begin_work(
            call,
            "-- delivery::held
             SELECT state FROM email WHERE account = $1 AND id = $2 AND lease_token = $3 FOR UPDATE",
            &[&leased.email.id.account, &leased.email.id.id, &leased.token],
        )
        .await?;
    Ok((tx, !rows.is_empty()))
}

/// Writes the outcome of an attempt and releases the lease. An e-mail to retry whose password was erased meanwhile is due at
/// once, to be withdrawn.
pub fn finish(tx: &mut Tx, leased: &Leased, next: &Next, now: Timestamp) {
    let turned_away = matches!(
        next,
        Next::Retry {
            turned_away: true,
            ..
        }
    );
    let (state, sent, wait, error) = match next {
        Next::Sent => ("SENT", Some(now), Duration::ZERO, String::new()),
        Next::Retry { wait, error, .. } => ("QUEUED", None, *wait, error.clone()),
        Next::Failed { error } => ("FAILED", None, Duration::ZERO, error.clone()),
        Next::Withdrawn => ("WITHDRAWN", None, Duration::ZERO, String::new()),
    };
    tx.write(
        "-- delivery::finish
         UPDATE email
         SET state = $4, sent_at = $5, last_error = $7, turned_away = $8,
             next_attempt_at = CASE WHEN secret_state = 'ERASED' THEN now()
                                    ELSE now() + $6::bigint * interval '1 millisecond' END,
             secret_state = CASE WHEN $4 = 'WITHDRAWN' THEN 'ERASED' ELSE secret_state END,
             sealed_secret = CASE WHEN $4 <> 'WITHDRAWN' THEN sealed_secret END,
             lease_token = NULL, lease_expires_at = NULL
         WHERE account = $1 AND id = $2 AND lease_token = $3",
        params![
            leased.email.id.account.clone(),
            leased.email.id.id,
            leased.token,
            state,
            sent,
            milliseconds(wait),
            error,
            turned_away,
        ],
        Rows::Exactly(1),
    );
}

/// E-mails with an expired password, locked, in a transaction; at most `limit` after the first `after`.
pub async fn expired(
    db: &Db,
    call: &Call,
    after: i64,
    limit: i64,
) -> Result<(Tx, Vec<Email>), Error> {
    let (tx, rows) = db
        .begin_work(
            call,
            select_email!(
                "delivery::expired",
                "WHERE e.secret_state = 'READABLE' AND e.secret_expires_at <= $1
                 ORDER BY e.secret_expires_at OFFSET $2 LIMIT $3
                 FOR UPDATE OF e SKIP LOCKED"
            ),
            &[&call.now, &after, &limit],
        )
        .await?;
    let emails = rows.iter().map(from_row).collect::<Result<_, _>>()?;
    Ok((tx, emails))
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The queue by state: how many e-mails, and for how many seconds the first was due.
///
/// # Errors
/// The database's.
pub async fn queue(db: &Db) -> Result<Vec<Shown>, Error> {
    let states = db.query_briefly(
        "-- queue
         SELECT s.state, count(e.id) AS emails,
                greatest(extract(epoch FROM now() - min(e.next_attempt_at))::bigint, 0) AS overdue
         FROM (VALUES ('new'), ('sending'), ('retrying')) AS s (state)
         LEFT JOIN email e ON e.state = 'QUEUED' AND s.state = CASE
             WHEN e.lease_expires_at > now() THEN 'sending' WHEN e.attempts > 0 THEN 'retrying' ELSE 'new' END
         GROUP BY s.state",
        &[],
    );
    let states = states.await?;
    let states = states.iter().map(|row| {
        let shown = vec![row_get(row, "emails")?, row_get(row, "overdue")?];
        Ok((row_get(row, "state")?, shown))
    });
    states.collect()
}
