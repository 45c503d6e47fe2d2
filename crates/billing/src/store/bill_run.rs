//! Bill runs and their progress.

use jiff::Timestamp;
use octroi_calendar::{Month, Span, Zones};
use octroi_platform::{AccountId, Db, Error, Rows, Shown, Tx, params, row_get};
use tokio_postgres::Row;

use super::account::account_columns;
use super::column;
use super::range::UnderWay;
use super::seller::seller_columns;
use crate::domain::bill_run::{BillRun, BillRunId, Failure, State, Tally, Total};
use crate::domain::invoice::InvoiceId;
use crate::domain::money::Currency;

/// What is told of a range `$2` of run `$1` under token `$3`, unless it is leased to another, or others have gone on from
/// `$4`: the accounts of which licensing has not told everything. For the rest of the transaction no table is scanned for a
/// few of its rows, whatever statistics say of tables that a run fills, and statements are planned as `$5` says.
pub const HOLD: &str = "-- hold_bill_run
    SELECT coalesce((SELECT held_accounts FROM intake_progress WHERE source = 'licensing'), '{}') AS behind,
        set_config('enable_seqscan', 'off', true), set_config('plan_cache_mode', $5, true)
    FROM bill_run_range WHERE bill_run = $1 AND through = $2 AND lease_token = $3 AND done_through = $4";

/// Makes this connection plan its statements anew, those of foreign keys too: plans made while a table was small scan
/// all of it for each row, and a run may make it large before anyone has analysed it. What is planned for its values each
/// time needs none of it.
pub const FORGET_PLANS: &str = "-- forget_plans
    DISCARD PLANS";

/// The account after `$1` by id, up to `$2`. Read without waiting: it may be locked by whoever made it take too long.
pub const NEXT_ACCOUNT: &str = "-- next_account
    SELECT account FROM account WHERE account > $1 AND account <= $2 ORDER BY account LIMIT 1";

/// The accounts after `$1` by id, up to `$2`, in any order, each with its seller.
pub const READ_ACCOUNTS: &str = concat!(
    "-- read_accounts
     SELECT ",
    account_columns!(),
    ", ",
    seller_columns!(),
    " FROM account a JOIN seller s ON s.id = a.seller WHERE a.account > $1 AND a.account <= $2"
);

/// The same, held until the transaction ends against what is told of their usage. They are on many nodes, where a write
/// may lock and a read may not.
pub const HOLD_ACCOUNTS: &str = concat!(
    "-- hold_accounts
     UPDATE account a SET version = a.version FROM seller s
     WHERE s.id = a.seller AND a.account > $1 AND a.account <= $2
     RETURNING ",
    account_columns!(),
    ", ",
    seller_columns!()
);

/// Every different history of time zones that accounts have. Where there was one zone only, it does not matter since when:
/// such accounts share a history.
pub const CALENDARS: &str = "-- calendars
    SELECT DISTINCT zone_names,
        CASE WHEN cardinality(zone_times) > 1 THEN zone_times ELSE ARRAY['epoch'::timestamptz] END AS zone_times
    FROM account";

/// Every seller that accounts have.
pub const SELLERS: &str = concat!(
    "-- sellers_of_accounts
     SELECT ",
    seller_columns!(),
    " FROM seller s WHERE s.id IN (SELECT DISTINCT seller FROM account) ORDER BY s.id"
);

/// Finds whether there is a run `$1`.
pub const GET_ID: &str = "-- get_bill_run_id
    SELECT FROM bill_run WHERE id = $1";

/// Runs, newest first: `$1` the only one wanted or none, `$2` id of the one that they come after or none, `$3` how many.
pub const READ: &str = "-- read_bill_runs
    SELECT run.*,
        ARRAY(SELECT currency FROM bill_run_total WHERE bill_run = run.id ORDER BY currency) AS total_currencies,
        ARRAY(SELECT total::text FROM bill_run_total WHERE bill_run = run.id ORDER BY currency) AS totals,
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

/// A month that a run closes for an account, with its invoice if it has one.
#[derive(Debug, Clone)]
pub struct Closing {
    pub account: AccountId,
    /// The month's bounds for this account.
    pub span: Span,
    pub invoice: Option<InvoiceId>,
}

/// Queues a run that begins. Its constraint's name is "bill_run_pkey".
pub fn insert(tx: &mut Tx, run: &BillRun) {
    tx.write(
        "-- insert_bill_run
         INSERT INTO bill_run (id, month, dry_run, state, leased_through, create_time)
         VALUES ($1, $2, $3, 'RUNNING', '', $4)",
        params![
            run.id.0.clone(),
            run.month.to_string(),
            run.dry_run,
            run.created_at
        ],
        Rows::Exactly(1),
    );
}

/// Queues what became of accounts, and the run's end when no range is left: the run's row, held since the first of these
/// two statements, lets one worker after the other look.
pub fn count(tx: &mut Tx, run: &UnderWay, tally: Tally, now: Timestamp) {
    tx.write(
        "-- count
         UPDATE bill_run SET accounts = accounts + $2, invoices = invoices + $3,
             skipped = skipped + $4, not_due = not_due + $5, failed = failed + $6
         WHERE id = $1 AND state = 'RUNNING'",
        params![
            run.id.0.clone(),
            tally.accounts(),
            tally.invoices,
            tally.skipped,
            tally.not_due,
            tally.failed
        ],
        Rows::Exactly(1),
    );
    tx.write(
        "-- complete
         UPDATE bill_run SET state = 'COMPLETED', complete_time = $2
         WHERE id = $1 AND leased_through = '~'
             AND NOT EXISTS (SELECT FROM bill_run_range WHERE bill_run = $1)",
        params![run.id.0.clone(), now],
        Rows::Any,
    );
}

