//! Rows of `payment_attempt`, and the seats that an order being paid holds. Leases are machine time: the database's
//! clock, which business time never moves.

use std::time::Duration;

use octroi_platform::{Db, Error, Rows, ToSql, Tx, params, row_get};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::domain::offer::OfferId;
use crate::domain::order::{Order, OrderId};
use crate::domain::payment::{Attempt, Method, Outcome, Request};

/// The columns that [`from_row`] reads, of an attempt under the alias `p`.
macro_rules! attempt_columns {
    () => {
        "p.account, p.order_id, p.attempt, p.outcome, p.decline_reason, p.request_id, p.fingerprint, p.tries,
         p.gateway_token, p.method_display_name,
         p.outcome IS NULL AND p.begun_at < now() - interval '15 minutes' AS overdue"
    };
}

/// The attempt that a request began, for this order or another; none for a request without an id.
pub(crate) const READ_OF_REQUEST: &str = concat!(
    "-- read_attempt_of_request
     SELECT ",
    attempt_columns!(),
    " FROM payment_attempt p WHERE p.account = $1 AND p.request_id = $2"
);

pub(crate) async fn read(db: &Db, order: &OrderId, number: i32) -> Result<Option<Attempt>, Error> {
    let row = db
        .query_opt(
            concat!(
                "-- read_attempt
                 SELECT ",
                attempt_columns!(),
                " FROM payment_attempt p WHERE p.account = $1 AND p.order_id = $2 AND p.attempt = $3"
            ),
            &[&order.account, &order.id, &number],
        )
        .await?;
    row.as_ref().map(from_row).transpose()
}

/// Reserves the seats of an order in its group, whether or not the group exists, and answers the offers for which
/// there was room. The order and its group are locked.
pub(crate) async fn reserve(tx: &Tx, order: &Order) -> Result<Vec<OfferId>, Error> {
    let rows = tx
        .query(
            "-- reserve_seats
             INSERT INTO group_offer AS s (account, group_id, offer, reserved, cap)
             SELECT l.account, $3, l.offer, l.quantity, f.group_license_limit
             FROM order_line l JOIN offer f ON f.offer = l.offer
             WHERE l.account = $1 AND l.order_id = $2
               AND (f.group_license_limit IS NULL OR l.quantity <= f.group_license_limit)
             ORDER BY l.offer
             ON CONFLICT (account, group_id, offer) DO UPDATE SET reserved = s.reserved + excluded.reserved
             WHERE s.cap IS NULL OR s.used + s.reserved + excluded.reserved <= s.cap
             RETURNING s.offer",
            &[&order.id.account, &order.id.id, &order.group.id],
        )
        .await?;
    rows.iter().map(|row| row_get(row, "offer")).collect()
}

/// The most licences of an offer that a group may hold.
pub(crate) async fn limit(tx: &Tx, order: &Order, offer: &OfferId) -> Result<i32, Error> {
    let rows = tx
        .query(
            "-- read_limit
             SELECT coalesce(s.cap, f.group_license_limit) AS cap
             FROM offer f
             LEFT JOIN group_offer s ON s.account = $1 AND s.group_id = $2 AND s.offer = f.offer
             WHERE f.offer = $3",
            &[&order.group.account, &order.group.id, &offer],
        )
        .await?;
    let cap = rows
        .first()
        .map(|row| row_get::<Option<i32>>(row, "cap"))
        .transpose()?;
    Ok(cap.flatten().unwrap_or(i32::MAX))
}

pub(crate) fn release(tx: &mut Tx, order: &Order) {
    tx.write(
        "-- release_seats
         UPDATE group_offer s SET reserved = s.reserved - l.quantity
         FROM order_line l
         WHERE l.account = $1 AND l.order_id = $2
           AND s.account = l.account AND s.group_id = $3 AND s.offer = l.offer",
        params![
            order.id.account.clone(),
            order.id.id.clone(),
            order.group.id.clone()
        ],
        Rows::Exactly(order.lines.len() as u64),
    );
}

