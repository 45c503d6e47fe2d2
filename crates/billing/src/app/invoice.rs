//! Invoices: issuing them, reading them, and previewing a month's.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use octroi_calendar::{Month, Zones};
use octroi_platform::error::Error as Shared;
use octroi_platform::{Call, Page, ToSql, Tx};
use uuid::Uuid;

use super::App;
use super::account::not_found;
use super::charge::{self, Due, Facts};
use crate::domain::account;
use crate::domain::bill::{Bill, Charged};
use crate::domain::charge::setup_lines;
use crate::domain::invoice::{Draft, Invoice, Shown, ShownLine, name};
use crate::domain::ledger::Posting;
use crate::domain::mention::Terms;
use crate::domain::seller::Seller;
use crate::domain::settlement::OrderCharge;
use crate::error::Error;
use crate::store::account::account_columns;
use crate::store::seller::seller_columns;
use crate::store::usage::Asked;
use crate::{event, store};

/// One account with its seller.
const ACCOUNT: &str = concat!(
    "-- account_and_seller
     SELECT ",
    account_columns!(),
    ", ",
    seller_columns!(),
    " FROM account a JOIN seller s ON s.id = a.seller WHERE a.account = $1"
);

impl App {
    /// One invoice, with this many of its lines.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub async fn get_invoice(
        &self,
        call: &Call,
        account: &str,
        id: Uuid,
        lines: i32,
    ) -> Result<Shown, Error> {
        call.caller
            .may_see(account, "invoice", &name(account, id))?;
        let after: Option<Uuid> = None;
        let row = self
            .db
            .read_opt(
                store::invoice::READ,
                &[&account, &Some(id), &after, &1_i64, &lines],
            )
            .await?;
        let found = row
            .map(|row| store::invoice::from_row(&row))
            .transpose()?
            .flatten();
        Ok(found.ok_or_else(|| no_invoice(account, id))?)
    }

    /// A page of an account's invoices, newest first, with one more when another page follows; of each this many lines.
    ///
    /// # Errors
    /// `NOT_FOUND` for the account.
    pub async fn list_invoices(
        &self,
        call: &Call,
        account: &str,
        before: Option<Uuid>,
        page: &Page,
        lines: i32,
    ) -> Result<Vec<Shown>, Error> {
        call.caller
            .may_see(account, "account", &account::name(account))?;
        let only: Option<Uuid> = None;
        let rows = self
            .db
            .read(
                store::invoice::READ,
                &[&account, &only, &before, &page.limit, &lines],
            )
            .await?;
        if rows.is_empty() {
            return Err(not_found(account).into());
        }
        let mut invoices = Vec::with_capacity(rows.len());
        for row in &rows {
            invoices.extend(store::invoice::from_row(row)?);
        }
        Ok(invoices)
    }

    /// A page of an invoice's lines, in their order, with one more when another page follows.
    ///
    /// # Errors
    /// `NOT_FOUND` for the invoice.
    pub async fn list_invoice_lines(
        &self,
        call: &Call,
        account: &str,
        id: Uuid,
        after: i32,
        page: &Page,
    ) -> Result<Vec<ShownLine>, Error> {
        call.caller
            .may_see(account, "invoice", &name(account, id))?;
        let rows = self
            .db
            .read(
                store::invoice::READ_LINES,
                &[&account, &id, &after, &page.limit],
            )
            .await?;
        if rows.is_empty() {
            return Err(no_invoice(account, id).into());
        }
        let mut lines = Vec::with_capacity(rows.len());
        for row in &rows {
            lines.extend(store::invoice::line_from_row(row, id)?);
        }
        Ok(lines)
    }

    /// The bill that an account's month would make, or, while it runs, would make if it ended at an instant: now, or
    /// that of an earlier look which this one goes on from. Nothing is kept.
    ///
    /// # Errors
    /// `NOT_FOUND`, and what parks an account in a bill run.
    pub async fn preview_invoice(
        &self,
        call: &Call,
        account: &str,
        month: Month,
        at: Timestamp,
    ) -> Result<Bill, Error> {
        call.caller
            .may_see(account, "account", &account::name(account))?;
        let until_then = |zones: &Zones| {
            let mut days = zones.days(month);
            days.retain(|day| day.start < at);
            if let Some(today) = days.last_mut() {
                today.end = today.end.min(at);
            }
            days
        };
        // The days to count follow from zones that only the account's row tells. Most accounts keep their seller's
        // calendar: its days are counted on the way, and others only where that was wrong.
        let mut guess = Asked::default();
        guess.push(account, &until_then(&self.calendar));
        let reads = self.db.reads().await?;
        let key: [&(dyn ToSql + Sync); 1] = [&account];
        let only = [account];
        let (rows, closed, guessed) = tokio::try_join!(
            reads.query(ACCOUNT, &key),
            store::charge::closed(&reads, &only, month),
            Facts::read(&reads, guess),
        )?;
        let Some(row) = rows.first() else {
            return Err(not_found(account).into());
        };
        let (account, seller) = (store::account::account(row)?, store::seller::seller(row)?);
        let zones = charge::zones(&account)?;
        // What was told late goes to the next invoice: not to one that was made already.
        let late: Vec<Month> = match closed.iter().any(|closed| closed.month == month) {
            true => Vec::new(),
            false => closed.iter().map(|closed| closed.month).collect(),
        };
        let mut due = Due::new(account, seller, &zones, month, &late);
        due.own.days = until_then(&zones);
        let dues = vec![due];
        let asked = charge::asked(&dues);
        let facts = if guessed.asked == asked {
            guessed
        } else {
            Facts::read(&reads, asked).await?
        };
        let computed = facts.compute(dues, self.clock.is_test()).into_iter().next();
        let computed =
            computed.ok_or_else(|| Shared::Internal(anyhow::anyhow!("a preview of nothing")))?;
        Ok(computed.bill?)
    }
}

