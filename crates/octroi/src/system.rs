//! The three services in this process, each on its own socket, over one database.
//!
//! [`Plan`] is their common configuration; [`System`] starts and stops them, one by one or together.

mod listen;

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use octroi_notification::MailSettings;
use octroi_platform::Error;
use octroi_platform::migrate::{self, SchemaError};
use octroi_server::settings::Database;
use octroi_server::{Running, Service, Settings, StartError};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::bootstrap::Databases;
use crate::keys::{ISSUER, Keys};

use self::listen::bind;
pub use self::listen::{AdminListeners, LAST_ADMIN_PORT, Listeners, ServiceName};

/// Connections to the database that each service holds at most, unless the plan says otherwise.
pub const POOL: usize = 8;
/// Defaults that the all-in-one has no flags for.
const ACTIVATION_DOMAIN: &str = "users.octroi.example";
const DOWNLOAD_URL: &str = "https://downloads.octroi.example";
/// How long a service may take to be SERVING.
const READY: Duration = Duration::from_secs(30);
const READY_POLL: Duration = Duration::from_millis(10);

/// Why the services could not start or run on.
#[derive(Debug, thiserror::Error)]
pub enum SystemError {
    /// An address is taken, or not ours.
    #[error(
        "cannot listen on {address}: {}choose another port with --{service}-port or another address with --listen-host",
        if source.kind() == io::ErrorKind::AddrInUse { "end the program that uses it, or " } else { "" }
    )]
    Listen {
        /// The service that was to listen there.
        service: ServiceName,
        /// The address.
        address: SocketAddr,
        /// The operating system's error.
        source: io::Error,
    },
    /// The address of a service's metrics and health is taken.
    #[error("cannot listen on {0}: choose another port with --admin-port, or 0 for none")]
    Admin(SocketAddr, #[source] io::Error),
    /// A schema could not be brought up to date.
    #[error("cannot migrate the schema {0}")]
    Migrate(ServiceName, #[source] SchemaError),
    /// A service did not start.
    #[error("{0} did not start")]
    Start(ServiceName, #[source] StartError),
    /// A service is not ready in time.
    #[error("{0} did not become ready within {seconds} s", seconds = READY.as_secs())]
    NotReady(ServiceName),
    /// A service ended on its own.
    #[error("{0} ended by itself")]
    Ended(ServiceName, #[source] Option<Error>),
}

impl SystemError {
    /// The exit code for this error (sysexits.h).
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Listen { .. } | Self::Admin(..) => 69,
            Self::Migrate(_, SchemaError::Version { .. }) => 78,
            Self::Migrate(..) | Self::NotReady(_) | Self::Ended(..) => 70,
            Self::Start(_, error) => error.exit_code(),
        }
    }
}

/// What the services share.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The bootstrapped database.
    pub databases: Databases,
    /// Their keys.
    pub keys: Keys,
    /// Where they listen.
    pub addresses: [SocketAddr; 3],
    /// Whether the database was born with a test clock.
    pub test_clock: bool,
    /// Where mail goes.
    pub mail: MailSettings,
    /// Connections to the database that each service holds at most.
    pub pool_size: usize,
    /// Where each serves its metrics and health, if at all.
    pub admin: AdminListeners,
}

