//! Charges: what a month's consumption and an order's set-up fees come to, line by line.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use jiff::civil::Date;
use octroi_calendar::{Month, Span, Zones};
use uuid::Uuid;

use super::account::{Account, Locale};
use super::bill::{Applied, Consumption, Item, Line};
use super::mention::month_name;
use super::money::Overflow;
use super::price::{Price, UsagePolicy};
use super::settlement::OrderCharge;
use super::tax::{TaxRate, in_force};
use super::usage::Usage;

/// Why consumption cannot be charged. Nothing is ever assumed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unchargeable {
    /// No price is in force.
    #[error("no price in {currency} is in force for {offer}")]
    PriceMissing {
        /// Resource name of the offer.
        offer: String,
        /// ISO 4217 code.
        currency: &'static str,
    },
    /// No tax rate is in force.
    #[error("no tax rate is in force for {country}")]
    TaxRateMissing {
        /// ISO 3166-1 alpha-2 code.
        country: String,
    },
    /// Amounts are beyond exactness.
    #[error(transparent)]
    Overflow(#[from] Overflow),
}

/// A month in an account's calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MonthSpan {
    /// The month.
    pub month: Month,
    /// Its bounds.
    pub span: Span,
    /// How many local days it has: fewer than the calendar's where a change of zone leaves some out. A month's price
    /// is for all of them.
    pub days: i32,
    /// The last of them.
    pub last_day: Date,
    /// Whether it was closed before and is charged again for what was told late.
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
    /// Resource name of the offer.
    pub offer: String,
    /// The price.
    pub price: Uuid,
    /// How much, over every invoice.
    pub quantity: i32,
}

/// An offer in a group, as invoices name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sold {
    /// Group id.
    pub group: String,
    /// Name of the group for people.
    pub group_name: String,
    /// Resource name of the offer.
    pub offer: String,
    /// Name of the offer for people.
    pub offer_name: String,
    /// When the offer entered the group, and the price that its first order quoted.
    pub entry: Option<(Timestamp, Uuid)>,
}

