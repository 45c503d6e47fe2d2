//! The shell of a service: opens the database and the ports, runs background work, serves the methods until shutdown,
//! and drains.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use octroi_api::event::v1::event_intake_service_server::EventIntakeServiceServer;
use octroi_api::event::v1::event_service_server::EventServiceServer;
use octroi_api::testing::v1::clock_service_server::ClockServiceServer;
use octroi_api::{EVENT_TYPES, METHODS};
use octroi_platform::Horizon;
use octroi_platform::clock::Clock;
use octroi_platform::db::Db;
use octroi_platform::error::Error;
use octroi_platform::event_service::EventsApi;
use octroi_platform::intake::{Intake, IntakeApi};
use octroi_platform::migrate::{self, SchemaError};
use octroi_platform::peer::{Peer, peer};
use octroi_platform::relay::{Relay, RelayHandle};
use octroi_platform::seal::SealingKeys;
use octroi_platform::share::{Share, Turn, Whose};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::Layer as _;
use tracing::{Instrument as _, Span};

use crate::admin::Admin;
use crate::backlog;
use crate::connection::{self, LIMITS};
use crate::gate::{Gate, GateLayer};
use crate::keys::Keys;
use crate::metrics::Reading;
use crate::reflection::add_reflection;
use crate::settings::Settings;
use crate::test_clock::{ClockApi, Follower, read_offset};
use crate::work::BackgroundWork;

/// How long a draining service waits for calls under way.
const DRAIN: Duration = Duration::from_secs(20);
/// How often expired request ids are deleted.
const FORGETTING: Duration = Duration::from_secs(3600);

/// The constants of a service.
#[derive(Debug)]
pub struct Service {
    /// Its name, which is also its schema's: "licensing".
    pub name: &'static str,
    /// The port that it listens on by default.
    pub port: u16,
    /// The port of its metrics and health by default.
    pub admin_port: u16,
    /// Its migrations: file name and text, oldest first. Its schema must have these and no others.
    pub migrations: &'static [(&'static str, &'static str)],
    /// Why it needs the keys that seal passwords; none when it never sees one.
    pub seals: Option<&'static str>,
}

/// Why a service did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Bad settings, each named.
    #[error("bad settings:\n  {}", .0.join("\n  "))]
    Settings(Vec<String>),
    /// The address is taken or not ours.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// The schema is an earlier or a later release's.
    #[error(transparent)]
    Schema(SchemaError),
    /// The database cannot be reached or refuses us.
    #[error("the database: {0}")]
    Database(#[source] Error),
    /// Anything else.
    #[error("cannot start: {0}")]
    Internal(#[source] Error),
}

impl StartError {
    /// The exit code (sysexits.h): 64 bad settings, 69 an address or the database is unavailable, 78 another release's
    /// schema, 70 anything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Settings(_) => 64,
            Self::Listen(..) | Self::Database(_) => 69,
            Self::Internal(_) => 70,
            Self::Schema(_) => 78,
        }
    }
}

impl From<SchemaError> for StartError {
    fn from(error: SchemaError) -> Self {
        match error {
            SchemaError::Version { .. } => Self::Schema(error),
            SchemaError::Database(error) => Self::Database(error),
        }
    }
}

/// What a service's parts share.
#[derive(Clone)]
pub struct Shell {
    pub db: Db,
    /// Business time.
    pub clock: Clock,
    pub keys: Arc<Keys>,
    /// Cancelled when the service is to stop.
    pub shutdown: CancellationToken,
    /// Background tasks and commands under way, awaited when draining.
    pub tracker: TaskTracker,
    admin: Arc<Admin>,
    admin_task: Arc<AbortOnDropHandle<()>>,
    service: &'static Service,
    /// Without a listener.
    settings: Arc<Settings>,
    /// Nobody else has it, so that it closes when it is dropped.
    listener: Option<Arc<std::net::TcpListener>>,
    works: BackgroundWork,
}

/// A service that is serving.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Running {
    /// Waits until the service has stopped and drained.
    ///
    /// # Errors
    /// When it panicked.
    pub async fn stopped(self) -> Result<(), Error> {
        self.task
            .await
            .map_err(|error| Error::Internal(error.into()))
    }
}

