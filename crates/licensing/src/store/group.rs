//! Rows of `license_group` and `group_offer`.

use std::fmt;

use octroi_platform::{Db, Error, Rows, ToSql, Tx, params, row_get};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::domain::group::{BillingMode, Group, GroupId, Seats, State};
use crate::domain::offer::OfferId;
use crate::domain::period::Period;
use crate::domain::termination::{Reason, Termination};

macro_rules! select {
    ($name:literal, $rest:literal) => {
        select!($name, "license_group g", $rest)
    };
    ($name:literal, $from:literal, $rest:literal) => {
        concat!(
            "-- ",
            $name,
            "
            SELECT g.account, g.group_id, g.display_name, g.state, g.billing_mode, g.renewal_period, g.auto_renew,
                   g.first_date, g.period, g.period_start, g.period_end, g.termination_reasons,
                   g.termination_future_use, g.termination_comment, g.termination_requested_at, g.termination_at,
                   g.next_license_number, g.created_at, g.updated_at, g.version,
                   s.offers, s.used, s.reserved, s.active, s.caps
            FROM ",
            $from,
            "
            CROSS JOIN LATERAL (
                SELECT array_agg(offer ORDER BY offer) AS offers, array_agg(used ORDER BY offer) AS used,
                       array_agg(reserved ORDER BY offer) AS reserved, array_agg(active ORDER BY offer) AS active,
                       array_agg(cap ORDER BY offer) AS caps
                FROM group_offer WHERE group_offer.account = $1 AND group_offer.group_id = g.group_id
            ) s ",
            $rest
        )
    };
}

pub(crate) const READ: &str = select!("read_group", "WHERE g.account = $1 AND g.group_id = $2");

/// A page of an account's groups, by id.
pub(crate) const LIST: &str = select!(
    "list_groups",
    "account a LEFT JOIN LATERAL (
                SELECT * FROM license_group
                WHERE account = $1 AND ($2::text IS NULL OR group_id > $2)
                ORDER BY group_id LIMIT $3
            ) g ON true",
    "WHERE a.account = $1 ORDER BY g.group_id"
);

/// The group of an order, once it exists.
pub(crate) const READ_OF_ORDER: &str = select!(
    "read_group_of_order",
    "WHERE g.account = $1
       AND g.group_id = (SELECT group_id FROM license_order WHERE account = $1 AND order_id = $2)"
);

/// One group, locked; no row while another transaction holds the lock.
pub(crate) const LOCK_FREE: &str = select!(
    "lock_free_group",
    "WHERE g.account = $1 AND g.group_id = $2 FOR UPDATE OF g SKIP LOCKED"
);

/// One group, locked. Its seats are those from before the wait for the lock.
pub(crate) const LOCK: &str = select!(
    "lock_group",
    "WHERE g.account = $1 AND g.group_id = $2 FOR UPDATE OF g"
);

/// One group, locked against its end only, so that orders may be made side by side.
pub(crate) const HOLD: &str = select!(
    "hold_group",
    "WHERE g.account = $1 AND g.group_id = $2 FOR SHARE OF g"
);

/// The parameters that find one group.
pub(crate) fn key(id: &GroupId) -> [&(dyn ToSql + Sync); 2] {
    [&id.account, &id.id]
}

pub(crate) async fn read(db: &Db, id: &GroupId) -> Result<Option<Group>, Error> {
    let row = db.query_opt(READ, &key(id)).await?;
    row.as_ref().map(from_row).transpose()
}

pub(crate) fn insert(tx: &mut Tx, group: &Group) {
    tx.write(
        "-- insert_group
         INSERT INTO license_group (account, group_id, display_name, state, billing_mode, renewal_period, auto_renew,
             first_date, period, period_start, period_end, next_license_number, created_at, updated_at, version)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        params![
            group.id.account.clone(),
            group.id.id.clone(),
            group.display_name.clone(),
            group.state.as_str(),
            group.billing_mode.as_str(),
            group.renewal_period.as_str(),
            group.auto_renew,
            group.first_date,
            group.period.number,
            group.period.start,
            group.period.end,
            group.next_license_number,
            group.created_at,
            group.updated_at,
            group.version,
        ],
        Rows::Exactly(1),
    );
}

/// Writes what a transition changed; the row must still be in the version before.
pub(crate) fn update(tx: &mut Tx, group: &Group) {
    let termination = group.state.termination();
    tx.write(
        "-- update_group
         UPDATE license_group SET display_name = $3, state = $4, auto_renew = $5, period = $6, period_start = $7,
             period_end = $8, termination_reasons = $9, termination_future_use = $10, termination_comment = $11,
             termination_requested_at = $12, termination_at = $13, next_license_number = $14, updated_at = $15,
             version = $16
         WHERE account = $1 AND group_id = $2 AND version + 1 = $16",
        params![
            group.id.account.clone(),
            group.id.id.clone(),
            group.display_name.clone(),
            group.state.as_str(),
            group.auto_renew,
            group.period.number,
            group.period.start,
            group.period.end,
            termination.map(|end| end
                .reasons
                .iter()
                .map(|reason| reason.as_str())
                .collect::<Vec<_>>()),
            termination.map(|end| end.future_use.clone()),
            termination.map(|end| end.comment.clone()),
            termination.and_then(|end| end.requested_at),
            termination.map(|end| end.at),
            group.next_license_number,
            group.updated_at,
            group.version,
        ],
        Rows::Exactly(1),
    );
}

