//! Sessions of the portal: signing in and out, and a user's own password.

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use octroi_platform::{Call, Error as Platform, Violations, row_get};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use uuid::Uuid;

use crate::app::license::{answered, audited, check_password, password_changed, refused};
use crate::app::password::{self, Place};
use crate::app::portal::Portal;
use crate::domain::license::{LicenseId, account_in};
use crate::domain::portal::{SHARES, Throttle};
use crate::domain::session::{SECRET_BYTES, Session, Token};
use crate::error::Error;
use crate::store;
use crate::store::license::PasswordHash;
use crate::store::session::{Key, Visit};
use crate::store::throttle::Subject;

/// The metadata that carries a session's token.
const METADATA: &str = "octroi-session";

/// A sign-in being tried.
pub(crate) struct SignIn {
    /// The activation e-mail as typed.
    pub(crate) address: String,
    /// The password as typed.
    pub(crate) password: SecretString,
    /// Where the user comes from, as [`crate::domain::portal::client`] says it; empty where nobody knows.
    pub(crate) client: String,
}

/// A sign-in that succeeded.
pub(crate) struct SignedIn {
    /// The session's token.
    pub(crate) token: SecretString,
    /// Whose licence.
    pub(crate) license: LicenseId,
    /// Until when the session lasts.
    pub(crate) expires_at: Timestamp,
    /// Whether it opens ChangeOwnPassword alone.
    pub(crate) password_change_required: bool,
}

/// A user's change of their own password.
pub(crate) struct OwnPasswordChange {
    /// The password in use.
    pub(crate) current: SecretString,
    /// The new one.
    pub(crate) new: SecretString,
}

/// What a session is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// What is open even while the password must be changed.
    Always,
    /// Everything else.
    Portal,
}

/// The session that a call names.
///
/// # Errors
/// [`Error::SessionInvalid`] when it names none, or one of an account that the caller's token may not touch.
pub(crate) fn key(call: &Call) -> Result<Key, Error> {
    let token = call.metadata(METADATA).and_then(Token::parse);
    let token = token.ok_or(Error::SessionInvalid)?;
    let name = token.license.to_string();
    call.caller
        .may_see(&token.license.account, "license", &name)
        .map_err(|_| Error::SessionInvalid)?;
    Ok(Key {
        token_hash: sha256(&token.secret),
        license: token.license,
        session: token.session,
    })
}

/// Lets a session in that is open, and open for this.
///
/// # Errors
/// [`Error::SessionInvalid`] or [`Error::PasswordChangeRequired`].
pub(crate) fn admit(visit: Option<Visit>, now: Timestamp, to: Use) -> Result<Visit, Error> {
    let visit = visit.ok_or(Error::SessionInvalid)?;
    let assignment = visit.license.assignment();
    let assignment = assignment.map_err(|_| Error::SessionInvalid)?;
    if !visit.session.is_open(now) {
        return Err(Error::SessionInvalid);
    }
    if to == Use::Portal && assignment.password_change_required {
        return Err(Error::PasswordChangeRequired);
    }
    Ok(visit)
}

impl Portal {
    /// Opens a session for who knows the password. Unknown addresses take as long as wrong passwords.
    pub(crate) async fn sign_in(&self, call: &Call, asked: SignIn) -> Result<SignedIn, Error> {
        let address = asked.address.to_ascii_lowercase();
        let bound = call.caller.account.as_deref();
        // Whose place it takes shows in the token or in what was typed, so that a refusal tells of no login that there is.
        let account = bound.unwrap_or_else(|| account_in(&address));
        let place = self.hasher.enter(account)?;
        let exists = match bound {
            None => true,
            Some(account) => store::session::is_login_of(&self.db, account, &address).await?,
        };
        let subjects = || subjects(bound, exists, &address, &asked.client);
        let sought = if exists { address.as_str() } else { "" };
        let attempt = store::throttle::attempt(&self.db, &subjects(), sought, None).await?;
        if let Some(retry_after) = attempt.wait {
            return Err(Error::SignInThrottled { retry_after });
        }
        let (id, hash) = attempt
            .found
            .filter(|(id, _)| bound.is_none_or(|own| own == id.account))
            .unzip();
        let right = place.verify(asked.password, hash.clone()).await?;
        match (id, hash) {
            (Some(id), Some(hash)) if right => self.open_session(call, id, &hash, subjects()).await,
            _ => Err(Error::SignInFailed),
        }
    }

