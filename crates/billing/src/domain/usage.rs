//! Usage: when seats were active. Billing keeps the intervals that licensing tells of; a month's consumption is
//! counted from them by group and offer, with its evidence day by day.

use jiff::Timestamp;
pub use octroi_calendar::usage::DayUse;
use octroi_platform::name::AccountId;
use octroi_platform::refusal::Refusal;
use uuid::Uuid;

use super::price::{OfferId, PriceId, UsagePolicy};
use crate::refusal::amount_overflow;

/// A seat of a group: what usage counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    pub account: AccountId,
    /// Group id.
    pub group: String,
    /// Number in the group, from 1.
    pub number: i32,
}

/// A seat became active.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    pub seat: Seat,
    pub offer: OfferId,
    /// The event that told of it.
    pub event: Uuid,
    /// From when on.
    pub at: Timestamp,
}

/// An offer's entry into a group: its first order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Group id.
    pub group: String,
    pub offer: OfferId,
    /// Name of the offer for people.
    pub offer_name: String,
    /// When the order completed.
    pub at: Timestamp,
    /// The price that the order quoted.
    pub price: PriceId,
}

/// A name that a group was given. Of several the highest version counts, then the latest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupName {
    /// Group id.
    pub group: String,
    /// The name, for people.
    pub display_name: String,
    /// Version of the group; 0 for a name that came with an order.
    pub version: i64,
    /// From when.
    pub at: Timestamp,
}

/// A month's consumption of an offer in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Group id.
    pub group: String,
    /// What was used.
    pub offer: OfferId,
    /// How many seats were active at any time of the month.
    pub distinct: i32,
    /// The days with activity, oldest first.
    pub days: Vec<DayUse>,
}

impl Usage {
    /// What a policy charges of it: seats for PEAK and DISTINCT, seat-days for DAILY.
    pub fn quantity(&self, policy: UsagePolicy) -> Result<i32, Refusal> {
        match policy {
            UsagePolicy::Peak => Ok(self.days.iter().map(|day| day.peak).max().unwrap_or(0)),
            UsagePolicy::Distinct => Ok(self.distinct),
            UsagePolicy::Daily => self
                .days
                .iter()
                .try_fold(0_i32, |sum, day| sum.checked_add(day.seats))
                .ok_or_else(amount_overflow),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use octroi_platform::name::Name as _;

    use super::*;

    #[test]
    fn each_policy_counts_its_own_way() {
        let day = |day, peak, end_of_day, seats| DayUse {
            date: date(2026, 11, day),
            peak,
            end_of_day,
            seats,
        };
        let usage = Usage {
            group: "office".into(),
            offer: OfferId::of(&["a"]).unwrap(),
            distinct: 5,
            days: vec![day(1, 3, 1, 4), day(2, 2, 2, 2)],
        };
        assert_eq!(usage.quantity(UsagePolicy::Peak), Ok(3));
        assert_eq!(usage.quantity(UsagePolicy::Distinct), Ok(5));
        assert_eq!(usage.quantity(UsagePolicy::Daily), Ok(6));
        let overflowing = Usage {
            days: vec![day(1, 1, 1, i32::MAX), day(2, 1, 1, 1)],
            ..usage
        };
        assert_eq!(
            overflowing.quantity(UsagePolicy::Daily),
            Err(amount_overflow())
        );
    }
}