impl Shell {
    /// Reads the keys, opens the database, and checks the schema and the clock. Takes the result of parsing a service's
    /// `own` settings, so that all bad settings are reported together, and returns it.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn open<T>(
        service: &'static Service,
        settings: &Settings,
        own: Result<T, Vec<String>>,
        shutdown: CancellationToken,
    ) -> Result<(Self, T), StartError> {
        let (own, keys) = match (own, Keys::read(settings, service.name, service.seals)) {
            (Ok(own), Ok(keys)) => (own, keys),
            (own, keys) => {
                let wrong = own.err().into_iter().chain(keys.err());
                return Err(StartError::Settings(wrong.flatten().collect()));
            }
        };
        let admin = Arc::new(Admin::new(service.name));
        let admin_task = serve_admin(&admin, service.admin_port, settings)?;
        let config = &settings.database_url.0;
        migrate::check(config, service.name, service.migrations.len()).await?;
        let offset = read_offset(config, service.name)
            .await
            .map_err(StartError::Database)?;
        let clock = match (offset, settings.test_clock) {
            (Some(offset), true) => Clock::test(offset),
            (None, false) => Clock::system(),
            (Some(_), false) => {
                let wrong = "--test-clock is missing: this database was born with a test clock";
                return Err(StartError::Settings(vec![wrong.to_owned()]));
            }
            (None, true) => {
                let wrong = "--test-clock: this database was born without a test clock";
                return Err(StartError::Settings(vec![wrong.to_owned()]));
            }
        };
        let db = Db::new(config, service.name, settings.pool_size, clock.clone())
            .map_err(StartError::Internal)?;
        admin.metrics.watch_pool(&db);
        let (span, tracker) = (span_of(service.name), TaskTracker::new());
        let shell = Self {
            works: BackgroundWork::new(span, clock.clone(), shutdown.clone(), tracker.clone()),
            db,
            clock,
            keys: Arc::new(keys),
            shutdown,
            tracker,
            admin,
            admin_task: Arc::new(admin_task),
            service,
            settings: Arc::new(Settings {
                listener: None,
                ..settings.clone()
            }),
            listener: settings.listener.clone(),
        };
        Ok((shell, own))
    }

    /// The keys that seal passwords, of a service that [`Service::seals`].
    ///
    /// # Errors
    /// [`StartError::Internal`] for any other.
    pub fn sealing(&self) -> Result<Arc<SealingKeys>, StartError> {
        let none = || anyhow::anyhow!("{} seals nothing", self.service.name);
        self.keys.sealing.clone().ok_or_else(|| internal(none()))
    }

    /// A client channel to another service, by its name.
    ///
    /// # Errors
    /// [`StartError::Settings`] when its URL is malformed.
    pub fn peer(&self, name: &str) -> Result<Peer, StartError> {
        let url = self.settings.url(name).unwrap_or_default();
        peer(url, Arc::clone(&self.keys.token))
            .map_err(|error| StartError::Settings(vec![format!("--{name}-url {url}: {error}")]))
    }

    /// Registers gauges, by name and description, that `read` reads at every scrape: one series for each value of
    /// `label`, of which there must be few.
    pub fn gauges(
        &self,
        label: &'static str,
        gauges: &[(&str, &str)],
        read: impl Fn() -> Reading + Send + Sync + 'static,
    ) {
        self.admin.metrics.at_scrape(label, gauges, read);
    }

    /// Runs `work` with business time: now, at every interval, after each [`Notify`] and at each step of a test clock,
    /// and again at once while it returns more than 0. Errors are logged and retried.
    pub fn spawn_work<F, Fut>(&self, name: &'static str, every: Duration, work: F) -> Arc<Notify>
    where
        F: Fn(jiff::Timestamp) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = anyhow::Result<u64>> + Send + 'static,
    {
        self.works.spawn(name, every, work)
    }

    /// Serves until shutdown: the service's routes, its events and their intake, the test clock where there is one,
    /// reflection and health.
    ///
    /// # Errors
    /// [`StartError::Listen`].
    pub async fn serve<I: Intake>(
        mut self,
        routes: Routes,
        intake: I,
        horizon: Option<Horizon>,
    ) -> Result<Running, StartError> {
        let listener = self.listen()?;
        let address = listener.local_addr().map_err(internal)?;
        let relays = self.spawn_relays(horizon)?;
        let (db, shutdown) = (self.db.clone(), self.shutdown.clone());
        self.spawn_work("request ids", FORGETTING, move |_| {
            let (db, shutdown) = (db.clone(), shutdown.clone());
            async move { Ok(db.forget(&shutdown).await?) }
        });

        let mut routes = routes
            .add_service(EventIntakeServiceServer::new(IntakeApi {
                db: self.db.clone(),
                intake: Arc::new(intake),
            }))
            .add_service(EventServiceServer::new(EventsApi {
                service: self.service.name,
                db: self.db.clone(),
            }));
        if self.clock.is_test() {
            routes = routes.add_service(ClockServiceServer::new(ClockApi {
                db: self.db.clone(),
                clock: self.clock.clone(),
            }));
            let follower = Follower {
                service: self.service.name,
                db: self.db.clone(),
                clock: self.clock.clone(),
                works: self.works.clone(),
                relays,
            };
            let following = follower.run(self.shutdown.clone());
            self.tracker
                .spawn(following.instrument(span_of(self.service.name)));
        }
        let names = self.service_names();
        let (reporter, health) = tonic_health::server::health_reporter();
        set_health(&reporter, &names, ServingStatus::Serving).await;
        let shown = [&names[..], &["grpc.health.v1.Health"]].concat();
        let routes = add_reflection(routes.add_service(health), &shown).map_err(internal)?;

        let gate = Gate::new(
            self.service.name,
            self.db.clone(),
            self.clock.clone(),
            Arc::clone(&self.keys.verifier),
            Arc::clone(&self.keys.fingerprint),
            self.tracker.clone(),
            Arc::clone(&self.admin),
        );
        let shutdown = self.shutdown.clone();
        let admin = Arc::clone(&self.admin);
        let draining = async move {
            shutdown.cancelled().await;
            admin.ready.store(false, Ordering::Relaxed);
            set_health(&reporter, &names, ServingStatus::NotServing).await;
        };
        self.admin.ready.store(true, Ordering::Relaxed);
        let gated = GateLayer(gate).layer(routes.prepare());
        let serving = connection::serve(listener, gated, LIMITS, draining);
        let task = tokio::spawn(self.run(serving));
        Ok(Running { address, task })
    }

    async fn run(self, serving: impl Future<Output = ()> + Send) {
        let drained = async {
            self.shutdown.cancelled().await;
            sleep(DRAIN).await;
        };
        tokio::select! {
            () = serving => {}
            () = drained => {}
        }
        self.tracker.close();
        let _ = tokio::time::timeout(DRAIN, self.tracker.wait()).await;
        self.admin_task.abort();
    }

    fn listen(&mut self) -> Result<tokio::net::TcpListener, StartError> {
        let default = SocketAddr::from(([0, 0, 0, 0], self.service.port));
        let address = self.settings.listen.unwrap_or(default);
        listen(address, self.listener.take().as_deref())
    }

    fn spawn_relays(&self, horizon: Option<Horizon>) -> Result<Vec<RelayHandle>, StartError> {
        let of_ours = EVENT_TYPES
            .iter()
            .filter(|it| it.source == self.service.name);
        let subscribers: BTreeSet<&'static str> =
            of_ours.flat_map(|it| it.subscribers).copied().collect();
        let subscribers: Vec<&'static str> = subscribers.into_iter().collect();
        let mut handles = Vec::new();
        let (db, to) = (self.db.clone(), subscribers.clone());
        self.gauges("subscriber", &backlog::GAUGES, move || {
            let (db, to) = (db.clone(), to.clone());
            Box::pin(async move { backlog::read(&db, &to).await })
        });
        for subscriber in subscribers {
            let (db, peer) = (self.db.clone(), self.peer(subscriber)?);
            let way = (self.service.name, subscriber);
            let (relay, handle) = Relay::new(db, way, peer, horizon.clone());
            let turn = Turn::new(Share::Background, Whose::Work(subscriber));
            let relaying = turn.scope(relay.run(self.shutdown.clone()));
            self.tracker
                .spawn(relaying.instrument(span_of(self.service.name)));
            handles.push(handle);
        }
        Ok(handles)
    }

    /// Full names of the gRPC services that this process serves, health and reflection aside.
    fn service_names(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = METHODS
            .iter()
            .filter(|method| match method.area() {
                "event" | "auth" => true,
                "testing" => self.clock.is_test(),
                area => area == self.service.name,
            })
            .filter_map(|method| method.path.get(1..)?.split('/').next())
            .collect();
        names.dedup();
        names
    }
}

