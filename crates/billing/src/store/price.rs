//! Prices.

use jiff::Timestamp;
use octroi_platform::{Error, Rows, Tx, params, row_get};
use tokio_postgres::Row;

use super::currency;
use crate::domain::money::Currency;
use crate::domain::price::{OfferId, Price, PriceId, UsagePolicy};

/// The columns that [`from_row`] reads, of a price under the alias `p`.
macro_rules! price_columns {
    () => {
        "p.id AS price_id, p.offer AS price_offer, p.currency AS price_currency, p.monthly AS price_monthly,
         p.setup AS price_setup, p.usage_policy AS price_usage_policy, p.valid_from AS price_valid_from"
    };
}
pub(crate) use price_columns;

/// Maps a row that has [`price_columns`].
pub fn from_row(row: &Row) -> Result<Price, Error> {
    let id: PriceId = row_get(row, "price_id")?;
    let policy = row_get::<&str>(row, "price_usage_policy")?;
    Ok(Price {
        id,
        offer: row_get(row, "price_offer")?,
        currency: currency(row, "price", "price_currency")?,
        monthly: row_get(row, "price_monthly")?,
        setup: row_get(row, "price_setup")?,
        policy: UsagePolicy::parse(policy).ok_or_else(|| Error::Corrupt {
            table: "price",
            column: "usage_policy",
            id: id.to_string(),
        })?,
        valid_from: row_get(row, "price_valid_from")?,
    })
}

/// The prices with these ids.
pub async fn named(tx: &Tx, ids: &[PriceId]) -> Result<Vec<Price>, Error> {
    const SQL: &str = concat!(
        "-- named_prices
         SELECT ",
        price_columns!(),
        " FROM price p WHERE p.id = ANY ($1)"
    );
    tx.query(SQL, &[&ids]).await?.iter().map(from_row).collect()
}

/// The offers that have a price in a currency from exactly this instant.
pub async fn offers_from(
    tx: &Tx,
    currency: Currency,
    valid_from: Timestamp,
) -> Result<Vec<OfferId>, Error> {
    let rows = tx
        .query(
            "-- offers_from
             SELECT offer FROM price WHERE currency = $1 AND valid_from = $2",
            &[&currency.code(), &valid_from],
        )
        .await?;
    rows.iter().map(|row| row_get(row, "offer")).collect()
}

/// Queues a price. "price_once" refuses a second one of the same offer, currency and instant.
pub fn insert(tx: &mut Tx, price: &Price, now: Timestamp) {
    tx.write(
        "-- insert_price
         INSERT INTO price (id, offer, currency, monthly, setup, usage_policy, valid_from, create_time)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        params![
            price.id,
            price.offer.clone(),
            price.currency.code(),
            price.monthly,
            price.setup,
            price.policy.as_str(),
            price.valid_from,
            now,
        ],
        Rows::Exactly(1),
    );
}
