//! The directory that holds a cluster's files: the data directory or, for root, one that PostgreSQL's user can reach.

use std::{
    fs::{self, File},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt, chown, symlink},
    },
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{
    ClusterError,
    data_dir::{DataDir, lock},
    error::io_at,
    files::{make_dir, remove_all},
    user::User,
};

/// Where root keeps the clusters whose data directory PostgreSQL's user cannot
/// reach.
const SHARED_HOME: &str = "/var/lib/octroi";

/// The directory that holds a cluster's files, and the user that PostgreSQL runs as.
#[derive(Debug)]
pub(super) struct Home {
    /// The directory that holds the cluster, its log and its password.
    pub(super) dir: PathBuf,
    /// The user that root runs PostgreSQL as; none for an ordinary user's own.
    pub(super) user: Option<User>,
    /// The major version that created the cluster, if it exists already.
    pub(super) major: Option<u32>,
    /// The lock of a home outside the data directory: a copy of that directory would link to the same home.
    lock: Option<File>,
}

impl Home {
    /// Finds the cluster's home, or chooses one without creating anything yet.
    pub(super) fn locate(data_dir: &DataDir) -> Result<Self, ClusterError> {
        let entry = data_dir.path().join("postgres");
        let linked = match fs::read_link(&entry) {
            Ok(target) => Some(parent_of(&entry, &target)?),
            Err(_) => None,
        };
        let dir = linked.as_deref().unwrap_or(data_dir.path()).to_owned();
        let data = dir.join("postgres");
        let major = major_of(&data)?;
        if major.is_some() {
            let user = User::for_cluster(Some(&data))?;
            if let Some(closed) = user.as_ref().and_then(|user| user.stopped_at(&data)) {
                return Err(ClusterError::Unsafe {
                    path: closed,
                    reason: format!(
                        "is closed to the user that the database in {} belongs to: open it with \
                         chmod o+x, or choose another directory with --data-dir",
                        data.display()
                    ),
                });
            }
            return Ok(Self::at(dir, user, major));
        }
        let metadata = fs::metadata(data_dir.path()).map_err(io_at("read", data_dir.path()))?;
        let owner = (metadata.uid() != 0).then(|| data_dir.path());
        let user = User::for_cluster(owner)?;
        let closed = user
            .as_ref()
            .is_some_and(|user| user.stopped_at(&entry).is_some());
        let dir = match linked {
            None if closed => shared_home(data_dir.path()),
            None | Some(_) => dir,
        };
        Ok(Self::at(dir, user, None))
    }

    /// Creates the home if it is missing, and locks it.
    pub(super) fn create_and_lock(&mut self, data_dir: &DataDir) -> Result<(), ClusterError> {
        if self.dir == data_dir.path() {
            return Ok(());
        }
        if let (None, Some(user)) = (self.major, &self.user) {
            let entry = data_dir.path().join("postgres");
            // The link first, so that a start that is killed after it finds the home again.
            if fs::read_link(&entry).is_err() {
                symlink(self.data(), &entry).map_err(io_at("link", &entry))?;
            } else if !self.dir.exists() {
                tracing::warn!(home = %self.dir.display(), "the database is gone; making a new one");
            }
            make_shared(&self.dir, data_dir.path(), user)?;
        }
        self.lock = Some(lock(&self.dir)?);
        Ok(())
    }

    /// The cluster itself.
    pub(super) fn data(&self) -> PathBuf {
        self.dir.join("postgres")
    }

    /// The server's log.
    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("postgres.log")
    }

    /// The superuser's password.
    pub(super) fn password(&self) -> PathBuf {
        self.dir.join("postgres.password")
    }

    /// Removes the cluster, and the home if it is under [`SHARED_HOME`]; a directory that an operator linked to stays.
    pub(super) fn remove(self, data_dir: &DataDir) -> Result<(), ClusterError> {
        for path in [self.data(), self.password(), self.log()] {
            remove_all(&path)?;
        }
        if self.dir == data_dir.path() {
            return Ok(());
        }
        remove_all(&data_dir.path().join("postgres"))?;
        if self.dir.starts_with(SHARED_HOME) {
            remove_all(&self.dir)?;
        }
        Ok(())
    }

    fn at(dir: PathBuf, user: Option<User>, major: Option<u32>) -> Self {
        Self {
            dir,
            user,
            major,
            lock: None,
        }
    }
}

