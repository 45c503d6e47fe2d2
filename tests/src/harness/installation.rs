//! One installation of Octroi for one test.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use octroi::bootstrap::Databases;
use octroi::system::{Listeners, Plan, ServiceName, System};
use octroi_api::event::v1::Delivery;
use octroi_api::testing::v1::{GetClockRequest, SetClockRequest};
use octroi_notification::{MailSettings, SmtpTls};
use octroi_platform::auth::Signer;
use octroi_platform::clock::system_seconds;
use octroi_platform::jwk::key_id;
use octroi_platform::time::to_proto;
use octroi_server::Running;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;
use tokio_util::sync::CancellationToken;

use super::caller::{Called, Caller};
use super::citus::Citus;
use super::mail::MailServer;
use super::postgres::{Postgres, connect};
use super::refusal::Answer as _;
use super::time::{at, eventually, instant, within};
use super::{coverage, watched::Watched, wire::Wire};

/// When a test begins by default: a Monday morning in the middle of a quarter.
const START: &str = "2026-02-02T08:00:00Z";
/// The domain that the all-in-one puts activation e-mails under.
const ACTIVATION_DOMAIN: &str = "users.octroi.example";
/// How long a test's tokens are valid.
const TOKEN: i64 = 3600;

pub struct Options {
    /// The clock's time at first.
    pub start: Timestamp,
    /// Size of each service's connection pool.
    pub pool_size: usize,
    /// Whether the services' connections to the database go through a [`Wire`].
    pub tapped: bool,
    /// Whether they serve metrics and health.
    pub watched: bool,
    /// How many e-mails are sent a second.
    pub mail_rate: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            start: at(START),
            pool_size: 8,
            tapped: false,
            watched: false,
            mail_rate: None,
        }
    }
}

impl Options {
    fn starting(start: &str) -> Self {
        Self {
            start: at(start),
            ..Self::default()
        }
    }
}

/// One installation of Octroi: a database of its own, the three services, a mail server, a test clock.
pub struct Installation {
    /// The mail server that receives its e-mails.
    pub mail: MailServer,
    /// The database, as its superuser.
    pub sql: Client,
    wires: [Wire; 3],
    test: String,
    postgres: &'static Postgres,
    databases: Databases,
    system: System,
    seconds: Vec<Second>,
    called: Called,
    /// Where its database is on a cluster.
    citus: Option<Citus>,
}

/// Another instance of licensing.
struct Second {
    running: Running,
    shutdown: CancellationToken,
}

impl Installation {
    /// Starts one with the defaults.
    pub async fn start() -> Self {
        Self::with(Options::default()).await
    }

    /// Starts one whose clock begins at this instant.
    pub async fn start_at(start: &str) -> Self {
        Self::with(Options::starting(start)).await
    }

    /// Starts one with options.
    pub async fn with(options: Options) -> Self {
        let postgres = Postgres::get().await;
        let databases = postgres.database(options.start).await;
        Self::on(None, postgres, databases, &options).await
    }

    /// Starts one on a cluster, distributed while it was empty.
    pub async fn distributed(citus: &Citus, start: &str) -> Self {
        let (postgres, options) = (Postgres::get().await, Options::starting(start));
        let databases = postgres.database_on(citus, options.start).await;
        let mut told = Vec::new();
        for _ in 0..2 {
            let tell = |line| {
                told.push(line);
                Ok(())
            };
            octroi::distribute::run(&databases.admin, octroi::tables::all(), tell)
                .await
                .unwrap();
        }
        // The second time there was nothing to do.
        let done = "everything is spread as this release needs it";
        assert!(told.iter().rev().take(2).all(|it| it == done), "{told:?}");
        Self::on(Some(citus.clone()), postgres, databases, &options).await
    }

    /// Starts one over an existing database, perhaps on a cluster, whose clock goes on.
    pub(crate) async fn on(
        citus: Option<Citus>,
        postgres: &'static Postgres,
        databases: Databases,
        options: &Options,
    ) -> Self {
        let mail = MailServer::start().await;
        let mut plan = postgres.plan(databases.clone(), options.pool_size);
        plan.mail = MailSettings {
            portal_url: Some("https://portal.test".to_owned()),
            mail_from: Some("Octroi <no-reply@octroi.test>".parse().unwrap()),
            smtp_host: Some("127.0.0.1".to_owned()),
            smtp_port: Some(mail.port()),
            smtp_tls: SmtpTls::None,
            mail_rate: options.mail_rate,
            ..MailSettings::default()
        };
        if options.watched {
            plan.admin = [(); 3].map(|()| {
                let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
                Some(Arc::new(listener))
            });
        }
        let wires = <[Wire; 3]>::default();
        if options.tapped {
            let databases = &mut plan.databases;
            let configs = [
                &mut databases.licensing,
                &mut databases.billing,
                &mut databases.notification,
            ];
            for (wire, config) in wires.iter().zip(configs) {
                *config = wire.tap(config, &postgres.scratch());
            }
        }
        let system = System::start(plan, Listeners::free().unwrap())
            .await
            .expect("the services start");
        Self {
            mail,
            wires,
            sql: connect(&databases.admin, &databases.name).await,
            test: test_name(),
            postgres,
            databases,
            system,
            seconds: Vec::new(),
            called: Called::default(),
            citus,
        }
    }

