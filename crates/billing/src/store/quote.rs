//! The reads of a quote: the account, its seller's zone, prices in force and tax rates.

use octroi_platform::{Error, row_get};
use tokio_postgres::Row;

use super::account::account_columns;
use super::price::{self, price_columns};
use super::seller::seller_columns;
use super::tax::tax_rate_columns;
use crate::domain::price::{Price, PriceId};

/// The account `$1` with its seller's time zone, its country's tax rates, and for each offer of `$2` the price in force
/// at `$3` in its currency: one row an offer, in their order, nulls where there is no price.
pub const QUOTE: &str = concat!(
    "-- quote
     SELECT ",
    account_columns!(),
    ", s.time_zone AS seller_time_zone, ",
    tax_rate_columns!("a.country"),
    ", ",
    price_columns!(),
    " FROM account a JOIN seller s ON s.id = a.seller
     CROSS JOIN unnest($2::text[]) WITH ORDINALITY AS o (offer, place)
     LEFT JOIN LATERAL (
         SELECT * FROM price
         WHERE offer = o.offer AND currency = a.currency AND valid_from <= $3
         ORDER BY valid_from DESC LIMIT 1
     ) p ON true
     WHERE a.account = $1 ORDER BY o.place"
);

/// The account `$1`, locked, with its seller.
pub const LOCK_ACCOUNT: &str = concat!(
    "-- lock_account_to_settle
     SELECT ",
    account_columns!(),
    ", ",
    seller_columns!(),
    " FROM account a JOIN seller s ON s.id = a.seller
     WHERE a.account = $1 FOR NO KEY UPDATE OF a"
);

/// The price of a row of [`QUOTE`].
pub fn price_in_force(row: &Row) -> Result<Option<Price>, Error> {
    match row_get::<Option<PriceId>>(row, "price_id")? {
        None => Ok(None),
        Some(_) => price::from_row(row).map(Some),
    }
}
