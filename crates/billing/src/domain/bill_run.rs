//! Bill runs: the invoicing of a month's consumption, account by account.

use std::fmt;

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use octroi_calendar::{Month, Zones, day_start};
use octroi_platform::name::{AccountId, Name};
use octroi_platform::refusal::Refusal;

use super::money::Currency;
use crate::refusal::month_not_ended;

/// The name of a bill run: "billRuns/november".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BillRunId(pub String);

impl Name for BillRunId {
    const KIND: &'static str = "bill run";
    const COLLECTIONS: &'static [&'static str] = &["billRuns"];

    fn of(ids: &[&str]) -> Option<Self> {
        let [id] = ids else { return None };
        Some(Self((*id).to_owned()))
    }

    fn account(&self) -> Option<&str> {
        None
    }
}

impl fmt::Display for BillRunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "billRuns/{}", self.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Under way.
    Running,
    /// Every due account is invoiced, or noted as one that could not be.
    Completed { at: Timestamp },
}

/// What became of the accounts looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Invoiced.
    pub invoices: i32,
    /// With nothing to invoice, or closed before.
    pub skipped: i32,
    /// Whose local month had not ended.
    pub not_due: i32,
    /// Not invoiced, for a reason that is noted.
    pub failed: i32,
}

impl Tally {
    /// Accounts looked at.
    pub fn accounts(self) -> i32 {
        self.invoices + self.skipped + self.not_due + self.failed
    }
}

/// An account that could not be invoiced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub account: AccountId,
    /// An ErrorReason's name without prefix.
    pub reason: String,
    pub message: String,
}

/// What a run's invoices come to in one currency. Each is an exact amount; together they may be more than any one
/// amount can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Total {
    pub currency: Currency,
    pub minor: i128,
}

/// The invoicing of a month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BillRun {
    pub id: BillRunId,
    pub month: Month,
    /// Whether it keeps no invoice.
    pub dry_run: bool,
    pub state: State,
    /// What became of the accounts so far.
    pub tally: Tally,
    /// The first failures, by account.
    pub failures: Vec<Failure>,
    /// What the invoices come to, per currency, tax included.
    pub totals: Vec<Total>,
    /// When it was asked for: an account whose month ends later is not due.
    pub created_at: Timestamp,
}

impl BillRun {
    /// A run that begins.
    pub fn new(id: BillRunId, month: Month, dry_run: bool, now: Timestamp) -> BillRun {
        BillRun {
            id,
            month,
            dry_run,
            state: State::Running,
            tally: Tally::default(),
            failures: Vec::new(),
            totals: Vec::new(),
            created_at: now,
        }
    }
}

/// Through when usage must be complete to invoice a month now: the latest end of it that has passed, over the calendars
/// of all accounts. Without an account, the month must have ended where it ends first, fourteen hours ahead of UTC.
///
/// # Errors
/// MONTH_NOT_ENDED when it has ended for none.
pub fn cut_off(month: Month, calendars: &[Zones], now: Timestamp) -> Result<Timestamp, Refusal> {
    let first = TimeZone::fixed(Offset::constant(14));
    let nobody = [day_start(month.next().first_day(), &first)];
    let ends: Vec<Timestamp> = match calendars {
        [] => nobody.to_vec(),
        calendars => calendars
            .iter()
            .map(|calendar| calendar.month(month).end)
            .collect(),
    };
    ends.into_iter()
        .filter(|end| *end <= now)
        .max()
        .ok_or_else(|| month_not_ended(&month.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendar(zone: &str) -> Zones {
        Zones::from_names(&[(Timestamp::UNIX_EPOCH, zone.to_owned())]).unwrap()
    }

    #[test]
    fn the_cut_off_is_the_latest_end_that_has_passed() {
        let month: Month = "2026-11".parse().unwrap();
        let calendars = ["Pacific/Auckland", "Europe/Paris", "America/New_York"].map(calendar);
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let cut = |now| cut_off(month, &calendars, at(now));
        let not_ended = || Err(month_not_ended("2026-11"));
        assert_eq!(cut("2026-11-30T10:59:59Z"), not_ended());
        assert_eq!(cut("2026-11-30T11:00:00Z"), Ok(at("2026-11-30T11:00:00Z")));
        assert_eq!(cut("2026-12-01T04:59:59Z"), Ok(at("2026-11-30T23:00:00Z")));
        assert_eq!(cut("2026-12-09T00:00:00Z"), Ok(at("2026-12-01T05:00:00Z")));
        assert_eq!(cut_off(month, &[], at("2026-11-30T09:59:59Z")), not_ended());
        assert!(cut_off(month, &[], at("2026-11-30T10:00:00Z")).is_ok());
    }

    #[test]
    fn every_account_looked_at_is_counted_once() {
        let tally = Tally {
            invoices: 1,
            skipped: 20,
            not_due: 300,
            failed: 4_000,
        };
        assert_eq!(tally.accounts(), 4_321);
    }
}
