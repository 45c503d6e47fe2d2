//! The installation's keys and passwords, generated once in the data directory and read at every start.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::{self, SystemRandom};
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use octroi_platform::auth::Signer;
use octroi_platform::clock::system_seconds;
use octroi_platform::jwk::{key_id, public_jwk};
use secrecy::{ExposeSecret as _, SecretString};

use crate::bootstrap::Passwords;
use crate::cluster::generate_password;
use crate::system::ServiceName;

/// Issuer of every token of an all-in-one.
pub const ISSUER: &str = "octroi";
/// How long the tokens in the data directory are valid; each start renews them.
const TOKEN_VALID: i64 = 365 * 24 * 60 * 60;
const OPERATOR: &str = "operator";

/// Why the keys could not be created or read.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The system refused an operation.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// Others than the owner may read the keys.
    #[error("{} can be read by others: close it with chmod 700", .0.display())]
    Open(PathBuf),
    /// A key cannot be used.
    #[error("{} {reason}: put the right file back", path.display())]
    Bad {
        /// The file.
        path: PathBuf,
        /// What is wrong, without the key.
        reason: String,
    },
    /// The system gave no randomness.
    #[error("the system gives no randomness")]
    Randomness,
}

impl KeysError {
    /// The exit code for this error (sysexits.h).
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Randomness => 70,
            Self::Io { .. } | Self::Open(_) => 73,
            Self::Bad { .. } => 78,
        }
    }
}

/// The keys of one installation, in the directory `keys` of its data directory.
#[derive(Clone, Debug)]
pub struct Keys {
    dir: PathBuf,
    passwords: Passwords,
}

impl Keys {
    /// Reads the keys of a data directory; the first time they are generated, atomically.
    ///
    /// # Errors
    /// See [`KeysError`].
    pub fn open(data_dir: &Path) -> Result<Self, KeysError> {
        let dir = data_dir.join("keys");
        match fs::metadata(&dir) {
            Ok(metadata) if metadata.mode() & 0o077 != 0 => return Err(KeysError::Open(dir)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(data_dir, &dir)?,
            Err(source) => return Err(failed("read", &dir)(source)),
        }
        let password = |service: ServiceName| -> Result<SecretString, KeysError> {
            let path = dir.join(format!("{service}.password"));
            let text = fs::read_to_string(&path).map_err(failed("read", &path))?;
            Ok(text.trim_end().to_owned().into())
        };
        Ok(Self {
            passwords: Passwords {
                licensing: password(ServiceName::Licensing)?,
                billing: password(ServiceName::Billing)?,
                notification: password(ServiceName::Notification)?,
            },
            dir,
        })
    }

    /// The passwords of the services' database roles.
    #[must_use]
    pub fn passwords(&self) -> &Passwords {
        &self.passwords
    }

    /// The public keys of everyone whose tokens are accepted.
    #[must_use]
    pub fn jwks(&self) -> PathBuf {
        self.dir.join("jwks.json")
    }

    /// The private key of a service.
    #[must_use]
    pub fn signing(&self, service: ServiceName) -> PathBuf {
        self.dir.join(format!("{service}.pem"))
    }

    /// The key of request fingerprints.
    #[must_use]
    pub fn fingerprint(&self) -> PathBuf {
        self.dir.join("fingerprint.key")
    }

    /// The keys that seal passwords between licensing and notification.
    #[must_use]
    pub fn sealing(&self) -> PathBuf {
        self.dir.join("sealing.keys")
    }

    /// Signs a token with the operator's key, valid for a year.
    ///
    /// # Errors
    /// When the operator's key cannot be read or used.
    pub fn token(&self, subject: &str, scope: &str) -> Result<SecretString, KeysError> {
        let path = self.dir.join(format!("{OPERATOR}.pem"));
        let pem = fs::read(&path).map_err(failed("read", &path))?;
        let bad = |reason| KeysError::Bad {
            path: path.clone(),
            reason,
        };
        let kid = key_id(&pem).map_err(bad)?;
        let signer = Signer::new(&pem, &kid, ISSUER).map_err(bad)?;
        signer
            .sign(subject, scope, None, system_seconds() + TOKEN_VALID)
            .map(SecretString::from)
            .map_err(|error| bad(error.to_string()))
    }
}

/// The tokens in a data directory, for operators and for the portal.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// The file with the operator's token: every scope but the services'.
    pub operator_file: PathBuf,
    /// The operator's token.
    pub operator: SecretString,
    /// The file with the portal's token: its own scope alone.
    pub portal_file: PathBuf,
}

impl Tokens {
    /// Signs new tokens and writes them, each readable by the owner alone.
    ///
    /// # Errors
    /// See [`KeysError`].
    pub fn renew(keys: &Keys, data_dir: &Path) -> Result<Self, KeysError> {
        let operator = keys.token(OPERATOR, "*")?;
        let portal = keys.token("portal", "licensing.portal")?;
        let operator_file = data_dir.join("operator.token");
        let portal_file = data_dir.join("portal.token");
        replace_private(&operator_file, operator.expose_secret())?;
        replace_private(&portal_file, portal.expose_secret())?;
        Ok(Self {
            operator_file,
            operator,
            portal_file,
        })
    }
}

