//! Quotes: one read, nothing kept.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use octroi_platform::error::Error as Shared;
use octroi_platform::{Call, row_get};

use super::App;
use super::account::not_found;
use crate::domain::account::Account;
use crate::domain::quote::{Asked, Priced, Quote};
use crate::domain::tax::{TaxRate, in_force};
use crate::error::Error;
use crate::store;

impl App {
    /// What an order costs now, and the account as it is.
    pub async fn quote_order(
        &self,
        call: &Call,
        account: &str,
        lines: Vec<Asked>,
    ) -> Result<(Quote, Account), Error> {
        let offers: Vec<&str> = lines.iter().map(|line| line.offer.as_str()).collect();
        let rows = self
            .db
            .read(store::quote::QUOTE, &[&account, &offers, &call.now])
            .await?;
        let first = rows.first().ok_or_else(|| not_found(account))?;
        let account = store::account::account(first)?;
        let rates = store::tax::rates(first, &account.address.country)?;
        let tax = tax_at(
            &rates,
            &account,
            row_get(first, "seller_time_zone")?,
            call.now,
        )?;
        let mut priced = Vec::with_capacity(lines.len());
        for (asked, row) in lines.into_iter().zip(&rows) {
            let Some(price) = store::quote::price_in_force(row)? else {
                return Err(Error::PriceMissing {
                    offer: asked.offer,
                    currency: account.currency.code().to_owned(),
                });
            };
            priced.push(Priced { asked, price });
        }
        let quote = Quote::make(account.currency, &priced, tax.rate, call.now)?;
        Ok((quote, account))
    }
}

/// The account's tax rate on the seller's local day of an instant.
pub(super) fn tax_at<'a>(
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
