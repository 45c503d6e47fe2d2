//! Settlements, invoices, their numbers, bill runs and the ledger.

/// Name and query of each check.
pub(super) const CHECKS: &[(&str, &str)] = &[
    (
        "charges: one at most per order, one for each settlement that succeeded",
        CHARGES,
    ),
    (
        "payments: agree with their settlements and invoices",
        PAYMENTS,
    ),
    (
        "settlements: lines, tax and what is due add up",
        SETTLEMENTS,
    ),
    (
        "invoices: lines and taxes add up to net, tax and total",
        INVOICE_TOTALS,
    ),
    (
        "invoices: each line is quantity by price, rounded half up",
        INVOICE_LINES,
    ),
    (
        "invoices: tax per category and rate is that of its lines",
        INVOICE_TAXES,
    ),
    (
        "invoices: each line's evidence gives its quantity",
        INVOICE_EVIDENCE,
    ),
    ("invoices: numbers are without gaps", NUMBERS),
    (
        "invoices: dates do not go back along the numbers",
        NUMBER_DATES,
    ),
    (
        "months: each billed one has its invoice, and starts where the last ended",
        BILLED_MONTHS,
    ),
    (
        "bill runs: invoices and totals are what was issued",
        BILL_RUNS,
    ),
    (
        "ledger: each invoice is posted to its net and tax",
        LEDGER_INVOICES,
    ),
    (
        "ledger: each payment is posted, and nothing else",
        LEDGER_PAYMENTS,
    ),
    (
        "ledger: what customers owe is what their open invoices say",
        LEDGER_RECEIVABLE,
    ),
];

// A method is checked under the order's key too when nothing is due, so each success has its charge.
const CHARGES: &str = "
    WITH charge AS (
        SELECT split_part(key, '/', 1) AS account, split_part(key, '/', 2) AS order_id,
               nullif(split_part(key, '/', 3), '')::int AS attempt, amount, currency,
               decline_reason IS NULL AS taken
        FROM billing.test_gateway_charge
    )
    SELECT concat_ws('/', account, order_id, attempt) AS what,
           s.state IS NULL
           OR (c.taken IS NOT NULL AND (c.amount, c.currency) IS DISTINCT FROM (s.due, s.currency))
           OR (s.state = 'SUCCEEDED' AND c.taken IS NOT TRUE)
           OR (s.state = 'DECLINED' AND c.taken IS TRUE)
           OR (c.taken IS TRUE AND count(*) FILTER (WHERE c.taken) OVER (PARTITION BY account, order_id) > 1) AS broken
    FROM charge c FULL JOIN billing.settlement s USING (account, order_id, attempt)";

const PAYMENTS: &str = "
    SELECT concat_ws('/', s.account, s.order_id, s.attempt) AS what,
           (s.due > 0 AND s.payment_method IS NOT NULL) <> (p.id IS NOT NULL)
           OR (p.id IS NOT NULL AND
               (p.id, p.state, p.amount, p.currency, p.invoice, p.payment_method, p.decline_reason)
               IS DISTINCT FROM
               (s.payment, s.state, s.due, s.currency, s.invoice, s.payment_method, s.decline_reason))
           OR (s.invoice IS NOT NULL AND (i.kind, i.order_id, i.total, i.currency, i.state)
               IS DISTINCT FROM ('ORDER', s.order_id, s.due, s.currency, 'PAID')) AS broken
    FROM billing.settlement s
    LEFT JOIN billing.payment p ON p.account = s.account AND p.order_id = s.order_id AND p.attempt = s.attempt
    LEFT JOIN billing.invoice i ON i.account = s.account AND i.id = s.invoice";

const SETTLEMENTS: &str = "
    SELECT concat_ws('/', s.account, s.order_id, s.attempt) AS what,
           s.net <> coalesce(sum(l.setup_amount), 0)
           OR s.tax <> div(s.net::numeric * s.tax_rate_ppm + 500000, 1000000)
           OR s.due <> s.net + s.tax
           OR bool_or(l.setup_amount <> l.setup_fee * l.quantity)
           OR count(l.line) = 0 AS broken
    FROM billing.settlement s
    LEFT JOIN billing.settlement_line l USING (account, order_id, attempt)
    GROUP BY s.account, s.order_id, s.attempt";

