//! The directory of the server's socket.

use std::{
    env, fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest;

use super::{
    ClusterError,
    error::io_at,
    files::make_dir,
    home::Home,
    user::{give, owner_id},
};

/// What every system accepts as a socket's path: macOS takes 103 bytes, Linux
/// four more.
const SOCKET_PATH_MAX: usize = 103;
const SOCKET_NAME: &str = "/.s.PGSQL.5432";

/// Creates the socket's directory with mode 0700, and removes sockets that a killed server left in it.
pub(super) fn socket_dir(home: &Home) -> Result<PathBuf, ClusterError> {
    let runtime = match home.user {
        None => env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from),
        Some(_) => None,
    };
    let dir = socket_place(&home.dir, runtime.as_deref());
    make_dir(&dir, 0o700)?;
    let metadata = fs::symlink_metadata(&dir).map_err(io_at("read", &dir))?;
    let owner = owner_id(home.user.as_ref());
    // Root's own is one that was created just now, or just before a crash, and is handed over below.
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

/// In the home if the socket's path fits, or else in the runtime directory or /tmp, under a hash of the home's path.
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
}
