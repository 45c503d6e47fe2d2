//! The count against a naive one, which asks of every instant at which anything can change who is active.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;
use crate::tests::{month, zones};
use crate::{Month, Zones};

const NANOSECOND: SignedDuration = SignedDuration::from_nanos(1);

fn covers(interval: &Interval, at: Timestamp) -> bool {
    interval.start <= at && interval.end.is_none_or(|end| at < end)
}

fn active(intervals: &[Interval], at: Timestamp) -> i32 {
    let active = intervals.iter().filter(|interval| covers(interval, at));
    i32::try_from(active.count()).unwrap()
}

/// The instants of a stretch at which the most can be active: its first, and where an interval starts.
fn instants(intervals: &[Interval], from: Timestamp, until: Timestamp) -> Vec<Timestamp> {
    let starts = intervals.iter().map(|interval| interval.start);
    let instants = std::iter::once(from).chain(starts);
    instants.filter(|at| from <= *at && *at < until).collect()
}

fn peak(intervals: &[Interval], from: Timestamp, until: Timestamp) -> i32 {
    let instants = instants(intervals, from, until).into_iter();
    instants.map(|at| active(intervals, at)).max().unwrap_or(0)
}

/// Whoever is active at all in a stretch is so at its first instant or where an interval starts.
fn seats(intervals: &[Interval], from: Timestamp, until: Timestamp) -> i32 {
    let mut seats = BTreeSet::new();
    for at in instants(intervals, from, until) {
        let active = intervals.iter().filter(|interval| covers(interval, at));
        seats.extend(active.map(|interval| interval.seat));
    }
    i32::try_from(seats.len()).unwrap()
}

fn naive(days: &[Day], intervals: &[Interval]) -> Option<Usage> {
    let (from, until) = (days.first()?.start, days.last()?.end);
    let days: Vec<DayUse> = days
        .iter()
        .map(|day| DayUse {
            date: day.date,
            peak: peak(intervals, day.start, day.end),
            end_of_day: active(intervals, day.end - NANOSECOND),
            seats: seats(intervals, day.start, day.end),
        })
        .filter(|day| day.seats > 0)
        .collect();
    let usage = Usage {
        peak: peak(intervals, from, until),
        distinct: seats(intervals, from, until),
        seat_days: days.iter().map(|day| i64::from(day.seats)).sum(),
        days,
    };
    (usage.distinct > 0).then_some(usage)
}

/// Of a seat: the moments at which it is switched on and off in turn, each on a day's bound, a few hours off one, or a
/// nanosecond.
fn moments() -> impl Strategy<Value = Vec<(usize, i64)>> {
    let off = prop_oneof![
        Just(0),
        -1..=1_i64,
        (-30..30_i64).prop_map(|hours| hours * 3_600_000_000_000)
    ];
    prop::collection::vec((0..34_usize, off), 0..8)
}

fn intervals(days: &[Day], seats: &[Vec<(usize, i64)>]) -> Vec<Interval> {
    let mut bounds: Vec<Timestamp> = days.iter().map(|day| day.start).collect();
    bounds.extend(days.last().map(|day| day.end));
    let mut intervals = Vec::new();
    for (seat, moments) in (1..).zip(seats) {
        let mut moments: Vec<Timestamp> = moments
            .iter()
            .map(|(at, off)| bounds[at % bounds.len()] + SignedDuration::from_nanos(*off))
            .collect();
        moments.sort();
        intervals.extend(moments.chunks(2).map(|pair| Interval {
            seat,
            start: pair[0],
            end: pair.get(1).copied(),
        }));
    }
    intervals
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn a_month_is_counted_as_one_would_by_hand(
        zones in zones(),
        month in month(),
        seats in prop::collection::vec(moments(), 0..8),
        counted in prop_oneof![3 => Just(31), 1 => 1..31_usize],
        order in any::<prop::sample::Index>(),
    ) {
        let mut days = zones.days(month);
        days.truncate(counted);
        let mut intervals = intervals(&days, &seats);
        let expected = naive(&days, &intervals);
        if !intervals.is_empty() {
            let at = order.index(intervals.len());
            intervals.rotate_left(at);
        }
        prop_assert_eq!(count(&days, &mut intervals), expected);
    }
}

fn november() -> Vec<Day> {
    let paris = jiff::tz::TimeZone::get("Europe/Paris").unwrap();
    Zones::fixed(paris).days(Month {
        year: 2026,
        month: 11,
    })
}

#[test]
fn no_days_and_no_intervals_are_no_usage() {
    assert_eq!(count(&[], &mut []), None);
    assert_eq!(count(&november(), &mut []), None);
}

#[test]
fn a_seat_that_is_always_active_is_one_on_each_day() {
    let start = "2026-01-05T00:00:00Z".parse().unwrap();
    let mut always = [Interval {
        seat: 7,
        start,
        end: None,
    }];
    let usage = count(&november(), &mut always).unwrap();
    assert_eq!((usage.peak, usage.distinct, usage.seat_days), (1, 1, 30));
    assert!(
        usage
            .days
            .iter()
            .all(|day| (day.peak, day.end_of_day, day.seats) == (1, 1, 1))
    );
}
