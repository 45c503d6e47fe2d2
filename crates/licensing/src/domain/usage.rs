//! What a group consumed in a month.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use octroi_calendar::usage::{self, DayUse};
use octroi_calendar::{Month, Span, Zones, day_start};

use crate::domain::offer::OfferId;

/// A stretch in which a seat was active: half-open, and open-ended while it still is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) offer: OfferId,
    /// Number of the licence in its group.
    pub(crate) seat: i32,
    /// First instant of activity.
    pub(crate) start: Timestamp,
    /// The instant after the last.
    pub(crate) end: Option<Timestamp>,
}

/// What one offer was used in a month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OfferUsage {
    pub(crate) offer: OfferId,
    /// The largest number of seats active at the same time.
    pub(crate) peak: i32,
    /// Seats active at any time.
    pub(crate) distinct: i32,
    /// Seats times days with any activity.
    pub(crate) seat_days: i32,
    pub(crate) days: Vec<DayUse>,
}

/// The month's usage by offer, ordered by offer id, without unused offers. What is after `now` is not counted; what is
/// active at `now` is.
pub(crate) fn usage(
    intervals: &[Interval],
    month: Month,
    zones: &Zones,
    now: Timestamp,
) -> Vec<OfferUsage> {
    let mut by_offer: BTreeMap<&OfferId, Vec<usage::Interval>> = BTreeMap::new();
    for interval in intervals {
        by_offer
            .entry(&interval.offer)
            .or_default()
            .push(usage::Interval {
                seat: interval.seat,
                start: interval.start,
                end: interval.end,
            });
    }
    // Half-open like everything else: one microsecond, the smallest step kept, past now holds now itself.
    let cut = one_microsecond_after(now);
    let mut days = zones.days(month);
    days.retain(|day| day.start < cut);
    if let Some(today) = days.last_mut() {
        today.end = today.end.min(cut);
    }
    by_offer
        .into_iter()
        .filter_map(|(offer, mut intervals)| {
            let used = usage::count(&days, &mut intervals)?;
            Some(OfferUsage {
                offer: offer.clone(),
                peak: used.peak,
                distinct: used.distinct,
                seat_days: i32::try_from(used.seat_days).unwrap_or(i32::MAX),
                days: used.days,
            })
        })
        .collect()
}

/// A stretch that holds the month in every calendar: no zone, and no change of zone, moves a month by two days.
pub(crate) fn around(month: Month) -> Span {
    let margin = SignedDuration::from_hours(48);
    let first = |month: Month| day_start(month.first_day(), &TimeZone::UTC);
    Span {
        start: first(month)
            .saturating_sub(margin)
            .unwrap_or(Timestamp::MIN),
        end: first(month.next())
            .saturating_add(margin)
            .unwrap_or(Timestamp::MAX),
    }
}

fn one_microsecond_after(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond().saturating_add(1)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
#[path = "usage_tests.rs"]
mod tests;
