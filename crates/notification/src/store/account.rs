//! The versions of accounts.

use jiff::Timestamp;
use octroi_platform::{AccountId, Error, Rows, Tx, params, row_get};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_postgres::Row;

use crate::domain::account::{Account, ZoneChange};
use crate::domain::locale::Locale;

/// A zone change as the column `zones` holds it.
#[derive(Serialize, Deserialize)]
struct StoredZone {
    time_zone: String,
    /// RFC 3339.
    time: String,
}

/// Stores a version of an account, unless it is stored, and wakes the e-mails that waited for the account. They are written
/// whether their time has come or not, so that whoever is about to put them off sees that they changed.
pub fn insert(tx: &mut Tx, id: &AccountId, effective_at: Timestamp, account: &Account) {
    let zones: Vec<Value> = account
        .zones
        .iter()
        .map(|zone| serde_json::json!({"time_zone": zone.time_zone, "time": zone.time.to_string()}))
        .collect();
    tx.write(
        "-- account::insert
         INSERT INTO account
             (account, version, effective_at, contact_email, locale, legal_name, zones)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (account, version) DO NOTHING",
        params![
            id.clone(),
            account.version,
            effective_at,
            account.contact_email.clone(),
            account.locale.tag(),
            account.legal_name.clone(),
            Value::Array(zones),
        ],
        Rows::Any,
    );
    tx.write(
        "-- account::wake
         UPDATE email SET next_attempt_at = now()
         WHERE account = $1 AND state = 'QUEUED' AND place IS NULL AND recipient IS NULL",
        params![id.clone()],
        Rows::Any,
    );
}

/// The account that a row of `email` was joined with, if any.
pub(super) fn joined(row: &Row) -> Result<Option<Account>, Error> {
    let Some(version) = row_get::<Option<i64>>(row, "account_version")? else {
        return Ok(None);
    };
    let zones: Value = row_get(row, "account_zones")?;
    let corrupt = || Error::Corrupt {
        table: "account",
        column: "zones",
        id: format!("version {version}"),
    };
    let zones: Vec<StoredZone> = serde_json::from_value(zones).map_err(|_| corrupt())?;
    let zones = zones
        .into_iter()
        .map(|zone| {
            Ok(ZoneChange {
                time_zone: zone.time_zone,
                time: zone.time.parse().map_err(|_| corrupt())?,
            })
        })
        .collect::<Result<_, Error>>()?;
    Ok(Some(Account {
        version,
        contact_email: row_get(row, "account_contact_email")?,
        locale: Locale::of(row_get(row, "account_locale")?),
        legal_name: row_get(row, "account_legal_name")?,
        zones,
    }))
}
