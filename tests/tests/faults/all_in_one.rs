//! The all-in-one as a process that can be killed, in a directory of its own and on ports that are free.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};

use octroi_tests::harness::{Caller, Customer};
use tempfile::TempDir;
use tokio_postgres::{Client, Config, NoTls};

use crate::process::{By, Settings, descendants, give, program, runs, signal, wait};

/// An installation on the disk, and the process that serves it while there is one.
pub struct AllInOne {
    directory: TempDir,
    settings: Settings,
    child: Option<Child>,
    greeting: Option<Receiver<String>>,
    urls: [String; 3],
}

impl AllInOne {
    /// A new installation, serving.
    pub fn start() -> Self {
        let mut new = Self::install();
        new.restart();
        new
    }

    /// A place for a new installation, where nothing is yet.
    pub fn install() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("octroi-faults-")
            .tempdir()
            .unwrap();
        let ports = [
            "licensing-port",
            "billing-port",
            "notification-port",
            "admin-port",
        ];
        let new = Self {
            directory,
            settings: ports.map(|port| (port, "0".to_owned())).into(),
            child: None,
            greeting: None,
            urls: Default::default(),
        };
        // From root, PostgreSQL's own user has to pass through both.
        let open = Permissions::from_mode(0o711);
        fs::set_permissions(new.directory.path(), open.clone()).unwrap();
        fs::create_dir(new.data_dir()).unwrap();
        fs::set_permissions(new.data_dir(), open).unwrap();
        new
    }

    /// Another one with the same data, while neither runs.
    pub fn copy(&self) -> Self {
        assert!(self.child.is_none());
        let mut copy = Self::install();
        copy.settings.clone_from(&self.settings);
        let copied = std::process::Command::new("cp")
            .arg("-a")
            .arg(self.data_dir().join("."))
            .arg(copy.data_dir())
            .status();
        assert!(copied.unwrap().success());
        copy
    }

    /// What it is told from the next start on.
    pub fn set(&mut self, flag: &'static str, value: &str) {
        self.settings.insert(flag, value.to_owned());
    }

    /// What it is told no longer.
    pub fn forget(&mut self, flag: &str) {
        assert!(self.settings.remove(flag).is_some());
    }

    /// Starts the process and waits until everything serves.
    pub fn restart(&mut self) {
        self.launch();
        let greeting = self.greeting.take().expect("it was launched").recv();
        let greeting = greeting.expect("the all-in-one ended instead of serving");
        self.urls = ["licensing", "billing", "notification"].map(|service| {
            let mut lines = greeting.lines().map(str::trim_start);
            let address = lines.find_map(|line| line.strip_prefix(service));
            format!("http://{}", address.expect("the service's address").trim())
        });
    }

    /// Starts the process and waits for nothing.
    pub fn launch(&mut self) {
        assert!(self.child.is_none());
        let mut command = program(env!("CARGO_BIN_EXE_all-in-one"));
        command.arg("--data-dir").arg(self.data_dir());
        give(&mut command, &self.settings, By::Flags);
        let child = command
            // The database that goes away in the middle of everything is what every line would be about.
            .env("RUST_LOG", "error")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let child = self.child.insert(child);
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let (greeted, greeting) = channel();
        self.greeting = Some(greeting);
        std::thread::spawn(move || {
            let mut greeting = String::new();
            while !greeting.contains("\nNext,") {
                if output.read_line(&mut greeting).unwrap() == 0 {
                    return;
                }
            }
            // Nobody listens after a launch that is not waited for.
            let _ = greeted.send(greeting);
            // Whatever it prints later is read, so that it never waits.
            output.read_to_end(&mut Vec::new()).unwrap();
        });
    }

    /// Where everything of it lies.
    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Where licensing, billing and notification listen.
    pub fn urls(&self) -> &[String; 3] {
        &self.urls
    }

    /// The operator's token.
    pub fn token(&self) -> String {
        let token = fs::read_to_string(self.data_dir().join("operator.token")).unwrap();
        token.trim_end().to_owned()
    }

    /// Somebody who may do everything, with a connection of their own, while this process runs.
    pub fn operator(&self) -> Caller {
        Caller::elsewhere(self.urls.clone(), &self.token())
    }

    /// A customer of an account that was opened before.
    pub fn customer(&self, id: &str) -> Customer {
        let by = self.operator();
        let id = id.to_owned();
        Customer { id, by }
    }

    /// How the database's superuser connects.
    pub fn admin(&self) -> Config {
        let conninfo = fs::read_to_string(self.data_dir().join("database.conninfo")).unwrap();
        conninfo.trim_end().parse().unwrap()
    }

    /// A connection as the database's superuser.
    pub async fn sql(&self) -> Client {
        let (client, connection) = self.admin().connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Kills the process as a power cut would, and its database with it or not.
    pub fn kill(&mut self, database: bool) {
        let mut child = self.child.take().expect("it runs");
        let mut victims = vec![child.id()];
        victims.extend(database.then(|| self.postmaster().expect("a database runs")));
        signal("-KILL", &victims);
        child.wait().unwrap();
    }

    /// Kills the database alone.
    pub fn kill_database(&self) {
        signal("-KILL", &[self.postmaster().expect("a database runs")]);
    }

    /// How the process ended; none while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let ended = self.child.as_mut()?.try_wait().unwrap();
        if ended.is_some() {
            self.child = None;
        }
        ended
    }

    /// Kills the process in the middle of its start, and whatever it has started by then with it or not. What is spared
    /// goes on until it notices.
    pub fn kill_starting(&mut self, children: bool) {
        let mut child = self.child.take().expect("it was launched");
        let mut victims = vec![child.id()];
        if children {
            victims.extend(descendants(child.id()));
        }
        signal("-KILL", &victims);
        child.wait().unwrap();
    }

    /// The database's process, if there is one.
    pub fn postmaster(&self) -> Option<u32> {
        let file = self.data_dir().join("postgres").join("postmaster.pid");
        let text = fs::read_to_string(file).ok()?;
        text.lines().next()?.trim().parse().ok()
    }

    /// [`Self::rest`] for good.
    pub fn stop(mut self) {
        self.rest();
    }

    /// Presses Ctrl-C and waits for the end, which must be a good one and leave nothing running.
    pub fn rest(&mut self) {
        let database = self.postmaster().expect("a database runs");
        let mut child = self.child.take().expect("it runs");
        assert!(end(&mut child), "the all-in-one did not end well");
        assert_eq!(self.postmaster(), None);
        assert!(!runs(database), "the database outlived the all-in-one");
    }
}

impl Drop for AllInOne {
    /// After a failed test: its database must not outlive it.
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            end(&mut child);
        }
        if let Some(database) = self.postmaster()
            && runs(database)
        {
            signal("-INT", &[database]);
            wait(|| !runs(database));
        }
    }
}

/// Interrupts a process and tells whether it ended well.
fn end(child: &mut Child) -> bool {
    signal("-INT", &[child.id()]);
    wait(|| child.try_wait().is_ok_and(|ended| ended.is_some()));
    child
        .try_wait()
        .is_ok_and(|ended| ended.is_some_and(|status| status.success()))
}
