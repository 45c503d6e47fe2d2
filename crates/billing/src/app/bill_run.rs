//! Bill runs: asked for by an operator, worked on in the background, in chunks of accounts. A chunk is one
//! transaction: its invoices, the run's progress and the closed months stand or fall together, so that a run can stop
//! anywhere, go on elsewhere and be asked for twice. Its accounts are leased, so that other processes take others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use octroi_api::billing::v1::{self as wire, ErrorReason as R};
use octroi_api::r#type::v1::ErrorReason as Shared;
use octroi_calendar::{Month, Zones};
use octroi_platform::refusal::plain;
use octroi_platform::{
    AccountId, Aggregate, Call, Clock, Db, Error, Name as _, Page, ToSql, Tx, caught, row_get,
};
use serde_json::{Value, json};
use tokio_postgres::Row;
use uuid::Uuid;

use super::charge::{self, Calendars, Computed, Due};
use super::invoice::{draft, issue};
use crate::domain::account::Account;
use crate::domain::bill::Bill;
use crate::domain::bill_run::{BillRun, BillRunId, Failure, Tally, Total, cut_off};
use crate::domain::invoice::Draft;
use crate::domain::money::Currency;
use crate::domain::seller::Seller;
use crate::refusal::{amount_overflow, usage_behind};
use crate::store;
use crate::store::bill_run::{Closing, UnderWay};
use crate::store::charge::Closed;

/// How many accounts a chunk has at most. When one of them fails it, smaller chunks find out which.
const CHUNK: i64 = 500;

/// After how many intervals of its accounts' a chunk ends.
const CHUNK_INTERVALS: i64 = 5_000;

/// How often in a row an account takes or waits too long before a run goes on without it, if the account after it does
/// not.
const TRIES: u32 = 2;

/// How often in a row before a run goes on without it even if others take too long as well.
const MOST_TRIES: u32 = 10;

/// Where a run was last held up by a single account, which took too long or waited too long for a lock, and how often in a
/// row. Each process counts for itself.
#[derive(Clone, Default)]
pub struct HeldUp(Arc<Mutex<Option<(BillRunId, AccountId, u32)>>>);

impl HeldUp {
    /// How often in a row the run was held up where it is now.
    fn tries(&self, run: &UnderWay) -> u32 {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.as_ref()
            .filter(|(id, after, _)| (id, after) == (&run.id, &run.done_through))
            .map_or(0, |(.., tries)| *tries)
    }

    /// Counts that it is held up there once more.
    fn count(&self, run: &UnderWay) -> u32 {
        let tries = self.tries(run).saturating_add(1);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((run.id.clone(), run.done_through.clone(), tries));
        tries
    }
}

/// Why an account fails whose usage is behind.
const BEHIND: &str = "an event of licensing's that concerns the account cannot be taken, and what comes after it waits: \
                      repair what refuses it, deliver it again (octroi replay), and a later run takes the account";

/// Stands for an account where request ids are kept: a bill run belongs to none.
const NOBODY: &str = "-";

impl Aggregate for BillRun {
    type Id = BillRunId;
    type Wire = wire::BillRun;

    fn id(&self) -> &BillRunId {
        &self.id
    }

    /// No command changes a run once it is there.
    fn version(&self) -> i64 {
        1
    }

    fn audited(&self) -> Value {
        json!({"month": self.month.to_string(), "dry_run": self.dry_run})
    }
}

#[derive(Clone)]
pub(crate) struct BillRuns {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) held_up: HeldUp,
}

impl BillRuns {
    /// Starts the invoicing of a month, under the given id or one of its own.
    ///
    /// # Errors
    /// ALREADY_EXISTS, MONTH_NOT_ENDED, USAGE_BEHIND, SELLER_INCOMPLETE.
    pub async fn create(
        &self,
        call: &Call,
        id: Option<BillRunId>,
        month: Month,
        dry_run: bool,
    ) -> Result<wire::BillRun, Error> {
        let id = id.unwrap_or_else(|| BillRunId(format!("r-{}", Uuid::now_v7().simple())));
        let (mut tx, rows) = self
            .db
            .begin(call, NOBODY, store::bill_run::GET_ID, &[&id.0])
            .await?;
        if !rows.is_empty() {
            return Err(id.already_exists());
        }
        self.check_ready(&tx, month, call.now).await?;
        let run = BillRun::new(id, month, dry_run, call.now);
        store::bill_run::insert(&mut tx, &run);
        match tx.keep(None, &run).await {
            Err(error) if error.violates("bill_run_pkey") => Err(run.id.already_exists()),
            kept => kept,
        }
    }