/// Replaces a file atomically; only its owner may read it.
pub(crate) fn replace_private(path: &Path, text: &str) -> Result<(), KeysError> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", &new)(error));
        }
        _ => {}
    }
    write_private(&new, format!("{text}\n").as_bytes())?;
    fs::rename(&new, path).map_err(failed("replace", path))
}

/// Generates the keys in a temporary directory, which is renamed when it is complete.
fn make(data_dir: &Path, dir: &Path) -> Result<(), KeysError> {
    let unfinished = data_dir.join("keys.new");
    match fs::remove_dir_all(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", &unfinished)(error));
        }
        _ => {}
    }
    DirBuilder::new()
        .mode(0o700)
        .create(&unfinished)
        .map_err(failed("create", &unfinished))?;
    let mut public = Vec::new();
    let services = ServiceName::ALL.map(ServiceName::as_str);
    for name in [&[OPERATOR][..], &services].concat() {
        let pem = generate_pem()?;
        let path = unfinished.join(format!("{name}.pem"));
        public.push(
            public_jwk(pem.expose_secret().as_bytes()).map_err(|reason| KeysError::Bad {
                path: path.clone(),
                reason,
            })?,
        );
        write_private(&path, pem.expose_secret().as_bytes())?;
    }
    let jwks = format!("{:#}\n", serde_json::json!({ "keys": public }));
    write_private(&unfinished.join("jwks.json"), jwks.as_bytes())?;
    let fingerprint = generate_key()?;
    let line = format!("{}\n", fingerprint.expose_secret());
    write_private(&unfinished.join("fingerprint.key"), line.as_bytes())?;
    let sealing = generate_key()?;
    let line = format!("1:{}\n", sealing.expose_secret());
    write_private(&unfinished.join("sealing.keys"), line.as_bytes())?;
    for service in services {
        let password = generate_password().map_err(|_| KeysError::Randomness)?;
        let line = format!("{}\n", password.expose_secret());
        let path = unfinished.join(format!("{service}.password"));
        write_private(&path, line.as_bytes())?;
    }
    sync(&unfinished)?;
    fs::rename(&unfinished, dir).map_err(failed("create", dir))?;
    sync(data_dir)
}

/// A new Ed25519 key as PKCS#8 in PEM.
fn generate_pem() -> Result<SecretString, KeysError> {
    let document = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new())
        .map_err(|_| KeysError::Randomness)?;
    let body = STANDARD.encode(document.as_ref());
    Ok(format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n").into())
}

/// 32 random bytes in base64.
fn generate_key() -> Result<SecretString, KeysError> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| KeysError::Randomness)?;
    Ok(STANDARD.encode(bytes).into())
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<(), KeysError> {
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(failed("write", path))
}

/// Syncs a directory, so that new names in it survive a power failure.
fn sync(dir: &Path) -> Result<(), KeysError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(failed("sync", dir))
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeysError {
    let path = path.to_owned();
    move |source| KeysError::Io { what, path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use octroi_platform::auth::Verifier;
    use octroi_platform::seal::SealingKeys;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn keys_are_made_once_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::open(dir.path()).unwrap();
        let before = fs::read(keys.jwks()).unwrap();
        let password = keys.passwords().billing.expose_secret().to_owned();
        let again = Keys::open(dir.path()).unwrap();
        assert_eq!(fs::read(again.jwks()).unwrap(), before);
        assert_eq!(again.passwords().billing.expose_secret(), password);
        assert_eq!(mode(&dir.path().join("keys")), 0o700);
        for entry in fs::read_dir(dir.path().join("keys")).unwrap() {
            assert_eq!(mode(&entry.unwrap().path()), 0o600);
        }
        let sealing = fs::read_to_string(keys.sealing()).unwrap();
        SealingKeys::parse(&sealing.into()).unwrap();
    }

    #[test]
    fn the_operators_token_is_believed_and_opens_everything_but_the_services() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::open(dir.path()).unwrap();
        let tokens = Tokens::renew(&keys, dir.path()).unwrap();
        let tokens = Tokens::renew(&keys, tokens.operator_file.parent().unwrap()).unwrap();
        assert_eq!(mode(&tokens.operator_file), 0o600);
        let verifier = Verifier::new(&fs::read(keys.jwks()).unwrap(), ISSUER).unwrap();
        let caller = |path: &Path| {
            let token = fs::read_to_string(path).unwrap();
            verifier.verify(token.trim_end()).unwrap()
        };
        let operator = caller(&tokens.operator_file);
        assert_eq!(operator.subject, "operator");
        assert!(operator.has_scope("billing.accounts.write") && !operator.has_scope("service"));
        let portal = caller(&tokens.portal_file);
        assert!(portal.has_scope("licensing.portal") && !portal.has_scope("billing.accounts.read"));
    }

    #[test]
    fn keys_that_others_can_read_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::open(dir.path()).unwrap();
        fs::set_permissions(&keys.dir, fs::Permissions::from_mode(0o750)).unwrap();
        let error = Keys::open(dir.path()).unwrap_err();
        assert!(matches!(error, KeysError::Open(_)), "{error}");
    }

    #[test]
    fn an_interrupted_making_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("keys.new")).unwrap();
        fs::write(dir.path().join("keys.new/operator.pem"), "half").unwrap();
        Keys::open(dir.path()).unwrap();
        assert!(!dir.path().join("keys.new").exists());
    }
}
