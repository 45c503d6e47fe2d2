//! The all-in-one as a process, in a directory of its own and on ports that are free.

use std::fs::Permissions;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long it may take to stop.
const STOP: Duration = Duration::from_secs(60);
/// The ports that it listens on by default, and that the README names.
const PORTS: [(&str, &str); 3] = [
    ("licensing", "50051"),
    ("billing", "50052"),
    ("notification", "50053"),
];
/// Where the README lets it run.
const WRITTEN: &str = "/home/you/octroi/.octroi";

pub struct AllInOne {
    child: Child,
    directory: TempDir,
    greeting: String,
}

impl AllInOne {
    /// Starts it and waits until it has greeted.
    pub fn start() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("octroi-readme-")
            .tempdir()
            .unwrap();
        // From root, PostgreSQL's own user has to pass through, so that everything stays in here and goes with it.
        let data = directory.path().join(".octroi");
        std::fs::create_dir(&data).unwrap();
        for passed in [directory.path(), &data] {
            std::fs::set_permissions(passed, Permissions::from_mode(0o711)).unwrap();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_all-in-one"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("OCTROI_") && name != "OCTROI_PG_BIN" {
                command.env_remove(name);
            }
        }
        let mut child = command
            .current_dir(directory.path())
            .args([
                "--licensing-port",
                "0",
                "--billing-port",
                "0",
                "--notification-port",
                "0",
                "--admin-port",
                "0",
            ])
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut greeting = String::new();
        // Its last line is empty, and follows the last line of the guide.
        while !greeting.ends_with("}}'\n\n") && !greeting.ends_with("}'\n\n") {
            let read = output.read_line(&mut greeting).unwrap();
            assert!(read > 0, "the all-in-one ended: {greeting}");
        }
        // Whatever it prints later is read, so that it never waits.
        std::thread::spawn(move || output.read_to_end(&mut Vec::new()));
        Self {
            child,
            directory,
            greeting,
        }
    }

    /// What it printed, with the README's ports and directory in the place of its own.
    pub fn greeting(&self) -> String {
        let mut greeting = self.greeting.replace(&self.data_dir(), WRITTEN);
        for (service, port) in PORTS {
            greeting = greeting.replace(&self.port(service), port);
        }
        greeting
    }

    /// The README's shell function, for where this one runs.
    pub fn translate(&self, function: &str) -> String {
        let token = format!("'{}/operator.token'", self.data_dir());
        let mut function = function.replace(".octroi/operator.token", &token);
        for (service, port) in PORTS {
            assert!(function.contains(port), "the function names no {port}");
            function = function.replace(port, &self.port(service));
        }
        function
    }

    fn data_dir(&self) -> String {
        let path: PathBuf = self.directory.path().canonicalize().unwrap();
        path.join(".octroi").display().to_string()
    }

    pub fn port(&self, service: &str) -> String {
        let lines = self.greeting.lines();
        let mut lines = lines.filter_map(|line| line.trim_start().strip_prefix(service));
        let address = lines.next().expect("the service's address").trim();
        address.rsplit(':').next().unwrap().to_owned()
    }

    /// How much memory it holds without its database, in KiB; none where the system does not tell.
    pub fn resident_kib(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        resident.trim().strip_suffix(" kB")?.trim().parse().ok()
    }

    /// Checks the stored data while it serves.
    pub fn verifies(&self) {
        let output = Command::new(env!("CARGO_BIN_EXE_all-in-one"))
            .current_dir(self.directory.path())
            .arg("verify")
            .output()
            .unwrap();
        let table = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{table}\n{complaint}");
    }

    /// Presses Ctrl-C and waits for the end, which must be a good one.
    pub fn stop(mut self) {
        self.interrupt();
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < STOP, "the all-in-one does not stop");
            sleep(Duration::from_millis(20));
        };
        assert!(status.success(), "the all-in-one ended with {status}");
    }

    fn interrupt(&self) {
        let process = self.child.id().to_string();
        let told = Command::new("kill")
            .args(["-INT", &process])
            .status()
            .unwrap();
        assert!(told.success());
    }
}

impl Drop for AllInOne {
    /// After a failed test: its database must not outlive it.
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.interrupt();
            let begun = Instant::now();
            while self.child.try_wait().is_ok_and(|ended| ended.is_none()) && begun.elapsed() < STOP
            {
                sleep(Duration::from_millis(20));
            }
        }
    }
}