const INVOICE_TOTALS: &str = "
    WITH line AS (
        SELECT account, invoice, sum(amount) AS net FROM billing.invoice_line GROUP BY account, invoice
    ), tax AS (
        SELECT account, invoice, sum(base) AS base, sum(amount) AS tax
        FROM billing.invoice_tax GROUP BY account, invoice
    )
    SELECT concat_ws('/', i.account, i.number) AS what,
           (i.net, i.net, i.tax, i.total) IS DISTINCT FROM (line.net, tax.base, tax.tax, i.net + i.tax) AS broken
    FROM billing.invoice i
    LEFT JOIN line ON line.account = i.account AND line.invoice = i.id
    LEFT JOIN tax ON tax.account = i.account AND tax.invoice = i.id";

const INVOICE_LINES: &str = "
    SELECT concat_ws('/', l.account, i.number, l.line) AS what,
           l.amount <> div(2 * l.quantity::numeric * l.unit_price + l.price_base_quantity,
                           2 * l.price_base_quantity)
           OR p.currency <> i.currency OR p.offer <> l.offer
           OR l.unit_price <> CASE WHEN l.usage_policy IS NULL THEN p.setup ELSE p.monthly END
           OR coalesce(l.usage_policy <> p.usage_policy, false) AS broken
    FROM billing.invoice_line l
    JOIN billing.invoice i ON i.account = l.account AND i.id = l.invoice
    JOIN billing.price p ON p.id = l.price";

const INVOICE_TAXES: &str = "
    WITH line AS (
        SELECT account, invoice, tax_category AS category, tax_rate_ppm AS rate_ppm, sum(amount) AS base
        FROM billing.invoice_line GROUP BY account, invoice, tax_category, tax_rate_ppm
    )
    SELECT concat_ws('/', account, invoice, category, rate_ppm) AS what,
           t.base IS DISTINCT FROM line.base
           OR t.amount <> div(t.base::numeric * rate_ppm + 500000, 1000000) AS broken
    FROM billing.invoice_tax t FULL JOIN line USING (account, invoice, category, rate_ppm)";

// A month that is charged again, for usage told late, charges what its evidence says beyond what was charged before.
const INVOICE_EVIDENCE: &str = "
    WITH line AS (
        SELECT l.*, i.number, sum(l.quantity) OVER (
                   PARTITION BY l.account, l.month, l.group_id, l.offer ORDER BY i.create_time, l.invoice, l.line
               ) AS charged
        FROM billing.invoice_line l
        JOIN billing.invoice i ON i.account = l.account AND i.id = l.invoice
    )
    SELECT concat_ws('/', l.account, l.number, l.line) AS what,
           CASE l.usage_policy
               WHEN 'PEAK' THEN l.charged <> coalesce(max(d.peak), 0)
               WHEN 'DAILY' THEN l.charged <> coalesce(sum(d.seats), 0)
                   OR l.price_base_quantity <> extract(day FROM
                       to_date(l.month, 'YYYY-MM') + interval '1 month' - interval '1 day')
               WHEN 'DISTINCT' THEN l.charged < coalesce(max(d.seats), 0)
                   OR l.charged > coalesce(sum(d.seats), 0)
               ELSE count(d.day) > 0
           END
           OR coalesce(bool_or(to_char(d.day, 'YYYY-MM') <> l.month), false) AS broken
    FROM line l
    LEFT JOIN billing.invoice_line_day d
        ON d.account = l.account AND d.invoice = l.invoice AND d.line = l.line
    GROUP BY l.account, l.invoice, l.number, l.line, l.charged, l.usage_policy, l.price_base_quantity, l.month";

const NUMBERS: &str = "
    WITH issued AS (
        SELECT seller, substr(number, 3, 4)::smallint AS year, count(DISTINCT number) AS numbers, count(*) AS invoices,
               max(substr(number, 8)::bigint) AS last, max(issue_date) AS last_date
        FROM billing.invoice GROUP BY seller, substr(number, 3, 4)
    ), series AS (
        SELECT seller, year, last, last_date FROM billing.series WHERE kind = 'INVOICE'
    )
    SELECT concat_ws('/', seller, year) AS what,
           issued.numbers <> issued.invoices
           OR (coalesce(issued.last, 0), coalesce(issued.numbers, 0))
              IS DISTINCT FROM (coalesce(series.last, 0), coalesce(series.last, 0))
           OR coalesce(issued.last_date > series.last_date, false) AS broken
    FROM issued FULL JOIN series USING (seller, year)";

const NUMBER_DATES: &str = "
    SELECT concat_ws('/', seller, number) AS what,
           coalesce(lag(issue_date) OVER (PARTITION BY seller, substr(number, 3, 4)
                                          ORDER BY substr(number, 8)::bigint) > issue_date, false) AS broken
    FROM billing.invoice";

