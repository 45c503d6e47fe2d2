//! Bill runs, their leases and their progress.

use jiff::Timestamp;
use octroi_platform::calendar::{Month, Span, Zones};
use octroi_platform::{Db, Error, Rows, Tx, params, row_get};
use tokio_postgres::Row;
use uuid::Uuid;

use super::account::account_columns;
use super::seller::seller_columns;
use crate::domain::bill_run::{BillRun, Failure, State, Tally};
use crate::domain::money::{Currency, Money};

/// The next accounts of a run, held until the transaction ends against what is told of their usage: `$1` the id that
/// they come after, `$2` how many. Each comes with its seller.
pub const HOLD_ACCOUNTS: &str = concat!(
    "-- hold_accounts
     SELECT ",
    account_columns!(),
    ", ",
    seller_columns!(),
    " FROM account a JOIN seller s ON s.id = a.seller
     WHERE a.account > $1 ORDER BY a.account LIMIT $2
     FOR NO KEY UPDATE OF a"
);

/// Every different history of time zones that accounts have. The instant of an only zone says nothing.
pub const CALENDARS: &str = "-- calendars
    SELECT DISTINCT zone_names,
        CASE WHEN cardinality(zone_times) > 1 THEN zone_times ELSE ARRAY['epoch'::timestamptz] END AS zone_times
    FROM account";

/// Every seller that accounts have.
pub const SELLERS: &str = concat!(
    "-- sellers_of_accounts
     SELECT ",
    seller_columns!(),
    " FROM seller s WHERE EXISTS (SELECT FROM account WHERE account.seller = s.id) ORDER BY s.id"
);

/// Whether there is a run `$1`.
pub const EXISTS: &str = "-- bill_run_exists
    SELECT EXISTS (SELECT FROM bill_run WHERE id = $1) AS taken";

/// Runs, newest first: `$1` the only one wanted or none, `$2` id of the one that they come after or none, `$3` how many.
pub const READ: &str = "-- read_bill_runs
    SELECT run.*,
        ARRAY(SELECT currency FROM bill_run_total WHERE bill_run = run.id ORDER BY currency) AS total_currencies,
        ARRAY(SELECT total FROM bill_run_total WHERE bill_run = run.id ORDER BY currency) AS totals,
        failures.*
    FROM bill_run AS run, LATERAL (
        SELECT coalesce(array_agg(account ORDER BY account), '{}') AS failure_accounts,
            coalesce(array_agg(reason ORDER BY account), '{}') AS failure_reasons,
            coalesce(array_agg(message ORDER BY account), '{}') AS failure_messages
        FROM (
            SELECT * FROM bill_run_failure WHERE bill_run = run.id ORDER BY account LIMIT 100
        ) AS first
    ) AS failures
    WHERE ($1::text IS NULL OR id = $1) AND ($2::text IS NULL
        OR (create_time, id) < (SELECT create_time, id FROM bill_run WHERE id = $2))
    ORDER BY create_time DESC, id DESC LIMIT $3";

/// A run that this process works on, for as long as its lease holds.
#[derive(Debug, Clone)]
pub struct Leased {
    /// Id of the run.
    pub id: String,
    /// The month.
    pub month: Month,
    /// Whether it keeps no invoice.
    pub dry_run: bool,
    /// Every account up to this one, by id, is done.
    pub done_through: String,
    /// The cut-off.
    pub created: Timestamp,
    /// The lease.
    pub token: Uuid,
}

/// Queues a run that begins. Its constraint's name is "bill_run_pkey".
pub fn insert(tx: &mut Tx, run: &BillRun) {
    tx.write(
        "-- insert_bill_run
         INSERT INTO bill_run (id, month, dry_run, state, done_through, create_time)
         VALUES ($1, $2, $3, 'RUNNING', '', $4)",
        params![
            run.id.clone(),
            run.month.to_string(),
            run.dry_run,
            run.created
        ],
        Rows::Exactly(1),
    );
}

/// Takes or prolongs the lease of the oldest run under way that nobody else works on, in machine time. A lease lasts a
/// little longer than a chunk's transaction may.
pub async fn lease(db: &Db, token: Uuid) -> Result<Option<Leased>, Error> {
    let row = db
        .read_opt(
            "-- lease_bill_run
             UPDATE bill_run SET lease_token = $1, lease_until = clock_timestamp() + interval '35 seconds'
             WHERE id = (
                 SELECT id FROM bill_run
                 WHERE state = 'RUNNING'
                     AND (lease_until IS NULL OR lease_until < clock_timestamp() OR lease_token = $1)
                 ORDER BY create_time, id LIMIT 1
                 FOR NO KEY UPDATE SKIP LOCKED
             )
             RETURNING id, month, dry_run, done_through, create_time",
            &[&token],
        )
        .await?;
    row.map(|row| {
        let id: String = row_get(&row, "id")?;
        Ok(Leased {
            month: read_month(&row, &id)?,
            dry_run: row_get(&row, "dry_run")?,
            done_through: row_get(&row, "done_through")?,
            created: row_get(&row, "create_time")?,
            token,
            id,
        })
    })
    .transpose()
}

