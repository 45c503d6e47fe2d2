//! Rows of `license_order` and `order_line`.

use std::fmt;

use jiff::Timestamp;
use octroi_platform::{Db, Error, Rows, ToSql, Tx, params, row_get};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::billing;
use crate::domain::group::GroupId;
use crate::domain::offer::OfferId;
use crate::domain::order::{Line, NewGroup, Order, OrderId, Receipt, State};

macro_rules! select {
    ($name:literal, $rest:literal) => {
        select!($name, "license_order o", $rest)
    };
    ($name:literal, $from:literal, $rest:literal) => {
        concat!(
            "-- ",
            $name,
            "
            SELECT o.account, o.order_id, o.group_id, o.new_display_name, o.new_renewal_period, o.new_auto_renew,
                   o.state, o.quote, o.attempts, o.decline_reason, o.payment, o.invoice, o.created_at, o.expires_at,
                   o.completed_at, o.version, l.offers, l.quantities, l.prices
            FROM ",
            $from,
            "
            CROSS JOIN LATERAL (
                SELECT array_agg(offer ORDER BY line) AS offers, array_agg(quantity ORDER BY line) AS quantities,
                       array_agg(price ORDER BY line) AS prices
                FROM order_line WHERE order_line.account = $1 AND order_line.order_id = o.order_id
            ) l ",
            $rest
        )
    };
}

pub(crate) const READ: &str = select!("read_order", "WHERE o.account = $1 AND o.order_id = $2");

/// A page of an account's orders, by id.
pub(crate) const LIST: &str = select!(
    "list_orders",
    "account a LEFT JOIN LATERAL (
                SELECT * FROM license_order
                WHERE account = $1 AND ($2::text IS NULL OR order_id > $2)
                ORDER BY order_id LIMIT $3
            ) o ON true",
    "WHERE a.account = $1 ORDER BY o.order_id"
);

/// One order, locked for a change that does not concern its group.
pub(crate) const LOCK_ALONE: &str = select!(
    "lock_order_alone",
    "WHERE o.account = $1 AND o.order_id = $2 FOR UPDATE OF o"
);

/// Locks an order for a change, and before it the group that it concerns when there is one already.
pub(crate) const LOCK: &str = "-- lock_order
    WITH held AS MATERIALIZED (
        SELECT g.group_id FROM license_group g
        WHERE g.account = $1
          AND g.group_id = (SELECT group_id FROM license_order WHERE account = $1 AND order_id = $2)
        FOR UPDATE
    )
    SELECT o.order_id FROM license_order o CROSS JOIN (SELECT count(*) FROM held) h
    WHERE o.account = $1 AND o.order_id = $2 FOR UPDATE OF o";

/// The group's orders that still await payment, locked; the group's own lock is held. The orders being paid come too.
pub(crate) const LOCK_UNPAID_OF_GROUP: &str = "-- lock_unpaid_orders_of_group
    SELECT order_id, state FROM license_order
    WHERE account = $1 AND group_id = $2 AND state IN ('AWAITING_PAYMENT', 'PAYING')
    ORDER BY order_id FOR UPDATE";

/// The parameters that find one order.
pub(crate) fn key(id: &OrderId) -> [&(dyn ToSql + Sync); 2] {
    [&id.account, &id.id]
}

pub(crate) async fn read(db: &Db, id: &OrderId) -> Result<Option<Order>, Error> {
    let row = db.query_opt(READ, &key(id)).await?;
    row.as_ref().map(from_row).transpose()
}

/// An order whose time is over.
#[derive(Debug, Clone)]
pub(crate) struct Overdue {
    pub(crate) order: OrderId,
    /// When it was to be paid.
    at: Timestamp,
}

impl fmt::Display for Overdue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} that expired at {}", self.order, self.at)
    }
}

/// Orders whose time is over at `$1`, the earliest first: those after (`$2`, `$3`, `$4`), at most `$5`.
const OVERDUE: &str = "-- overdue_orders
    SELECT account, order_id, expires_at FROM license_order
    WHERE state = 'AWAITING_PAYMENT' AND expires_at <= $1 AND (expires_at, account, order_id) > ($2, $3, $4)
    ORDER BY expires_at, account, order_id LIMIT $5";