fn no_invoice(account: &str, id: Uuid) -> Shared {
    Shared::NotFound {
        kind: "invoice",
        name: name(account, id),
    }
}

/// Issues drafts: takes their numbers (one round trip, holding the sellers' series until the commit), and queues the
/// invoices, their transfers, events and audit rows. Call it when nothing but the commit is left to do.
///
/// # Errors
/// The database's; a conflict when the seller's day has ended since the drafts were made.
pub async fn issue(tx: &mut Tx, drafts: Vec<Draft>, now: Timestamp) -> Result<Vec<Invoice>, Error> {
    let mut wanted: BTreeMap<String, (Date, i64)> = BTreeMap::new();
    for draft in &drafts {
        wanted
            .entry(draft.bill.seller.clone())
            .or_insert((draft.date, 0))
            .1 += 1;
    }
    let wanted: Vec<_> = wanted
        .into_iter()
        .map(|(seller, (date, count))| (seller, date, count))
        .collect();
    let taken = store::numbering::take(tx, &wanted).await?;
    // The series may have been waited for over midnight: a number and its date are of the day on which it is taken.
    let today = tx.now();
    if drafts.iter().any(|draft| draft.is_of_yesterday(today)) {
        return Err(Shared::Conflict("the seller's day has ended in between").into());
    }
    let mut numbers: BTreeMap<String, _> = wanted
        .into_iter()
        .zip(taken)
        .map(|((seller, ..), taken)| (seller, (taken.date, taken.numbers())))
        .collect();
    let mut invoices = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let next = numbers
            .get_mut(&draft.bill.seller)
            .and_then(|(date, numbers)| Some((*date, numbers.next()?)));
        let (date, number) =
            next.ok_or_else(|| Shared::Internal(anyhow::anyhow!("a series ran out of numbers")))?;
        invoices.push(draft.issue(number, date, now));
    }
    keep(tx, &invoices);
    Ok(invoices)
}

/// Queues what issued invoices leave behind: so many statements, however many invoices.
fn keep(tx: &mut Tx, invoices: &[Invoice]) {
    store::invoice::insert(tx, invoices);
    let mut transfers = Vec::with_capacity(2 * invoices.len());
    for invoice in invoices {
        let bill = &invoice.bill;
        let posting = Posting {
            account: bill.account.clone(),
            seller: bill.seller.clone(),
            currency: bill.currency,
            source: invoice.name(),
            at: invoice.created,
        };
        transfers.extend(posting.invoice([Uuid::now_v7(), Uuid::now_v7()], bill.net, bill.tax));
        tx.emit(event::invoice_issued(invoice));
        let after = serde_json::json!({"number": invoice.number, "total": bill.total, "currency": bill.currency.code()});
        tx.audit(&invoice.name(), None, Some(after));
    }
    store::ledger::post(tx, &transfers);
}

/// A draft of a bill, under a new id.
///
/// # Errors
/// `SELLER_INCOMPLETE`.
pub fn draft(bill: Bill, seller: &Seller, paid: bool, now: Timestamp) -> Result<Draft, Error> {
    let zone = TimeZone::get(&seller.zone).map_err(|error| Shared::Internal(error.into()))?;
    Ok(Draft {
        id: Uuid::now_v7(),
        terms: Terms::of(seller)?,
        date: now.to_zoned(zone.clone()).date(),
        zone,
        bill,
        paid,
    })
}

/// Issues the invoice of an order whose quote was paid: reads the account and the seller, then does as [`issue`], which
/// is two round trips in all.
///
/// # Errors
/// `SELLER_INCOMPLETE`; `QUOTE_MISMATCH` when the lines do not come to what was paid.
pub async fn issue_order(
    tx: &mut Tx,
    charge: &OrderCharge,
    test_clock: bool,
    now: Timestamp,
) -> Result<Invoice, Error> {
    let rows = tx.query(ACCOUNT, &[&charge.account]).await?;
    let row = rows.first().ok_or_else(|| not_found(&charge.account))?;
    let (account, seller) = (store::account::account(row)?, store::seller::seller(row)?);
    let order = charge
        .order
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_owned();
    let lines = setup_lines(charge, account.locale)?;
    let bill = Bill::new(
        &account,
        &seller,
        Charged::Order { order },
        lines,
        test_clock,
    )?;
    if (bill.net, bill.tax, bill.currency)
        != (charge.charge.net, charge.charge.tax, charge.charge.currency)
    {
        return Err(Error::QuoteMismatch {
            what: "the lines do not come to what was paid".to_owned(),
        });
    }
    let draft = draft(bill, &seller, true, now)?;
    let issued = issue(tx, vec![draft], now).await?;
    let invoice = issued.into_iter().next();
    Ok(invoice.ok_or_else(|| Shared::Internal(anyhow::anyhow!("no invoice was issued")))?)
}
