//! What is sold.

use jiff::Timestamp;

/// A product that licences are sold for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    /// Offer id.
    pub(crate) id: String,
    /// Name for people.
    pub(crate) display_name: String,
    /// The applications it includes.
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
    /// When it was created.
    pub(crate) created_at: Timestamp,
    /// Rises with every change.
    pub(crate) version: i64,
}

/// Resource name of an offer.
pub(crate) fn name(offer: &str) -> String {
    format!("offers/{offer}")
}
