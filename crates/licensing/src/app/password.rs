//! Passwords: made, hashed and verified, off the async threads.

use std::collections::HashMap;
use std::fmt::{Debug, Display};
use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use argon2::password_hash::phc::{Output, ParamsString, Salt};
use argon2::{Algorithm, Argon2, Block, Params, PasswordHash, Version};
use aws_lc_rs::rand;
use octroi_platform::{CALLS_AT_ONCE, Error, Shown, Violations};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Semaphore;

use crate::domain::password;

/// In KiB: 19 MiB.
const MEMORY: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = Params::DEFAULT_OUTPUT_LEN;

/// The size of the buffer to hash in, in KiB. The C library's allocator returns blocks above 32 MiB to the system when
/// they are freed, and keeps smaller ones, one for each thread. Pages that are never touched take no memory.
const SPACE: usize = 33 * 1024;

/// How many calls that may hash are served at once: a quarter of all calls, which leaves the rest to those that do not.
/// One account has half of them at most: a second's work for two cores, and room for 64 copies of one request.
const PLACES: usize = CALLS_AT_ONCE / 4;

/// Verified for unknown addresses, so that the answer takes equally long. No password has this hash.
const DUMMY: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Hashes and verifies with Argon2id, no more at once than there are cores: each takes 19 MiB and a core for some
/// milliseconds. A call that may hash takes a place before anything else, and is refused as OVERLOADED when there is none:
/// one that waited would hold a connection that others need. It keeps the place to its end, so that no more calls than
/// places read, or wait for a locked row.
pub(crate) struct Hasher {
    params: Params,
    /// The hash that is verified for unknown addresses.
    dummy: &'static str,
    cores: Arc<Semaphore>,
    /// How many cores there are.
    size: usize,
    /// How many places each account has.
    taken: Mutex<HashMap<String, usize>>,
}

/// The right of a call to hash, counted for its account.
pub(crate) struct Place {
    hasher: Arc<Hasher>,
    account: String,
}

impl Hasher {
    pub(crate) fn new() -> Result<Self, Error> {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Ok(Self {
            params: Params::new(MEMORY, PASSES, LANES, Some(HASH_BYTES)).map_err(broken)?,
            dummy: DUMMY,
            cores: Arc::new(Semaphore::new(cores)),
            size: cores,
            taken: Mutex::default(),
        })
    }

    /// A place for an account that has fewer than are free: one account alone gets half of them, a second one a quarter, and
    /// an account that has none gets one, unless seven others take all they can at once.
    ///
    /// # Errors
    /// [`Error::Overloaded`].
    pub(crate) fn enter(self: &Arc<Self>, account: &str) -> Result<Place, Error> {
        let mut taken = self.taken();
        let free = PLACES.saturating_sub(taken.values().sum());
        if taken.get(account).copied().unwrap_or_default() >= free {
            return Err(Error::Overloaded(
                "too many passwords are being worked on; try again",
            ));
        }
        *taken.entry(account.to_owned()).or_default() += 1;
        Ok(Place {
            hasher: Arc::clone(self),
            account: account.to_owned(),
        })
    }

    /// How many hashes are being made, and how many calls may want another.
    pub(crate) fn load(&self) -> Vec<Shown> {
        let busy = self.size.saturating_sub(self.cores.available_permits());
        let places: usize = self.taken().values().sum();
        let shown = [("busy", busy), ("waiting", places.saturating_sub(busy))];
        let shown = shown.map(|(state, calls)| {
            let calls = i64::try_from(calls).unwrap_or(i64::MAX);
            (state.to_owned(), vec![calls])
        });
        shown.to_vec()
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.hasher.taken();
        if let Some(places) = taken.get_mut(&self.account) {
            *places = places.saturating_sub(1);
            if *places == 0 {
                taken.remove(&self.account);
            }
        }
    }
}

impl Place {
    /// The PHC string of a password, under a new salt.
    pub(crate) async fn hash(&self, password: SecretString) -> Result<String, Error> {
        let mut salt = [0; SALT_BYTES];
        fill(&mut salt)?;
        let params = self.hasher.params.clone();
        self.run(move || {
            let hash = PasswordHash {
                algorithm: Algorithm::Argon2id.ident(),
                version: Some(Version::V0x13.into()),
                params: ParamsString::try_from(&params).map_err(broken)?,
                salt: Some(Salt::new(&salt).map_err(broken)?),
                hash: Some(derive(params, &password, &salt)?),
            };
            Ok(hash.to_string())
        })
        .await?
    }

    /// Whether a password is the one that was hashed; without a hash it takes as long and is false.
    pub(crate) async fn verify(
        &self,
        password: SecretString,
        hash: Option<String>,
    ) -> Result<bool, Error> {
        let dummy = self.hasher.dummy;
        self.run(move || {
            let known = hash.is_some();
            let hash = PasswordHash::new(hash.as_deref().unwrap_or(dummy)).map_err(broken)?;
            let params = Params::try_from(&hash).map_err(broken)?;
            let (Some(salt), Some(hash)) = (hash.salt, hash.hash) else {
                return Err(broken("a stored password has no salt or no hash"));
            };
            // Two outputs are compared in constant time.
            let right = derive(params, &password, &salt)? == hash;
            Ok(known && right)
        })
        .await?
    }

