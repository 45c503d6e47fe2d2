//! Payment methods.

use octroi_platform::{AccountId, Error, Rows, Tx, params, row_get};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::domain::payment_method::{GATEWAY, PaymentMethod, PaymentMethodId, TestToken};
use crate::domain::settlement::Attempt;

/// The columns that [`from_row`] reads, of a method under the alias `m`.
macro_rules! payment_method_columns {
    () => {
        "m.account, m.id, m.display_name, m.gateway, m.gateway_token, m.is_default, m.version, m.create_time"
    };
}

/// One method.
pub const READ: &str = concat!(
    "-- get_payment_method
     SELECT ",
    payment_method_columns!(),
    " FROM payment_method m WHERE m.account = $1 AND m.id = $2"
);

/// An account's methods after `$2` by id, which is the order of their making, at most `$3`.
/// One row of nulls means that the account exists and has none.
pub const LIST: &str = concat!(
    "-- list_payment_methods
     SELECT ",
    payment_method_columns!(),
    " FROM account a LEFT JOIN LATERAL (
         SELECT * FROM payment_method m WHERE m.account = a.account AND m.id > $2 ORDER BY m.id LIMIT $3
     ) m ON true
     WHERE a.account = $1 ORDER BY m.id"
);

/// Locks an account.
pub const LOCK_ACCOUNT: &str = "-- lock_account_for_method
     SELECT FROM account WHERE account = $1 FOR NO KEY UPDATE";

/// Maps a row that has [`payment_method_columns`].
pub fn from_row(row: &Row) -> Result<PaymentMethod, Error> {
    let id: Uuid = row_get(row, "id")?;
    Ok(PaymentMethod {
        id: PaymentMethodId {
            account: row_get(row, "account")?,
            id,
        },
        display_name: row_get(row, "display_name")?,
        token: TestToken::parse(row_get(row, "gateway_token")?).map_err(|_| Error::Corrupt {
            table: "payment_method",
            column: "gateway_token",
            id: id.to_string(),
        })?,
        default: row_get(row, "is_default")?,
        version: row_get(row, "version")?,
        created_at: row_get(row, "create_time")?,
    })
}

/// The account's default method.
pub async fn default(tx: &Tx, account: &AccountId) -> Result<Option<PaymentMethod>, Error> {
    const SQL: &str = concat!(
        "-- default_payment_method
         SELECT ",
        payment_method_columns!(),
        " FROM payment_method m WHERE m.account = $1 AND m.is_default"
    );
    tx.query(SQL, &[&account])
        .await?
        .first()
        .map(from_row)
        .transpose()
}

/// Queues that the account's default method is no longer the default.
pub fn clear_default(tx: &mut Tx, account: &AccountId) {
    tx.write(
        "-- clear_default
         UPDATE payment_method SET is_default = false, version = version + 1 WHERE account = $1 AND is_default",
        params![account.clone()],
        Rows::Any,
    );
}

/// Queues a new method. The index "payment_method_one_default" refuses a second default. `brought_by` is the attempt
/// that brought it, which brings one.
pub fn insert(tx: &mut Tx, method: &PaymentMethod, brought_by: Option<&Attempt>) {
    tx.write(
        "-- insert_payment_method
         INSERT INTO payment_method (account, id, display_name, gateway, gateway_token, is_default, order_id, attempt,
             version, create_time)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        params![
            method.id.account.clone(),
            method.id.id,
            method.display_name.clone(),
            GATEWAY,
            method.token.as_str(),
            method.default,
            brought_by.map(|attempt| attempt.order.id.clone()),
            brought_by.map(|attempt| attempt.number),
            method.version,
            method.created_at,
        ],
        Rows::Exactly(1),
    );
}
