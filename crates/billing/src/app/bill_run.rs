//! Bill runs: asked for by an operator, worked on in the background, in chunks of accounts. A chunk is one
//! transaction: its invoices, the run's progress and the closed months stand or fall together, so that a run can stop
//! anywhere, go on elsewhere and be asked for twice.

use std::collections::BTreeMap;

use jiff::Timestamp;
use octroi_platform::calendar::{Month, Zones};
use octroi_platform::error::Error as Shared;
use octroi_platform::{Call, Page, Tx, row_get};
use prost::Message;
use uuid::Uuid;

use super::App;
use super::charge::{self, Computed, Due};
use super::invoice::{draft, issue};
use crate::domain::account::{Account, name as account_name};
use crate::domain::bill::Bill;
use crate::domain::bill_run::{BillRun, Failure, Tally, cut_off, name};
use crate::domain::invoice::Draft;
use crate::domain::money::{Currency, Money, add};
use crate::domain::seller::Seller;
use crate::error::Error;
use crate::store;
use crate::store::bill_run::Leased;
use crate::store::charge::Closed;

/// How many accounts a chunk has; when one of them stops a chunk, smaller ones close in on it.
const CHUNKS: [i64; 3] = [100, 10, 1];

/// The account that a caller bound to another may not stand for: a bill run is the installation's.
const NOBODY: &str = "-";

impl App {
    /// Starts the invoicing of a month, under the given id or one of its own.
    ///
    /// # Errors
    /// `ALREADY_EXISTS`, `MONTH_NOT_ENDED`, `USAGE_BEHIND`, `SELLER_INCOMPLETE`.
    pub async fn create_bill_run<R: Message + Default>(
        &self,
        call: &Call,
        id: Option<String>,
        month: Month,
        dry_run: bool,
        reply: fn(&BillRun) -> R,
    ) -> Result<R, Error> {
        let id = id.unwrap_or_else(|| format!("r-{}", Uuid::now_v7().simple()));
        call.caller.may_see(NOBODY, "bill run", &name(&id))?;
        let begun = self
            .db
            .begin(call, NOBODY, store::bill_run::EXISTS, &[&id])
            .await?;
        let (mut tx, rows) = match begun.fresh()? {
            Ok(fresh) => fresh,
            Err(answer) => return Ok(answer),
        };
        let taken = || Shared::AlreadyExists {
            kind: "bill run",
            name: name(&id),
        };
        if rows
            .first()
            .map(|row| row_get::<bool>(row, "taken"))
            .transpose()?
            == Some(true)
        {
            return Err(taken().into());
        }
        self.check_ready(&tx, month, call.now).await?;
        let run = BillRun::new(id.clone(), month, dry_run, call.now);
        store::bill_run::insert(&mut tx, &run);
        let after = serde_json::json!({"month": month.to_string(), "dry_run": dry_run});
        tx.audit(&run.name(), None, Some(after));
        let answer = reply(&run);
        match tx.commit(&answer).await {
            Err(error) if error.violates("bill_run_pkey") => return Err(taken().into()),
            other => other?,
        }
        Ok(answer)
    }

