//! Devices: what a user installs and takes off again.

use octroi_platform::{Call, Error as Platform};
use prost::Message;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::app::license::{self, audited};
use crate::app::portal::Portal;
use crate::app::session::{Use, admit};
use crate::domain::device::{Device, NewDevice, Refusal};
use crate::domain::license::LicenseId;
use crate::domain::offer;
use crate::error::Error;
use crate::store;
use crate::store::license::PasswordHash;
use crate::store::session::Key;

impl Portal {
    /// Records an installation and takes its place.
    pub(crate) async fn register_device<R: Message + Default>(
        &self,
        call: &Call,
        key: &Key,
        new: NewDevice,
        reply: fn(&LicenseId, &Device) -> R,
    ) -> Result<R, Error> {
        let id = &key.license;
        let sql = store::session::lock();
        let begun = self
            .db
            .begin(call, &id.account, &sql, &key.params())
            .await?;
        let (mut tx, rows) = match begun.fresh()? {
            Ok(fresh) => fresh,
            Err(answer) => {
                self.check_session(call, key).await?;
                return Ok(answer);
            }
        };
        let visit = rows.first().map(|row| store::session::visit(row, call.now));
        let visit = admit(visit.transpose()?, call.now, Use::Portal)?;
        let before = &visit.license;
        before
            .check_open(visit.standing)
            .map_err(|refusal| license::refused(id, refusal))?;
        let counters = new
            .place(before.devices, before.limits, visit.shared_computers)
            .map_err(|refusal| refused(refusal, &before.offer))?;
        let at = before.effective(call.now);
        let after = before.with_devices(counters, at);
        let device = Device {
            id: Uuid::now_v7(),
            device: new,
            registered_at: at,
            deactivated_at: None,
        };
        store::license::save(&mut tx, &after, PasswordHash::Kept);
        store::device::insert(&mut tx, id, &device);
        tx.audit(
            &name(id, &device),
            Some(audited(before)),
            Some(audited(&after)),
        );
        let answer = reply(id, &device);
        tx.commit(&answer).await?;
        Ok(answer)
    }

    /// At most so many of the user's devices, by id after one.
    pub(crate) async fn list_own_devices(
        &self,
        call: &Call,
        key: &Key,
        show_deactivated: bool,
        page: (Uuid, i64),
    ) -> Result<Vec<Device>, Error> {
        let read =
            store::session::with_devices(&self.db, key, show_deactivated, page, call.now).await?;
        let (visit, devices) = read.unzip();
        admit(visit, call.now, Use::Portal)?;
        Ok(devices.unwrap_or_default())
    }

    /// Deactivates one of the user's devices. One that was deactivated before is answered as it is.
    pub(crate) async fn deactivate_own_device<R: Message + Default>(
        &self,
        call: &Call,
        key: &Key,
        device: Uuid,
        reply: fn(&LicenseId, &Device) -> R,
    ) -> Result<R, Error> {
        let id = &key.license;
        let sql = store::session::lock_with_device();
        let [account, group, number, session, hash] = key.params();
        let params: [&(dyn ToSql + Sync); 6] = [account, group, number, session, hash, &device];
        let begun = self.db.begin(call, &id.account, &sql, &params).await?;
        let (mut tx, rows) = match begun.fresh()? {
            Ok(fresh) => fresh,
            Err(answer) => {
                self.check_session(call, key).await?;
                return Ok(answer);
            }
        };
        let row = rows.first().ok_or(Error::SessionInvalid)?;
        let visit = store::session::visit(row, call.now)?;
        let visit = admit(Some(visit), call.now, Use::Portal)?;
        let found = store::device::device(row)?.ok_or_else(|| Platform::NotFound {
            kind: "device",
            name: format!("{id}/devices/{device}"),
        })?;
        let before = &visit.license;
        let at = before.effective(call.now);
        let answer = match found.deactivate(before.devices, at) {
            None => reply(id, &found),
            Some((gone, counters)) => {
                let after = before.with_devices(counters, at);
                store::license::save(&mut tx, &after, PasswordHash::Kept);
                store::device::deactivate(&mut tx, id, gone.id, at.max(gone.registered_at));
                tx.audit(
                    &name(id, &gone),
                    Some(audited(before)),
                    Some(audited(&after)),
                );
                reply(id, &gone)
            }
        };
        tx.commit(&answer).await?;
        Ok(answer)
    }
}

fn name(id: &LicenseId, device: &Device) -> String {
    format!("{id}/devices/{}", device.id)
}

fn refused(refusal: Refusal, offer: &str) -> Error {
    match refusal {
        Refusal::LimitReached { kind, limit } => Error::DeviceLimitReached {
            kind: kind.name(),
            limit,
        },
        Refusal::SharedComputer => Error::SharedComputerNotAllowed {
            offer: offer::name(offer),
        },
    }
}
