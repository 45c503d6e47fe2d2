//! Quotes: one read. The only write: until an account's first order is known to exist, a quote for an order freezes the
//! account's currency and seller.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use octroi_platform::share::{Share, Turn, Whose};
use octroi_platform::{AccountId, Call, Db, Error, row_get};
use serde_json::json;
use tokio_postgres::Row;

use crate::domain::account::Account;
use crate::domain::order::OrderId;
use crate::domain::price::OfferId;
use crate::domain::quote::{Asked, Priced, Quote};
use crate::domain::tax::{TaxRate, in_force};
use crate::refusal::{price_missing, tax_rate_missing};
use crate::store;

#[derive(Clone)]
pub(crate) struct Quotes {
    pub(crate) db: Db,
}

impl Quotes {
    /// What an order costs now, and the account. `order` is none when no order will be made of the quote.
    ///
    /// # Errors
    /// `NOT_FOUND`, `PRICE_MISSING`, `TAX_RATE_MISSING`, `AMOUNT_OVERFLOW`.
    pub(crate) async fn quote(
        &self,
        call: &Call,
        account: &AccountId,
        order: Option<&OrderId>,
        lines: Vec<Asked>,
    ) -> Result<(Quote, Account), Error> {
        let offers: Vec<&OfferId> = lines.iter().map(|line| &line.offer).collect();
        let rows = self
            .db
            .query(store::quote::QUOTE, &[account, &offers, &call.now])
            .await?;
        let (quote, found) = quoted(call, account, &lines, &rows)?;
        match order {
            Some(order) if found.first_order_at.is_none() => {
                // Who waits for an account does so among that account's alone.
                let whose = Whose::Account(account.as_str().into());
                let quoted = self.quote_first(call, account, order, &lines);
                Turn::new(Share::Background, whose).scope(quoted).await
            }
            _ => Ok((quote, found)),
        }
    }

    /// Quotes an account's first order. The quote freezes currency and seller, so that they are unchanged when the event of
    /// the order's creation arrives, which fixes them for good. Where no order was created there is no event, and the freeze
    /// ends once licensing's events are complete through the quote's time.
    async fn quote_first(
        &self,
        call: &Call,
        account: &AccountId,
        order: &OrderId,
        lines: &[Asked],
    ) -> Result<(Quote, Account), Error> {
        let (mut tx, _) = self
            .db
            .begin_work(call, store::quote::LOCK_ACCOUNT, &[account])
            .await?;
        let offers: Vec<&OfferId> = lines.iter().map(|line| &line.offer).collect();
        // Read after the wait for the lock, to see concurrent changes.
        let rows = tx
            .query(store::quote::QUOTE, &[account, &offers, &call.now])
            .await?;
        let (quote, found) = quoted(call, account, lines, &rows)?;
        if found.first_order_at.is_none() {
            store::account::mark_quoted(&mut tx, account, call.now);
            // Later quotes only prolong the freeze, and are not audited.
            if found.quoted_at.is_none() {
                let after = json!({"quoted_order": order.to_string()});
                tx.audit(&account.to_string(), None, Some(after));
            }
            tx.commit_work().await?;
        } else {
            tx.rollback().await;
        }
        Ok((quote, found))
    }
}

/// The quote that rows of [`store::quote::QUOTE`] make, one a line.
fn quoted(
    call: &Call,
    account: &AccountId,
    lines: &[Asked],
    rows: &[Row],
) -> Result<(Quote, Account), Error> {
    let first = rows.first().ok_or_else(|| call.not_found(account))?;
    let account = store::account::from_row(first)?;
    let rates = store::tax::from_row(first, &account.address.country)?;
    let tax = tax_at(
        &rates,
        &account,
        row_get(first, "seller_time_zone")?,
        call.now,
    )?;
    let mut priced = Vec::with_capacity(lines.len());
    for (asked, row) in lines.iter().zip(rows) {
        let Some(price) = store::quote::price_in_force(row)? else {
            return Err(price_missing(&asked.offer, account.currency.code()).into());
        };
        let asked = asked.clone();
        priced.push(Priced { asked, price });
    }
    let quote = Quote::make(
        account.currency,
        &priced,
        (tax.category, tax.rate),
        call.now,
    )?;
    Ok((quote, account))
}

/// The account's tax rate on the seller's local day of an instant.
fn tax_at<'a>(
    rates: &'a [TaxRate],
    account: &Account,
    seller_zone: &str,
    at: Timestamp,
) -> Result<&'a TaxRate, Error> {
    let zone = TimeZone::get(seller_zone).map_err(|_| Error::Corrupt {
        table: "seller",
        column: "time_zone",
        id: seller_zone.to_owned(),
    })?;
    let day = at.to_zoned(zone).date();
    let country = &account.address.country;
    Ok(in_force(rates, country, day).ok_or_else(|| tax_rate_missing(country))?)
}
