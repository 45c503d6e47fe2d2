//! Bill runs: asked for by an operator, worked on in the background, in chunks of accounts. A chunk is one
//! transaction: its invoices, the run's progress and the closed months stand or fall together, so that a run can stop
//! anywhere, go on elsewhere and be asked for twice. Its accounts are leased, so that other processes take others.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use octroi_api::billing::v1::{self as wire, ErrorReason as R};
use octroi_api::r#type::v1::ErrorReason as Shared;
use octroi_calendar::{Month, Zones};
use octroi_platform::refusal::plain;
use octroi_platform::{
    AccountId, Aggregate, Call, Clock, Db, Error, Name as _, Page, ToSql, Tx, caught, row_get,
    while_leased,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::charge;
use super::chunk::{Chunk, HeldAccounts};
use crate::domain::bill_run::{BillRun, BillRunId, Failure, cut_off};
use crate::domain::seller::{Seller, SellerId};
use crate::refusal::usage_behind;
use crate::store;
use crate::store::range::UnderWay;

/// How often in a row an account takes or waits too long before a run goes on without it, if the account after it does
/// not.
const TRIES: u32 = 2;

/// How often in a row before a run goes on without it even if others take too long as well.
const MOST_TRIES: u32 = 10;

/// Where ranges are held up by a single account, which took too long or waited too long for a lock, and how often in a row.
/// Each process counts for itself.
#[derive(Clone, Default)]
pub struct HeldUp(Arc<Mutex<BTreeMap<(String, AccountId), u32>>>);

impl HeldUp {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<(String, AccountId), u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often in a row the range was held up where it is now.
    fn tries(&self, run: &UnderWay) -> u32 {
        self.counts().get(&place(run)).copied().unwrap_or_default()
    }

    /// Counts that it is held up there once more.
    fn count(&self, run: &UnderWay) -> u32 {
        let mut counts = self.counts();
        let tries = counts.entry(place(run)).or_default();
        *tries = tries.saturating_add(1);
        *tries
    }

    /// It goes on from there.
    fn forget(&self, run: &UnderWay) {
        self.counts().remove(&place(run));
    }
}

/// Where a range is.
fn place(run: &UnderWay) -> (String, AccountId) {
    (run.id.0.clone(), run.done_through.clone())
}

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

    /// Works on one range of a run; how much was done, 0 when there is nothing that others do not work on.
    ///
    /// # Errors
    /// The database's; the same accounts are then tried again.
    pub async fn work(&self, now: Timestamp) -> anyhow::Result<u64> {
        let Some(mut run) = store::range::lease(&self.db, Uuid::now_v7(), now).await? else {
            return Ok(0);
        };
        let leased = run.clone();
        let renew = || store::range::renew(&self.db, &leased);
        let worked = while_leased(
            store::range::RENEW_EVERY,
            renew,
            self.work_on(&mut run, now),
        );
        let worked = worked.await;
        // What is left of it need not wait until the lease is over.
        if run.done_through != run.through
            && let Err(error) = store::range::release(&self.db, &run).await
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
        // A chunk has a range's accounts at most. When one of them fails it, smaller chunks find out which.
        let mut size = match is_held_up {
            true => 1,
            false => store::range::accounts(run.dry_run),
        };
        let mut done = 0;
        // After a failure: how many of the next accounts are left in which the one that caused it is searched for.
        let mut among = size;
        loop {
            // A panic is a failure like any other. A chunk's future is large, and stacks are not.
            let chunk =
                caught(async { Ok(Box::pin(self.chunk(run, size, None, now)).await) }).await;
            match chunk.unwrap_or_else(|panic| Err(Error::Internal(panic))) {
                Ok(0) => return Ok(done),
                Ok(more) if size == among => return Ok(done + more),
                Ok(more) => {
                    done += more;
                    among -= size;
                }
                // The database is away, which is no account's fault.
                Err(error) if error.is_away() => return Err(error.into()),
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
        let after = without.as_ref().map_or(&run.done_through, |it| &it.account);
        let Some((mut tx, held)) = self.hold(run, after, size, now).await? else {
            return Ok(0);
        };
        let mut chunk = Chunk::default();
        if let Some(failure) = without {
            chunk.fail(failure);
        }
        let through = held.through.clone();
        let dues = chunk.due(run, held)?;
        for computed in charge::compute(&tx, dues, self.clock.is_test()).await? {
            chunk.sort(run, computed, now)?;
        }
        let tally = chunk.tally;
        chunk.keep(&mut tx, run, now).await?;
        if through == run.through {
            store::range::finish(&mut tx, run);
        } else {
            store::range::advance(&mut tx, run, &through);
        }
        store::bill_run::count(&mut tx, run, tally, now);
        tx.commit_work().await?;
        self.held_up.forget(run);
        run.done_through = through;
        Ok(u64::from(tally.accounts().unsigned_abs()).max(1))
    }

    /// Holds the next accounts of a range after one, at most `size`; none when the lease is lost. A dry run only reads them.
    async fn hold(
        &self,
        run: &UnderWay,
        after: &AccountId,
        size: i64,
        now: Timestamp,
    ) -> Result<Option<(Tx, HeldAccounts)>, Error> {
        let call =
            Call::background(now, "octroi.billing.v1.BillRunService/CreateBillRun").patient();
        // A dry run has too few statements to plan to keep a plan for the next chunk.
        let (read, planned) = match run.dry_run {
            true => (store::bill_run::READ_ACCOUNTS, "force_custom_plan"),
            false => (store::bill_run::HOLD_ACCOUNTS, "auto"),
        };
        let params: [&(dyn ToSql + Sync); 5] = [
            &run.id.0,
            &run.through,
            &run.token,
            &run.done_through,
            &planned,
        ];
        let hold = self.db.begin_work(&call, store::bill_run::HOLD, &params);
        let (tx, held) = hold.await?;
        let Some(held) = held.first() else {
            tx.rollback().await;
            return Ok(None);
        };
        let behind = row_get(held, "behind")?;
        let through = match size {
            0 => after.clone(),
            _ if size >= store::range::accounts(run.dry_run) => run.through.clone(),
            _ => store::range::end_of(&tx, after, &run.through, size).await?,
        };
        let range = [after as &(dyn ToSql + Sync), &through];
        let (_, rows) = tokio::try_join!(
            async {
                match run.dry_run {
                    true => Ok(Vec::new()),
                    false => tx.query(store::bill_run::FORGET_PLANS, &[]).await,
                }
            },
            tx.query(read, &range),
        )?;
        // Once they are held: usage that was reported late until then is charged now.
        let closed = store::charge::closed(&tx, (after, &through), run.month).await?;
        let mut accounts = Vec::with_capacity(rows.len());
        // Most have the same: it is read once.
        let mut sellers: BTreeMap<SellerId, Arc<Seller>> = BTreeMap::new();
        for row in &rows {
            let account = store::account::from_row(row)?;
            let seller = match sellers.entry(account.seller.clone()) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(Arc::new(store::seller::from_row(row)?)),
            };
            accounts.push((account, Arc::clone(seller)));
        }
        accounts.sort_by(|(one, _), (other, _)| one.id.cmp(&other.id));
        let held = HeldAccounts {
            accounts,
            closed,
            behind,
            through,
        };
        Ok(Some((tx, held)))
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
        Box::pin(self.chunk(run, beside, Some(failure), now)).await
    }
}

/// Whether time ran out, at work or waiting for a lock: that may be an account's fault, or the whole database is slow.
fn is_slow(error: &Error) -> bool {
    matches!(error, Error::TookTooLong | Error::Conflict(_))
}
