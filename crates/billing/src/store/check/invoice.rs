//! What must hold of invoices, their lines, taxes and numbers.

#![expect(missing_docs, reason = "each names its rule")]

use octroi_platform::check::Check;

// Lines and taxes are written before their invoice, without a foreign key: one without it adds up to nothing.
pub const INVOICE_TOTALS: Check = Check {
    name: "invoices: lines and taxes add up to net, tax and total",
    sql: "
        WITH line AS (
            SELECT account, invoice, sum(amount) AS net FROM billing.invoice_line GROUP BY account, invoice
        ), tax AS (
            SELECT account, invoice, sum(base) AS base, sum(amount) AS tax
            FROM billing.invoice_tax GROUP BY account, invoice
        )
        SELECT concat_ws('/', account, coalesce(i.number, invoice::text)) AS what,
               (i.net, i.net, i.tax, i.total) IS DISTINCT FROM (line.net, tax.base, tax.tax, i.net + i.tax) AS broken
        FROM (SELECT account, id AS invoice, number, net, tax, total FROM billing.invoice) i
        FULL JOIN line USING (account, invoice)
        FULL JOIN tax USING (account, invoice)",
};

// A month's price is for the days that it had. PostgreSQL's zones are not asked for them: ours are bundled. Clocks that
// are changed move a month's bounds by hours, and it has all its days; a change of zone that leaves out its first day or
// its last takes longer.
pub const INVOICE_LINES: Check = Check {
    name: "invoices: each line is quantity by price, rounded half up",
    sql: "
        SELECT concat_ws('/', l.account, i.number, l.line) AS what,
               l.amount <> div(2 * l.quantity::numeric * l.unit_price + l.price_base_quantity,
                               2 * l.price_base_quantity)
               OR p.currency <> i.currency OR p.offer <> l.offer
               OR l.price_base_quantity NOT BETWEEN
                   CASE WHEN l.usage_policy <> 'DAILY' OR l.usage_policy IS NULL THEN 1
                        WHEN abs(extract(epoch FROM b.end_time - b.start_time) - 86400 * l.days) <= 10800 THEN l.days
                        ELSE l.days - 2 END
                   AND CASE l.usage_policy WHEN 'DAILY' THEN l.days ELSE 1 END
               OR l.unit_price <> CASE WHEN l.usage_policy IS NULL THEN p.setup ELSE p.monthly END
               OR coalesce(l.usage_policy <> p.usage_policy, false) AS broken
        FROM (
            SELECT *, extract(day FROM to_date(month, 'YYYY-MM') + interval '1 month' - interval '1 day') AS days
            FROM billing.invoice_line
        ) l
        JOIN billing.invoice i ON i.account = l.account AND i.id = l.invoice
        JOIN billing.price p ON p.id = l.price
        LEFT JOIN billing.billed_month b ON b.account = l.account AND b.month = l.month",
};

pub const INVOICE_TAXES: Check = Check {
    name: "invoices: tax per category and rate is that of its lines",
    sql: "
        WITH line AS (
            SELECT account, invoice, tax_category AS category, tax_rate_ppm AS rate_ppm, sum(amount) AS base
            FROM billing.invoice_line GROUP BY account, invoice, tax_category, tax_rate_ppm
        )
        SELECT concat_ws('/', account, invoice, category, rate_ppm) AS what,
               t.base IS DISTINCT FROM line.base
               OR t.amount <> div(t.base::numeric * rate_ppm + 500000, 1000000) AS broken
        FROM billing.invoice_tax t FULL JOIN line USING (account, invoice, category, rate_ppm)",
};

// A month that is charged again, for usage told late, charges what its evidence says beyond what was charged before.
pub const INVOICE_EVIDENCE: Check = Check {
    name: "invoices: each line's evidence gives its quantity",
    sql: "
        WITH line AS (
            SELECT l.*, i.number, sum(l.quantity) OVER (
                       PARTITION BY l.account, l.month, l.group_id, l.offer ORDER BY i.create_time, l.invoice, l.line
                   ) AS charged
            FROM billing.invoice_line l
            JOIN billing.invoice i ON i.account = l.account AND i.id = l.invoice
        )
        SELECT concat_ws('/', l.account, l.number, l.line) AS what,
               CASE l.usage_policy
                   WHEN 'PEAK' THEN l.charged <> coalesce(day.peak, 0)
                   WHEN 'DAILY' THEN l.charged <> coalesce(day.seat_days, 0)
                   WHEN 'DISTINCT' THEN l.charged < coalesce(day.seats, 0)
                       OR l.charged > coalesce(day.seat_days, 0)
                   ELSE l.first_day IS NOT NULL
               END
               OR (l.first_day IS NOT NULL AND (
                   day.wrong IS DISTINCT FROM false
                   OR to_char(l.first_day, 'YYYY-MM') <> l.month
                   OR to_char(l.first_day + day.days::integer - 1, 'YYYY-MM') <> l.month)) AS broken
        FROM line l, LATERAL (
            SELECT max(peak) AS peak, max(seats) AS seats, sum(seats) AS seat_days, count(*) AS days,
                   bool_or((CASE seats WHEN 0 THEN (peak, end_of_day) = (0, 0)
                                 ELSE peak BETWEEN 1 AND seats AND end_of_day BETWEEN 0 AND peak END) IS NOT TRUE) AS wrong
            FROM unnest(l.peaks, l.ends_of_day, l.seats) AS day (peak, end_of_day, seats)
        ) day",
};

// So many different ones from 1 to as many: there is no gap. Credit notes are numbered in a series of their own, and
// none is made yet.
pub const NUMBERS: Check = Check {
    name: "invoices: numbers are without gaps",
    sql: "
        WITH issued AS (
            SELECT seller, substr(number, 3, 4)::smallint AS year, 'INVOICE' AS kind, count(*) AS invoices,
                   count(DISTINCT substr(number, 8)::bigint) AS numbers, min(substr(number, 8)::bigint) AS first,
                   max(substr(number, 8)::bigint) AS last, max(issue_date) AS last_date
            FROM billing.invoice GROUP BY seller, substr(number, 3, 4)
        )
        SELECT concat_ws('/', seller, year, kind) AS what,
               issued.numbers <> issued.invoices
               OR issued.first <> 1
               OR (coalesce(issued.last, 0), coalesce(issued.numbers, 0))
                  IS DISTINCT FROM (coalesce(series.last, 0), coalesce(series.last, 0))
               OR (issued.last > 0 AND issued.last_date IS DISTINCT FROM series.last_date) AS broken
        FROM issued FULL JOIN billing.series USING (seller, year, kind)",
};

pub const NUMBER_DATES: Check = Check {
    name: "invoices: dates do not go back along the numbers",
    sql: "
        SELECT concat_ws('/', seller, number) AS what,
               coalesce(lag(issue_date) OVER (PARTITION BY seller, substr(number, 3, 4)
                                              ORDER BY substr(number, 8)::bigint) > issue_date, false) AS broken
        FROM billing.invoice",
};
