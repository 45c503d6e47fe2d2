//! What is known of accounts when they are charged.

use std::collections::HashMap;

use jiff::Timestamp;
use octroi_platform::calendar::Month;
use octroi_platform::{Error, Tx, row_get};
use uuid::Uuid;

use super::price::price_columns;
use super::tax::tax_rate_columns;
use super::{price, tax};
use crate::domain::charge::{Billed, Sold};
use crate::domain::price::Price;
use crate::domain::tax::TaxRate;

/// A month that a bill run closed for an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// Account id.
    pub account: String,
    /// The month.
    pub month: Month,
    /// Whether usage changed in it since.
    pub late: bool,
}

/// Of some accounts: whether a month is closed, and every closed month with late usage.
pub async fn closed(tx: &Tx, accounts: &[&str], month: Month) -> Result<Vec<Closed>, Error> {
    let rows = tx
        .query(
            "-- closed_months
             SELECT billed.account, billed.month, late.month IS NOT NULL AS late
             FROM billed_month AS billed LEFT JOIN late_usage AS late USING (account, month)
             WHERE billed.account = ANY ($1) AND (billed.month = $2 OR late.month IS NOT NULL)
             ORDER BY billed.account, billed.month",
            &[&accounts, &month.to_string()],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let account: String = row_get(row, "account")?;
            Ok(Closed {
                month: read_month(row_get(row, "month")?, &account)?,
                late: row_get(row, "late")?,
                account,
            })
        })
        .collect()
}

/// How invoices name offers in groups: an item each, by account. `wanted` is (account, group, offer).
pub async fn sold(
    tx: &Tx,
    wanted: &[(&str, &str, &str)],
) -> Result<HashMap<String, Vec<Sold>>, Error> {
    let accounts: Vec<&str> = wanted.iter().map(|(account, ..)| *account).collect();
    let groups: Vec<&str> = wanted.iter().map(|(_, group, _)| *group).collect();
    let offers: Vec<&str> = wanted.iter().map(|(.., offer)| *offer).collect();
    let rows = tx
        .query(
            "-- sold
             SELECT wanted.account, wanted.group_id, wanted.offer, entry.enter_time, entry.price,
                 coalesce(usage_group.display_name, wanted.group_id) AS group_name,
                 coalesce(entry.display_name, wanted.offer) AS offer_name
             FROM (
                 SELECT DISTINCT * FROM unnest($1::text[], $2::text[], $3::text[])
                     AS wanted (account, group_id, offer)
             ) AS wanted
             LEFT JOIN usage_group ON usage_group.account = wanted.account
                 AND usage_group.group_id = wanted.group_id
             LEFT JOIN group_offer_entry AS entry ON entry.account = wanted.account
                 AND entry.group_id = wanted.group_id AND entry.offer = wanted.offer",
            &[&accounts, &groups, &offers],
        )
        .await?;
    let mut sold: HashMap<String, Vec<Sold>> = HashMap::new();
    for row in &rows {
        let entered: Option<Timestamp> = row_get(row, "enter_time")?;
        let price: Option<Uuid> = row_get(row, "price")?;
        sold.entry(row_get(row, "account")?)
            .or_default()
            .push(Sold {
                group: row_get(row, "group_id")?,
                group_name: row_get(row, "group_name")?,
                offer: row_get(row, "offer")?,
                offer_name: row_get(row, "offer_name")?,
                entry: entered.zip(price),
            });
    }
    Ok(sold)
}

/// What invoices charged of months so far, by account and month.
pub async fn billed(
    tx: &Tx,
    wanted: &[(&str, Month)],
) -> Result<HashMap<(String, Month), Vec<Billed>>, Error> {
    let accounts: Vec<&str> = wanted.iter().map(|(account, _)| *account).collect();
    let months: Vec<String> = wanted.iter().map(|(_, month)| month.to_string()).collect();
    let rows = tx
        .query(
            "-- billed
             SELECT line.account, line.month, line.group_id, line.offer, (array_agg(line.price))[1] AS price,
                 sum(line.quantity)::integer AS quantity
             FROM unnest($1::text[], $2::text[]) AS wanted (account, month)
             JOIN invoice_line AS line ON line.account = wanted.account AND line.month = wanted.month
             GROUP BY line.account, line.month, line.group_id, line.offer",
            &[&accounts, &months],
        )
        .await?;
    let mut billed: HashMap<(String, Month), Vec<Billed>> = HashMap::new();
    for row in &rows {
        let account: String = row_get(row, "account")?;
        let month = read_month(row_get(row, "month")?, &account)?;
        billed.entry((account, month)).or_default().push(Billed {
            group: row_get(row, "group_id")?,
            offer: row_get(row, "offer")?,
            price: row_get(row, "price")?,
            quantity: row_get(row, "quantity")?,
        });
    }
    Ok(billed)
}

/// Every price of some offers, those that their orders quoted among them.
pub async fn prices(tx: &Tx, offers: &[&str]) -> Result<Vec<Price>, Error> {
    const SQL: &str = concat!(
        "-- prices_of_offers
         SELECT ",
        price_columns!(),
        " FROM price p WHERE p.offer = ANY ($1)"
    );
    let rows = tx.query(SQL, &[&offers]).await?;
    rows.iter().map(price::price).collect()
}

/// Every tax rate of some countries.
pub async fn rates(tx: &Tx, countries: &[&str]) -> Result<Vec<TaxRate>, Error> {
    const SQL: &str = concat!(
        "-- rates_of_countries
         SELECT country, ",
        tax_rate_columns!("wanted.country"),
        " FROM unnest($1::text[]) AS wanted (country)"
    );
    let mut rates = Vec::new();
    for row in &tx.query(SQL, &[&countries]).await? {
        rates.extend(tax::rates(row, row_get(row, "country")?)?);
    }
    Ok(rates)
}

fn read_month(text: &str, account: &str) -> Result<Month, Error> {
    text.parse().map_err(|_| Error::Corrupt {
        table: "billed_month",
        column: "month",
        id: account.to_owned(),
    })
}
