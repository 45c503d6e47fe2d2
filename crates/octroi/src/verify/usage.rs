//! Usage: each seat's intervals, what billing knows of them, and whether invoices charged them.

/// Name and query of each check.
pub(super) const CHECKS: &[(&str, &str)] = &[
    (
        "usage: an interval is open exactly while its licence is active",
        OPEN_INTERVALS,
    ),
    (
        "usage: intervals of a seat do not overlap, in licensing and in billing",
        INTERVAL_OVERLAP,
    ),
    (
        "usage: each interval lies in its licence's life and is of its offer",
        INTERVAL_LIFE,
    ),
    (
        "usage: billing's intervals are licensing's, but for those on their way",
        INTERVALS,
    ),
    (
        "usage: an offer enters a group with its first paid order, at its price",
        ENTRIES,
    ),
    (
        "usage: billing names groups as they are called, but for names on their way",
        GROUP_NAMES,
    ),
    (
        "usage: each closed month's is charged as its policy counts, no more, no less",
        CHARGED_USAGE,
    ),
];

const OPEN_INTERVALS: &str = "
    WITH active AS (
        SELECT account, group_id, number AS seat, offer, activated_at FROM licensing.license WHERE state = 'ACTIVE'
    ), open AS (
        SELECT account, group_id, seat, offer, started_at FROM licensing.usage_interval WHERE ended_at IS NULL
    )
    SELECT concat_ws('/', account, group_id, seat) AS what,
           (active.offer, active.activated_at) IS DISTINCT FROM (open.offer, open.started_at) AS broken
    FROM active FULL JOIN open USING (account, group_id, seat)";

// Of two that begin at the same instant the empty one comes first.
const INTERVAL_OVERLAP: &str = "
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
    FROM interval";

const INTERVAL_LIFE: &str = "
    SELECT concat_ws('/', account, group_id, u.seat, u.started_at) AS what,
           l.state IS NULL
           OR u.offer <> l.offer
           OR u.started_at < l.created_at
           OR coalesce(u.ended_at > l.deleted_at, false) AS broken
    FROM (SELECT *, seat AS number FROM licensing.usage_interval) u
    LEFT JOIN licensing.license l USING (account, group_id, number)";

// Intervals are half-open, and empty ones count nowhere: where a seat is given out again at the instant that took it
// back, billing keeps an empty interval that licensing has let go on.
const INTERVALS: &str = "
    WITH under_way AS (
        SELECT DISTINCT account, aggregate FROM licensing.delivery WHERE subscriber = 'billing'
    ), told AS (
        SELECT account, group_id, seat, started_at, format('offers/%s', offer) AS offer, ended_at
        FROM licensing.usage_interval WHERE ended_at IS DISTINCT FROM started_at
    ), known AS (
        SELECT account, group_id, seat, start_time AS started_at, offer, end_time AS ended_at
        FROM billing.usage_interval WHERE end_time IS DISTINCT FROM start_time
    )
    SELECT concat_ws('/', account, group_id, seat, started_at) AS what,
           (told.offer, told.ended_at) IS DISTINCT FROM (known.offer, known.ended_at) AS broken
    FROM told FULL JOIN known USING (account, group_id, seat, started_at)
    WHERE NOT EXISTS (
        SELECT FROM under_way
        WHERE under_way.account = coalesce(told.account, known.account)
          AND under_way.aggregate = format('accounts/%s/licenseGroups/%s/licenses/%s',
              coalesce(told.account, known.account), coalesce(told.group_id, known.group_id),
              coalesce(told.seat, known.seat)))";

// It is this price that the month of the entry is charged at.
const ENTRIES: &str = "
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
          AND under_way.aggregate = format('accounts/%s/orders/%s', first.account, first.order_id))";

const GROUP_NAMES: &str = "
    WITH under_way AS (
        SELECT DISTINCT account, aggregate FROM licensing.delivery WHERE subscriber = 'billing'
    )
    SELECT concat_ws('/', account, group_id) AS what, g.display_name IS DISTINCT FROM u.display_name AS broken
    FROM licensing.license_group g FULL JOIN billing.usage_group u USING (account, group_id)
    WHERE NOT EXISTS (
        SELECT FROM under_way
        WHERE under_way.account = g.account
          AND under_way.aggregate = format('accounts/%s/licenseGroups/%s', g.account, g.group_id))";

