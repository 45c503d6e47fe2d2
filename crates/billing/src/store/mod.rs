//! SQL beside its row mapping. Functions take a transaction and queue writes on it, or give a read's statement.

pub mod account;
pub mod bill_run;
pub mod charge;
pub mod check;
pub mod gateway;
pub mod invoice;
pub mod ledger;
pub mod numbering;
pub mod payment;
pub mod payment_method;
pub mod price;
pub mod quote;
pub mod range;
pub mod seller;
pub mod settlement;
pub mod tax;
pub mod usage;

use octroi_platform::{Error, row_get};
use tokio_postgres::Row;

use crate::domain::money::Currency;

/// The currency of a row that reads it as `column`, from a table that calls it "currency".
pub(crate) fn currency(row: &Row, table: &'static str, column: &str) -> Result<Currency, Error> {
    let code: &str = row_get(row, column)?;
    Currency::find(code).ok_or_else(|| Error::Corrupt {
        table,
        column: "currency",
        id: code.to_owned(),
    })
}

/// One column of the rows that one statement writes, for its `unnest`.
pub(crate) fn column<'a, T, V>(rows: &'a [T], value: impl Fn(&'a T) -> V) -> Vec<V> {
    rows.iter().map(value).collect()
}
