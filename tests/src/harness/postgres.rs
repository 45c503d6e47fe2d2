//! The private PostgreSQL of one test program: not durable, and removed when the process ends.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use octroi::bootstrap::{BootstrapOptions, Databases, bootstrap};
use octroi::cluster::{Cluster, ClusterOptions};
use octroi::keys::Keys;
use octroi::system::Plan;
use octroi_platform::clock::Clock;
use tokio::sync::OnceCell;
use tokio_postgres::{Client, Config, NoTls};

use super::citus::Citus;

/// The migrated database that the tests' databases are cloned from.
const TEMPLATE: &str = "octroi_template";

static POSTGRES: OnceCell<Postgres> = OnceCell::const_new();

/// A private server in a directory of its own.
pub struct Server {
    admin: Config,
    directory: PathBuf,
    // Statics are never dropped: the janitor stops and removes both.
    _cluster: Cluster,
    _janitor: Child,
}

impl Server {
    /// Starts a new, empty one.
    pub async fn start() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("octroi-tests-")
            .tempdir()
            .unwrap()
            .keep();
        // Started by root, PostgreSQL's user has to reach the cluster.
        fs::set_permissions(&directory, Permissions::from_mode(0o711)).unwrap();
        let options = ClusterOptions {
            data_dir: directory.join("data"),
            pg_bin: None,
            durable: false,
        };
        fs::create_dir(&options.data_dir).unwrap();
        fs::set_permissions(&options.data_dir, Permissions::from_mode(0o711)).unwrap();
        let cluster = Cluster::start(options).await.expect("PostgreSQL starts");
        Self {
            admin: cluster.admin(),
            _janitor: janitor(cluster.pid(), &directory),
            directory,
            _cluster: cluster,
        }
    }

    /// The superuser's connection settings for a database.
    #[must_use]
    pub fn admin(&self, database: &str) -> Config {
        let mut config = self.admin.clone();
        config.dbname(database);
        config
    }

    /// Connects the superuser to a database.
    pub async fn connect(&self, database: &str) -> Client {
        connect(&self.admin, database).await
    }

    /// A directory for a test program's files; it is removed when the program ends.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// A cluster with a template database, and the keys of every installation on it.
pub(crate) struct Postgres {
    server: Server,
    keys: Keys,
    made: AtomicU32,
}

impl Postgres {
    /// The process's one, started by the first test that needs it.
    pub(crate) async fn get() -> &'static Self {
        POSTGRES.get_or_init(Self::start).await
    }

    async fn start() -> Self {
        // The services' logs are only wanted for debugging.
        if std::env::var_os("RUST_LOG").is_some() {
            octroi_server::process::log();
        }
        let server = Server::start().await;
        let keys = Keys::open(server.directory()).unwrap();
        // The same in every run, so that a later one can open what a dump has sealed and signed (`earlier.rs`).
        fs::write(keys.fingerprint(), format!("{}\n", fixed_key(1))).unwrap();
        fs::write(keys.sealing(), format!("1:{}\n", fixed_key(2))).unwrap();
        let postgres = Self {
            server,
            keys,
            made: AtomicU32::new(0),
        };
        let databases = postgres.bootstrap(TEMPLATE).await;
        postgres.plan(databases, 1).migrate().await.unwrap();
        postgres
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The operator's private key.
    pub(crate) fn operator_key(&self) -> PathBuf {
        self.server.directory.join("keys").join("operator.pem")
    }

    /// A path for a test's own files; it is removed with everything else.
    pub(crate) fn scratch(&self) -> PathBuf {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let path = self.server.directory.join(format!("s{number}"));
        fs::create_dir(&path).unwrap();
        path
    }

    /// Creates a database for a test, whose clock starts at `start`.
    pub(crate) async fn database(&self, start: Timestamp) -> Databases {
        let name = format!("test_{}", self.made.fetch_add(1, Ordering::Relaxed));
        let admin = self.server.connect("postgres").await;
        let create = format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE}");
        admin.batch_execute(&create).await.unwrap();
        let databases = Databases::named(&self.server.admin, &name, self.keys.passwords());
        set_clock(&databases, start).await;
        databases
    }

    /// Creates a database for a test on a cluster's coordinator, whose clock starts at `start`. It is not distributed.
    pub(crate) async fn database_on(&self, citus: &Citus, start: Timestamp) -> Databases {
        let databases = self.bare_database(Some(citus)).await;
        self.plan(databases.clone(), 1).migrate().await.unwrap();
        set_clock(&databases, start).await;
        databases
    }

    /// Creates a database for a test, without migrations; perhaps on a cluster's coordinator.
    pub(crate) async fn bare_database(&self, citus: Option<&Citus>) -> Databases {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let Some(citus) = citus else {
            return self.bootstrap(&format!("test_{number}")).await;
        };
        let name = format!("octroi_test_{}_{number}", std::process::id());
        citus.create(&name).await;
        let options = self.options(&name);
        bootstrap(citus.coordinator(), &options).await.unwrap()
    }

    async fn bootstrap(&self, name: &str) -> Databases {
        bootstrap(&self.server.admin, &self.options(name))
            .await
            .unwrap()
    }

    fn options(&self, name: &str) -> BootstrapOptions {
        BootstrapOptions {
            database: Some(name.to_owned()),
            passwords: self.keys.passwords().clone(),
            test_clock: true,
        }
    }

    /// A plan for services over a database, without addresses and mail.
    pub(crate) fn plan(&self, databases: Databases, pool_size: usize) -> Plan {
        Plan {
            databases,
            keys: self.keys.clone(),
            addresses: Plan::NOWHERE,
            test_clock: true,
            mail: octroi_notification::MailSettings::default(),
            pool_size,
            admin: [None, None, None],
        }
    }

    /// Drops a test's database and ends its connections.
    pub(crate) async fn drop_database(&self, name: &str) {
        let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
        let admin = self.server.connect("postgres").await;
        admin.batch_execute(&drop).await.unwrap();
    }
}

/// Sets a database's test clock.
async fn set_clock(databases: &Databases, start: Timestamp) {
    let offset = start.as_microsecond() - Clock::system().now().as_microsecond();
    let set = "INSERT INTO testing.clock (offset_micros) VALUES ($1)
               ON CONFLICT (one) DO UPDATE SET offset_micros = $1";
    let client = connect(&databases.admin, &databases.name).await;
    client.execute(set, &[&offset]).await.unwrap();
}

/// A connection as the superuser.
pub(crate) async fn connect(admin: &Config, database: &str) -> Client {
    let mut config = admin.clone();
    config.dbname(database);
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// 32 fixed bytes in base64.
fn fixed_key(byte: u8) -> String {
    STANDARD.encode([byte; 32])
}

/// A process that stops the server and removes its files when ours has ended, however it ends.
fn janitor(server: u32, directory: &Path) -> Child {
    const SCRIPT: &str = "cat >/dev/null; kill -INT $1 2>/dev/null; i=0
        while kill -0 $1 2>/dev/null && [ $i -lt 300 ]; do sleep 0.1; i=$((i+1)); done
        kill -QUIT $1 2>/dev/null; rm -rf \"$2\"";
    Command::new("/bin/sh")
        .args(["-c", SCRIPT, "janitor", &server.to_string()])
        .arg(directory)
        .process_group(0)
        // It waits for the end of this pipe, which closes with our process.
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}
