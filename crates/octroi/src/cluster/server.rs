//! The server's process: starting it, waiting for it, stopping it.

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{sync::watch, time::timeout};

use super::{ClusterError, find::Binaries, user};

/// How long a fast shutdown may take, then an immediate one.
const FAST: Duration = Duration::from_secs(30);
const IMMEDIATE: Duration = Duration::from_secs(10);
/// How long dropping a server waits until it has ended.
const DROPPED: Duration = Duration::from_secs(3);
const DROPPED_POLL: Duration = Duration::from_millis(5);
/// util-linux's program that sets a parent-death signal.
const SETPRIV: &str = "/usr/bin/setpriv";

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub(super) struct Server {
    pid: Pid,
    exit: watch::Receiver<Option<ExitStatus>>,
}

pub(super) struct Launch<'a> {
    pub(super) binaries: &'a Binaries,
    pub(super) user: Option<&'a user::User>,
    pub(super) data: &'a Path,
    pub(super) socket_dir: &'a Path,
    pub(super) durable: bool,
    pub(super) log: File,
}

impl Server {
    /// Starts the server; it is not ready yet.
    pub(super) fn spawn(launch: Launch<'_>) -> Result<Self, ClusterError> {
        let program = launch.binaries.program("postgres");
        let mut command = with_parent_death_signal(&program);
        command.arg("-D").arg(launch.data);
        for setting in settings(launch.socket_dir, launch.durable) {
            command.arg("-c").arg(setting);
        }
        let failed = |source| ClusterError::Io {
            what: format!("cannot start {}", program.display()),
            source,
        };
        // A process group of its own keeps the terminal's Ctrl-C from stopping
        // the database while requests drain.
        command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(launch.log.try_clone().map_err(failed)?)
            .stderr(launch.log);
        user::prepare(&mut command, launch.user);
        spawn_on_own_thread(command).map_err(failed)
    }

    /// The process's id.
    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_pid().unsigned_abs()
    }

    /// Waits until the server ends.
    pub(super) async fn ended(&self) -> Option<ExitStatus> {
        let mut exit = self.exit.clone();
        let status = exit.wait_for(Option::is_some).await;
        status.ok().and_then(|status| *status)
    }

    /// Stops the server and waits: fast, then immediately, then by force.
    pub(super) async fn stop(&self) -> Result<(), ClusterError> {
        for (signal, patience) in [(Signal::INT, FAST), (Signal::QUIT, IMMEDIATE)] {
            self.signal(signal);
            if timeout(patience, self.ended()).await.is_ok() {
                return Ok(());
            }
            tracing::warn!(pid = self.pid(), "PostgreSQL is slow to stop");
        }
        self.signal(Signal::KILL);
        Err(ClusterError::Killed { pid: self.pid() })
    }

    fn signal(&self, signal: Signal) {
        if self.exit.borrow().is_none() {
            // It may have ended this moment, which is what was wanted.
            let _ = kill_process(self.pid, signal);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal(Signal::INT);
        let deadline = Instant::now() + DROPPED;
        while self.exit.borrow().is_none() {
            if Instant::now() > deadline {
                self.signal(Signal::QUIT);
                return;
            }
            thread::sleep(DROPPED_POLL);
        }
    }
}

/// Spawns the command from a thread that lives as long as its process: the parent-death signal is sent when the
/// spawning thread ends, not the whole parent.
fn spawn_on_own_thread(mut command: Command) -> io::Result<Server> {
    let (started, starting) = mpsc::channel();
    let (ended, exit) = watch::channel(None);
    thread::Builder::new()
        .name("postgres".to_owned())
        .spawn(move || {
            let child = command.spawn();
            // Our copies of the log's descriptors are not needed any more.
            drop(command);
            let mut child = match child {
                Ok(child) => child,
                Err(error) => {
                    let _ = started.send(Err(error));
                    return;
                }
            };
            let _ = started.send(Ok(child.id()));
            if let Ok(status) = child.wait() {
                ended.send_replace(Some(status));
            }
        })?;
    let id = starting.recv().map_err(io::Error::other)??;
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
    Ok(Server {
        pid: pid.ok_or_else(|| io::Error::other("the system gave no process id"))?,
        exit,
    })
}

/// A command whose process gets SIGINT when ours dies, where setpriv can arrange that; elsewhere the next start stops
/// the orphan.
fn with_parent_death_signal(program: &Path) -> Command {
    const SIGNAL: [&str; 2] = ["--pdeathsig", "INT"];
    // Other programs of that name do not know the option.
    let available = Command::new(SETPRIV)
        .args(SIGNAL)
        .arg("/bin/true")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !available {
        return Command::new(program);
    }
    let mut command = Command::new(SETPRIV);
    command.args(SIGNAL).arg("--").arg(program);
    command
}

/// The settings of a small private server, on top of `initdb`'s own.
fn settings(socket_dir: &Path, durable: bool) -> Vec<OsString> {
    let mut socket = OsString::from("unix_socket_directories=");
    socket.push(quoted_path(socket_dir));
    let mut settings = vec![socket];
    let private = [
        "listen_addresses=",
        "port=5432",
        "unix_socket_permissions=0700",
        "max_connections=200",
        "shared_buffers=64MB",
        "max_wal_size=256MB",
        "min_wal_size=64MB",
        "max_logical_replication_workers=0",
        // Compiling a query costs more than these queries take.
        "jit=off",
        "timezone=UTC",
        "log_timezone=UTC",
        "log_destination=stderr",
        "logging_collector=off",
        "log_checkpoints=off",
        "log_line_prefix=%m [%p] ",
        "cluster_name=octroi",
    ];
    let not_durable = [
        "fsync=off",
        "synchronous_commit=off",
        "full_page_writes=off",
        "wal_level=minimal",
        "max_wal_senders=0",
    ];
    let chosen = if durable { &[][..] } else { &not_durable[..] };
    settings.extend(private.iter().chain(chosen).map(OsString::from));
    settings
}

/// Quotes a path for a setting that takes a list of them.
fn quoted_path(path: &Path) -> String {
    format!("\"{}\"", path.to_string_lossy().replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_directory_is_one_entry_of_the_list() {
        let settings = settings(Path::new("/srv/a, \"b\""), true);
        assert_eq!(settings[0], "unix_socket_directories=\"/srv/a, \"\"b\"\"\"");
        assert!(!settings.contains(&OsString::from("fsync=off")));
    }
}
