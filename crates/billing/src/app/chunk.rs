//! A chunk of a bill run's accounts: what becomes of each, and what is kept of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use octroi_api::billing::v1::ErrorReason as R;
use octroi_calendar::Month;
use octroi_platform::refusal::plain;
use octroi_platform::{AccountId, Error, Tx};

use super::charge::{Calendars, Computed, Due};
use super::invoice::{draft, issue, prepare};
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

/// The accounts of a chunk, by id, each with its seller.
pub(super) struct HeldAccounts {
    pub(super) accounts: Vec<(Account, Arc<Seller>)>,
    pub(super) closed: Closed,
    /// Of which accounts licensing has not told everything.
    pub(super) behind: Vec<AccountId>,
    /// The last of them, or that of the range.
    pub(super) through: AccountId,
}

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
    pub(super) fn due(&mut self, run: &UnderWay, held: HeldAccounts) -> Result<Vec<Due>, Error> {
        let mut closed = held.closed;
        let mut calendars = Calendars::default();
        let mut dues = Vec::with_capacity(held.accounts.len());
        for (account, seller) in held.accounts {
            let (zones, own) = calendars.month(&account, run.month)?;
            let late = closed.remove(&account.id).unwrap_or_default();
            if own.month.span.end > run.created_at {
                self.tally.not_due += 1;
            } else if late.contains(&run.month) {
                self.tally.skipped += 1;
            } else if held.behind.contains(&account.id) {
                self.fail(Failure {
                    account: account.id,
                    reason: plain(R::UsageBehind.as_str_name()).to_owned(),
                    message: BEHIND.to_owned(),
                });
            } else {
                dues.push(Due::new(account, seller, zones, own.clone(), late));
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

    /// Writes what is kept, in so many statements, however many accounts: figures always, invoices and closed months
    /// unless the run is dry. What others wait for, numbers and the run's figures, comes last, with the commit.
    pub(super) async fn keep(
        self,
        tx: &mut Tx,
        run: &UnderWay,
        now: Timestamp,
    ) -> Result<(), Error> {
        store::bill_run::insert_failures(tx, run, &self.failures);
        if !run.dry_run {
            store::bill_run::close_months(tx, run, &self.closings);
            store::bill_run::settle_late(tx, &self.settled);
            if !self.drafts.is_empty() {
                let prepared = prepare(tx, self.drafts, now);
                tx.flush().await.map_err(|(_, error)| error)?;
                issue(tx, prepared, now).await?;
            }
        }
        let totals = self.totals.into_iter();
        let totals: Vec<Total> = totals
            .map(|(currency, minor)| Total { currency, minor })
            .collect();
        store::bill_run::add_totals(tx, run, &totals);
        Ok(())
    }
}
