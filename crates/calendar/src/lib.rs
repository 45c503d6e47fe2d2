//! Months and days in a time zone that may change: a new zone governs from the end of the month in which it was set,
//! so that each month starts exactly where the one before ended. And what was used in them.

pub mod usage;

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

/// A calendar month, written "2026-11".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month {
    /// The year, 1970 to 9990.
    pub year: i16,
    /// The month, 1 to 12.
    pub month: i8,
}

impl Month {
    /// The month of a date.
    pub fn of(date: Date) -> Self {
        Self {
            year: date.year(),
            month: date.month(),
        }
    }

    /// The month after.
    pub fn next(self) -> Self {
        match self.month {
            12 => Self {
                year: self.year + 1,
                month: 1,
            },
            month => Self {
                year: self.year,
                month: month + 1,
            },
        }
    }

    /// The month before.
    pub fn previous(self) -> Self {
        match self.month {
            1 => Self {
                year: self.year - 1,
                month: 12,
            },
            month => Self {
                year: self.year,
                month: month - 1,
            },
        }
    }

    /// Its first day.
    pub fn first_day(self) -> Date {
        Date::constant(self.year, self.month, 1)
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

/// The text is not a month.
#[derive(Debug, thiserror::Error)]
#[error("must be a month such as \"2026-11\", from 1970-01 to 9990-12")]
pub struct NotAMonth;

impl FromStr for Month {
    type Err = NotAMonth;

    fn from_str(text: &str) -> Result<Self, NotAMonth> {
        let (year, month) = text.split_once('-').ok_or(NotAMonth)?;
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if year.len() != 4 || month.len() != 2 || !digits(year) || !digits(month) {
            return Err(NotAMonth);
        }
        let year: i16 = year.parse().map_err(|_| NotAMonth)?;
        let month: i8 = month.parse().map_err(|_| NotAMonth)?;
        if !(1970..=9990).contains(&year) || !(1..=12).contains(&month) {
            return Err(NotAMonth);
        }
        Ok(Self { year, month })
    }
}

/// Why a history of zones makes no calendar.
#[derive(Debug, thiserror::Error)]
pub enum NoCalendar {
    /// It names no zone.
    #[error("a calendar without a zone")]
    Empty,
    /// It names a zone that the bundled database does not know.
    #[error(transparent)]
    Unknown(#[from] jiff::Error),
}

/// A half-open interval of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first instant.
    pub start: Timestamp,
    /// The instant after the last.
    pub end: Timestamp,
}

/// A local day within a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    /// Its date.
    pub date: Date,
    /// The first instant.
    pub start: Timestamp,
    /// The instant after the last.
    pub end: Timestamp,
}

/// The time zones that a calendar has followed, oldest first, each with the instant of its setting.
#[derive(Debug, Clone)]
pub struct Zones {
    first: TimeZone,
    later: Vec<(Timestamp, TimeZone)>,
}

impl Zones {
    /// A calendar that never changed its zone.
    pub fn fixed(zone: TimeZone) -> Self {
        Self {
            first: zone,
            later: Vec::new(),
        }
    }

    /// From a history in any order; the oldest zone also governs all that came before it.
    ///
    /// # Errors
    /// An empty history.
    pub fn new(mut changes: Vec<(Timestamp, TimeZone)>) -> Result<Self, NoCalendar> {
        changes.sort_by_key(|(at, _)| *at);
        let mut changes = changes.into_iter();
        let (_, first) = changes.next().ok_or(NoCalendar::Empty)?;
        Ok(Self {
            first,
            later: changes.collect(),
        })
    }

    /// As [`Zones::new`], from IANA names.
    ///
    /// # Errors
    /// An empty history or a name that the bundled database does not know.
    pub fn from_names(changes: &[(Timestamp, String)]) -> Result<Self, NoCalendar> {
        let changes = changes
            .iter()
            .map(|(at, name)| Ok((*at, TimeZone::get(name)?)))
            .collect::<Result<Vec<_>, jiff::Error>>()?;
        Self::new(changes)
    }

    /// The month's first instant and the zone that governs it.
    fn boundary(&self, month: Month) -> (Timestamp, &TimeZone) {
        let mut zone = &self.first;
        let mut start = day_start(month.first_day(), zone);
        for (at, next) in &self.later {
            if *at >= start {
                break;
            }
            zone = next;
            // A month that has already ended in the new zone ends when the zone is set, not before.
            start = day_start(month.first_day(), zone).max(*at);
        }
        (start, zone)
    }

    /// A month's bounds.
    pub fn month(&self, month: Month) -> Span {
        Span {
            start: self.boundary(month).0,
            end: self.boundary(month.next()).0,
        }
    }

    /// The month of an instant.
    pub fn month_at(&self, at: Timestamp) -> Month {
        let mut month = Month::of(at.to_zoned(TimeZone::UTC).date()).next();
        // A local month starts at most a day from the UTC one, and a zone change moves it by as little.
        while self.boundary(month).0 > at && month.year > 1969 {
            month = month.previous();
        }
        month
    }

    /// The zone that governs an instant.
    pub fn zone_at(&self, at: Timestamp) -> &TimeZone {
        self.boundary(self.month_at(at)).1
    }

