//! Licences: given a user, changed, taken back, deleted.

use std::sync::Arc;

use octroi_api::event::v1::license_deactivated::Cause;
use octroi_platform::name::check_etag;
use octroi_platform::seal::SealingKeys;
use octroi_platform::{Call, Db, Error as Platform, NewEvent, ToSql, Tx, Violations, row_get};
use prost::Message;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio_postgres::Row;

use crate::app::password::{self, Hasher};
use crate::domain::group;
use crate::domain::license::{
    ActivationEmail, Assignment, Changes, License, LicenseId, Refusal, Standing, State, User,
};
use crate::domain::password::broken_rules;
use crate::error::Error;
use crate::store;
use crate::store::license::PasswordHash;

/// The subscriber that mails passwords, and so receives them sealed.
const MAILER: &str = "notification";

/// What a licence's password is sealed for.
const PURPOSE: &str = "password";

mod event;

pub(crate) use event::{deactivated, password_changed};

/// Licences.
#[derive(Clone)]
pub(crate) struct Licenses {
    db: Db,
    hasher: Arc<Hasher>,
    sealing: Arc<SealingKeys>,
}

/// A request to give a licence a user.
pub(crate) struct Activation {
    /// Which licence.
    pub(crate) id: LicenseId,
    /// Who will use it.
    pub(crate) user: User,
    /// The login, complete.
    pub(crate) activation_email: ActivationEmail,
    /// A password that keeps the rules; none to have one made.
    pub(crate) password: Option<SecretString>,
    /// The etag that it must still have, or empty.
    pub(crate) etag: String,
}

/// A request for another password.
pub(crate) struct PasswordChange {
    /// Which licence.
    pub(crate) id: LicenseId,
    /// The password; none to have one made and mailed.
    pub(crate) password: Option<SecretString>,
    /// Whether a given one is mailed.
    pub(crate) send_email: bool,
    /// The etag that it must still have, or empty.
    pub(crate) etag: String,
}

/// A command that holds a licence's row lock: the open transaction, the licence, and how its group stands.
struct Held {
    tx: Tx,
    license: License,
    standing: Standing,
}

impl Licenses {
    pub(crate) fn new(db: Db, hasher: Arc<Hasher>, sealing: Arc<SealingKeys>) -> Self {
        Self {
            db,
            hasher,
            sealing,
        }
    }

    /// One licence.
    pub(crate) async fn get(&self, call: &Call, id: &LicenseId) -> Result<License, Error> {
        may_see(call, id)?;
        let license = store::license::get(&self.db, id).await?;
        Ok(license.ok_or_else(|| not_found(id))?)
    }

    /// At most so many of a group's licences, by number after one.
    pub(crate) async fn list(
        &self,
        call: &Call,
        (account, group): (&str, &str),
        show_deleted: bool,
        (after, limit): (i32, i64),
    ) -> Result<Vec<License>, Error> {
        let name = group::name(account, group);
        call.caller.may_see(account, "license group", &name)?;
        let licenses =
            store::license::list(&self.db, account, group, show_deleted, (after, limit)).await?;
        Ok(licenses.ok_or(Platform::NotFound {
            kind: "license group",
            name,
        })?)
    }

    /// Gives a licence its user. The password is hashed before the transaction begins, and not before a look.
    pub(crate) async fn activate<R: Message + Default>(
        &self,
        call: &Call,
        asked: Activation,
        reply: fn(&License) -> R,
    ) -> Result<R, Error> {
        let id = &asked.id;
        may_see(call, id)?;
        let place = self.hasher.enter(&id.account)?;
        let email = &asked.activation_email;
        let activate = |license: &License, standing| {
            license
                .check_open(standing)
                .and_then(|()| {
                    let at = license.effective(call.now);
                    license.activate(asked.user.clone(), email.clone(), at)
                })
                .map_err(|refusal| refused(id, refusal))
        };
        let seen = match self.look(call, id, Some(email)).await? {
            Ok(seen) => seen,
            Err(answer) => return Ok(answer),
        };
        let (license, standing) = admitted(&seen, call, id, &asked.etag)?;
        activate(&license, standing)?;
        let is_taken = seen.first().map(|row| row_get(row, "address_taken"));
        if is_taken.transpose()?.unwrap_or_default() {
            return Err(taken(email));
        }
        let generated = asked.password.is_none();
        let password = match asked.password {
            Some(chosen) => chosen,
            None => password::generate(email.login())?,
        };
        let hash = place.hash(password.clone()).await?;
        let mut held = match self.hold(call, id, &asked.etag).await? {
            Ok(held) => held,
            Err(answer) => return Ok(answer),
        };
        let after = activate(&held.license, held.standing)?;
        let at = after.updated_at;
        let tx = &mut held.tx;
        store::license::save(tx, &after, PasswordHash::Set(hash));
        store::license::take_address(tx, id, email);
        store::license::open_usage(tx, &after, at);
        store::license::count(tx, &after, 1, 0);
        let mut event =
            event::activated(&after, generated, at).map_err(|refusal| refused(id, refusal))?;
        self.enclose(&mut event, &password)?;
        tx.emit(event);
        held.finish(&after, reply)
            .await
            .map_err(|error| match error {
                Error::Platform(cause) if cause.violates(store::license::ADDRESS_TAKEN) => {
                    taken(email)
                }
                other => other,
            })
    }

