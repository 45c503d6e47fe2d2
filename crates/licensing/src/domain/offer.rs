//! Offers: the products that licences are sold for.

use std::fmt::{self, Display};

use jiff::Timestamp;
use octroi_platform::name::Name;
use postgres_types::{FromSql, ToSql};

/// Which offer: "apps-for-business".
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, FromSql, ToSql)]
#[postgres(transparent)]
pub(crate) struct OfferId(String);

impl OfferId {
    /// An id that is known to be one.
    pub(crate) fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Name for OfferId {
    const KIND: &'static str = "offer";
    const COLLECTIONS: &'static [&'static str] = &["offers"];

    fn of(ids: &[&str]) -> Option<Self> {
        let [id] = ids else { return None };
        Some(Self::new(*id))
    }

    fn account(&self) -> Option<&str> {
        None
    }
}

impl Display for OfferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offers/{}", self.0)
    }
}

/// A product that licences are sold for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) id: OfferId,
    pub(crate) display_name: String,
    pub(crate) applications: Vec<String>,
    /// The most licences of it that a group may hold; none means without limit.
    pub(crate) group_license_limit: Option<i32>,
    /// The most computers per licence, Windows and macOS together.
    pub(crate) computer_limit: i32,
    /// The most tablets per licence.
    pub(crate) tablet_limit: i32,
    /// The most smartphones per licence.
    pub(crate) smartphone_limit: i32,
    /// Whether it may be installed on a computer that many share.
    pub(crate) shared_computer_activation: bool,
    /// Whether it is no longer sold.
    pub(crate) archived: bool,
    pub(crate) created_at: Timestamp,
    pub(crate) version: i64,
}
