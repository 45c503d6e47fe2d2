//! What licensing knows of an account: billing's latest snapshot.

use jiff::Timestamp;
use octroi_calendar::Zones;
use octroi_platform::error::Error;
use octroi_platform::name::AccountId;

/// The few fields of an account that licensing needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) id: AccountId,
    /// Version of billing's row; a higher one replaces a lower one.
    pub(crate) version: i64,
    /// Language of texts for its users: "fr" or "en".
    pub(crate) locale: String,
    /// ISO 4217 currency.
    pub(crate) currency: String,
    /// Every time zone it has had, oldest first, each with the instant of its setting; never empty.
    pub(crate) zones: Vec<(Timestamp, String)>,
}

impl Account {
    /// Its calendar.
    ///
    /// # Errors
    /// A zone that the bundled database does not know.
    pub(crate) fn calendar(&self) -> Result<Zones, Error> {
        Zones::from_names(&self.zones).map_err(|error| Error::Internal(error.into()))
    }
}
