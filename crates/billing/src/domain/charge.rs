//! Charges: what a month's consumption and an order's set-up fees come to, line by line.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::civil::Date;
use octroi_calendar::{Month, Span, Zones};
use octroi_platform::refusal::Refusal;

use super::account::{Account, Locale};
use super::bill::{Applied, Consumption, Item, Line};
use super::mention::month_name;
use super::price::{OfferId, Price, PriceId, UsagePolicy};
use super::settlement::OrderCharge;
use super::tax::{TaxRate, in_force};
use super::usage::Usage;
use crate::refusal::{amount_overflow, price_missing, tax_rate_missing};

/// A month in an account's calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MonthSpan {
    pub month: Month,
    /// Its bounds.
    pub span: Span,
    /// How many local days it has: fewer than the calendar's where a change of zone leaves some out. A month's price
    /// is for all of them.
    pub days: i32,
    /// The last of them.
    pub last_day: Date,
    /// Whether it was invoiced before and is charged again for late usage.
    pub late: bool,
}

impl MonthSpan {
    /// A month in a calendar.
    pub fn new(zones: &Zones, month: Month, late: bool) -> MonthSpan {
        let days = zones.days(month);
        MonthSpan {
            month,
            span: zones.month(month),
            days: i32::try_from(days.len()).unwrap_or(i32::MAX),
            last_day: days.last().map_or(month.first_day(), |day| day.date),
            late,
        }
    }
}

/// What earlier invoices charged of a month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Billed {
    /// Group id.
    pub group: String,
    pub offer: OfferId,
    pub price: PriceId,
    /// How much, over every invoice.
    pub quantity: i32,
}

/// A group as it was sold: what invoices call it, and the offers that entered it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sold {
    /// Name of the group for people, once it is known.
    pub name: Option<String>,
    pub entries: Vec<Entered>,
}

/// An offer that entered a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entered {
    pub offer: OfferId,
    /// Name of the offer for people.
    pub offer_name: String,
    /// When it entered.
    pub at: Timestamp,
    /// The price that its first order quoted.
    pub price: PriceId,
}

/// Prices by offer.
#[derive(Debug, Default)]
pub struct Prices(HashMap<OfferId, Vec<Price>>);

impl FromIterator<Price> for Prices {
    fn from_iter<T: IntoIterator<Item = Price>>(all: T) -> Prices {
        let mut prices: HashMap<OfferId, Vec<Price>> = HashMap::new();
        for price in all {
            match prices.get_mut(&price.offer) {
                Some(of_offer) => of_offer.push(price),
                None => drop(prices.insert(price.offer.clone(), vec![price])),
            }
        }
        Prices(prices)
    }
}

/// What is known of an account when it is charged.
#[derive(Debug, Clone)]
pub struct Knowledge<'a> {
    pub account: &'a Account,
    /// Its groups, by id.
    pub sold: &'a HashMap<String, Sold>,
    /// Prices of the offers that it uses.
    pub prices: &'a Prices,
    pub rates: &'a [TaxRate],
}

/// A month's consumption as lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonthLines {
    /// The lines, by group and offer.
    pub lines: Vec<Line>,
    /// Whether earlier invoices charged more of something than was used: that is a credit note's to put right.
    pub overcharged: bool,
}

