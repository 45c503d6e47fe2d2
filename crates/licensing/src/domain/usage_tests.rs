//! The sweep against a naive oracle that looks at every instant at which anything can change.

use std::collections::BTreeSet;

use octroi_calendar::Zones;
use proptest::prelude::*;

use super::*;

const ZONES: [&str; 12] = [
    "UTC",
    "Europe/Paris",
    "America/New_York",
    "America/Santiago",
    "America/St_Johns",
    "Asia/Tokyo",
    "Asia/Kathmandu",
    "Asia/Beirut",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "Pacific/Pago_Pago",
];

const OFFERS: [&str; 2] = ["apps-for-business", "apps-for-enterprise"];

fn at(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap()
}

/// One instant's occupancy: the number of seats active at it.
fn active(intervals: &[&Interval], t: Timestamp) -> i32 {
    let held = intervals
        .iter()
        .filter(|i| i.start <= t && i.end.is_none_or(|end| t < end));
    i32::try_from(held.count()).unwrap()
}

/// Seats active at any time of a stretch.
fn seats(intervals: &[&Interval], start: Timestamp, end: Timestamp) -> i32 {
    let seats: BTreeSet<i32> = intervals
        .iter()
        .filter(|i| i.end != Some(i.start))
        .filter(|i| i.start < end && i.end.is_none_or(|own| own > start))
        .map(|i| i.seat)
        .collect();
    i32::try_from(seats.len()).unwrap()
}

/// The largest occupancy of a stretch: it can rise only where an interval starts, or at the stretch's own start.
fn peak(intervals: &[&Interval], start: Timestamp, end: Timestamp) -> i32 {
    intervals
        .iter()
        .map(|i| i.start)
        .chain([start])
        .filter(|t| start <= *t && *t < end)
        .map(|t| active(intervals, t))
        .max()
        .unwrap_or_default()
}

fn naive(all: &[Interval], month: Month, zones: &Zones, now: Timestamp) -> Vec<OfferUsage> {
    let span = zones.month(month);
    let cut = span.end.min(at(now.as_microsecond() + 1));
    let mut usages = Vec::new();
    for offer in OFFERS {
        let own: Vec<&Interval> = all.iter().filter(|i| i.offer.as_str() == offer).collect();
        let mut days = Vec::new();
        for day in zones.days(month) {
            let end = day.end.min(cut);
            if day.start < end && seats(&own, day.start, end) > 0 {
                days.push(DayUse {
                    date: day.date,
                    peak: peak(&own, day.start, end),
                    end_of_day: active(&own, at(end.as_microsecond() - 1)),
                    seats: seats(&own, day.start, end),
                });
            }
        }
        if span.start < cut && seats(&own, span.start, cut) > 0 {
            usages.push(OfferUsage {
                offer: OfferId::new(offer),
                peak: peak(&own, span.start, cut),
                distinct: seats(&own, span.start, cut),
                seat_days: days.iter().map(|day| day.seats).sum(),
                days,
            });
        }
    }
    usages
}

/// Instants around a month, in coarse steps so that many coincide, on local midnights too.
fn instants(month: Month, zones: &Zones) -> Vec<Timestamp> {
    let bounds = around(month);
    let mut instants: Vec<Timestamp> = zones.days(month).iter().map(|day| day.start).collect();
    instants.push(zones.month(month).end);
    let mut t = bounds.start.as_microsecond() - 40 * 86_400_000_000;
    while t < bounds.end.as_microsecond() {
        instants.push(at(t));
        t += 7 * 3_600_000_000;
    }
    instants.sort();
    instants
}

prop_compose! {
    fn calendars()(
        year in 2011_i16..2031,
        month in 1_i8..=12,
        first in prop::sample::select(&ZONES[..]),
        second in prop::option::of((prop::sample::select(&ZONES[..]), -40_i64..40, 0_i64..24)),
    ) -> (Month, Zones) {
        let month = Month { year, month };
        let mut history = vec![(at(0), first.to_owned())];
        if let Some((zone, days, hours)) = second {
            let start = Zones::from_names(&history).unwrap().month(month).start;
            let set = start.as_microsecond() + (days * 24 + hours) * 3_600_000_000;
            history.push((at(set), zone.to_owned()));
        }
        (month, Zones::from_names(&history).unwrap())
    }
}

/// Per seat: its offer, and at which of the instants it was switched on and off in turn.
fn seats_of() -> impl Strategy<Value = Vec<(usize, Vec<prop::sample::Index>)>> {
    let switches = prop::collection::vec(any::<prop::sample::Index>(), 0..7);
    prop::collection::vec((0..OFFERS.len(), switches), 0..8)
}

