//! The user that PostgreSQL runs as, which is never root.

use std::{
    fs::{self, Metadata},
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
};

use super::{ClusterError, error::io_at};

/// An ordinary user that root starts PostgreSQL as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    /// The name, or the number where it has none.
    pub(super) name: String,
    uid: u32,
    gid: u32,
}

impl User {
    /// The user to run PostgreSQL as; `None` for our own. For root it is the owner of an existing cluster, or else
    /// `postgres` or `nobody`.
    pub(super) fn for_cluster(existing: Option<&Path>) -> Result<Option<Self>, ClusterError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        if let Some(data) = existing {
            let metadata = fs::metadata(data).map_err(io_at("read", data))?;
            if metadata.uid() == 0 {
                return Err(ClusterError::Unsafe {
                    path: data.to_owned(),
                    reason: "belongs to root, and PostgreSQL does not run as root: chown it to \
                             postgres"
                        .to_owned(),
                });
            }
            return Ok(Some(Self {
                name: metadata.uid().to_string(),
                uid: metadata.uid(),
                gid: metadata.gid(),
            }));
        }
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| Self::in_passwd(&users, name))
            .map(Some)
            .ok_or(ClusterError::NoUser)
    }

    /// Reads one line of `/etc/passwd`; macOS writes nobody's ids as -2.
    fn in_passwd(users: &str, name: &str) -> Option<Self> {
        let line = users
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        let mut ids = line
            .split(':')
            .skip(2)
            .map(|id| id.parse::<i64>().ok().map(|id| id as u32));
        let (uid, gid) = (ids.next()??, ids.next()??);
        (uid != 0).then(|| Self {
            name: name.to_owned(),
            uid,
            gid,
        })
    }

    /// The first directory above `path` that this user may not enter. `path`
    /// must be absolute; access control lists are not considered.
    pub(super) fn stopped_at(&self, path: &Path) -> Option<PathBuf> {
        path.ancestors()
            .skip(1)
            .filter(|dir| !fs::metadata(dir).is_ok_and(|metadata| self.may_enter(&metadata)))
            .last()
            .map(Path::to_owned)
    }

    fn may_enter(&self, dir: &Metadata) -> bool {
        let class = if dir.uid() == self.uid {
            0o100
        } else if dir.gid() == self.gid {
            0o010
        } else {
            0o001
        };
        dir.mode() & class != 0
    }

    /// The group's id.
    pub(super) fn gid(&self) -> u32 {
        self.gid
    }
}

/// The id of the user that PostgreSQL's files belong to.
pub(super) fn owner_id(user: Option<&User>) -> u32 {
    match user {
        Some(user) => user.uid,
        None => rustix::process::geteuid().as_raw(),
    }
}

/// Makes the user that PostgreSQL runs as the owner of a path.
pub(super) fn give(path: &Path, user: Option<&User>) -> Result<(), ClusterError> {
    match user {
        Some(user) => chown(path, Some(user.uid), Some(user.gid)).map_err(io_at("chown", path)),
        None => Ok(()),
    }
}

/// Prepares a command of PostgreSQL: its user, a neutral directory and locale, and none of our PG* variables.
pub(super) fn prepare(command: &mut Command, user: Option<&User>) {
    command
        .current_dir("/")
        .env("LC_ALL", "C")
        .env_remove("LANGUAGE");
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("PG")) {
            command.env_remove(name);
        }
    }
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn users_are_read_from_passwd() {
        let users = "root:x:0:0::/root:/bin/sh\npostgresql:x:9:9::/:\nnobody:*:-2:-2::/:\n";
        let nobody = User::in_passwd(users, "nobody").unwrap();
        assert_eq!((nobody.uid, nobody.gid), (u32::MAX - 1, u32::MAX - 1));
        assert_eq!(User::in_passwd(users, "postgres"), None);
        assert_eq!(User::in_passwd(users, "root"), None);
    }

    #[test]
    fn a_closed_directory_stops_a_stranger() {
        let top = tempfile::tempdir().unwrap();
        let stranger = User {
            name: "stranger".to_owned(),
            uid: 4_000_000,
            gid: 4_000_000,
        };
        let inside = top.path().join("postgres");
        let open = |mode| {
            fs::set_permissions(top.path(), fs::Permissions::from_mode(mode)).unwrap();
            stranger.stopped_at(&inside)
        };
        assert_eq!(open(0o700), Some(top.path().to_owned()));
        assert_eq!(open(0o711), None);
    }
}