/// Orders whose time is over, the earliest first, after one or from the first.
pub(crate) async fn overdue(
    db: &Db,
    now: Timestamp,
    after: Option<Overdue>,
    most: i64,
) -> Result<Vec<Overdue>, Error> {
    let after = after.as_ref();
    let at = after.map_or(Timestamp::UNIX_EPOCH, |overdue| overdue.at);
    let account = after.map_or("", |overdue| overdue.order.account.as_str());
    let order = after.map_or("", |overdue| overdue.order.id.as_str());
    let params = [
        (&now as &(dyn ToSql + Sync), Type::TIMESTAMPTZ),
        (&at, Type::TIMESTAMPTZ),
        (&account, Type::TEXT),
        (&order, Type::TEXT),
        (&most, Type::INT8),
    ];
    let rows = db.query_planned(OVERDUE, &params).await?;
    let overdue = |row| {
        Ok(Overdue {
            order: OrderId {
                account: row_get(row, "account")?,
                id: row_get(row, "order_id")?,
            },
            at: row_get(row, "expires_at")?,
        })
    };
    rows.iter().map(overdue).collect()
}

/// One order that awaits payment, locked if nobody else holds it.
pub(crate) const LOCK_FREE: &str = select!(
    "lock_free_order",
    "WHERE o.account = $1 AND o.order_id = $2 AND o.state = 'AWAITING_PAYMENT' FOR UPDATE OF o SKIP LOCKED"
);

pub(crate) struct Taken {
    pub(crate) order: bool,
    /// Another order is to create a group with it.
    pub(crate) group: bool,
}

/// Whether the ids of a new order are taken.
pub(crate) async fn taken(db: &Db, order: &Order) -> Result<Taken, Error> {
    let rows = db
        .query(
            "-- taken_ids
             SELECT EXISTS (SELECT FROM license_order WHERE account = $1 AND order_id = $2) AS order_taken,
                    EXISTS (SELECT FROM license_order
                            WHERE account = $1 AND group_id = $3 AND new_display_name IS NOT NULL) AS group_taken",
            &[&order.id.account, &order.id.id, &order.group.id],
        )
        .await?;
    let row = rows
        .first()
        .ok_or_else(|| Error::Internal(anyhow::anyhow!("a question about ids was not answered")))?;
    Ok(Taken {
        order: row_get(row, "order_taken")?,
        group: row_get(row, "group_taken")?,
    })
}

pub(crate) fn insert(tx: &mut Tx, order: &Order) {
    let new = order.new_group.as_ref();
    tx.write(
        "-- insert_order
         INSERT INTO license_order (account, order_id, group_id, new_display_name, new_renewal_period, new_auto_renew,
             state, quote, due_now_currency, due_now_amount, created_at, updated_at, expires_at, version)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $12, $13)",
        params![
            order.id.account.clone(),
            order.id.id.clone(),
            order.group.id.clone(),
            new.map(|new| new.display_name.clone()),
            new.map(|new| new.renewal_period.as_str()),
            new.map(|new| new.auto_renew),
            order.state.as_str(),
            order.quote.encoded.clone(),
            order.quote.due_now.currency.clone(),
            order.quote.due_now.amount.clone(),
            order.created_at,
            order.expires_at,
            order.version,
        ],
        Rows::Exactly(1),
    );
    let lines = || order.lines.iter();
    tx.write(
        "-- insert_order_lines
         INSERT INTO order_line (account, order_id, line, offer, quantity, price)
         SELECT $1, $2, l.line, l.offer, l.quantity, l.price
         FROM unnest($3::text[], $4::int[], $5::text[]) WITH ORDINALITY AS l (offer, quantity, price, line)",
        params![
            order.id.account.clone(),
            order.id.id.clone(),
            lines().map(|line| line.offer.clone()).collect::<Vec<_>>(),
            lines().map(|line| line.quantity).collect::<Vec<_>>(),
            lines().map(|line| line.price.clone()).collect::<Vec<_>>(),
        ],
        Rows::Exactly(order.lines.len() as u64),
    );
}

