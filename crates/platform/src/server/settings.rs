//! The settings that every service has, from flags and environment. Each is documented once, here.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use secrecy::SecretString;
use tonic::transport::Uri;

use crate::auth::{ServiceToken, Signer, Verifier};
use crate::db::DEFAULT_POOL;
use crate::seal::SealingKeys;
use crate::service::Service;

/// Connections that a service may be allowed.
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

/// What is said of a signing key that is none.
const NO_KEY: &str = "is not an Ed25519 private key in PKCS#8 PEM";

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
    /// JWKS document with the public keys of everyone whose tokens are believed.
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
        default_value = "http://127.0.0.1:50051",
        value_parser = service_url
    )]
    pub licensing_url: String,
    /// Where billing answers.
    #[arg(
        long,
        env = "OCTROI_BILLING_URL",
        default_value = "http://127.0.0.1:50052",
        value_parser = service_url
    )]
    pub billing_url: String,
    /// Where notification answers.
    #[arg(
        long,
        env = "OCTROI_NOTIFICATION_URL",
        default_value = "http://127.0.0.1:50053",
        value_parser = service_url
    )]
    pub notification_url: String,
    /// Serve a database that was born with a test clock. Never in production.
    #[arg(long, env = "OCTROI_TEST_CLOCK")]
    pub test_clock: bool,
    /// A listener that is bound already, in place of `listen`.
    #[arg(skip)]
    pub listener: Option<Arc<std::net::TcpListener>>,
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

/// The keys of a service, read.
pub struct Keys {
    /// Whose tokens are believed; taken when serving begins.
    pub(crate) verifier: std::sync::Mutex<Option<Verifier>>,
    /// Our own tokens.
    pub(crate) token: Arc<ServiceToken>,
    /// For request fingerprints.
    pub(crate) fingerprint: Arc<aws_lc_rs::hmac::Key>,
    /// Seals and opens passwords; given to licensing and notification only.
    pub sealing: Option<Arc<SealingKeys>>,
}

impl Keys {
    /// Reads every key file; each that is bad is named.
    pub(crate) fn read(settings: &Settings, service: &Service) -> Result<Self, Vec<String>> {
        let mut wrong = Vec::new();
        if let (Some(why), None) = (service.seals, &settings.sealing_keys_file) {
            wrong.push(format!("--sealing-keys-file is missing: {why}"));
        }
        let mut file = |flag: &str, path: &PathBuf| {
            std::fs::read(path)
                .map_err(|error| wrong.push(format!("{flag} {}: {error}", path.display())))
                .ok()
        };
        let jwks = file("--jwks-file", &settings.jwks_file);
        let signing = file("--signing-key-file", &settings.signing_key_file);
        let fingerprint = file("--fingerprint-key-file", &settings.fingerprint_key_file);
        let sealing = settings
            .sealing_keys_file
            .as_ref()
            .and_then(|path| file("--sealing-keys-file", path));

        let verifier = jwks.and_then(|jwks| {
            Verifier::new(&jwks, &settings.issuer)
                .map_err(|error| wrong.push(format!("--jwks-file {error}")))
                .ok()
        });
        let signer = signing.and_then(|pem| {
            key_id(&pem)
                .and_then(|kid| Signer::new(&pem, &kid, &settings.issuer))
                .map_err(|error| wrong.push(format!("--signing-key-file {error}")))
                .ok()
        });
        let fingerprint = fingerprint.and_then(|text| {
            let key = STANDARD.decode(text.trim_ascii()).ok();
            if key.as_ref().is_none_or(|key| key.len() != 32) {
                wrong.push("--fingerprint-key-file is not 32 bytes in base64".to_owned());
            }
            key
        });
        let sealing = sealing.and_then(|text| {
            let text = SecretString::from(String::from_utf8_lossy(&text).into_owned());
            SealingKeys::parse(&text)
                .map_err(|error| wrong.push(format!("--sealing-keys-file: {error}")))
                .ok()
        });
        match (verifier, signer, fingerprint) {
            (Some(verifier), Some(signer), Some(fingerprint)) if wrong.is_empty() => Ok(Self {
                verifier: std::sync::Mutex::new(Some(verifier)),
                token: Arc::new(ServiceToken::new(signer, service.name)),
                fingerprint: Arc::new(aws_lc_rs::hmac::Key::new(
                    aws_lc_rs::hmac::HMAC_SHA256,
                    &fingerprint,
                )),
                sealing: sealing.map(Arc::new),
            }),
            _ => Err(wrong),
        }
    }
}

/// The public half of an Ed25519 key (PKCS#8 PEM) as a JWK.
///
/// # Errors
/// What is wrong, without the key.
pub fn public_jwk(pem: &[u8]) -> Result<serde_json::Value, String> {
    let public = public_key(pem)?;
    Ok(serde_json::json!({
        "kty": "OKP",
        "crv": "Ed25519",
        "alg": "EdDSA",
        "use": "sig",
        "kid": key_id(pem)?,
        "x": URL_SAFE_NO_PAD.encode(public),
    }))
}

/// The id of a key: a hash of its public half.
///
/// # Errors
/// What is wrong, without the key.
pub fn key_id(pem: &[u8]) -> Result<String, String> {
    let public = public_key(pem)?;
    let hash = digest::digest(&digest::SHA256, &public);
    Ok(URL_SAFE_NO_PAD.encode(&hash.as_ref()[..12]))
}

fn public_key(pem: &[u8]) -> Result<Vec<u8>, String> {
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8(pem)?);
    let pair = pair.map_err(|_| NO_KEY.to_owned())?;
    Ok(pair.public_key().as_ref().to_vec())
}

/// The PKCS#8 document of an Ed25519 key in PEM.
///
/// # Errors
/// What is wrong, without the key.
pub(crate) fn pkcs8(pem: &[u8]) -> Result<Vec<u8>, String> {
    let wrong = || NO_KEY.to_owned();
    let text = std::str::from_utf8(pem).map_err(|_| wrong())?;
    let body: String = text
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .map(str::trim)
        .collect();
    let der = STANDARD.decode(body).map_err(|_| wrong())?;
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| wrong())?;
    Ok(der)
}
