//! A directory of `.eml` files, for an installation that sends nothing out. It holds passwords, so only its owner may
//! read it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::domain::email::Outcome;

/// A private directory that messages are written to.
#[derive(Clone)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Opens the directory and makes it when it is not there (mode 0700).
    ///
    /// # Errors
    /// It cannot be made, is no directory, or can be read by others.
    pub fn open(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let metadata = path.metadata()?;
        if metadata.mode() & 0o077 != 0 {
            return Err(io::Error::other(
                "it holds passwords and must be its owner's alone: chmod 700 it",
            ));
        }
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// Writes a message as `<id>.eml` (mode 0600): whole or not at all. The same e-mail again replaces its file.
    pub(super) async fn write(&self, id: Uuid, message: Vec<u8>) -> Outcome {
        let directory = self.path.clone();
        let written =
            tokio::task::spawn_blocking(move || write_file(&directory, id, &message)).await;
        match written {
            Ok(Ok(())) => Outcome::Delivered,
            Ok(Err(error)) => Outcome::Later(format!("the file could not be written: {error}")),
            Err(error) => Outcome::Later(format!("the file was not written: {error}")),
        }
    }
}

fn write_file(directory: &Path, id: Uuid, message: &[u8]) -> io::Result<()> {
    // A name of its own for each attempt: a worker that outlived its lease may be writing the same e-mail.
    let temporary = directory.join(format!(".{id}.{}.tmp", Uuid::now_v7()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(message)?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&temporary, directory.join(format!("{id}.eml"))))
        .and_then(|()| File::open(directory)?.sync_all());
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}
