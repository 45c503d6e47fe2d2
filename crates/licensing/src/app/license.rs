//! Licences: activated, changed, released and deleted.

use std::num::NonZeroU32;
use std::sync::Arc;

use octroi_api::event::v1::license_deactivated::Cause;
use octroi_api::licensing::v1 as wire;
use octroi_platform::name::check_etag;
use octroi_platform::seal::SealingKeys;
use octroi_platform::{
    Aggregate, Call, Db, Error, Held, NewEvent, Page, ToSql, Violations, row_get,
};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio_postgres::Row;

use crate::app::password::{self, Hasher, check_password};
use crate::domain::group::GroupId;
use crate::domain::license::{
    ActivationEmail, Assignment, Changes, GroupStatus, License, LicenseId, State, User,
};
use crate::refusal;
use crate::store;
use crate::store::license::PasswordHash;

/// The subscriber that mails passwords, and so receives them sealed.
const MAILER: &str = "notification";

/// What a licence's password is sealed for.
const PURPOSE: &str = "password";

mod event;

pub(crate) use event::{deactivated, password_changed};

impl Aggregate for License {
    type Id = LicenseId;
    type Wire = wire::License;

    fn id(&self) -> &LicenseId {
        &self.id
    }

    fn version(&self) -> i64 {
        self.version
    }

    fn audited(&self) -> Value {
        let user = match &self.state {
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
            "state": self.state.as_str(),
            "user": user,
            "delete_at_renewal": self.delete_at_renewal,
            "computers": self.devices.computers,
            "tablets": self.devices.tablets,
            "smartphones": self.devices.smartphones,
            "version": self.version,
        })
    }
}

#[derive(Clone)]
pub(crate) struct Licenses {
    pub(crate) db: Db,
    pub(crate) hasher: Arc<Hasher>,
    pub(crate) sealing: Arc<SealingKeys>,
}

pub(crate) struct Activation {
    pub(crate) user: User,
    pub(crate) activation_email: ActivationEmail,
    /// Already checked; none to generate one.
    pub(crate) password: Option<SecretString>,
}

pub(crate) struct PasswordChange {
    /// A password that keeps every rule but that of the login, which is not known yet. None to generate and mail one.
    pub(crate) password: Option<SecretString>,
    /// Whether a given one is mailed.
    pub(crate) send_email: bool,
}

impl Licenses {
    pub(crate) async fn get(&self, call: &Call, id: &LicenseId) -> Result<License, Error> {
        let license = store::license::read(&self.db, id).await?;
        license.ok_or_else(|| call.not_found(id))
    }

    /// A page of a group's licences, by number.
    pub(crate) async fn list(
        &self,
        call: &Call,
        group: &GroupId,
        show_deleted: bool,
        page: &Page<NonZeroU32>,
    ) -> Result<Vec<License>, Error> {
        let after = page
            .after
            .map_or(0, |number| i32::try_from(number.get()).unwrap_or(i32::MAX));
        let [account, id] = store::group::key(group);
        let params: [&(dyn ToSql + Sync); 5] = [account, id, &after, &show_deleted, &page.limit];
        let (sql, from_row) = (store::license::LIST, store::license::from_row);
        self.db.list(call, group, sql, &params, from_row).await
    }

    /// Assigns a user. The password is hashed before the transaction begins, and after the request was checked without a
    /// lock.
    pub(crate) async fn activate(
        &self,
        call: &Call,
        id: &LicenseId,
        etag: &str,
        asked: Activation,
    ) -> Result<wire::License, Error> {
        let place = self.hasher.enter(id.group.account.as_str())?;
        let email = &asked.activation_email;
        let activate = |license: &License, group| -> Result<License, Error> {
            license.check_open(group)?;
            let at = license.effective(call.now);
            Ok(license.activate(asked.user.clone(), email.clone(), at)?)
        };
        let row = self.look(call, id, Some(email)).await?;
        let row = row.ok_or_else(|| call.not_found(id))?;
        let license = store::license::from_row(&row)?;
        check_etag(etag, license.version, id)?;
        activate(&license, current(&license, &row, call)?)?;
        if row_get(&row, "address_taken")? {
            return Err(refusal::activation_email_taken(email).into());
        }
        let generated = asked.password.is_none();
        let password = match asked.password {
            Some(chosen) => chosen,
            None => password::generate(email.login())?,
        };
        let hash = place.hash(password.clone()).await?;
        let changed = self.change(call, id, etag, |held| {
            let group = store::license::group_status(&held.row, call.now)?;
            let after = activate(&held.now, group)?;
            let (tx, at) = (&mut held.tx, after.updated_at);
            store::license::save(tx, &after, PasswordHash::Set(hash));
            store::license::take_address(tx, id, email);
            store::license::open_usage(tx, &after, at);
            store::license::count(tx, &after, 1, 0);
            let mut event = event::activated(&after, generated, at)?;
            self.enclose(&mut event, &password)?;
            tx.emit(event);
            Ok(after)
        });
        changed.await.map_err(|error| {
            if error.violates(store::license::ADDRESS_TAKEN) {
                refusal::activation_email_taken(email).into()
            } else {
                error
            }
        })
    }

