//! Settlements: attempts of orders, with the lines of the quote that they settle.

use std::time::Duration;

use jiff::Timestamp;
use octroi_platform::{AccountId, Db, Error, Rows, ToSql, Tx, params, row_get};
use tokio_postgres::Row;
use uuid::Uuid;

use super::currency;
use crate::domain::invoice::InvoiceId;
use crate::domain::money::Rate;
use crate::domain::order::OrderId;
use crate::domain::payment::PaymentId;
use crate::domain::payment_method::{NewMethod, PaymentMethodId, TestToken};
use crate::domain::price::{PriceId, UsagePolicy};
use crate::domain::quote::{Quote, QuoteLine};
use crate::domain::settlement::{Attempt, Charge, Means, Settlement, SettlementState};
use crate::domain::tax::TaxCategory;

/// The columns that [`from_row`] reads, of an attempt under the alias `t`.
macro_rules! settlement_columns {
    () => {
        "t.account, t.order_id, t.attempt, t.state, t.decline_reason, t.currency, t.seller, t.tax_category,
         t.tax_rate_ppm, t.net, t.tax, t.due, t.payment_method, t.new_token, t.new_display_name, t.payment,
         t.invoice, t.create_time, t.settle_time"
    };
}

/// One attempt.
pub const READ: &str = concat!(
    "-- get_settlement
     SELECT ",
    settlement_columns!(),
    " FROM settlement t WHERE t.account = $1 AND t.order_id = $2 AND t.attempt = $3"
);

/// How long the lease of an attempt lasts unless it is renewed.
const LEASE: Duration = Duration::from_secs(10);

/// How often a lease is renewed while the gateway has not answered.
pub const RENEW_EVERY: Duration = Duration::from_secs(3);

/// One attempt, locked after its account, whose payment methods may change with the outcome. `held` is whether `$4` is
/// still its lease.
pub const LOCK: &str = concat!(
    "-- lock_settlement
     WITH held AS MATERIALIZED (
         SELECT a.account FROM account a WHERE a.account = $1 FOR NO KEY UPDATE
     )
     SELECT t.lease_token IS NOT DISTINCT FROM $4 AS held, ",
    settlement_columns!(),
    " FROM settlement t CROSS JOIN (SELECT count(*) FROM held) h
     WHERE t.account = $1 AND t.order_id = $2 AND t.attempt = $3 FOR UPDATE OF t"
);

/// Maps a row that has [`settlement_columns`].
pub fn from_row(row: &Row) -> Result<Settlement, Error> {
    let attempt = attempt(row)?;
    let account = &attempt.order.account;
    let corrupt = |column| Error::Corrupt {
        table: "settlement",
        column,
        id: attempt.charge_key(),
    };
    let settled: Option<Timestamp> = row_get(row, "settle_time")?;
    let state = match (row_get::<&str>(row, "state")?, settled) {
        ("PROCESSING", None) => SettlementState::Processing,
        ("SUCCEEDED", Some(at)) => SettlementState::Succeeded {
            at,
            invoice: row_get::<Option<Uuid>>(row, "invoice")?.map(|id| InvoiceId {
                account: account.clone(),
                id,
            }),
        },
        ("DECLINED", Some(at)) => SettlementState::Declined {
            at,
            reason: row_get(row, "decline_reason")?,
        },
        _ => return Err(corrupt("state")),
    };
    Ok(Settlement {
        charge: Charge {
            currency: currency(row, "settlement", "currency")?,
            seller: row_get(row, "seller")?,
            tax_category: TaxCategory::parse(row_get(row, "tax_category")?)
                .ok_or_else(|| corrupt("tax_category"))?,
            tax_rate: Rate::from_ppm(row_get(row, "tax_rate_ppm")?)
                .ok_or_else(|| corrupt("tax_rate_ppm"))?,
            net: row_get(row, "net")?,
            tax: row_get(row, "tax")?,
            due: row_get(row, "due")?,
        },
        means: means(row, account)?.map_err(corrupt)?,
        payment: row_get::<Option<Uuid>>(row, "payment")?.map(|id| PaymentId {
            account: account.clone(),
            id,
        }),
        state,
        created_at: row_get(row, "create_time")?,
        attempt,
    })
}

/// What an attempt is paid with; the error is the corrupt column.
fn means(row: &Row, account: &AccountId) -> Result<Result<Option<Means>, &'static str>, Error> {
    let on_file: Option<Uuid> = row_get(row, "payment_method")?;
    let token: Option<&str> = row_get(row, "new_token")?;
    let display_name: Option<String> = row_get(row, "new_display_name")?;
    Ok(match (on_file, token.zip(display_name)) {
        (Some(id), _) => Ok(Some(Means::OnFile(PaymentMethodId {
            account: account.clone(),
            id,
        }))),
        (None, Some((token, display_name))) => match TestToken::parse(token) {
            Ok(token) => Ok(Some(Means::New(NewMethod {
                token,
                display_name,
            }))),
            Err(_) => Err("new_token"),
        },
        (None, None) => Ok(None),
    })
}