/// What is known of an account when it is charged.
#[derive(Debug, Clone)]
pub struct Knowledge<'a> {
    /// The account.
    pub account: &'a Account,
    /// Each offer in a group that it used.
    pub sold: &'a [Sold],
    /// Prices of the offers that it uses.
    pub prices: &'a [Price],
    /// Tax rates.
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
    /// [`Unchargeable`] at the first line that cannot be charged.
    pub fn charge(
        &self,
        month: MonthSpan,
        usage: &[Usage],
        billed: &[Billed],
    ) -> Result<MonthLines, Unchargeable> {
        let sold = by_key(self.sold, |sold| (&*sold.group, &*sold.offer));
        let before = by_key(billed, |earlier| (&*earlier.group, &*earlier.offer));
        let mut prices: HashMap<&str, Vec<&Price>> = HashMap::new();
        for price in self.prices {
            prices.entry(&price.offer).or_default().push(price);
        }
        let used: HashSet<_> = usage.iter().map(|it| (&*it.group, &*it.offer)).collect();
        let mut charged = MonthLines {
            lines: Vec::new(),
            overcharged: before.keys().any(|key| !used.contains(key)),
        };
        for usage in usage {
            let key = (&*usage.group, &*usage.offer);
            let (sold, earlier) = (sold.get(&key).copied(), before.get(&key).copied());
            let prices = prices.get(&*usage.offer).map_or(&[][..], Vec::as_slice);
            let price = self.price(month.span, prices, sold, usage, earlier)?;
            let used = usage.quantity(price.policy)?;
            let before = earlier.map_or(0, |earlier| earlier.quantity);
            let quantity = used.checked_sub(before).ok_or(Overflow)?;
            if quantity > 0 {
                let mut item = self.item(month, sold, usage, price, quantity)?;
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
        Ok(charged)
    }

    /// Of an offer's prices the one that a month was charged at before; or, in the month of the offer's entry into the
    /// group, the one that its first order quoted; or the one in force at the month's first instant.
    fn price<'p>(
        &self,
        span: Span,
        prices: &[&'p Price],
        sold: Option<&Sold>,
        usage: &Usage,
        earlier: Option<&Billed>,
    ) -> Result<&'p Price, Unchargeable> {
        let quoted = sold
            .and_then(|sold| sold.entry)
            .filter(|(entered, _)| span.start <= *entered && *entered < span.end)
            .map(|(_, price)| price);
        let fixed = earlier.map(|billed| billed.price).or(quoted);
        let found = match fixed {
            Some(id) => prices.iter().find(|price| price.id == id),
            None => prices
                .iter()
                .filter(|price| price.currency == self.account.currency)
                .filter(|price| price.valid_from <= span.start)
                .max_by_key(|price| price.valid_from),
        };
        found.copied().ok_or_else(|| Unchargeable::PriceMissing {
            offer: usage.offer.clone(),
            currency: self.account.currency.code(),
        })
    }

    /// The tax of a period in arrears: the rate of its last local day (CGI 269).
    fn tax(&self, month: MonthSpan) -> Result<Applied, Unchargeable> {
        let country = &self.account.address.country;
        let rate = in_force(self.rates, country, month.last_day);
        let rate = rate.ok_or_else(|| Unchargeable::TaxRateMissing {
            country: country.clone(),
        })?;
        Ok(Applied {
            category: rate.category,
            rate: rate.rate,
        })
    }

    fn item(
        &self,
        month: MonthSpan,
        sold: Option<&Sold>,
        usage: &Usage,
        price: &Price,
        quantity: i32,
    ) -> Result<Item, Unchargeable> {
        let group_name = sold.map_or(&usage.group, |sold| &sold.group_name);
        let offer_name = sold.map_or(&usage.offer, |sold| &sold.offer_name);
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
    key: impl Fn(&'a T) -> (&'a str, &'a str),
) -> HashMap<(&'a str, &'a str), &'a T> {
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
pub fn setup_lines(charge: &OrderCharge, locale: Locale) -> Result<Vec<Line>, Overflow> {
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
            let offer = line.offer.strip_prefix("offers/").unwrap_or(&line.offer);
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
mod tests {
    use super::*;
    use crate::domain::bill::tests::{account, euro};
    use crate::domain::tax::TaxCategory;
    use crate::domain::usage::DayUse;
    use jiff::{civil::date, tz::TimeZone};
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn price(id: u128, monthly: i64, policy: UsagePolicy, valid_from: &str) -> Price {
        Price {
            id: Uuid::from_u128(id),
            offer: "offers/a".into(),
            currency: euro(),
            monthly,
            setup: 0,
            policy,
            valid_from: at(valid_from),
        }
    }

    fn rate(ppm: i32, valid_from: Date) -> TaxRate {
        TaxRate {
            id: Uuid::nil(),
            country: "FR".into(),
            category: TaxCategory::Standard,
            rate: crate::domain::money::Rate::from_ppm(ppm).unwrap(),
            valid_from,
        }
    }

    fn november() -> MonthSpan {
        let paris = TimeZone::get("Europe/Paris").unwrap();
        MonthSpan::new(&Zones::fixed(paris), "2026-11".parse().unwrap(), false)
    }

    fn usage(peaks: &[i32]) -> Usage {
        let day = |(day, peak): (i8, &i32)| DayUse {
            date: date(2026, 11, day),
            peak: *peak,
            end_of_day: *peak,
            seats: *peak,
        };
        Usage {
            group: "office".into(),
            offer: "offers/a".into(),
            distinct: peaks.iter().copied().max().unwrap_or(0),
            days: (1..).zip(peaks).map(day).collect(),
        }
    }

    fn sold(at_text: &str, price: u128) -> Sold {
        Sold {
            group: "office".into(),
            group_name: "Office".into(),
            offer: "offers/a".into(),
            offer_name: "Apps".into(),
            entry: Some((at(at_text), Uuid::from_u128(price))),
        }
    }

    /// Unit price, quantity, base quantity and amount of the lines charged.
    fn charge(
        prices: &[Price],
        sold: &[Sold],
        rates: &[TaxRate],
        billed: &[Billed],
    ) -> Result<Vec<(i64, i32, i32, i64)>, Unchargeable> {
        let account = account();
        let knowledge = Knowledge {
            account: &account,
            sold,
            prices,
            rates,
        };
        let charged = knowledge.charge(november(), &[usage(&[3, 5, 2])], billed)?;
        let figures = |line: Line| {
            (
                line.item.unit_price,
                line.item.quantity,
                line.item.base_quantity,
                line.amount,
            )
        };
        Ok(charged.lines.into_iter().map(figures).collect())
    }

    #[test]
    fn a_month_uses_the_price_of_its_first_instant() {
        let prices = [
            price(1, 900, UsagePolicy::Peak, "2026-01-01T00:00:00Z"),
            price(2, 1_000, UsagePolicy::Peak, "2026-10-31T23:00:00Z"),
            price(3, 1_100, UsagePolicy::Peak, "2026-10-31T23:00:01Z"),
        ];
        let rates = [rate(200_000, date(2014, 1, 1))];
        assert_eq!(
            charge(&prices, &[], &rates, &[]),
            Ok(vec![(1_000, 5, 1, 5_000)])
        );
        // An entry in an earlier month changes nothing; in this month its quoted price holds.
        let before = [sold("2026-10-31T22:59:59Z", 3)];
        assert_eq!(
            charge(&prices, &before, &rates, &[]),
            Ok(vec![(1_000, 5, 1, 5_000)])
        );
        let within = [sold("2026-10-31T23:00:00Z", 3)];
        assert_eq!(
            charge(&prices, &within, &rates, &[]),
            Ok(vec![(1_100, 5, 1, 5_500)])
        );
    }

    #[test]
    fn nothing_is_assumed() {
        let late = [price(1, 900, UsagePolicy::Peak, "2026-11-02T00:00:00Z")];
        let rates = [rate(200_000, date(2026, 11, 30))];
        assert!(matches!(
            charge(&late, &[], &rates, &[]),
            Err(Unchargeable::PriceMissing { .. })
        ));
        let prices = [price(1, 900, UsagePolicy::Peak, "2026-01-01T00:00:00Z")];
        assert!(charge(&prices, &[], &rates, &[]).is_ok());
        let too_late = [rate(200_000, date(2026, 12, 1))];
        assert!(matches!(
            charge(&prices, &[], &too_late, &[]),
            Err(Unchargeable::TaxRateMissing { .. })
        ));
    }

    #[test]
    fn daily_charges_seat_days_of_the_month_s_days() {
        let prices = [price(1, 1_000, UsagePolicy::Daily, "2026-01-01T00:00:00Z")];
        let rates = [rate(200_000, date(2014, 1, 1))];
        assert_eq!(
            charge(&prices, &[], &rates, &[]),
            Ok(vec![(1_000, 10, 30, 333)])
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Both ways over the date line, clocks that are changed, days that a zone left out, several changes in a
        /// month and on its bounds.
        #[test]
        fn a_seat_of_every_day_costs_the_month_s_price(
            year in 1990_i16..2060, number in 1_i8..=12, monthly in 1_i64..1_000_000,
            changes in prop::collection::vec((-800_i64..800, prop::sample::select(vec![
                "Europe/Paris", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Pacific/Honolulu", "Pacific/Apia",
                "Asia/Kathmandu", "America/Sao_Paulo", "Australia/Lord_Howe",
            ])), 1..6),
        ) {
            let month = Month { year, month: number };
            let first = octroi_calendar::day_start(month.first_day(), &TimeZone::UTC);
            let zone = |(hours, name): (i64, &str)| (first + jiff::SignedDuration::from_hours(hours), name.to_owned());
            let history: Vec<_> = changes.into_iter().map(zone).collect();
            let zones = Zones::from_names(&history).unwrap();
            let day = |day: octroi_calendar::Day| DayUse { date: day.date, peak: 1, end_of_day: 1, seats: 1 };
            let mut usage = usage(&[1]);
            usage.days = zones.days(month).into_iter().map(day).collect();
            let account = account();
            let knowledge = Knowledge {
                account: &account,
                sold: &[],
                prices: &[price(1, monthly, UsagePolicy::Daily, "1980-01-01T00:00:00Z")],
                rates: &[rate(200_000, date(1980, 1, 1))],
            };
            let charged = knowledge.charge(MonthSpan::new(&zones, month, false), &[usage], &[]).unwrap();
            prop_assert_eq!(charged.lines[0].amount, monthly);
        }
    }

    #[test]
    fn late_usage_is_charged_by_its_difference_at_the_price_of_then() {
        let prices = [
            price(1, 900, UsagePolicy::Peak, "2026-01-01T00:00:00Z"),
            price(2, 1_000, UsagePolicy::Peak, "2026-02-01T00:00:00Z"),
        ];
        let rates = [rate(200_000, date(2014, 1, 1))];
        let billed = |quantity| Billed {
            group: "office".into(),
            offer: "offers/a".into(),
            price: Uuid::from_u128(1),
            quantity,
        };
        assert_eq!(
            charge(&prices, &[], &rates, &[billed(3)]),
            Ok(vec![(900, 2, 1, 1_800)])
        );
        assert_eq!(charge(&prices, &[], &rates, &[billed(5)]), Ok(vec![]));
        let account = account();
        let knowledge = Knowledge {
            account: &account,
            sold: &[],
            prices: &prices,
            rates: &rates,
        };
        let over = knowledge
            .charge(november(), &[usage(&[3])], &[billed(5)])
            .unwrap();
        assert!(over.overcharged && over.lines.is_empty());
        let gone = knowledge.charge(november(), &[], &[billed(5)]).unwrap();
        assert!(gone.overcharged && gone.lines.is_empty());
    }
}
