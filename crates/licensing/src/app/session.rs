//! Sessions of the portal: signing in and out, and a user's own password.

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use octroi_api::licensing::v1 as wire;
use octroi_platform::{AccountId, Aggregate as _, Call, Error, Name as _, Violations, row_get};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use uuid::Uuid;

use crate::app::license::password_changed;
use crate::app::password::{self, Place, check_password};
use crate::app::portal::Portal;
use crate::domain::license::{LicenseId, account_in};
use crate::domain::portal::{SHARES, Throttle};
use crate::domain::session::{SECRET_BYTES, Session, Token};
use crate::refusal;
use crate::store;
use crate::store::license::PasswordHash;
use crate::store::session::{Key, Visit};
use crate::store::throttle::Subject;

/// The metadata that carries a session's token.
const METADATA: &str = "octroi-session";

pub(crate) struct SignIn {
    pub(crate) address: String,
    pub(crate) password: SecretString,
    /// The user's network, as [`crate::domain::portal::client`] writes it; empty when unknown.
    pub(crate) client: String,
}

pub(crate) struct SignedIn {
    pub(crate) token: SecretString,
    pub(crate) license: LicenseId,
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
    /// The bad fields found so far, reported only to an open session.
    pub(crate) violations: Violations,
}

/// What a session is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Allowed even while the password must be changed.
    Always,
    /// Everything else.
    Portal,
}

/// The session that a call names.
///
/// # Errors
/// SESSION_INVALID when it names none, or one of an account that the caller's token may not touch.
pub(crate) fn key(call: &Call) -> Result<Key, Error> {
    let token = call.metadata(METADATA).and_then(Token::parse);
    let token = token.ok_or_else(refusal::session_invalid)?;
    let own = call.caller.account.as_deref();
    if own.is_some() && own != token.license.account() {
        return Err(refusal::session_invalid().into());
    }
    call.note_account(token.license.group.account.as_str());
    Ok(Key {
        token_hash: sha256(&token.secret),
        license: token.license,
        session: token.session,
    })
}

/// Lets a session in that is open, and open for this.
///
/// # Errors
/// SESSION_INVALID or PASSWORD_CHANGE_REQUIRED.
pub(crate) fn admit(visit: Option<Visit>, now: Timestamp, to: Use) -> Result<Visit, Error> {
    let visit = visit.ok_or_else(refusal::session_invalid)?;
    let assignment = visit.license.assignment();
    let assignment = assignment.map_err(|_| refusal::session_invalid())?;
    if !visit.session.is_open(now) {
        return Err(refusal::session_invalid().into());
    }
    if to == Use::Portal && assignment.password_change_required {
        return Err(refusal::password_change_required(&visit.license.id).into());
    }
    Ok(visit)
}

impl Portal {
    /// Opens a session for who knows the password. Unknown addresses take as long as wrong passwords.
    pub(crate) async fn sign_in(&self, call: &Call, asked: SignIn) -> Result<SignedIn, Error> {
        let address = asked.address.to_ascii_lowercase();
        let bound = call.caller.account.as_deref();
        // The account is taken from the token or the typed address, so that OVERLOADED does not reveal which logins exist.
        let account = bound.unwrap_or_else(|| account_in(&address));
        call.note_account(account);
        let place = self.hasher.enter(account)?;
        let exists = match bound {
            None => true,
            Some(account) => {
                let account = AccountId::new(account);
                store::session::is_login_of(&self.db, &account, &address).await?
            }
        };
        let subjects = || subjects(bound, exists, &address, &asked.client);
        let sought = if exists { address.as_str() } else { "" };
        let attempt = store::throttle::attempt(&self.db, &subjects(), sought, None).await?;
        if let Some(retry_after) = attempt.wait {
            return Err(refusal::sign_in_throttled(retry_after).into());
        }
        let (id, hash) = attempt
            .found
            .filter(|(id, _)| bound.is_none_or(|own| id.account() == Some(own)))
            .unzip();
        let right = place.verify(asked.password, hash.clone()).await?;
        match (id, hash) {
            (Some(id), Some(hash)) if right => self.open_session(call, id, &hash, subjects()).await,
            _ => Err(refusal::sign_in_failed().into()),
        }
    }

