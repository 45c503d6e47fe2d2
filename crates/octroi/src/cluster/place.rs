//! Where things lie: the data directory and its lock, the cluster's home, the
//! socket's directory.

use std::{
    env,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink},
    },
    path::{Path, PathBuf},
};

use aws_lc_rs::digest;
use rustix::fs::{FlockOperation, OFlags, flock};
use uuid::Uuid;

use super::{
    ClusterError,
    error::io_at,
    user::{User, give, owner_id},
};

/// Where root keeps the clusters whose data directory PostgreSQL's user cannot
/// reach.
const SHARED_HOME: &str = "/var/lib/octroi";
/// What every system accepts as a socket's path: macOS takes 103 bytes, Linux
/// four more.
const SOCKET_PATH_MAX: usize = 103;
const SOCKET_NAME: &str = "/.s.PGSQL.5432";

/// A data directory of our own that no other Octroi uses.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Creates the directory, mode 0700, unless it is there, and locks it until
    /// this value goes or the process ends, however it ends.
    ///
    /// # Errors
    ///
    /// [`ClusterError::InUse`] when another process holds it; others when it
    /// cannot be made or is open to everyone.
    pub fn open(path: &Path) -> Result<Self, ClusterError> {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(io_at("create", parent))?;
        }
        make_dir(path, 0o700)?;
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

/// Where one cluster lives, and who runs it.
#[derive(Debug)]
pub(super) struct Home {
    /// The directory that holds the cluster, its log and its password.
    pub(super) dir: PathBuf,
    /// Whom PostgreSQL runs as, from root.
    pub(super) user: Option<User>,
    /// The major version that made the cluster, if there is one already.
    pub(super) major: Option<u32>,
    /// Held when the home lies outside the data directory: a copy of that
    /// directory leads to the same home.
    _lock: Option<File>,
}

impl Home {
    /// Finds the cluster's home, or chooses and makes it.
    pub(super) fn settle(data_dir: &DataDir) -> Result<Self, ClusterError> {
        let entry = data_dir.path().join("postgres");
        let dir = match fs::read_link(&entry) {
            Ok(target) => parent_of(&entry, &target)?,
            Err(_) => data_dir.path().to_owned(),
        };
        let data = dir.join("postgres");
        if let Some(major) = major_of(&data)? {
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
            return Self::locked(data_dir, dir, user, Some(major));
        }
        let metadata = fs::metadata(data_dir.path()).map_err(io_at("read", data_dir.path()))?;
        let owner = (metadata.uid() != 0).then(|| data_dir.path());
        let user = User::for_cluster(owner)?;
        let dir = match &user {
            Some(user) if dir != data_dir.path() => {
                tracing::warn!(home = %dir.display(), "the database is gone; a new one is made");
                make_shared(&dir, data_dir.path(), user)?;
                dir
            }
            Some(user) if user.stopped_at(&entry).is_some() => {
                let dir = shared_home(data_dir.path());
                // The link comes first, so that whatever follows can be found again.
                symlink(dir.join("postgres"), &entry).map_err(io_at("link", &entry))?;
                make_shared(&dir, data_dir.path(), user)?;
                dir
            }
            _ => dir,
        };
        Self::locked(data_dir, dir, user, None)
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

    /// Removes a home of root's making, now that nothing lies in it; another
    /// directory that a link leads to stays.
    pub(super) fn leave(&self) -> Result<(), ClusterError> {
        if self.dir.starts_with(SHARED_HOME) {
            fs::remove_dir_all(&self.dir).map_err(io_at("remove", &self.dir))?;
        }
        Ok(())
    }

    fn locked(
        data_dir: &DataDir,
        dir: PathBuf,
        user: Option<User>,
        major: Option<u32>,
    ) -> Result<Self, ClusterError> {
        let lock = match dir == data_dir.path() {
            true => None,
            false => Some(lock(&dir)?),
        };
        Ok(Self {
            dir,
            user,
            major,
            _lock: lock,
        })
    }
}

/// Makes the directory of the server's socket, which its user alone may enter,
/// and clears what a killed server left in it.
pub(super) fn socket_dir(home: &Home) -> Result<PathBuf, ClusterError> {
    let runtime = match home.user {
        None => env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from),
        Some(_) => None,
    };
    let dir = socket_place(&home.dir, runtime.as_deref());
    make_dir(&dir, 0o700)?;
    let metadata = fs::symlink_metadata(&dir).map_err(io_at("read", &dir))?;
    let owner = owner_id(home.user.as_ref());
    // Root's own directory is one that was made just now, or just before a crash.
    let ours = metadata.uid() == owner || metadata.uid() == rustix::process::geteuid().as_raw();
    if !metadata.is_dir() || !ours || metadata.mode() & 0o077 != 0 {
        return Err(ClusterError::Unsafe {
            path: dir,
            reason: "is not a private directory of the database's user: remove it".to_owned(),
        });
    }
    give(&dir, home.user.as_ref())?;
    for entry in fs::read_dir(&dir).map_err(io_at("read", &dir))?.flatten() {
        if entry.file_name().as_bytes().starts_with(b".s.PGSQL.") {
            fs::remove_file(entry.path()).map_err(io_at("remove", &entry.path()))?;
        }
    }
    Ok(dir)
}