    /// A caller without a token.
    #[must_use]
    pub fn stranger(&self) -> Caller {
        let urls = ServiceName::ALL.map(|service| self.system.plan().url(service));
        Caller::stranger(urls, Arc::clone(&self.called))
    }

    /// A caller with every scope but the services' own.
    #[must_use]
    pub fn operator(&self) -> Caller {
        self.caller("*")
    }

    /// A caller with these scopes.
    #[must_use]
    pub fn caller(&self, scopes: &str) -> Caller {
        self.stranger().with_token(&self.token(scopes))
    }

    /// A token with these scopes.
    #[must_use]
    pub fn token(&self, scopes: &str) -> String {
        token(&self.postgres.operator_key(), "test", scopes, None)
    }

    /// A token with every scope and a valid signature, of another issuer.
    #[must_use]
    pub fn token_of_another_issuer(&self) -> String {
        let pem = std::fs::read(self.postgres.operator_key()).unwrap();
        let signer = Signer::new(&pem, &key_id(&pem).unwrap(), "elsewhere").unwrap();
        signer
            .sign("test", "*", None, system_seconds() + TOKEN)
            .unwrap()
    }

    /// A token with every scope for this subject.
    #[must_use]
    pub fn token_named(&self, subject: &str) -> String {
        token(&self.postgres.operator_key(), subject, "*", None)
    }

    /// A token with every scope that expired a second ago.
    #[must_use]
    pub fn expired_token(&self) -> String {
        let pem = std::fs::read(self.postgres.operator_key()).unwrap();
        let signer = Signer::new(&pem, &key_id(&pem).unwrap(), octroi::keys::ISSUER).unwrap();
        signer
            .sign("test", "*", None, system_seconds() - 1)
            .unwrap()
    }

    /// A caller with every scope, bound to one account.
    #[must_use]
    pub fn bound_to(&self, account: &str) -> Caller {
        self.caller_as("test", "*", Some(account))
    }

    /// A caller of this subject and with these scopes, perhaps bound to one account.
    #[must_use]
    pub fn caller_as(&self, subject: &str, scopes: &str, account: Option<&str>) -> Caller {
        let key = self.postgres.operator_key();
        self.stranger()
            .with_token(&token(&key, subject, scopes, account))
    }

    /// A service as a caller of the others.
    #[must_use]
    pub fn service(&self, service: ServiceName) -> Caller {
        let key = self.postgres.keys().signing(service);
        let subject = format!("service:{service}");
        self.stranger()
            .with_token(&token(&key, &subject, "service", None))
    }

    /// A service's connections to the database, with [`Options::tapped`].
    #[must_use]
    pub fn wire(&self, service: ServiceName) -> &Wire {
        match service {
            ServiceName::Licensing => &self.wires[0],
            ServiceName::Billing => &self.wires[1],
            ServiceName::Notification => &self.wires[2],
        }
    }

    /// A service's metrics and health, with [`Options::watched`].
    #[must_use]
    pub fn watched(&self, service: ServiceName) -> Watched {
        let listener = self.plan().admin[service as usize].as_ref();
        Watched(listener.unwrap().local_addr().unwrap())
    }

