//! Attempts to send e-mails: their leases, and what came of them.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;
use octroi_platform::{Db, Error, Shown, ToSql, Tx, row_get};
use uuid::Uuid;

use crate::domain::email::Next;
use crate::store::email::select_email;
use crate::store::queue::{LEASE, Leased, split, written};
use crate::store::{milliseconds, seconds};

/// How often a lease is renewed: sending to a slow server may take minutes.
pub const RENEW_EVERY: Duration = Duration::from_secs(10);

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

/// An e-mail to retry whose password was erased meanwhile is due at once, to be withdrawn.
const FINISH: &str = "-- delivery::finish
    UPDATE email e
    SET state = o.state, sent_at = o.sent_at, last_error = o.error, turned_away = o.turned_away,
        next_attempt_at = to_timestamp(extract(epoch FROM now())
            + CASE WHEN e.secret_state = 'ERASED' THEN 0 ELSE o.wait END / 1000.0),
        secret_state = CASE WHEN o.state = 'WITHDRAWN' THEN 'ERASED' ELSE e.secret_state END,
        sealed_secret = CASE WHEN o.state <> 'WITHDRAWN' THEN e.sealed_secret END,
        lease_token = NULL, lease_expires_at = NULL
    FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::text[], $5::timestamptz[], $6::bigint[], $7::text[],
                $8::boolean[])
         AS o (account, id, token, state, sent_at, wait, error, turned_away)
    WHERE e.account = o.account AND e.id = o.id AND e.account = ANY ($1) AND e.lease_token = o.token
    RETURNING e.id";

/// Writes the outcomes of attempts and ends their leases, but for leases that were lost; the ids of those written.
pub async fn finish(
    tx: &Tx,
    now: Timestamp,
    outcomes: &[(&Leased, &Next)],
) -> Result<HashSet<Uuid>, Error> {
    let (accounts, ids) = split(outcomes.iter().map(|(it, _)| &it.email.id));
    let tokens: Vec<Uuid> = outcomes.iter().map(|(it, _)| it.token).collect();
    let (mut states, mut sent, mut waits) = (Vec::new(), Vec::new(), Vec::new());
    let (mut errors, mut turned_away) = (Vec::new(), Vec::new());
    for (_, next) in outcomes {
        let (state, sent_at, wait, error, turned) = match next {
            Next::Sent => ("SENT", Some(now), Duration::ZERO, "", false),
            Next::Retry {
                wait,
                error,
                turned_away,
            } => ("QUEUED", None, *wait, error.as_str(), *turned_away),
            Next::Failed { error } => ("FAILED", None, Duration::ZERO, error.as_str(), false),
            Next::Withdrawn => ("WITHDRAWN", None, Duration::ZERO, "", false),
        };
        states.push(state);
        sent.push(sent_at);
        waits.push(milliseconds(wait));
        errors.push(error);
        turned_away.push(turned);
    }
    let params: [&(dyn ToSql + Sync); 8] = [
        &accounts,
        &ids,
        &tokens,
        &states,
        &sent,
        &waits,
        &errors,
        &turned_away,
    ];
    written(tx, FINISH, &params).await
}

/// An e-mail that nobody sends now, locked.
pub const LOCK: &str = select_email!(
    "delivery::lock",
    "$1",
    "WHERE e.account = $1 AND e.id = $2 AND e.state = 'QUEUED'
       AND (e.lease_expires_at IS NULL OR e.lease_expires_at <= now()) FOR UPDATE OF e"
);

/// The queue by state: how many e-mails, and for how many seconds the first was due.
///
/// # Errors
/// The database's.
pub async fn queue(db: &Db) -> Result<Vec<Shown>, Error> {
    let states = db.query_briefly(
        "-- queue
         SELECT s.state, coalesce(sum(e.emails), 0)::bigint AS emails,
                greatest(extract(epoch FROM now() - min(e.due_at))::bigint, 0) AS overdue
         FROM (VALUES ('new'), ('sending'), ('retrying'), ('unaddressed')) AS s (state)
         LEFT JOIN (
             SELECT CASE WHEN attempts > 0 THEN 'retrying' ELSE 'new' END AS state, count(*) AS emails,
                    min(place) AS due_at
             FROM email WHERE state = 'QUEUED' AND place IS NOT NULL GROUP BY 1
             UNION ALL
             SELECT CASE WHEN lease_expires_at > now() THEN 'sending' WHEN attempts > 0 THEN 'retrying'
                         WHEN recipient IS NULL THEN 'unaddressed' ELSE 'new' END,
                    count(*), min(next_attempt_at)
             FROM email WHERE state = 'QUEUED' AND place IS NULL GROUP BY 1
         ) e ON e.state = s.state
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
