//! The periods of a group: from one anniversary of its first date to the next.

use std::str::FromStr;

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan as _};
use octroi_calendar::{Month, Zones};

/// A stretch between two anniversaries of a group's first date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Period {
    /// 0 for the first.
    pub(crate) number: i32,
    /// Its first instant: a local midnight.
    pub(crate) start: Timestamp,
    /// The instant after its last: local midnight of the anniversary.
    pub(crate) end: Timestamp,
}

/// How long a group's period lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RenewalPeriod {
    Month,
    Quarter,
    Year,
}

impl RenewalPeriod {
    /// As ISO 8601 writes it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Month => "P1M",
            Self::Quarter => "P3M",
            Self::Year => "P1Y",
        }
    }

    pub(crate) fn months(self) -> i64 {
        match self {
            Self::Month => 1,
            Self::Quarter => 3,
            Self::Year => 12,
        }
    }
}

/// A text is not a renewal period.
#[derive(Debug, thiserror::Error)]
#[error("must be \"P1M\", \"P3M\" or \"P1Y\"")]
pub(crate) struct NotAPeriod;

impl FromStr for RenewalPeriod {
    type Err = NotAPeriod;

    fn from_str(text: &str) -> Result<Self, NotAPeriod> {
        [Self::Month, Self::Quarter, Self::Year]
            .into_iter()
            .find(|period| period.as_str() == text)
            .ok_or(NotAPeriod)
    }
}

/// Local midnight of the `count`-th anniversary of a group's first date, clamped to the month's end. Always counted
/// from the first date: from 31 January the ends are 28 February, 31 March, 30 April.
pub(crate) fn anniversary(
    zones: &Zones,
    first: Date,
    period: RenewalPeriod,
    count: i64,
) -> Timestamp {
    let months = period.months().saturating_mul(count);
    midnight(zones, first.saturating_add(months.months()))
}

/// The first instant of a local day; of the day after where a zone change leaves the day out.
pub(crate) fn midnight(zones: &Zones, date: Date) -> Timestamp {
    let month = Month::of(date);
    zones
        .days(month)
        .iter()
        .find(|day| day.date >= date)
        .map_or_else(|| zones.month(month).end, |day| day.start)
}
