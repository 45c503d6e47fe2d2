//! Licences, their activation addresses and usage intervals.

use jiff::Timestamp;
use octroi_platform::{Db, Error, Rows, ToSql, Tx, params, row_get};
use tokio_postgres::Row;

use crate::domain::device::{Counters, Limits};
use crate::domain::group::GroupId;
use crate::domain::license::{
    ActivationEmail, Assignment, GroupState, GroupStatus, License, LicenseId, State, User,
};
use crate::domain::offer::OfferId;
use crate::store::group;

/// Name of the constraint that a second use of an address breaks.
pub(crate) const ADDRESS_TAKEN: &str = "activation_address_taken";

/// The columns that [`from_row`] reads, of `license l` and `offer o`.
macro_rules! license_columns {
    () => {
        "l.account, l.group_id, l.number, l.offer, l.state, l.first_name, l.last_name, l.activation_email,
         l.password_change_required, l.activated_at, l.delete_at_renewal, l.computers, l.tablets, l.smartphones,
         l.created_at, l.updated_at, l.deleted_at, l.version,
         o.display_name AS offer_display_name, o.computer_limit, o.tablet_limit, o.smartphone_limit"
    };
}

/// The columns that [`group_status`] reads, of `license_group g`.
macro_rules! group_columns {
    () => {
        "g.state AS group_state, g.auto_renew AND g.termination_at IS NULL AS group_renews,
         g.period_end AS group_period_end"
    };
}
pub(crate) use {group_columns, license_columns};

/// One licence ($1 account, $2 group, $3 number) with its group.
macro_rules! select {
    ($name:literal, $more:literal, $lock:literal) => {
        concat!(
            "-- ",
            $name,
            "
            SELECT ",
            license_columns!(),
            ", ",
            group_columns!(),
            $more,
            "
            FROM license_group g
            JOIN license l ON l.account = g.account AND l.group_id = g.group_id
            JOIN offer o ON o.offer = l.offer
            WHERE g.account = $1 AND g.group_id = $2 AND l.number = $3 ",
            $lock
        )
    };
}

/// The parameters that find one licence.
pub(crate) fn key(id: &LicenseId) -> [&(dyn ToSql + Sync); 3] {
    [&id.group.account, &id.group.id, &id.number]
}

pub(crate) async fn read(db: &Db, id: &LicenseId) -> Result<Option<License>, Error> {
    const SQL: &str = concat!(
        "-- read_license
         SELECT ",
        license_columns!(),
        "
         FROM license l JOIN offer o ON o.offer = l.offer
         WHERE l.account = $1 AND l.group_id = $2 AND l.number = $3"
    );
    let row = db.query_opt(SQL, &key(id)).await?;
    row.as_ref().map(from_row).transpose()
}

/// A page of a group's licences by number, with those that are deleted or without.
pub(crate) const LIST: &str = concat!(
    "-- list_licenses
     SELECT ",
    license_columns!(),
    "
     FROM license_group g
     LEFT JOIN LATERAL (
         SELECT * FROM license
         WHERE account = g.account AND group_id = g.group_id AND number > $3 AND ($4 OR state <> 'DELETED')
         ORDER BY number
         LIMIT $5
     ) l ON true
     LEFT JOIN offer o ON o.offer = l.offer
     WHERE g.account = $1 AND g.group_id = $2
     ORDER BY l.number"
);

/// The locking read of a command on one licence: the group before the licence.
pub(crate) const LOCK: &str = select!("lock_license", "", "FOR SHARE OF g FOR NO KEY UPDATE OF l");

/// The locking read of a sign-in: the licence stays as it is until the session is there, so that whatever takes the user
/// away ends that session too.
pub(crate) const LOCK_FOR_SIGN_IN: &str = select!(
    "lock_license_for_sign_in",
    ", l.password_hash",
    "FOR SHARE OF g, l"
);

