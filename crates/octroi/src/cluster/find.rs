//! Finding PostgreSQL's programs.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{ClusterError, user::User};

/// The oldest major version that Octroi runs on.
pub const MINIMUM_MAJOR: u32 = 14;

/// PostgreSQL's programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    /// The directory that holds `initdb` and `postgres`.
    pub dir: PathBuf,
    /// The major version.
    pub major: u32,
}

impl Binaries {
    /// The path of one program.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// Finds PostgreSQL: in the given directory alone, or else in the first usable one of `PATH` and the places of Debian,
/// Red Hat and Homebrew (highest version first).
///
/// # Errors
///
/// When none is usable; the message says what to do.
pub fn find(explicit: Option<&Path>) -> Result<Binaries, ClusterError> {
    match explicit {
        Some(dir) => named(dir, None),
        None => search(None, None).map_err(|details| ClusterError::BinariesMissing {
            details,
            minimum: MINIMUM_MAJOR,
        }),
    }
}

/// Finds programs that `user` may run; for an existing cluster, of the major version that created it.
pub(super) fn find_for(
    explicit: Option<&Path>,
    user: Option<&User>,
    existing: Option<(&Path, u32)>,
) -> Result<Binaries, ClusterError> {
    if let Some(dir) = explicit {
        let found = named(dir, user)?;
        return match existing {
            Some((data, major)) if major != found.major => Err(ClusterError::MajorMissing {
                data: data.to_owned(),
                major,
                details: format!("{} is version {}", found.dir.display(), found.major),
            }),
            _ => Ok(found),
        };
    }
    search(user, existing.map(|(_, major)| major)).map_err(|details| match existing {
        Some((data, major)) => ClusterError::MajorMissing {
            data: data.to_owned(),
            major,
            details,
        },
        None => ClusterError::BinariesMissing {
            details,
            minimum: MINIMUM_MAJOR,
        },
    })
}

/// The directory that the operator named, or its `bin`.
fn named(dir: &Path, user: Option<&User>) -> Result<Binaries, ClusterError> {
    let refused = |reason| ClusterError::BinariesRefused {
        dir: dir.to_owned(),
        reason,
        minimum: MINIMUM_MAJOR,
    };
    // The programs start from another working directory.
    let dir = fs::canonicalize(dir).map_err(|error| refused(error.to_string()))?;
    let dir = if missing(&dir).is_some() && missing(&dir.join("bin")).is_none() {
        dir.join("bin")
    } else {
        dir
    };
    inspect(&dir, user).map_err(refused)
}

/// The first usable directory, or why each was rejected.
fn search(user: Option<&User>, wanted: Option<u32>) -> Result<Binaries, String> {
    let mut reasons = Vec::new();
    for dir in candidates() {
        if missing(&dir).is_some() {
            continue;
        }
        match inspect(&dir, user) {
            Ok(found) if wanted.is_none_or(|major| major == found.major) => return Ok(found),
            Ok(found) => reasons.push(format!("{} is version {}", dir.display(), found.major)),
            Err(reason) => reasons.push(format!("{}: {reason}", dir.display())),
        }
    }
    if reasons.is_empty() {
        return Err("looked in PATH, /usr/lib/postgresql, /usr/pgsql-* and Homebrew".to_owned());
    }
    Err(reasons.join("; "))
}

/// The directories to search, in order.
fn candidates() -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = env::var_os("PATH")
        .map(|path| env::split_paths(&path).collect())
        .unwrap_or_default();
    dirs.retain(|dir| dir.is_absolute());
    let mut installed = Vec::new();
    for (parent, prefix) in [
        ("/usr/lib/postgresql", ""),
        ("/usr", "pgsql-"),
        ("/opt/homebrew/opt", "postgresql"),
        ("/usr/local/opt", "postgresql"),
    ] {
        installed.extend(numbered(Path::new(parent), prefix));
    }
    dirs.extend(newest_first(installed));
    dirs
}

/// The entries of `parent` named by `prefix` and a version, with their `bin`.
fn numbered(parent: &Path, prefix: &str) -> Vec<(u32, PathBuf)> {
    let Ok(entries) = fs::read_dir(parent) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let version = name.to_str()?.strip_prefix(prefix)?;
            Some((leading_number(version), entry.path().join("bin")))
        })
        .collect()
}

/// Sorts by version, highest first; a name without one (Homebrew's plain
/// `postgresql`) comes last.
fn newest_first(mut found: Vec<(u32, PathBuf)>) -> Vec<PathBuf> {
    found.sort_by(|(a, _), (b, _)| b.cmp(a));
    found.into_iter().map(|(_, dir)| dir).collect()
}

fn leading_number(name: &str) -> u32 {
    let name = name.trim_start_matches('@');
    let end = name
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(name.len());
    name[..end].parse().unwrap_or(0)
}

/// The first program that the directory lacks.
fn missing(dir: &Path) -> Option<&'static str> {
    ["initdb", "postgres"]
        .into_iter()
        .find(|name| !dir.join(name).is_file())
}

/// Whether the directory's programs are there, new enough, and open to `user`.
fn inspect(dir: &Path, user: Option<&User>) -> Result<Binaries, String> {
    if let Some(name) = missing(dir) {
        return Err(format!("there is no {name} in it"));
    }
    if let Some(user) = user {
        let real = fs::canonicalize(dir.join("postgres")).map_err(|error| error.to_string())?;
        if let Some(closed) = user.stopped_at(&real) {
            return Err(format!(
                "the user {} may not enter {}",
                user.name,
                closed.display()
            ));
        }
    }
    let output = Command::new(dir.join("postgres"))
        .arg("--version")
        .output()
        .map_err(|error| format!("postgres does not run: {error}"))?;
    let version = String::from_utf8_lossy(&output.stdout);
    let major = major_of(&version)
        .ok_or_else(|| format!("postgres --version says {:?}", version.trim()))?;
    if major < MINIMUM_MAJOR {
        return Err(format!("it is version {major}, which is too old"));
    }
    Ok(Binaries {
        dir: dir.to_owned(),
        major,
    })
}

/// Reads `postgres (PostgreSQL) 15.18 (Debian …)`.
fn major_of(output: &str) -> Option<u32> {
    let version = output.split_once("(PostgreSQL)")?.1.trim_start();
    match leading_number(version) {
        0 => None,
        major => Some(major),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_comes_first() {
        let dirs = newest_first(
            ["9.6", "17", "@14", "", "18beta1"]
                .map(|name| (leading_number(name), PathBuf::from(name)))
                .to_vec(),
        );
        assert_eq!(dirs, ["18beta1", "17", "@14", "9.6", ""].map(PathBuf::from));
    }

    #[test]
    fn the_major_version_is_read_from_what_postgres_says() {
        for (said, major) in [
            (
                "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n",
                Some(15),
            ),
            ("postgres (PostgreSQL) 18beta1", Some(18)),
            ("postgres (PostgreSQL) 9.6.24", Some(9)),
            ("postgres (EnterpriseDB)", None),
            ("", None),
        ] {
            assert_eq!(major_of(said), major, "{said:?}");
        }
    }

    #[test]
    fn a_named_directory_without_programs_is_refused() {
        let empty = tempfile::tempdir().unwrap();
        let error = find(Some(empty.path())).unwrap_err();
        assert!(matches!(error, ClusterError::BinariesRefused { .. }));
        assert!(error.to_string().contains("no initdb"), "{error}");
    }
}
