//! Ranges of a bill run's accounts: leased to a worker each, so that several share a run.

use std::time::Duration;

use jiff::Timestamp;
use octroi_calendar::Month;
use octroi_platform::{AccountId, Call, Db, Error, Rows, ToSql, Tx, params, row_get};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::bill_run::read_month;
use crate::domain::bill_run::BillRunId;

/// How long a range is leased unless the lease is renewed.
const LEASE_SECONDS: i64 = 30;

/// How often it is renewed: a chunk may take longer, and so may the search for an account that fails one.
pub const RENEW_EVERY: Duration = Duration::from_secs(10);

/// How many accounts a range has at most.
const ACCOUNTS: i64 = 500;

/// After how many intervals of its accounts' a range ends.
const INTERVALS: i64 = 5_000;

/// How much larger a dry run's ranges are: it writes nothing that anybody could wait for.
const DRY: i64 = 2;

/// How many accounts a range of a run has at most.
pub fn accounts(dry_run: bool) -> i64 {
    ACCOUNTS * if dry_run { DRY } else { 1 }
}

/// A range of a run's accounts that is leased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnderWay {
    pub id: BillRunId,
    pub month: Month,
    /// Whether it keeps no invoice.
    pub dry_run: bool,
    /// Every account of the range up to this one, by id, is done.
    pub done_through: AccountId,
    /// The range's last account, or what comes after every account.
    pub through: AccountId,
    pub token: Uuid,
    /// The cut-off.
    pub created_at: Timestamp,
}

/// Leases the range whose lease has been over longest, if there is one.
const LEASE_LEFT: &str = "-- lease_left
    UPDATE bill_run_range AS range
    SET lease_token = $1, lease_until = statement_timestamp() + $2::bigint * interval '1 second'
    FROM bill_run AS run
    WHERE run.id = range.bill_run AND range.lease_until <= now()
        AND (range.bill_run, range.through) = (
            SELECT bill_run, through FROM bill_run_range WHERE lease_until <= now()
            ORDER BY lease_until, bill_run, through LIMIT 1
        )
    RETURNING run.id, run.month, run.dry_run, run.create_time, range.done_through, range.through";

/// The oldest run under way, if accounts of it are left that nobody has leased. '~' comes after every account, those to
/// come too.
const NEXT: &str = "-- next_range
    SELECT * FROM (
        SELECT id, month, dry_run, create_time, leased_through AS done_through
        FROM bill_run WHERE state = 'RUNNING' ORDER BY create_time, id LIMIT 1
    ) AS oldest WHERE done_through <> '~'";

/// The account so many (`$2`) places after `$1` by id.
const NEXT_ACCOUNTS: &str = "-- next_accounts
    SELECT account FROM account WHERE account > $1 ORDER BY account OFFSET $2::bigint - 1 LIMIT 1";

/// The account whose interval is so many (`$2`) places after those of `$1` by id.
const NEXT_INTERVALS: &str = "-- next_intervals
    SELECT account FROM usage_interval WHERE account > $1 ORDER BY account OFFSET $2::bigint - 1 LIMIT 1";