/// Turns the reserved seats of an order into licences that exist.
pub(crate) fn take(tx: &mut Tx, order: &Order) {
    tx.write(
        "-- take_seats
         UPDATE group_offer s SET reserved = s.reserved - l.quantity, used = s.used + l.quantity
         FROM order_line l
         WHERE l.account = $1 AND l.order_id = $2
           AND s.account = l.account AND s.group_id = $3 AND s.offer = l.offer",
        params![
            order.id.account.clone(),
            order.id.id.clone(),
            order.group.id.clone()
        ],
        Rows::Exactly(order.lines.len() as u64),
    );
}

/// Creates the licences of an order, unassigned, one number after the other from `first`.
pub(crate) fn create_licenses(tx: &mut Tx, order: &Order, first: i32) {
    let mut first = first;
    for line in &order.lines {
        let after = first.saturating_add(line.quantity);
        // The count is a parameter, not part of the text: one statement serves every quantity.
        tx.write(
            "-- create_licenses
             WITH created AS (
                 INSERT INTO license (account, group_id, number, offer, order_id, state, created_at, updated_at)
                 SELECT $1, $2, n, $3, $4, 'UNASSIGNED', $5::timestamptz, $5::timestamptz
                 FROM generate_series($6::int, $7::int - 1) n
                 RETURNING 1
             )
             SELECT expect_rows((SELECT count(*) FROM created), ($7::int - $6::int)::bigint)",
            params![
                order.group.account.clone(),
                order.group.id.clone(),
                line.offer.clone(),
                order.id.id.clone(),
                tx.call().now,
                first,
                after,
            ],
            Rows::Any,
        );
        first = after;
    }
}

/// Inserts an attempt with its first lease.
pub(crate) fn insert(tx: &mut Tx, attempt: &Attempt, lease: Uuid, lease_for: Duration) {
    let method = attempt.method.as_ref();
    tx.write(
        "-- insert_attempt
         INSERT INTO payment_attempt (account, order_id, attempt, started_at, request_id, fingerprint, gateway_token,
             method_display_name, next_try_at, lease, lease_until)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, statement_timestamp(), $9,
                 statement_timestamp() + $10::bigint * interval '1 millisecond')",
        params![
            attempt.order.account.clone(),
            attempt.order.id.clone(),
            attempt.number,
            tx.call().now,
            attempt.request.as_ref().map(|request| request.id),
            attempt
                .request
                .as_ref()
                .map(|request| request.fingerprint.clone()),
            method.map(|method| method.gateway_token.clone()),
            method.map(|method| method.display_name.clone()),
            lease,
            millis(lease_for),
        ],
        Rows::Exactly(1),
    );
}

/// Writes the definite outcome of an attempt that `lease` holds and forgets the payment method that only its repetitions
/// needed.
pub(crate) fn settle(tx: &mut Tx, order: &Order, outcome: &Outcome, lease: Uuid) {
    let (text, reason) = match outcome {
        Outcome::Succeeded => ("SUCCEEDED", String::new()),
        Outcome::Declined(reason) => ("DECLINED", reason.clone()),
    };
    tx.write(
        "-- settle_attempt
         UPDATE payment_attempt SET outcome = $4, decline_reason = $5, settled_at = $6, gateway_token = NULL,
             method_display_name = NULL, lease = NULL, lease_until = NULL
         WHERE account = $1 AND order_id = $2 AND attempt = $3 AND outcome IS NULL AND lease = $7",
        params![
            order.id.account.clone(),
            order.id.id.clone(),
            order.attempts,
            text,
            reason,
            tx.call().now,
            lease,
        ],
        Rows::Exactly(1),
    );
}

/// Attempts that are due and not leased, those that have been due longest first: `$1` how many.
const DUE: &str = "-- due_attempts
    SELECT account, order_id, attempt FROM payment_attempt
    WHERE outcome IS NULL AND next_try_at <= now() AND (lease_until IS NULL OR lease_until <= now())
    ORDER BY next_try_at LIMIT $1";

/// Leases one attempt, unless it is not due any more or somebody else has it or has locked it. IS TRUE keeps the index of
/// what is due out of this.
const CLAIM: &str = concat!(
    "-- claim_attempt
     WITH p AS (
     UPDATE payment_attempt p
     SET lease = $4, lease_until = statement_timestamp() + $5::bigint * interval '1 millisecond'
     WHERE p.account = $1 AND p.order_id = $2 AND p.attempt = $3
       AND p.outcome IS NULL AND (p.next_try_at <= now()) IS TRUE AND (p.lease_until IS NULL OR p.lease_until <= now())
       AND EXISTS (SELECT FROM payment_attempt l
                   WHERE l.account = $1 AND l.order_id = $2 AND l.attempt = $3 FOR UPDATE SKIP LOCKED)
     RETURNING p.*
     ) SELECT ",
    attempt_columns!(),
    " FROM p"
);

