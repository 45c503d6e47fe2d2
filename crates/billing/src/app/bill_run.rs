//! Bill runs: asked for by an operator, worked on in the background, in chunks of accounts. A chunk is one
//! transaction: its invoices, the run's progress and the closed months stand or fall together, so that a run can stop
//! anywhere, go on elsewhere and be asked for twice. Its row lock keeps other processes away for as long.

use std::collections::BTreeMap;

use jiff::Timestamp;
use octroi_platform::calendar::{Month, Zones};
use octroi_platform::error::Error as Shared;
use octroi_platform::{Call, Page, ToSql, Tx, row_get};
use prost::Message;
use tokio_postgres::Row;
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
use crate::store::bill_run::{Closing, UnderWay};
use crate::store::charge::Closed;

/// How many accounts a chunk has; when one of them stops a chunk, smaller ones close in on it.
const CHUNK: i64 = 100;

/// Whose request ids a bill run's are: it is the installation's.
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
    pub async fn get_bill_run(&self, id: &str) -> Result<BillRun, Error> {
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

    /// A page of bill runs, newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn list_bill_runs(&self, page: &Page) -> Result<Vec<BillRun>, Error> {
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

    /// Works on the oldest run under way by one chunk; how much was done, 0 when there is no run to work on.
    ///
    /// # Errors
    /// The database's; the same chunk is then tried again.
    pub async fn work_on_bill_runs(&self, now: Timestamp) -> anyhow::Result<u64> {
        let Some(mut run) = store::bill_run::next(&self.db).await? else {
            return Ok(0);
        };
        let (mut done, mut size) = (0, CHUNK);
        // One of so many next accounts stops a chunk; or, at first, they are merely the next.
        let mut among = CHUNK;
        loop {
            match self.chunk(&mut run, size, now).await {
                Ok(0) => return Ok(done),
                Ok(more) if size == among => return Ok(done + more),
                Ok(more) => {
                    done += more;
                    among -= size;
                }
                // Fewer accounts may fit into the time that a transaction has.
                Err(Error::Platform(Shared::TookTooLong)) if size > 1 => among = size,
                Err(Error::Platform(error)) if error.is_transient() => return Err(error.into()),
                // It is parked, so that the others go on.
                Err(error) if size == 1 => {
                    return Ok(done + self.park_next(&run, error, now).await?);
                }
                Err(_) => among = size,
            }
            size = (among + 1) / 2;
        }
    }

    /// Invoices the next accounts, at most `size`, or completes the run when there are none; 0 when another process
    /// works on it.
    async fn chunk(&self, run: &mut UnderWay, size: i64, now: Timestamp) -> Result<u64, Error> {
        let Some((mut tx, rows)) = self.hold(run, size, now).await? else {
            return Ok(0);
        };
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
        let tally = chunk.tally;
        chunk.keep(&mut tx, run, now).await?;
        store::bill_run::advance(&mut tx, run, &through, tally);
        tx.commit_work().await?;
        run.done_through = through;
        Ok(u64::from(tally.accounts().unsigned_abs()))
    }

    /// Holds a run and its next accounts; none when another process works on it.
    async fn hold(
        &self,
        run: &UnderWay,
        size: i64,
        now: Timestamp,
    ) -> Result<Option<(Tx, Vec<Row>)>, Shared> {
        let call = Call::background(now, "octroi.billing.v1.BillRunService/CreateBillRun");
        let (tx, held) = self
            .db
            .begin_work(&call, store::bill_run::HOLD, &[&run.id, &run.done_through])
            .await?;
        if held.is_empty() {
            tx.rollback().await;
            return Ok(None);
        }
        let next = async {
            let params = [&run.done_through as &(dyn ToSql + Sync), &size];
            tx.query(store::bill_run::HOLD_ACCOUNTS, &params).await
        };
        let planning = tx.query(store::bill_run::FORGET_PLANS, &[]);
        let (_, accounts) = tokio::try_join!(planning, next)?;
        Ok(Some((tx, accounts)))
    }

    /// Parks the next account, whatever is wrong with it.
    async fn park_next(&self, run: &UnderWay, error: Error, now: Timestamp) -> Result<u64, Error> {
        let Some((mut tx, rows)) = self.hold(run, 1, now).await? else {
            return Ok(0);
        };
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
        store::bill_run::park(&mut tx, run, &[failure]);
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
    drafts: Vec<Draft>,
    /// The month of every account that is done, with or without an invoice.
    closings: Vec<Closing>,
    /// Months whose late usage the drafts charge.
    settled: Vec<(String, Month)>,
    failures: Vec<Failure>,
    totals: BTreeMap<Currency, i64>,
}

impl Chunk {
    /// Leaves out whose month has not ended at the cut-off, and whose month is closed.
    async fn due(
        &mut self,
        tx: &Tx,
        run: &UnderWay,
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
    fn sort(&mut self, run: &UnderWay, computed: Computed, now: Timestamp) -> Result<(), Error> {
        let Computed { due, bill, settled } = computed;
        let drafted = match bill {
            Ok(bill) if bill.lines.is_empty() => Ok(None),
            Ok(bill) => self.draft(bill, &due.seller, now).map(Some),
            Err(unchargeable) => Err(unchargeable.into()),
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
                    invoice: draft.as_ref().map(|draft| draft.id),
                });
                self.drafts.extend(draft);
            }
            Err(error) => {
                // Without a reason of its own it is no refusal but a failure: the chunk stops.
                let Some(reason) = error.reason() else {
                    return Err(error);
                };
                tracing::warn!(
                    account = account_name(&account),
                    run = run.id,
                    reason,
                    "an account is parked"
                );
                self.tally.failed += 1;
                self.failures.push(Failure {
                    account,
                    reason: reason.to_owned(),
                    message: error.to_string(),
                });
            }
        }
        Ok(())
    }

    fn draft(&mut self, bill: Bill, seller: &Seller, now: Timestamp) -> Result<Draft, Error> {
        let draft = draft(bill, seller, false, now)?;
        let total = self.totals.entry(draft.bill.currency).or_default();
        *total = add(*total, draft.bill.total)?;
        Ok(draft)
    }

    /// Queues everything, in so many statements, however many accounts: figures always, invoices and closed months
    /// unless the run is dry.
    async fn keep(self, tx: &mut Tx, run: &UnderWay, now: Timestamp) -> Result<(), Error> {
        store::bill_run::park(tx, run, &self.failures);
        let totals = self.totals.into_iter();
        let totals: Vec<Money> = totals
            .map(|(currency, total)| Money::new(total, currency))
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