fn intervals(seats: &[(usize, Vec<prop::sample::Index>)], all: &[Timestamp]) -> Vec<Interval> {
    let mut intervals = Vec::new();
    for (seat, (offer, switches)) in seats.iter().enumerate() {
        let mut times: Vec<Timestamp> = switches.iter().map(|index| *index.get(all)).collect();
        times.sort();
        for pair in times.chunks(2) {
            intervals.push(Interval {
                offer: OfferId::new(OFFERS[*offer]),
                seat: i32::try_from(seat).unwrap() + 1,
                start: pair[0],
                end: pair.get(1).copied(),
            });
        }
    }
    intervals
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn the_sweep_agrees_with_the_oracle(
        (month, zones) in calendars(),
        seats in seats_of(),
        now in any::<prop::sample::Index>(),
        late in any::<bool>(),
    ) {
        let instants = instants(month, &zones);
        let intervals = intervals(&seats, &instants);
        let now = if late { zones.month(month.next()).end } else { *now.get(&instants) };
        let swept = usage(&intervals, month, &zones, now);
        prop_assert_eq!(&swept, &naive(&intervals, month, &zones, now));
        let mut reversed = intervals.clone();
        reversed.reverse();
        prop_assert_eq!(swept, usage(&reversed, month, &zones, now));
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_month_and_the_next_share_no_seat_day((month, zones) in calendars(), hours in 1_i64..2000) {
        let span = zones.month(month);
        let end = at(span.start.as_microsecond() + hours * 3_600_000_000);
        let interval = Interval { offer: OfferId::new(OFFERS[0]), seat: 1, start: span.start, end: Some(end) };
        let until = zones.month(month.next().next().next()).end;
        let mut days = 0;
        let mut covered = 0;
        let mut each = month;
        for _ in 0..4 {
            let usages = usage(std::slice::from_ref(&interval), each, &zones, until);
            days += usages.iter().map(|usage| usage.seat_days).sum::<i32>();
            covered += zones.days(each).iter().filter(|day| day.start < end).count();
            each = each.next();
        }
        prop_assert_eq!(usize::try_from(days).unwrap(), covered);
    }

    #[test]
    fn the_window_that_is_read_holds_the_month((month, zones) in calendars()) {
        let (read, span) = (around(month), zones.month(month));
        prop_assert!(read.start <= span.start && span.end <= read.end);
    }
}

fn paris() -> Zones {
    Zones::from_names(&[(at(0), "Europe/Paris".to_owned())]).unwrap()
}

fn interval(seat: i32, start: &str, end: Option<&str>) -> Interval {
    Interval {
        offer: OfferId::new(OFFERS[0]),
        seat,
        start: start.parse().unwrap(),
        end: end.map(|end| end.parse().unwrap()),
    }
}

fn november() -> Month {
    "2026-11".parse().unwrap()
}

#[test]
fn a_swap_at_one_instant_is_not_a_peak_of_two() {
    let swap = [
        interval(1, "2026-11-03T09:00:00Z", Some("2026-11-10T12:00:00Z")),
        interval(2, "2026-11-10T12:00:00Z", None),
    ];
    let usages = usage(
        &swap,
        november(),
        &paris(),
        "2026-12-05T00:00:00Z".parse().unwrap(),
    );
    assert_eq!((usages[0].peak, usages[0].distinct), (1, 2));
    let day = &usages[0].days[7];
    assert_eq!(day.date, jiff::civil::date(2026, 11, 10));
    assert_eq!((day.peak, day.end_of_day, day.seats), (1, 1, 2));
    assert_eq!(usages[0].seat_days, 29);
}

#[test]
fn carried_over_seats_peak_on_the_day_and_empty_intervals_count_nowhere() {
    let intervals = [
        interval(1, "2026-10-20T09:00:00Z", Some("2026-11-01T08:00:00Z")),
        interval(2, "2026-11-05T09:00:00Z", Some("2026-11-05T09:00:00Z")),
    ];
    let usages = usage(
        &intervals,
        november(),
        &paris(),
        "2026-11-06T00:00:00Z".parse().unwrap(),
    );
    assert_eq!(usages.len(), 1);
    assert_eq!(
        (usages[0].peak, usages[0].distinct, usages[0].seat_days),
        (1, 1, 1)
    );
    let day = &usages[0].days[0];
    assert_eq!((day.peak, day.end_of_day, day.seats), (1, 0, 1));
}

#[test]
fn an_end_at_local_midnight_leaves_the_next_day_alone() {
    // 23:00 UTC is midnight in Paris in November.
    let intervals = [interval(
        1,
        "2026-11-02T10:00:00Z",
        Some("2026-11-03T23:00:00Z"),
    )];
    let usages = usage(
        &intervals,
        november(),
        &paris(),
        "2026-12-05T00:00:00Z".parse().unwrap(),
    );
    let dates: Vec<i8> = usages[0].days.iter().map(|day| day.date.day()).collect();
    assert_eq!(dates, [2, 3]);
    assert_eq!(usages[0].days[1].end_of_day, 1);
}

#[test]
fn what_is_active_now_counts_now() {
    let intervals = [interval(1, "2026-11-15T10:00:00Z", None)];
    let now = "2026-11-15T10:00:00Z".parse().unwrap();
    let usages = usage(&intervals, november(), &paris(), now);
    assert_eq!((usages[0].peak, usages[0].seat_days), (1, 1));
    assert_eq!(usages[0].days[0].end_of_day, 1);
    let before = "2026-10-15T10:00:00Z".parse().unwrap();
    assert!(usage(&intervals, november(), &paris(), before).is_empty());
}

#[test]
fn a_day_that_begins_with_the_next_microsecond_has_not_been_used() {
    let intervals = [interval(1, "2026-11-15T10:00:00Z", None)];
    for (now, days) in [
        ("2026-11-15T22:59:59.999999Z", 1),
        ("2026-11-15T23:00:00Z", 2),
    ] {
        let usages = usage(&intervals, november(), &paris(), now.parse().unwrap());
        assert_eq!(
            (usages[0].seat_days, usages[0].days.len()),
            (days, days as usize),
            "{now}"
        );
    }
}