/// Queues a run's progress through an account. It fails when the lease was lost, or another took the step.
pub fn advance(tx: &mut Tx, run: &Leased, through: &str, tally: Tally) {
    tx.write(
        "-- advance
         UPDATE bill_run SET done_through = $4, accounts = accounts + $5, invoices = invoices + $6,
             skipped = skipped + $7, not_due = not_due + $8, failed = failed + $9
         WHERE id = $1 AND lease_token = $2 AND done_through = $3 AND state = 'RUNNING'",
        params![
            run.id.clone(),
            run.token,
            run.done_through.clone(),
            through.to_owned(),
            tally.accounts(),
            tally.invoices,
            tally.skipped,
            tally.not_due,
            tally.failed
        ],
        Rows::Exactly(1),
    );
}

/// Queues a run's end.
pub fn complete(tx: &mut Tx, run: &Leased, now: Timestamp) {
    tx.write(
        "-- complete
         UPDATE bill_run SET state = 'COMPLETED', complete_time = $4, lease_token = NULL, lease_until = NULL
         WHERE id = $1 AND lease_token = $2 AND done_through = $3 AND state = 'RUNNING'",
        params![run.id.clone(), run.token, run.done_through.clone(), now],
        Rows::Exactly(1),
    );
}

/// Queues what a chunk's invoices come to in a currency.
pub fn add_total(tx: &mut Tx, run: &Leased, total: Money) {
    tx.write(
        "-- add_total
         INSERT INTO bill_run_total AS known (bill_run, currency, total) VALUES ($1, $2, $3)
         ON CONFLICT (bill_run, currency) DO UPDATE SET total = known.total + excluded.total",
        params![run.id.clone(), total.currency.code(), total.minor],
        Rows::Exactly(1),
    );
}

/// Queues an account that could not be invoiced.
pub fn park(tx: &mut Tx, run: &Leased, failure: Failure) {
    tx.write(
        "-- park
         INSERT INTO bill_run_failure (bill_run, account, reason, message) VALUES ($1, $2, $3, $4)",
        params![
            run.id.clone(),
            failure.account,
            failure.reason,
            failure.message
        ],
        Rows::Exactly(1),
    );
}

/// Queues the closing of an account's month, with its invoice if it has one.
pub fn close_month(tx: &mut Tx, run: &Leased, account: &str, span: Span, invoice: Option<Uuid>) {
    tx.write(
        "-- close_month
         INSERT INTO billed_month (account, month, bill_run, start_time, end_time, invoice)
         VALUES ($1, $2, $3, $4, $5, $6)",
        params![
            account.to_owned(),
            run.month.to_string(),
            run.id.clone(),
            span.start,
            span.end,
            invoice
        ],
        Rows::Exactly(1),
    );
}

/// Queues that a closed month's late usage has been charged.
pub fn settle_late(tx: &mut Tx, account: &str, month: Month) {
    tx.write(
        "-- settle_late
         DELETE FROM late_usage WHERE account = $1 AND month = $2",
        params![account.to_owned(), month.to_string()],
        Rows::Exactly(1),
    );
}

/// Maps a row of [`CALENDARS`].
pub fn calendar(row: &Row) -> Result<Zones, Error> {
    let names: Vec<String> = row_get(row, "zone_names")?;
    let times: Vec<Timestamp> = row_get(row, "zone_times")?;
    let history: Vec<(Timestamp, String)> = times.into_iter().zip(names).collect();
    Zones::from_names(&history)
}

/// Maps a row of [`READ`].
pub fn from_row(row: &Row) -> Result<BillRun, Error> {
    let id: String = row_get(row, "id")?;
    let corrupt = |column| Error::Corrupt {
        table: "bill_run",
        column,
        id: id.clone(),
    };
    let completed: Option<Timestamp> = row_get(row, "complete_time")?;
    let currencies: Vec<&str> = row_get(row, "total_currencies")?;
    let totals: Vec<i64> = row_get(row, "totals")?;
    let totals: Option<Vec<Money>> = currencies
        .into_iter()
        .zip(totals)
        .map(|(code, total)| Currency::find(code).map(|currency| Money::new(total, currency)))
        .collect();
    let accounts: Vec<String> = row_get(row, "failure_accounts")?;
    let reasons: Vec<String> = row_get(row, "failure_reasons")?;
    let messages: Vec<String> = row_get(row, "failure_messages")?;
    let failures = accounts.into_iter().zip(reasons).zip(messages);
    Ok(BillRun {
        month: read_month(row, &id)?,
        dry_run: row_get(row, "dry_run")?,
        state: match (row_get::<&str>(row, "state")?, completed) {
            ("RUNNING", None) => State::Running,
            ("COMPLETED", Some(at)) => State::Completed { at },
            _ => return Err(corrupt("state")),
        },
        tally: Tally {
            invoices: row_get(row, "invoices")?,
            skipped: row_get(row, "skipped")?,
            not_due: row_get(row, "not_due")?,
            failed: row_get(row, "failed")?,
        },
        failures: failures
            .map(|((account, reason), message)| Failure {
                account,
                reason,
                message,
            })
            .collect(),
        totals: totals.ok_or_else(|| corrupt("totals"))?,
        created: row_get(row, "create_time")?,
        id,
    })
}

fn read_month(row: &Row, id: &str) -> Result<Month, Error> {
    row_get::<&str>(row, "month")?
        .parse()
        .map_err(|_| Error::Corrupt {
            table: "bill_run",
            column: "month",
            id: id.to_owned(),
        })
}
