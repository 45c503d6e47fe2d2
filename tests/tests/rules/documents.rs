//! The documents say what is so: links lead somewhere, the tables of methods, settings and exit codes are complete.

use std::collections::BTreeSet;
use std::path::Path;

use clap::Args;
use octroi_api::DESCRIPTORS;
use prost::Message as _;
use prost_types::FileDescriptorSet;

use crate::repository::{none, read, root};

/// Settings that are read before there are flags.
const ENVIRONMENT_ONLY: [&str; 2] = ["OCTROI_LOG_FORMAT", "RUST_LOG"];

/// The part of a document below a heading, up to the next one of its level.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let (_, below) = text
        .split_once(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("no heading {heading:?}"));
    let level = heading.split(' ').next().unwrap();
    below.split(&format!("\n{level} ")).next().unwrap()
}

/// The settings of one kind of process: name of the flag and of the variable.
fn settings<A: Args>() -> Vec<(String, String)> {
    let command = A::augment_args(clap::Command::new("settings"));
    command
        .get_arguments()
        .filter_map(|argument| {
            let flag = argument.get_long()?.to_owned();
            let variable = argument.get_env()?.to_string_lossy().into_owned();
            Some((flag, variable))
        })
        .collect()
}

/// Every setting of every process.
pub fn every_setting() -> BTreeSet<(String, String)> {
    [
        settings::<octroi_licensing::Settings>(),
        settings::<octroi_billing::Settings>(),
        settings::<octroi_notification::Settings>(),
        settings::<octroi::serve::ServeArgs>(),
        settings::<octroi::place::PlaceArgs>(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn links_lead_somewhere() {
    let mut dead = Vec::new();
    for document in ["README.md", "deploy/README.md"] {
        let text = read(document);
        let at = Path::new(document).parent().unwrap();
        for target in text
            .split("](")
            .skip(1)
            .map(|rest| rest.split(')').next().unwrap())
        {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let there = target.starts_with("https://")
                || file.is_empty()
                || root().join(at).join(file).exists();
            if !there || (file.is_empty() && !anchors(&text).contains(anchor)) {
                dead.push(format!("{document}: {target}"));
            }
        }
    }
    none("links lead somewhere", dead);
}

fn anchors(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            let kept = heading
                .chars()
                .filter(|letter| letter.is_alphanumeric() || " -".contains(*letter));
            kept.collect::<String>().replace(' ', "-")
        })
        .collect()
}

#[test]
fn files_that_the_readme_names_are_there() {
    let text = read("README.md");
    let missing: Vec<String> = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|code| {
            let path = ["crates/", "proto/", "deploy/", "tests/"]
                .iter()
                .any(|top| code.starts_with(top));
            path && !code.contains([' ', '*', '{', '<']) && !root().join(code).exists()
        })
        .map(ToOwned::to_owned)
        .collect();
    none("files that the README names are there", missing);
}

#[test]
fn the_api_table_names_every_method() {
    let set = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let mut rows = BTreeSet::new();
    for file in set
        .file
        .iter()
        .filter(|file| file.package().starts_with("octroi."))
    {
        for service in &file.service {
            let methods: Vec<&str> = service.method.iter().map(|method| method.name()).collect();
            let package = file.package().trim_start_matches("octroi.");
            rows.insert(format!(
                "| {package} | {} | {} |",
                service.name(),
                methods.join(" ")
            ));
        }
    }
    let readme = read("README.md");
    let table = section(&readme, "## The API at a glance");
    let told: BTreeSet<String> = table
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains(".v1 |"))
        .map(ToOwned::to_owned)
        .collect();
    assert_eq!(
        told, rows,
        "the README's table of methods, and the descriptor set"
    );
}

#[test]
fn the_settings_tables_name_every_setting() {
    let readme = read("README.md");
    let told: BTreeSet<(String, String)> = section(&readme, "## Settings")
        .lines()
        .filter_map(|line| line.strip_prefix("| `--"))
        .map(|row| {
            let mut cells = row.split('|').map(|cell| cell.trim().trim_matches('`'));
            let flag = cells.next().unwrap().trim_end_matches('`').to_owned();
            (flag, cells.next().unwrap().to_owned())
        })
        .collect();
    assert_eq!(
        told,
        every_setting(),
        "the README's settings, and the programs'"
    );
    for variable in ENVIRONMENT_ONLY {
        assert!(
            readme.contains(variable),
            "the README does not name {variable}"
        );
    }
}

#[test]
fn the_exit_codes_are_the_programs() {
    let readme = read("README.md");
    let told = section(&readme, "### Exit codes");
    let missing: Vec<String> = octroi::failure::EXIT_CODES
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.parse::<u8>().ok())
        .filter(|code| !told.contains(&format!("| {code} |")))
        .map(|code| code.to_string())
        .collect();
    none("every exit code is told", missing);
}

#[test]
fn the_two_commands_are_told() {
    let readme = read("README.md");
    for command in ["cargo run", "cargo test --workspace"] {
        assert!(
            readme.lines().any(|line| line == command),
            "{command} stands on no line of its own"
        );
    }
    assert!(read(".ci/run").contains("cargo test --workspace"));
}

#[test]
fn what_is_needed_is_told() {
    let postgres = format!("PostgreSQL {} or newer", octroi::cluster::MINIMUM_MAJOR);
    let manifest = read("Cargo.toml");
    let (_, rust) = manifest.split_once("rust-version = \"").unwrap();
    let rust = format!("Rust {} or newer", rust.split('"').next().unwrap());
    let readme = read("README.md");
    assert!(readme.contains(&rust), "the README does not ask for {rust}");
    for document in [readme, read("deploy/README.md")] {
        assert!(document.contains(&postgres), "{postgres} is not asked for");
    }
}