/// At most so many attempts that are due, to be claimed one by one.
pub(crate) async fn due(db: &Db, most: i64) -> Result<Vec<(OrderId, i32)>, Error> {
    let rows = db.query_planned(DUE, &[(&most, Type::INT8)]).await?;
    let key = |row| Ok((order(row)?, row_get(row, "attempt")?));
    rows.iter().map(key).collect()
}

/// Leases an attempt that is due; none when it is not any more.
pub(crate) async fn claim(
    db: &Db,
    (order, number): &(OrderId, i32),
    lease: Uuid,
    lease_for: Duration,
) -> Result<Option<Attempt>, Error> {
    let params: [&(dyn ToSql + Sync); 5] = [
        &order.account,
        &order.id,
        number,
        &lease,
        &millis(lease_for),
    ];
    let row = db.query_opt(CLAIM, &params).await?;
    row.as_ref().map(from_row).transpose()
}

/// Renews a lease, unless it has been lost.
pub(crate) async fn renew(
    db: &Db,
    attempt: &Attempt,
    lease: Uuid,
    lease_for: Duration,
) -> Result<(), Error> {
    db.execute(
        "-- renew_attempt
         UPDATE payment_attempt SET lease_until = statement_timestamp() + $5::bigint * interval '1 millisecond'
         WHERE account = $1 AND order_id = $2 AND attempt = $3 AND lease = $4",
        &[
            &attempt.order.account,
            &attempt.order.id,
            &attempt.number,
            &lease,
            &millis(lease_for),
        ],
    )
    .await?;
    Ok(())
}

/// Gives a lease back: billing had no definite answer, and is asked again after a pause.
pub(crate) async fn postpone(
    db: &Db,
    attempt: &Attempt,
    lease: Uuid,
    pause: Duration,
) -> Result<(), Error> {
    db.execute(
        "-- postpone_attempt
         UPDATE payment_attempt SET lease = NULL, lease_until = NULL, tries = tries + 1,
             next_try_at = statement_timestamp() + $5::bigint * interval '1 millisecond'
         WHERE account = $1 AND order_id = $2 AND attempt = $3 AND lease = $4 AND outcome IS NULL",
        &[
            &attempt.order.account,
            &attempt.order.id,
            &attempt.number,
            &lease,
            &millis(pause),
        ],
    )
    .await?;
    Ok(())
}

pub(crate) fn from_row(row: &Row) -> Result<Attempt, Error> {
    let order = order(row)?;
    let outcome = match row_get::<Option<&str>>(row, "outcome")? {
        None => None,
        Some("SUCCEEDED") => Some(Outcome::Succeeded),
        Some("DECLINED") => Some(Outcome::Declined(row_get(row, "decline_reason")?)),
        Some(_) => {
            return Err(Error::Corrupt {
                table: "payment_attempt",
                column: "outcome",
                id: order.to_string(),
            });
        }
    };
    let id: Option<Uuid> = row_get(row, "request_id")?;
    let fingerprint: Option<Vec<u8>> = row_get(row, "fingerprint")?;
    let gateway_token: Option<String> = row_get(row, "gateway_token")?;
    let display_name: Option<String> = row_get(row, "method_display_name")?;
    Ok(Attempt {
        order,
        number: row_get(row, "attempt")?,
        request: id
            .zip(fingerprint)
            .map(|(id, fingerprint)| Request { id, fingerprint }),
        method: gateway_token.map(|gateway_token| Method {
            gateway_token,
            display_name: display_name.unwrap_or_default(),
        }),
        tries: row_get(row, "tries")?,
        overdue: row_get(row, "overdue")?,
        outcome,
    })
}

/// The columns `account` and `order_id`.
fn order(row: &Row) -> Result<OrderId, Error> {
    Ok(OrderId {
        account: row_get(row, "account")?,
        id: row_get(row, "order_id")?,
    })
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
