//! LicenseGroupService.QueryUsage.

use octroi_api::licensing::v1 as wire;
use octroi_calendar::{Month, Span};
use octroi_platform::event::to_proto;

use crate::domain::offer;
use crate::domain::usage::{DayUsage, OfferUsage};

/// The answer of QueryUsage.
pub(crate) fn to_wire(month: Month, span: Span, offers: &[OfferUsage]) -> wire::QueryUsageResponse {
    wire::QueryUsageResponse {
        month: month.to_string(),
        start_time: Some(to_proto(span.start)),
        end_time: Some(to_proto(span.end)),
        offers: offers.iter().map(offer_usage).collect(),
    }
}

fn offer_usage(usage: &OfferUsage) -> wire::OfferUsage {
    wire::OfferUsage {
        offer: offer::name(&usage.offer),
        peak: usage.peak,
        distinct: usage.distinct,
        seat_days: usage.seat_days,
        days: usage.days.iter().map(day_usage).collect(),
    }
}

fn day_usage(day: &DayUsage) -> wire::DayUsage {
    wire::DayUsage {
        date: day.date.to_string(),
        peak: day.peak,
        end_of_day: day.end_of_day,
        seats: day.seats,
    }
}