    /// Whether a month can be invoiced now: it has ended for someone, usage is complete through then, and a seller may
    /// invoice. The accounts of one that may not are parked.
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
            return Err(Error::UsageBehind {
                cut_off: cut_off.to_string(),
                complete_through: complete.map(|at| at.to_string()).unwrap_or_default(),
            });
        }
        let mut reason = None;
        for row in &tx.query(store::bill_run::SELLERS, &[]).await? {
            match store::seller::seller(row)?.check_complete() {
                Ok(()) => return Ok(()),
                Err(incomplete) => reason = reason.or(Some(incomplete)),
            }
        }
        reason.map_or(Ok(()), |incomplete| Err(incomplete.into()))
    }

    /// One bill run.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub async fn get_bill_run(&self, call: &Call, id: &str) -> Result<BillRun, Error> {
        call.caller.may_see(NOBODY, "bill run", &name(id))?;
        let after: Option<&str> = None;
        let row = self
            .db
            .read_opt(store::bill_run::READ, &[&Some(id), &after, &1_i64])
            .await?;
        let row = row.ok_or_else(|| Shared::NotFound {
            kind: "bill run",
            name: name(id),
        })?;
        Ok(store::bill_run::from_row(&row)?)
    }

    /// A page of bill runs, newest first; none for a caller bound to an account.
    ///
    /// # Errors
    /// The database's.
    pub async fn list_bill_runs(&self, call: &Call, page: &Page) -> Result<Vec<BillRun>, Error> {
        if call.caller.account.is_some() {
            return Ok(Vec::new());
        }
        let only: Option<&str> = None;
        let rows = self
            .db
            .read(store::bill_run::READ, &[&only, &page.after, &page.limit])
            .await?;
        Ok(rows
            .iter()
            .map(store::bill_run::from_row)
            .collect::<Result<_, _>>()?)
    }

    /// Works on the oldest run under way by one chunk; how much was done, 0 when there is no run to work on. `worker`
    /// names this process in leases.
    ///
    /// # Errors
    /// The database's; the same chunk is then tried again.
    pub async fn work_on_bill_runs(&self, worker: Uuid, now: Timestamp) -> anyhow::Result<u64> {
        let Some(run) = store::bill_run::lease(&self.db, worker).await? else {
            return Ok(0);
        };
        let mut stopped = None;
        for size in CHUNKS {
            match self.chunk(&run, size, now).await {
                Ok(done) => return Ok(done),
                Err(Error::Platform(error)) if error.is_transient() => return Err(error.into()),
                Err(error) => stopped = Some(error),
            }
        }
        // A single account stops every chunk: it is parked, so that the others go on.
        match stopped {
            Some(error) => Ok(self.park_next(&run, error, now).await?),
            None => Ok(0),
        }
    }

    /// Invoices the next accounts, at most `size`, or completes the run when there are none.
    async fn chunk(&self, run: &Leased, size: i64, now: Timestamp) -> Result<u64, Error> {
        let call = Call::background(now, "octroi.billing.v1.BillRunService/CreateBillRun");
        let (mut tx, rows) = self
            .db
            .begin_work(
                &call,
                store::bill_run::HOLD_ACCOUNTS,
                &[&run.done_through, &size],
            )
            .await?;
        let mut accounts = Vec::with_capacity(rows.len());
        for row in &rows {
            accounts.push((store::account::account(row)?, store::seller::seller(row)?));
        }
        let Some(through) = accounts.last().map(|(account, _)| account.id.clone()) else {
            store::bill_run::complete(&mut tx, run, now);
            tx.commit_work().await?;
            return Ok(1);
        };
        let mut chunk = Chunk::default();
        let dues = chunk.due(&tx, run, accounts).await?;
        for computed in charge::compute(&tx, dues, self.clock.is_test()).await? {
            chunk.sort(run, computed, now)?;
        }
        chunk.keep(&mut tx, run, now).await?;
        store::bill_run::advance(&mut tx, run, &through, chunk.tally);
        tx.commit_work().await?;
        Ok(u64::from(chunk.tally.accounts().unsigned_abs()))
    }

    /// Parks the next account, whatever is wrong with it.
    async fn park_next(&self, run: &Leased, error: Error, now: Timestamp) -> Result<u64, Error> {
        let call = Call::background(now, "octroi.billing.v1.BillRunService/CreateBillRun");
        let (mut tx, rows) = self
            .db
            .begin_work(
                &call,
                store::bill_run::HOLD_ACCOUNTS,
                &[&run.done_through, &1_i64],
            )
            .await?;
        let Some(row) = rows.first() else {
            return Err(error);
        };
        let account: String = row_get(row, "account")?;
        tracing::error!(%account, run = run.id, error = format!("{:#}", anyhow::Error::new(error)), "an account is parked");
        let failure = Failure {
            reason: "INTERNAL".to_owned(),
            message: "internal error; the log has it under the account's name".to_owned(),
            account: account.clone(),
        };
        store::bill_run::park(&mut tx, run, failure);
        let tally = Tally {
            failed: 1,
            ..Tally::default()
        };
        store::bill_run::advance(&mut tx, run, &account, tally);
        tx.commit_work().await?;
        Ok(1)
    }
}

/// What becomes of a chunk's accounts.
#[derive(Default)]
struct Chunk {
    tally: Tally,
    /// Accounts with something to invoice.
    drafts: Vec<(Computed, Draft)>,
    /// Accounts with nothing to invoice.
    empty: Vec<Computed>,
    failures: Vec<Failure>,
    totals: BTreeMap<Currency, i64>,
}

