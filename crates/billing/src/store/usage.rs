//! Usage: what licensing told, read for the one function that counts it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use octroi_calendar::usage::{self, Interval};
use octroi_calendar::{Day, Span};
use octroi_platform::db::{Reads, row_get};
use octroi_platform::error::Error;
use octroi_platform::tx::{Rows, Tx};
use octroi_platform::{AccountId, ToSql, params};
use tokio_postgres::Row;

use crate::domain::price::OfferId;
use crate::domain::usage::{Entry, GroupName, Opening, Seat, Usage};

/// The intervals of the accounts from `$1` to `$2` that touch the time from `$3` to `$4`, account by account, those of a
/// thousand seats of a group and an offer in a row. The accounts are next to each other in the index, so it is walked from
/// the first to the last, whatever the statistics say.
const INTERVALS: &str = "-- intervals
    SELECT account, group_id, offer, array_agg(seat) AS seats, array_agg(start_time) AS starts, array_agg(end_time) AS ends
    FROM usage_interval
    WHERE account >= $1 AND account <= $2
        AND coalesce(end_time, 'infinity') > $3 AND start_time < $4
    GROUP BY account, group_id, offer, seat / 1000 ORDER BY account";

/// Months to be counted: an account and the days of its calendar, each. Items are answered by their position.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Asked {
    items: Vec<(AccountId, Arc<[Day]>)>,
}

impl Asked {
    /// Asks for an account's consumption on days that follow each other.
    pub fn push(&mut self, account: &AccountId, days: &Arc<[Day]>) {
        self.items.push((account.clone(), Arc::clone(days)));
    }

    /// The first account and the last, by id; none when nothing is asked.
    pub fn range(&self) -> Option<(&AccountId, &AccountId)> {
        let accounts = || self.items.iter().map(|(account, _)| account);
        accounts().min().zip(accounts().max())
    }

    /// From the first day's start to the last one's end; empty when there is none.
    pub fn window(&self) -> Span {
        let days = || self.items.iter().map(|(_, days)| days);
        let starts = days().filter_map(|days| Some(days.first()?.start));
        let ends = days().filter_map(|days| Some(days.last()?.end));
        Span {
            start: starts.min().unwrap_or_default(),
            end: ends.max().unwrap_or_default(),
        }
    }
}

/// Counts what is asked for: the consumption of each item, in order, by group and offer. Only one account's intervals are
/// held at a time.
pub async fn count(reads: &Reads, asked: &Asked) -> Result<Vec<Vec<Usage>>, Error> {
    let mut counted = vec![Vec::new(); asked.items.len()];
    let Some((first, last)) = asked.range() else {
        return Ok(counted);
    };
    let mut items: HashMap<&str, Vec<usize>> = HashMap::new();
    for (item, (account, _)) in asked.items.iter().enumerate() {
        items.entry(account.as_str()).or_default().push(item);
    }
    let mut count = |account: &str, mut used: Used| {
        for item in items.get(account).into_iter().flatten() {
            counted[*item] = used.count(&asked.items[*item].1);
        }
    };
    let (mut account, mut used) = (String::new(), Used::default());
    let window = asked.window();
    let params: [&(dyn ToSql + Sync); 4] = [first, last, &window.start, &window.end];
    let read = reads.each(INTERVALS, &params, |row| {
        let of: &str = row_get(row, "account")?;
        if of != account {
            count(&account, std::mem::take(&mut used));
            of.clone_into(&mut account);
        }
        used.push(row)
    });
    read.await?;
    count(&account, used);
    Ok(counted)
}

/// An account's intervals.
#[derive(Default)]
struct Used {
    /// By group and offer: which of `intervals` are theirs.
    keys: BTreeMap<String, BTreeMap<OfferId, usize>>,
    intervals: Vec<Vec<Interval>>,
}

impl Used {
    fn push(&mut self, row: &Row) -> Result<(), Error> {
        let (group, offer): (&str, &str) = (row_get(row, "group_id")?, row_get(row, "offer")?);
        let known = self.keys.get(group).and_then(|offers| offers.get(offer));
        let at = known.copied().unwrap_or(self.intervals.len());
        if at == self.intervals.len() {
            let offers = self.keys.entry(group.to_owned()).or_default();
            offers.insert(row_get(row, "offer")?, at);
            self.intervals.push(Vec::new());
        }
        let seats: Vec<i32> = row_get(row, "seats")?;
        let starts: Vec<Timestamp> = row_get(row, "starts")?;
        let ends: Vec<Option<Timestamp>> = row_get(row, "ends")?;
        let intervals = seats.into_iter().zip(starts).zip(ends);
        let intervals = intervals.map(|((seat, start), end)| Interval { seat, start, end });
        self.intervals[at].extend(intervals);
        Ok(())
    }