    /// The services' common configuration.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        self.system.plan()
    }

    /// Starts another instance of licensing and returns its operator.
    pub async fn second_licensing(&mut self) -> Caller {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let settings = octroi_licensing::Settings {
            platform: self.plan().settings(ServiceName::Licensing, Some(listener)),
            activation_domain: ACTIVATION_DOMAIN.to_owned(),
            download_url: "https://download.octroi.example".to_owned(),
        };
        let running = octroi_licensing::start(settings, shutdown.clone())
            .await
            .expect("a second licensing starts");
        self.seconds.push(Second { running, shutdown });
        let plan = self.system.plan();
        let urls = [
            url,
            plan.url(ServiceName::Billing),
            plan.url(ServiceName::Notification),
        ];
        let key = self.postgres.operator_key();
        Caller::stranger(urls, Arc::clone(&self.called)).with_token(&token(&key, "test", "*", None))
    }

    /// Stops one service.
    pub async fn stop(&mut self, service: ServiceName) {
        self.system.stop_service(service).await;
    }

    /// Starts a stopped service again, at the same address.
    pub async fn restart(&mut self, service: ServiceName) {
        self.system
            .start_service(service)
            .await
            .expect("the service starts again");
    }

    /// Business time.
    pub async fn now(&self) -> Timestamp {
        let clock = self.operator().clock().get_clock(GetClockRequest {}).await;
        instant(clock.got().time)
    }

    /// Moves the clock and runs what becomes due.
    pub async fn advance_to(&self, time: &str) {
        self.advance_to_instant(at(time)).await;
    }

    /// [`Self::advance_to`] for a computed instant.
    pub async fn advance_to_instant(&self, time: Timestamp) {
        let time = Some(to_proto(time));
        let mut clock = self.operator().clock();
        clock.set_clock(SetClockRequest { time }).await.got();
    }

    /// The number of undelivered events.
    pub async fn undelivered(&self) -> i64 {
        let row = self
            .sql
            .query_one(
                "SELECT (SELECT count(*) FROM licensing.delivery) + (SELECT count(*) FROM billing.delivery)
                      + (SELECT count(*) FROM notification.delivery)",
                &[],
            )
            .await
            .unwrap();
        row.get(0)
    }

    /// The events of an account that a service delivers to another one.
    pub async fn facts(
        &self,
        service: ServiceName,
        subscriber: ServiceName,
        account: &str,
    ) -> Vec<Delivery> {
        let kept = format!(
            "SELECT body, sequence, lag(sequence, 1, 0::bigint) OVER (PARTITION BY aggregate ORDER BY sequence)
             FROM {service}.event WHERE account = $1 AND $2 = ANY (subscribers) ORDER BY id"
        );
        let params = [&account as &(dyn ToSql + Sync), &subscriber.as_str()];
        let rows = self.sql.query(&kept, &params).await.unwrap();
        rows.iter()
            .map(|row| Delivery {
                event: row.get(0),
                sequence: row.get(1),
                previous_sequence: Some(row.get(2)),
                sealed_secret: Vec::new(),
            })
            .collect()
    }

    /// Waits until every event has reached its subscribers.
    pub async fn drained(&self) {
        let patience = Duration::from_secs(30);
        within(patience, "the deliveries drain", async || {
            (self.undelivered().await == 0).then_some(())
        })
        .await;
    }

    /// Waits until no e-mail is queued.
    pub async fn mailed(&self) {
        eventually("the e-mails are sent", async || {
            // Deliveries first: one that arrives between the two looks would queue an e-mail unseen.
            if self.undelivered().await > 0 {
                return None;
            }
            let row = self
                .sql
                .query_one(
                    "SELECT count(*) FROM notification.email WHERE state = 'QUEUED'",
                    &[],
                )
                .await
                .unwrap();
            (row.get::<_, i64>(0) == 0).then_some(())
        })
        .await;
    }

    /// The end of every test: waits until the deliveries drain, verifies the stored data, checks the journey's
    /// coverage, and removes everything.
    pub async fn finish(self) {
        self.drained().await;
        self.sound().await;
        self.abandon().await;
    }

    /// The end of a test that wrote rows which no installation would: without the verification.
    pub async fn abandon(self) {
        for second in self.seconds {
            second.shutdown.cancel();
            second.running.stopped().await.unwrap();
        }
        self.system.stop().await;
        drop(self.sql);
        match &self.citus {
            Some(citus) => citus.drop(&self.databases.name).await,
            None => self.postgres.drop_database(&self.databases.name).await,
        }
        coverage::check(&self.test, &self.called.lock().unwrap());
    }

    /// Verifies the stored data.
    ///
    /// # Panics
    /// When a rule is broken, with the report.
    pub async fn sound(&self) {
        let report = octroi::verify::run(&self.databases.admin).await.unwrap();
        assert!(report.is_clean(), "{}\n{report}", self.test);
    }
}

/// The name of the test that runs in this thread.
fn test_name() -> String {
    std::thread::current().name().unwrap_or_default().to_owned()
}

/// Signs a token with this key, for a subject with scopes, perhaps bound to an account.
#[must_use]
pub fn token(key: &std::path::Path, subject: &str, scopes: &str, account: Option<&str>) -> String {
    let pem = std::fs::read(key).unwrap();
    let kid = key_id(&pem).unwrap();
    let signer = Signer::new(&pem, &kid, octroi::keys::ISSUER).unwrap();
    signer
        .sign(subject, scopes, account, system_seconds() + TOKEN)
        .unwrap()
}
