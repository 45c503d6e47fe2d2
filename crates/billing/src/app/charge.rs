//! Computes months' bills, for previews, dry runs and bill runs alike: the same statements, the same rules.

use std::collections::{BTreeSet, HashMap};

use octroi_platform::Tx;
use octroi_platform::calendar::{Day, Month, Zones};

use crate::domain::account::Account;
use crate::domain::bill::{Bill, Charged};
use crate::domain::charge::{Billed, Knowledge, MonthSpan, Sold, Unchargeable};
use crate::domain::price::Price;
use crate::domain::seller::Seller;
use crate::domain::tax::TaxRate;
use crate::domain::usage::Usage;
use crate::error::Error;
use crate::store;

/// A month to count, with the days that count.
#[derive(Debug, Clone)]
pub struct Counted {
    /// The month.
    pub month: MonthSpan,
    /// Its days; for a month still running, up to now.
    pub days: Vec<Day>,
}

/// An account whose month is to be computed.
#[derive(Debug, Clone)]
pub struct Due {
    /// The account.
    pub account: Account,
    /// Its seller.
    pub seller: Seller,
    /// The month.
    pub own: Counted,
    /// Closed months that are charged again for usage told late.
    pub late: Vec<Counted>,
}

/// What an account's month comes to.
#[derive(Debug)]
pub struct Computed {
    /// The account.
    pub due: Due,
    /// Its bill, which may have no line; or why it cannot be charged.
    pub bill: Result<Bill, Unchargeable>,
    /// The late months that the bill puts right. A month of which more was charged than used stays marked.
    pub settled: Vec<Month>,
}

impl Due {
    /// A month of an account, and its closed months whose usage changed since.
    pub fn new(
        account: Account,
        seller: Seller,
        zones: &Zones,
        month: Month,
        late: &[Month],
    ) -> Due {
        let counted = |month, late| Counted {
            month: MonthSpan {
                month,
                span: zones.month(month),
                late,
            },
            days: zones.days(month),
        };
        Due {
            account,
            seller,
            own: counted(month, false),
            late: late.iter().map(|month| counted(*month, true)).collect(),
        }
    }

    fn months(&self) -> impl Iterator<Item = &Counted> {
        std::iter::once(&self.own).chain(&self.late)
    }
}

/// The calendar of an account.
pub fn zones(account: &Account) -> Result<Zones, Error> {
    let history: Vec<_> = account
        .zones
        .iter()
        .map(|change| (change.at, change.zone.clone()))
        .collect();
    Ok(Zones::from_names(&history)?)
}

/// Computes bills: a fixed number of round trips, however many accounts.
///
/// # Errors
/// The database's; what is wrong with a single account is in its [`Computed`].
pub async fn compute(tx: &Tx, dues: Vec<Due>, test_clock: bool) -> Result<Vec<Computed>, Error> {
    let mut asked = store::usage::Asked::default();
    for due in &dues {
        for counted in due.months() {
            asked.push(&due.account.id, &counted.days);
        }
    }
    let mut counted = store::usage::count(tx, &asked).await?.into_iter();
    let usages: Vec<Vec<Vec<Usage>>> = dues
        .iter()
        .map(|due| counted.by_ref().take(1 + due.late.len()).collect())
        .collect();
    let facts = Facts::read(tx, &dues, &usages).await?;
    Ok(dues
        .into_iter()
        .zip(usages)
        .map(|(due, usages)| facts.compute(due, &usages, test_clock))
        .collect())
}

/// What the database knows of the accounts of a chunk.
struct Facts {
    sold: HashMap<String, Vec<Sold>>,
    billed: HashMap<(String, Month), Vec<Billed>>,
    prices: Vec<Price>,
    rates: Vec<TaxRate>,
}

impl Facts {
    async fn read(tx: &Tx, dues: &[Due], usages: &[Vec<Vec<Usage>>]) -> Result<Facts, Error> {
        let late: Vec<(&str, Month)> = dues
            .iter()
            .flat_map(|due| {
                due.late
                    .iter()
                    .map(|late| (due.account.id.as_str(), late.month.month))
            })
            .collect();
        let used: Vec<(&str, &str, &str)> = dues
            .iter()
            .zip(usages)
            .flat_map(|(due, months)| months.iter().flatten().map(move |usage| (due, usage)))
            .map(|(due, usage)| {
                (
                    due.account.id.as_str(),
                    usage.group.as_str(),
                    usage.offer.as_str(),
                )
            })
            .collect();
        let offers: BTreeSet<&str> = used.iter().map(|(.., offer)| *offer).collect();
        let offers: Vec<&str> = offers.into_iter().collect();
        let countries: BTreeSet<&str> = dues
            .iter()
            .map(|due| due.account.address.country.as_str())
            .collect();
        let countries: Vec<&str> = countries.into_iter().collect();
        // Polled together they travel together: one round trip.
        let (billed, sold, prices, rates) = tokio::try_join!(
            store::charge::billed(tx, &late),
            store::charge::sold(tx, &used),
            store::charge::prices(tx, &offers),
            store::charge::rates(tx, &countries),
        )?;
        Ok(Facts {
            sold,
            billed,
            prices,
            rates,
        })
    }

    fn compute(&self, due: Due, usages: &[Vec<Usage>], test_clock: bool) -> Computed {
        let mut settled = Vec::new();
        let bill = self.bill(&due, usages, test_clock, &mut settled);
        Computed { due, bill, settled }
    }

    fn bill(
        &self,
        due: &Due,
        usages: &[Vec<Usage>],
        test_clock: bool,
        settled: &mut Vec<Month>,
    ) -> Result<Bill, Unchargeable> {
        let account = &due.account;
        let knowledge = Knowledge {
            account,
            sold: self.sold.get(&account.id).map_or(&[], Vec::as_slice),
            prices: &self.prices,
            rates: &self.rates,
        };
        let mut lines = Vec::new();
        for (Counted { month, .. }, usage) in due.months().zip(usages) {
            let billed = self.billed.get(&(account.id.clone(), month.month));
            let charged = knowledge.charge(*month, usage, billed.map_or(&[], Vec::as_slice))?;
            lines.extend(charged.lines);
            if month.late && charged.overcharged {
                let (account, month) = (&account.id, month.month);
                tracing::warn!(%account, %month, "an earlier invoice charged more than was used: a credit note is due");
            } else if month.late {
                settled.push(month.month);
            }
        }
        let MonthSpan { month, span, .. } = due.own.month;
        let own = Charged::Month { month, span };
        Ok(Bill::new(account, &due.seller, own, lines, test_clock)?)
    }
}