    /// Whether a month can be invoiced now: it has ended for someone, usage is complete through then, and a seller may
    /// invoice. The accounts of a seller that may not will fail.
    async fn check_ready(&self, tx: &Tx, month: Month, now: Timestamp) -> Result<(), Error> {
        let calendars = tx
            .query(store::bill_run::CALENDARS, &[])
            .await?
            .iter()
            .map(store::bill_run::calendar)
            .collect::<Result<Vec<Zones>, _>>()?;
        let cut_off = cut_off(month, &calendars, now)?;
        let complete = tx.complete_through("licensing").await?;
        if complete.is_none_or(|complete| complete < cut_off) {
            return Err(usage_behind(cut_off, complete).into());
        }
        let mut reason = None;
        for row in &tx.query(store::bill_run::SELLERS, &[]).await? {
            match store::seller::from_row(row)?.check_complete() {
                Ok(()) => return Ok(()),
                Err(incomplete) => reason = reason.or(Some(incomplete)),
            }
        }
        reason.map_or(Ok(()), |incomplete| Err(incomplete.into()))
    }

    pub async fn get(&self, call: &Call, id: &BillRunId) -> Result<BillRun, Error> {
        let after: Option<&str> = None;
        let row = self
            .db
            .query_opt(store::bill_run::READ, &[&Some(&id.0), &after, &1_i64])
            .await?;
        store::bill_run::from_row(&row.ok_or_else(|| call.not_found(id))?)
    }

    /// A page of bill runs, newest first.
    pub async fn list(&self, page: &Page<String>) -> Result<Vec<BillRun>, Error> {
        let only: Option<&str> = None;
        let rows = self
            .db
            .query(store::bill_run::READ, &[&only, &page.after, &page.limit])
            .await?;
        rows.iter().map(store::bill_run::from_row).collect()
    }

    /// Works on one chunk of a run; how much was done, 0 when there is nothing that others do not work on.
    ///
    /// # Errors
    /// The database's; the same chunk is then tried again.
    pub async fn work(&self, now: Timestamp) -> anyhow::Result<u64> {
        let token = Uuid::now_v7();
        let leased = store::bill_run::lease(&self.db, token, CHUNK, CHUNK_INTERVALS);
        let Some(mut run) = leased.await? else {
            return Ok(0);
        };
        let worked = self.work_on(&mut run, now).await;
        // What is left of it need not wait until the lease is over.
        if run.done_through != run.through
            && let Err(error) = store::bill_run::release(&self.db, &run).await
        {
            tracing::debug!(
                error = format!("{:#}", anyhow::Error::new(error)),
                "a lease ends by itself"
            );
        }
        worked
    }

    async fn work_on(&self, run: &mut UnderWay, now: Timestamp) -> anyhow::Result<u64> {
        // Where an account held the run up before, it is looked at alone from the first.
        let is_held_up = self.held_up.tries(run) > 0;
        let mut size = if is_held_up { 1 } else { CHUNK };
        let mut done = 0;
        // After a failure: how many of the next accounts are left in which the one that caused it is searched for.
        let mut among = size;
        loop {
            // A panic is a failure like any other.
            let chunk = caught(async { Ok(self.chunk(run, size, None, now).await) }).await;
            match chunk.unwrap_or_else(|panic| Err(Error::Internal(panic))) {
                Ok(0) => return Ok(done),
                Ok(more) if size == among => return Ok(done + more),
                Ok(more) => {
                    done += more;
                    among -= size;
                }
                // The database is away, which is no account's fault.
                Err(error @ (Error::Unavailable(_) | Error::OutcomeUnknown)) => {
                    return Err(error.into());
                }
                // The one that caused it is found: the others go on without it.
                Err(error) if size == 1 => {
                    return Ok(done + self.go_on_without_next(run, error, now).await?);
                }
                Err(error) => {
                    among = size;
                    if is_slow(&error) {
                        // Each try may take as long as a statement may last, so fewer are made than halving would take.
                        size = (among + 24) / 25;
                        continue;
                    }
                }
            }
            size = (among + 1) / 2;
        }
    }