impl Knowledge<'_> {
    /// What remains to be charged of a month: its consumption less what `billed` says was charged.
    ///
    /// # Errors
    /// PRICE_MISSING, TAX_RATE_MISSING or AMOUNT_OVERFLOW at the first line that cannot be charged: nothing is ever
    /// assumed.
    pub fn charge(
        &self,
        month: MonthSpan,
        usage: &[Usage],
        billed: &[Billed],
    ) -> Result<MonthLines, Refusal> {
        let before = by_key(billed, |earlier| (&*earlier.group, &earlier.offer));
        let mut left = before.len();
        let mut charged = MonthLines {
            lines: Vec::new(),
            overcharged: false,
        };
        for usage in usage {
            let sold = self.sold.get(&usage.group);
            let entered = sold.and_then(|sold| {
                let mut entries = sold.entries.iter();
                entries.find(|entered| entered.offer == usage.offer)
            });
            let earlier = before.get(&(&*usage.group, &usage.offer)).copied();
            left -= usize::from(earlier.is_some());
            let price = self.price(month.span, entered, usage, earlier)?;
            let used = usage.quantity(price.policy)?;
            let before = earlier.map_or(0, |earlier| earlier.quantity);
            let quantity = used.checked_sub(before).ok_or_else(amount_overflow)?;
            if quantity > 0 {
                let mut item = self.item(month, (sold, entered), usage, price, quantity)?;
                if month.late {
                    item.description.push_str(match self.account.locale {
                        Locale::Fr => " (complément)",
                        Locale::En => " (adjustment)",
                    });
                }
                charged.lines.push(Line::try_from(item)?);
            }
            charged.overcharged |= quantity < 0;
        }
        charged.overcharged |= left > 0;
        Ok(charged)
    }

    /// Of an offer's prices the one that a month was charged at before; or, in the month of the offer's entry into the
    /// group, the one that its first order quoted; or the one in force at the month's first instant.
    fn price(
        &self,
        span: Span,
        entered: Option<&Entered>,
        usage: &Usage,
        earlier: Option<&Billed>,
    ) -> Result<&Price, Refusal> {
        let quoted = entered
            .filter(|entered| span.start <= entered.at && entered.at < span.end)
            .map(|entered| entered.price);
        let fixed = earlier.map(|billed| billed.price).or(quoted);
        let prices = self.prices.0.get(&usage.offer);
        let mut prices = prices.map_or(&[][..], Vec::as_slice).iter();
        let found = match fixed {
            Some(id) => prices.find(|price| price.id == id),
            None => prices
                .filter(|price| price.currency == self.account.currency)
                .filter(|price| price.valid_from <= span.start)
                .max_by_key(|price| price.valid_from),
        };
        found.ok_or_else(|| price_missing(&usage.offer, self.account.currency.code()))
    }

    /// The tax of a period in arrears: the rate of its last local day (CGI 269).
    fn tax(&self, month: MonthSpan) -> Result<Applied, Refusal> {
        let country = &self.account.address.country;
        let rate = in_force(self.rates, country, month.last_day);
        let rate = rate.ok_or_else(|| tax_rate_missing(country))?;
        Ok(Applied {
            category: rate.category,
            rate: rate.rate,
        })
    }

    fn item(
        &self,
        month: MonthSpan,
        (sold, entered): (Option<&Sold>, Option<&Entered>),
        usage: &Usage,
        price: &Price,
        quantity: i32,
    ) -> Result<Item, Refusal> {
        let group_name = sold.and_then(|sold| sold.name.as_ref());
        let group_name = group_name.unwrap_or(&usage.group);
        let offer_name = entered.map_or_else(
            || usage.offer.to_string(),
            |entered| entered.offer_name.clone(),
        );
        let locale = self.account.locale;
        let when = month_name(month.month, locale);
        let counted = counted(price.policy, locale);
        Ok(Item {
            description: format!("{offer_name} – {group_name} – {when} – {counted}"),
            offer: usage.offer.clone(),
            quantity,
            unit_price: price.monthly,
            base_quantity: match price.policy {
                UsagePolicy::Peak | UsagePolicy::Distinct => 1,
                UsagePolicy::Daily => month.days,
            },
            price: price.id,
            tax: self.tax(month)?,
            consumption: Some(Consumption {
                group: usage.group.clone(),
                group_name: group_name.clone(),
                month: month.month,
                policy: price.policy,
                days: usage.days.clone(),
            }),
        })
    }
}

/// What there is by group and offer: an account may use thousands.
fn by_key<'a, T>(
    all: &'a [T],
    key: impl Fn(&'a T) -> (&'a str, &'a OfferId),
) -> HashMap<(&'a str, &'a OfferId), &'a T> {
    all.iter().map(|it| (key(it), it)).collect()
}

/// What a policy's quantity is, in words.
fn counted(policy: UsagePolicy, locale: Locale) -> &'static str {
    match (policy, locale) {
        (UsagePolicy::Peak, Locale::Fr) => "licences actives au plus fort du mois",
        (UsagePolicy::Peak, Locale::En) => "licences active at the month's peak",
        (UsagePolicy::Distinct, Locale::Fr) => "licences actives dans le mois",
        (UsagePolicy::Distinct, Locale::En) => "licences active in the month",
        (UsagePolicy::Daily, Locale::Fr) => "jours d'activité de licences",
        (UsagePolicy::Daily, Locale::En) => "licence-days of activity",
    }
}

/// An order's set-up fees as lines, at the tax that its quote froze.
pub fn setup_lines(charge: &OrderCharge, locale: Locale) -> Result<Vec<Line>, Refusal> {
    let tax = Applied {
        category: charge.charge.tax_category,
        rate: charge.charge.tax_rate,
    };
    let fee = match locale {
        Locale::Fr => "Frais de mise en service",
        Locale::En => "Set-up fee",
    };
    charge
        .lines
        .iter()
        .map(|line| {
            let offer = line.offer.to_string();
            let offer = offer.trim_start_matches("offers/");
            Line::try_from(Item {
                description: format!("{fee} – {offer}"),
                offer: line.offer.clone(),
                consumption: None,
                quantity: line.quantity,
                unit_price: line.setup_fee,
                base_quantity: 1,
                price: line.price,
                tax,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests;
