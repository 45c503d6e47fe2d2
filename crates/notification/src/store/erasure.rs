//! Expired passwords.

use std::collections::HashSet;

use octroi_platform::{Db, Error, ToSql, Tx, row_get};
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::domain::email::{Delivery, Email};
use crate::store::email::{from_row, select_email, state};
use crate::store::queue::{split, written};

const EXPIRED: &str = select_email!(
    "erasure::expired",
    "e.account",
    "WHERE e.secret_state = 'READABLE' AND e.secret_expires_at <= $1 AND e.secret_expires_at >= $2
     ORDER BY e.secret_expires_at OFFSET $3 LIMIT $4"
);

/// The e-mails whose passwords expired first from an instant on, after so many; a row that is corrupt is an error among
/// them. And when the last of them expired.
pub async fn expired(
    db: &Db,
    now: jiff::Timestamp,
    (from, after): (jiff::Timestamp, i64),
    limit: i64,
) -> Result<(Vec<Result<Email, Error>>, jiff::Timestamp), Error> {
    let params = [
        (&now as &(dyn ToSql + Sync), Type::TIMESTAMPTZ),
        (&from, Type::TIMESTAMPTZ),
        (&after, Type::INT8),
        (&limit, Type::INT8),
    ];
    let rows = db.query_planned(EXPIRED, &params).await?;
    let last = rows.last().map(|row| row_get(row, "secret_expires_at"));
    let last = last.transpose()?.unwrap_or(from);
    Ok((rows.iter().map(from_row).collect(), last))
}

/// Erases a password unless its e-mail changed since it was read: it is sent as often as it was, and waits or does not.
const ERASE: &str = "-- erasure::erase
    UPDATE email e
    SET secret_state = 'ERASED', sealed_secret = NULL, state = d.state,
        place = CASE WHEN d.state = 'QUEUED' THEN e.place END
    FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::int[], $6::boolean[])
         AS d (account, id, was, state, attempts, leased)
    WHERE e.account = d.account AND e.id = d.id AND e.account = ANY ($1)
      AND CASE WHEN e.secret_state = 'READABLE' THEN e.state = d.was END AND e.attempts = d.attempts
      AND (e.lease_expires_at > now()) IS TRUE = d.leased
    RETURNING e.id";

/// Erases the passwords of these e-mails, which are given as they were read and as they become; of which it did.
pub async fn erase(tx: &Tx, emails: &[(Email, Email)]) -> Result<HashSet<Uuid>, Error> {
    let (accounts, ids) = split(emails.iter().map(|(it, _)| &it.id));
    let was: Vec<&str> = emails.iter().map(|(it, _)| state(it.delivery)).collect();
    let becomes: Vec<&str> = emails.iter().map(|(_, it)| state(it.delivery)).collect();
    let attempts: Vec<i32> = emails.iter().map(|(it, _)| it.attempts).collect();
    let leased = emails
        .iter()
        .map(|(it, _)| it.delivery == Delivery::Sending);
    let leased: Vec<bool> = leased.collect();
    let params: [&(dyn ToSql + Sync); 6] = [&accounts, &ids, &was, &becomes, &attempts, &leased];
    written(tx, ERASE, &params).await
}
