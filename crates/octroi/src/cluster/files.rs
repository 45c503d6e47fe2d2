//! Files and directories of ours, readable by their owner alone where they hold secrets.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use rustix::fs::OFlags;

use super::{ClusterError, error::io_at};

/// Opens a file that only its owner may read, never through a symbolic link.
pub(super) fn private_file(path: &Path, options: &mut OpenOptions) -> Result<File, ClusterError> {
    options
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(path)
        .map_err(io_at("open", path))
}

/// Syncs a directory, so that new names in it survive a power failure.
pub(super) fn sync_dir(dir: &Path) -> Result<(), ClusterError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(io_at("sync", dir))
}

/// Creates a directory with this mode; one that exists keeps its own.
pub(super) fn make_dir(dir: &Path, mode: u32) -> Result<(), ClusterError> {
    match DirBuilder::new().mode(mode).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(io_at("create", dir)(error))
        }
        _ => Ok(()),
    }
}

/// Removes a file, a link or a directory tree, if it exists.
pub(super) fn remove_all(path: &Path) -> Result<(), ClusterError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_at("remove", path)(error)),
        _ => Ok(()),
    }
}