/// Queues what a chunk's invoices come to, once in each currency.
pub fn add_totals(tx: &mut Tx, run: &UnderWay, totals: &[Total]) {
    if totals.is_empty() {
        return;
    }
    tx.write(
        "-- add_totals
         INSERT INTO bill_run_total AS known (bill_run, currency, total)
         SELECT $1, currency, total::numeric FROM unnest($2::text[], $3::text[]) AS more (currency, total)
         ON CONFLICT (bill_run, currency) DO UPDATE SET total = known.total + excluded.total",
        params![
            run.id.0.clone(),
            column(totals, |total| total.currency.code()),
            column(totals, |total| total.minor.to_string())
        ],
        Rows::Exactly(totals.len() as u64),
    );
}

/// Queues accounts that could not be invoiced.
pub fn insert_failures(tx: &mut Tx, run: &UnderWay, failures: &[Failure]) {
    if failures.is_empty() {
        return;
    }
    tx.write(
        "-- insert_failures
         INSERT INTO bill_run_failure (bill_run, account, reason, message)
         SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[])",
        params![
            run.id.0.clone(),
            column(failures, |failure| failure.account.clone()),
            column(failures, |failure| failure.reason.clone()),
            column(failures, |failure| failure.message.clone())
        ],
        Rows::Exactly(failures.len() as u64),
    );
}

/// Queues the closing of accounts' month.
pub fn close_months(tx: &mut Tx, run: &UnderWay, closings: &[Closing]) {
    if closings.is_empty() {
        return;
    }
    tx.write(
        "-- close_months
         INSERT INTO billed_month (month, bill_run, account, start_time, end_time, invoice)
         SELECT $1, $2, * FROM unnest($3::text[], $4::timestamptz[], $5::timestamptz[], $6::uuid[])",
        params![
            run.month.to_string(),
            run.id.0.clone(),
            column(closings, |closing| closing.account.clone()),
            column(closings, |closing| closing.span.start),
            column(closings, |closing| closing.span.end),
            column(closings, |closing| closing.invoice.as_ref().map(|it| it.id))
        ],
        Rows::Exactly(closings.len() as u64),
    );
}

/// Queues that the late usage of closed months has been charged: (account, month).
pub fn settle_late(tx: &mut Tx, settled: &[(AccountId, Month)]) {
    if settled.is_empty() {
        return;
    }
    tx.write(
        "-- settle_late
         DELETE FROM late_usage USING unnest($1::text[], $2::text[]) AS settled (account, month)
         WHERE late_usage.account = settled.account AND late_usage.month = settled.month",
        params![
            column(settled, |(account, _)| account.clone()),
            column(settled, |(_, month)| month.to_string())
        ],
        Rows::Exactly(settled.len() as u64),
    );
}

/// Maps a row of [`CALENDARS`].
pub fn calendar(row: &Row) -> Result<Zones, Error> {
    let names: Vec<String> = row_get(row, "zone_names")?;
    let times: Vec<Timestamp> = row_get(row, "zone_times")?;
    let history: Vec<(Timestamp, String)> = times.into_iter().zip(names).collect();
    Zones::from_names(&history).map_err(|error| Error::Internal(error.into()))
}

/// Maps a row of [`READ`].
pub fn from_row(row: &Row) -> Result<BillRun, Error> {
    let id = BillRunId(row_get(row, "id")?);
    let corrupt = |column| Error::Corrupt {
        table: "bill_run",
        column,
        id: id.to_string(),
    };
    let completed: Option<Timestamp> = row_get(row, "complete_time")?;
    let currencies: Vec<&str> = row_get(row, "total_currencies")?;
    let totals: Vec<&str> = row_get(row, "totals")?;
    let total = |(code, total): (&str, &str)| {
        let (currency, minor) = (Currency::find(code)?, total.parse().ok()?);
        Some(Total { currency, minor })
    };
    let totals: Option<Vec<Total>> = currencies.into_iter().zip(totals).map(total).collect();
    let accounts: Vec<AccountId> = row_get(row, "failure_accounts")?;
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
        created_at: row_get(row, "create_time")?,
        id,
    })
}

pub(super) fn read_month(row: &Row, id: &BillRunId) -> Result<Month, Error> {
    row_get::<&str>(row, "month")?
        .parse()
        .map_err(|_| Error::Corrupt {
            table: "bill_run",
            column: "month",
            id: id.to_string(),
        })
}

/// How many accounts the last bill run went through that was no dry one, by what came of each.
///
/// # Errors
/// The database's.
pub async fn outcomes(db: &Db) -> Result<Vec<Shown>, Error> {
    let last = db.query_briefly(
        "-- outcomes
         SELECT coalesce(invoices, 0)::bigint AS invoiced, coalesce(skipped, 0)::bigint AS skipped,
                coalesce(not_due, 0)::bigint AS not_due, coalesce(failed, 0)::bigint AS failed
         FROM (VALUES (1)) AS one LEFT JOIN LATERAL (
             SELECT * FROM bill_run WHERE NOT dry_run ORDER BY create_time DESC, id DESC LIMIT 1
         ) AS last ON true",
        &[],
    );
    let last = last.await?;
    let outcomes = ["invoiced", "skipped", "not_due", "failed"];
    let counts = last.iter().flat_map(|row| {
        outcomes.map(|outcome| Ok((outcome.to_owned(), vec![row_get(row, outcome)?])))
    });
    counts.collect()
}