    /// Runs on a thread for blocking work, which holds the permit for a core: a caller that goes away does not free it early.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let core = Arc::clone(&self.hasher.cores)
            .acquire_owned()
            .await
            .map_err(|error| Error::Internal(error.into()))?;
        tokio::task::spawn_blocking(move || {
            let result = work();
            drop(core);
            result
        })
        .await
        .map_err(|error| Error::Internal(error.into()))
    }
}

/// What Argon2id makes of a password and a salt.
fn derive(params: Params, password: &SecretString, salt: &[u8]) -> Result<Output, Error> {
    let mut bytes = [0; HASH_BYTES];
    let mut space = Vec::with_capacity(SPACE.max(params.block_count()));
    space.resize(params.block_count(), Block::new());
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(
            password.expose_secret().as_bytes(),
            salt,
            &mut bytes,
            &mut space,
        )
        .map_err(broken)?;
    Output::new(&bytes).map_err(broken)
}

fn broken(error: impl Display + Debug + Send + Sync + 'static) -> Error {
    Error::Internal(anyhow::Error::msg(error))
}

/// Notes every rule that a chosen password breaks; where the login is not known it is empty.
pub(crate) fn check_password(
    field: &str,
    password: &SecretString,
    login: &str,
    violations: &mut Violations,
) {
    for rule in password::broken_rules(password, login) {
        violations.add(field, rule.to_string());
    }
}

/// A random password for a login.
pub(crate) fn generate(login: &str) -> Result<SecretString, Error> {
    // A login of three characters is in one of a hundred thousand by chance; the next draw does not have it.
    for _ in 0..8 {
        let mut random = [0; password::RANDOM_BYTES];
        fill(&mut random)?;
        let made = password::generate(&random);
        if password::broken_rules(&made, login).is_empty() {
            return Ok(made);
        }
    }
    Err(broken("no password without the login came out"))
}

/// Fills with the system's randomness.
pub(crate) fn fill(bytes: &mut [u8]) -> Result<(), Error> {
    rand::fill(bytes).map_err(|_| broken("the system has no randomness"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(hasher: Hasher) -> Place {
        Arc::new(hasher).enter("acme").unwrap()
    }

    #[tokio::test]
    async fn a_password_opens_its_own_hash_alone() {
        let hasher = place(Hasher::new().unwrap());
        let password = generate("desk").unwrap();
        let hash = hasher.hash(password.clone()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(
            hasher
                .verify(password.clone(), Some(hash.clone()))
                .await
                .unwrap()
        );
        assert!(
            !hasher
                .verify("another".into(), Some(hash.clone()))
                .await
                .unwrap()
        );
        assert!(!hasher.verify(password.clone(), None).await.unwrap());
        assert_ne!(hasher.hash(password).await.unwrap(), hash);
    }

    #[test]
    fn what_stands_for_nobody_costs_as_much() {
        let dummy = PasswordHash::new(DUMMY).unwrap();
        let params = Params::try_from(&dummy).unwrap();
        assert_eq!(
            (params.m_cost(), params.t_cost(), params.p_cost()),
            (MEMORY, PASSES, LANES)
        );
        assert_eq!(dummy.hash.unwrap().len(), 32);
    }

    #[tokio::test]
    async fn what_stands_for_nobody_is_verified_and_opens_nothing() {
        let password = SecretString::from("Wooden-Chair-42");
        let hasher = |dummy| Hasher {
            dummy,
            ..Hasher::new().unwrap()
        };
        let hash = place(hasher(DUMMY)).hash(password.clone()).await.unwrap();
        let known = place(hasher(hash.leak()));
        assert!(!known.verify(password.clone(), None).await.unwrap());
        // A broken hash fails, which shows that the hash is verified at all.
        let failed = place(hasher("no hash")).verify(password, None).await;
        assert!(matches!(failed, Err(Error::Internal(_))));
    }

    #[test]
    fn who_crowds_leaves_room_for_others() {
        let hasher = Arc::new(Hasher::new().unwrap());
        let crowd = |account: &str| -> Vec<Place> {
            std::iter::from_fn(|| hasher.enter(account).ok()).collect()
        };
        let mut first = crowd("first");
        assert_eq!(first.len(), PLACES / 2);
        assert!(matches!(hasher.enter("first"), Err(Error::Overloaded(_))));
        first.pop();
        drop(hasher.enter("first").unwrap());
        let others = ["a", "b", "c", "d", "e"].map(|account| {
            let places = crowd(account);
            assert!(!places.is_empty(), "{account}");
            places
        });
        assert!(hasher.enter("other").is_ok());
        drop((first, others));
        assert!(hasher.taken().is_empty());
    }
}