/// A new home under [`SHARED_HOME`]. The random suffix keeps a data directory that was deleted and created again from
/// finding the old database.
fn shared_home(data_dir: &Path) -> PathBuf {
    let slug: String = data_dir
        .to_string_lossy()
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("-");
    // The end of a path identifies it better than its beginning.
    let slug = &slug[slug.len().saturating_sub(32)..];
    let random = Uuid::new_v4().simple().to_string();
    let name = format!("{}-{}", slug.trim_start_matches('-'), &random[..8]);
    Path::new(SHARED_HOME).join(name)
}

/// Creates a home under [`SHARED_HOME`] that PostgreSQL's user may traverse, and no other user.
fn make_shared(dir: &Path, data_dir: &Path, user: &User) -> Result<(), ClusterError> {
    for (dir, mode, group) in [(Path::new(SHARED_HOME), 0o711, 0), (dir, 0o710, user.gid())] {
        if let Some(parent) = dir.parent() {
            fs::create_dir_all(parent).map_err(io_at("create", parent))?;
        }
        make_dir(dir, mode)?;
        let metadata = fs::symlink_metadata(dir).map_err(io_at("read", dir))?;
        if !metadata.is_dir() || metadata.uid() != 0 || metadata.mode() & 0o022 != 0 {
            return Err(ClusterError::Unsafe {
                path: dir.to_owned(),
                reason: "is not a directory that root alone can write: remove it".to_owned(),
            });
        }
        chown(dir, Some(0), Some(group)).map_err(io_at("chown", dir))?;
        fs::set_permissions(dir, fs::Permissions::from_mode(mode)).map_err(io_at("chmod", dir))?;
    }
    let origin = dir.join("belongs-to");
    let mut bytes = data_dir.as_os_str().as_bytes().to_vec();
    bytes.push(b'\n');
    fs::write(&origin, bytes).map_err(io_at("write", &origin))
}

/// The directory that contains the target of a link to a cluster.
fn parent_of(entry: &Path, target: &Path) -> Result<PathBuf, ClusterError> {
    match (target.parent(), target.file_name()) {
        (Some(parent), Some(name)) if target.is_absolute() && name == "postgres" => {
            Ok(parent.to_owned())
        }
        _ => Err(ClusterError::Unsafe {
            path: entry.to_owned(),
            reason: "is a link that does not lead to a directory named postgres by its absolute \
                     path: remove it or correct it"
                .to_owned(),
        }),
    }
}

/// The major version that created the cluster, if it exists.
fn major_of(data: &Path) -> Result<Option<u32>, ClusterError> {
    let file = data.join("PG_VERSION");
    match fs::read_to_string(&file) {
        Ok(version) => match version.trim().parse() {
            Ok(major) => Ok(Some(major)),
            Err(_) => Err(ClusterError::Unsafe {
                path: file,
                reason: "does not hold a version: restore the cluster or move it away".to_owned(),
            }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_at("read", &file)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_home_is_named_after_the_data_directory() {
        let name = |path: &str| {
            let home = shared_home(Path::new(path));
            assert_eq!(home.parent(), Some(Path::new(SHARED_HOME)));
            home.file_name().unwrap().to_str().unwrap().to_owned()
        };
        assert!(name("/srv/my shop/.octroi").starts_with("srv-my-shop-octroi-"));
        assert!(name(&format!("/srv/{}/.octroi", "x".repeat(200))).len() <= 41);
        assert_ne!(name("/srv/.octroi"), name("/srv/.octroi"));
    }
}
