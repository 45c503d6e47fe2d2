//! Usage: what licensing told, and the one statement that counts it.

use jiff::Timestamp;
use octroi_calendar::{Day, Span};
use octroi_platform::db::{Reads, row_get};
use octroi_platform::error::Error;
use octroi_platform::tx::{Rows, Tx};
use octroi_platform::{AccountId, params};
use tokio_postgres::Row;

use crate::domain::usage::{DayUse, Entry, GroupName, Opening, Seat, Usage};

/// Counts consumption for any number of accounts, each over the days of its own calendar, for previews, dry runs and
/// bill runs alike. Days come as instants: SQL knows no time zone. `$1` account and `$2` calendar of each item, `$3`
/// calendar, `$4` number, `$5` start and `$6` end of each day, which follow each other. One row per item, group and offer
/// with any activity.
///
/// Half-open intervals are clipped to the month; what is empty counts nowhere. The running sum of openings and closings
/// is the number active; closings come first at the same instant, so that a seat that leaves and one that comes then do
/// not stack. Each day's start is an edge without a change: what is active there was carried over, and with the seats
/// that open in the day and were not active in it before makes the day's seats. So rows grow with what happens, not with
/// seats times days.
pub const COUNT: &str = "-- count
WITH day AS (
    SELECT * FROM unnest($3::integer[], $4::integer[], $5::timestamptz[], $6::timestamptz[])
        AS day (calendar, number, starts, ends)
), month AS (
    SELECT calendar, min(starts) AS starts, max(ends) AS ends, array_agg(starts ORDER BY number) AS days
    FROM day GROUP BY calendar
), item AS (
    SELECT * FROM unnest($1::text[], $2::integer[]) WITH ORDINALITY AS item (account, calendar, item)
), active AS (
    SELECT item, calendar, usage.group_id, usage.offer, usage.seat,
        greatest(usage.start_time, month.starts) AS starts,
        least(usage.end_time, month.ends) AS ends
    FROM item
    JOIN month USING (calendar)
    JOIN usage_interval AS usage ON usage.account = item.account
        AND usage.start_time < month.ends
        AND coalesce(usage.end_time, 'infinity') > month.starts
        AND coalesce(usage.end_time, 'infinity') > usage.start_time
), used AS (
    SELECT item, calendar, group_id, offer, count(DISTINCT seat)::integer AS seats
    FROM active GROUP BY item, calendar, group_id, offer
), edge AS (
    SELECT item, calendar, group_id, offer, starts AS instant, 1 AS change,
        lag(ends) OVER (PARTITION BY item, group_id, offer, seat ORDER BY starts) AS left_at
    FROM active
    UNION ALL
    SELECT item, calendar, group_id, offer, ends, -1, NULL FROM active
    UNION ALL
    SELECT item, calendar, group_id, offer, day.starts, 0, NULL FROM used JOIN day USING (calendar)
), running AS (
    SELECT item, calendar, group_id, offer, instant, change, left_at, sum(change) OVER (
        PARTITION BY item, group_id, offer ORDER BY instant, change
    ) AS active
    FROM edge
), sighting AS (
    SELECT item, group_id, offer, width_bucket(instant, month.days) AS number, instant, change, active,
        coalesce(left_at, '-infinity') <= month.days[width_bucket(instant, month.days)] AS fresh
    FROM running JOIN month USING (calendar)
    WHERE instant < month.ends
), counted AS (
    SELECT item, group_id, offer, number - 1 AS number,
        max(active)::integer AS peak,
        ((array_agg(active ORDER BY instant DESC, change DESC))[1])::integer AS end_of_day,
        (sum(active) FILTER (WHERE change = 0) + count(*) FILTER (WHERE change = 1 AND fresh))::integer AS seats
    FROM sighting GROUP BY item, group_id, offer, number
)
SELECT item, group_id, offer, used.seats AS month_seats,
    array_agg(number ORDER BY number) AS numbers,
    array_agg(peak ORDER BY number) AS peaks,
    array_agg(end_of_day ORDER BY number) AS ends_of_day,
    array_agg(counted.seats ORDER BY number) AS seats
FROM counted JOIN used USING (item, group_id, offer)
WHERE counted.seats > 0
GROUP BY item, group_id, offer, used.seats
ORDER BY item, group_id, offer";

/// The arrays that [`COUNT`] takes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Asked {
    accounts: Vec<AccountId>,
    calendars: Vec<i32>,
    /// Each calendar once: most accounts of a chunk share one.
    known: Vec<Vec<Day>>,
}

