//! Computes months' bills, for previews, dry runs and bill runs alike: the same statements, the same rules.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use octroi_calendar::{Day, Month, Zones};
use octroi_platform::{AccountId, Error, Reads, Refusal};

use crate::domain::account::Account;
use crate::domain::bill::{Bill, Charged};
use crate::domain::charge::{Billed, Knowledge, MonthSpan, Prices, Sold};
use crate::domain::seller::Seller;
use crate::domain::tax::TaxRate;
use crate::domain::usage::Usage;
use crate::store;
use crate::store::usage::Asked;

/// A month to count, with the days that count.
#[derive(Debug, Clone)]
pub struct Counted {
    pub month: MonthSpan,
    /// Its days; for a month still running, up to now.
    pub days: Arc<[Day]>,
}

/// An account whose month is to be computed.
#[derive(Debug, Clone)]
pub struct Due {
    pub account: Account,
    pub seller: Arc<Seller>,
    pub own: Counted,
    /// Closed months that are charged again, for usage that was reported late.
    pub late: Vec<Counted>,
}

/// What an account's month comes to.
#[derive(Debug)]
pub struct Computed {
    pub due: Due,
    /// Its bill, which may have no line; or why it cannot be charged.
    pub bill: Result<Bill, Refusal>,
    /// The late months that the bill puts right. A month of which more was charged than used stays marked.
    pub settled: Vec<Month>,
}

impl Counted {
    /// A whole month; `late` is that of [`MonthSpan`].
    pub fn new(zones: &Zones, month: Month, late: bool) -> Counted {
        Counted {
            month: MonthSpan::new(zones, month, late),
            days: zones.days(month).into(),
        }
    }
}

impl Due {
    /// A month of an account, and its closed months whose usage changed since.
    pub fn new(
        account: Account,
        seller: Arc<Seller>,
        zones: &Zones,
        own: Counted,
        late: impl IntoIterator<Item = Month>,
    ) -> Due {
        let late = late
            .into_iter()
            .map(|month| Counted::new(zones, month, true));
        Due {
            account,
            seller,
            own,
            late: late.collect(),
        }
    }

    fn months(&self) -> impl Iterator<Item = &Counted> {
        std::iter::once(&self.own).chain(&self.late)
    }
}

/// The zones that a calendar has followed, each with the instant of its setting.
type History = Vec<(Option<Timestamp>, String)>;

/// A month in the calendars of accounts, of which most share one.
#[derive(Default)]
pub struct Calendars(BTreeMap<History, (Zones, Counted)>);

impl Calendars {
    /// An account's calendar, and the month in it: always the same month.
    pub fn month(&mut self, account: &Account, month: Month) -> Result<&(Zones, Counted), Error> {
        // Since when a zone is kept does not matter where there was no other.
        let changed = account.zones.len() > 1;
        let history = account.zones.iter();
        let history = history.map(|it| (changed.then_some(it.at), it.zone.clone()));
        Ok(match self.0.entry(history.collect()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let zones = zones(account)?;
                let counted = Counted::new(&zones, month, false);
                new.insert((zones, counted))
            }
        })
    }
}

/// The calendar of an account.
pub fn zones(account: &Account) -> Result<Zones, Error> {
    let history: Vec<_> = account
        .zones
        .iter()
        .map(|change| (change.at, change.zone.clone()))
        .collect();
    Zones::from_names(&history).map_err(|error| Error::Internal(error.into()))
}

/// Computes bills: two round trips, however many accounts.
///
/// # Errors
/// The database's; what is wrong with a single account is in its [`Computed`].
pub async fn compute(
    reads: &Reads,
    dues: Vec<Due>,
    test_clock: bool,
) -> Result<Vec<Computed>, Error> {
    let facts = Facts::read(reads, asked(&dues)).await?;
    Ok(facts.compute(dues, test_clock))
}

/// What the bills of these months take to be counted.
pub fn asked(dues: &[Due]) -> Asked {
    let mut asked = Asked::default();
    for due in dues {
        for counted in due.months() {
            asked.push(&due.account.id, &counted.days);
        }
    }
    asked
}

/// What the database knows of some accounts and their months.
pub struct Facts {
    /// The months.
    pub asked: Asked,
    usages: Vec<Vec<Usage>>,
    sold: HashMap<AccountId, HashMap<String, Sold>>,
    billed: HashMap<(AccountId, Month), Vec<Billed>>,
    prices: Prices,
    rates: Vec<TaxRate>,
}

impl Facts {
    /// Reads what months' charges are made of.
    pub async fn read(reads: &Reads, asked: Asked) -> Result<Facts, Error> {
        // All of them come from one range of accounts, which indexes are walked through: a list of many accounts is
        // planned by what statistics say of each.
        let nobody = AccountId::new("");
        let accounts = asked.range().unwrap_or((&nobody, &nobody));
        let window = asked.window();
        let prices = |offers| store::charge::prices(reads, offers, accounts, window);
        // Polled together they travel together: one round trip. What several accounts used is not read twice, for prices
        // too: they follow in another one.
        let (usages, sold, billed, rates, own) = tokio::try_join!(
            store::usage::count(reads, &asked),
            store::charge::sold(reads, accounts),
            store::charge::billed(reads, accounts),
            store::charge::rates(reads, accounts),
            async {
                match accounts.0 == accounts.1 {
                    true => prices(None).await.map(Some),
                    false => Ok(None),
                }
            },
        )?;
        let prices = match own {
            Some(prices) => prices,
            None => {
                let used: BTreeSet<_> = usages.iter().flatten().map(|used| &used.offer).collect();
                let offers = used.into_iter().map(ToString::to_string).collect();
                prices(Some(offers)).await?
            }
        };
        Ok(Facts {
            asked,
            usages,
            sold,
            billed,
            prices,
            rates,
        })
    }

    /// The bills of the months that were asked for, in their order.
    pub fn compute(&self, dues: Vec<Due>, test_clock: bool) -> Vec<Computed> {
        let mut usages = self.usages.as_slice();
        dues.into_iter()
            .map(|due| {
                let (own, rest) = usages
                    .split_at_checked(1 + due.late.len())
                    .unwrap_or_default();
                usages = rest;
                let mut settled = Vec::new();
                let bill = self.bill(&due, own, test_clock, &mut settled);
                Computed { due, bill, settled }
            })
            .collect()
    }

    fn bill(
        &self,
        due: &Due,
        usages: &[Vec<Usage>],
        test_clock: bool,
        settled: &mut Vec<Month>,
    ) -> Result<Bill, Refusal> {
        let account = &due.account;
        let unknown = HashMap::new();
        let knowledge = Knowledge {
            account,
            sold: self.sold.get(&account.id).unwrap_or(&unknown),
            prices: &self.prices,
            rates: &self.rates,
        };
        let mut lines = Vec::new();
        for (Counted { month, .. }, usage) in due.months().zip(usages) {
            // A month looked at again for itself is shown whole, whatever was charged of it.
            let billed = match month.late {
                true => self.billed.get(&(account.id.clone(), month.month)),
                false => None,
            };
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
        Bill::new(account, &due.seller, own, lines, test_clock)
    }
}
