//! What was used of something that has seats: one count of a month from the intervals in which its seats were active,
//! for everything that shows, charges or proves it.

use jiff::Timestamp;
use jiff::civil::Date;

use crate::Day;

/// A stretch in which a seat was active: half-open, and open-ended while it still is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// Which seat.
    pub seat: i32,
    /// First instant of activity.
    pub start: Timestamp,
    /// The instant after the last.
    pub end: Option<Timestamp>,
}

/// What a month saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// The largest number of seats active at the same time.
    pub peak: i32,
    /// Seats active at any time.
    pub distinct: i32,
    /// Seats times days with any activity.
    pub seat_days: i64,
    /// The days with any activity, oldest first.
    pub days: Vec<DayUse>,
}

/// What one local day saw. Days without activity have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayUse {
    /// The day.
    pub date: Date,
    /// The largest number of seats active at the same time, those carried over included.
    pub peak: i32,
    /// Seats active just before the day's end.
    pub end_of_day: i32,
    /// Seats active at any time of the day.
    pub seats: i32,
}

/// A day's tally while it is counted.
#[derive(Default, Clone, Copy)]
struct Tally {
    /// Seats that begin to count on this day, less those that ended on the day before.
    seats: i64,
    peak: i64,
    end_of_day: i64,
}

/// Counts days that follow each other, from one thing's intervals in any order; none where nothing was active. What lies
/// outside the days counts nowhere, and so does what is empty.
///
/// A seat that is active throughout costs a comparison; each other end of an interval is looked at once, in order. All
/// that happens at an instant is one change: a seat that ends as another starts is not a second one.
pub fn count(days: &[Day], intervals: &mut [Interval]) -> Option<Usage> {
    let (first, last) = (days.first()?, days.last()?);
    intervals.sort_unstable_by_key(|interval| (interval.seat, interval.start));
    let mut tallies = vec![Tally::default(); days.len() + 1];
    let mut changes: Vec<(Timestamp, i64)> = Vec::new();
    let (mut active, mut distinct) = (0, 0);
    // The last seat that was counted, and the day from which on it would count again.
    let mut counted: Option<(i32, usize)> = None;
    for interval in intervals {
        let start = interval.start.max(first.start);
        let end = interval.end.map_or(last.end, |end| end.min(last.end));
        if start >= end || interval.end.is_some_and(|end| end <= interval.start) {
            continue;
        }
        let mut first_day = 0;
        if start == first.start {
            active += 1;
        } else {
            changes.push((start, 1));
            first_day = days.partition_point(|day| day.end <= start);
        }
        let mut after_day = days.len();
        if end < last.end {
            changes.push((end, -1));
            after_day = days.partition_point(|day| day.start < end);
        }
        match counted {
            Some((seat, from)) if seat == interval.seat => first_day = first_day.max(from),
            _ => distinct += 1,
        }
        if first_day < after_day {
            tallies[first_day].seats += 1;
            tallies[after_day].seats -= 1;
        }
        counted = Some((interval.seat, after_day.max(first_day)));
    }
    if distinct == 0 {
        return None;
    }
    changes.sort_unstable();
    occupy(days, &mut tallies, active, &changes);
    Some(told(days, &tallies, distinct))
}

/// Fills in each day's peak and its end, from how many are `active` at the first instant and what changes later.
fn occupy(days: &[Day], tallies: &mut [Tally], mut active: i64, changes: &[(Timestamp, i64)]) {
    let mut changes = changes.iter().copied().peekable();
    for (day, tally) in days.iter().zip(tallies) {
        // What ends with the day before is no part of this one, and what starts with this one is.
        while let Some((_, step)) = changes.next_if(|(at, _)| *at <= day.start) {
            active += step;
        }
        tally.peak = active;
        while let Some((at, step)) = changes.next_if(|(at, _)| *at < day.end) {
            active += step;
            while let Some((_, step)) = changes.next_if(|(next, _)| *next == at) {
                active += step;
            }
            tally.peak = tally.peak.max(active);
        }
        tally.end_of_day = active;
    }
}

fn told(days: &[Day], tallies: &[Tally], distinct: i64) -> Usage {
    let mut usage = Usage {
        peak: 0,
        distinct: number(distinct),
        seat_days: 0,
        days: Vec::with_capacity(days.len()),
    };
    let mut seats = 0;
    for (day, tally) in days.iter().zip(tallies) {
        seats += tally.seats;
        if seats == 0 {
            continue;
        }
        let day = DayUse {
            date: day.date,
            peak: number(tally.peak),
            end_of_day: number(tally.end_of_day),
            seats: number(seats),
        };
        usage.peak = usage.peak.max(day.peak);
        usage.seat_days += seats;
        usage.days.push(day);
    }
    usage
}

fn number(seats: i64) -> i32 {
    i32::try_from(seats).unwrap_or(i32::MAX)
}

#[cfg(test)]
#[path = "usage_tests.rs"]
mod tests;
