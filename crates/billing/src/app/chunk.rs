//! A chunk of a bill run's accounts: what becomes of each, and what is kept of it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use octroi_api::billing::v1::ErrorReason as R;
use octroi_calendar::Month;
use octroi_platform::refusal::plain;
use octroi_platform::{AccountId, Error, Tx};

use super::charge::{Calendars, Computed, Due};
use super::invoice::{draft, issue};
use crate::domain::account::Account;
use crate::domain::bill::Bill;
use crate::domain::bill_run::{Failure, Tally, Total};
use crate::domain::invoice::Draft;
use crate::domain::money::Currency;
use crate::domain::seller::Seller;
use crate::refusal::amount_overflow;
use crate::store;
use crate::store::bill_run::Closing;
use crate::store::charge::Closed;
use crate::store::range::UnderWay;

/// Why an account fails whose usage is behind.
const BEHIND: &str = "an event of licensing's that concerns the account cannot be taken, and what comes after it waits: \
                      repair what refuses it, deliver it again (octroi replay), and a later run takes the account";

/// What becomes of a chunk's accounts.
#[derive(Default)]
pub(super) struct Chunk {
    pub(super) tally: Tally,
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
    pub(super) async fn due(
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
    pub(super) fn sort(
        &mut self,
        run: &UnderWay,
        computed: Computed,
        now: Timestamp,
    ) -> Result<(), Error> {
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

    pub(super) fn fail(&mut self, failure: Failure) {
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
    pub(super) async fn keep(
        self,
        tx: &mut Tx,
        run: &UnderWay,
        now: Timestamp,
    ) -> Result<(), Error> {
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
