//! What a group consumed in a month: one sweep over the intervals in which its seats were active.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use octroi_calendar::{Day, Month, Span, Zones, day_start};

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
    pub(crate) days: Vec<DayUsage>,
}

/// What one offer was used on one local day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DayUsage {
    pub(crate) date: Date,
    /// The largest number of seats active at the same time, those carried over included.
    pub(crate) peak: i32,
    /// Seats active just before local midnight, or now on the current day.
    pub(crate) end_of_day: i32,
    /// Seats active at any time of the day.
    pub(crate) seats: i32,
}

/// An interval clipped to the part of the month that has passed; `end` is none when it continues after that.
struct Stretch {
    seat: i32,
    start: Timestamp,
    end: Option<Timestamp>,
}

/// The month's usage by offer, ordered by offer id, without unused offers. What is after `now` is not counted; what is
/// active at `now` is.
pub(crate) fn usage(
    intervals: &[Interval],
    month: Month,
    zones: &Zones,
    now: Timestamp,
) -> Vec<OfferUsage> {
    let span = zones.month(month);
    // Half-open like everything else: one microsecond, the smallest step kept, past now holds now itself.
    let cut = span.end.min(one_microsecond_after(now));
    let mut by_offer: BTreeMap<&OfferId, Vec<Stretch>> = BTreeMap::new();
    for interval in intervals {
        let start = interval.start.max(span.start);
        let end = interval.end.map_or(cut, |end| end.min(cut));
        let empty = interval.end.is_some_and(|end| end <= interval.start);
        if start < end && !empty {
            by_offer.entry(&interval.offer).or_default().push(Stretch {
                seat: interval.seat,
                start,
                end: (end < cut).then_some(end),
            });
        }
    }
    let days: Vec<Day> = zones
        .days(month)
        .into_iter()
        .filter(|day| day.start < cut)
        .collect();
    by_offer
        .into_iter()
        .map(|(offer, stretches)| of_offer(offer, stretches, &days))
        .collect()
}

fn of_offer(offer: &OfferId, mut stretches: Vec<Stretch>, days: &[Day]) -> OfferUsage {
    stretches.sort_by_key(|stretch| (stretch.seat, stretch.start));
    let (distinct, seats) = seats_by_day(&stretches, days);
    let mut changes: Vec<(Timestamp, i64)> = Vec::new();
    for stretch in &stretches {
        changes.push((stretch.start, 1));
        changes.extend(stretch.end.map(|end| (end, -1)));
    }
    changes.sort_unstable();
    let mut changes = changes.into_iter().peekable();
    let mut active = 0;
    let mut usage = OfferUsage {
        offer: offer.clone(),
        peak: 0,
        distinct: count(distinct),
        seat_days: count(seats.iter().sum()),
        days: Vec::new(),
    };
    for (day, seats) in days.iter().zip(seats) {
        let mut peak = active;
        let mut first = true;
        while let Some((at, _)) = changes.peek().copied().filter(|(at, _)| *at < day.end) {
            // All changes of an instant are one: a seat that ends as another starts is not a second one.
            while let Some((_, step)) = changes.next_if(|(next, _)| *next == at) {
                active += step;
            }
            // A change at the day's first instant is not preceded by anything of the day.
            peak = if first && at <= day.start {
                active
            } else {
                peak.max(active)
            };
            first = false;
        }
        usage.peak = usage.peak.max(count(peak));
        if seats > 0 {
            usage.days.push(DayUsage {
                date: day.date,
                peak: count(peak),
                end_of_day: count(active),
                seats: count(seats),
            });
        }
    }
    usage
}

/// How many seats there are, and how many are active on each day; stretches come ordered by seat and start.
fn seats_by_day(stretches: &[Stretch], days: &[Day]) -> (i64, Vec<i64>) {
    let mut steps = vec![0i64; days.len() + 1];
    let mut distinct = 0;
    let mut last: Option<(i32, usize)> = None;
    for stretch in stretches {
        let first_day = days.partition_point(|day| day.end <= stretch.start);
        let after_day = stretch.end.map_or(days.len(), |end| {
            days.partition_point(|day| day.start < end)
        });
        let uncounted = match last {
            Some((seat, counted)) if seat == stretch.seat => counted.max(first_day),
            _ => {
                distinct += 1;
                first_day
            }
        };
        if uncounted < after_day {
            steps[uncounted] += 1;
            steps[after_day] -= 1;
        }
        last = Some((stretch.seat, after_day.max(uncounted)));
    }
    let seats = steps
        .iter()
        .take(days.len())
        .scan(0, |active, step| {
            *active += step;
            Some(*active)
        })
        .collect();
    (distinct, seats)
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

fn count(seats: i64) -> i32 {
    i32::try_from(seats).unwrap_or(i32::MAX)
}

#[cfg(test)]
#[path = "usage_tests.rs"]
mod tests;
