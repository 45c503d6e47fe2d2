//! The table of a bench, for people and as JSON.

use std::fmt;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::run::Run;

/// What a bench found.
#[derive(Serialize)]
pub struct Report {
    bench: &'static str,
    machine: Machine,
    figures: Vec<Figure>,
}

/// Where it was measured.
#[derive(Serialize)]
struct Machine {
    processor: String,
    cores: usize,
    memory_gib: u64,
    kernel: String,
    postgresql: String,
    build: &'static str,
    size: String,
}

/// A figure and its floor.
#[derive(Serialize)]
pub struct Figure {
    pub what: String,
    pub unit: &'static str,
    pub measured: f64,
    /// What the floor is, and how much.
    pub floor: Option<(String, f64)>,
    /// Measured over floor: at most, or at least, so much is wanted.
    pub bar: Option<Bar>,
}

/// What a ratio is held to.
#[derive(Clone, Copy, Serialize)]
pub enum Bar {
    AtMost(f64),
    AtLeast(f64),
}

impl Report {
    pub fn new(bench: &'static str, run: &Run) -> Self {
        let first = |path: &str, key: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(key));
            let value = line.and_then(|line| line.split_once(':'));
            value.map_or_else(String::new, |(_, value)| value.trim().to_owned())
        };
        let memory = first("/proc/meminfo", "MemTotal");
        let kilobytes: u64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            bench,
            machine: Machine {
                processor: first("/proc/cpuinfo", "model name"),
                cores: std::thread::available_parallelism().map_or(0, usize::from),
                memory_gib: kilobytes >> 20,
                kernel: kernel.trim().to_owned(),
                postgresql: run.postgres_version(),
                build: if cfg!(debug_assertions) {
                    "debug"
                } else {
                    "release"
                },
                size: format!("{:?}", run.size).to_lowercase(),
            },
            figures: Vec::new(),
        }
    }

    /// Adds a figure that has a floor.
    pub fn ratio(
        &mut self,
        what: &str,
        unit: &'static str,
        measured: f64,
        floor: (&str, f64),
        bar: Bar,
    ) {
        self.figures.push(Figure {
            what: what.to_owned(),
            unit,
            measured,
            floor: Some((floor.0.to_owned(), floor.1)),
            bar: Some(bar),
        });
    }

    /// Adds a figure that stands for itself.
    pub fn figure(&mut self, what: &str, unit: &'static str, measured: f64) {
        self.figures.push(Figure {
            what: what.to_owned(),
            unit,
            measured,
            floor: None,
            bar: None,
        });
    }

    /// Writes it as `<bench>.json` into a directory.
    pub fn write(&self, directory: &Path) {
        fs::create_dir_all(directory).unwrap();
        let json = serde_json::to_string_pretty(self).unwrap();
        fs::write(directory.join(format!("{}.json", self.bench)), json).unwrap();
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine {
            processor,
            cores,
            memory_gib,
            kernel,
            postgresql,
            build,
            size,
        } = &self.machine;
        writeln!(
            f,
            "{}: {processor}, {cores} cores, {memory_gib} GiB, Linux {kernel}, PostgreSQL {postgresql}, {build} build, size {size}\n",
            self.bench
        )?;
        writeln!(f, "| what | measured | floor | ratio | wanted |")?;
        writeln!(f, "|---|---:|---:|---:|---:|")?;
        for figure in &self.figures {
            let Figure {
                what,
                unit,
                measured,
                floor,
                bar,
            } = figure;
            write!(f, "| {what} | {} {unit} |", shown(*measured))?;
            match floor {
                Some((name, floor)) => write!(
                    f,
                    " {} {unit} ({name}) | {:.2} |",
                    shown(*floor),
                    measured / floor
                )?,
                None => write!(f, " | |")?,
            }
            match bar {
                Some(Bar::AtMost(ratio)) => writeln!(f, " ≤ {ratio} |")?,
                Some(Bar::AtLeast(ratio)) => writeln!(f, " ≥ {ratio} |")?,
                None => writeln!(f, " |")?,
            }
        }
        Ok(())
    }
}

/// Three digits that count.
fn shown(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