/// Writes what a transition changed; the row must still be in the version before.
pub(crate) fn update(tx: &mut Tx, order: &Order) {
    let (completed_at, receipt) = match &order.state {
        State::Completed { at, receipt } => (Some(*at), receipt.clone()),
        _ => (None, Receipt::default()),
    };
    let now = tx.call().now;
    tx.write(
        "-- update_order
         UPDATE license_order SET state = $3, attempts = $4, decline_reason = $5, payment = $6, invoice = $7,
             completed_at = $8, updated_at = $9, version = $10
         WHERE account = $1 AND order_id = $2 AND version + 1 = $10",
        params![
            order.id.account.clone(),
            order.id.id.clone(),
            order.state.as_str(),
            order.attempts,
            order.decline_reason.clone(),
            receipt.payment,
            receipt.invoice,
            completed_at,
            now,
            order.version,
        ],
        Rows::Exactly(1),
    );
}

/// Cancels orders that await payment; the caller holds their locks.
pub(crate) fn cancel_unpaid(tx: &mut Tx, group: &GroupId, orders: &[OrderId]) {
    let now = tx.call().now;
    let orders: Vec<_> = orders.iter().map(|order| order.id.clone()).collect();
    tx.write(
        "-- cancel_unpaid_orders
         WITH cancelled AS (
             UPDATE license_order SET state = 'CANCELLED', updated_at = $3, version = version + 1
             WHERE account = $1 AND order_id = ANY ($2) AND state = 'AWAITING_PAYMENT'
             RETURNING 1
         )
         SELECT expect_rows((SELECT count(*) FROM cancelled), cardinality($2)::bigint)",
        params![group.account.clone(), orders, now],
        Rows::Any,
    );
}

pub(crate) fn from_row(row: &Row) -> Result<Order, Error> {
    let id = OrderId {
        account: row_get(row, "account")?,
        id: row_get(row, "order_id")?,
    };
    let corrupt = |column| Error::Corrupt {
        table: "license_order",
        column,
        id: id.to_string(),
    };
    let state = match row_get::<&str>(row, "state")? {
        "AWAITING_PAYMENT" => State::AwaitingPayment,
        "PAYING" => State::Paying,
        "COMPLETED" => State::Completed {
            at: row_get::<Option<_>>(row, "completed_at")?
                .ok_or_else(|| corrupt("completed_at"))?,
            receipt: Receipt {
                payment: row_get(row, "payment")?,
                invoice: row_get(row, "invoice")?,
            },
        },
        "EXPIRED" => State::Expired,
        "CANCELLED" => State::Cancelled,
        _ => return Err(corrupt("state")),
    };
    let new_group = match row_get::<Option<String>>(row, "new_display_name")? {
        Some(display_name) => Some(NewGroup {
            display_name,
            renewal_period: row_get::<Option<&str>>(row, "new_renewal_period")?
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| corrupt("new_renewal_period"))?,
            auto_renew: row_get(row, "new_auto_renew")?,
        }),
        None => None,
    };
    Ok(Order {
        group: GroupId {
            account: id.account.clone(),
            id: row_get(row, "group_id")?,
        },
        new_group,
        state,
        lines: lines(row)?,
        quote: billing::quote(row_get(row, "quote")?).ok_or_else(|| corrupt("quote"))?,
        attempts: row_get(row, "attempts")?,
        decline_reason: row_get(row, "decline_reason")?,
        created_at: row_get(row, "created_at")?,
        expires_at: row_get(row, "expires_at")?,
        version: row_get(row, "version")?,
        id,
    })
}

fn lines(row: &Row) -> Result<Vec<Line>, Error> {
    let offers: Vec<OfferId> = row_get(row, "offers")?;
    let quantities: Vec<i32> = row_get(row, "quantities")?;
    let prices: Vec<String> = row_get(row, "prices")?;
    Ok(offers
        .into_iter()
        .zip(quantities)
        .zip(prices)
        .map(|((offer, quantity), price)| Line {
            offer,
            quantity,
            price,
        })
        .collect())
}
