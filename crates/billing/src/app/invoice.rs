//! Invoices: issuing them, reading them, and previewing a month's.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use octroi_calendar::{Month, Zones};
use octroi_platform::{AccountId, Call, Clock, Db, Error, Page, ToSql, Tx};
use uuid::Uuid;

use super::charge::{self, Counted, Due, Facts};
use crate::domain::bill::{Bill, Charged};
use crate::domain::charge::setup_lines;
use crate::domain::invoice::{Draft, Invoice, InvoiceId, Place, Shown, ShownLine};
use crate::domain::ledger::Posting;
use crate::domain::mention::Terms;
use crate::domain::seller::{Seller, SellerId};
use crate::domain::settlement::OrderCharge;
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

#[derive(Clone)]
pub(crate) struct Invoices {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    /// The calendar that accounts keep unless they say otherwise.
    pub(crate) calendar: Zones,
}

impl Invoices {
    /// One invoice, with this many of its lines.
    pub(crate) async fn get(
        &self,
        call: &Call,
        id: &InvoiceId,
        lines: i32,
    ) -> Result<Shown, Error> {
        let after: Option<Uuid> = None;
        let params: [&(dyn ToSql + Sync); 5] = [&id.account, &Some(id.id), &after, &1_i64, &lines];
        let found = self
            .db
            .list(
                call,
                id,
                store::invoice::READ,
                &params,
                store::invoice::from_row,
            )
            .await?;
        found.into_iter().next().ok_or_else(|| call.not_found(id))
    }

    /// A page of an account's invoices, newest first; of each this many lines.
    pub(crate) async fn list(
        &self,
        call: &Call,
        account: &AccountId,
        page: &Page<Uuid>,
        lines: i32,
    ) -> Result<Vec<Shown>, Error> {
        let only: Option<Uuid> = None;
        let params: [&(dyn ToSql + Sync); 5] = [account, &only, &page.after, &page.limit, &lines];
        self.db
            .list(
                call,
                account,
                store::invoice::READ,
                &params,
                store::invoice::from_row,
            )
            .await
    }

    /// A page of an invoice's lines, by number.
    pub(crate) async fn list_lines(
        &self,
        call: &Call,
        invoice: &InvoiceId,
        page: &Page<Place>,
    ) -> Result<Vec<ShownLine>, Error> {
        let after = page.after.map_or(0, |place| place.after);
        let params: [&(dyn ToSql + Sync); 4] = [&invoice.account, &invoice.id, &after, &page.limit];
        self.db
            .list(
                call,
                invoice,
                store::invoice::READ_LINES,
                &params,
                store::invoice::line_from_row,
            )
            .await
    }

    /// The bill that an account's month would make, or, while it runs, would make if it ended at an instant: now, or
    /// that of an earlier look which this one goes on from. Nothing is kept.
    ///
    /// # Errors
    /// NOT_FOUND, and the refusals for which a bill run goes on without an account.
    pub(crate) async fn preview(
        &self,
        call: &Call,
        account: &AccountId,
        month: Month,
        at: Timestamp,
    ) -> Result<Bill, Error> {
        let until_then = |zones: &Zones| {
            let mut days = zones.days(month);
            days.retain(|day| day.start < at);
            if let Some(today) = days.last_mut() {
                today.end = today.end.min(at);
            }
            Arc::from(days)
        };
        // The days to count depend on the account's time zone, which is in the row being read. Most accounts have their
        // seller's: its days are counted in the same round trip, and recounted in another one where the guess was wrong.
        let mut guess = Asked::default();
        guess.push(account, &until_then(&self.calendar));
        let reads = self.db.reads().await?;
        let key: [&(dyn ToSql + Sync); 1] = [account];
        let (rows, mut closed, guessed) = tokio::try_join!(
            reads.query(ACCOUNT, &key),
            store::charge::closed(&reads, (account, account), month),
            Facts::read(&reads, guess),
        )?;
        let Some(row) = rows.first() else {
            return Err(call.not_found(account));
        };
        let (account, seller) = (
            store::account::from_row(row)?,
            Arc::new(store::seller::from_row(row)?),
        );
        let zones = charge::zones(&account)?;
        // Late usage is added to the next invoice, so to none where this month is invoiced already.
        let mut late = closed.remove(&account.id).unwrap_or_default();
        if late.contains(&month) {
            late.clear();
        }
        let own = Counted::new(&zones, month, false);
        let mut due = Due::new(account, seller, &zones, own, late);
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
            computed.ok_or_else(|| Error::Internal(anyhow::anyhow!("a preview of nothing")))?;
        Ok(computed.bill?)
    }
}