/// What [`LOCK`] reads, without a lock, and whether an address ($4, null for none) is taken: a query of its own within,
/// since addresses lie elsewhere than accounts in a distributed database.
pub(crate) const LOOK: &str = select!(
    "look_at_license",
    ",
            (WITH address AS MATERIALIZED (
                SELECT EXISTS (SELECT FROM activation_address WHERE address = $4) AS taken
             ) SELECT taken FROM address) AS address_taken",
    ""
);

/// What the group allows, from [`group_columns`].
pub(crate) fn group_status(row: &Row, now: Timestamp) -> Result<GroupStatus, Error> {
    let state: &str = row_get(row, "group_state")?;
    let group = GroupState {
        suspended: state == "SUSPENDED",
        terminated: state == "TERMINATED",
        renews: row_get(row, "group_renews")?,
        period_end: row_get(row, "group_period_end")?,
    };
    Ok(GroupStatus::at(now, group))
}

/// What becomes of a licence's password.
#[derive(Clone)]
pub(crate) enum PasswordHash {
    /// Unchanged.
    Kept,
    /// The PHC string of a new one.
    Set(String),
    /// Removed.
    Void,
}

/// Queues a licence's next version.
pub(crate) fn save(tx: &mut Tx, license: &License, password: PasswordHash) {
    let (assignment, deleted_at) = match &license.state {
        State::Unassigned => (None, None),
        State::Active(assignment) => (Some(assignment.clone()), None),
        State::Deleted { at } => (None, Some(*at)),
    };
    let (keep, hash) = match password {
        PasswordHash::Kept => (true, None),
        PasswordHash::Set(hash) => (false, Some(hash)),
        PasswordHash::Void => (false, None),
    };
    let LicenseId { group, number } = license.id.clone();
    let user = assignment.as_ref().map(|it| it.user.clone());
    let params = params![
        group.account,
        group.id,
        number,
        license.state.as_str(),
        user.as_ref().map(|user| user.first_name.clone()),
        user.map(|user| user.last_name),
        assignment
            .as_ref()
            .map(|it| it.activation_email.as_str().to_owned()),
        assignment.as_ref().map(|it| it.password_change_required),
        assignment.map(|it| it.activated_at),
        deleted_at,
        license.delete_at_renewal,
        license.devices.computers,
        license.devices.tablets,
        license.devices.smartphones,
        license.updated_at,
        license.version,
        keep,
        hash,
    ];
    tx.write(
        "-- save_license
         UPDATE license SET
             state = $4, first_name = $5, last_name = $6, activation_email = $7, password_change_required = $8,
             activated_at = $9, deleted_at = $10, delete_at_renewal = $11, computers = $12, tablets = $13,
             smartphones = $14, updated_at = $15, version = $16,
             password_hash = CASE WHEN $17 THEN password_hash ELSE $18 END
         WHERE account = $1 AND group_id = $2 AND number = $3 AND version = $16::bigint - 1",
        params,
        Rows::Exactly(1),
    );
}

/// Reserves an address for a licence. A second licence breaks [`ADDRESS_TAKEN`].
pub(crate) fn take_address(tx: &mut Tx, id: &LicenseId, email: &ActivationEmail) {
    let id = id.clone();
    tx.write(
        "-- take_address
         INSERT INTO activation_address (address, account, group_id, number) VALUES ($1, $2, $3, $4)",
        params![email.key(), id.group.account, id.group.id, id.number],
        Rows::Exactly(1),
    );
}

pub(crate) fn free_address(tx: &mut Tx, email: &ActivationEmail) {
    tx.write(
        "-- free_address
         DELETE FROM activation_address WHERE address = $1",
        params![email.key()],
        Rows::Exactly(1),
    );
}

