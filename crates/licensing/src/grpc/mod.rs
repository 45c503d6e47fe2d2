//! The wire: convert, call the use case, convert. The contracts' types stop here.

pub(crate) mod group;
pub(crate) mod intake;
pub(crate) mod license;
pub(crate) mod offer;
pub(crate) mod order;
pub(crate) mod portal;
pub(crate) mod usage;

use octroi_platform::{Page, Violations, name};

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

/// Holds something's name for people to one line of 1 to 100 characters.
fn check_name(field: &str, given: &str, violations: &mut Violations) {
    let length = given.chars().count();
    if !(1..=100).contains(&length) || given.trim() != given || given.chars().any(char::is_control)
    {
        violations.add(
            field,
            "must be 1 to 100 characters, without control characters or space around it",
        );
    }
}

/// The key of the row that a page begins after, none for the first page. One that no row of the list can have was made
/// up.
fn after<K>(page: &Page, read: fn(&str) -> Option<K>, violations: &mut Violations) -> Option<K> {
    let given = page.after.as_deref()?;
    let key = read(given);
    if key.is_none() {
        violations.add("page_token", "must come from the same query's last answer");
    }
    key
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
