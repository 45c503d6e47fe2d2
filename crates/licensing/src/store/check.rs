//! What must hold of the rows of licensing: seats, orders, licences, their users and their usage.

#![expect(missing_docs, reason = "each names its rule")]

use octroi_platform::check::Check;

/// Every rule, in the order of the report.
pub const CHECKS: &[Check] = &[
    SEATS,
    SEAT_LIMIT,
    SEAT_NUMBERS,
    TERMINATED_GROUPS,
    ORDER_LICENSES,
    ORDER_ATTEMPTS,
    ORDER_WAITS,
    ADDRESSES,
    DEVICES,
    SESSIONS,
    OPEN_INTERVALS,
    INTERVAL_LIFE,
];

pub const SEATS: Check = Check {
    name: "seats: used, active and reserved are what licences and orders say",
    sql: "
        WITH license AS (
            SELECT account, group_id, offer, count(*) FILTER (WHERE state <> 'DELETED') AS used,
                   count(*) FILTER (WHERE state = 'ACTIVE') AS active
            FROM licensing.license GROUP BY account, group_id, offer
        ), paying AS (
            SELECT o.account, o.group_id, l.offer, sum(l.quantity) AS reserved
            FROM licensing.license_order o
            JOIN licensing.order_line l USING (account, order_id)
            WHERE o.state = 'PAYING' GROUP BY o.account, o.group_id, l.offer
        )
        SELECT concat_ws('/', account, group_id, offer) AS what,
               (coalesce(g.used, 0), coalesce(g.active, 0), coalesce(g.reserved, 0))
               IS DISTINCT FROM
               (coalesce(license.used, 0), coalesce(license.active, 0), coalesce(paying.reserved, 0)) AS broken
        FROM licensing.group_offer g
        FULL JOIN license USING (account, group_id, offer)
        FULL JOIN paying USING (account, group_id, offer)",
};

pub const SEAT_LIMIT: Check = Check {
    name: "seats: no more than the offer allows",
    sql: "
        SELECT concat_ws('/', g.account, g.group_id, offer) AS what,
               coalesce(g.used + g.reserved > g.cap, false) OR g.cap IS DISTINCT FROM o.group_license_limit AS broken
        FROM licensing.group_offer g LEFT JOIN licensing.offer o USING (offer)",
};

pub const SEAT_NUMBERS: Check = Check {
    name: "seats: numbers rise and are not used again",
    sql: "
        SELECT concat_ws('/', g.account, g.group_id) AS what,
               coalesce(max(l.number), 0) <> g.next_license_number - 1 OR count(l.number) <> g.next_license_number - 1
               AS broken
        FROM licensing.license_group g
        LEFT JOIN licensing.license l USING (account, group_id)
        GROUP BY g.account, g.group_id, g.next_license_number",
};

pub const TERMINATED_GROUPS: Check = Check {
    name: "groups: a terminated one has no licence and no order to pay",
    sql: "
        SELECT concat_ws('/', g.account, g.group_id) AS what,
               EXISTS (SELECT FROM licensing.license l
                       WHERE l.account = g.account AND l.group_id = g.group_id AND l.state <> 'DELETED')
               OR EXISTS (SELECT FROM licensing.license_order o
                          WHERE o.account = g.account AND o.group_id = g.group_id
                            AND o.state IN ('AWAITING_PAYMENT', 'PAYING')) AS broken
        FROM licensing.license_group g
        WHERE g.state = 'TERMINATED'",
};

pub const ORDER_LICENSES: Check = Check {
    name: "orders: a completed one has exactly its licences, another none",
    sql: "
        WITH made AS (
            SELECT account, order_id, group_id, offer, count(*) AS licenses
            FROM licensing.license GROUP BY account, order_id, group_id, offer
        ), ordered AS (
            SELECT account, order_id, o.group_id, l.offer,
                   CASE WHEN o.state = 'COMPLETED' THEN l.quantity ELSE 0 END AS licenses
            FROM licensing.license_order o LEFT JOIN licensing.order_line l USING (account, order_id)
        )
        SELECT concat_ws('/', account, order_id, group_id, offer) AS what,
               offer IS NULL OR coalesce(made.licenses, 0) <> coalesce(ordered.licenses, 0) AS broken
        FROM ordered FULL JOIN made USING (account, order_id, group_id, offer)",
};

