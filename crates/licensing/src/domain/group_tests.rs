//! Periods that never drift, lives that only go forward, and limits that hold.

use jiff::tz::TimeZone;
use octroi_calendar::day_start;
use octroi_platform::name::Name as _;
use proptest::prelude::*;

use super::*;
use crate::domain::order::{Line, OrderDraft, OrderId, Quote};
use crate::domain::termination::Reason;

const ZONES: [&str; 8] = [
    "UTC",
    "Europe/Paris",
    "America/New_York",
    "America/Santiago",
    "Asia/Beirut",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Kiritimati",
];

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn order(quantity: i32) -> Order {
    let draft = OrderDraft {
        id: OrderId::of(&["acme", "o1"]).unwrap(),
        group: GroupId::of(&["acme", "office"]).unwrap(),
        new_group: None,
        lines: vec![Line {
            offer: OfferId::new("apps-for-business"),
            quantity,
            price: String::new(),
        }],
    };
    let quote = Quote {
        prices: vec!["prices/p".to_owned()],
        ..Quote::default()
    };
    Order::quoted(draft, quote, at(0))
}

fn born(zones: &Zones, now: Timestamp, renewal_period: RenewalPeriod, auto_renew: bool) -> Group {
    let new = NewGroup {
        display_name: "Office".to_owned(),
        renewal_period,
        auto_renew,
    };
    Group::create(&order(10), &new, zones, now)
}

fn leaving() -> TerminationRequest {
    TerminationRequest {
        reasons: vec![Reason::NotNeeded],
        future_use: String::new(),
        comment: String::new(),
    }
}

fn periods() -> impl Strategy<Value = RenewalPeriod> {
    prop::sample::select(vec![
        RenewalPeriod::Month,
        RenewalPeriod::Quarter,
        RenewalPeriod::Year,
    ])
}

/// The anniversary by hand: months counted from the first date's, the day clamped to the month's.
fn by_hand(first: Date, months: i64) -> Date {
    let since = i64::from(first.year()) * 12 + i64::from(first.month()) - 1 + months;
    let year = i16::try_from(since / 12).unwrap();
    let month = i8::try_from(since % 12).unwrap() + 1;
    let last = Date::new(year, month, 1).unwrap().days_in_month();
    Date::new(year, month, first.day().min(last)).unwrap()
}

