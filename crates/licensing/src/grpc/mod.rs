//! The wire: convert, call the use case, convert. The contracts' types stop here.

pub(crate) mod group;
pub(crate) mod intake;
pub(crate) mod license;
pub(crate) mod offer;
pub(crate) mod order;
pub(crate) mod portal;
pub(crate) mod usage;

use octroi_platform::{Violations, name};

/// The ids in a resource name; a name of another shape is a violation.
fn ids<'a, const N: usize>(
    field: &str,
    given: &'a str,
    collections: [&str; N],
    violations: &mut Violations,
) -> Option<[&'a str; N]> {
    let ids = name::parse(given, collections);
    if ids.is_none() {
        let shape: Vec<String> = collections
            .iter()
            .map(|it| format!("{it}/{{id}}"))
            .collect();
        violations.add(field, format!("must be a name such as {}", shape.join("/")));
    }
    ids
}

/// Holds a text to a number of characters, and to characters that can be kept and shown.
fn check_text(field: &str, given: &str, most: usize, violations: &mut Violations) {
    if given.chars().count() > most {
        violations.add(field, format!("must have at most {most} characters"));
    }
    if !is_plain(given) {
        violations.add(field, "must not hold control characters");
    }
}

fn is_plain(given: &str) -> bool {
    given
        .chars()
        .all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t'))
}
