//! Accounts.

use jiff::Timestamp;
use octroi_platform::{AccountId, Error, Rows, Tx, params, row_get};
use tokio_postgres::Row;

use super::currency;
use crate::domain::account::{Account, Locale, ZoneChange};
use crate::domain::address::Address;

/// The columns that [`from_row`] reads, of an account under the alias `a`.
macro_rules! account_columns {
    () => {
        "a.account, a.legal_name, a.contact_email, a.address_lines, a.postal_code, a.city, a.country, a.vat_number,
         a.currency, a.seller, a.locale, a.zone_names, a.zone_times, a.first_order_time, a.quoted_time, a.version,
         a.create_time, a.update_time"
    };
}
pub(crate) use account_columns;

/// One account.
pub const READ: &str = concat!(
    "-- get_account
     SELECT ",
    account_columns!(),
    " FROM account a WHERE a.account = $1"
);

/// One account, locked, with the seller that it names or, where `$2` is not null, that one; its columns are null when
/// there is no such seller. Through when licensing's facts are complete, unless some of the account's are held, is read with
/// it: events up to then have been applied, and the locked row shows them.
pub const LOCK_WITH_SELLER: &str = concat!(
    "-- lock_account
     SELECT ",
    account_columns!(),
    ", s.id AS default_seller, s.currency AS default_currency, s.time_zone AS default_zone,
        (SELECT complete_through FROM intake_progress
         WHERE source = 'licensing' AND a.account <> ALL (held_accounts)) AS complete_through
     FROM account a LEFT JOIN seller s ON s.id = coalesce($2, a.seller)
     WHERE a.account = $1
     FOR NO KEY UPDATE OF a"
);

/// Accounts after `$1` by id, at most `$2`; only the account `$3` where that is not null.
pub const LIST: &str = concat!(
    "-- list_accounts
     SELECT ",
    account_columns!(),
    " FROM account a
     WHERE a.account > $1 AND ($3::text IS NULL OR a.account = $3)
     ORDER BY a.account LIMIT $2"
);

/// Maps a row that has [`account_columns`].
pub fn from_row(row: &Row) -> Result<Account, Error> {
    let id: AccountId = row_get(row, "account")?;
    let corrupt = |column| Error::Corrupt {
        table: "account",
        column,
        id: id.to_string(),
    };
    let names: Vec<String> = row_get(row, "zone_names")?;
    let times: Vec<Timestamp> = row_get(row, "zone_times")?;
    let zones = names
        .into_iter()
        .zip(times)
        .map(|(zone, at)| ZoneChange { at, zone });
    Ok(Account {
        legal_name: row_get(row, "legal_name")?,
        contact_email: row_get(row, "contact_email")?,
        address: Address {
            lines: row_get(row, "address_lines")?,
            postal_code: row_get(row, "postal_code")?,
            city: row_get(row, "city")?,
            country: row_get(row, "country")?,
        },
        vat_number: row_get(row, "vat_number")?,
        currency: currency(row, "account", "currency")?,
        seller: row_get(row, "seller")?,
        locale: Locale::parse(row_get(row, "locale")?).ok_or_else(|| corrupt("locale"))?,
        zones: zones.collect(),
        first_order_at: row_get(row, "first_order_time")?,
        quoted_at: row_get(row, "quoted_time")?,
        version: row_get(row, "version")?,
        created_at: row_get(row, "create_time")?,
        updated_at: row_get(row, "update_time")?,
        id,
    })
}

/// Queues a new account. Its constraint's name is "account_pkey".
pub fn insert(tx: &mut Tx, account: &Account) {
    let (names, times) = zones(account);
    tx.write(
        "-- insert_account
         INSERT INTO account (account, legal_name, contact_email, address_lines, postal_code, city, country,
             vat_number, currency, seller, locale, zone_names, zone_times, version, create_time, update_time)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
        params![
            account.id.clone(),
            account.legal_name.clone(),
            account.contact_email.clone(),
            account.address.lines.clone(),
            account.address.postal_code.clone(),
            account.address.city.clone(),
            account.address.country.clone(),
            account.vat_number.clone(),
            account.currency.code(),
            account.seller.clone(),
            account.locale.as_str(),
            names,
            times,
            account.version,
            account.created_at,
            account.updated_at,
        ],
        Rows::Exactly(1),
    );
}

/// Queues a change: `account` is as it is afterwards, one version above the row's.
pub fn update(tx: &mut Tx, account: &Account) {
    let (names, times) = zones(account);
    tx.write(
        "-- update_account
         UPDATE account SET legal_name = $2, contact_email = $3, address_lines = $4, postal_code = $5, city = $6,
             country = $7, vat_number = $8, currency = $9, seller = $10, locale = $11, zone_names = $12,
             zone_times = $13, version = $14, update_time = $15
         WHERE account = $1 AND version = $14::bigint - 1",
        params![
            account.id.clone(),
            account.legal_name.clone(),
            account.contact_email.clone(),
            account.address.lines.clone(),
            account.address.postal_code.clone(),
            account.address.city.clone(),
            account.address.country.clone(),
            account.vat_number.clone(),
            account.currency.code(),
            account.seller.clone(),
            account.locale.as_str(),
            names,
            times,
            account.version,
            account.updated_at,
        ],
        Rows::Exactly(1),
    );
}

/// Queues that the account has an order. The first one fixes currency and seller; the account's version does not change.
pub fn mark_ordered(tx: &mut Tx, account: &AccountId, now: Timestamp) {
    tx.write(
        "-- mark_ordered
         UPDATE account SET first_order_time = $2 WHERE account = $1 AND first_order_time IS NULL",
        params![account.clone(), now],
        Rows::Any,
    );
}

/// Queues that an order was quoted: until it is known whether it was created, currency and seller cannot change.
pub fn mark_quoted(tx: &mut Tx, account: &AccountId, now: Timestamp) {
    tx.write(
        "-- mark_quoted
         UPDATE account SET quoted_time = greatest(quoted_time, $2) WHERE account = $1",
        params![account.clone(), now],
        Rows::Exactly(1),
    );
}

fn zones(account: &Account) -> (Vec<String>, Vec<Timestamp>) {
    account
        .zones
        .iter()
        .map(|change| (change.zone.clone(), change.at))
        .unzip()
}
