//! Customers' accounts: what they hold and how they change.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use octroi_platform::name::AccountId;
use octroi_platform::refusal::Refusal;
use octroi_platform::text::{is_blank, is_unseen};

use super::address::Address;
use super::money::Currency;
use super::seller::SellerId;
use crate::refusal::{account_fixed, account_held};

/// Language of e-mails and documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locale {
    Fr,
    En,
}

impl Locale {
    /// BCP 47: "fr" or "en".
    pub fn as_str(self) -> &'static str {
        match self {
            Locale::Fr => "fr",
            Locale::En => "en",
        }
    }

    /// The locale that is spelt so.
    pub fn parse(text: &str) -> Option<Locale> {
        match text {
            "fr" => Some(Locale::Fr),
            "en" => Some(Locale::En),
            _ => None,
        }
    }
}

/// From when a time zone was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneChange {
    /// The instant of the setting.
    pub at: Timestamp,
    /// IANA name, as the bundled database spells it.
    pub zone: String,
}

/// A customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub id: AccountId,
    pub legal_name: String,
    /// Where every e-mail goes.
    pub contact_email: String,
    /// Postal address; its country decides the tax.
    pub address: Address,
    /// VAT number, or empty.
    pub vat_number: String,
    /// The currency of everything that it is charged. Fixed after the first order.
    pub currency: Currency,
    /// Fixed after the first order.
    pub seller: SellerId,
    /// Language of e-mails and documents.
    pub locale: Locale,
    /// Every time zone that it has had, oldest first; never empty.
    pub zones: Vec<ZoneChange>,
    /// When its first order was kept.
    pub first_order_at: Option<Timestamp>,
    /// When an order was last quoted to be kept, before any was known to be.
    pub quoted_at: Option<Timestamp>,
    pub version: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Defaults that an account takes from its seller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SellerDefaults {
    pub id: SellerId,
    pub currency: Currency,
    /// Its IANA time zone.
    pub zone: String,
}

/// An account to create, every field already checked by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAccount {
    pub legal_name: String,
    /// Where every e-mail goes.
    pub contact_email: String,
    pub address: Address,
    /// VAT number, or empty.
    pub vat_number: String,
    /// The seller's when none.
    pub currency: Option<Currency>,
    /// The installation's own when none.
    pub seller: Option<SellerId>,
    pub locale: Locale,
    /// IANA time zone; the seller's when none.
    pub zone: Option<String>,
}

/// What of an account to change, every field already checked by itself. The outer `None` leaves a field as it is; an
/// inner one asks for the seller's (or the installation's) default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountChange {
    pub legal_name: Option<String>,
    /// Where every e-mail goes.
    pub contact_email: Option<String>,
    pub address: Option<Address>,
    /// VAT number, or empty.
    pub vat_number: Option<String>,
    pub currency: Option<Option<Currency>>,
    pub seller: Option<Option<SellerId>>,
    pub locale: Option<Locale>,
    pub zone: Option<Option<String>>,
}

impl Account {
    /// A new account. `seller` is the one that `new` names, or the installation's own.
    pub fn create(
        id: AccountId,
        new: NewAccount,
        seller: &SellerDefaults,
        now: Timestamp,
    ) -> Account {
        Account {
            id,
            legal_name: new.legal_name,
            contact_email: new.contact_email,
            address: new.address,
            vat_number: new.vat_number,
            currency: new.currency.unwrap_or(seller.currency),
            seller: seller.id.clone(),
            locale: new.locale,
            zones: vec![ZoneChange {
                at: now,
                zone: new.zone.unwrap_or_else(|| seller.zone.clone()),
            }],
            first_order_at: None,
            quoted_at: None,
            version: 1,
            created_at: now,
            updated_at: now,
        }
    }

    /// When its first order was made, or may have been: an order quoted after `complete_through`, up to which licensing's
    /// events have arrived, may exist. One quoted before exists already, or never will.
    fn ordered(&self, complete_through: Option<Timestamp>) -> Option<Timestamp> {
        let open = |quoted: &Timestamp| complete_through.is_none_or(|complete| complete < *quoted);
        self.first_order_at.or(self.quoted_at.filter(open))
    }

    /// The time zone last set. Which zone applies at an instant is decided by the calendar.
    pub fn time_zone(&self) -> &str {
        self.zones
            .last()
            .map_or("UTC", |change| change.zone.as_str())
    }