impl Plan {
    /// Placeholder until the listeners are bound.
    pub const NOWHERE: [SocketAddr; 3] = [SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0); 3];

    /// Where a service listens.
    #[must_use]
    pub fn address(&self, service: ServiceName) -> SocketAddr {
        self.addresses[service.index()]
    }

    /// The URL by which a program on this machine reaches a service.
    #[must_use]
    pub fn url(&self, service: ServiceName) -> String {
        format!("http://{}", reachable(self.address(service)))
    }

    /// The settings that a service shares with the others. Without a listener it binds its address itself.
    #[must_use]
    pub fn settings(&self, service: ServiceName, listener: Option<TcpListener>) -> Settings {
        let database = match service {
            ServiceName::Licensing => &self.databases.licensing,
            ServiceName::Billing => &self.databases.billing,
            ServiceName::Notification => &self.databases.notification,
        };
        // Billing never sees a password of a user's, sealed or not.
        let sealing = (service != ServiceName::Billing).then(|| self.keys.sealing());
        Settings {
            listen: Some(self.address(service)),
            database_url: Database(database.clone()),
            pool_size: self.pool_size,
            jwks_file: self.keys.jwks(),
            issuer: ISSUER.to_owned(),
            signing_key_file: self.keys.signing(service),
            fingerprint_key_file: self.keys.fingerprint(),
            sealing_keys_file: sealing,
            licensing_url: self.url(ServiceName::Licensing),
            billing_url: self.url(ServiceName::Billing),
            notification_url: self.url(ServiceName::Notification),
            admin_port: Some(0),
            admin_host: Ipv4Addr::LOCALHOST.into(),
            test_clock: self.test_clock,
            listener: listener.map(Arc::new),
            admin_listener: self.admin[service.index()].clone(),
        }
    }

    /// Brings the three schemas up to date.
    ///
    /// # Errors
    /// [`SystemError::Migrate`].
    pub async fn migrate(&self) -> Result<(), SystemError> {
        for service in ServiceName::ALL {
            let database = self.settings(service, None).database_url.0;
            let Service {
                name, migrations, ..
            } = service.service();
            migrate::migrate(&database, name, migrations)
                .await
                .map_err(|error| SystemError::Migrate(service, error))?;
        }
        Ok(())
    }

    /// Starts one service; it may not be ready yet.
    async fn launch(
        &self,
        service: ServiceName,
        listener: Option<TcpListener>,
        shutdown: CancellationToken,
    ) -> Result<Running, SystemError> {
        let platform = self.settings(service, listener);
        let started = match service {
            ServiceName::Licensing => {
                let settings = octroi_licensing::Settings {
                    platform,
                    activation_domain: ACTIVATION_DOMAIN.to_owned(),
                    download_url: DOWNLOAD_URL.to_owned(),
                };
                octroi_licensing::start(settings, shutdown).await
            }
            ServiceName::Billing => {
                let settings = octroi_billing::Settings {
                    platform,
                    seller_file: None,
                    specimen_seller: true,
                };
                octroi_billing::start(settings, shutdown).await
            }
            ServiceName::Notification => {
                let mail = self.mail.clone();
                let settings = octroi_notification::Settings { platform, mail };
                octroi_notification::start(settings, shutdown).await
            }
        };
        started.map_err(|error| SystemError::Start(service, error))
    }
}

