//! Errors of the private cluster. Each message says what to do.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Why the private cluster could not be found, made, started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No directory holds the PostgreSQL programs that are needed.
    #[error(
        "no usable PostgreSQL found ({details}). Octroi runs its own database from PostgreSQL \
         {minimum} or newer: install it (Debian and Ubuntu: apt-get install postgresql; macOS: \
         brew install postgresql@17) or name the directory that holds initdb and postgres with \
         --pg-bin"
    )]
    BinariesMissing {
        /// Where it was searched for, and why each place was rejected.
        details: String,
        /// The oldest major version that works.
        minimum: u32,
    },
    /// The directory that the operator named cannot be used.
    #[error(
        "--pg-bin {} cannot be used: {reason}. Name the directory that holds initdb and postgres \
         of PostgreSQL {minimum} or newer",
        dir.display()
    )]
    BinariesRefused {
        /// The directory named.
        dir: PathBuf,
        /// Why it cannot be used.
        reason: String,
        /// The oldest major version that works.
        minimum: u32,
    },
    /// The cluster was created by a major version that is not installed.
    #[error(
        "the database in {} was made by PostgreSQL {major}, which was not found ({details}): \
         install that version, name its directory with --pg-bin, or move the data away to start \
         afresh",
        data.display()
    )]
    MajorMissing {
        /// The cluster's directory.
        data: PathBuf,
        /// The major version it needs.
        major: u32,
        /// Where it was searched for, and why each place was rejected.
        details: String,
    },
    /// Another process uses the data directory.
    #[error(
        "the data directory {} is in use by {}: stop that process, or choose another directory \
         with --data-dir",
        data_dir.display(),
        holder(*.pid)
    )]
    InUse {
        /// The data directory.
        data_dir: PathBuf,
        /// The process that holds it, when it has written its id.
        pid: Option<u32>,
    },
    /// A directory or file is not safe to keep a database in.
    #[error("{} {reason}", path.display())]
    Unsafe {
        /// The path that was refused.
        path: PathBuf,
        /// Why, and what to do; it continues the path in a sentence.
        reason: String,
    },
    /// As root, there is no ordinary user to run PostgreSQL as.
    #[error(
        "PostgreSQL does not run as root, and neither a user postgres nor nobody exists: create \
         one, or start Octroi as an ordinary user"
    )]
    NoUser,
    /// `initdb` failed.
    #[error("initdb could not make the database in {}:\n{output}", data.display())]
    Init {
        /// Where the cluster was to be.
        data: PathBuf,
        /// The end of initdb's output.
        output: String,
    },
    /// The server ended by itself, while starting or later.
    #[error("PostgreSQL ended by itself ({status}); the end of {}:\n{tail}", log.display())]
    Exited {
        /// How it ended.
        status: String,
        /// The server's log.
        log: PathBuf,
        /// The end of the log.
        tail: String,
    },
    /// The server did not accept a connection in time.
    #[error(
        "PostgreSQL did not accept a connection within {seconds} s ({last}); the end of {}:\n{tail}",
        log.display()
    )]
    NotReady {
        /// How long it was waited for.
        seconds: u64,
        /// The last connection error.
        last: String,
        /// The server's log.
        log: PathBuf,
        /// The end of the log.
        tail: String,
    },
    /// The superuser's password file is not this cluster's.
    #[error(
        "the database refuses the superuser's password in {}: put the right file back, or move \
         the data away to start afresh",
        file.display()
    )]
    Password {
        /// The password file.
        file: PathBuf,
    },
    /// A server left behind by an earlier process does not stop.
    #[error("the PostgreSQL left running by an earlier process (pid {pid}) does not stop: end it")]
    Orphan {
        /// The server's process.
        pid: u32,
    },
    /// The server had to be killed.
    #[error(
        "PostgreSQL (pid {pid}) did not stop in time and was killed; it recovers at its next start"
    )]
    Killed {
        /// The server's process.
        pid: u32,
    },
    /// The system refused an operation.
    #[error("{what}")]
    Io {
        /// What was being done.
        what: String,
        /// The operating system's error.
        source: io::Error,
    },
}

impl ClusterError {
    /// The exit code for this error (sysexits.h).
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::BinariesRefused { .. } => 64,
            Self::BinariesMissing { .. } | Self::MajorMissing { .. } | Self::NoUser => 69,
            Self::Init { .. }
            | Self::Exited { .. }
            | Self::NotReady { .. }
            | Self::Killed { .. } => 70,
            Self::Unsafe { .. } | Self::Io { .. } => 73,
            Self::InUse { .. } | Self::Orphan { .. } => 75,
            Self::Password { .. } => 77,
        }
    }
}

/// Adds the operation and its path to an I/O error.
pub(super) fn io_at(what: &str, path: &Path) -> impl FnOnce(io::Error) -> ClusterError {
    let what = format!("cannot {what} {}", path.display());
    move |source| ClusterError::Io { what, source }
}

fn holder(pid: Option<u32>) -> String {
    match pid {
        Some(pid) => format!("another Octroi (pid {pid})"),
        None => "another Octroi".to_owned(),
    }
}