    /// The account after a change that was asked for at `now`, its version risen by one; the account as it is when
    /// nothing differs. `seller` is the one that it then has. The change takes effect at `updated_at`, which is after the
    /// change before it even where this one was asked for earlier and waited longer. Licensing's facts are known through
    /// `complete_through`.
    ///
    /// # Errors
    /// ACCOUNT_FIXED when currency or seller would change after the first order, or while it may be on its way.
    pub fn change(
        &self,
        change: AccountChange,
        seller: &SellerDefaults,
        complete_through: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Account, Refusal> {
        let now = self.effective(now);
        let mut next = self.clone();
        next.seller = seller.id.clone();
        if let Some(currency) = change.currency {
            next.currency = currency.unwrap_or(seller.currency);
        }
        next.check_fixed(self, complete_through)?;
        set(&mut next.legal_name, change.legal_name);
        set(&mut next.contact_email, change.contact_email);
        set(&mut next.address, change.address);
        set(&mut next.vat_number, change.vat_number);
        set(&mut next.locale, change.locale);
        if let Some(zone) = change.zone {
            let zone = zone.unwrap_or_else(|| seller.zone.clone());
            if zone != self.time_zone() {
                next.zones.push(ZoneChange { at: now, zone });
            }
        }
        if next != *self {
            next.version += 1;
            next.updated_at = now;
        }
        Ok(next)
    }

    /// Changes take effect in the order of their versions: with equal or reversed instants it would be ambiguous which time
    /// zone applies.
    fn effective(&self, now: Timestamp) -> Timestamp {
        let next = self.updated_at.checked_add(SignedDuration::from_micros(1));
        now.max(next.unwrap_or(self.updated_at))
    }

    fn check_fixed(
        &self,
        before: &Account,
        complete_through: Option<Timestamp>,
    ) -> Result<(), Refusal> {
        if before.ordered(complete_through).is_none() {
            return Ok(());
        }
        let mut fields = Vec::new();
        if self.currency != before.currency {
            fields.push("currency_code");
        }
        if self.seller != before.seller {
            fields.push("seller");
        }
        match (fields.join(", ").as_str(), before.first_order_at) {
            ("", _) => Ok(()),
            (fields, Some(_)) => Err(account_fixed(&self.id, fields)),
            (fields, None) => Err(account_held(&self.id, fields)),
        }
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

/// Why a field of an account is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule(pub &'static str);

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A text for people: between 1 and `most` characters, no control or format character, no space around it.
pub fn check_text(text: &str, most: usize) -> Option<String> {
    let length = text.chars().count();
    let good = (1..=most).contains(&length)
        && text.trim() == text
        && !text.chars().any(is_unseen)
        && !is_blank(text);
    good.then(|| text.to_owned())
}

/// A legal name.
pub fn check_legal_name(text: &str) -> Result<String, Rule> {
    check_text(text, 200).ok_or(Rule(
        "must be 1 to 200 characters, with no control or format character and no space around it",
    ))
}

/// An e-mail address that mail can be sent to: a dot-atom, "@", and a domain name of two labels or more.
pub fn check_email(text: &str) -> Result<String, Rule> {
    let rule = Rule("must be an e-mail address such as \"billing@example.com\"");
    let (local, domain) = text.rsplit_once('@').ok_or(rule)?;
    let atom = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte))
    };
    let label = |part: &str| {
        (1..=63).contains(&part.len())
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let good = text.len() <= 254
        && local.len() <= 64
        && local.split('.').all(atom)
        && domain.split('.').count() >= 2
        && domain.split('.').all(label)
        && !domain
            .split('.')
            .next_back()
            .is_some_and(|top| top.bytes().all(|b| b.is_ascii_digit()));
    good.then(|| text.to_owned()).ok_or(rule)
}

/// An IANA time zone that the bundled database knows, in its own spelling.
pub fn check_zone(text: &str) -> Result<String, Rule> {
    let rule = Rule("must be an IANA time zone such as \"Europe/Paris\"");
    let zone = jiff::tz::TimeZone::get(text).map_err(|_| rule)?;
    zone.iana_name().map(str::to_owned).ok_or(rule)
}

#[cfg(test)]
mod tests;
