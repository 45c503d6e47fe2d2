//! Payments.

use jiff::Timestamp;
use octroi_platform::{AccountId, Error, Rows, Tx, params, row_get};
use tokio_postgres::Row;
use uuid::Uuid;

use super::currency;
use crate::domain::invoice::InvoiceId;
use crate::domain::money::Money;
use crate::domain::order::OrderId;
use crate::domain::payment::{Payment, PaymentId, PaymentState};
use crate::domain::payment_method::PaymentMethodId;

/// The columns that [`from_row`] reads, of a payment under the alias `p`.
macro_rules! payment_columns {
    () => {
        "p.account, p.id, p.state, p.amount, p.currency, p.decline_reason, p.order_id, p.attempt, p.invoice,
         p.payment_method, p.create_time, p.settle_time"
    };
}

/// One payment.
pub const READ: &str = concat!(
    "-- get_payment
     SELECT ",
    payment_columns!(),
    " FROM payment p WHERE p.account = $1 AND p.id = $2"
);

/// An account's payments before `$2` by id (all where that is null), newest first, at most `$3`. One row of nulls means
/// that the account exists and has none.
pub const LIST: &str = concat!(
    "-- list_payments
     SELECT ",
    payment_columns!(),
    " FROM account a LEFT JOIN LATERAL (
         SELECT * FROM payment p
         WHERE p.account = a.account AND ($2::uuid IS NULL OR p.id < $2) ORDER BY p.id DESC LIMIT $3
     ) p ON true
     WHERE a.account = $1 ORDER BY p.id DESC"
);

/// Maps a row that has [`payment_columns`].
pub fn from_row(row: &Row) -> Result<Payment, Error> {
    let account: AccountId = row_get(row, "account")?;
    let id: Uuid = row_get(row, "id")?;
    let settled: Option<Timestamp> = row_get(row, "settle_time")?;
    let state = match (row_get::<&str>(row, "state")?, settled) {
        ("PROCESSING", None) => PaymentState::Processing,
        ("SUCCEEDED", Some(at)) => PaymentState::Succeeded {
            at,
            invoice: InvoiceId {
                account: account.clone(),
                id: row_get(row, "invoice")?,
            },
        },
        ("DECLINED", Some(at)) => PaymentState::Declined {
            at,
            reason: row_get(row, "decline_reason")?,
        },
        _ => {
            return Err(Error::Corrupt {
                table: "payment",
                column: "state",
                id: id.to_string(),
            });
        }
    };
    let method: Option<Uuid> = row_get(row, "payment_method")?;
    Ok(Payment {
        amount: Money::new(
            row_get(row, "amount")?,
            currency(row, "payment", "currency")?,
        ),
        state,
        order: OrderId {
            account: account.clone(),
            id: row_get(row, "order_id")?,
        },
        attempt: row_get(row, "attempt")?,
        method: method.map(|id| PaymentMethodId {
            account: account.clone(),
            id,
        }),
        created_at: row_get(row, "create_time")?,
        id: PaymentId { account, id },
    })
}

/// Queues a new payment.
pub fn insert(tx: &mut Tx, payment: &Payment) {
    tx.write(
        "-- insert_payment
         INSERT INTO payment (account, id, state, amount, currency, order_id, attempt, payment_method, create_time)
         VALUES ($1, $2, 'PROCESSING', $3, $4, $5, $6, $7, $8)",
        params![
            payment.id.account.clone(),
            payment.id.id,
            payment.amount.minor,
            payment.amount.currency.code(),
            payment.order.id.clone(),
            payment.attempt,
            payment.method.as_ref().map(|method| method.id),
            payment.created_at,
        ],
        Rows::Exactly(1),
    );
}

/// Queues a payment's outcome.
pub fn settle(tx: &mut Tx, payment: &Payment) {
    let (state, at, reason, invoice) = match &payment.state {
        PaymentState::Processing => return,
        PaymentState::Succeeded { at, invoice } => ("SUCCEEDED", *at, None, Some(invoice.id)),
        PaymentState::Declined { at, reason } => ("DECLINED", *at, Some(reason.clone()), None),
    };
    tx.write(
        "-- settle_payment
         UPDATE payment SET state = $3, settle_time = $4, decline_reason = $5, invoice = $6, payment_method = $7
         WHERE account = $1 AND id = $2 AND state = 'PROCESSING'",
        params![
            payment.id.account.clone(),
            payment.id.id,
            state,
            at,
            reason,
            invoice,
            payment.method.as_ref().map(|method| method.id),
        ],
        Rows::Exactly(1),
    );
}
