//! The data directory and its lock.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::{ClusterError, error::io_at, files::private_file};

/// How long a killed process may take to exit.
const EXIT_WAIT: Duration = Duration::from_secs(2);
const EXIT_WAIT_POLL: Duration = Duration::from_millis(10);

/// A data directory, locked for this process.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Creates the directory with mode 0700 if it is missing, and locks it until this value is dropped or the process
    /// ends.
    ///
    /// # Errors
    ///
    /// [`ClusterError::InUse`] when another process holds the lock; others when it cannot be created, or everyone can
    /// write to it.
    pub fn open(path: &Path) -> Result<Self, ClusterError> {
        if let Some(parent) = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            fs::create_dir_all(parent).map_err(cannot_create(path))?;
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(cannot_create(path)(error));
            }
            _ => {}
        }
        let path = fs::canonicalize(path).map_err(io_at("resolve", path))?;
        let metadata = fs::metadata(&path).map_err(io_at("read", &path))?;
        let us = rustix::process::geteuid();
        if !us.is_root() && metadata.uid() != us.as_raw() {
            return Err(ClusterError::Unsafe {
                path,
                reason: format!(
                    "belongs to the user {}: start Octroi as that user, or choose another \
                     directory with --data-dir",
                    metadata.uid()
                ),
            });
        }
        if metadata.mode() & 0o002 != 0 {
            return Err(ClusterError::Unsafe {
                path,
                reason: "can be written by everyone: close it with chmod o-w, or choose another \
                         directory with --data-dir"
                    .to_owned(),
            });
        }
        let lock = lock(&path)?;
        Ok(Self { path, _lock: lock })
    }

    /// The directory, absolute and without symbolic links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn cannot_create(path: &Path) -> impl FnOnce(io::Error) -> ClusterError {
    let path = path.display();
    let what = format!("cannot make the data directory {path}: choose another one with --data-dir");
    move |source| ClusterError::Io { what, source }
}

/// Locks a directory with flock, which the system releases when the process ends, and writes our process id into the
/// lock file, for the error of a second process.
pub(super) fn lock(dir: &Path) -> Result<File, ClusterError> {
    let path = dir.join("octroi.lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = private_file(&path, &mut options)?;
    match flock_soon(&file) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            // The holder may not have written its id yet; the error does without it.
            let _ = file.read_to_string(&mut pid);
            return Err(ClusterError::InUse {
                data_dir: dir.to_owned(),
                pid: pid.trim().parse().ok(),
            });
        }
        Err(error) => return Err(io_at("lock", &path)(error.into())),
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(io_at("write", &path))?;
    Ok(file)
}

/// Retries for a moment: a killed process holds its lock until it has exited.
fn flock_soon(file: &File) -> Result<(), Errno> {
    let deadline = Instant::now() + EXIT_WAIT;
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => thread::sleep(EXIT_WAIT_POLL),
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_data_directory_is_private_and_taken_once() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("a b").join(".octroi");
        let held = DataDir::open(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o700);
        let ClusterError::InUse { pid, .. } = DataDir::open(&path).unwrap_err() else {
            panic!("taken twice");
        };
        assert_eq!(pid, Some(std::process::id()));
        drop(held);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn a_directory_open_to_everyone_is_refused() {
        let top = tempfile::tempdir().unwrap();
        fs::set_permissions(top.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = DataDir::open(top.path()).unwrap_err();
        assert!(matches!(error, ClusterError::Unsafe { .. }), "{error}");
    }
}