    /// Opens a session if the licence still has the password that was verified.
    async fn open_session(
        &self,
        call: &Call,
        id: LicenseId,
        verified: &str,
        back: Vec<Subject>,
    ) -> Result<SignedIn, Error> {
        let sql = store::session::lock_for_sign_in();
        let keys: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&id.account, &id.group, &id.number];
        let (mut tx, rows) = self.db.begin_work(call, &sql, &keys).await?;
        let row = rows.first().ok_or(Error::SignInFailed)?;
        let license = store::license::license(row)?;
        let hash: Option<&str> = row_get(row, "password_hash")?;
        let assignment = license.assignment().map_err(|_| Error::SignInFailed)?;
        if hash != Some(verified) {
            return Err(Error::SignInFailed);
        }
        store::throttle::give_back(&mut tx, back);
        if let Err(shut) = license.check_open(store::license::standing(row, call.now)?) {
            tx.commit_work().await?;
            return Err(refused(&id, shut));
        }
        let mut secret = [0; SECRET_BYTES];
        password::fill(&mut secret)?;
        let session = Session::begin(Uuid::now_v7(), call.now);
        store::session::insert(&mut tx, &id, &session, sha256(&secret));
        let opened = json!({ "session": session.id.to_string(), "expires_at": session.expires_at.to_string() });
        tx.audit(&id.to_string(), None, Some(opened));
        tx.commit_work().await?;
        let token = Token {
            license: id.clone(),
            session: session.id,
            secret,
        };
        Ok(SignedIn {
            token: token.to_text(),
            license: id,
            expires_at: session.expires_at,
            password_change_required: assignment.password_change_required,
        })
    }

    /// Ends the session.
    pub(crate) async fn sign_out(&self, call: &Call, key: &Key) -> Result<(), Error> {
        let sql = store::session::lock();
        let (mut tx, rows) = self.db.begin_work(call, &sql, &key.params()).await?;
        let visit = rows.first().map(|row| store::session::visit(row, call.now));
        let visit = admit(visit.transpose()?, call.now, Use::Always)?;
        let id = &key.license;
        let at = call.now.max(visit.session.created_at);
        store::session::revoke(&mut tx, id, key.session, at);
        let ended = json!({ "session": key.session.to_string(), "revoked_at": at.to_string() });
        tx.audit(&id.to_string(), None, Some(ended));
        Ok(tx.commit_work().await?)
    }

    /// Changes the user's own password. The other sessions end; this one opens everything from now on. `violations` are
    /// those that the request shows without the licence.
    pub(crate) async fn change_own_password(
        &self,
        call: &Call,
        key: &Key,
        asked: OwnPasswordChange,
        mut violations: Violations,
    ) -> Result<(), Error> {
        let place = self.hasher.enter(&key.license.account)?;
        // A repetition would be held to the password that it has already replaced.
        if self.replayed(call, key).await? {
            return Ok(());
        }
        let read = store::session::with_password(&self.db, key, call.now).await?;
        let (visit, hash) = read.ok_or(Error::SessionInvalid)?;
        let visit = admit(Some(visit), call.now, Use::Always)?;
        let email = match visit.license.assignment() {
            Ok(assignment) => assignment.activation_email.clone(),
            Err(_) => return Err(Error::SessionInvalid),
        };
        let field = "new_password";
        if asked.new.expose_secret() == asked.current.expose_secret() {
            violations.add(field, "must differ from the current password");
        }
        check_password(field, &asked.new, email.login(), &mut violations);
        violations.finish()?;
        self.verify_own(call, key, &place, asked.current, hash.clone())
            .await?;
        let new = place.hash(asked.new).await?;
        let sql = store::session::lock_with_password();
        let begun = self
            .db
            .begin(call, &key.license.account, &sql, &key.params())
            .await?;
        let (mut tx, rows) = match begun.fresh()? {
            Ok(fresh) => fresh,
            Err(()) => return Ok(()),
        };
        let row = rows.first().ok_or(Error::SessionInvalid)?;
        let before = admit(
            Some(store::session::visit(row, call.now)?),
            call.now,
            Use::Always,
        )?;
        let before = before.license;
        if row_get::<Option<String>>(row, "password_hash")? != hash {
            return Err(Platform::Conflict("the password changed in between").into());
        }
        let id = &key.license;
        let at = before.effective(call.now);
        let after = before
            .with_password(false, at)
            .map_err(|refusal| refused(id, refusal))?;
        store::license::save(&mut tx, &after, PasswordHash::Set(new));
        store::session::revoke_all(&mut tx, id, Some(key.session), at);
        store::throttle::give_back(&mut tx, vec![of_own_password(id)]);
        tx.emit(password_changed(&after, false, at).map_err(|refusal| refused(id, refusal))?);
        tx.audit(
            &id.to_string(),
            Some(audited(&before)),
            Some(audited(&after)),
        );
        Ok(tx.commit(&()).await?)
    }

    /// Whether this request was answered before, for a session that still opens.
    async fn replayed(&self, call: &Call, key: &Key) -> Result<bool, Error> {
        let answer = self.db.replay(call, &key.license.account).await?;
        let answered = answered::<()>(answer)?.is_some();
        if answered {
            self.check_session(call, key).await?;
        }
        Ok(answered)
    }

    /// Whether the session still opens, for a call whose answer was found without it.
    pub(crate) async fn check_session(&self, call: &Call, key: &Key) -> Result<(), Error> {
        let read = store::session::with_password(&self.db, key, call.now).await?;
        admit(read.map(|(visit, _)| visit), call.now, Use::Always).map(|_| ())
    }

    /// Holds the password in use against its hash. Like a sign-in it counts as failed before it is tried; the twins of
    /// one request count once, and the transaction gives back what was right.
    async fn verify_own(
        &self,
        call: &Call,
        key: &Key,
        place: &Place,
        current: SecretString,
        hash: Option<String>,
    ) -> Result<(), Error> {
        let subjects = || vec![of_own_password(&key.license)];
        let request = call.key(&key.license.account);
        let request = request
            .map(|it| sha256(&[it.request_id.as_bytes(), it.fingerprint.as_slice()].concat()));
        let attempt =
            store::throttle::attempt(&self.db, &subjects(), "", request.as_deref()).await?;
        if attempt.wait.is_none() && place.verify(current, hash).await? {
            return Ok(());
        }
        if self.replayed(call, key).await? {
            // The twin that won has replaced the password; the transaction finds its answer.
            store::throttle::give_back_now(&self.db, subjects()).await?;
            return Ok(());
        }
        Err(match attempt.wait {
            Some(retry_after) => Error::SignInThrottled { retry_after },
            None => Error::SignInFailed,
        })
    }
}

