//! What must hold of usage, against what was charged for it.

#![expect(missing_docs, reason = "each names its rule")]

use octroi_platform::check::Check;

// Months whose usage changed after they were closed wait for the next invoice. Most seats are active for the whole
// month and are only counted. Lines tell of no day's bounds, and SQL knows no zone: where the month is so many times 24
// hours its days are 24 hours each, and elsewhere (when clocks are changed) seat-days are held to what is possible. A
// seat's interval touches the days from its first to its last; the first is counted already where the seat's interval
// before ended in it.
pub const CHARGED_USAGE: Check = Check {
    name: "usage: each closed month's is charged as its policy counts, no more, no less",
    sql: "
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
        JOIN closed USING (account, month)",
};
