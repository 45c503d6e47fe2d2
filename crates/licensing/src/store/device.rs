//! Devices.

use jiff::Timestamp;
use octroi_platform::{Error, Rows, Tx, params, row_get};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::domain::device::{Device, DeviceId, NewDevice, Platform};
use crate::domain::license::LicenseId;
use crate::store::license;

/// The columns that [`from_row`] reads, of `device d`.
macro_rules! device_columns {
    () => {
        "d.id AS device_id, d.platform, d.display_name AS device_display_name, d.shared_computer, d.registered_at,
         d.deactivated_at"
    };
}
pub(crate) use device_columns;

pub(crate) fn insert(tx: &mut Tx, device: &Device) {
    let DeviceId { license, id } = device.id.clone();
    tx.write(
        "-- insert_device
         INSERT INTO device (account, group_id, number, id, platform, display_name, shared_computer, state,
                             registered_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 'ACTIVE', $8)",
        params![
            license.group.account,
            license.group.id,
            license.number,
            id,
            device.device.platform.as_str(),
            device.device.display_name.clone(),
            device.device.shared_computer,
            device.registered_at,
        ],
        Rows::Exactly(1),
    );
}

pub(crate) fn deactivate(tx: &mut Tx, device: &DeviceId, at: Timestamp) {
    let DeviceId { license, id } = device.clone();
    tx.write(
        "-- deactivate_device
         UPDATE device SET state = 'DEACTIVATED', deactivated_at = $5
         WHERE account = $1 AND group_id = $2 AND number = $3 AND id = $4 AND state = 'ACTIVE'",
        params![
            license.group.account,
            license.group.id,
            license.number,
            id,
            at
        ],
        Rows::Exactly(1),
    );
}

/// Deactivates every device of a licence.
pub(crate) fn deactivate_all(tx: &mut Tx, id: &LicenseId, at: Timestamp) {
    let id = id.clone();
    tx.write(
        "-- deactivate_devices
         UPDATE device SET state = 'DEACTIVATED', deactivated_at = greatest($4, registered_at)
         WHERE account = $1 AND group_id = $2 AND number = $3 AND state = 'ACTIVE'",
        params![id.group.account, id.group.id, id.number, at],
        Rows::Any,
    );
}

/// A device, from [`device_columns`]; none where an outer join found none.
pub(crate) fn from_row(row: &Row) -> Result<Option<Device>, Error> {
    let Some(id) = row_get::<Option<Uuid>>(row, "device_id")? else {
        return Ok(None);
    };
    let platform = Platform::parse(row_get(row, "platform")?).ok_or(Error::Corrupt {
        table: "device",
        column: "platform",
        id: id.to_string(),
    })?;
    Ok(Some(Device {
        id: DeviceId {
            license: license::id(row)?,
            id,
        },
        device: NewDevice {
            platform,
            display_name: row_get(row, "device_display_name")?,
            shared_computer: row_get(row, "shared_computer")?,
        },
        registered_at: row_get(row, "registered_at")?,
        deactivated_at: row_get(row, "deactivated_at")?,
    }))
}