/// The span of what a service logs: several may share a process.
fn span_of(service: &'static str) -> Span {
    tracing::info_span!("service", service)
}

/// Serves metrics and health, if a port is set, until the task is dropped.
fn serve_admin(
    admin: &Arc<Admin>,
    port: u16,
    settings: &Settings,
) -> Result<AbortOnDropHandle<()>, StartError> {
    let port = settings.admin_port.unwrap_or(port);
    let listener = settings.admin_listener.as_deref();
    let task = if port > 0 || listener.is_some() {
        let listener = listen(SocketAddr::new(settings.admin_host, port), listener)?;
        let serving = Arc::clone(admin).serve(listener);
        tokio::spawn(serving.instrument(span_of(admin.service)))
    } else {
        tokio::spawn(async {})
    };
    Ok(AbortOnDropHandle::new(task))
}

/// Binds an address, unless there is a listener already.
fn listen(
    address: SocketAddr,
    bound: Option<&std::net::TcpListener>,
) -> Result<tokio::net::TcpListener, StartError> {
    bound
        .map_or_else(
            || std::net::TcpListener::bind(address),
            std::net::TcpListener::try_clone,
        )
        .and_then(|listener| {
            listener.set_nonblocking(true)?;
            tokio::net::TcpListener::from_std(listener)
        })
        .map_err(|error| StartError::Listen(address, error))
}

fn internal(error: impl Into<anyhow::Error>) -> StartError {
    StartError::Internal(Error::Internal(error.into()))
}

/// Sets the health of the process and of each gRPC service.
async fn set_health(reporter: &HealthReporter, names: &[&str], status: ServingStatus) {
    for name in names.iter().chain(&[""]) {
        reporter.set_service_status(*name, status).await;
    }
}