/// Opens a seat's usage. An empty interval that began at this very instant goes on.
pub(crate) fn open_usage(tx: &mut Tx, license: &License, at: Timestamp) {
    let id = license.id.clone();
    tx.write(
        "-- open_usage
         INSERT INTO usage_interval AS u (account, group_id, offer, seat, started_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (account, group_id, seat, started_at) DO UPDATE SET ended_at = NULL
             WHERE u.ended_at = u.started_at",
        params![id.group.account, id.group.id, license.offer.clone(), id.number, at],
        Rows::Exactly(1),
    );
}

/// Closes a seat's open usage.
pub(crate) fn close_usage(tx: &mut Tx, id: &LicenseId, at: Timestamp) {
    let id = id.clone();
    tx.write(
        "-- close_usage
         UPDATE usage_interval SET ended_at = $4
         WHERE account = $1 AND group_id = $2 AND seat = $3 AND ended_at IS NULL AND started_at <= $4",
        params![id.group.account, id.group.id, id.number, at],
        Rows::Exactly(1),
    );
}

/// Counts licences and users of an offer in a group, up or down.
pub(crate) fn count(tx: &mut Tx, license: &License, active: i32, used: i32) {
    let id = license.id.clone();
    tx.write(
        "-- count_seats
         UPDATE group_offer SET active = active + $4, used = used + $5
         WHERE account = $1 AND group_id = $2 AND offer = $3 AND active + $4 BETWEEN 0 AND used + $5",
        params![id.group.account, id.group.id, license.offer.clone(), active, used],
        Rows::Exactly(1),
    );
}

/// Which of a group's licences are deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seats {
    /// Every one: the group is terminated.
    All,
    /// Those marked `delete_at_renewal`.
    DeletedAtRenewal,
}

/// What [`close_seats`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closed {
    /// How many licences are deleted now that were not before, with a user or without.
    pub(crate) licenses: i64,
    /// Those of them that had a user, by number.
    pub(crate) active: Vec<ClosedSeat>,
}

/// A seat whose usage ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClosedSeat {
    pub(crate) id: LicenseId,
    pub(crate) offer: OfferId,
    /// When its usage ended: the given instant, or its activation if that came later.
    pub(crate) ended_at: Timestamp,
}

/// Deletes many of a group's licences at an instant, with all that this does: usage ends, sessions end, devices are
/// deactivated, passwords are void, addresses free, and the group's counters fall. The caller holds the group's row FOR
/// UPDATE, emits the events of the active seats, and writes the audit row. It runs at once, in one round trip, before
/// whatever `tx` has queued.
pub(crate) async fn close_seats(
    tx: &Tx,
    group: &GroupId,
    which: Seats,
    at: Timestamp,
) -> Result<Closed, Error> {
    let marked = which == Seats::DeletedAtRenewal;
    let rows = tx
        .query(CLOSE_SEATS, &[&group.account, &group.id, &at, &marked])
        .await?;
    let mut closed = Closed {
        licenses: 0,
        active: Vec::new(),
    };
    for row in &rows {
        closed.licenses = row_get(row, "licenses")?;
        let Some(number) = row_get(row, "number")? else {
            continue;
        };
        closed.active.push(ClosedSeat {
            id: LicenseId {
                group: group.clone(),
                number,
            },
            offer: row_get(row, "offer")?,
            ended_at: row_get(row, "ended_at")?,
        });
    }
    Ok(closed)
}

