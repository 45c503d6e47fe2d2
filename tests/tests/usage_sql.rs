//! Usage as it is stored, read and counted, held to a naive count: seats, the three policies, month bounds over many zones with
//! daylight saving, leap years, month ends, a change of zone.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp, ToSpan as _};
use octroi_billing::usage::{Asked, DayUse, OfferId, Usage, UsagePolicy, count};
use octroi_calendar::{Day, Month, Zones};
use octroi_platform::{AccountId, Call, Clock, Db, Name as _, Tx};
use octroi_tests::harness::Installation;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use uuid::Uuid;

/// Accounts of one statement, and statements: thousands of accounts' months in all.
const ACCOUNTS: usize = 50;
const STATEMENTS: usize = 40;

const ZONES: &[&str] = &[
    "UTC",
    "Europe/Paris",
    "Europe/London",
    "America/New_York",
    "America/Sao_Paulo",
    "America/St_Johns",
    "America/Havana",
    "Africa/Cairo",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Asia/Beirut",
    "Australia/Lord_Howe",
    "Pacific/Auckland",
    "Pacific/Chatham",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "Pacific/Pago_Pago",
];

/// An instant near a month, before the month's calendar is known.
#[derive(Debug, Clone)]
enum Moment {
    /// A bound between two days, or so many microseconds off it.
    Bound { day: usize, off: i64 },
    /// Hours from the month's start: different seats' moments often coincide.
    Hour(i64),
    /// Any microsecond.
    Any(i64),
}

/// A seat's moments: activated, released, activated again and so on.
#[derive(Debug, Clone)]
struct SeatPlan {
    group: &'static str,
    offer: &'static str,
    moments: Vec<Moment>,
}

#[derive(Debug, Clone)]
struct Case {
    month: Month,
    zones: Vec<(Timestamp, String)>,
    seats: Vec<SeatPlan>,
}

#[derive(Debug, Clone)]
struct Interval {
    seat: i32,
    start: Timestamp,
    end: Option<Timestamp>,
}

type Key = (String, String);

fn moment() -> impl Strategy<Value = Moment> {
    prop_oneof![
        3 => (0..33_usize, -1..=1_i64).prop_map(|(day, off)| Moment::Bound { day, off }),
        2 => (-72..816_i64).prop_map(Moment::Hour),
        1 => (-3_000_000_000_000..3_000_000_000_000_i64).prop_map(Moment::Any),
    ]
}

fn seat() -> impl Strategy<Value = SeatPlan> {
    (
        prop::sample::select(vec!["office", "annex"]),
        prop::sample::select(vec!["offers/business", "offers/enterprise"]),
        vec(moment(), 0..9),
    )
        .prop_map(|(group, offer, moments)| SeatPlan {
            group,
            offer,
            moments,
        })
}

fn case() -> impl Strategy<Value = Case> {
    let zone = || prop::sample::select(ZONES);
    let change = proptest::option::weighted(0.3, (-40..40_i64 * 24, zone()));
    (
        2008..2038_i16,
        1..=12_i8,
        zone(),
        change,
        vec(seat(), 1..=40),
    )
        .prop_map(|(year, month, first, change, seats)| {
            let month = Month { year, month };
            let mut zones = vec![(Timestamp::UNIX_EPOCH, first.to_owned())];
            if let Some((hours, zone)) = change {
                let utc = month.first_day().to_zoned(jiff::tz::TimeZone::UTC).unwrap();
                zones.push((
                    utc.timestamp() + SignedDuration::from_hours(hours),
                    zone.to_owned(),
                ));
            }
            Case {
                month,
                zones,
                seats,
            }
        })
}

impl Case {
    fn days(&self) -> Vec<Day> {
        Zones::from_names(&self.zones).unwrap().days(self.month)
    }

    /// Each seat's intervals: its moments in order, two by two; a last one alone stays open.
    fn intervals(&self, days: &[Day]) -> BTreeMap<Key, Vec<Interval>> {
        let mut intervals: BTreeMap<Key, Vec<Interval>> = BTreeMap::new();
        // Far apart, as a statement's rows have a thousand numbers each.
        for (number, seat) in (1..).step_by(70).zip(&self.seats) {
            let mut moments: Vec<Timestamp> = seat
                .moments
                .iter()
                .map(|moment| instant(moment, days))
                .collect();
            moments.sort();
            let of = intervals
                .entry((seat.group.into(), seat.offer.into()))
                .or_default();
            of.extend(moments.chunks(2).map(|pair| Interval {
                seat: number,
                start: pair[0],
                end: pair.get(1).copied(),
            }));
        }
        intervals
    }
}

fn instant(moment: &Moment, days: &[Day]) -> Timestamp {
    let start = days[0].start;
    match moment {
        Moment::Bound { day, off } => {
            let bound = days
                .get(*day)
                .map_or(days[days.len() - 1].end, |day| day.start);
            bound + off.microseconds()
        }
        Moment::Hour(hours) => start + SignedDuration::from_hours(*hours),
        Moment::Any(micros) => start + SignedDuration::from_micros(*micros),
    }
}

impl Interval {
    fn covers(&self, at: Timestamp) -> bool {
        self.start <= at && self.end.is_none_or(|end| at < end)
    }

    /// Whether it has an instant in `[from, to)`.
    fn touches(&self, from: Timestamp, to: Timestamp) -> bool {
        let start = self.start.max(from);
        let end = self.end.map_or(to, |end| end.min(to));
        start < end
    }
}