fn attempt(row: &Row) -> Result<Attempt, Error> {
    Ok(Attempt {
        order: OrderId {
            account: row_get(row, "account")?,
            id: row_get(row, "order_id")?,
        },
        number: row_get(row, "attempt")?,
    })
}

/// Every attempt of an order.
pub async fn of_order(tx: &Tx, order: &OrderId) -> Result<Vec<Settlement>, Error> {
    const SQL: &str = concat!(
        "-- settlements_of_order
         SELECT ",
        settlement_columns!(),
        " FROM settlement t WHERE t.account = $1 AND t.order_id = $2 ORDER BY t.attempt"
    );
    tx.query(SQL, &[&order.account, &order.id])
        .await?
        .iter()
        .map(from_row)
        .collect()
}

/// The lines of an attempt's quote.
pub async fn lines(tx: &Tx, attempt: &Attempt) -> Result<Vec<QuoteLine>, Error> {
    let rows = tx
        .query(
            "-- settlement_lines
             SELECT l.offer, l.quantity, l.setup_fee, l.setup_amount, l.price, p.monthly, p.usage_policy
             FROM settlement_line l JOIN price p ON p.id = l.price
             WHERE l.account = $1 AND l.order_id = $2 AND l.attempt = $3 ORDER BY l.line",
            &[&attempt.order.account, &attempt.order.id, &attempt.number],
        )
        .await?;
    rows.iter().map(line).collect()
}

fn line(row: &Row) -> Result<QuoteLine, Error> {
    let price: PriceId = row_get(row, "price")?;
    Ok(QuoteLine {
        offer: row_get(row, "offer")?,
        quantity: row_get(row, "quantity")?,
        setup_fee: row_get(row, "setup_fee")?,
        setup_amount: row_get(row, "setup_amount")?,
        monthly: row_get(row, "monthly")?,
        price,
        policy: UsagePolicy::parse(row_get(row, "usage_policy")?).ok_or_else(|| {
            Error::Corrupt {
                table: "price",
                column: "usage_policy",
                id: price.to_string(),
            }
        })?,
    })
}

/// Queues a new attempt with its quote's lines, leased under `token` to the call that begins it.
/// "settlement_pkey" refuses a twin, "settlement_one_an_order" a second attempt that is under way or succeeded.
pub fn insert(tx: &mut Tx, settlement: &Settlement, quote: &Quote, token: Uuid) {
    let (state, at, reason) = columns(&settlement.state);
    let Settlement {
        attempt, charge, ..
    } = settlement;
    let new = match &settlement.means {
        Some(Means::New(new)) => Some(new),
        Some(Means::OnFile(_)) | None => None,
    };
    tx.write(
        "-- insert_settlement
         INSERT INTO settlement (account, order_id, attempt, state, decline_reason, currency, seller, tax_category,
             tax_rate_ppm, net, tax, due, payment_method, new_token, new_display_name, payment, create_time,
             settle_time, lease_token, look_time)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
             CASE WHEN $4 = 'PROCESSING' THEN $19::uuid END,
             statement_timestamp() + $20::bigint * interval '1 millisecond')",
        params![
            attempt.order.account.clone(),
            attempt.order.id.clone(),
            attempt.number,
            state,
            reason,
            charge.currency.code(),
            charge.seller.clone(),
            charge.tax_category.as_str(),
            charge.tax_rate.ppm(),
            charge.net,
            charge.tax,
            charge.due,
            settlement.on_file().map(|method| method.id),
            new.map(|new| new.token.as_str()),
            new.map(|new| new.display_name.clone()),
            settlement.payment.as_ref().map(|payment| payment.id),
            settlement.created_at,
            at,
            token,
            millis(LEASE),
        ],
        Rows::Exactly(1),
    );
    for (number, line) in (1_i32..).zip(&quote.lines) {
        tx.write(
            "-- insert_settlement_line
             INSERT INTO settlement_line (account, order_id, attempt, line, offer, quantity, setup_fee, setup_amount,
                 price)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            params![
                attempt.order.account.clone(),
                attempt.order.id.clone(),
                attempt.number,
                number,
                line.offer.clone(),
                line.quantity,
                line.setup_fee,
                line.setup_amount,
                line.price,
            ],
            Rows::Exactly(1),
        );
    }
}

