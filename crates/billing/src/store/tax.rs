//! Tax rates.

use jiff::Timestamp;
use jiff::civil::Date;
use octroi_platform::{Error, Rows, Tx, params, row_get};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::domain::money::Rate;
use crate::domain::tax::{TaxCategory, TaxRate};

/// Every tax rate of the country `country` as four parallel arrays, which [`from_row`] reads: one value each in a row
/// about something else.
macro_rules! tax_rate_columns {
    ($country:literal) => {
        concat!(
            "ARRAY(SELECT t.id FROM tax_rate t WHERE t.country = ",
            $country,
            " ORDER BY t.valid_from) AS tax_ids,
             ARRAY(SELECT t.category FROM tax_rate t WHERE t.country = ",
            $country,
            " ORDER BY t.valid_from)
                 AS tax_categories,
             ARRAY(SELECT t.rate_ppm FROM tax_rate t WHERE t.country = ",
            $country,
            " ORDER BY t.valid_from)
                 AS tax_rates,
             ARRAY(SELECT t.valid_from FROM tax_rate t WHERE t.country = ",
            $country,
            " ORDER BY t.valid_from)
                 AS tax_dates"
        )
    };
}
pub(crate) use tax_rate_columns;

/// Maps a row that has [`tax_rate_columns`] of this country.
pub fn from_row(row: &Row, country: &str) -> Result<Vec<TaxRate>, Error> {
    let ids: Vec<Uuid> = row_get(row, "tax_ids")?;
    let categories: Vec<&str> = row_get(row, "tax_categories")?;
    let ppm: Vec<i32> = row_get(row, "tax_rates")?;
    let dates: Vec<Date> = row_get(row, "tax_dates")?;
    ids.into_iter()
        .zip(categories)
        .zip(ppm.into_iter().zip(dates))
        .map(|((id, category), (ppm, valid_from))| {
            let corrupt = |column| Error::Corrupt {
                table: "tax_rate",
                column,
                id: id.to_string(),
            };
            Ok(TaxRate {
                id,
                country: country.to_owned(),
                category: TaxCategory::parse(category).ok_or_else(|| corrupt("category"))?,
                rate: Rate::from_ppm(ppm).ok_or_else(|| corrupt("rate_ppm"))?,
                valid_from,
            })
        })
        .collect()
}

/// The countries that have a tax rate from exactly this day.
pub async fn countries_from(tx: &Tx, valid_from: Date) -> Result<Vec<String>, Error> {
    let rows = tx
        .query(
            "-- countries_from
             SELECT country FROM tax_rate WHERE valid_from = $1",
            &[&valid_from],
        )
        .await?;
    rows.iter().map(|row| row_get(row, "country")).collect()
}

/// Queues a tax rate. "tax_rate_once" refuses a second one of the same country and day.
pub fn insert(tx: &mut Tx, rate: &TaxRate, now: Timestamp) {
    tx.write(
        "-- insert_tax_rate
         INSERT INTO tax_rate (id, country, category, rate_ppm, valid_from, create_time)
         VALUES ($1, $2, $3, $4, $5, $6)",
        params![
            rate.id,
            rate.country.clone(),
            rate.category.as_str(),
            rate.rate.ppm(),
            rate.valid_from,
            now,
        ],
        Rows::Exactly(1),
    );
}
