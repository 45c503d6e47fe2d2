//! Resource names, ids and etags.

use std::fmt::{self, Display};
use std::str::FromStr;

use postgres_types::{FromSql, ToSql};
use uuid::Uuid;

use crate::error::Error;

/// A resource's name, as its type: what it names cannot be mixed up with anything else. It is displayed as it is written
/// on the wire, such as "accounts/acme/orders/first".
pub trait Name: Sized + Display {
    /// What it names, for people: "order".
    const KIND: &'static str;
    /// The collections that it is made of: "accounts", "orders".
    const COLLECTIONS: &'static [&'static str];

    /// The name of these ids, one for each collection; none where an id cannot be one of its collection.
    fn of(ids: &[&str]) -> Option<Self>;

    /// The id of the account that it belongs to; none where it belongs to none.
    fn account(&self) -> Option<&str>;

    /// Reads a name as it is written on the wire.
    fn parse(given: &str) -> Option<Self> {
        let mut ids = Vec::with_capacity(Self::COLLECTIONS.len());
        let mut segments = given.split('/');
        for collection in Self::COLLECTIONS {
            if segments.next()? != *collection {
                return None;
            }
            ids.push(segments.next().filter(|id| may_be_id(id))?);
        }
        segments.next().is_none().then(|| Self::of(&ids))?
    }

    /// The rule that a name of this type must keep, for people.
    fn rule() -> String {
        let shape: Vec<_> = Self::COLLECTIONS
            .iter()
            .map(|collection| format!("{collection}/{{id}}"))
            .collect();
        format!("must be a name such as {}", shape.join("/"))
    }

    /// [`Name::KIND`], unless a name may be of several kinds.
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    /// ALREADY_EXISTS for this name.
    fn already_exists(&self) -> Error {
        Error::AlreadyExists {
            kind: Self::KIND,
            name: self.to_string(),
        }
    }
}

/// The id of an account, the tenant that a resource belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, FromSql, ToSql)]
#[postgres(transparent)]
pub struct AccountId(String);

impl AccountId {
    /// An id that is known to be one: a stored one, or one that was just made.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The id alone: "acme".
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Name for AccountId {
    const KIND: &'static str = "account";
    const COLLECTIONS: &'static [&'static str] = &["accounts"];

    fn of(ids: &[&str]) -> Option<Self> {
        let [id] = ids else { return None };
        Some(Self::new(*id))
    }

    fn account(&self) -> Option<&str> {
        Some(&self.0)
    }
}

impl Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "accounts/{}", self.0)
    }
}

/// A kind of resource that belongs to an account.
pub trait Kind {
    /// The type of its ids.
    type Id: FromStr + Display;
    /// What it is, for people: "order".
    const KIND: &'static str;
    /// Its collection: "orders".
    const COLLECTION: &'static str;
}

/// The name of what belongs to an account: "accounts/acme/orders/first".
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owned<K: Kind> {
    /// The account that it belongs to.
    pub account: AccountId,
    /// Its id in the account.
    pub id: K::Id,
}

impl<K: Kind> Name for Owned<K> {
    const KIND: &'static str = K::KIND;
    const COLLECTIONS: &'static [&'static str] = &["accounts", K::COLLECTION];

    /// None where the id is not written as it is displayed.
    fn of(ids: &[&str]) -> Option<Self> {
        let [account, given] = ids else { return None };
        let id = given.parse::<K::Id>().ok()?;
        (id.to_string() == *given).then_some(Self {
            account: AccountId::new(*account),
            id,
        })
    }

    fn account(&self) -> Option<&str> {
        Some(self.account.as_str())
    }
}

impl<K: Kind> Display for Owned<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.account, K::COLLECTION, self.id)
    }
}

/// Whether a resource can have this id at all, be it chosen, a number or a UUID.
pub(crate) fn may_be_id(id: &str) -> bool {
    (1..=63).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Whether a caller may choose this id: `[a-z]([a-z0-9-]{0,61}[a-z0-9])?`, as AIP-122 has it.
pub fn is_id(id: &str) -> bool {
    may_be_id(id) && id.starts_with(|first: char| first.is_ascii_lowercase()) && !id.ends_with('-')
}

/// The rule that [`is_id`] holds an id to, for people.
pub const ID_RULE: &str =
    "must be 1 to 63 of a-z, 0-9 and -, beginning with a letter and not ending with -";

/// Reads a UUID in its canonical form, 8-4-4-4-12 digits. Braces, `urn:uuid:` and a form without dashes are none: what
/// is the same must be written the same.
pub fn parse_uuid(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok().filter(|_| text.len() == 36)
}

/// Compares a given etag with a row's version; an empty one passes.
///
/// # Errors
/// [`Error::EtagMismatch`] when they differ.
pub fn check_etag(given: &str, version: i64, name: &impl Name) -> Result<(), Error> {
    if given.is_empty() || given == version.to_string() {
        Ok(())
    } else {
        Err(Error::EtagMismatch {
            kind: name.kind(),
            name: name.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    enum OrderKind {}

    impl Kind for OrderKind {
        type Id = String;
        const KIND: &'static str = "order";
        const COLLECTION: &'static str = "orders";
    }

    #[derive(Debug, PartialEq)]
    enum EventKind {}

    impl Kind for EventKind {
        type Id = Uuid;
        const KIND: &'static str = "event";
        const COLLECTION: &'static str = "events";
    }

    #[test]
    fn names_hold_ids_alone() {
        let order = Owned::<OrderKind>::parse("accounts/a/orders/7-").unwrap();
        assert_eq!((order.account.as_str(), &*order.id), ("a", "7-"));
        assert_eq!(order.to_string(), "accounts/a/orders/7-");
        assert_eq!(order.account(), Some("a"));
        let long = format!("accounts/{}/orders/b", "a".repeat(64));
        for wrong in [
            "accounts//orders/b",
            "accounts/a/orders",
            "accounts/a/orders/b/",
            "accounts/a/events/b",
            "accounts/A/orders/b",
            "accounts/a\0/orders/b",
            "accounts/é/orders/b",
            &long,
        ] {
            assert_eq!(Owned::<OrderKind>::parse(wrong), None, "{wrong:?}");
        }
        // A UUID is written in one way.
        let id = "7d1a0a54-0000-4000-8000-00000000000a";
        let event = |id: &str| Owned::<EventKind>::parse(&format!("accounts/a/events/{id}"));
        assert_eq!(event(id).unwrap().id.to_string(), id);
        assert_eq!(event(&id.replace('-', "")), None);
        let canonical = "7d1a0a54-0000-4000-8000-00000000000A";
        assert!(parse_uuid(canonical).is_some());
        for wrong in [
            canonical.replace('-', ""),
            format!("{{{canonical}}}"),
            format!("urn:uuid:{canonical}"),
            canonical.replace("A", ""),
            canonical.replace("4000", "40-0"),
        ] {
            assert_eq!(parse_uuid(&wrong), None, "{wrong:?}");
        }
        assert!(is_id("a-1") && is_id("a"));
        assert!(!is_id("") && !is_id("1a") && !is_id("a-") && !is_id("-a"));
    }
}