    /// The local days of a month, covering it exactly. Where the zone changes at its end, the last day is longer or
    /// shorter, or is left out; so is a first day that had passed in the new zone when the month before ended.
    pub fn days(&self, month: Month) -> Vec<Day> {
        let (month_start, zone) = self.boundary(month);
        let month_end = self.boundary(month.next()).0;
        let mut days: Vec<Day> = Vec::with_capacity(31);
        let mut date = month.first_day();
        while Month::of(date) == month {
            let next = date.saturating_add(1.day());
            let start = if date.day() == 1 {
                month_start
            } else {
                day_start(date, zone).clamp(month_start, month_end)
            };
            let end = if Month::of(next) == month {
                day_start(next, zone).clamp(month_start, month_end)
            } else {
                month_end
            };
            if start < end {
                days.push(Day { date, start, end });
            }
            date = next;
        }
        days
    }

    /// The local date of an instant.
    pub fn date_at(&self, at: Timestamp) -> Date {
        let month = self.month_at(at);
        self.days(month)
            .iter()
            .rev()
            .find(|day| day.start <= at)
            .map_or(month.first_day(), |day| day.date)
    }
}

/// The first instant of a local day, which is not midnight where a clock change skips it.
pub fn day_start(date: Date, zone: &TimeZone) -> Timestamp {
    date.to_zoned(zone.clone())
        .and_then(|zoned| zoned.start_of_day())
        .map_or(Timestamp::MAX, |zoned| zoned.timestamp())
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    const ZONES: [&str; 10] = [
        "Europe/Paris",
        "America/New_York",
        "Asia/Tokyo",
        "Pacific/Kiritimati",
        "Pacific/Pago_Pago",
        "Australia/Lord_Howe",
        "America/Sao_Paulo",
        "Africa/Casablanca",
        "Asia/Kathmandu",
        "UTC",
    ];

    fn zone(at: usize) -> TimeZone {
        TimeZone::get(ZONES[at % ZONES.len()]).unwrap()
    }

    pub(crate) fn month() -> impl Strategy<Value = Month> {
        (1990_i16..2060, 1_i8..=12).prop_map(|(year, month)| Month { year, month })
    }

    pub(crate) fn zones() -> impl Strategy<Value = Zones> {
        prop::collection::vec((600_000_000_i64..2_800_000_000, 0_usize..10), 1..5).prop_map(
            |changes| {
                let changes = changes
                    .into_iter()
                    .map(|(at, index)| (Timestamp::from_second(at).unwrap(), zone(index)))
                    .collect();
                Zones::new(changes).unwrap()
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn months_follow_each_other_without_gap(zones in zones(), month in month()) {
            let span = zones.month(month);
            prop_assert!(span.start < span.end);
            prop_assert_eq!(span.end, zones.month(month.next()).start);
        }

        #[test]
        fn days_cover_their_month(zones in zones(), month in month()) {
            let span = zones.month(month);
            let days = zones.days(month);
            prop_assert_eq!(days.first().map(|day| day.start), Some(span.start));
            prop_assert_eq!(days.last().map(|day| day.end), Some(span.end));
            prop_assert!(days.iter().all(|day| day.start < day.end));
            for pair in days.windows(2) {
                prop_assert_eq!(pair[0].end, pair[1].start);
                prop_assert!(pair[0].date < pair[1].date);
            }
        }

        #[test]
        fn an_instant_lies_in_its_month_and_day(zones in zones(), at in 700_000_000_i64..2_700_000_000) {
            let at = Timestamp::from_second(at).unwrap();
            let month = zones.month_at(at);
            let span = zones.month(month);
            prop_assert!(span.start <= at && at < span.end);
            prop_assert_eq!(zones.month_at(span.start), month);
            prop_assert_eq!(zones.month_at(span.end), month.next());
            let date = zones.date_at(at);
            let day = zones.days(month).into_iter().find(|day| day.date == date).unwrap();
            prop_assert!(day.start <= at && at < day.end);
        }

        #[test]
        fn one_zone_follows_the_wall_clock(index in 0_usize..10, at in 700_000_000_i64..2_700_000_000) {
            let at = Timestamp::from_second(at).unwrap();
            let local = at.to_zoned(zone(index)).date();
            let zones = Zones::fixed(zone(index));
            prop_assert_eq!(zones.date_at(at), local);
            prop_assert_eq!(zones.month_at(at), Month::of(local));
        }

        #[test]
        fn months_are_read_as_they_are_written(month in month()) {
            prop_assert_eq!(month.to_string().parse::<Month>().unwrap(), month);
            prop_assert_eq!(month.next().previous(), month);
        }
    }

    #[test]
    fn a_new_zone_governs_from_the_next_end() {
        let paris = TimeZone::get("Europe/Paris").unwrap();
        let york = TimeZone::get("America/New_York").unwrap();
        let set: Timestamp = "2026-11-15T12:00:00Z".parse().unwrap();
        let zones = Zones::new(vec![(Timestamp::UNIX_EPOCH, paris), (set, york)]).unwrap();
        let november = zones.month("2026-11".parse().unwrap());
        assert_eq!(november.start.to_string(), "2026-10-31T23:00:00Z");
        assert_eq!(november.end.to_string(), "2026-12-01T05:00:00Z");
    }

    #[test]
    fn a_day_that_a_zone_left_out_is_none_of_the_month() {
        let apia = Zones::fixed(TimeZone::get("Pacific/Apia").unwrap());
        let days = apia.days("2011-12".parse().unwrap());
        let dates: Vec<i8> = days.iter().map(|day| day.date.day()).collect();
        let expected: Vec<i8> = (1..=31).filter(|day| *day != 30).collect();
        assert_eq!(dates, expected);
    }

    #[test]
    fn what_is_not_a_month_is_refused() {
        for wrong in [
            "", "2026", "2026-13", "2026-1", "26-01", "2026-00", "+026-01", "2026-011",
        ] {
            assert!(wrong.parse::<Month>().is_err(), "{wrong}");
        }
    }
}