    /// Changes the user's name, or whether the licence is deleted when its group renews.
    pub(crate) async fn update(
        &self,
        call: &Call,
        id: &LicenseId,
        etag: &str,
        changes: Changes,
    ) -> Result<wire::License, Error> {
        self.change(call, id, etag, |held| {
            let after = held.now.update(changes, held.now.effective(call.now))?;
            store::license::save(&mut held.tx, &after, PasswordHash::Kept);
            Ok(after)
        })
        .await
    }

    /// Sets a password: sessions end, devices stay.
    pub(crate) async fn change_password(
        &self,
        call: &Call,
        id: &LicenseId,
        etag: &str,
        asked: PasswordChange,
    ) -> Result<wire::License, Error> {
        let place = self.hasher.enter(id.group.account.as_str())?;
        let row = self.look(call, id, None).await?;
        let license = row.as_ref().map(store::license::from_row).transpose()?;
        let user = license.as_ref().and_then(|it| it.assignment().ok());
        let login = user.map_or("", |user| user.activation_email.login());
        let mut violations = Violations::default();
        if let Some(chosen) = &asked.password {
            check_password("password", chosen, login, &mut violations);
        }
        violations.finish()?;
        let (row, license) = row
            .zip(license.as_ref())
            .ok_or_else(|| call.not_found(id))?;
        check_etag(etag, license.version, id)?;
        current(license, &row, call)?;
        license.assignment()?;
        let mailed = asked.password.is_none() || asked.send_email;
        let password = match asked.password {
            None => password::generate(login)?,
            Some(chosen) => chosen,
        };
        let hash = place.hash(password.clone()).await?;
        self.change(call, id, etag, |held| {
            let at = held.now.effective(call.now);
            let after = held.now.with_password(mailed, at)?;
            let tx = &mut held.tx;
            store::license::save(tx, &after, PasswordHash::Set(hash));
            store::session::revoke_all(tx, id, None, at);
            let mut event = password_changed(&after, mailed, at)?;
            if mailed {
                self.enclose(&mut event, &password)?;
            }
            tx.emit(event);
            Ok(after)
        })
        .await
    }

    /// Takes the user away.
    pub(crate) async fn release(
        &self,
        call: &Call,
        id: &LicenseId,
        etag: &str,
    ) -> Result<wire::License, Error> {
        self.change(call, id, etag, |held| {
            let after = held.now.release(held.now.effective(call.now))?;
            end_use(held, &after, Cause::Released, 0);
            Ok(after)
        })
        .await
    }

    /// Deletes the licence. One without a user has no usage to end, and emits no event.
    pub(crate) async fn delete(
        &self,
        call: &Call,
        id: &LicenseId,
        etag: &str,
    ) -> Result<wire::License, Error> {
        self.change(call, id, etag, |held| {
            let after = held.now.delete(held.now.effective(call.now))?;
            end_use(held, &after, Cause::Deleted, -1);
            Ok(after)
        })
        .await
    }

    /// Changes a licence whose group's period is not over.
    async fn change(
        &self,
        call: &Call,
        id: &LicenseId,
        etag: &str,
        change: impl FnOnce(&mut Held<License>) -> Result<License, Error>,
    ) -> Result<wire::License, Error> {
        let (lock, key) = (store::license::LOCK, store::license::key(id));
        let from_row = store::license::from_row;
        self.db
            .change(call, (id, etag), (lock, &key), from_row, |held| {
                current(&held.now, &held.row, call)?;
                change(held)
            })
            .await
    }

    /// Reads without a lock what [`Licenses::change`] will lock, and whether an address is taken: hashing is too expensive
    /// for a request that will be refused or is a replay.
    async fn look(
        &self,
        call: &Call,
        id: &LicenseId,
        address: Option<&ActivationEmail>,
    ) -> Result<Option<Row>, Error> {
        let (sql, address) = (store::license::LOOK, address.map(ActivationEmail::key));
        let [account, group, number] = store::license::key(id);
        let params = [account, group, number, &address];
        let account = id.group.account.as_str();
        let rows = self.db.look(call, account, sql, &params).await?;
        Ok(rows.into_iter().next())
    }

    /// Attaches a sealed password to the event whose e-mail shows it.
    fn enclose(&self, event: &mut NewEvent, password: &SecretString) -> Result<(), Error> {
        let sealed = self
            .sealing
            .seal(password, &event.account, event.id, PURPOSE)?;
        event.secrets.push((MAILER, sealed));
        Ok(())
    }
}

/// The group's status, where the licence may be changed now.
fn current(license: &License, row: &Row, call: &Call) -> Result<GroupStatus, Error> {
    let group = store::license::group_status(row, call.now)?;
    license.check_current(group)?;
    Ok(group)
}

/// Saves a licence without its user, whose usage, sessions and devices end.
fn end_use(held: &mut Held<License>, after: &License, cause: Cause, used: i32) {
    let (tx, before, at) = (&mut held.tx, &held.now, after.updated_at);
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