/// The most active at any instant of `[from, to)`: it is reached at its start or where an interval starts.
fn peak(intervals: &[Interval], from: Timestamp, to: Timestamp) -> i32 {
    let starts = intervals.iter().map(|interval| interval.start);
    std::iter::once(from)
        .chain(starts)
        .filter(|at| from <= *at && *at < to)
        .map(|at| active(intervals, at))
        .max()
        .unwrap_or(0)
}

fn active(intervals: &[Interval], at: Timestamp) -> i32 {
    let active = intervals.iter().filter(|interval| interval.covers(at));
    i32::try_from(active.count()).unwrap()
}

fn seats(intervals: &[Interval], from: Timestamp, to: Timestamp) -> i32 {
    let mut seats: Vec<i32> = intervals
        .iter()
        .filter(|interval| interval.touches(from, to))
        .map(|interval| interval.seat)
        .collect();
    seats.dedup();
    i32::try_from(seats.len()).unwrap()
}

/// A month's consumption, counted as one would explain it to a child.
fn naive(intervals: &BTreeMap<Key, Vec<Interval>>, days: &[Day]) -> Vec<Usage> {
    let (from, to) = (days[0].start, days[days.len() - 1].end);
    let mut usages = Vec::new();
    for ((group, offer), intervals) in intervals {
        let used: Vec<DayUse> = days
            .iter()
            .map(|day| DayUse {
                date: day.date,
                peak: peak(intervals, day.start, day.end),
                end_of_day: active(intervals, day.end - 1.microsecond()),
                seats: seats(intervals, day.start, day.end),
            })
            .filter(|day| day.seats > 0)
            .collect();
        if used.is_empty() {
            continue;
        }
        let usage = Usage {
            group: group.clone(),
            offer: OfferId::parse(offer).unwrap(),
            distinct: seats(intervals, from, to),
            days: used,
        };
        let seat_days: i32 = usage.days.iter().map(|day| day.seats).sum();
        assert_eq!(
            usage.quantity(UsagePolicy::Peak),
            Ok(peak(intervals, from, to))
        );
        assert_eq!(
            usage.quantity(UsagePolicy::Distinct),
            Ok(seats(intervals, from, to))
        );
        assert_eq!(usage.quantity(UsagePolicy::Daily), Ok(seat_days));
        usages.push(usage);
    }
    usages
}

async fn store(tx: &Tx, account: &str, intervals: &BTreeMap<Key, Vec<Interval>>) {
    let rows: Vec<(&Key, &Interval)> = intervals
        .iter()
        .flat_map(|(key, intervals)| intervals.iter().map(move |interval| (key, interval)))
        .collect();
    let groups: Vec<&str> = rows.iter().map(|((group, _), _)| group.as_str()).collect();
    let offers: Vec<&str> = rows.iter().map(|((_, offer), _)| offer.as_str()).collect();
    let seats: Vec<i32> = rows.iter().map(|(_, interval)| interval.seat).collect();
    let events: Vec<Uuid> = rows.iter().map(|_| Uuid::now_v7()).collect();
    let starts: Vec<Timestamp> = rows.iter().map(|(_, interval)| interval.start).collect();
    let ends: Vec<Option<Timestamp>> = rows.iter().map(|(_, interval)| interval.end).collect();
    tx.query(
        "INSERT INTO usage_interval (account, group_id, offer, seat, opened_by, start_time, end_time)
         SELECT $1, * FROM unnest(
             $2::text[], $3::text[], $4::integer[], $5::uuid[], $6::timestamptz[], $7::timestamptz[])",
        &[&account, &groups, &offers, &seats, &events, &starts, &ends],
    )
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_counted_as_one_would_by_hand() {
    let octroi = Installation::start().await;
    let operator = octroi.customer("acme").await;
    let config = &octroi.plan().databases.billing;
    let db = Db::new(config, "billing", 2, Clock::system()).unwrap();
    let mut runner = TestRunner::deterministic();
    for _ in 0..STATEMENTS {
        let cases = vec(case(), ACCOUNTS)
            .new_tree(&mut runner)
            .unwrap()
            .current();
        let call = Call::background(octroi.now().await, "test");
        let (tx, _) = db
            .begin_work(
                &call,
                "INSERT INTO account
                 SELECT (jsonb_populate_record(model, jsonb_build_object('account', 'a' || n))).*
                 FROM account AS model, generate_series(1, $2::integer) AS n WHERE account = $1",
                &[&operator.id, &i32::try_from(ACCOUNTS).unwrap()],
            )
            .await
            .unwrap();
        let mut asked = Asked::default();
        let mut expected = Vec::new();
        for (number, case) in (1..).zip(&cases) {
            let account = format!("a{number}");
            let days = case.days();
            let intervals = case.intervals(&days);
            store(&tx, &account, &intervals).await;
            expected.push(naive(&intervals, &days));
            asked.push(&AccountId::new(account), &days.into());
        }
        let counted = count(&tx, &asked).await.unwrap();
        for ((case, counted), mut expected) in cases.iter().zip(counted).zip(expected) {
            expected.sort_by(|a, b| (&a.group, &a.offer).cmp(&(&b.group, &b.offer)));
            assert_eq!(counted, expected, "{case:#?}");
        }
        tx.rollback().await;
    }
    octroi.finish().await;
}