    /// Opens a session if the licence still has the password that was verified.
    async fn open_session(
        &self,
        call: &Call,
        id: LicenseId,
        verified: &str,
        counted: Vec<Subject>,
    ) -> Result<SignedIn, Error> {
        let sql = store::license::LOCK_FOR_SIGN_IN;
        let (mut tx, rows) = {
            let key = store::license::key(&id);
            self.db.begin_work(call, sql, &key).await?
        };
        let row = rows.first().ok_or_else(refusal::sign_in_failed)?;
        let license = store::license::from_row(row)?;
        let hash: Option<&str> = row_get(row, "password_hash")?;
        let assignment = license
            .assignment()
            .map_err(|_| refusal::sign_in_failed())?;
        if hash != Some(verified) {
            return Err(refusal::sign_in_failed().into());
        }
        store::throttle::uncount(&mut tx, counted);
        if let Err(closed) = license.check_open(store::license::group_status(row, call.now)?) {
            tx.commit_work().await?;
            return Err(closed);
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
        let sql = store::session::LOCK;
        let (mut tx, rows) = self.db.begin_work(call, sql, &key.params()).await?;
        let visit = rows.first().map(|row| store::session::visit(row, call.now));
        let visit = admit(visit.transpose()?, call.now, Use::Always)?;
        let id = &key.license;
        let at = call.now.max(visit.session.created_at);
        store::session::revoke(&mut tx, id, key.session, at);
        let ended = json!({ "session": key.session.to_string(), "revoked_at": at.to_string() });
        tx.audit(&id.to_string(), None, Some(ended));
        tx.commit_work().await
    }

    /// Changes the user's own password. The other sessions end; this one opens everything from now on.
    pub(crate) async fn change_own_password(
        &self,
        call: &Call,
        key: &Key,
        asked: OwnPasswordChange,
    ) -> Result<wire::ChangeOwnPasswordResponse, Error> {
        let place = self.hasher.enter(key.account())?;
        // The password in use, by which a repetition would be checked, is already the new one.
        self.replay(call, key).await?;
        let read = store::session::with_password(&self.db, key, call.now).await?;
        let (visit, hash) = read.ok_or_else(refusal::session_invalid)?;
        let visit = admit(Some(visit), call.now, Use::Always)?;
        let login = visit.license.assignment()?.activation_email.login();
        let mut violations = asked.violations;
        let new = asked.new.expose_secret();
        if !new.is_empty() && new == asked.current.expose_secret() {
            violations.add("new_password", "must differ from the current password");
        }
        if !new.is_empty() {
            check_password("new_password", &asked.new, login, &mut violations);
        }
        violations.finish()?;
        self.verify_own(call, key, &place, asked.current, hash.clone())
            .await?;
        let new = place.hash(asked.new).await?;
        let sql = store::session::LOCK_WITH_PASSWORD;
        let params = key.params();
        let (mut tx, rows) = self.db.begin(call, key.account(), sql, &params).await?;
        let row = rows.first().ok_or_else(refusal::session_invalid)?;
        let before = admit(
            Some(store::session::visit(row, call.now)?),
            call.now,
            Use::Always,
        )?;
        let before = before.license;
        if row_get::<Option<String>>(row, "password_hash")? != hash {
            return Err(Error::Conflict("the password changed in between"));
        }
        let id = &key.license;
        let at = before.effective(call.now);
        let after = before.with_password(false, at)?;
        store::license::save(&mut tx, &after, PasswordHash::Set(new));
        store::session::revoke_all(&mut tx, id, Some(key.session), at);
        store::throttle::uncount(&mut tx, vec![of_own_password(id)]);
        tx.emit(password_changed(&after, false, at)?);
        let name = id.to_string();
        tx.audit(&name, Some(before.audited()), Some(after.audited()));
        let answer = wire::ChangeOwnPasswordResponse {};
        tx.commit(&answer).await?;
        Ok(answer)
    }

    /// Goes on when this request did not come before.
    ///
    /// # Errors
    /// [`Error::Replayed`] when it did, if the session still opens; else SESSION_INVALID.
    async fn replay(&self, call: &Call, key: &Key) -> Result<(), Error> {
        let replayed = self.db.replay(call, key.account()).await;
        self.admit_replay(call, key, replayed).await
    }

    /// A stored answer is given only to a session that is still open.
    pub(crate) async fn admit_replay<T>(
        &self,
        call: &Call,
        key: &Key,
        begun: Result<T, Error>,
    ) -> Result<T, Error> {
        if let Err(Error::Replayed(_)) = &begun {
            let read = store::session::with_password(&self.db, key, call.now).await?;
            admit(read.map(|(visit, _)| visit), call.now, Use::Always)?;
        }
        begun
    }

    /// Verifies the current password. Like a sign-in it is counted as failed before it is tried; copies of one request are
    /// counted once, and the transaction uncounts a success.
    async fn verify_own(
        &self,
        call: &Call,
        key: &Key,
        place: &Place,
        current: SecretString,
        hash: Option<String>,
    ) -> Result<(), Error> {
        let subjects = || vec![of_own_password(&key.license)];
        let request = call.key(key.account());
        let request = request
            .map(|it| sha256(&[it.request_id.as_bytes(), it.fingerprint.as_slice()].concat()));
        let attempt =
            store::throttle::attempt(&self.db, &subjects(), "", request.as_deref()).await?;
        if attempt.wait.is_none() && place.verify(current, hash).await? {
            return Ok(());
        }
        let replayed = self.replay(call, key).await;
        if let Err(Error::Replayed(_)) = &replayed {
            // Another copy of this request has replaced the password: the attempt was right.
            store::throttle::uncount_now(&self.db, subjects()).await?;
        }
        replayed?;
        Err(match attempt.wait {
            Some(retry_after) => refusal::sign_in_throttled(retry_after).into(),
            None => refusal::wrong_password().into(),
        })
    }
}

/// The counters that a sign-in adds to when it fails. A caller whose token is bound to an account adds to those of the
/// account's own logins, where the login `exists` there, and for all else has counters of its own: its failures lock out
/// nobody but its own users.
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

/// Guesses made inside a session have their own counter, so that outsiders cannot lock a user out of changing a password.
fn of_own_password(id: &LicenseId) -> Subject {
    Subject {
        throttle: Throttle::Login,
        subject: sha256(id.to_string().as_bytes()),
    }
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref().to_vec()
}
