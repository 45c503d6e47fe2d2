//! Series of numbers.

use std::collections::BTreeMap;

use jiff::civil::Date;
use octroi_platform::tx::Tx;
use octroi_platform::{Error, row_get};

use crate::domain::numbering::Taken;
use crate::domain::seller::SellerId;

/// Takes the next numbers of sellers' invoices and holds each series' row until the transaction ends; a rollback gives
/// the numbers back. Call it last, before the writes that travel with COMMIT. `wanted` is (seller, the seller's local
/// date, how many); the answer is in its order.
pub async fn take(tx: &Tx, wanted: &[(SellerId, Date, i64)]) -> Result<Vec<Taken>, Error> {
    let sellers: Vec<&SellerId> = wanted.iter().map(|(seller, ..)| seller).collect();
    let years: Vec<i16> = wanted.iter().map(|(_, date, _)| date.year()).collect();
    let dates: Vec<Date> = wanted.iter().map(|(_, date, _)| *date).collect();
    let counts: Vec<i64> = wanted.iter().map(|(.., count)| *count).collect();
    // Rows are locked in the order of their sellers, so that two transactions never wait for each other.
    let rows = tx
        .query(
            "-- take
             INSERT INTO series (seller, year, kind, last, last_date)
             SELECT seller, year, 'INVOICE', count, date
             FROM unnest($1::text[], $2::smallint[], $3::date[], $4::bigint[]) AS wanted (seller, year, date, count)
             ORDER BY seller, year
             ON CONFLICT (seller, year, kind) DO UPDATE SET
                 last = series.last + excluded.last,
                 last_date = greatest(series.last_date, excluded.last_date)
             RETURNING seller, last, last_date",
            &[&sellers, &years, &dates, &counts],
        )
        .await?;
    let mut last = BTreeMap::new();
    for row in &rows {
        let taken: (i64, Date) = (row_get(row, "last")?, row_get(row, "last_date")?);
        last.insert(row_get::<SellerId>(row, "seller")?, taken);
    }
    wanted
        .iter()
        .map(|(seller, _, count)| {
            let (last, date) = last
                .get(seller)
                .ok_or_else(|| Error::Internal(anyhow::anyhow!("no series for {seller}")))?;
            Ok(Taken {
                first: last - count + 1,
                count: *count,
                date: *date,
            })
        })
        .collect()
}
