//! What months are charged from.

use std::collections::HashMap;

use jiff::Timestamp;
use octroi_calendar::{Month, Span};
use octroi_platform::{AccountId, Error, Reads, row_get};

use super::price::price_columns;
use super::tax::tax_rate_columns;
use super::{price, tax};
use crate::domain::charge::{Billed, Sold};
use crate::domain::price::{Price, PriceId};
use crate::domain::tax::TaxRate;

/// A month that a bill run closed for an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    pub account: AccountId,
    pub month: Month,
    /// Whether usage changed in it since.
    pub late: bool,
}

/// Of some accounts: whether a month is closed, and every closed month with late usage.
pub async fn closed(
    reads: &Reads,
    accounts: &[&AccountId],
    month: Month,
) -> Result<Vec<Closed>, Error> {
    let rows = reads
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
            let account: AccountId = row_get(row, "account")?;
            Ok(Closed {
                month: read_month(row_get(row, "month")?, &account)?,
                late: row_get(row, "late")?,
                account,
            })
        })
        .collect()
}

/// How invoices name offers in groups, by account: of every offer in a group that these accounts used in a stretch of
/// time.
pub async fn sold(
    reads: &Reads,
    accounts: &[AccountId],
    window: Span,
) -> Result<HashMap<AccountId, Vec<Sold>>, Error> {
    let rows = reads
        .query(
            "-- sold
             SELECT used.account, used.group_id, used.offer, entry.enter_time, entry.price,
                 coalesce(usage_group.display_name, used.group_id) AS group_name,
                 coalesce(entry.display_name, used.offer) AS offer_name
             FROM (
                 SELECT DISTINCT account, group_id, offer FROM usage_interval
                 WHERE account = ANY ($1) AND start_time < $3 AND coalesce(end_time, 'infinity') > $2
             ) AS used
             LEFT JOIN usage_group ON usage_group.account = used.account
                 AND usage_group.group_id = used.group_id
             LEFT JOIN group_offer_entry AS entry ON entry.account = used.account
                 AND entry.group_id = used.group_id AND entry.offer = used.offer",
            &[&accounts, &window.start, &window.end],
        )
        .await?;
    let mut sold: HashMap<AccountId, Vec<Sold>> = HashMap::new();
    for row in &rows {
        let entered: Option<Timestamp> = row_get(row, "enter_time")?;
        let price: Option<PriceId> = row_get(row, "price")?;
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

/// What invoices charged so far of the closed months of these accounts that have late usage, by account and month.
pub async fn billed(
    reads: &Reads,
    accounts: &[AccountId],
) -> Result<HashMap<(AccountId, Month), Vec<Billed>>, Error> {
    let rows = reads
        .query(
            "-- billed
             SELECT line.account, line.month, line.group_id, line.offer, (array_agg(line.price))[1] AS price,
                 sum(line.quantity)::integer AS quantity
             FROM late_usage AS late
             JOIN invoice_line AS line ON line.account = late.account AND line.month = late.month
             WHERE late.account = ANY ($1)
             GROUP BY line.account, line.month, line.group_id, line.offer",
            &[&accounts],
        )
        .await?;
    let mut billed: HashMap<(AccountId, Month), Vec<Billed>> = HashMap::new();
    for row in &rows {
        let account: AccountId = row_get(row, "account")?;
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

/// Every price of the offers that these accounts used in a stretch of time, those that their orders quoted among them.
pub async fn prices(
    reads: &Reads,
    accounts: &[AccountId],
    window: Span,
) -> Result<Vec<Price>, Error> {
    const SQL: &str = concat!(
        "-- prices_of_used
         SELECT ",
        price_columns!(),
        " FROM price p WHERE p.offer IN (
             SELECT usage.offer FROM usage_interval AS usage
             WHERE usage.account = ANY ($1) AND usage.start_time < $3
                 AND coalesce(usage.end_time, 'infinity') > $2
         )"
    );
    let rows = reads
        .query(SQL, &[&accounts, &window.start, &window.end])
        .await?;
    rows.iter().map(price::from_row).collect()
}

/// Every tax rate of these accounts' countries.
pub async fn rates(reads: &Reads, accounts: &[AccountId]) -> Result<Vec<TaxRate>, Error> {
    const SQL: &str = concat!(
        "-- rates_of_accounts
         SELECT country, ",
        tax_rate_columns!("wanted.country"),
        " FROM (SELECT DISTINCT country FROM account WHERE account = ANY ($1)) AS wanted"
    );
    let mut rates = Vec::new();
    for row in &reads.query(SQL, &[&accounts]).await? {
        rates.extend(tax::from_row(row, row_get(row, "country")?)?);
    }
    Ok(rates)
}

fn read_month(text: &str, account: &AccountId) -> Result<Month, Error> {
    text.parse().map_err(|_| Error::Corrupt {
        table: "billed_month",
        column: "month",
        id: account.to_string(),
    })
}
