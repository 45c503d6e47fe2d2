//! Rows of `account`.

use octroi_platform::{Error, Rows, Tx, params, row_get};
use tokio_postgres::Row;

use crate::domain::account::Account;

pub(crate) const READ: &str = "-- read_account
    SELECT account, version, locale, currency, zone_names, zone_times FROM account WHERE account = $1";

/// Reads the account that [`READ`] found.
pub(crate) fn from_row(row: &Row) -> Result<Account, Error> {
    let names: Vec<String> = row_get(row, "zone_names")?;
    let times = row_get::<Vec<_>>(row, "zone_times")?;
    Ok(Account {
        id: row_get(row, "account")?,
        version: row_get(row, "version")?,
        locale: row_get(row, "locale")?,
        currency: row_get(row, "currency")?,
        zones: times.into_iter().zip(names).collect(),
    })
}

/// Writes the account's snapshot unless the same or a newer one is there.
pub(crate) fn save(tx: &mut Tx, account: Account) {
    let (times, names): (Vec<_>, Vec<_>) = account.zones.into_iter().unzip();
    tx.write(
        "-- save_account
         INSERT INTO account AS a (account, version, locale, currency, zone_names, zone_times)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (account) DO UPDATE SET version = excluded.version, locale = excluded.locale,
             currency = excluded.currency, zone_names = excluded.zone_names, zone_times = excluded.zone_times
         WHERE a.version < excluded.version",
        params![
            account.id,
            account.version,
            account.locale,
            account.currency,
            names,
            times
        ],
        Rows::Any,
    );
}
