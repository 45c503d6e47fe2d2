//! The all-in-one as a process that can be killed, in a directory of its own and on ports that are free.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use octroi_tests::harness::Caller;
use tempfile::TempDir;
use tokio_postgres::{Client, Config, NoTls};

use crate::process::{program, runs, signal, wait};

/// An installation on the disk, and the process that serves it while there is one.
pub struct AllInOne {
    directory: TempDir,
    child: Option<Child>,
    urls: [String; 3],
}

impl AllInOne {
    /// A new installation, serving.
    pub fn start() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("octroi-faults-")
            .tempdir()
            .unwrap();
        let mut new = Self {
            directory,
            child: None,
            urls: Default::default(),
        };
        // From root, PostgreSQL's own user has to pass through both.
        let open = Permissions::from_mode(0o711);
        fs::set_permissions(new.directory.path(), open.clone()).unwrap();
        fs::create_dir(new.data_dir()).unwrap();
        fs::set_permissions(new.data_dir(), open).unwrap();
        new.restart();
        new
    }

    /// Starts the process and waits until everything serves.
    pub fn restart(&mut self) {
        assert!(self.child.is_none());
        let child = program(env!("CARGO_BIN_EXE_all-in-one"))
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(["--licensing-port", "0", "--billing-port", "0"])
            .args(["--notification-port", "0"])
            // The database that goes away in the middle of everything is what every line would be about.
            .env("RUST_LOG", "error")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let child = self.child.insert(child);
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut greeting = String::new();
        while !greeting.contains("\nNext,") {
            let read = output.read_line(&mut greeting).unwrap();
            assert!(read > 0, "the all-in-one ended: {greeting}");
        }
        // Whatever it prints later is read, so that it never waits.
        std::thread::spawn(move || output.read_to_end(&mut Vec::new()));
        self.urls = ["licensing", "billing", "notification"].map(|service| {
            let mut lines = greeting.lines().map(str::trim_start);
            let address = lines.find_map(|line| line.strip_prefix(service));
            format!("http://{}", address.expect("the service's address").trim())
        });
    }

    fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Somebody who may do everything, with a connection of their own, while this process runs.
    pub fn operator(&self) -> Caller {
        let token = fs::read_to_string(self.data_dir().join("operator.token")).unwrap();
        Caller::elsewhere(self.urls.clone(), token.trim_end())
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

    /// The database's process, if there is one.
    pub fn postmaster(&self) -> Option<u32> {
        let file = self.data_dir().join("postgres").join("postmaster.pid");
        let text = fs::read_to_string(file).ok()?;
        text.lines().next()?.trim().parse().ok()
    }

    /// Presses Ctrl-C and waits for the end, which must be a good one and leave nothing running.
    pub fn stop(mut self) {
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
