//! Seats, orders, licences and their users.

/// Name and query of each check.
pub(super) const CHECKS: &[(&str, &str)] = &[
    (
        "seats: used, active and reserved are what licences and orders say",
        SEATS,
    ),
    ("seats: no more than the offer allows", SEAT_LIMIT),
    ("seats: numbers rise and are not used again", SEAT_NUMBERS),
    (
        "groups: a terminated one has no licence and no order to pay",
        TERMINATED_GROUPS,
    ),
    (
        "orders: a completed one has exactly its licences, another none",
        ORDER_LICENSES,
    ),
    ("orders: attempts agree with the state", ORDER_ATTEMPTS),
    (
        "orders: none has been paying for more than 15 minutes",
        ORDER_WAITS,
    ),
    (
        "licences: each activation address opens exactly its licence",
        ADDRESSES,
    ),
    (
        "licences: device counters are the devices, within the limits",
        DEVICES,
    ),
    (
        "licences: no session and no device outlives its licence's user",
        SESSIONS,
    ),
];

const SEATS: &str = "
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
    FULL JOIN paying USING (account, group_id, offer)";

const SEAT_LIMIT: &str = "
    SELECT concat_ws('/', g.account, g.group_id, offer) AS what,
           coalesce(g.used + g.reserved > g.cap, false) OR g.cap IS DISTINCT FROM o.group_license_limit AS broken
    FROM licensing.group_offer g LEFT JOIN licensing.offer o USING (offer)";

const SEAT_NUMBERS: &str = "
    SELECT concat_ws('/', g.account, g.group_id) AS what,
           coalesce(max(l.number), 0) <> g.next_license_number - 1 OR count(l.number) <> g.next_license_number - 1
           AS broken
    FROM licensing.license_group g
    LEFT JOIN licensing.license l USING (account, group_id)
    GROUP BY g.account, g.group_id, g.next_license_number";

const TERMINATED_GROUPS: &str = "
    SELECT concat_ws('/', g.account, g.group_id) AS what,
           EXISTS (SELECT FROM licensing.license l
                   WHERE l.account = g.account AND l.group_id = g.group_id AND l.state <> 'DELETED')
           OR EXISTS (SELECT FROM licensing.license_order o
                      WHERE o.account = g.account AND o.group_id = g.group_id
                        AND o.state IN ('AWAITING_PAYMENT', 'PAYING')) AS broken
    FROM licensing.license_group g
    WHERE g.state = 'TERMINATED'";

const ORDER_LICENSES: &str = "
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
    FROM ordered FULL JOIN made USING (account, order_id, group_id, offer)";

// Every attempt but the last was declined.
const ORDER_ATTEMPTS: &str = "
    SELECT concat_ws('/', o.account, o.order_id) AS what,
           count(a.attempt) <> o.attempts
           OR coalesce(max(a.attempt), 0) <> o.attempts
           OR count(*) FILTER (WHERE a.attempt < o.attempts AND a.outcome IS DISTINCT FROM 'DECLINED') > 0
           OR count(*) FILTER (WHERE a.attempt IS NOT NULL AND a.outcome IS NULL) <> (o.state = 'PAYING')::int
           OR count(*) FILTER (WHERE a.outcome = 'SUCCEEDED') <> (o.state = 'COMPLETED')::int AS broken
    FROM licensing.license_order o
    LEFT JOIN licensing.payment_attempt a USING (account, order_id)
    GROUP BY o.account, o.order_id, o.attempts, o.state";

// Machine time, which the test clock does not move.
const ORDER_WAITS: &str = "
    SELECT concat_ws('/', account, order_id, attempt) AS what,
           begun_at < clock_timestamp() - interval '15 minutes' AS broken
    FROM licensing.payment_attempt WHERE outcome IS NULL";

const ADDRESSES: &str = "
    WITH active AS (
        SELECT account, group_id, number, lower(activation_email) COLLATE \"C\" AS address
        FROM licensing.license WHERE state = 'ACTIVE'
    )
    SELECT concat_ws('/', account, group_id, number) AS what, a.address IS DISTINCT FROM active.address AS broken
    FROM active FULL JOIN licensing.activation_address a USING (account, group_id, number)";

const DEVICES: &str = "
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
    FULL JOIN registered r USING (account, group_id, number)";

// What an earlier user had was ended when the licence was taken back. Instances' clocks may differ by a little, so a
// session may seem to have begun just before its user came.
const SESSIONS: &str = "
    WITH held AS (
        SELECT account, group_id, number, 'sessions' AS kind, id, created_at + interval '1 minute' AS since
        FROM licensing.session WHERE revoked_at IS NULL
        UNION ALL
        SELECT account, group_id, number, 'devices', id, registered_at FROM licensing.device WHERE state = 'ACTIVE'
    )
    SELECT concat_ws('/', account, group_id, number, held.kind, held.id) AS what,
           l.state IS DISTINCT FROM 'ACTIVE' OR held.since < l.activated_at AS broken
    FROM held LEFT JOIN licensing.license l USING (account, group_id, number)";
