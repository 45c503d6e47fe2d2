//! Octroi's programs as processes: started with the settings that a test gives and no others, told, killed, and heard
//! to the end.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use octroi_tests::harness::within;

/// How long a process may take to stop.
const STOP: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(10);

/// Settings by the names of their flags, without dashes in front.
pub type Settings = BTreeMap<&'static str, String>;

/// How settings reach a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Flags,
    Environment,
}

/// A program's command, without a setting of whoever runs the tests.
pub fn program(path: &str) -> Command {
    let mut command = Command::new(path);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("OCTROI_") && name != "OCTROI_PG_BIN" {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// Gives settings to a command.
pub fn give(command: &mut Command, settings: &Settings, by: By) {
    for (flag, value) in settings {
        match by {
            By::Flags => command.arg(format!("--{flag}={value}")),
            By::Environment => {
                let variable = flag.to_uppercase().replace('-', "_");
                command.env(format!("OCTROI_{variable}"), value)
            }
        };
    }
}

/// A process whose standard error is kept. Dropped, it is killed.
pub struct Process {
    child: Child,
    said: Option<JoinHandle<String>>,
}

/// How a process ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// What it said on standard error.
    pub said: String,
}

impl Process {
    pub fn start(mut command: Command) -> Self {
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        let mut error = child.stderr.take().unwrap();
        let said = std::thread::spawn(move || {
            let mut said = Vec::new();
            error.read_to_end(&mut said).unwrap();
            String::from_utf8_lossy(&said).into_owned()
        });
        Self {
            child,
            said: Some(said),
        }
    }

    /// Whether it has not ended by itself.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Tells it to stop, as Kubernetes does.
    pub fn terminate(&self) {
        signal("-TERM", &[self.id()]);
    }

    /// Kills it as a power cut would, and waits until it is gone.
    pub async fn kill(self) -> Ended {
        signal("-KILL", &[self.id()]);
        self.ended().await
    }

    /// Waits for its end.
    pub async fn ended(mut self) -> Ended {
        let status = within(STOP, "the process ends", async || {
            self.child.try_wait().unwrap()
        })
        .await;
        let said = self.said.take().unwrap().join().unwrap();
        Ended {
            code: status.code(),
            said,
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.runs() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Sends a signal to processes; one that is gone already is what was wanted.
pub fn signal(name: &str, processes: &[u32]) {
    let processes = processes.iter().map(u32::to_string);
    let _ = Command::new("kill")
        .arg(name)
        .args(processes)
        .stderr(Stdio::null())
        .status();
}

/// Whether a process is there.
pub fn runs(process: u32) -> bool {
    let found = Command::new("kill")
        .args(["-0", &process.to_string()])
        .stderr(Stdio::null())
        .status();
    found.is_ok_and(|status| status.success())
}

/// The processes that a process has started, and those that they have.
pub fn descendants(process: u32) -> Vec<u32> {
    let listed = Command::new("ps")
        .args(["-A", "-o", "pid=,ppid="])
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let pairs: Vec<(u32, u32)> = listed
        .lines()
        .map(|line| {
            let mut ids = line.split_whitespace().map(|id| id.parse().unwrap());
            (ids.next().unwrap(), ids.next().unwrap())
        })
        .collect();
    let mut found = vec![process];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        let children = pairs.iter().filter(|(_, of)| *of == parent);
        found.extend(children.map(|(child, _)| *child));
        at += 1;
    }
    found.split_off(1)
}

/// Waits, without the runtime, until something is done or has taken too long.
pub fn wait(mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() && begun.elapsed() < STOP {
        sleep(LOOK);
    }
}