/// Leases accounts to be worked on, if there are some: what another left, or the next of the oldest run under way.
pub async fn lease(db: &Db, token: Uuid, now: Timestamp) -> Result<Option<UnderWay>, Error> {
    let left = db.query_opt(LEASE_LEFT, &[&token, &LEASE_SECONDS]).await?;
    if let Some(row) = left {
        let through = row_get(&row, "through")?;
        return under_way(&row, through, token).map(Some);
    }
    let mut missed = None;
    loop {
        let Some(row) = db.query_opt(NEXT, &[]).await? else {
            return Ok(None);
        };
        let after: AccountId = row_get(&row, "done_through")?;
        let through = end_of_range(db, &after, row_get(&row, "dry_run")?).await?;
        let run = under_way(&row, through, token)?;
        match lease_next(db, &run, now).await {
            Ok(()) => return Ok(Some(run)),
            // Another has leased them, and the run has gone on; or else its row is locked.
            Err(Error::Conflict(_)) if missed.as_ref() != Some(&run.done_through) => {
                missed = Some(run.done_through);
            }
            Err(Error::Conflict(_)) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// Where a range ends that begins after an account: at so many accounts, or where so many intervals are theirs.
async fn end_of_range(db: &Db, after: &AccountId, dry_run: bool) -> Result<AccountId, Error> {
    let mut end = AccountId::new("~");
    let accounts = accounts(dry_run);
    let intervals = accounts * (INTERVALS / ACCOUNTS);
    for (sql, most) in [(NEXT_ACCOUNTS, accounts), (NEXT_INTERVALS, intervals)] {
        let params = [
            (after as &(dyn ToSql + Sync), Type::TEXT),
            (&most, Type::INT8),
        ];
        if let Some(row) = db.query_planned(sql, &params).await?.first() {
            end = end.min(row_get(row, "account")?);
        }
    }
    Ok(end)
}

/// Leases a range if nobody else has leased its accounts.
async fn lease_next(db: &Db, run: &UnderWay, now: Timestamp) -> Result<(), Error> {
    let call = Call::background(now, "lease accounts of a bill run");
    let mut tx = db.begin_writes(&call).await?;
    tx.write(
        "-- lease_next
         UPDATE bill_run SET leased_through = $3 WHERE id = $1 AND leased_through = $2 AND state = 'RUNNING'",
        params![
            run.id.0.clone(),
            run.done_through.clone(),
            run.through.clone()
        ],
        Rows::Exactly(1),
    );
    tx.write(
        "-- insert_range
         INSERT INTO bill_run_range (bill_run, through, done_through, lease_token, lease_until)
         VALUES ($1, $2, $3, $4, statement_timestamp() + $5::bigint * interval '1 second')",
        params![
            run.id.0.clone(),
            run.through.clone(),
            run.done_through.clone(),
            run.token,
            LEASE_SECONDS
        ],
        Rows::Exactly(1),
    );
    tx.commit_work().await
}

fn under_way(row: &Row, through: AccountId, token: Uuid) -> Result<UnderWay, Error> {
    let id = BillRunId(row_get(row, "id")?);
    Ok(UnderWay {
        month: read_month(row, &id)?,
        dry_run: row_get(row, "dry_run")?,
        done_through: row_get(row, "done_through")?,
        through,
        token,
        created_at: row_get(row, "create_time")?,
        id,
    })
}

/// The account so many (`$3`) places after `$1` by id, up to `$2`.
const END: &str = "-- end_of_chunk
    SELECT account FROM account WHERE account > $1 AND account <= $2 ORDER BY account OFFSET $3::bigint - 1 LIMIT 1";

/// Where a chunk ends that begins after an account and has at most so many.
pub async fn end_of(
    tx: &Tx,
    after: &AccountId,
    through: &AccountId,
    size: i64,
) -> Result<AccountId, Error> {
    let rows = tx.query(END, &[after, through, &size]).await?;
    let end = rows.first().map(|row| row_get(row, "account"));
    end.unwrap_or_else(|| Ok(through.clone()))
}

/// Renews the lease of a range unless another holds it by now.
pub async fn renew(db: &Db, run: &UnderWay) -> Result<(), Error> {
    db.execute(
        "-- renew
         UPDATE bill_run_range SET lease_until = statement_timestamp() + $4::bigint * interval '1 second'
         WHERE bill_run = $1 AND through = $2 AND lease_token = $3",
        &[&run.id.0, &run.through, &run.token, &LEASE_SECONDS],
    )
    .await?;
    Ok(())
}

/// Gives a range back before its lease is over; one that was lost stays with whom it went to.
pub async fn release(db: &Db, run: &UnderWay) -> Result<(), Error> {
    db.execute(
        "-- release
         UPDATE bill_run_range SET lease_until = statement_timestamp()
         WHERE bill_run = $1 AND through = $2 AND lease_token = $3",
        &[&run.id.0, &run.through, &run.token],
    )
    .await?;
    Ok(())
}

/// Queues a range's progress through an account. A lease that was lost undoes it.
pub fn advance(tx: &mut Tx, run: &UnderWay, through: &AccountId) {
    tx.write(
        "-- advance
         UPDATE bill_run_range SET done_through = $5, lease_until = statement_timestamp() + $6::bigint * interval '1 second'
         WHERE bill_run = $1 AND through = $2 AND lease_token = $3 AND done_through = $4",
        params![
            run.id.0.clone(),
            run.through.clone(),
            run.token,
            run.done_through.clone(),
            through.clone(),
            LEASE_SECONDS
        ],
        Rows::Exactly(1),
    );
}

/// Queues a range's end. A lease that was lost undoes it.
pub fn finish(tx: &mut Tx, run: &UnderWay) {
    tx.write(
        "-- finish
         DELETE FROM bill_run_range
         WHERE bill_run = $1 AND through = $2 AND lease_token = $3 AND done_through = $4",
        params![
            run.id.0.clone(),
            run.through.clone(),
            run.token,
            run.done_through.clone()
        ],
        Rows::Exactly(1),
    );
}