/// A service that was started.
#[derive(Debug)]
struct Member {
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

/// The running services. Dropping this stops them without waiting for them, unlike [`System::stop`].
#[derive(Debug)]
pub struct System {
    plan: Plan,
    members: [Option<Member>; 3],
}

impl System {
    /// Brings the schemas up to date, starts the three services on their listeners, and waits until all are SERVING.
    /// The plan's addresses become the listeners'.
    ///
    /// # Errors
    /// See [`SystemError`]; whatever was started by then is stopped.
    pub async fn start(mut plan: Plan, listeners: Listeners) -> Result<Self, SystemError> {
        plan.addresses = listeners.addresses()?;
        plan.migrate().await?;
        let mut system = Self {
            plan,
            members: [None, None, None],
        };
        let [licensing, billing, notification] = listeners.0;
        // A start that is cancelled leaves nothing running.
        let all = CancellationToken::new();
        let given_up = all.clone().drop_guard();
        let shutdowns = [(); 3].map(|()| all.child_token());
        let plan = &system.plan;
        let started = tokio::join!(
            plan.launch(
                ServiceName::Licensing,
                Some(licensing),
                shutdowns[0].clone()
            ),
            plan.launch(ServiceName::Billing, Some(billing), shutdowns[1].clone()),
            plan.launch(
                ServiceName::Notification,
                Some(notification),
                shutdowns[2].clone()
            ),
        );
        let mut failed = None;
        let started = [started.0, started.1, started.2].into_iter().zip(shutdowns);
        for (slot, (running, shutdown)) in system.members.iter_mut().zip(started) {
            match running {
                Ok(running) => *slot = Some(Member::new(running, shutdown)),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        let mut result = failed.map_or(Ok(()), Err);
        for service in ServiceName::ALL {
            if result.is_ok() {
                result = system.ready(service).await;
            }
        }
        match result {
            Ok(()) => {
                given_up.disarm();
                Ok(system)
            }
            Err(error) => {
                system.stop().await;
                Err(error)
            }
        }
    }

    /// What the services share.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Where a service listens.
    #[must_use]
    pub fn address(&self, service: ServiceName) -> SocketAddr {
        self.plan.address(service)
    }

    /// Starts one service that was stopped, at the address that it had, and waits until it is SERVING.
    ///
    /// # Errors
    /// See [`SystemError`].
    pub async fn start_service(&mut self, service: ServiceName) -> Result<(), SystemError> {
        self.stop_service(service).await;
        let listener = bind(service, self.address(service))?;
        let shutdown = CancellationToken::new();
        let running = self
            .plan
            .launch(service, Some(listener), shutdown.clone())
            .await?;
        self.members[service.index()] = Some(Member::new(running, shutdown));
        self.ready(service).await
    }

    /// Drains one service and waits for it; nothing listens at its address afterwards.
    pub async fn stop_service(&mut self, service: ServiceName) {
        if let Some(member) = self.members[service.index()].take() {
            member.shutdown.cancel();
            log_end(service, member.task.await);
            tracing::debug!(%service, "stopped");
        }
    }

    /// Drains every service and waits for them.
    pub async fn stop(mut self) {
        // Licensing goes first: the orders that it is paying still need billing.
        for service in ServiceName::ALL {
            self.stop_service(service).await;
        }
    }

    /// Waits until a service ends on its own, which is an error.
    pub async fn ended(&mut self) -> SystemError {
        poll_fn(|context| {
            for service in ServiceName::ALL {
                let slot = &mut self.members[service.index()];
                if let Some(member) = slot
                    && let Poll::Ready(ended) = Pin::new(&mut member.task).poll(context)
                {
                    *slot = None;
                    return Poll::Ready(SystemError::Ended(service, outcome(ended).err()));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Polls a service's health until it is SERVING.
    async fn ready(&self, service: ServiceName) -> Result<(), SystemError> {
        let not_ready = || SystemError::NotReady(service);
        let channel = Endpoint::from_shared(self.plan.url(service))
            .map_err(|_| not_ready())?
            .timeout(Duration::from_secs(1))
            .connect_lazy();
        let mut client = HealthClient::new(channel);
        let deadline = Instant::now() + READY;
        while Instant::now() < deadline {
            let request = HealthCheckRequest {
                service: String::new(),
            };
            if let Ok(answer) = client.check(request).await
                && answer.into_inner().status() == ServingStatus::Serving
            {
                return Ok(());
            }
            sleep(READY_POLL).await;
        }
        Err(not_ready())
    }
}

impl Drop for System {
    fn drop(&mut self) {
        for member in self.members.iter().flatten() {
            member.shutdown.cancel();
        }
    }
}

impl Member {
    fn new(running: Running, shutdown: CancellationToken) -> Self {
        Self {
            shutdown,
            task: tokio::spawn(running.stopped()),
        }
    }
}

/// The address to connect to: the loopback one of a service that listens on every interface.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn outcome(ended: Result<Result<(), Error>, tokio::task::JoinError>) -> Result<(), Error> {
    ended.unwrap_or_else(|error| Err(Error::Internal(error.into())))
}

fn log_end(service: ServiceName, ended: Result<Result<(), Error>, tokio::task::JoinError>) {
    if let Err(error) = outcome(ended) {
        let error = format!("{:#}", anyhow::Error::new(error));
        tracing::error!(%service, error, "the service did not end well");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interface_is_reached_on_this_machine() {
        for (listens, reached) in [
            ("0.0.0.0:50051", "127.0.0.1:50051"),
            ("[::]:50051", "[::1]:50051"),
            ("192.0.2.1:1", "192.0.2.1:1"),
        ] {
            assert_eq!(reachable(listens.parse().unwrap()).to_string(), reached);
        }
    }
}
