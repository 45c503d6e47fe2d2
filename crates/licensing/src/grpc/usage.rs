//! The parts of QueryUsage's answer.

use octroi_api::licensing::v1 as wire;

use crate::domain::usage::{DayUsage, OfferUsage};

impl From<&OfferUsage> for wire::OfferUsage {
    fn from(usage: &OfferUsage) -> Self {
        Self {
            offer: usage.offer.to_string(),
            peak: usage.peak,
            distinct: usage.distinct,
            seat_days: usage.seat_days,
            days: usage.days.iter().map(Into::into).collect(),
        }
    }
}

impl From<&DayUsage> for wire::DayUsage {
    fn from(day: &DayUsage) -> Self {
        Self {
            date: day.date.to_string(),
            peak: day.peak,
            end_of_day: day.end_of_day,
            seats: day.seats,
        }
    }
}
