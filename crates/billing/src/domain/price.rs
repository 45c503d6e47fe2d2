//! Prices: effective-dated, never edited. What an offer costs in a currency from an instant on.

use std::fmt;

use jiff::Timestamp;
use octroi_platform::name::{Name, parse_uuid};
use postgres_types::{FromSql, ToSql};
use uuid::Uuid;

use super::money::Currency;

/// The name of an offer, which is licensing's, as it is stored: "offers/apps-for-business".
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, FromSql, ToSql)]
#[postgres(transparent)]
pub struct OfferId(String);

/// It is looked up by its text.
impl std::borrow::Borrow<str> for OfferId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Name for OfferId {
    const KIND: &'static str = "offer";
    const COLLECTIONS: &'static [&'static str] = &["offers"];

    fn of(ids: &[&str]) -> Option<Self> {
        let [id] = ids else { return None };
        Some(Self(format!("offers/{id}")))
    }

    fn account(&self) -> Option<&str> {
        None
    }
}

impl fmt::Display for OfferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a price: "prices/{uuid}".
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromSql, ToSql)]
#[postgres(transparent)]
pub struct PriceId(pub Uuid);

impl Name for PriceId {
    const KIND: &'static str = "price";
    const COLLECTIONS: &'static [&'static str] = &["prices"];

    fn of(ids: &[&str]) -> Option<Self> {
        let [id] = ids else { return None };
        Some(Self(parse_uuid(id)?))
    }

    fn account(&self) -> Option<&str> {
        None
    }
}

impl fmt::Display for PriceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "prices/{}", self.0)
    }
}

/// How usage is counted for a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UsagePolicy {
    /// The largest number of seats active at the same time in the month.
    Peak,
    /// How many seats were active at any time of the month.
    Distinct,
    /// Seats times days with any activity, of the month's days.
    Daily,
}

impl UsagePolicy {
    /// As the database spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            UsagePolicy::Peak => "PEAK",
            UsagePolicy::Distinct => "DISTINCT",
            UsagePolicy::Daily => "DAILY",
        }
    }

    /// The policy that the database spells so.
    pub fn parse(text: &str) -> Option<UsagePolicy> {
        match text {
            "PEAK" => Some(UsagePolicy::Peak),
            "DISTINCT" => Some(UsagePolicy::Distinct),
            "DAILY" => Some(UsagePolicy::Daily),
            _ => None,
        }
    }
}

impl fmt::Display for UsagePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one licence of an offer costs, without tax, from an instant on until a later price of the same offer and
/// currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    pub id: PriceId,
    pub offer: OfferId,
    /// The currency of both amounts.
    pub currency: Currency,
    /// Minor units for one licence and calendar month.
    pub monthly: i64,
    /// Minor units for one licence, once, when it is ordered.
    pub setup: i64,
    /// How usage is counted for it.
    pub policy: UsagePolicy,
    /// From when it is in force.
    pub valid_from: Timestamp,
}
