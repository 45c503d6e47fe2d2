//! The settings that every service has, from flags and environment.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use octroi_platform::db::DEFAULT_POOL;
use tonic::transport::Uri;

use crate::services::{BILLING, LICENSING, NOTIFICATION, SERVICES};

/// The range of `--pool-size`.
const POOL_MAX: usize = 1000;

/// A PostgreSQL connection, from a URL or from libpq's key=value form.
#[derive(Clone)]
pub struct Database(pub tokio_postgres::Config);

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Database")
    }
}

impl FromStr for Database {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse()
            .map(Self)
            .map_err(|_| "must be a PostgreSQL URL such as postgres://user:password@host/octroi")
    }
}

/// Settings that every service has.
// Clap names a group after its type, and each service flattens this into a `Settings` of its own.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Settings {
    /// Address to listen on; the service's own port on every interface by default.
    #[arg(long, env = "OCTROI_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// The database, with the service's own role.
    #[arg(long, env = "OCTROI_DATABASE_URL", hide_env_values = true)]
    pub database_url: Database,
    /// Connections to the database, at most.
    #[arg(long, env = "OCTROI_POOL_SIZE", default_value_t = DEFAULT_POOL, value_parser = pool_size)]
    pub pool_size: usize,
    /// JWKS document with the public keys of everyone whose tokens are accepted.
    #[arg(long, env = "OCTROI_JWKS_FILE")]
    pub jwks_file: PathBuf,
    /// Issuer of every token.
    #[arg(long, env = "OCTROI_ISSUER", default_value = "octroi")]
    pub issuer: String,
    /// The service's own Ed25519 key (PKCS#8 PEM), for its tokens to the other services.
    #[arg(long, env = "OCTROI_SIGNING_KEY_FILE")]
    pub signing_key_file: PathBuf,
    /// The installation's key for request fingerprints: 32 bytes in base64, the same for every service and for ever.
    #[arg(long, env = "OCTROI_FINGERPRINT_KEY_FILE")]
    pub fingerprint_key_file: PathBuf,
    /// Keys that seal passwords between licensing and notification: lines of "id:base64", the first one seals.
    #[arg(long, env = "OCTROI_SEALING_KEYS_FILE")]
    pub sealing_keys_file: Option<PathBuf>,
    /// Where licensing answers.
    #[arg(
        long,
        env = "OCTROI_LICENSING_URL",
        default_value_t = LICENSING.local_url(),
        value_parser = service_url
    )]
    pub licensing_url: String,
    /// Where billing answers.
    #[arg(
        long,
        env = "OCTROI_BILLING_URL",
        default_value_t = BILLING.local_url(),
        value_parser = service_url
    )]
    pub billing_url: String,
    /// Where notification answers.
    #[arg(
        long,
        env = "OCTROI_NOTIFICATION_URL",
        default_value_t = NOTIFICATION.local_url(),
        value_parser = service_url
    )]
    pub notification_url: String,
    /// Port of metrics and health, in plain HTTP; 0 for none; 9050, 9051 or 9052 by default.
    #[arg(long, env = "OCTROI_ADMIN_PORT")]
    pub admin_port: Option<u16>,
    /// Address of metrics and health.
    #[arg(long, env = "OCTROI_ADMIN_HOST", default_value = "127.0.0.1")]
    pub admin_host: IpAddr,
    /// Serve a database that was born with a test clock. Never in production.
    #[arg(long, env = "OCTROI_TEST_CLOCK")]
    pub test_clock: bool,
    /// A listener that is bound already, in place of `listen`.
    #[arg(skip)]
    pub listener: Option<Arc<std::net::TcpListener>>,
    /// Another, in place of `admin_host` and `admin_port`.
    #[arg(skip)]
    pub admin_listener: Option<Arc<std::net::TcpListener>>,
}

impl Settings {
    /// Where a service answers.
    pub(crate) fn url(&self, service: &str) -> Option<&str> {
        let urls = [
            &self.licensing_url,
            &self.billing_url,
            &self.notification_url,
        ];
        let mut known = SERVICES.iter().zip(urls);
        known.find_map(|(known, url)| (known.name == service).then_some(url.as_str()))
    }
}

fn pool_size(text: &str) -> Result<usize, &'static str> {
    let size = text.parse().ok();
    size.filter(|size| (1..=POOL_MAX).contains(size))
        .ok_or("must be a number from 1 to 1000")
}

fn service_url(text: &str) -> Result<String, &'static str> {
    let url: Option<Uri> = text.parse().ok();
    url.filter(|url| url.scheme_str() == Some("http") && url.path() == "/" && url.query().is_none())
        .map(|_| text.to_owned())
        .ok_or("must be an address such as http://billing:50052 (there is no TLS yet)")
}