impl Asked {
    /// Asks for an account's consumption on days that follow each other. Items are answered by their position.
    pub fn push(&mut self, account: &AccountId, days: &[Day]) {
        let at = self
            .known
            .iter()
            .position(|known| known == days)
            .unwrap_or_else(|| {
                self.known.push(days.to_vec());
                self.known.len() - 1
            });
        self.accounts.push(account.clone());
        self.calendars.push(i32::try_from(at).unwrap_or(i32::MAX));
    }

    /// Calendar, number, start and end of each day: `$3` to `$6`.
    pub fn day_arrays(&self) -> (Vec<i32>, Vec<i32>, Vec<Timestamp>, Vec<Timestamp>) {
        let mut arrays = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (calendar, days) in (0_i32..).zip(&self.known) {
            for (number, day) in (0_i32..).zip(days) {
                arrays.0.push(calendar);
                arrays.1.push(number);
                arrays.2.push(day.start);
                arrays.3.push(day.end);
            }
        }
        arrays
    }

    /// The account of each item.
    pub fn accounts(&self) -> &[AccountId] {
        &self.accounts
    }

    /// From the first day's start to the last one's end; empty when there is none.
    pub fn window(&self) -> Span {
        let days = || self.known.iter().flatten();
        Span {
            start: days().map(|day| day.start).min().unwrap_or_default(),
            end: days().map(|day| day.end).max().unwrap_or_default(),
        }
    }

    fn days(&self, item: usize) -> &[Day] {
        let calendar = self
            .calendars
            .get(item)
            .and_then(|at| usize::try_from(*at).ok());
        calendar
            .and_then(|at| self.known.get(at))
            .map_or(&[], Vec::as_slice)
    }
}

/// Counts what is asked for: the consumption of each item, in order, by group and offer.
pub async fn count(reads: &Reads, asked: &Asked) -> Result<Vec<Vec<Usage>>, Error> {
    let days = asked.day_arrays();
    let rows = reads
        .query(
            COUNT,
            &[
                &asked.accounts,
                &asked.calendars,
                &days.0,
                &days.1,
                &days.2,
                &days.3,
            ],
        )
        .await?;
    counted(asked, &rows)
}

/// Reads the rows of [`COUNT`]: for each item its consumption.
pub fn counted(asked: &Asked, rows: &[Row]) -> Result<Vec<Vec<Usage>>, Error> {
    let mut items = vec![Vec::new(); asked.accounts.len()];
    for row in rows {
        let item = usize::try_from(row_get::<i64>(row, "item")? - 1).unwrap_or(usize::MAX);
        let usage = usage(row, asked.days(item))?;
        items
            .get_mut(item)
            .ok_or_else(|| Error::Internal(anyhow::anyhow!("usage of an item not asked for")))?
            .push(usage);
    }
    Ok(items)
}

fn usage(row: &Row, days: &[Day]) -> Result<Usage, Error> {
    let numbers: Vec<i32> = row_get(row, "numbers")?;
    let peaks: Vec<i32> = row_get(row, "peaks")?;
    let ends_of_day: Vec<i32> = row_get(row, "ends_of_day")?;
    let seats: Vec<i32> = row_get(row, "seats")?;
    let group: String = row_get(row, "group_id")?;
    let counts = peaks.into_iter().zip(ends_of_day).zip(seats);
    let days = numbers
        .into_iter()
        .zip(counts)
        .map(|(number, ((peak, end_of_day), seats))| {
            let day = usize::try_from(number).ok().and_then(|at| days.get(at));
            day.map(|day| DayUse {
                date: day.date,
                peak,
                end_of_day,
                seats,
            })
            .ok_or_else(|| Error::Corrupt {
                table: "usage_interval",
                column: "start_time",
                id: group.clone(),
            })
        })
        .collect::<Result<_, _>>()?;
    Ok(Usage {
        offer: row_get(row, "offer")?,
        distinct: row_get(row, "month_seats")?,
        group,
        days,
    })
}

/// Holds the account until the transaction ends against bill runs closing its month, which hold it too.
pub async fn hold_account(tx: &Tx, account: &AccountId) -> Result<(), Error> {
    tx.query(
        "-- hold_account
         SELECT FROM account WHERE account = $1 FOR SHARE",
        &[&account],
    )
    .await?;
    Ok(())
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