    fn count(&mut self, days: &[Day]) -> Vec<Usage> {
        let mut usages = Vec::with_capacity(self.intervals.len());
        for (group, offers) in &self.keys {
            for (offer, at) in offers {
                let counted = usage::count(days, &mut self.intervals[*at]);
                usages.extend(counted.map(|counted| Usage {
                    group: group.clone(),
                    offer: offer.clone(),
                    distinct: counted.distinct,
                    days: counted.days,
                }));
            }
        }
        usages
    }
}

/// Queues a hold of the account until the transaction ends, against bill runs closing its month, which hold it too: what is
/// queued after it sees what they closed.
pub fn hold_account(tx: &mut Tx, account: &AccountId) {
    tx.write(
        "-- hold_account
         SELECT FROM account WHERE account = $1 FOR SHARE",
        params![account.clone()],
        Rows::Any,
    );
}

/// Queues a seat's becoming active.
pub fn open(tx: &mut Tx, opening: Opening) {
    tx.write(
        "-- open
         INSERT INTO usage_interval (account, group_id, seat, opened_by, offer, start_time)
         VALUES ($1, $2, $3, $4, $5, $6)",
        params![
            opening.seat.account,
            opening.seat.group,
            opening.seat.number,
            opening.event,
            opening.offer,
            opening.at
        ],
        Rows::Exactly(1),
    );
}

/// Queues a seat's end of activity. Two processes' clocks may differ by a little, so an end before its start is taken
/// for an empty interval, which counts nowhere.
pub fn close(tx: &mut Tx, seat: Seat, at: Timestamp) {
    tx.write(
        "-- close
         UPDATE usage_interval SET end_time = greatest(start_time, $4)
         WHERE account = $1 AND group_id = $2 AND seat = $3 AND end_time IS NULL",
        params![seat.account, seat.group, seat.number, at],
        Rows::Exactly(1),
    );
}

/// Queues a mark on each closed month that a change of usage at an instant touches, for the next invoice.
pub fn mark_late(tx: &mut Tx, account: &AccountId, at: Timestamp) {
    tx.write(
        "-- mark_late
         INSERT INTO late_usage (account, month)
         SELECT account, month FROM billed_month WHERE account = $1 AND end_time > $2
         ON CONFLICT (account, month) DO NOTHING",
        params![account.clone(), at],
        Rows::Any,
    );
}

/// Queues a group's name; an older one than is known changes nothing.
pub fn name_group(tx: &mut Tx, account: &AccountId, name: GroupName) {
    tx.write(
        "-- name_group
         INSERT INTO usage_group AS known (account, group_id, display_name, version, named_time)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (account, group_id) DO UPDATE SET
             display_name = excluded.display_name,
             version = excluded.version,
             named_time = excluded.named_time
         WHERE (excluded.version, excluded.named_time, excluded.display_name)
             > (known.version, known.named_time, known.display_name)",
        params![
            account.clone(),
            name.group,
            name.display_name,
            name.version,
            name.at
        ],
        Rows::Any,
    );
}

/// Queues an offer's entry into a group by an order; a later one than is known changes nothing.
pub fn enter(tx: &mut Tx, account: &AccountId, order: &str, entry: Entry) {
    tx.write(
        "-- enter
         INSERT INTO group_offer_entry AS known
             (account, group_id, offer, display_name, enter_time, order_id, price)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (account, group_id, offer) DO UPDATE SET
             display_name = excluded.display_name,
             enter_time = excluded.enter_time,
             order_id = excluded.order_id,
             price = excluded.price
         WHERE (excluded.enter_time, excluded.order_id) < (known.enter_time, known.order_id)",
        params![
            account.clone(),
            entry.group,
            entry.offer,
            entry.offer_name,
            entry.at,
            order.to_owned(),
            entry.price
        ],
        Rows::Any,
    );
}
