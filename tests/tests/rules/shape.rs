//! What lies where, and how large it may grow.

use crate::repository::{none, read, sources, top_level};

/// Lines of a file, at most.
const FILE: usize = 500;
/// Lines of a file of tests: a journey is read from top to bottom.
const JOURNEY: usize = 700;
/// Lines of code, at most, in what the three services share: it must stay small enough to be known by heart.
const SHARED: [(&str, usize); 2] = [("platform", 4_583), ("server", 2_819)];

#[test]
fn the_top_level_holds_what_the_design_names() {
    let named = [
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "crates",
        "deploy",
        "proto",
        "tests",
    ];
    let others: Vec<String> = top_level()
        .into_iter()
        .filter(|name| !name.starts_with('.') && !named.contains(&name.as_str()))
        .collect();
    none("the top level holds nothing else", others);
}

#[test]
fn files_stay_small() {
    let mut large = Vec::new();
    for (below, ending, limit) in [
        ("crates", ".rs", FILE),
        ("crates", ".sql", FILE),
        ("proto", ".proto", FILE),
        ("tests", ".rs", JOURNEY),
    ] {
        for file in sources(below, ending) {
            let lines = file.text.lines().count();
            if lines > limit {
                large.push(format!("{}: {lines} lines, {limit} at most", file.path));
            }
        }
    }
    none("files stay small", large);
}

#[test]
fn what_the_services_share_stays_small() {
    let mut large = Vec::new();
    for (name, limit) in SHARED {
        let files = sources(&format!("crates/{name}/src"), ".rs");
        let lines: usize = files
            .iter()
            .map(|file| file.code_without_tests().count())
            .sum();
        if lines > limit {
            large.push(format!(
                "crates/{name}: {lines} lines of code, {limit} at most"
            ));
        }
    }
    none("what the services share stays small", large);
}

#[test]
fn no_file_is_named_after_nothing() {
    let empty = [
        "utils.rs",
        "util.rs",
        "common.rs",
        "misc.rs",
        "helpers.rs",
        "manager.rs",
    ];
    let named: Vec<String> = ["crates", "tests"]
        .into_iter()
        .flat_map(|below| sources(below, ".rs"))
        .filter(|file| {
            empty
                .iter()
                .any(|name| file.path.ends_with(&format!("/{name}")))
        })
        .map(|file| file.path)
        .collect();
    none("a file's name says what is in it", named);
}

/// What a release computes of money is right or stops: it must not be less careful than what the tests saw.
#[test]
fn a_release_checks_overflow_as_the_tests_do() {
    let manifest = read("Cargo.toml");
    let profile = |name: &str| {
        let below = manifest
            .split_once(&format!("\n[{name}]\n"))
            .map(|(_, below)| below);
        below.and_then(|below| below.split("\n[").next())
    };
    let own = profile("profile.release").unwrap();
    assert!(
        own.lines().any(|line| line == "overflow-checks = true"),
        "{own}"
    );
    let dev = profile("profile.dev").unwrap();
    assert!(!dev.contains("overflow-checks"), "{dev}");
    // Nor is it taken back for one of ours.
    for package in [
        "api",
        "calendar",
        "platform",
        "server",
        "licensing",
        "billing",
        "notification",
    ] {
        for kind in ["dev", "release"] {
            assert_eq!(
                profile(&format!("profile.{kind}.package.octroi-{package}")),
                None
            );
        }
    }
}