/// Queues an attempt's definite outcome. A new method has been stored or dropped before.
pub fn settle(tx: &mut Tx, settlement: &Settlement) {
    let (state, at, reason) = columns(&settlement.state);
    let invoice = match &settlement.state {
        SettlementState::Succeeded { invoice, .. } => invoice.as_ref().map(|invoice| invoice.id),
        SettlementState::Processing | SettlementState::Declined { .. } => None,
    };
    tx.write(
        "-- settle
         UPDATE settlement SET state = $4, settle_time = $5, decline_reason = $6, invoice = $7, payment_method = $8,
             new_token = NULL, new_display_name = NULL, lease_token = NULL
         WHERE account = $1 AND order_id = $2 AND attempt = $3 AND state = 'PROCESSING'",
        params![
            settlement.attempt.order.account.clone(),
            settlement.attempt.order.id.clone(),
            settlement.attempt.number,
            state,
            at,
            reason,
            invoice,
            settlement.on_file().map(|method| method.id),
        ],
        Rows::Exactly(1),
    );
}

fn columns(state: &SettlementState) -> (&'static str, Option<Timestamp>, Option<String>) {
    match state {
        SettlementState::Processing => ("PROCESSING", None, None),
        SettlementState::Succeeded { at, .. } => ("SUCCEEDED", Some(*at), None),
        SettlementState::Declined { at, reason } => ("DECLINED", Some(*at), Some(reason.clone())),
    }
}

/// Attempts whose look is due, the first one first. Who is leased is not due before the lease ends. As many as may be
/// tried before one is left to whoever looks at the same time.
const DUE: &str = "-- due_settlements
    SELECT account, order_id, attempt FROM settlement
    WHERE state = 'PROCESSING' AND look_time <= now()
    ORDER BY look_time LIMIT 16";

/// Leases one attempt, unless it is not due any more or somebody has locked it. IS TRUE keeps the index of what is due out
/// of this.
const LEASE_DUE: &str = concat!(
    "-- lease_settlement
     UPDATE settlement t
     SET lease_token = $4, look_time = statement_timestamp() + $5::bigint * interval '1 millisecond', looks = looks + 1
     WHERE t.account = $1 AND t.order_id = $2 AND t.attempt = $3 AND t.state = 'PROCESSING'
       AND (t.look_time <= now()) IS TRUE
       AND EXISTS (SELECT FROM settlement l
                   WHERE l.account = $1 AND l.order_id = $2 AND l.attempt = $3 FOR UPDATE SKIP LOCKED)
     RETURNING ",
    settlement_columns!()
);

/// Leases the attempt that is due first among those that are not leased.
pub async fn lease(db: &Db, token: Uuid) -> Result<Option<Settlement>, Error> {
    for row in &db.query_planned(DUE, &[]).await? {
        let due = attempt(row)?;
        let (order, number) = (&due.order, &due.number);
        let params: [&(dyn ToSql + Sync); 5] =
            [&order.account, &order.id, number, &token, &millis(LEASE)];
        if let Some(row) = db.query_opt(LEASE_DUE, &params).await? {
            return from_row(&row).map(Some);
        }
    }
    Ok(None)
}

/// Leases this attempt, due or not; false while it is leased to another, and when it has ended.
pub async fn take(db: &Db, attempt: &Attempt, token: Uuid) -> Result<bool, Error> {
    let taken = db
        .execute(
            "-- take_settlement
             UPDATE settlement
             SET lease_token = $4, look_time = statement_timestamp() + $5::bigint * interval '1 millisecond',
                 looks = looks + 1
             WHERE account = $1 AND order_id = $2 AND attempt = $3 AND state = 'PROCESSING'
               AND (lease_token IS NULL OR look_time <= statement_timestamp())",
            &[
                &attempt.order.account,
                &attempt.order.id,
                &attempt.number,
                &token,
                &millis(LEASE),
            ],
        )
        .await?;
    Ok(taken == 1)
}

/// Renews a lease, unless it has been lost.
pub async fn renew(db: &Db, attempt: &Attempt, token: Uuid) -> Result<(), Error> {
    db.execute(
        "-- renew_settlement
         UPDATE settlement SET look_time = statement_timestamp() + $5::bigint * interval '1 millisecond'
         WHERE account = $1 AND order_id = $2 AND attempt = $3 AND lease_token = $4",
        &[
            &attempt.order.account,
            &attempt.order.id,
            &attempt.number,
            &token,
            &millis(LEASE),
        ],
    )
    .await?;
    Ok(())
}

/// Gives a lease back while the outcome is still unknown, and backs off: the next look is after 1 s, 2 s, 4 s and so on,
/// up to five minutes. A lease that has passed to another worker stays with it.
pub async fn back_off(db: &Db, attempt: &Attempt, token: Uuid) -> Result<(), Error> {
    db.execute(
        "-- back_off_settlement
         UPDATE settlement
         SET lease_token = NULL,
             look_time = to_timestamp(extract(epoch FROM now()) + least(1 << least(greatest(looks - 1, 0), 9), 300))
         WHERE account = $1 AND order_id = $2 AND attempt = $3 AND lease_token = $4 AND state = 'PROCESSING'",
        &[&attempt.order.account, &attempt.order.id, &attempt.number, &token],
    )
    .await?;
    Ok(())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
