//! Resource names, ids and etags.

use crate::error::Error;

/// Splits a resource name by its collections: `parse("accounts/a/orders/b", ["accounts", "orders"])` is
/// `Some(["a", "b"])`. Ids are not empty.
pub fn parse<'a, const N: usize>(name: &'a str, collections: [&str; N]) -> Option<[&'a str; N]> {
    let mut segments = name.split('/');
    let mut ids = [""; N];
    for (id, collection) in ids.iter_mut().zip(collections) {
        if segments.next()? != collection {
            return None;
        }
        *id = segments.next().filter(|id| !id.is_empty())?;
    }
    segments.next().is_none().then_some(ids)
}

/// Whether a caller may choose this id: `[a-z]([a-z0-9-]{0,61}[a-z0-9])?`, as AIP-122 has it.
pub fn is_id(id: &str) -> bool {
    let bytes = id.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    bytes.len() <= 63
        && first.is_ascii_lowercase()
        && *last != b'-'
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
}

/// The rule that [`is_id`] holds an id to, for people.
pub const ID_RULE: &str =
    "must be 1 to 63 of a-z, 0-9 and -, beginning with a letter and not ending with -";

/// Compares a given etag with a row's version; an empty one passes.
///
/// # Errors
/// [`Error::EtagMismatch`] when they differ.
pub fn check_etag(given: &str, version: i64, name: &str) -> Result<(), Error> {
    if given.is_empty() || given == version.to_string() {
        Ok(())
    } else {
        Err(Error::EtagMismatch {
            name: name.to_owned(),
        })
    }
}

/// The account id that a resource name begins with, or "-" where there is none.
pub fn account_of(resource: &str) -> &str {
    let mut segments = resource.split('/');
    match (segments.next(), segments.next()) {
        (Some("accounts"), Some(account)) if !account.is_empty() => account,
        _ => "-",
    }
}
