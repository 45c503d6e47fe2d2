//! The wire: convert, call the use case, convert. The contracts' types stop here.

pub(crate) mod group;
pub(crate) mod intake;
pub(crate) mod license;
pub(crate) mod offer;
pub(crate) mod order;
pub(crate) mod portal;
pub(crate) mod usage;

use octroi_platform::Violations;
use octroi_platform::text::{is_blank, is_unseen};

/// Holds something's name for people to one line of 1 to 100 characters.
fn check_name(field: &str, given: &str, violations: &mut Violations) {
    let length = given.chars().count();
    if !(1..=100).contains(&length)
        || given.trim() != given
        || given.chars().any(is_unseen)
        || is_blank(given)
    {
        violations.add(
            field,
            "must be 1 to 100 characters, with no control or format character and no space around it",
        );
    }
}

/// Holds a text to a number of characters, and to characters that can be kept and shown.
fn check_text(field: &str, given: &str, most: usize, violations: &mut Violations) {
    if given.chars().count() > most {
        violations.add(field, format!("must have at most {most} characters"));
    }
    if !is_plain(given) {
        violations.add(field, "must hold no control or format character");
    }
}

fn is_plain(given: &str) -> bool {
    given
        .chars()
        .all(|c| !is_unseen(c) || matches!(c, '\n' | '\r' | '\t'))
}
