//! Checks that compare usage in licensing and in billing.

use octroi_platform::check::Check;

/// Every rule, in the order of the report.
pub(super) const CHECKS: &[Check] = &[INTERVAL_OVERLAP, INTERVALS, ENTRIES, GROUP_NAMES];

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
