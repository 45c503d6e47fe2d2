//! Checks that compare usage in licensing and in billing, and with what was charged for it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use octroi_calendar::usage::{Interval, Usage, count};
use octroi_calendar::{Month, Zones};
use octroi_platform::check::Check;
use tokio_postgres::types::FromSql;
use tokio_postgres::{Row, Transaction};

use super::{EXAMPLES, Finding};

/// Every rule, in the order of the report.
pub(super) const CHECKS: &[Check] = &[
    INTERVAL_OVERLAP,
    INTERVALS,
    ENTRIES,
    GROUP_NAMES,
    CHARGED_USAGE,
];

// Of two that begin at the same instant the empty one comes first.
pub(super) const INTERVAL_OVERLAP: Check = Check {
    name: "usage: intervals of a seat do not overlap, in licensing and in billing",
    sql: "
        WITH interval AS (
            SELECT 'licensing' AS service, account, group_id, seat, started_at, coalesce(ended_at, 'infinity') AS ended_at
            FROM licensing.usage_interval
            UNION ALL
            SELECT 'billing', account, group_id, seat, start_time, coalesce(end_time, 'infinity')
            FROM billing.usage_interval
        )
        SELECT concat_ws('/', service, account, group_id, seat, started_at) AS what,
               coalesce(lag(ended_at) OVER (PARTITION BY service, account, group_id, seat ORDER BY started_at, ended_at)
                        > started_at, false) AS broken
        FROM interval",
};

// Intervals are half-open, so empty ones count for nothing: where a seat is activated again at the instant of its
// deactivation, licensing continues the interval, and billing has an empty one beside it.
pub(super) const INTERVALS: Check = Check {
    name: "usage: billing's intervals are licensing's, but for those on their way",
    sql: "
        WITH under_way AS (
            SELECT DISTINCT account, aggregate FROM licensing.delivery WHERE subscriber = 'billing'
        ), recorded AS (
            SELECT account, group_id, seat, started_at, format('offers/%s', offer) AS offer, ended_at
            FROM licensing.usage_interval WHERE ended_at IS DISTINCT FROM started_at
        ), known AS (
            SELECT account, group_id, seat, start_time AS started_at, offer, end_time AS ended_at
            FROM billing.usage_interval WHERE end_time IS DISTINCT FROM start_time
        )
        SELECT concat_ws('/', account, group_id, seat, started_at) AS what,
               (recorded.offer, recorded.ended_at) IS DISTINCT FROM (known.offer, known.ended_at) AS broken
        FROM recorded FULL JOIN known USING (account, group_id, seat, started_at)
        WHERE NOT EXISTS (
            SELECT FROM under_way
            WHERE under_way.account = coalesce(recorded.account, known.account)
              AND under_way.aggregate = format('accounts/%s/licenseGroups/%s/licenses/%s',
                  coalesce(recorded.account, known.account), coalesce(recorded.group_id, known.group_id),
                  coalesce(recorded.seat, known.seat)))",
};

// The month of the entry is charged at this price.
pub(super) const ENTRIES: Check = Check {
    name: "usage: an offer enters a group with its first paid order, at its price",
    sql: "
        WITH under_way AS (
            SELECT DISTINCT account, aggregate FROM licensing.delivery WHERE subscriber = 'billing'
        ), first AS (
            SELECT DISTINCT ON (o.account, o.group_id, l.offer) o.account, o.group_id,
                   format('offers/%s', l.offer) COLLATE \"C\" AS offer, o.completed_at, o.order_id, l.price
            FROM licensing.license_order o JOIN licensing.order_line l USING (account, order_id)
            WHERE o.state = 'COMPLETED'
            ORDER BY o.account, o.group_id, l.offer, o.completed_at, o.order_id
        )
        SELECT concat_ws('/', account, group_id, offer) AS what,
               (first.completed_at, first.order_id, first.price)
               IS DISTINCT FROM (known.enter_time, known.order_id, format('prices/%s', known.price)) AS broken
        FROM first FULL JOIN billing.group_offer_entry known USING (account, group_id, offer)
        WHERE NOT EXISTS (
            SELECT FROM under_way
            WHERE under_way.account = first.account
              AND under_way.aggregate = format('accounts/%s/orders/%s', first.account, first.order_id))",
};

pub(super) const GROUP_NAMES: Check = Check {
    name: "usage: billing names groups as they are called, but for names on their way",
    sql: "
        WITH under_way AS (
            SELECT DISTINCT account, aggregate FROM licensing.delivery WHERE subscriber = 'billing'
        )
        SELECT concat_ws('/', account, group_id) AS what, g.display_name IS DISTINCT FROM u.display_name AS broken
        FROM licensing.license_group g FULL JOIN billing.usage_group u USING (account, group_id)
        WHERE NOT EXISTS (
            SELECT FROM under_way
            WHERE under_way.account = g.account
              AND under_way.aggregate = format('accounts/%s/licenseGroups/%s', g.account, g.group_id))",
};

