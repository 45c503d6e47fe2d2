//! Sessions of the portal.

use jiff::Timestamp;
use octroi_platform::{AccountId, Db, Error, Page, Params, Rows, Tx, params, row_get};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::domain::device::Device;
use crate::domain::group::GroupId;
use crate::domain::license::{GroupStatus, License, LicenseId};
use crate::domain::session::Session;
use crate::store::device::{self, device_columns};
use crate::store::group;
use crate::store::license::{self, group_columns, license_columns};

/// A session ($1 account, $2 group, $3 number, $4 session, $5 SHA-256 of its secret) with its licence and group, as
/// [`visit`] reads them.
macro_rules! select {
    ($name:literal, $more:expr, $join:literal, $rest:literal) => {
        concat!(
            "-- ",
            $name,
            "
            SELECT ",
            license_columns!(),
            ", ",
            group_columns!(),
            ",
                   s.id AS session_id, s.created_at AS session_created_at, s.expires_at AS session_expires_at,
                   s.revoked_at AS session_revoked_at, o.shared_computer_activation",
            $more,
            "
            FROM license_group g
            JOIN license l ON l.account = g.account AND l.group_id = g.group_id
            JOIN offer o ON o.offer = l.offer
            JOIN session s ON s.account = l.account AND s.group_id = l.group_id AND s.number = l.number ",
            $join,
            "
            WHERE g.account = $1 AND g.group_id = $2 AND l.number = $3 AND s.id = $4 AND s.token_hash = $5 ",
            $rest
        )
    };
}

/// Identifies and authenticates a session: licence, id, SHA-256 of the secret.
pub(crate) struct Key {
    pub(crate) license: LicenseId,
    pub(crate) session: Uuid,
    pub(crate) token_hash: Vec<u8>,
}

impl Key {
    /// The id of the account whose licence it is.
    pub(crate) fn account(&self) -> &str {
        self.license.group.account.as_str()
    }

    /// The five parameters that every read of a session begins with.
    pub(crate) fn params(&self) -> [&(dyn ToSql + Sync); 5] {
        let [account, group, number] = license::key(&self.license);
        [account, group, number, &self.session, &self.token_hash]
    }
}

/// A session with its licence and group.
pub(crate) struct Visit {
    pub(crate) session: Session,
    pub(crate) license: License,
    pub(crate) group: GroupStatus,
    pub(crate) shared_computers: bool,
}

pub(crate) fn visit(row: &Row, now: Timestamp) -> Result<Visit, Error> {
    Ok(Visit {
        session: Session {
            id: row_get(row, "session_id")?,
            created_at: row_get(row, "session_created_at")?,
            expires_at: row_get(row, "session_expires_at")?,
            revoked_at: row_get(row, "session_revoked_at")?,
        },
        license: license::from_row(row)?,
        group: license::group_status(row, now)?,
        shared_computers: row_get(row, "shared_computer_activation")?,
    })
}

/// The locking read of a session's command: the group before the licence before the session.
pub(crate) const LOCK: &str = select!(
    "lock_session",
    "",
    "",
    "FOR SHARE OF g FOR NO KEY UPDATE OF l, s"
);

/// [`LOCK`] with the licence's password.
pub(crate) const LOCK_WITH_PASSWORD: &str = select!(
    "lock_session_with_password",
    ", l.password_hash",
    "",
    "FOR SHARE OF g FOR NO KEY UPDATE OF l, s"
);

/// [`LOCK`] with one of the licence's devices ($6), if it has it: one registered by the present user. The device is locked
/// too, so that its state is current after a wait for the lock.
pub(crate) const LOCK_WITH_DEVICE: &str = concat!(
    "-- lock_session_with_device
     WITH held AS MATERIALIZED (",
    select!(
        "held_session",
        "",
        "",
        "FOR SHARE OF g FOR NO KEY UPDATE OF l, s"
    ),
    "), found AS MATERIALIZED (
         SELECT ",
    device_columns!(),
    "
         FROM held h
         JOIN device d ON d.account = $1 AND d.group_id = h.group_id AND d.number = h.number
             AND d.id = $6 AND d.registered_at >= h.activated_at
         FOR NO KEY UPDATE OF d
     )
     SELECT * FROM held LEFT JOIN found ON true"
);

/// A session with the licence's password, for a change of it.
pub(crate) async fn with_password(
    db: &Db,
    key: &Key,
    now: Timestamp,
) -> Result<Option<(Visit, Option<String>)>, Error> {
    let sql = select!("get_session_with_password", ", l.password_hash", "", "");
    let row = db.query_opt(sql, &key.params()).await?;
    row.map(|row| Ok((visit(&row, now)?, row_get(&row, "password_hash")?)))
        .transpose()
}

/// A session with the offer's applications and the account's locale, if it is known yet.
pub(crate) async fn with_applications(
    db: &Db,
    key: &Key,
    now: Timestamp,
) -> Result<Option<(Visit, Vec<String>, Option<String>)>, Error> {
    let sql = select!(
        "get_session_with_applications",
        ", o.applications, a.locale",
        "LEFT JOIN account a ON a.account = l.account",
        ""
    );
    let row = db.query_opt(sql, &key.params()).await?;
    row.map(|row| {
        Ok((
            visit(&row, now)?,
            row_get(&row, "applications")?,
            row_get(&row, "locale")?,
        ))
    })
    .transpose()
}

