//! The queue of e-mails to send, and the passwords to erase. Leases and waits are the database's time, which a test
//! clock never moves.

use std::time::Duration;

use jiff::Timestamp;
use octroi_platform::{Call, Db, Error, Rows, Tx, params, row_get};
use uuid::Uuid;

use crate::domain::email::{Email, Next};
use crate::domain::retry::GIVE_UP_AFTER;
use crate::store::email::{from_row, select_email};

/// For how long a worker holds an e-mail unless it renews the lease: what a dead one held is free by then.
const LEASE: Duration = Duration::from_secs(30);

/// How often a worker renews its lease while it hands an e-mail over, which a slow server may draw out for minutes.
pub const RENEW_EVERY: Duration = Duration::from_secs(10);

/// How long an e-mail whose row cannot be read waits for another look.
const UNREADABLE: Duration = Duration::from_secs(600);

/// An e-mail that a worker holds.
pub struct Leased {
    /// The e-mail.
    pub email: Email,
    /// Proves the lease.
    pub token: Uuid,
    /// What remained until it is given up when the lease was taken.
    pub left: Duration,
}

/// The next e-mail that is due, locked, in a transaction; none when there is none. One that cannot be read is put back
/// for a while, so that it holds up no other.
///
/// # Errors
/// The database's, or a row that cannot be.
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

/// Takes the lease of an e-mail that a try began with, and fixes whom it goes to.
///
/// # Errors
/// [`Error::Internal`] when it has no addressee.
pub fn lease(tx: &mut Tx, email: &Email, token: Uuid) -> Result<(), Error> {
    let to = email
        .addressee
        .as_ref()
        .ok_or_else(|| Error::Internal(anyhow::anyhow!("a try without an addressee")))?;
    tx.write(
        "-- delivery::lease
         UPDATE email
         SET attempts = $3, recipient = $4, locale = $5, customer = $6, time_zone = $7,
             lease_token = $8, lease_expires_at = now() + $9::bigint * interval '1 second',
             give_up_at = coalesce(give_up_at, now() + $10::bigint * interval '1 second')
         WHERE account = $1 AND id = $2 AND state = 'QUEUED'",
        params![
            email.account.clone(),
            email.id,
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

/// Renews a lease that still holds; one that passed to another worker stays with it.
///
/// # Errors
/// The database's.
pub async fn renew(db: &Db, leased: &Leased) -> Result<(), Error> {
    db.execute(
        "-- delivery::renew
         UPDATE email SET lease_expires_at = now() + $4::bigint * interval '1 second'
         WHERE account = $1 AND id = $2 AND lease_token = $3",
        &[
            &leased.email.account,
            &leased.email.id,
            &leased.token,
            &seconds(LEASE),
        ],
    )
    .await?;
    Ok(())
}

/// The sealed password of a leased e-mail, read right before it is sent; none when it has ended meanwhile or the
/// lease is lost.
///
/// # Errors
/// The database's.
pub async fn sealed_secret(
    db: &Db,
    leased: &Leased,
    now: Timestamp,
) -> Result<Option<Vec<u8>>, Error> {
    let row = db
        .read_opt(
            "-- delivery::sealed_secret
             SELECT sealed_secret FROM email
             WHERE account = $1 AND id = $2 AND lease_token = $3 AND secret_expires_at > $4
               AND secret_state = 'READABLE'",
            &[&leased.email.account, &leased.email.id, &leased.token, &now],
        )
        .await?;
    row.map(|row| row_get(&row, "sealed_secret")).transpose()
}

/// Whether a lease still holds; the e-mail is then locked, in a transaction.
///
/// # Errors
/// The database's.
pub async fn held(db: &Db, call: &Call, leased: &Leased) -> Result<(Tx, bool), Error> {
    let (tx, rows) = db
        .begin_work(
            call,
            "-- delivery::held
             SELECT state FROM email WHERE account = $1 AND id = $2 AND lease_token = $3 FOR UPDATE",
            &[&leased.email.account, &leased.email.id, &leased.token],
        )
        .await?;
    Ok((tx, !rows.is_empty()))
}

/// Writes what followed a try and gives the lease back. What comes back with its password erased is due at once, to be
/// withdrawn.
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
            leased.email.account.clone(),
            leased.email.id,
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

/// E-mails whose password has had its time, locked, in a transaction; at most `limit` after the first `after`.
///
/// # Errors
/// The database's, or a row that cannot be.
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
