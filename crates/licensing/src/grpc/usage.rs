//! The parts of QueryUsage's answer.

use octroi_api::licensing::v1 as wire;
use octroi_calendar::usage::DayUse;

use crate::domain::usage::OfferUsage;

impl From<&OfferUsage> for wire::OfferUsage {
    fn from(usage: &OfferUsage) -> Self {
        Self {
            offer: usage.offer.to_string(),
            peak: usage.peak,
            distinct: usage.distinct,
            seat_days: usage.seat_days,
            days: usage.days.iter().map(day).collect(),
        }
    }
}

fn day(day: &DayUse) -> wire::DayUsage {
    wire::DayUsage {
        date: day.date.to_string(),
        peak: day.peak,
        end_of_day: day.end_of_day,
        seats: day.seats,
    }
}
