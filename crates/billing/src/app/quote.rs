//! Quotes. One read, and nothing kept but this: until an account's first order is known to be kept, a quote for one holds
//! its currency and seller.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use octroi_platform::error::Error as Shared;
use octroi_platform::{Call, row_get};
use serde_json::json;
use tokio_postgres::Row;

use super::App;
use super::account::not_found;
use crate::domain::account::{Account, name};
use crate::domain::quote::{Asked, Priced, Quote};
use crate::domain::tax::{TaxRate, in_force};
use crate::error::Error;
use crate::store;

impl App {
    /// What an order costs now, and the account as it is. `order` is the order's resource name; none when it is only
    /// asked what one would cost.
    ///
    /// # Errors
    /// `NOT_FOUND`, `PRICE_MISSING`, `TAX_RATE_MISSING`, `AMOUNT_OVERFLOW`.
    pub async fn quote_order(
        &self,
        call: &Call,
        account: &str,
        order: Option<&str>,
        lines: Vec<Asked>,
    ) -> Result<(Quote, Account), Error> {
        let offers: Vec<&str> = lines.iter().map(|line| line.offer.as_str()).collect();
        let rows = self
            .db
            .read(store::quote::QUOTE, &[&account, &offers, &call.now])
            .await?;
        let (quote, found) = quoted(account, &lines, &rows, call.now)?;
        match order {
            Some(order) if found.first_order.is_none() => {
                self.quote_first(call, account, order, &lines).await
            }
            _ => Ok((quote, found)),
        }
    }

    /// Quotes an account's first order. Its currency and seller are held with the quote, so that they are still the
    /// quote's when licensing tells that the order was kept, which fixes them. An order that was not kept is never told
    /// of, and holds nothing once licensing's facts are complete through its quote.
    async fn quote_first(
        &self,
        call: &Call,
        account: &str,
        order: &str,
        lines: &[Asked],
    ) -> Result<(Quote, Account), Error> {
        let (mut tx, _) = self
            .db
            .begin_work(call, store::quote::LOCK_ACCOUNT, &[&account])
            .await?;
        let offers: Vec<&str> = lines.iter().map(|line| line.offer.as_str()).collect();
        // Read after the wait for the lock, so that what was changed meanwhile is seen.
        let rows = tx
            .query(store::quote::QUOTE, &[&account, &offers, &call.now])
            .await?;
        let (quote, found) = quoted(account, lines, &rows, call.now)?;
        if found.first_order.is_none() {
            store::account::mark_quoted(&mut tx, account, call.now);
            // What it holds changes with the first; those that follow only hold it for longer.
            if found.quoted.is_none() {
                tx.audit(&name(account), None, Some(json!({"quoted_order": order})));
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
    account: &str,
    lines: &[Asked],
    rows: &[Row],
    now: Timestamp,
) -> Result<(Quote, Account), Error> {
    let first = rows.first().ok_or_else(|| not_found(account))?;
    let account = store::account::account(first)?;
    let rates = store::tax::rates(first, &account.address.country)?;
    let tax = tax_at(&rates, &account, row_get(first, "seller_time_zone")?, now)?;
    let mut priced = Vec::with_capacity(lines.len());
    for (asked, row) in lines.iter().zip(rows) {
        let Some(price) = store::quote::price_in_force(row)? else {
            return Err(Error::PriceMissing {
                offer: asked.offer.clone(),
                currency: account.currency.code().to_owned(),
            });
        };
        let asked = asked.clone();
        priced.push(Priced { asked, price });
    }
    let quote = Quote::make(account.currency, &priced, (tax.category, tax.rate), now)?;
    Ok((quote, account))
}

/// The account's tax rate on the seller's local day of an instant.
fn tax_at<'a>(
    rates: &'a [TaxRate],
    account: &Account,
    seller_zone: &str,
    at: Timestamp,
) -> Result<&'a TaxRate, Error> {
    let zone = TimeZone::get(seller_zone).map_err(|_| Shared::Corrupt {
        table: "seller",
        column: "time_zone",
        id: seller_zone.to_owned(),
    })?;
    let day = at.to_zoned(zone).date();
    in_force(rates, &account.address.country, day).ok_or_else(|| Error::TaxRateMissing {
        country: account.address.country.clone(),
    })
}
