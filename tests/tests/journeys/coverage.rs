//! Every declared method has a journey that shows it.

use std::collections::BTreeSet;
use std::process::Command;

use octroi_api::METHODS;
use octroi_tests::harness::JOURNEYS;

/// The journeys that are named exist; each is held to its promise when it ends.
#[test]
fn every_method_has_a_journey() {
    let shown: BTreeSet<_> = JOURNEYS
        .iter()
        .map(|(method, _)| format!("/octroi.{method}"))
        .collect();
    let declared: BTreeSet<_> = METHODS
        .iter()
        .map(|method| method.path.to_owned())
        .collect();
    assert_eq!(shown, declared);
    assert_eq!(shown.len(), JOURNEYS.len(), "each once");
    let listed = Command::new(std::env::current_exe().unwrap())
        .args(["--list", "--format", "terse"])
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let tests: BTreeSet<_> = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .collect();
    for (method, test) in JOURNEYS {
        assert!(
            tests.contains(test),
            "{test}, which is to show {method}, is not there"
        );
    }
}
