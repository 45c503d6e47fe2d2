//! The files of the work tree.

use std::fs;
use std::path::{Path, PathBuf};

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// The text of a file, by its path from the root.
pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Names at the top of the repository, without what git ignores.
pub fn top_level() -> Vec<String> {
    let ignored = read(".gitignore");
    let ignored: Vec<&str> = ignored.lines().map(|line| line.trim_matches('/')).collect();
    let mut names: Vec<String> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != ".git" && !ignored.contains(&name.as_str()))
        .collect();
    names.sort();
    names
}

/// A file with its path from the root.
pub struct Source {
    pub path: String,
    pub text: String,
}

impl Source {
    /// Lines that are neither blank nor comments, each with its number and without a comment at its end. SQL inside
    /// of Rust counts as code.
    pub fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line.split(" // ").next().unwrap_or_default()))
            .filter(|(_, line)| {
                let line = line.trim_start();
                !line.is_empty() && !line.starts_with("//")
            })
    }

    /// The same up to the unit tests at the file's end.
    pub fn code_without_tests(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code()
            .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
    }
}

/// Every file below a directory (or that file itself) whose name ends so.
pub fn sources(below: &str, ending: &str) -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root().join(below), ending, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(path: &Path, ending: &str, found: &mut Vec<Source>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            collect(&entry.unwrap().path(), ending, found);
        }
    } else if path.to_string_lossy().ends_with(ending) {
        let below = path.strip_prefix(root()).unwrap();
        found.push(Source {
            path: below.display().to_string(),
            text: fs::read_to_string(path).unwrap(),
        });
    }
}

/// Stops the test with every breach at once.
#[track_caller]
pub fn none(rule: &str, breaches: Vec<String>) {
    assert!(breaches.is_empty(), "{rule}:\n  {}", breaches.join("\n  "));
}
