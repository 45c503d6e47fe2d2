//! Stopping a server that an earlier process left running when it was killed.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process, test_kill_process},
};

use super::{ClusterError, error::io_at};

/// The signals to try in turn, and how long to wait after each.
const PATIENCE: [(Signal, Duration); 3] = [
    (Signal::INT, Duration::from_secs(20)),
    (Signal::QUIT, Duration::from_secs(10)),
    (Signal::KILL, Duration::from_secs(5)),
];
const POLL: Duration = Duration::from_millis(10);

/// Stops the server of the cluster at `data` if one runs, and removes a pid
/// file that would keep a new one from starting. The caller holds the data
/// directory's lock, so no living Octroi owns that server.
pub(super) fn stop_orphan(data: &Path) -> Result<(), ClusterError> {
    let file = data.join("postmaster.pid");
    let content = match fs::read_to_string(&file) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_at("read", &file)(error)),
    };
    let Some(pid) = owner(&content) else {
        // A power cut can leave the file empty, which PostgreSQL refuses.
        tracing::warn!(file = %file.display(), "removing an unreadable pid file");
        return fs::remove_file(&file).map_err(io_at("remove", &file));
    };
    if !is_alive(pid) {
        // PostgreSQL replaces the file itself, after checking the dead server's
        // shared memory for backends that still run.
        return Ok(());
    }
    if !serves(pid, data) {
        // The id belongs to another process by now, which PostgreSQL would take for a running server.
        tracing::info!(
            pid = pid.as_raw_pid(),
            "removing the pid file of a dead server"
        );
        return fs::remove_file(&file).map_err(io_at("remove", &file));
    }
    tracing::warn!(
        pid = pid.as_raw_pid(),
        "stopping the PostgreSQL that an earlier process left running"
    );
    shut_down(pid, data)
}

fn shut_down(pid: Pid, data: &Path) -> Result<(), ClusterError> {
    for (signal, patience) in PATIENCE {
        match kill_process(pid, signal) {
            Ok(()) => {}
            Err(Errno::SRCH) => return Ok(()),
            Err(error) => {
                return Err(ClusterError::Io {
                    what: format!("cannot stop the PostgreSQL left running (pid {pid})"),
                    source: error.into(),
                });
            }
        }
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if !is_alive(pid) || !serves(pid, data) {
                return Ok(());
            }
            thread::sleep(POLL);
        }
    }
    Err(ClusterError::Orphan {
        pid: pid.as_raw_pid().unsigned_abs(),
    })
}

/// The process that a pid file names; a single-user server's is negative.
fn owner(content: &str) -> Option<Pid> {
    let pid: i32 = content.lines().next()?.trim().parse().ok()?;
    Pid::from_raw(pid.checked_abs()?)
}

fn is_alive(pid: Pid) -> bool {
    // Another user's process is alive too, though we may not signal it.
    !matches!(test_kill_process(pid), Err(Errno::SRCH))
}

/// Whether the process is a PostgreSQL server that works in `data`.
fn serves(pid: Pid, data: &Path) -> bool {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    if proc.is_dir() {
        // A server changes into its data directory; a zombie has none.
        return fs::read_link(proc.join("cwd")).is_ok_and(|cwd| cwd == data)
            && fs::read(proc.join("cmdline"))
                .is_ok_and(|line| is_server(&String::from_utf8_lossy(&line).replace('\0', " ")));
    }
    let listed = Command::new("ps")
        .args(["-ww", "-o", "command=", "-p", &pid.to_string()])
        .output();
    listed.is_ok_and(|listed| {
        let line = String::from_utf8_lossy(&listed.stdout).into_owned();
        is_server(&line) && line.contains(&*data.to_string_lossy())
    })
}

fn is_server(command: &str) -> bool {
    command.contains("postgres") || command.contains("postmaster")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_file_names_its_server() {
        assert_eq!(owner("4711\n/srv/a b/postgres\n17\n"), Pid::from_raw(4711));
        assert_eq!(owner("-4711\n"), Pid::from_raw(4711));
        for broken in ["", "\n", "0\n", "-2147483648\n", "postgres\n"] {
            assert_eq!(owner(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn a_pid_file_of_another_process_is_removed() {
        let data = tempfile::tempdir().unwrap();
        let file = data.path().join("postmaster.pid");
        fs::write(&file, format!("{}\n", std::process::id())).unwrap();
        stop_orphan(data.path()).unwrap();
        assert!(!file.exists());
    }
}