const BILLED_MONTHS: &str = "
    WITH invoice AS (
        SELECT account, month, id, start_time, end_time FROM billing.invoice WHERE kind = 'BILL_RUN'
    )
    SELECT concat_ws('/', account, month) AS what,
           m.account IS NULL
           OR i.id IS DISTINCT FROM m.invoice
           OR (i.id IS NOT NULL AND (i.start_time, i.end_time) IS DISTINCT FROM (m.start_time, m.end_time))
           OR EXISTS (
               SELECT FROM billing.billed_month before
               WHERE before.account = m.account AND before.end_time <> m.start_time
                 AND before.month = to_char(to_date(m.month, 'YYYY-MM') - interval '1 month', 'YYYY-MM')) AS broken
    FROM billing.billed_month m FULL JOIN invoice i USING (account, month)";

const BILL_RUNS: &str = "
    WITH issued AS (
        SELECT m.bill_run, i.currency, count(*) AS invoices, sum(i.total) AS total
        FROM billing.billed_month m
        JOIN billing.invoice i ON i.account = m.account AND i.id = m.invoice
        GROUP BY m.bill_run, i.currency
    )
    SELECT r.id AS what,
           r.invoices <> coalesce((SELECT sum(invoices) FROM issued WHERE bill_run = r.id), 0)
           OR EXISTS (
               SELECT FROM (SELECT currency, total FROM issued WHERE bill_run = r.id) i
               FULL JOIN (SELECT currency, total FROM billing.bill_run_total WHERE bill_run = r.id) t USING (currency)
               WHERE i.total IS DISTINCT FROM t.total) AS broken
    FROM billing.bill_run r
    WHERE NOT r.dry_run AND r.state = 'COMPLETED'";

const LEDGER_INVOICES: &str = "
    WITH posted AS (
        SELECT account, source, currency, seller,
               sum(amount) FILTER (WHERE kind = 'INVOICE_NET') AS net,
               sum(amount) FILTER (WHERE kind = 'INVOICE_TAX') AS tax,
               bool_and(debit_account = 'RECEIVABLE' AND credit_account =
                        CASE kind WHEN 'INVOICE_NET' THEN 'REVENUE' ELSE 'VAT' END) AS sides
        FROM billing.ledger_transfer WHERE kind IN ('INVOICE_NET', 'INVOICE_TAX')
        GROUP BY account, source, currency, seller
    ), invoice AS (
        SELECT account, format('accounts/%s/invoices/%s', account, id) COLLATE \"C\" AS source, currency, seller,
               nullif(net, 0) AS net, nullif(tax, 0) AS tax
        FROM billing.invoice WHERE total > 0
    )
    SELECT source AS what,
           (p.net, p.tax) IS DISTINCT FROM (i.net, i.tax) OR NOT coalesce(p.sides, false) AS broken
    FROM posted p FULL JOIN invoice i USING (account, source, currency, seller)";

const LEDGER_PAYMENTS: &str = "
    WITH posted AS (
        SELECT account, source, currency, sum(amount) AS amount,
               bool_and(debit_account = 'CASH' AND credit_account = 'RECEIVABLE') AS sides
        FROM billing.ledger_transfer WHERE kind = 'PAYMENT' GROUP BY account, source, currency
    ), payment AS (
        SELECT account, format('accounts/%s/payments/%s', account, id) COLLATE \"C\" AS source, currency, amount
        FROM billing.payment WHERE state = 'SUCCEEDED'
    )
    SELECT source AS what, l.amount IS DISTINCT FROM p.amount OR NOT coalesce(l.sides, false) AS broken
    FROM posted l FULL JOIN payment p USING (account, source, currency)";

const LEDGER_RECEIVABLE: &str = "
    WITH owed AS (
        SELECT account, seller, currency,
               sum(CASE WHEN debit_account = 'RECEIVABLE' THEN amount
                        WHEN credit_account = 'RECEIVABLE' THEN -amount ELSE 0 END) AS amount
        FROM billing.ledger_transfer GROUP BY account, seller, currency
    ), open AS (
        SELECT account, seller, currency, sum(total) AS amount
        FROM billing.invoice WHERE state = 'OPEN' GROUP BY account, seller, currency
    )
    SELECT concat_ws('/', account, seller, currency) AS what,
           coalesce(owed.amount, 0) <> coalesce(open.amount, 0) AS broken
    FROM owed FULL JOIN open USING (account, seller, currency)";
