//! What is stored of an account, and the addressee that follows from it.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use octroi_calendar::Zones;

use crate::domain::locale::Locale;

/// An account as one of its changes left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Rises with every change.
    pub version: i64,
    /// Where its e-mails go.
    pub contact_email: String,
    /// The language of its e-mails.
    pub locale: Locale,
    /// Legal name of the customer.
    pub legal_name: String,
    /// Every time zone that it has had, oldest first.
    pub zones: Vec<ZoneChange>,
}

/// From when a time zone was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneChange {
    /// IANA name.
    pub time_zone: String,
    /// The instant of the setting.
    pub time: Timestamp,
}

/// Whom an e-mail goes to, and how it speaks to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addressee {
    /// The address.
    pub email: String,
    /// The language.
    pub locale: Locale,
    /// The customer's legal name.
    pub customer: String,
    /// IANA name of the time zone of dates.
    pub time_zone: String,
}

impl Account {
    /// The account's contact, with the time zone in effect at `at`.
    pub fn addressee(&self, at: Timestamp) -> Addressee {
        self.addressee_at(self.contact_email.clone(), at)
    }

    /// The same with another address.
    pub fn addressee_at(&self, email: String, at: Timestamp) -> Addressee {
        Addressee {
            email,
            locale: self.locale,
            customer: self.legal_name.clone(),
            time_zone: self.zone(at),
        }
    }

    /// The zone of the account's calendar at an instant; UTC where none is known here: an e-mail with dates in UTC is
    /// better than none.
    fn zone(&self, at: Timestamp) -> String {
        let changes: Vec<_> = self
            .zones
            .iter()
            .map(|change| (change.time, change.time_zone.clone()))
            .collect();
        Zones::from_names(&changes)
            .ok()
            .and_then(|zones| zones.zone_at(at).iana_name().map(str::to_owned))
            .unwrap_or_else(|| "UTC".to_owned())
    }
}

impl Addressee {
    /// The time zone of dates.
    pub fn zone(&self) -> TimeZone {
        TimeZone::get(&self.time_zone).unwrap_or(TimeZone::UTC)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_in_the_zone_in_effect() {
        let zone = |time_zone: &str, time: &str| ZoneChange {
            time_zone: time_zone.to_owned(),
            time: time.parse().unwrap(),
        };
        let mut account = Account {
            version: 2,
            contact_email: "it@acme.example".to_owned(),
            locale: Locale::Fr,
            legal_name: "Acme SAS".to_owned(),
            zones: vec![
                zone("Europe/Paris", "2026-01-01T00:00:00Z"),
                zone("America/New_York", "2026-11-10T00:00:00Z"),
            ],
        };
        let at = |account: &Account, time: &str| account.addressee(time.parse().unwrap()).time_zone;
        // A new zone governs from the end of the month in which it was set.
        assert_eq!(at(&account, "2026-11-20T00:00:00Z"), "Europe/Paris");
        assert_eq!(at(&account, "2026-12-02T00:00:00Z"), "America/New_York");
        account.zones = vec![zone("Nowhere/Land", "2026-01-01T00:00:00Z")];
        assert_eq!(at(&account, "2026-12-02T00:00:00Z"), "UTC");
        account.zones.clear();
        assert_eq!(at(&account, "2026-12-02T00:00:00Z"), "UTC");
    }
}