    /// Invoices the next accounts of a range, at most `size`, or ends the range when there are none; 0 when its lease is
    /// lost. The very next one is not invoiced where `without` says why: its failure is noted.
    async fn chunk(
        &self,
        run: &mut UnderWay,
        size: i64,
        without: Option<Failure>,
        now: Timestamp,
    ) -> Result<u64, Error> {
        let mut through = without.as_ref().map(|failure| failure.account.clone());
        let after = through.as_ref().unwrap_or(&run.done_through);
        let Some((mut tx, rows, behind)) = self.hold(run, after, size, now).await? else {
            return Ok(0);
        };
        let mut accounts = Vec::with_capacity(rows.len());
        for row in &rows {
            accounts.push((
                store::account::from_row(row)?,
                store::seller::from_row(row)?,
            ));
        }
        if let Some((account, _)) = accounts.last() {
            through = Some(account.id.clone());
        }
        let is_whole = i64::try_from(accounts.len()).is_ok_and(|found| found < size);
        let mut chunk = Chunk::default();
        if let Some(failure) = without {
            chunk.fail(failure);
        }
        let dues = chunk.due(&tx, run, accounts, &behind).await?;
        for computed in charge::compute(&tx, dues, self.clock.is_test()).await? {
            chunk.sort(run, computed, now)?;
        }
        let tally = chunk.tally;
        chunk.keep(&mut tx, run, now).await?;
        let through = match through {
            Some(through) if !is_whole && through != run.through => {
                store::bill_run::advance(&mut tx, run, &through);
                through
            }
            _ => {
                store::bill_run::finish(&mut tx, run);
                run.through.clone()
            }
        };
        store::bill_run::count(&mut tx, run, tally, now);
        tx.commit_work().await?;
        run.done_through = through;
        Ok(u64::from(tally.accounts().unsigned_abs()).max(1))
    }

    /// Holds the accounts of a range after one, and finds of which accounts usage is behind; none when the lease is lost.
    async fn hold(
        &self,
        run: &UnderWay,
        after: &AccountId,
        size: i64,
        now: Timestamp,
    ) -> Result<Option<(Tx, Vec<Row>, Vec<AccountId>)>, Error> {
        let call = Call::background(now, "octroi.billing.v1.BillRunService/CreateBillRun");
        let (tx, held) = self
            .db
            .begin_work(
                &call,
                store::bill_run::HOLD,
                &[&run.id.0, &run.through, &run.token, &run.done_through],
            )
            .await?;
        let Some(held) = held.first() else {
            tx.rollback().await;
            return Ok(None);
        };
        let behind = row_get(held, "behind")?;
        let next = async {
            let params = [after as &(dyn ToSql + Sync), &run.through, &size];
            tx.query(store::bill_run::HOLD_ACCOUNTS, &params).await
        };
        let planning = tx.query(store::bill_run::FORGET_PLANS, &[]);
        let (_, accounts) = tokio::try_join!(planning, next)?;
        Ok(Some((tx, accounts, behind)))
    }

    /// Notes that the next account, which fails a chunk by itself, could not be invoiced. One that takes too long is to
    /// blame for it only if others do not: it is tried again, and then left out in the transaction that invoices the account
    /// after it; where that takes too long as well, the whole run backs off, but not for ever.
    async fn go_on_without_next(
        &self,
        run: &mut UnderWay,
        error: Error,
        now: Timestamp,
    ) -> Result<u64, Error> {
        let next = [&run.done_through as &(dyn ToSql + Sync), &run.through];
        let Some(row) = self
            .db
            .query_opt(store::bill_run::NEXT_ACCOUNT, &next)
            .await?
        else {
            return Err(error);
        };
        let account: AccountId = row_get(&row, "account")?;
        let mut beside = 0;
        if is_slow(&error) {
            let tries = self.held_up.count(run);
            if tries < TRIES {
                return Err(error);
            }
            beside = i64::from(tries < MOST_TRIES);
        }
        let (reason, message) = match &error {
            Error::TookTooLong => (R::TookTooLong.as_str_name(), error.to_string()),
            Error::Conflict(_) => (Shared::Conflict.as_str_name(), error.to_string()),
            _ => {
                let message = "internal error; the log has it under the account's name";
                (Shared::Internal.as_str_name(), message.to_owned())
            }
        };
        let reason = plain(reason);
        tracing::error!(%account, run = %run.id, reason, error = format!("{:#}", anyhow::Error::new(error)), "a bill run goes on without an account");
        let failure = Failure {
            reason: reason.to_owned(),
            message,
            account,
        };
        self.chunk(run, beside, Some(failure), now).await
    }
}

/// Whether time ran out, at work or waiting for a lock: that may be an account's fault, or the whole database is slow.
fn is_slow(error: &Error) -> bool {
    matches!(error, Error::TookTooLong | Error::Conflict(_))
}

/// What becomes of a chunk's accounts.
#[derive(Default)]
struct Chunk {
    tally: Tally,
    drafts: Vec<Draft>,
    /// The month of every account that is done, with or without an invoice.
    closings: Vec<Closing>,
    /// Months whose late usage the drafts charge.
    settled: Vec<(AccountId, Month)>,
    failures: Vec<Failure>,
    totals: BTreeMap<Currency, i128>,
}

