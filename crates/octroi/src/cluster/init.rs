//! Creating a cluster atomically, and its superuser's password.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    process::Command,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::{
    ClusterError,
    error::io_at,
    files::{private_file, remove_all, sync_dir},
    find::Binaries,
    home::Home,
    user::{give, prepare},
};

/// The cluster's superuser, and the database that `initdb` makes.
pub(super) const SUPERUSER: &str = "postgres";
/// How a cluster's directory is named until initdb has completed.
const UNFINISHED: &str = "postgres.new-";
/// How many lines of a program's output an error shows.
const TAIL_LINES: usize = 20;

/// Generates a password of 256 random bits that needs no quoting anywhere.
///
/// # Errors
///
/// When the system gives no randomness.
pub fn generate_password() -> Result<SecretString, ClusterError> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|error| ClusterError::Io {
        what: "cannot generate a password".to_owned(),
        source: io::Error::other(error),
    })?;
    Ok(URL_SAFE_NO_PAD.encode(bytes).into())
}

/// Reads the superuser's password, or generates it before the cluster exists.
pub(super) fn superuser_password(home: &Home) -> Result<SecretString, ClusterError> {
    let file = home.password();
    match fs::read_to_string(&file) {
        Ok(password) => return Ok(password.trim_end().to_owned().into()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io_at("read", &file)(error));
        }
        Err(_) if home.major.is_some() => {
            return Err(ClusterError::Unsafe {
                path: file,
                reason: "is missing, and without it the database cannot be opened: put it back, \
                         or move the data away to start afresh"
                    .to_owned(),
            });
        }
        Err(_) => {}
    }
    let password = generate_password()?;
    let unfinished = home.dir.join("postgres.password.new");
    remove_all(&unfinished)?;
    let mut out = private_file(&unfinished, OpenOptions::new().write(true).create_new(true))?;
    writeln!(out, "{}", password.expose_secret())
        .and_then(|()| out.sync_all())
        .map_err(io_at("write", &unfinished))?;
    fs::rename(&unfinished, &file).map_err(io_at("rename", &unfinished))?;
    Ok(password)
}

/// Creates the cluster under a temporary name and renames it when it is complete, so that a kill in between leaves
/// nothing that looks like a cluster.
pub(super) fn init(home: &Home, binaries: &Binaries, durable: bool) -> Result<(), ClusterError> {
    let data = home.data();
    let unfinished = home
        .dir
        .join(format!("{UNFINISHED}{}", Uuid::new_v4().simple()));
    DirBuilder::new()
        .mode(0o700)
        .create(&unfinished)
        .map_err(io_at("create", &unfinished))?;
    give(&unfinished, home.user.as_ref())?;
    // initdb reads the password as the user that it runs as.
    give(&home.password(), home.user.as_ref())?;
    let program = binaries.program("initdb");
    let mut command = Command::new(&program);
    command
        .arg("--pgdata")
        .arg(&unfinished)
        .arg("--pwfile")
        .arg(home.password())
        .args(["--username", SUPERUSER])
        .args(["--encoding=UTF8", "--locale=C", "--auth=scram-sha-256"])
        .arg("--no-instructions");
    if !durable {
        command.arg("--no-sync");
    }
    prepare(&mut command, home.user.as_ref());
    let output = command.output().map_err(io_at("run", &program))?;
    if !output.status.success() {
        let mut text = output.stdout;
        text.extend(output.stderr);
        // The next start removes what this leaves.
        let _ = fs::remove_dir_all(&unfinished);
        return Err(ClusterError::Init {
            data,
            output: last_lines(&String::from_utf8_lossy(&text)),
        });
    }
    fs::rename(&unfinished, &data).map_err(io_at("create", &data))?;
    sync_dir(&home.dir)
}

/// The last lines of a program's output, for an error.
pub(super) fn last_lines(output: &str) -> String {
    let lines: Vec<&str> = output.trim_end().lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// Removes what interrupted runs of initdb left.
pub(super) fn remove_unfinished(home: &Home) -> Result<(), ClusterError> {
    let dir = &home.dir;
    for entry in fs::read_dir(dir).map_err(io_at("read", dir))?.flatten() {
        let name = entry.file_name();
        if name
            .to_str()
            .is_some_and(|name| name.starts_with(UNFINISHED))
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            // An initdb that outlived its Octroi may still be writing there.
            tracing::debug!(path = %entry.path().display(), %error, "unfinished cluster left");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_differ_and_need_no_quoting() {
        let (a, b) = (generate_password().unwrap(), generate_password().unwrap());
        assert_ne!(a.expose_secret(), b.expose_secret());
        assert_eq!(a.expose_secret().len(), 43);
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        assert!(a.expose_secret().chars().all(plain));
    }

    #[test]
    fn the_tail_keeps_the_last_lines() {
        let said: String = (0..30).map(|n| format!("{n}\n")).collect();
        let tail = last_lines(&said);
        assert!(tail.starts_with("10\n") && tail.ends_with("\n29"), "{tail}");
        assert_eq!(last_lines(""), "");
    }
}
