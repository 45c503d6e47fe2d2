//! The README's first pages, done as a reader does them: the all-in-one is started, and each of the guide's lines goes
//! through bash and the real grpcurl. What the README says they answer is what they answer, but for times, dates,
//! generated ids and what `…` leaves out.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on stops"
)]

mod compare;
mod process;

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use compare::fits;
use process::AllInOne;

/// How long a read may wait for an event that is on its way.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the all-in-one may hold without its database, in KiB: when nobody calls, and after the guide, in which
/// passwords are hashed in 19 MiB each, which must go back to the system.
const IDLE: u64 = 56 * 1024;
const USED: u64 = 56 * 1024;

/// One line of the guide and what it is said to answer.
struct Step<'a> {
    line: &'a str,
    answer: &'a str,
}

impl Step<'_> {
    /// Whether the line may be repeated until its answer fits.
    fn reads(&self) -> bool {
        let method = self.line.split(' ').nth(1).unwrap_or_default();
        let method = method.rsplit('/').next().unwrap_or_default();
        ["Get", "List", "Query", "Preview"]
            .iter()
            .any(|verb| method.starts_with(verb))
    }
}

fn readme() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    std::fs::read_to_string(path).unwrap()
}

/// The fenced blocks of a section: language and text.
fn blocks<'a>(readme: &'a str, heading: &str) -> Vec<(&'a str, &'a str)> {
    let (_, section) = readme
        .split_once(&format!("\n{heading}\n"))
        .expect("the heading");
    let section = section.split("\n## ").next().unwrap();
    let mut parts = section.split("```");
    parts.next();
    let mut blocks = Vec::new();
    while let Some(block) = parts.next() {
        blocks.push(block.split_once('\n').expect("a block of lines"));
        parts.next();
    }
    blocks
}

/// The shell function and the steps of the guide.
fn guide(readme: &str) -> (&str, Vec<Step<'_>>) {
    let blocks = blocks(readme, "## The guide in ten lines");
    let (function, steps) = blocks.split_first().expect("the shell function");
    assert!(function.0 == "sh" && function.1.starts_with("o() {"));
    let steps: Vec<Step<'_>> = steps
        .chunks(2)
        .map(|pair| match pair {
            [("sh", line), ("text", answer)] => Step { line, answer },
            _ => panic!("a line without its answer: {pair:?}"),
        })
        .collect();
    assert!(steps.len() >= 10);
    (function.1, steps)
}

/// Whether grpcurl is there. Where everything is checked it must be; elsewhere it is said that the test was not run,
/// past the test runner, which hides what passing tests print.
fn grpcurl() -> bool {
    let there = Command::new("grpcurl").arg("--version").output().is_ok();
    if !there {
        assert!(std::env::var_os("CI").is_none(), "grpcurl is missing");
        let words = "\nNOT RUN: the README's lines, since grpcurl is not installed\n";
        std::io::stderr().write_all(words.as_bytes()).unwrap();
    }
    there
}

/// Types a line into a shell; what it prints and what it complains about.
fn types(function: &str, line: &str) -> String {
    let output = Command::new("bash")
        .args(["-c", &format!("{function}\n{line}")])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
}

/// Types a line, again while its answer may still change, and holds the answer to the README's.
fn follows(function: &str, step: &Step<'_>) {
    let begun = Instant::now();
    loop {
        let answer = types(function, step.line);
        let Err(difference) = fits(step.answer, &answer) else {
            return;
        };
        assert!(
            step.reads() && begun.elapsed() < PATIENCE,
            "{}\nanswers otherwise than the README says, from line {difference}:\n{answer}",
            step.line
        );
        sleep(Duration::from_millis(100));
    }
}

/// Holds what the all-in-one has in memory to a bound, where the system tells it.
fn holds_at_most(octroi: &AllInOne, bound: u64) {
    if let Some(resident) = octroi.resident_kib() {
        println!("{resident} KiB");
        assert!(resident < bound, "it holds {resident} KiB, bound {bound}");
    }
}

/// With comments and options, and so each service's reflection is whole, in both versions.
fn shows_its_contracts(octroi: &AllInOne) {
    let describes = |service: &str, symbol: &str, shown: &[&str]| {
        let line = format!(
            "grpcurl -plaintext 127.0.0.1:{} describe {symbol}",
            octroi.port(service)
        );
        let said = types("", &line);
        for each in shown {
            assert!(
                said.contains(each),
                "{line} does not show {each:?}:\n{said}"
            );
        }
    };
    describes(
        "licensing",
        "octroi.licensing.v1.LicenseGroupService.CancelTermination",
        &[
            "// Takes back a termination at period end that has not happened yet.",
            "octroi.auth.v1.scope) = \"licensing.groups.write\"",
            "octroi.auth.v1.reach) = REACH_OWN",
        ],
    );
    describes("billing", "octroi.billing.v1.Invoice", &["// "]);
    describes("notification", "google.rpc.ErrorInfo", &["reason"]);
    for version in ["v1", "v1alpha"] {
        let symbol = format!("grpc.reflection.{version}.ServerReflection");
        describes("billing", &symbol, &["rpc ServerReflectionInfo"]);
        let line = format!(
            "grpcurl -plaintext -d '{{\"list_services\": \"\"}}' 127.0.0.1:{} {symbol}/ServerReflectionInfo",
            octroi.port("licensing"),
        );
        let said = types("", &line);
        assert!(
            said.contains("octroi.licensing.v1.LicenseService"),
            "{said}"
        );
        assert!(!said.contains("octroi.billing."), "{said}");
    }
}

#[test]
fn the_guide_is_answered_as_the_readme_says() {
    if !grpcurl() {
        return;
    }
    let readme = readme();
    let (function, steps) = guide(&readme);
    let octroi = AllInOne::start();
    let function = octroi.translate(function);
    for step in &steps {
        follows(&function, step);
    }
    // A request id makes a line safe to repeat.
    for step in steps.iter().filter(|step| step.line.contains("request_id")) {
        follows(&function, step);
    }
    holds_at_most(&octroi, USED);
    shows_its_contracts(&octroi);
    octroi.verifies();
    octroi.stop();
}

#[test]
fn cargo_run_greets_as_the_readme_says() {
    let readme = readme();
    let octroi = AllInOne::start();
    let greeting = octroi.greeting();
    holds_at_most(&octroi, IDLE);
    octroi.stop();
    let told = blocks(&readme, "## Run it");
    let (_, told) = told
        .iter()
        .find(|(language, _)| *language == "text")
        .expect("the greeting");
    // From root the database lies elsewhere, and here it tells no metrics.
    let elsewhere = |text: &str| -> String {
        let lines = text.lines().map(|line| {
            let elsewhere = ["  database ", "  metrics "];
            let row = elsewhere.iter().find(|row| line.starts_with(**row));
            row.copied().unwrap_or(line)
        });
        lines.map(|line| format!("{line}\n")).collect()
    };
    if let Err(line) = fits(&elsewhere(told), &elsewhere(&greeting)) {
        panic!("cargo run greets otherwise than the README says, from line {line}:\n{greeting}");
    }
}