fn renew(group: Group, zones: &Zones) -> Group {
    let end = group.period.end;
    match group.at_period_end(zones, end) {
        Some(PeriodEnd::Renewed(group)) => group,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn anniversaries_count_from_the_first_date_and_never_drift(
        second in 1_300_000_000_i64..1_900_000_000,
        zone in prop::sample::select(&ZONES[..]),
        period in periods(),
    ) {
        let zone = TimeZone::get(zone).unwrap();
        let zones = Zones::fixed(zone.clone());
        let mut group = born(&zones, at(second), period, true);
        let first = at(second).to_zoned(zone.clone()).date();
        prop_assert_eq!(group.first_date, first);
        prop_assert_eq!(group.period.start, day_start(first, &zone));
        prop_assert!(group.period.start <= at(second) && at(second) < group.period.end);
        for count in 1..=13 {
            let months = period.months() * count;
            prop_assert_eq!(group.period.end, day_start(by_hand(first, months), &zone));
            let before = group.period;
            group = renew(group, &zones);
            prop_assert_eq!(group.period.start, before.end);
            prop_assert!(group.period.end > group.period.start);
            prop_assert_eq!(i64::from(group.period.number), count);
        }
    }

    #[test]
    fn periods_join_even_when_the_zone_changes(
        second in 1_300_000_000_i64..1_800_000_000,
        changed in 0_i64..40_000_000,
        (from, to) in (prop::sample::select(&ZONES[..]), prop::sample::select(&ZONES[..])),
        period in periods(),
    ) {
        let history = [(at(0), from.to_owned()), (at(second + changed), to.to_owned())];
        let known_first = Zones::from_names(&history[..1]).unwrap();
        let known_later = Zones::from_names(&history).unwrap();
        let mut group = born(&known_first, at(second), period, true);
        for _ in 0..8 {
            let before = group.period;
            let known = if before.end >= at(second + changed) { &known_later } else { &known_first };
            group = renew(group, known);
            prop_assert_eq!(group.period.start, before.end);
            prop_assert!(group.period.end > group.period.start);
            let month = known.month_at(group.period.end);
            prop_assert!(known.days(month).iter().any(|day| day.start == group.period.end));
        }
    }

    #[test]
    fn room_is_what_the_limit_leaves(
        used in 0_i32..=300, reserved in 0_i32..=300, more in 1_i32..=100_000, cap in prop::option::of(1_i32..=300),
    ) {
        let seats = Seats { used, reserved, ..Seats::none(OfferId::new("x"), cap) };
        let fits = cap.is_none_or(|cap| used + reserved + more <= cap);
        prop_assert_eq!(seats.check_room(more).is_ok(), fits);
    }

    #[test]
    fn a_life_only_goes_forward(steps in prop::collection::vec((0_u8..6, 1_i64..4_000_000), 1..30)) {
        let zones = Zones::fixed(TimeZone::get("Europe/Paris").unwrap());
        let mut now = at(1_800_000_000);
        let mut group = born(&zones, now, RenewalPeriod::Month, true);
        for (step, seconds) in steps {
            now = at(now.as_second() + seconds);
            let before = group.clone();
            let over = now >= before.period.end;
            let ended = matches!(before.state, State::Terminated(_));
            let scheduled = matches!(&before.state, State::Live { ending: Some(_), .. });
            let next = match step {
                0 => group.update(Some("New".to_owned()), Some(false), now).ok(),
                1 => group.terminate(leaving(), now).ok(),
                2 => group.schedule_termination(leaving(), now).ok(),
                3 => group.cancel_termination(now).ok(),
                4 => Some(group.receive(&order(3), now)).filter(|_| !ended),
                _ => match group.at_period_end(&zones, now) {
                    Some(PeriodEnd::Renewed(after)) => {
                        prop_assert!(over && !scheduled && before.auto_renew);
                        Some(after)
                    }
                    Some(PeriodEnd::Ended(after)) => {
                        prop_assert!(over && (scheduled || !before.auto_renew));
                        prop_assert_eq!(after.updated_at.max(before.period.end), after.updated_at);
                        let State::Terminated(termination) = &after.state else {
                            panic!("{after:?}");
                        };
                        prop_assert_eq!(termination.at, before.period.end);
                        prop_assert_eq!(termination.requested_at.is_some(), scheduled);
                        Some(after)
                    }
                    None => None,
                },
            };
            prop_assert!(!(ended && next.is_some()), "nothing changes a terminated group");
            prop_assert!(!(over && step < 4 && next.is_some()), "a period's end comes before commands");
            if step == 2 {
                prop_assert_eq!(next.is_some(), !ended && !over && !scheduled);
            }
            if step == 3 {
                prop_assert_eq!(next.is_some(), !ended && !over && scheduled);
            }
            if let Some(after) = &next {
                prop_assert_eq!(after.version, before.version + 1);
                prop_assert!(after.next_license_number >= before.next_license_number);
                if let State::Live { ending: Some(ending), .. } = &after.state {
                    prop_assert_eq!(ending.at, after.period.end);
                }
            }
            group = next.unwrap_or(before);
        }
    }
}

#[test]
fn from_the_31st_each_end_is_clamped_by_itself() {
    let zones = Zones::fixed(TimeZone::get("Europe/Paris").unwrap());
    let now = "2027-01-31T15:00:00Z".parse().unwrap();
    let mut group = born(&zones, now, RenewalPeriod::Month, true);
    let mut ends = Vec::new();
    for _ in 0..4 {
        ends.push(zones.date_at(group.period.end).to_string());
        group = renew(group, &zones);
    }
    assert_eq!(
        ends,
        ["2027-02-28", "2027-03-31", "2027-04-30", "2027-05-31"]
    );
}

#[test]
fn from_a_leap_day_the_year_ends_on_the_28th_until_the_next_leap_year() {
    let zones = Zones::fixed(TimeZone::get("America/New_York").unwrap());
    let now = "2028-02-29T15:00:00Z".parse().unwrap();
    let mut group = born(&zones, now, RenewalPeriod::Year, true);
    let mut ends = Vec::new();
    for _ in 0..4 {
        ends.push(zones.date_at(group.period.end).to_string());
        group = renew(group, &zones);
    }
    assert_eq!(
        ends,
        ["2029-02-28", "2030-02-28", "2031-02-28", "2032-02-29"]
    );
}

#[test]
fn numbers_go_on_from_one_order_to_the_next() {
    let zones = Zones::fixed(TimeZone::UTC);
    let group = born(&zones, at(1_800_000_000), RenewalPeriod::Month, true);
    assert_eq!(group.next_license_number, 11);
    assert_eq!(group.id.to_string(), "accounts/acme/licenseGroups/office");
    let group = group.receive(&order(5), at(1_800_000_100));
    assert_eq!((group.next_license_number, group.version), (16, 2));
}

#[test]
fn a_suspended_or_ended_group_takes_no_orders() {
    let zones = Zones::fixed(TimeZone::UTC);
    let now = at(1_800_000_000);
    let group = born(&zones, now, RenewalPeriod::Month, true);
    assert!(group.check_open(now).is_ok());
    let suspended = Group {
        state: State::Live {
            suspended: true,
            ending: None,
        },
        ..group.clone()
    };
    let refused = suspended.check_open(now).unwrap_err();
    assert_eq!(refused.refused(), Some("GROUP_SUSPENDED"));
    let ended = group.terminate(leaving(), now).unwrap();
    let refused = ended.check_open(now).unwrap_err();
    assert_eq!(refused.refused(), Some("GROUP_TERMINATED"));
}

#[test]
fn after_its_period_a_group_waits_or_has_ended() {
    let zones = Zones::fixed(TimeZone::UTC);
    for renews in [true, false] {
        let group = born(&zones, at(1_800_000_000), RenewalPeriod::Month, renews);
        let end = group.period.end;
        let conflict = |refused: Error| matches!(refused, Error::Conflict(_));
        let ended = |refused: Error| refused.refused() == Some("GROUP_TERMINATED");
        let expected = |refused| {
            if renews {
                conflict(refused)
            } else {
                ended(refused)
            }
        };
        assert!(expected(group.check_open(end).unwrap_err()));
        let renewing = group.clone().update(None, Some(true), end);
        assert!(expected(renewing.unwrap_err()));
        let leaving = group
            .clone()
            .schedule_termination(leaving(), at(1_800_000_001));
        let leaving = leaving.unwrap();
        assert!(ended(leaving.cancel_termination(end).unwrap_err()));
    }
}

#[test]
fn every_name_is_read_as_it_is_written() {
    for reason in Reason::ALL {
        assert_eq!(Reason::parse(reason.as_str()), Some(reason));
    }
    for text in ["P1M", "P3M", "P1Y"] {
        assert_eq!(text.parse::<RenewalPeriod>().unwrap().as_str(), text);
    }
    assert!("P2M".parse::<RenewalPeriod>().is_err());
}

#[test]
fn room_ends_at_the_limit_and_a_refusal_says_it() {
    for (used, reserved, more, fits) in [
        (1, 0, 3, true),
        (0, 1, 3, true),
        (1, 2, 1, true),
        (1, 2, 2, false),
        (0, 0, 5, false),
        (4, 0, 1, false),
        (0, 4, 1, false),
    ] {
        let seats = Seats {
            used,
            reserved,
            ..Seats::none(OfferId::new("x"), Some(4))
        };
        let refused = || refusal::license_limit_reached(&OfferId::new("x"), 4);
        let expected = if fits { Ok(()) } else { Err(refused()) };
        assert_eq!(seats.check_room(more), expected, "{used} {reserved} {more}");
    }
    let without_limit = Seats::none(OfferId::new("x"), None);
    assert!(without_limit.check_room(i32::MAX).is_ok());
}

#[test]
fn an_update_changes_what_it_names_alone() {
    let zones = Zones::fixed(TimeZone::UTC);
    let now = at(1_800_000_000);
    let group = born(&zones, now, RenewalPeriod::Month, true);
    for (name, renews) in [
        (None, None),
        (Some("New"), None),
        (None, Some(false)),
        (Some("New"), Some(false)),
    ] {
        let updated = group
            .clone()
            .update(name.map(str::to_owned), renews, now)
            .unwrap();
        let expected = Group {
            display_name: name.unwrap_or("Office").to_owned(),
            auto_renew: renews.unwrap_or(true),
            version: 2,
            ..group.clone()
        };
        assert_eq!(updated, expected);
    }
}

#[test]
fn a_termination_is_taken_back_whole_and_an_end_leaves_no_seat() {
    let zones = Zones::fixed(TimeZone::UTC);
    let now = at(1_800_000_000);
    let mut group = born(&zones, now, RenewalPeriod::Month, true);
    group.seats = vec![Seats {
        used: 3,
        active: 2,
        reserved: 1,
        ..Seats::none(OfferId::new("x"), Some(9))
    }];
    let going = group.clone().schedule_termination(leaving(), now).unwrap();
    let stays = going.clone().cancel_termination(now).unwrap();
    assert_eq!((&stays.state, stays.version), (&group.state, 3));
    let end = group.period.end;
    let Some(PeriodEnd::Ended(ended)) = going.at_period_end(&zones, end) else {
        panic!("it was to end");
    };
    let seats = &ended.seats[0];
    assert_eq!(
        (seats.used, seats.active, seats.reserved, seats.cap),
        (0, 0, 1, Some(9))
    );
    assert_eq!(group.terminate(leaving(), now).unwrap().seats[0].used, 0);
}

#[test]
fn a_day_that_a_zone_left_out_begins_with_the_next() {
    let zones = Zones::fixed(TimeZone::get("Pacific/Apia").unwrap());
    for (day, begins) in [(29, 29), (30, 31), (31, 31)] {
        let date = |day| jiff::civil::date(2011, 12, day);
        let expected = day_start(date(begins), &TimeZone::get("Pacific/Apia").unwrap());
        assert_eq!(midnight(&zones, date(day)), expected);
    }
}