    /// Changes the user's name, or whether the licence goes when its group renews.
    pub(crate) async fn update<R: Message + Default>(
        &self,
        call: &Call,
        id: &LicenseId,
        etag: &str,
        changes: Changes,
        reply: fn(&License) -> R,
    ) -> Result<R, Error> {
        may_see(call, id)?;
        let mut held = match self.hold(call, id, etag).await? {
            Ok(held) => held,
            Err(answer) => return Ok(answer),
        };
        let before = &held.license;
        let after = before
            .update(changes, before.effective(call.now))
            .map_err(|refusal| refused(id, refusal))?;
        store::license::save(&mut held.tx, &after, PasswordHash::Kept);
        held.finish(&after, reply).await
    }

    /// Sets a password: sessions end, devices stay. `violations` are those that the request shows without the licence.
    pub(crate) async fn change_password<R: Message + Default>(
        &self,
        call: &Call,
        asked: PasswordChange,
        mut violations: Violations,
        reply: fn(&License) -> R,
    ) -> Result<R, Error> {
        let id = &asked.id;
        may_see(call, id)?;
        let place = self.hasher.enter(&id.account)?;
        let seen = match self.look(call, id, None).await? {
            Ok(seen) => seen,
            Err(answer) => return Ok(answer),
        };
        // The rules need the login, which the request does not name.
        let license = seen.first().map(store::license::license).transpose()?;
        let user = license.as_ref().and_then(|it| it.assignment().ok());
        let login = user.map_or("", |user| user.activation_email.login());
        let mailed = asked.password.is_none() || asked.send_email;
        if let Some(chosen) = &asked.password {
            check_password("password", chosen, login, &mut violations);
        }
        violations.finish()?;
        admitted(&seen, call, id, &asked.etag)?
            .0
            .assignment()
            .map_err(|refusal| refused(id, refusal))?;
        let password = match asked.password {
            None => password::generate(login)?,
            Some(chosen) => chosen,
        };
        let hash = place.hash(password.clone()).await?;
        let mut held = match self.hold(call, id, &asked.etag).await? {
            Ok(held) => held,
            Err(answer) => return Ok(answer),
        };
        let at = held.license.effective(call.now);
        let after = held
            .license
            .with_password(mailed, at)
            .map_err(|refusal| refused(id, refusal))?;
        let tx = &mut held.tx;
        store::license::save(tx, &after, PasswordHash::Set(hash));
        store::session::revoke_all(tx, id, None, at);
        let mut event =
            password_changed(&after, mailed, at).map_err(|refusal| refused(id, refusal))?;
        if mailed {
            self.enclose(&mut event, &password)?;
        }
        tx.emit(event);
        held.finish(&after, reply).await
    }

    /// Takes the user away.
    pub(crate) async fn release<R: Message + Default>(
        &self,
        call: &Call,
        id: &LicenseId,
        etag: &str,
        reply: fn(&License) -> R,
    ) -> Result<R, Error> {
        may_see(call, id)?;
        let mut held = match self.hold(call, id, etag).await? {
            Ok(held) => held,
            Err(answer) => return Ok(answer),
        };
        let after = held
            .license
            .release(held.license.effective(call.now))
            .map_err(|refusal| refused(id, refusal))?;
        held.end_use(&after, Cause::Released, 0);
        held.finish(&after, reply).await
    }

    /// Ends the licence. One without a user was no usage, so nobody else is told.
    pub(crate) async fn delete<R: Message + Default>(
        &self,
        call: &Call,
        id: &LicenseId,
        etag: &str,
        reply: fn(&License) -> R,
    ) -> Result<R, Error> {
        may_see(call, id)?;
        let mut held = match self.hold(call, id, etag).await? {
            Ok(held) => held,
            Err(answer) => return Ok(answer),
        };
        let after = held
            .license
            .delete(held.license.effective(call.now))
            .map_err(|refusal| refused(id, refusal))?;
        held.end_use(&after, Cause::Deleted, -1);
        held.finish(&after, reply).await
    }

    /// Begins a command on one licence, or gives the answer of the same request.
    async fn hold<R: Message + Default>(
        &self,
        call: &Call,
        id: &LicenseId,
        etag: &str,
    ) -> Result<Result<Held, R>, Error> {
        let sql = store::license::lock();
        let begun = self
            .db
            .begin(
                call,
                &id.account,
                &sql,
                &[&id.account, &id.group, &id.number],
            )
            .await?;
        let (tx, rows) = match begun.fresh()? {
            Ok(fresh) => fresh,
            Err(answer) => return Ok(Err(answer)),
        };
        let (license, standing) = admitted(&rows, call, id, etag)?;
        Ok(Ok(Held {
            tx,
            license,
            standing,
        }))
    }

