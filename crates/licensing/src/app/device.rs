//! Devices: what a user installs and takes off again.

use octroi_api::licensing::v1 as wire;
use octroi_platform::{Aggregate, Call, Error, Page, Tx};
use serde_json::{Value, json};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::app::portal::Portal;
use crate::app::session::{Use, admit};
use crate::domain::device::{Device, DeviceId, NewDevice};
use crate::domain::license::License;
use crate::refusal;
use crate::store;
use crate::store::license::PasswordHash;
use crate::store::session::Key;

impl Aggregate for Device {
    type Id = DeviceId;
    type Wire = wire::Device;

    fn id(&self) -> &DeviceId {
        &self.id
    }

    /// It changes once: when it is deactivated.
    fn version(&self) -> i64 {
        1 + i64::from(self.deactivated_at.is_some())
    }

    fn audited(&self) -> Value {
        json!({
            "platform": self.device.platform.as_str(),
            "display_name": self.device.display_name,
            "shared_computer": self.device.shared_computer,
            "registered_at": self.registered_at.to_string(),
            "deactivated_at": self.deactivated_at.map(|at| at.to_string()),
        })
    }
}

/// Queues the licence with what its devices became.
fn save(tx: &mut Tx, before: &License, after: &License) {
    store::license::save(tx, after, PasswordHash::Kept);
    let name = before.id.to_string();
    tx.audit(&name, Some(before.audited()), Some(after.audited()));
}

impl Portal {
    /// Records an installation, which takes its place among the licence's devices.
    pub(crate) async fn register_device(
        &self,
        call: &Call,
        key: &Key,
        new: NewDevice,
    ) -> Result<wire::Device, Error> {
        let (sql, params) = (store::session::LOCK, key.params());
        let begun = self.db.begin(call, key.account(), sql, &params).await;
        let (mut tx, rows) = self.admit_replay(call, key, begun).await?;
        let visit = rows.first().map(|row| store::session::visit(row, call.now));
        let visit = admit(visit.transpose()?, call.now, Use::Portal)?;
        let before = &visit.license;
        before.check_open(visit.group)?;
        let devices = new.place(
            before.devices,
            before.limits,
            &before.offer,
            visit.shared_computers,
        )?;
        let at = before.effective(call.now);
        let after = before.with_devices(devices, at);
        let device = Device {
            id: DeviceId {
                license: before.id.clone(),
                id: Uuid::now_v7(),
            },
            device: new,
            registered_at: at,
            deactivated_at: None,
        };
        save(&mut tx, before, &after);
        store::device::insert(&mut tx, &device);
        tx.keep(None, &device).await
    }

    /// A page of the user's devices, by id.
    pub(crate) async fn list_own_devices(
        &self,
        call: &Call,
        key: &Key,
        show_deactivated: bool,
        page: &Page<Uuid>,
    ) -> Result<Vec<Device>, Error> {
        let read =
            store::session::with_devices(&self.db, key, show_deactivated, page, call.now).await?;
        let (visit, devices) = read.unzip();
        admit(visit, call.now, Use::Portal)?;
        Ok(devices.unwrap_or_default())
    }

    /// Deactivates one of the user's devices. One that was deactivated before is answered as it is.
    pub(crate) async fn deactivate_own_device(
        &self,
        call: &Call,
        key: &Key,
        id: &DeviceId,
    ) -> Result<wire::Device, Error> {
        if id.license != key.license {
            return Err(call.not_found(id));
        }
        let sql = store::session::LOCK_WITH_DEVICE;
        let [account, group, number, session, hash] = key.params();
        let params: [&(dyn ToSql + Sync); 6] = [account, group, number, session, hash, &id.id];
        let begun = self.db.begin(call, key.account(), sql, &params).await;
        let (mut tx, rows) = self.admit_replay(call, key, begun).await?;
        let row = rows.first().ok_or_else(refusal::session_invalid)?;
        let visit = store::session::visit(row, call.now)?;
        let visit = admit(Some(visit), call.now, Use::Portal)?;
        let found = store::device::from_row(row)?.ok_or_else(|| call.not_found(id))?;
        let before = &visit.license;
        let at = before.effective(call.now);
        let Some((gone, devices)) = found.deactivate(before.devices, at) else {
            return tx.keep(Some(&found), &found).await;
        };
        save(&mut tx, before, &before.with_devices(devices, at));
        store::device::deactivate(&mut tx, id, at.max(gone.registered_at));
        tx.keep(Some(&found), &gone).await
    }
}