/// What each account used and was charged in its closed months. Those whose usage changed after they were closed wait for
/// the next invoice.
pub(super) const CHARGED_USAGE: Check = Check {
    name: "usage: each closed month's is charged as its policy counts, no more, no less",
    sql: "
        SELECT a.account, a.zone_names, a.zone_times, closed.months, used.*, charged.*
        FROM billing.account a, LATERAL (
            SELECT array_agg(b.month) AS months
            FROM billing.billed_month b LEFT JOIN billing.late_usage late USING (account, month)
            WHERE b.account = a.account AND late.month IS NULL
        ) closed, LATERAL (
            SELECT array_agg(group_id) AS groups, array_agg(offer) AS offers, array_agg(seat) AS seats,
                   array_agg(start_time) AS starts, array_agg(end_time) AS ends
            FROM billing.usage_interval u WHERE u.account = a.account
        ) used, LATERAL (
            SELECT array_agg(month) AS charged_months, array_agg(group_id) AS charged_groups,
                   array_agg(offer) AS charged_offers, array_agg(quantity) AS quantities, array_agg(policy) AS policies
            FROM (SELECT month, group_id, offer, sum(quantity) AS quantity, min(usage_policy) AS policy
                  FROM billing.invoice_line l WHERE l.account = a.account AND month = ANY (closed.months)
                  GROUP BY month, group_id, offer) l
        ) charged
        WHERE closed.months IS NOT NULL",
};

/// Counts every closed month again, account by account, and holds what was charged to it.
pub(super) async fn recount(snapshot: &Transaction<'_>) -> anyhow::Result<Finding> {
    let params: [&str; 0] = [];
    let rows = snapshot.query_raw(CHARGED_USAGE.sql, params).await?;
    let mut rows = std::pin::pin!(rows);
    let (mut looked, mut breaches, mut examples) = (0, 0, BTreeSet::new());
    while let Some(row) = rows.try_next().await? {
        for ((month, group, offer), found) in &of_account(&row)? {
            looked += 1;
            if found.is_broken() {
                breaches += 1;
                let account: &str = row.try_get("account")?;
                examples.insert(format!("{account}/{month}/{group}/{offer}"));
                if examples.len() > EXAMPLES {
                    examples.pop_last();
                }
            }
        }
    }
    Ok(Finding {
        check: CHARGED_USAGE.name.to_owned(),
        rows: looked,
        breaches,
        examples: examples.into_iter().collect(),
    })
}

/// What an offer in a group was used in a month, and what was charged of it: quantity and policy.
#[derive(Default)]
struct Found {
    used: Option<Usage>,
    charged: Option<(i64, String)>,
}

impl Found {
    fn is_broken(&self) -> bool {
        let (Some(used), Some((quantity, policy))) = (&self.used, &self.charged) else {
            return true;
        };
        let due = match policy.as_str() {
            "PEAK" => i64::from(used.peak),
            "DISTINCT" => i64::from(used.distinct),
            "DAILY" => used.seat_days,
            _ => return true,
        };
        *quantity != due
    }
}

/// By month, group and offer.
fn of_account(row: &Row) -> anyhow::Result<BTreeMap<(String, String, String), Found>> {
    let mut found: BTreeMap<_, Found> = BTreeMap::new();
    let mut used = intervals(row)?;
    let zones = zones(row)?;
    for month in row.try_get::<_, Vec<String>>("months")? {
        let days = zones.days(month.parse::<Month>()?);
        for ((group, offer), intervals) in &mut used {
            if let Some(used) = count(&days, intervals) {
                let key = (month.clone(), group.clone(), offer.clone());
                found.entry(key).or_default().used = Some(used);
            }
        }
    }
    let months = list::<String>(row, "charged_months")?;
    let groups = list::<String>(row, "charged_groups")?;
    let offers = list::<String>(row, "charged_offers")?;
    let quantities = list::<i64>(row, "quantities")?;
    let charged = quantities.zip(list::<String>(row, "policies")?);
    for (((month, group), offer), charged) in months.zip(groups).zip(offers).zip(charged) {
        let found = found.entry((month, group, offer)).or_default();
        found.charged = Some(charged);
    }
    Ok(found)
}

fn zones(row: &Row) -> anyhow::Result<Zones> {
    let times: Vec<Timestamp> = row.try_get("zone_times")?;
    let names: Vec<String> = row.try_get("zone_names")?;
    let history: Vec<_> = times.into_iter().zip(names).collect();
    Zones::from_names(&history).with_context(|| format!("the calendar in {row:?}"))
}

/// By group and offer.
fn intervals(row: &Row) -> anyhow::Result<BTreeMap<(String, String), Vec<Interval>>> {
    let mut intervals: BTreeMap<_, Vec<Interval>> = BTreeMap::new();
    let keys = list::<String>(row, "groups")?.zip(list::<String>(row, "offers")?);
    let bounds = list::<Timestamp>(row, "starts")?.zip(list::<Option<Timestamp>>(row, "ends")?);
    for ((key, seat), (start, end)) in keys.zip(list::<i32>(row, "seats")?).zip(bounds) {
        let interval = Interval { seat, start, end };
        intervals.entry(key).or_default().push(interval);
    }
    Ok(intervals)
}

/// A column of arrays, which is null where there is nothing.
fn list<T: for<'a> FromSql<'a>>(row: &Row, column: &str) -> anyhow::Result<std::vec::IntoIter<T>> {
    let list: Option<Vec<T>> = row.try_get(column)?;
    Ok(list.unwrap_or_default().into_iter())
}