/// Whose failures a sign-in's failure adds to. With a token that is bound to an account that is nobody else's: the
/// account's own logins, where `exists`, and counters of its own for all that others use too, or that does not exist for
/// it. What it gets wrong shuts nobody out but its own users.
fn subjects(bound: Option<&str>, exists: bool, address: &str, client: &str) -> Vec<Subject> {
    let kept_apart = |throttle, of: &[u8]| Subject {
        throttle,
        subject: match bound {
            Some(account) => sha256(&[account.as_bytes(), b"\0", of].concat()),
            None => sha256(of),
        },
    };
    let login = of_login(address);
    let share = login.subject.first().copied().unwrap_or_default() % SHARES;
    let login = match exists {
        true => login,
        false => kept_apart(Throttle::Login, address.as_bytes()),
    };
    let mut subjects = vec![login, kept_apart(Throttle::Overall, &[share])];
    if !client.is_empty() {
        subjects.push(kept_apart(Throttle::Client, client.as_bytes()));
    }
    subjects
}

fn of_login(address: &str) -> Subject {
    Subject {
        throttle: Throttle::Login,
        subject: sha256(address.as_bytes()),
    }
}

/// Guesses from inside a session are counted apart, so that nobody outside can keep a user from changing a password.
fn of_own_password(id: &LicenseId) -> Subject {
    Subject {
        throttle: Throttle::Login,
        subject: sha256(id.to_string().as_bytes()),
    }
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref().to_vec()
}