const CLOSE_SEATS: &str = "-- close_seats
    WITH seat AS MATERIALIZED (
        SELECT number, offer, state = 'ACTIVE' AS active, lower(activation_email) AS address,
               greatest($3::timestamptz, created_at, activated_at) AS ended_at
        FROM license
        WHERE account = $1 AND group_id = $2 AND state <> 'DELETED' AND (delete_at_renewal OR NOT $4)
    ), gone AS (
        UPDATE license l SET
            state = 'DELETED', first_name = NULL, last_name = NULL, activation_email = NULL, password_hash = NULL,
            password_change_required = NULL, activated_at = NULL, computers = 0, tablets = 0, smartphones = 0,
            deleted_at = seat.ended_at, updated_at = greatest(l.updated_at, seat.ended_at), version = l.version + 1
        FROM seat WHERE l.account = $1 AND l.group_id = $2 AND l.number = seat.number
        RETURNING 1
    ), closed AS (
        UPDATE usage_interval u SET ended_at = greatest(seat.ended_at, u.started_at)
        FROM seat WHERE u.account = $1 AND u.group_id = $2 AND u.seat = seat.number AND u.ended_at IS NULL
        RETURNING 1
    ), freed AS (
        DELETE FROM activation_address a USING seat
        WHERE a.address = seat.address AND a.account = $1 AND a.group_id = $2 AND a.number = seat.number
        RETURNING 1
    ), revoked AS (
        UPDATE session s SET revoked_at = seat.ended_at
        FROM seat WHERE s.account = $1 AND s.group_id = $2 AND s.number = seat.number AND s.revoked_at IS NULL
    ), deactivated AS (
        UPDATE device d SET state = 'DEACTIVATED', deactivated_at = greatest(seat.ended_at, d.registered_at)
        FROM seat WHERE d.account = $1 AND d.group_id = $2 AND d.number = seat.number AND d.state = 'ACTIVE'
    ), fall AS (
        SELECT offer, count(*) FILTER (WHERE active)::int AS active, count(*)::int AS used FROM seat GROUP BY offer
    ), counted AS (
        UPDATE group_offer o SET active = o.active - fall.active, used = o.used - fall.used
        FROM fall WHERE o.account = $1 AND o.group_id = $2 AND o.offer = fall.offer
        RETURNING 1
    ), done AS MATERIALIZED (
        SELECT (SELECT count(*) FROM seat) AS licenses,
               expect_rows((SELECT count(*) FROM gone), (SELECT count(*) FROM seat))::text AS guard_gone,
               expect_rows((SELECT count(*) FROM closed), (SELECT count(*) FROM seat WHERE active))::text AS guard_closed,
               expect_rows((SELECT count(*) FROM freed), (SELECT count(*) FROM seat WHERE active))::text AS guard_freed,
               expect_rows((SELECT count(*) FROM counted), (SELECT count(*) FROM fall))::text AS guard_counted
    )
    SELECT done.*, seat.number, seat.offer, seat.ended_at
    FROM done LEFT JOIN seat ON seat.active
    ORDER BY seat.number";

/// The columns `account`, `group_id` and `number`.
pub(crate) fn id(row: &Row) -> Result<LicenseId, Error> {
    Ok(LicenseId {
        group: group::id(row)?,
        number: row_get(row, "number")?,
    })
}

/// A licence, from [`license_columns`].
pub(crate) fn from_row(row: &Row) -> Result<License, Error> {
    let id = id(row)?;
    Ok(License {
        offer: row_get(row, "offer")?,
        offer_display_name: row_get(row, "offer_display_name")?,
        state: state(row, &id)?,
        delete_at_renewal: row_get(row, "delete_at_renewal")?,
        devices: Counters {
            computers: row_get(row, "computers")?,
            tablets: row_get(row, "tablets")?,
            smartphones: row_get(row, "smartphones")?,
        },
        limits: Limits {
            computers: row_get(row, "computer_limit")?,
            tablets: row_get(row, "tablet_limit")?,
            smartphones: row_get(row, "smartphone_limit")?,
        },
        created_at: row_get(row, "created_at")?,
        updated_at: row_get(row, "updated_at")?,
        version: row_get(row, "version")?,
        id,
    })
}

fn state(row: &Row, id: &LicenseId) -> Result<State, Error> {
    Ok(match row_get(row, "state")? {
        "UNASSIGNED" => State::Unassigned,
        "ACTIVE" => State::Active(Assignment {
            user: User {
                first_name: row_get(row, "first_name")?,
                last_name: row_get(row, "last_name")?,
            },
            activation_email: ActivationEmail::stored(row_get(row, "activation_email")?),
            password_change_required: row_get(row, "password_change_required")?,
            activated_at: row_get(row, "activated_at")?,
        }),
        "DELETED" => State::Deleted {
            at: row_get(row, "deleted_at")?,
        },
        _ => {
            return Err(Error::Corrupt {
                table: "license",
                column: "state",
                id: id.to_string(),
            });
        }
    })
}