    /// What [`Licenses::hold`] would find, for [`admitted`], or the answer of the same request; and whether an address is
    /// taken. A hash is too dear for a request that is refused or was answered before.
    async fn look<R: Message + Default>(
        &self,
        call: &Call,
        id: &LicenseId,
        address: Option<&ActivationEmail>,
    ) -> Result<Result<Vec<Row>, R>, Error> {
        let sql = store::license::look();
        let address = address.map(ActivationEmail::key);
        let params: [&(dyn ToSql + Sync); 4] = [&id.account, &id.group, &id.number, &address];
        Ok(self.db.look(call, &id.account, &sql, &params).await?)
    }

    /// Puts a password, sealed, beside the event whose mail shows it.
    fn enclose(&self, event: &mut NewEvent, password: &SecretString) -> Result<(), Error> {
        let sealed = self
            .sealing
            .seal(password, &event.account, event.id, PURPOSE)?;
        event.secrets.push((MAILER, sealed));
        Ok(())
    }
}

impl Held {
    /// Writes a licence without its user over one that may have had one, with all that the loss of a user does.
    fn end_use(&mut self, after: &License, cause: Cause, used: i32) {
        let (tx, before) = (&mut self.tx, &self.license);
        let at = after.updated_at;
        store::license::save(tx, after, PasswordHash::Void);
        let State::Active(assignment) = &before.state else {
            store::license::count(tx, after, 0, used);
            return;
        };
        store::license::count(tx, after, -1, used);
        store::license::close_usage(tx, &before.id, at);
        store::license::free_address(tx, &assignment.activation_email);
        store::session::revoke_all(tx, &before.id, None, at);
        store::device::deactivate_all(tx, &before.id, at);
        tx.emit(deactivated(&before.id, &before.offer, cause, at));
    }

    /// Writes the audit row and commits.
    async fn finish<R: Message + Default>(
        mut self,
        after: &License,
        reply: fn(&License) -> R,
    ) -> Result<R, Error> {
        let name = after.id.to_string();
        self.tx
            .audit(&name, Some(audited(&self.license)), Some(audited(after)));
        let answer = reply(after);
        self.tx.commit(&answer).await?;
        Ok(answer)
    }
}

/// Holds a chosen password to every rule.
pub(crate) fn check_password(
    field: &str,
    password: &SecretString,
    login: &str,
    violations: &mut Violations,
) {
    for rule in broken_rules(password, login) {
        violations.add(field, rule.to_string());
    }
}

/// What the audit keeps of a licence: no secret.
pub(crate) fn audited(license: &License) -> Value {
    let user = match &license.state {
        State::Active(Assignment {
            user,
            activation_email,
            password_change_required,
            ..
        }) => json!({
            "first_name": user.first_name,
            "last_name": user.last_name,
            "activation_email": activation_email.as_str(),
            "password_change_required": password_change_required,
        }),
        State::Unassigned | State::Deleted { .. } => Value::Null,
    };
    json!({
        "state": license.state.name(),
        "user": user,
        "delete_at_renewal": license.delete_at_renewal,
        "computers": license.devices.computers,
        "tablets": license.devices.tablets,
        "smartphones": license.devices.smartphones,
        "version": license.version,
    })
}

/// A licence's refusal, with its name.
pub(crate) fn refused(id: &LicenseId, refusal: Refusal) -> Error {
    let (license, group) = (id.to_string(), id.group_name());
    match refusal {
        Refusal::Assigned => Error::LicenseAssigned { license },
        Refusal::Unassigned => Error::LicenseUnassigned { license },
        Refusal::Deleted => Error::LicenseDeleted { license },
        Refusal::GroupSuspended => Error::GroupSuspended { group },
        Refusal::GroupTerminated => Error::GroupTerminated { group },
        Refusal::PeriodEnded => Platform::Conflict("the group's period has just ended").into(),
    }
}

/// A stored answer, decoded.
pub(crate) fn answered<R: Message + Default>(answer: Option<Vec<u8>>) -> Result<Option<R>, Error> {
    let decoded = answer.map(|bytes| R::decode(bytes.as_slice())).transpose();
    Ok(decoded.map_err(|error| Platform::Internal(error.into()))?)
}

/// The licence that was read, for a command that may be done on it.
fn admitted(
    rows: &[Row],
    call: &Call,
    id: &LicenseId,
    etag: &str,
) -> Result<(License, Standing), Error> {
    let row = rows.first().ok_or_else(|| not_found(id))?;
    let license = store::license::license(row)?;
    check_etag(etag, license.version, &id.to_string())?;
    let standing = store::license::standing(row, call.now)?;
    license
        .check_current(standing)
        .map_err(|refusal| refused(id, refusal))?;
    Ok((license, standing))
}

fn taken(email: &ActivationEmail) -> Error {
    Error::ActivationEmailTaken {
        address: email.as_str().to_owned(),
    }
}

fn may_see(call: &Call, id: &LicenseId) -> Result<(), Error> {
    Ok(call
        .caller
        .may_see(&id.account, "license", &id.to_string())?)
}

fn not_found(id: &LicenseId) -> Platform {
    Platform::NotFound {
        kind: "license",
        name: id.to_string(),
    }
}