impl Chunk {
    /// Leaves out whose month has not ended at the cut-off, and whose month is closed.
    async fn due(
        &mut self,
        tx: &Tx,
        run: &Leased,
        accounts: Vec<(Account, Seller)>,
    ) -> Result<Vec<Due>, Error> {
        let mut ended = Vec::with_capacity(accounts.len());
        for (account, seller) in accounts {
            let zones = charge::zones(&account)?;
            if zones.month(run.month).end <= run.created {
                ended.push((account, seller, zones));
            } else {
                self.tally.not_due += 1;
            }
        }
        let ids: Vec<&str> = ended
            .iter()
            .map(|(account, ..)| account.id.as_str())
            .collect();
        let mut months: BTreeMap<String, Vec<Closed>> = BTreeMap::new();
        for closed in store::charge::closed(tx, &ids, run.month).await? {
            months
                .entry(closed.account.clone())
                .or_default()
                .push(closed);
        }
        let mut dues = Vec::with_capacity(ended.len());
        for (account, seller, zones) in ended {
            let closed = months.remove(&account.id).unwrap_or_default();
            if closed.iter().any(|closed| closed.month == run.month) {
                self.tally.skipped += 1;
            } else {
                let late: Vec<Month> = closed.iter().map(|closed| closed.month).collect();
                dues.push(Due::new(account, seller, &zones, run.month, &late));
            }
        }
        Ok(dues)
    }

    /// Notes what becomes of an account.
    fn sort(&mut self, run: &Leased, computed: Computed, now: Timestamp) -> Result<(), Error> {
        let drafted = match &computed.bill {
            Ok(bill) if bill.lines.is_empty() => Ok(None),
            Ok(bill) => self.draft(bill, &computed.due.seller, now).map(Some),
            Err(unchargeable) => Err(unchargeable.clone().into()),
        };
        match drafted {
            Ok(Some(draft)) => {
                self.tally.invoices += 1;
                self.drafts.push((computed, draft));
            }
            Ok(None) => {
                self.tally.skipped += 1;
                self.empty.push(computed);
            }
            Err(error) => {
                // Without a reason of its own it is no refusal but a failure: the chunk stops.
                let Some(reason) = error.reason() else {
                    return Err(error);
                };
                let account = &computed.due.account.id;
                tracing::warn!(
                    account = account_name(account),
                    run = run.id,
                    reason,
                    "an account is parked"
                );
                self.tally.failed += 1;
                self.failures.push(Failure {
                    account: account.clone(),
                    reason: reason.to_owned(),
                    message: error.to_string(),
                });
            }
        }
        Ok(())
    }

    fn draft(&mut self, bill: &Bill, seller: &Seller, now: Timestamp) -> Result<Draft, Error> {
        let draft = draft(bill.clone(), seller, false, now)?;
        let total = self.totals.entry(bill.currency).or_default();
        *total = add(*total, bill.total)?;
        Ok(draft)
    }

    /// Queues everything: figures always, invoices and closed months unless the run is dry.
    async fn keep(&mut self, tx: &mut Tx, run: &Leased, now: Timestamp) -> Result<(), Error> {
        for failure in std::mem::take(&mut self.failures) {
            store::bill_run::park(tx, run, failure);
        }
        for (currency, total) in std::mem::take(&mut self.totals) {
            store::bill_run::add_total(tx, run, Money::new(total, currency));
        }
        if run.dry_run {
            return Ok(());
        }
        let (computed, drafts): (Vec<Computed>, Vec<Draft>) =
            std::mem::take(&mut self.drafts).into_iter().unzip();
        let ids: Vec<Uuid> = drafts.iter().map(|draft| draft.id).collect();
        if !drafts.is_empty() {
            issue(tx, drafts, now).await?;
        }
        for (computed, id) in computed.iter().zip(ids) {
            close(tx, run, computed, Some(id));
        }
        for computed in &self.empty {
            close(tx, run, computed, None);
        }
        Ok(())
    }
}

/// Queues the closing of an account's month.
fn close(tx: &mut Tx, run: &Leased, computed: &Computed, invoice: Option<Uuid>) {
    let account = &computed.due.account.id;
    store::bill_run::close_month(tx, run, account, computed.due.own.month.span, invoice);
    for month in &computed.settled {
        store::bill_run::settle_late(tx, account, *month);
    }
}
