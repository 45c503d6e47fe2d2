//! Licensing, billing and notification as three processes over one database, installed as deploy/ says: its script
//! makes roles and schemas, its keys and its seller are theirs, each program migrates its own schema.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use octroi_tests::harness::{
    Caller, Customer, MailServer, Server, ServiceName, deployed, documented_catalogue, eventually,
    openssl_signs, script, token,
};
use tokio::sync::OnceCell;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config};

use crate::process::{By, Ended, Process, Settings, give, program};
use crate::stored::price_activations;

/// The migrated database that the others are cloned from.
const TEMPLATE: &str = "octroi_template";
/// Ports that no system gives to whoever asks for any, so that a service finds its own again.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

static SITE: OnceCell<Site> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(0);
static NEXT_PORT: AtomicU16 = AtomicU16::new(0);

/// What every installation of this test program shares.
struct Site {
    server: Server,
    keys: PathBuf,
    /// The operator's.
    token: String,
}

impl Site {
    async fn get() -> &'static Self {
        SITE.get_or_init(Self::make).await
    }

    async fn make() -> Self {
        let server = Server::start().await;
        let keys = server.directory().join("keys");
        let operator = keys.join("operator.pem");
        let token = if openssl_signs() {
            let _ = script("keys", &[keys.to_str().unwrap()]);
            script(
                "token",
                &[operator.to_str().unwrap(), "operator", "*", "3600"],
            )
        } else {
            octroi::keys::Keys::open(server.directory()).unwrap();
            token(&operator, "operator", "*", None)
        };
        let site = Self {
            server,
            keys,
            token: token.trim_end().to_owned(),
        };
        let sql = site.prepare(TEMPLATE, None).await;
        for service in ServiceName::ALL {
            let word = password(service);
            let set = format!("ALTER ROLE octroi_{service} PASSWORD '{word}'");
            sql.batch_execute(&set).await.unwrap();
        }
        site.migrate(TEMPLATE).await;
        sql.batch_execute(&documented_catalogue()).await.unwrap();
        site
    }

    /// A new database, prepared by the script; the superuser's connection to it.
    async fn prepare(&self, name: &str, template: Option<&str>) -> Client {
        let admin = self.server.connect("postgres").await;
        let template = template.unwrap_or("template1");
        let create = format!("CREATE DATABASE {name} TEMPLATE {template}");
        admin.batch_execute(&create).await.unwrap();
        let sql = self.server.connect(name).await;
        let script = fs::read_to_string(deployed("bootstrap.sql")).unwrap();
        sql.batch_execute(&script).await.unwrap();
        sql
    }

    /// Each service's own program brings its schema up to date, all at the same time.
    async fn migrate(&self, database: &str) {
        let migrations = ServiceName::ALL.map(|service| {
            let mut command = program(executable(service));
            command.arg("migrate");
            let url = self.url(service, database);
            give(
                &mut command,
                &Settings::from([("database-url", url)]),
                By::Environment,
            );
            Process::start(command)
        });
        for migration in migrations {
            let ended = migration.ended().await;
            assert_eq!(ended.code, Some(0), "{}", ended.said);
        }
    }

    /// How a service connects to a database.
    fn url(&self, service: ServiceName, database: &str) -> String {
        let admin = self.server.admin(database);
        let [Host::Unix(directory)] = admin.get_hosts() else {
            panic!("a private server has one socket");
        };
        let host = directory.to_str().unwrap().replace('/', "%2F");
        let word = password(service);
        format!("postgres://octroi_{service}:{word}@{host}:5432/{database}")
    }
}

/// The password of a service's role.
pub fn password(service: ServiceName) -> String {
    format!("Of-{service}-alone-{}", std::process::id())
}

fn executable(service: ServiceName) -> &'static str {
    match service {
        ServiceName::Licensing => env!("CARGO_BIN_EXE_licensing-alone"),
        ServiceName::Billing => env!("CARGO_BIN_EXE_billing-alone"),
        ServiceName::Notification => env!("CARGO_BIN_EXE_notification-alone"),
    }
}