/// Drafts whose lines, taxes and transfers are written in this transaction: no foreign key ties these to an invoice, so
/// that whoever has them issues them.
#[must_use]
pub(crate) struct Prepared(Vec<Draft>);

/// Queues what drafts leave behind that does not tell their numbers: lines, taxes and transfers. So many statements,
/// however many drafts.
pub(crate) fn prepare(tx: &mut Tx, drafts: Vec<Draft>, now: Timestamp) -> Prepared {
    store::invoice::insert_lines(tx, &drafts);
    store::invoice::insert_taxes(tx, &drafts);
    let mut transfers = Vec::with_capacity(2 * drafts.len());
    for draft in &drafts {
        let bill = &draft.bill;
        let posting = Posting {
            account: bill.account.clone(),
            seller: bill.seller.clone(),
            currency: bill.currency,
            source: draft.id.to_string(),
            at: now,
        };
        transfers.extend(posting.invoice([Uuid::now_v7(), Uuid::now_v7()], bill.net, bill.tax));
    }
    store::ledger::post(tx, &transfers);
    Prepared(drafts)
}

/// Issues drafts that are prepared: takes their numbers (one round trip, holding the sellers' series until the commit),
/// and queues the invoices, their events and audit rows. Call it when nothing but the commit is left to do.
///
/// # Errors
/// The database's; a conflict when the seller's day has ended since the drafts were made.
pub(crate) async fn issue(
    tx: &mut Tx,
    Prepared(drafts): Prepared,
    now: Timestamp,
) -> Result<Vec<Invoice>, Error> {
    let mut wanted: BTreeMap<SellerId, (Date, i64)> = BTreeMap::new();
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
        return Err(Error::Conflict("the seller's day has ended in between"));
    }
    let mut numbers: BTreeMap<SellerId, _> = wanted
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
            next.ok_or_else(|| Error::Internal(anyhow::anyhow!("a series ran out of numbers")))?;
        invoices.push(draft.issue(number, date, now));
    }
    store::invoice::insert(tx, &invoices);
    for invoice in &invoices {
        let bill = &invoice.bill;
        tx.emit(event::invoice_issued(invoice));
        let after = serde_json::json!({"number": invoice.number, "total": bill.total, "currency": bill.currency.code()});
        tx.audit(&invoice.id.to_string(), None, Some(after));
    }
    Ok(invoices)
}

/// A draft of a bill, under a new id.
///
/// # Errors
/// `SELLER_INCOMPLETE`.
pub(crate) fn draft(
    bill: Bill,
    seller: &Seller,
    paid: bool,
    now: Timestamp,
) -> Result<Draft, Error> {
    let zone = TimeZone::get(&seller.zone).map_err(|error| Error::Internal(error.into()))?;
    Ok(Draft {
        id: InvoiceId {
            account: bill.account.clone(),
            id: Uuid::now_v7(),
        },
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
/// SELLER_INCOMPLETE.
pub(crate) async fn issue_order(
    tx: &mut Tx,
    charge: &OrderCharge,
    test_clock: bool,
    now: Timestamp,
) -> Result<Invoice, Error> {
    let account = &charge.order.account;
    let rows = tx.query(ACCOUNT, &[account]).await?;
    let row = rows.first().ok_or_else(|| tx.call().not_found(account))?;
    let (account, seller) = (
        store::account::from_row(row)?,
        store::seller::from_row(row)?,
    );
    let order = charge.order.clone();
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
        return Err(Error::Internal(anyhow::anyhow!(
            "the lines do not come to what was paid"
        )));
    }
    // Its few rows go with the commit, after the number is taken: they keep nobody waiting for long.
    let prepared = prepare(tx, vec![draft(bill, &seller, true, now)?], now);
    let issued = issue(tx, prepared, now).await?;
    let invoice = issued.into_iter().next();
    invoice.ok_or_else(|| Error::Internal(anyhow::anyhow!("no invoice was issued")))
}
