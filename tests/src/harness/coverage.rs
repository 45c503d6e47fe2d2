//! Which journey shows each declared method. A journey that ends without having called what is promised here, with an
//! answer other than a refusal, fails.

use std::collections::BTreeSet;

/// A declared method, and the test of the journeys that shows it.
pub type Journey = (&'static str, &'static str);

/// Every declared method.
pub const JOURNEYS: &[Journey] = &[];

/// Holds a test to what it promised.
pub(crate) fn check(test: &str, called: &BTreeSet<String>) {
    let missing: Vec<_> = JOURNEYS
        .iter()
        .filter(|(method, shown)| *shown == test && !called.contains(*method))
        .collect();
    assert!(missing.is_empty(), "{test} did not show {missing:?}");
}