/// A port of this machine that nothing listens on.
fn free_port() -> u16 {
    let width = PORTS.end - PORTS.start;
    // Test programs that run at the same time begin in different places.
    let first = u16::try_from(std::process::id() * 64 % u32::from(width)).unwrap();
    loop {
        let next = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + (first + next % width) % width;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// An installation of three processes, none of which runs at first.
pub struct Services {
    /// Where its mail arrives.
    pub mail: MailServer,
    /// The database, as its superuser.
    pub sql: Client,
    site: &'static Site,
    database: String,
    ports: [u16; 3],
    running: BTreeMap<&'static str, Process>,
}

impl Services {
    /// One that is migrated and can sell.
    pub async fn prepare() -> Self {
        let new = Self::over(Some(TEMPLATE)).await;
        price_activations(&new.sql).await;
        new
    }

    /// One whose database was never migrated.
    pub async fn prepare_unmigrated() -> Self {
        Self::over(None).await
    }

    async fn over(template: Option<&str>) -> Self {
        let site = Site::get().await;
        let number = DATABASES.fetch_add(1, Ordering::Relaxed);
        let database = format!("services_{number}");
        Self {
            mail: MailServer::start().await,
            sql: site.prepare(&database, template).await,
            site,
            database,
            ports: [(); 3].map(|()| free_port()),
            running: BTreeMap::new(),
        }
    }

    /// How the database's superuser connects.
    pub fn admin(&self) -> Config {
        self.site.server.admin(&self.database)
    }

    /// Somebody who may do everything.
    pub fn operator(&self) -> Caller {
        self.operator_at(self.ports)
    }

    fn operator_at(&self, ports: [u16; 3]) -> Caller {
        let urls = ports.map(|port| format!("http://127.0.0.1:{port}"));
        Caller::elsewhere(urls, &self.site.token)
    }

    /// Opens an account whose payments succeed.
    pub async fn customer(&self, id: &str) -> Customer {
        Customer::paying(self.operator(), id).await
    }

    /// A service's settings, as the manifests give them.
    pub fn settings(&self, service: ServiceName) -> Settings {
        self.settings_at(service, self.ports)
    }

    fn settings_at(&self, service: ServiceName, ports: [u16; 3]) -> Settings {
        let file = |path: &Path| path.to_str().unwrap().to_owned();
        let key = |name: &str| file(&self.site.keys.join(name));
        let url = |at: usize| format!("http://127.0.0.1:{}", ports[at]);
        let mut settings = Settings::from([
            ("listen", format!("127.0.0.1:{}", port(service, ports))),
            ("database-url", self.site.url(service, &self.database)),
            ("pool-size", "6".to_owned()),
            ("admin-port", "0".to_owned()),
            ("jwks-file", key("jwks.json")),
            ("signing-key-file", key(&format!("{service}.pem"))),
            ("fingerprint-key-file", key("fingerprint.key")),
            ("licensing-url", url(0)),
            ("billing-url", url(1)),
            ("notification-url", url(2)),
        ]);
        let own = match service {
            ServiceName::Licensing => vec![
                ("sealing-keys-file", key("sealing.keys")),
                ("activation-domain", "users.example.com".to_owned()),
            ],
            ServiceName::Billing => vec![(
                "seller-file",
                file(&deployed("overlays/example/seller.json")),
            )],
            ServiceName::Notification => vec![
                ("sealing-keys-file", key("sealing.keys")),
                ("portal-url", "https://portal.example.com".to_owned()),
                ("mail-from", "Example <no-reply@example.com>".to_owned()),
                ("smtp-host", "127.0.0.1".to_owned()),
                ("smtp-port", self.mail.port().to_string()),
                ("smtp-tls", "none".to_owned()),
            ],
        };
        settings.extend(own);
        settings
    }

    /// Where a service listens.
    pub fn port(&self, service: ServiceName) -> u16 {
        port(service, self.ports)
    }

    /// A process of a service with settings of one's own.
    pub fn spawn(&self, service: ServiceName, settings: &Settings, by: By) -> Process {
        let mut command = program(executable(service));
        command.env("RUST_LOG", "info");
        give(&mut command, settings, by);
        Process::start(command)
    }

    /// Starts another instance of each service, whose peers are each other; their operator.
    pub async fn start_seconds(&self) -> (Vec<Process>, Caller) {
        let ports = [(); 3].map(|()| free_port());
        let operator = self.operator_at(ports);
        let mut seconds = Vec::new();
        for service in ServiceName::ALL {
            let settings = self.settings_at(service, ports);
            seconds.push(self.spawn(service, &settings, By::Environment));
        }
        for (process, service) in seconds.iter_mut().zip(ServiceName::ALL) {
            serving(process, &operator, service).await;
        }
        (seconds, operator)
    }

    /// Starts a service and does not wait for it.
    pub fn launch(&mut self, service: ServiceName) {
        let settings = self.settings(service);
        let process = self.spawn(service, &settings, By::Environment);
        let before = self.running.insert(service.as_str(), process);
        assert!(before.is_none(), "{service} runs already");
    }

    /// Waits until a service that was launched says that it is serving.
    pub async fn ready(&mut self, service: ServiceName) {
        let operator = self.operator();
        let process = self.running.get_mut(service.as_str()).expect("it runs");
        serving(process, &operator, service).await;
    }

    /// Starts a service and waits until it says that it is serving.
    pub async fn starts(&mut self, service: ServiceName) {
        self.launch(service);
        self.ready(service).await;
    }

    /// Starts all three.
    pub async fn start_all(&mut self) {
        for service in ServiceName::ALL {
            self.launch(service);
        }
        for service in ServiceName::ALL {
            self.ready(service).await;
        }
    }

    /// The process of a service, which is no longer looked after.
    pub fn take(&mut self, service: ServiceName) -> Process {
        self.running.remove(service.as_str()).expect("it runs")
    }

    /// The most memory that a service's process has had, in KiB.
    #[cfg(target_os = "linux")]
    pub fn peak_memory(&self, service: ServiceName) -> u64 {
        let process = self.running[service.as_str()].id();
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let mut lines = status.lines();
        let peak = lines.find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.unwrap().trim().trim_end_matches(" kB");
        peak.parse().unwrap()
    }

    /// Kills a service as a power cut would.
    pub async fn kill(&mut self, service: ServiceName) {
        let ended = self.take(service).kill().await;
        assert_eq!(ended.code, None, "{service} ended before: {}", ended.said);
    }

    /// Tells a service to stop, which it must do well.
    pub async fn stop(&mut self, service: ServiceName) -> Ended {
        let process = self.take(service);
        process.terminate();
        let ended = process.ended().await;
        assert_eq!(ended.code, Some(0), "{service}: {}", ended.said);
        ended
    }

    /// Each service brings its schema up to date.
    pub async fn migrate(&self) {
        self.site.migrate(&self.database).await;
    }

    /// Tells a service to migrate a database that cannot be, which it must refuse; what it says.
    pub async fn refuses_to_migrate(&self, service: ServiceName, url: &str) -> String {
        let mut command = program(executable(service));
        command.args(["migrate", "--database-url", url]);
        let ended = Process::start(command).ended().await;
        assert_eq!(ended.code, Some(64), "{}", ended.said);
        ended.said
    }

    /// How many events wait for a subscriber.
    pub async fn undelivered(&self) -> i64 {
        let row = self
            .sql
            .query_one(
                "SELECT (SELECT count(*) FROM licensing.delivery) + (SELECT count(*) FROM billing.delivery)",
                &[],
            )
            .await
            .unwrap();
        row.get(0)
    }
}

fn port(service: ServiceName, ports: [u16; 3]) -> u16 {
    match service {
        ServiceName::Licensing => ports[0],
        ServiceName::Billing => ports[1],
        ServiceName::Notification => ports[2],
    }
}

/// Waits until a process says that it is serving, which it must not do by ending.
async fn serving(process: &mut Process, by: &Caller, service: ServiceName) {
    let check = "/grpc.health.v1.Health/Check";
    eventually(&format!("{service} is serving"), async || {
        assert!(process.runs(), "{service} ended instead of serving");
        let answer = by.call(service, check, Vec::new()).await;
        answer
            .is_ok_and(|answer| answer.into_inner() == [0x08, 0x01])
            .then_some(())
    })
    .await;
}