// Months whose usage changed after they were closed wait for the next invoice. Most seats are active for the whole
// month and are only counted. Lines tell of no day's bounds, and SQL knows no zone: where the month is so many times 24
// hours its days are 24 hours each, and elsewhere (when clocks are changed) seat-days are held to what is possible. A
// seat's interval touches the days from its first to its last; the first is counted already where the seat's interval
// before ended in it.
const CHARGED_USAGE: &str = "
    WITH closed AS (
        SELECT account, b.month, b.start_time, b.end_time, d.days,
               extract(epoch FROM b.end_time - b.start_time) = 86400 * d.days AS even
        FROM billing.billed_month b
        LEFT JOIN billing.late_usage late USING (account, month),
        LATERAL (SELECT extract(day FROM to_date(b.month, 'YYYY-MM') + interval '1 month' - interval '1 day') AS days) d
        WHERE late.month IS NULL
    ), active AS (
        SELECT c.account, c.month, c.days, u.group_id, u.offer, u.seat, c.start_time AS month_start,
               greatest(u.start_time, c.start_time) AS starts, least(u.end_time, c.end_time) AS ends,
               u.start_time <= c.start_time AND coalesce(u.end_time, 'infinity') >= c.end_time AS whole
        FROM closed c
        JOIN billing.usage_interval u ON u.account = c.account AND u.start_time < c.end_time
            AND coalesce(u.end_time, 'infinity') > greatest(c.start_time, u.start_time)
    ), touched AS (
        SELECT account, month, group_id, offer, seat, first, last,
               lag(last) OVER (PARTITION BY account, month, group_id, offer, seat ORDER BY starts) AS before
        FROM active, LATERAL (SELECT floor(extract(epoch FROM starts - month_start) / 86400) AS first,
                                     ceil(extract(epoch FROM ends - month_start) / 86400) - 1 AS last) AS day
        WHERE NOT whole
    ), running AS (
        SELECT account, month, group_id, offer,
               sum(change) OVER (PARTITION BY account, month, group_id, offer ORDER BY at, change) AS active
        FROM active, LATERAL (VALUES (starts, 1), (ends, -1)) AS edge (at, change)
        WHERE NOT whole
    ), counted AS (
        SELECT account, month, group_id, offer, count(*) AS seats, sum(days) AS seat_days, count(*) AS peak
        FROM active WHERE whole GROUP BY account, month, group_id, offer
        UNION ALL
        SELECT account, month, group_id, offer, count(DISTINCT seat),
               sum(last - first + CASE WHEN before = first THEN 0 ELSE 1 END), 0
        FROM touched GROUP BY account, month, group_id, offer
        UNION ALL
        SELECT account, month, group_id, offer, 0, 0, max(active) FROM running GROUP BY account, month, group_id, offer
    ), used AS (
        SELECT account, month, group_id, offer, sum(seats) AS seats, sum(seat_days) AS seat_days, sum(peak) AS peak
        FROM counted GROUP BY account, month, group_id, offer
    ), charged AS (
        SELECT account, month, group_id, offer, sum(quantity) AS quantity, min(usage_policy) AS policy
        FROM billing.invoice_line JOIN closed USING (account, month)
        GROUP BY account, month, group_id, offer
    )
    SELECT concat_ws('/', account, month, group_id, offer) AS what,
           CASE charged.policy
               WHEN 'PEAK' THEN charged.quantity IS DISTINCT FROM used.peak
               WHEN 'DISTINCT' THEN charged.quantity IS DISTINCT FROM used.seats
               WHEN 'DAILY' THEN used.seats IS NULL
                   OR (closed.even AND charged.quantity <> used.seat_days)
                   OR charged.quantity NOT BETWEEN used.seats AND used.seats * closed.days
               ELSE true
           END AS broken
    FROM used FULL JOIN charged USING (account, month, group_id, offer)
    JOIN closed USING (account, month)";