impl Chunk {
    /// Leaves out accounts whose month has not ended at the cut-off, or is closed already, or whose usage is behind.
    async fn due(
        &mut self,
        tx: &Tx,
        run: &UnderWay,
        accounts: Vec<(Account, Seller)>,
        behind: &[AccountId],
    ) -> Result<Vec<Due>, Error> {
        let mut ended = Vec::with_capacity(accounts.len());
        let mut calendars = Calendars::default();
        for (account, seller) in accounts {
            let calendar = calendars.month(&account, run.month)?;
            if calendar.1.month.span.end <= run.created_at {
                ended.push((account, seller, calendar.clone()));
            } else {
                self.tally.not_due += 1;
            }
        }
        let ids: Vec<&AccountId> = ended.iter().map(|(account, ..)| &account.id).collect();
        let mut months: BTreeMap<AccountId, Vec<Closed>> = BTreeMap::new();
        for closed in store::charge::closed(tx, &ids, run.month).await? {
            months
                .entry(closed.account.clone())
                .or_default()
                .push(closed);
        }
        let mut dues = Vec::with_capacity(ended.len());
        for (account, seller, (zones, own)) in ended {
            let closed = months.remove(&account.id).unwrap_or_default();
            if closed.iter().any(|closed| closed.month == run.month) {
                self.tally.skipped += 1;
            } else if behind.contains(&account.id) {
                self.fail(Failure {
                    account: account.id,
                    reason: plain(R::UsageBehind.as_str_name()).to_owned(),
                    message: BEHIND.to_owned(),
                });
            } else {
                let late: Vec<Month> = closed.iter().map(|closed| closed.month).collect();
                dues.push(Due::new(account, seller, &zones, own, &late));
            }
        }
        Ok(dues)
    }

    /// Notes what becomes of an account.
    fn sort(&mut self, run: &UnderWay, computed: Computed, now: Timestamp) -> Result<(), Error> {
        let Computed { due, bill, settled } = computed;
        let drafted = match bill {
            Ok(bill) if bill.lines.is_empty() => Ok(None),
            Ok(bill) => self.draft(bill, &due.seller, now).map(Some),
            Err(refusal) => Err(refusal.into()),
        };
        let account = due.account.id;
        match drafted {
            Ok(draft) => {
                match &draft {
                    Some(_) => self.tally.invoices += 1,
                    None => self.tally.skipped += 1,
                }
                let settled = settled.into_iter().map(|month| (account.clone(), month));
                self.settled.extend(settled);
                self.closings.push(Closing {
                    account,
                    span: due.own.month.span,
                    invoice: draft.as_ref().map(|draft| draft.id.clone()),
                });
                self.drafts.extend(draft);
            }
            Err(error) => {
                // Without a reason of its own it is no refusal but a failure: the chunk stops.
                let Some(reason) = error.refused() else {
                    return Err(error);
                };
                tracing::warn!(%account, run = %run.id, reason, "an account could not be invoiced");
                self.fail(Failure {
                    account,
                    reason: reason.to_owned(),
                    message: error.to_string(),
                });
            }
        }
        Ok(())
    }

    fn fail(&mut self, failure: Failure) {
        self.tally.failed += 1;
        self.failures.push(failure);
    }

    fn draft(&mut self, bill: Bill, seller: &Seller, now: Timestamp) -> Result<Draft, Error> {
        let draft = draft(bill, seller, false, now)?;
        let total = self.totals.entry(draft.bill.currency).or_default();
        *total = total
            .checked_add(i128::from(draft.bill.total))
            .ok_or_else(amount_overflow)?;
        Ok(draft)
    }

    /// Queues everything, in so many statements, however many accounts: figures always, invoices and closed months
    /// unless the run is dry.
    async fn keep(self, tx: &mut Tx, run: &UnderWay, now: Timestamp) -> Result<(), Error> {
        store::bill_run::insert_failures(tx, run, &self.failures);
        let totals = self.totals.into_iter();
        let totals: Vec<Total> = totals
            .map(|(currency, minor)| Total { currency, minor })
            .collect();
        store::bill_run::add_totals(tx, run, &totals);
        if run.dry_run {
            return Ok(());
        }
        if !self.drafts.is_empty() {
            issue(tx, self.drafts, now).await?;
        }
        store::bill_run::close_months(tx, run, &self.closings);
        store::bill_run::settle_late(tx, &self.settled);
        Ok(())
    }
}
