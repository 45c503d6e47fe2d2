//! What months are charged from.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use octroi_calendar::{Month, Span};
use octroi_platform::{AccountId, Error, Reads, row_get};

use super::price::price_columns;
use super::tax::tax_rate_columns;
use super::{price, tax};
use crate::domain::charge::{Billed, Entered, Prices, Sold};
use crate::domain::tax::TaxRate;

/// The months that bill runs closed for some accounts.
pub type Closed = BTreeMap<AccountId, BTreeSet<Month>>;

/// Of the accounts from one to another: whether a month is closed, and every closed month whose usage changed since.
pub async fn closed(
    reads: &Reads,
    (first, last): (&AccountId, &AccountId),
    month: Month,
) -> Result<Closed, Error> {
    const SQL: &str = "-- closed_months
        SELECT account, month FROM billed_month WHERE account >= $1 AND account <= $2 AND month = $3
        UNION ALL
        SELECT account, month FROM late_usage WHERE account >= $1 AND account <= $2";
    let mut closed = Closed::new();
    for row in &reads.query(SQL, &[first, last, &month.to_string()]).await? {
        let account: AccountId = row_get(row, "account")?;
        let month = read_month(row_get(row, "month")?, &account)?;
        closed.entry(account).or_default().insert(month);
    }
    Ok(closed)
}

/// The groups of the accounts from `$1` to `$2`: a row for each name, and one for each offer that entered one.
const SOLD: &str = "-- sold
    SELECT account, group_id, display_name, NULL AS offer, NULL::timestamptz AS enter_time, NULL::uuid AS price
    FROM usage_group WHERE account >= $1 AND account <= $2
    UNION ALL
    SELECT account, group_id, display_name, offer, enter_time, price
    FROM group_offer_entry WHERE account >= $1 AND account <= $2";

/// How groups were sold, by account and group, for every account from one to another.
pub async fn sold(
    reads: &Reads,
    (first, last): (&AccountId, &AccountId),
) -> Result<HashMap<AccountId, HashMap<String, Sold>>, Error> {
    let mut sold: HashMap<AccountId, HashMap<String, Sold>> = HashMap::new();
    for row in &reads.query(SOLD, &[first, last]).await? {
        let of_account = sold.entry(row_get(row, "account")?).or_default();
        let group = of_account.entry(row_get(row, "group_id")?).or_default();
        let name = row_get(row, "display_name")?;
        match row_get(row, "offer")? {
            None => group.name = Some(name),
            Some(offer) => group.entries.push(Entered {
                offer,
                offer_name: name,
                at: row_get(row, "enter_time")?,
                price: row_get(row, "price")?,
            }),
        }
    }
    Ok(sold)
}

/// What invoices charged so far of the closed months that have late usage, by account and month, for every account from
/// one to another.
pub async fn billed(
    reads: &Reads,
    (first, last): (&AccountId, &AccountId),
) -> Result<HashMap<(AccountId, Month), Vec<Billed>>, Error> {
    let rows = reads
        .query(
            "-- billed
             SELECT late.account, late.month, line.* FROM late_usage AS late, LATERAL (
                 SELECT group_id, offer, (array_agg(price))[1] AS price, sum(quantity)::integer AS quantity
                 FROM invoice_line WHERE account = late.account AND month = late.month GROUP BY group_id, offer
             ) AS line
             WHERE late.account >= $1 AND late.account <= $2",
            &[first, last],
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

/// Every price of some offers, those that orders quoted among them; where no offers are named, of those that the accounts
/// from one to another used in a stretch of time.
pub async fn prices(
    reads: &Reads,
    offers: Option<Vec<String>>,
    (first, last): (&AccountId, &AccountId),
    window: Span,
) -> Result<Prices, Error> {
    const SQL: &str = concat!(
        "-- prices_of_used
         SELECT ",
        price_columns!(),
        " FROM price p WHERE p.offer = ANY (coalesce($1::text[], ARRAY(
             SELECT DISTINCT offer FROM usage_interval
             WHERE account >= $2 AND account <= $3
                 AND coalesce(end_time, 'infinity') > $4 AND start_time < $5
         )))"
    );
    let rows = reads
        .query(SQL, &[&offers, first, last, &window.start, &window.end])
        .await?;
    rows.iter().map(price::from_row).collect()
}

/// Every tax rate of the countries of the accounts from one to another.
pub async fn rates(
    reads: &Reads,
    (first, last): (&AccountId, &AccountId),
) -> Result<Vec<TaxRate>, Error> {
    const SQL: &str = concat!(
        "-- rates_of_accounts
         SELECT country, ",
        tax_rate_columns!("wanted.country"),
        " FROM (SELECT DISTINCT country FROM account WHERE account >= $1 AND account <= $2) AS wanted"
    );
    let mut rates = Vec::new();
    for row in &reads.query(SQL, &[first, last]).await? {
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