/// A group whose period has ended.
#[derive(Debug, Clone)]
pub(crate) struct Due {
    pub(crate) group: GroupId,
    /// When it ended.
    pub(crate) at: jiff::Timestamp,
}

impl fmt::Display for Due {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}'s period that ended at {}", self.group, self.at)
    }
}

/// Groups whose period has ended by `$1`, the earliest first: those after (`$2`, `$3`, `$4`), at most `$5`.
const DUE: &str = "-- due_groups
    SELECT account, group_id, period_end FROM license_group
    WHERE state <> 'TERMINATED' AND period_end <= $1 AND (period_end, account, group_id) > ($2, $3, $4)
    ORDER BY period_end, account, group_id LIMIT $5";

/// Groups whose period has ended, the earliest first, after one or from the first.
pub(crate) async fn due(
    db: &Db,
    now: jiff::Timestamp,
    after: Option<Due>,
    most: i64,
) -> Result<Vec<Due>, Error> {
    let after = after.as_ref();
    let at = after.map_or(jiff::Timestamp::UNIX_EPOCH, |due| due.at);
    let account = after.map_or("", |due| due.group.account.as_str());
    let group = after.map_or("", |due| due.group.id.as_str());
    let params = [
        (&now as &(dyn ToSql + Sync), Type::TIMESTAMPTZ),
        (&at, Type::TIMESTAMPTZ),
        (&account, Type::TEXT),
        (&group, Type::TEXT),
        (&most, Type::INT8),
    ];
    let rows = db.query_planned(DUE, &params).await?;
    let due = |row| {
        Ok(Due {
            group: id(row)?,
            at: row_get(row, "period_end")?,
        })
    };
    rows.iter().map(due).collect()
}

/// The earliest end of a period that has not been processed.
pub(crate) async fn earliest_period_end(db: &Db) -> Result<Option<jiff::Timestamp>, Error> {
    let sql = "-- earliest_period_end
        SELECT min(period_end) AS due FROM license_group WHERE state <> 'TERMINATED'";
    let rows = db.query_planned(sql, &[]).await?;
    rows.first().map_or(Ok(None), |row| row_get(row, "due"))
}

/// The columns `account` and `group_id`.
pub(crate) fn id(row: &Row) -> Result<GroupId, Error> {
    Ok(GroupId {
        account: row_get(row, "account")?,
        id: row_get(row, "group_id")?,
    })
}

pub(crate) fn from_row(row: &Row) -> Result<Group, Error> {
    let id = id(row)?;
    let corrupt = |column| Error::Corrupt {
        table: "license_group",
        column,
        id: id.to_string(),
    };
    let termination = termination(row)?.map_err(corrupt)?;
    let state = match (row_get::<&str>(row, "state")?, termination) {
        ("ACTIVE", ending) => State::Live {
            suspended: false,
            ending,
        },
        ("SUSPENDED", ending) => State::Live {
            suspended: true,
            ending,
        },
        ("TERMINATED", Some(termination)) => State::Terminated(termination),
        _ => return Err(corrupt("state")),
    };
    let billing_mode = BillingMode::parse(row_get(row, "billing_mode")?);
    Ok(Group {
        display_name: row_get(row, "display_name")?,
        state,
        billing_mode: billing_mode.ok_or_else(|| corrupt("billing_mode"))?,
        renewal_period: row_get::<&str>(row, "renewal_period")?
            .parse()
            .map_err(|_| corrupt("renewal_period"))?,
        auto_renew: row_get(row, "auto_renew")?,
        first_date: row_get(row, "first_date")?,
        period: Period {
            number: row_get(row, "period")?,
            start: row_get(row, "period_start")?,
            end: row_get(row, "period_end")?,
        },
        seats: seats(row)?,
        next_license_number: row_get(row, "next_license_number")?,
        created_at: row_get(row, "created_at")?,
        updated_at: row_get(row, "updated_at")?,
        version: row_get(row, "version")?,
        id,
    })
}

/// The termination, or the column that holds what cannot be.
fn termination(row: &Row) -> Result<Result<Option<Termination>, &'static str>, Error> {
    let Some(at) = row_get(row, "termination_at")? else {
        return Ok(Ok(None));
    };
    let reasons: Vec<String> = row_get(row, "termination_reasons")?;
    let reasons: Option<Vec<Reason>> = reasons.iter().map(|text| Reason::parse(text)).collect();
    let Some(reasons) = reasons else {
        return Ok(Err("termination_reasons"));
    };
    Ok(Ok(Some(Termination {
        reasons,
        future_use: row_get(row, "termination_future_use")?,
        comment: row_get(row, "termination_comment")?,
        at,
        requested_at: row_get(row, "termination_requested_at")?,
    })))
}

/// The seats beside a group's row; none before the first reservation.
fn seats(row: &Row) -> Result<Vec<Seats>, Error> {
    let Some(offers) = row_get::<Option<Vec<OfferId>>>(row, "offers")? else {
        return Ok(Vec::new());
    };
    let used: Vec<i32> = row_get(row, "used")?;
    let reserved: Vec<i32> = row_get(row, "reserved")?;
    let active: Vec<i32> = row_get(row, "active")?;
    let caps: Vec<Option<i32>> = row_get(row, "caps")?;
    let counts = used.into_iter().zip(reserved).zip(active).zip(caps);
    Ok(offers
        .into_iter()
        .zip(counts)
        .map(|(offer, (((used, reserved), active), cap))| Seats {
            offer,
            used,
            active,
            reserved,
            cap,
        })
        .collect())
}