/// Opens a file that only its owner may read, never through a symbolic link.
pub(super) fn private_file(path: &Path, options: &mut OpenOptions) -> Result<File, ClusterError> {
    options
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(path)
        .map_err(io_at("open", path))
}

/// Makes the names in a directory last through a power cut.
pub(super) fn sync_dir(dir: &Path) -> Result<(), ClusterError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(io_at("sync", dir))
}

/// In the home when the path is short and plain, or else under a name that
/// follows from it.
fn socket_place(home: &Path, runtime: Option<&Path>) -> PathBuf {
    let fits = |dir: &Path| {
        dir.as_os_str().len() + SOCKET_NAME.len() <= SOCKET_PATH_MAX && dir.to_str().is_some()
    };
    let inside = home.join("socket");
    if fits(&inside) {
        return inside;
    }
    let name = format!("octroi-{}", short_hash(home));
    runtime
        .filter(|dir| dir.is_absolute() && dir.is_dir())
        .map(|dir| dir.join(&name))
        .filter(|dir| fits(dir))
        .unwrap_or_else(|| Path::new("/tmp").join(&name))
}

fn short_hash(path: &Path) -> String {
    let hash = digest::digest(&digest::SHA256, path.as_os_str().as_bytes());
    hash.as_ref()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A home of root's for this data directory. The random end keeps a data
/// directory that was removed and made anew from finding the old database.
fn shared_home(data_dir: &Path) -> PathBuf {
    let slug: String = data_dir
        .to_string_lossy()
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("-");
    // The end of a path tells more than its beginning.
    let slug = &slug[slug.len().saturating_sub(32)..];
    let random = Uuid::new_v4().simple().to_string();
    let name = format!("{}-{}", slug.trim_start_matches('-'), &random[..8]);
    Path::new(SHARED_HOME).join(name)
}

/// Makes a home under root's place: PostgreSQL's user may pass, nobody else.
fn make_shared(dir: &Path, data_dir: &Path, user: &User) -> Result<(), ClusterError> {
    for (dir, mode, group) in [
        (Path::new(SHARED_HOME), 0o711, 0),
        (dir, 0o710, user.gid()),
    ] {
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

fn make_dir(dir: &Path, mode: u32) -> Result<(), ClusterError> {
    match DirBuilder::new().mode(mode).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(io_at("create", dir)(error))
        }
        _ => Ok(()),
    }
}

/// The directory that a link to a cluster points into.
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

/// The major version that made the cluster, if there is one.
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

/// Takes the directory's lock, which the system frees when we end, and leaves
/// our process id for whoever finds it taken.
fn lock(dir: &Path) -> Result<File, ClusterError> {
    let path = dir.join("octroi.lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = private_file(&path, &mut options)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            // The holder may be about to write it; the refusal stands without.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_lies_in_a_short_home_and_elsewhere_for_a_long_one() {
        let short = Path::new("/home/user one/.octroi");
        assert_eq!(socket_place(short, None), short.join("socket"));
        let long = Path::new("/home").join("x".repeat(90));
        let outside = socket_place(&long, None);
        assert!(outside.starts_with("/tmp"), "{}", outside.display());
        assert_eq!(outside, socket_place(&long, None));
        assert!(socket_place(&long, Some(Path::new("/usr"))).starts_with("/usr"));
        assert!(socket_place(&long, Some(Path::new("/missing"))).starts_with("/tmp"));
    }

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