// Every attempt but the last was declined.
pub const ORDER_ATTEMPTS: Check = Check {
    name: "orders: attempts agree with the state",
    sql: "
        SELECT concat_ws('/', o.account, o.order_id) AS what,
               count(a.attempt) <> o.attempts
               OR coalesce(max(a.attempt), 0) <> o.attempts
               OR count(*) FILTER (WHERE a.attempt < o.attempts AND a.outcome IS DISTINCT FROM 'DECLINED') > 0
               OR count(*) FILTER (WHERE a.attempt IS NOT NULL AND a.outcome IS NULL) <> (o.state = 'PAYING')::int
               OR count(*) FILTER (WHERE a.outcome = 'SUCCEEDED') <> (o.state = 'COMPLETED')::int AS broken
        FROM licensing.license_order o
        LEFT JOIN licensing.payment_attempt a USING (account, order_id)
        GROUP BY o.account, o.order_id, o.attempts, o.state",
};

// Machine time, which the test clock does not move.
pub const ORDER_WAITS: Check = Check {
    name: "orders: none has been paying for more than 15 minutes",
    sql: "
        SELECT concat_ws('/', account, order_id, attempt) AS what,
               begun_at < clock_timestamp() - interval '15 minutes' AS broken
        FROM licensing.payment_attempt WHERE outcome IS NULL",
};

pub const ADDRESSES: Check = Check {
    name: "licences: each activation address opens exactly its licence",
    sql: "
        WITH active AS (
            SELECT account, group_id, number, lower(activation_email) COLLATE \"C\" AS address
            FROM licensing.license WHERE state = 'ACTIVE'
        )
        SELECT concat_ws('/', account, group_id, number) AS what, a.address IS DISTINCT FROM active.address AS broken
        FROM active FULL JOIN licensing.activation_address a USING (account, group_id, number)",
};

pub const DEVICES: Check = Check {
    name: "licences: device counters are the devices, within the limits",
    sql: "
        WITH registered AS (
            SELECT account, group_id, number,
                   count(*) FILTER (WHERE platform IN ('WINDOWS', 'MACOS')) AS computers,
                   count(*) FILTER (WHERE platform IN ('IPADOS', 'ANDROID_TABLET')) AS tablets,
                   count(*) FILTER (WHERE platform IN ('IOS', 'ANDROID_PHONE')) AS smartphones
            FROM licensing.device WHERE state = 'ACTIVE' AND NOT shared_computer
            GROUP BY account, group_id, number
        )
        SELECT concat_ws('/', account, group_id, number) AS what,
               (l.computers, l.tablets, l.smartphones)
               IS DISTINCT FROM
               (coalesce(r.computers, 0), coalesce(r.tablets, 0), coalesce(r.smartphones, 0))
               OR l.computers > o.computer_limit OR l.tablets > o.tablet_limit OR l.smartphones > o.smartphone_limit
               AS broken
        FROM licensing.license l
        JOIN licensing.offer o USING (offer)
        FULL JOIN registered r USING (account, group_id, number)",
};

// What an earlier user had was ended when the licence was taken back. Instances' clocks may differ by a little, so a
// session may seem to have begun just before its user came.
pub const SESSIONS: Check = Check {
    name: "licences: no session and no device outlives its licence's user",
    sql: "
        WITH held AS (
            SELECT account, group_id, number, 'sessions' AS kind, id, created_at + interval '1 minute' AS since
            FROM licensing.session WHERE revoked_at IS NULL
            UNION ALL
            SELECT account, group_id, number, 'devices', id, registered_at FROM licensing.device WHERE state = 'ACTIVE'
        )
        SELECT concat_ws('/', account, group_id, number, held.kind, held.id) AS what,
               l.state IS DISTINCT FROM 'ACTIVE' OR held.since < l.activated_at AS broken
        FROM held LEFT JOIN licensing.license l USING (account, group_id, number)",
};

pub const OPEN_INTERVALS: Check = Check {
    name: "usage: an interval is open exactly while its licence is active",
    sql: "
        WITH active AS (
            SELECT account, group_id, number AS seat, offer, activated_at FROM licensing.license WHERE state = 'ACTIVE'
        ), open AS (
            SELECT account, group_id, seat, offer, started_at FROM licensing.usage_interval WHERE ended_at IS NULL
        )
        SELECT concat_ws('/', account, group_id, seat) AS what,
               (active.offer, active.activated_at) IS DISTINCT FROM (open.offer, open.started_at) AS broken
        FROM active FULL JOIN open USING (account, group_id, seat)",
};

pub const INTERVAL_LIFE: Check = Check {
    name: "usage: each interval lies in its licence's life and is of its offer",
    sql: "
        SELECT concat_ws('/', account, group_id, u.seat, u.started_at) AS what,
               l.state IS NULL
               OR u.offer <> l.offer
               OR u.started_at < l.created_at
               OR coalesce(u.ended_at > l.deleted_at, false) AS broken
        FROM (SELECT *, seat AS number FROM licensing.usage_interval) u
        LEFT JOIN licensing.license l USING (account, group_id, number)",
};