/// A session with a page of the devices that its user registered, by id.
pub(crate) async fn with_devices(
    db: &Db,
    key: &Key,
    show_deactivated: bool,
    page: &Page<Uuid>,
    now: Timestamp,
) -> Result<Option<(Visit, Vec<Device>)>, Error> {
    let sql = select!(
        "list_own_devices",
        concat!(", ", device_columns!()),
        "LEFT JOIN LATERAL (
             SELECT * FROM device
             WHERE account = l.account AND group_id = l.group_id AND number = l.number AND id > $6
                 AND registered_at >= l.activated_at AND ($7 OR state = 'ACTIVE')
             ORDER BY id
             LIMIT $8
         ) d ON true",
        "ORDER BY d.id"
    );
    let [account, group, number, session, hash] = key.params();
    let after = page.after.unwrap_or_default();
    let rows = db
        .query(
            sql,
            &[
                account,
                group,
                number,
                session,
                hash,
                &after,
                &show_deactivated,
                &page.limit,
            ],
        )
        .await?;
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let mut devices = Vec::with_capacity(rows.len());
    for row in &rows {
        devices.extend(device::from_row(row)?);
    }
    Ok(Some((visit(first, now)?, devices)))
}

/// Whether an activation e-mail, in lower case, opens a licence of this account.
pub(crate) async fn is_login_of(
    db: &Db,
    account: &AccountId,
    address: &str,
) -> Result<bool, Error> {
    let row = db
        .query_opt(
            "-- is_login_of
             SELECT FROM activation_address WHERE address = $2 AND account = $1",
            &[&account, &address],
        )
        .await?;
    Ok(row.is_some())
}

pub(crate) fn insert(tx: &mut Tx, id: &LicenseId, session: &Session, token_hash: Vec<u8>) {
    let id = id.clone();
    tx.write(
        "-- insert_session
         INSERT INTO session (account, group_id, number, id, token_hash, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        params![
            id.group.account,
            id.group.id,
            id.number,
            session.id,
            token_hash,
            session.created_at,
            session.expires_at,
        ],
        Rows::Exactly(1),
    );
}

/// Ends one open session.
pub(crate) fn revoke(tx: &mut Tx, id: &LicenseId, session: Uuid, at: Timestamp) {
    let id = id.clone();
    tx.write(
        "-- revoke_session
         UPDATE session SET revoked_at = $5
         WHERE account = $1 AND group_id = $2 AND number = $3 AND id = $4 AND revoked_at IS NULL",
        params![id.group.account, id.group.id, id.number, session, at],
        Rows::Exactly(1),
    );
}

/// Ends every open session of a licence but one.
pub(crate) fn revoke_all(tx: &mut Tx, id: &LicenseId, but: Option<Uuid>, at: Timestamp) {
    let id = id.clone();
    tx.write(
        "-- revoke_sessions
         UPDATE session SET revoked_at = $5
         WHERE account = $1 AND group_id = $2 AND number = $3 AND id IS DISTINCT FROM $4 AND revoked_at IS NULL",
        params![id.group.account, id.group.id, id.number, but, at],
        Rows::Any,
    );
}

/// Sessions that ended a day before `$1` and not before `$2`, the earliest first: `$3` how many.
const ENDED: &str = "-- ended_sessions
    SELECT account, group_id, number, id, expires_at FROM session
    WHERE expires_at < $1::timestamptz - interval '1 day' AND expires_at >= $2
    ORDER BY expires_at LIMIT $3";

/// At most so many sessions that ended a day ago, from an instant on, which goes on to the last one's: the keys of
/// [`delete_ended`].
pub(crate) async fn ended(
    db: &Db,
    now: Timestamp,
    from: &mut Timestamp,
    most: i64,
) -> Result<Vec<Params>, Error> {
    let params = [
        (&now as &(dyn ToSql + Sync), Type::TIMESTAMPTZ),
        (&*from, Type::TIMESTAMPTZ),
        (&most, Type::INT8),
    ];
    let rows = db.query_planned(ENDED, &params).await?;
    if let Some(last) = rows.last() {
        *from = row_get(last, "expires_at")?;
    }
    let key = |row: &Row| {
        let group: GroupId = group::id(row)?;
        let (number, id): (i32, Uuid) = (row_get(row, "number")?, row_get(row, "id")?);
        Ok(params![group.account, group.id, number, id])
    };
    rows.iter().map(key).collect()
}

/// Deletes a session that has ended. It is found by its key alone: no index on when it ended has a say.
pub(crate) fn delete_ended(tx: &mut Tx, key: Params) {
    tx.write(
        "-- delete_ended_session
         DELETE FROM session WHERE account = $1 AND group_id = $2 AND number = $3 AND id = $4",
        key,
        Rows::Any,
    );
}
