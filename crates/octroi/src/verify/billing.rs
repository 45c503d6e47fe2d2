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
        "months: each was closed by a bill run of that month",
        MONTHS_RUNS,
    ),
    (
        "bill runs: invoices, totals and failures are what became of their accounts",
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
    WITH invoice AS (
        SELECT * FROM billing.invoice WHERE kind = 'ORDER'
    ), settled AS (
        SELECT account, order_id, attempt, s.state, s.due, s.net, s.tax, s.currency, s.seller, s.invoice, s.payment,
               s.payment_method, s.decline_reason, p.id AS paid, c.key AS charged,
               (p.id, p.state, p.amount, p.currency, p.invoice, p.payment_method, p.decline_reason)
               IS DISTINCT FROM
               (s.payment, s.state, s.due, s.currency, s.invoice, s.payment_method, s.decline_reason) AS differs
        FROM billing.settlement s FULL JOIN billing.payment p USING (account, order_id, attempt)
        LEFT JOIN billing.test_gateway_charge c ON c.key = concat_ws('/', account, order_id, attempt)
    )
    SELECT concat_ws('/', coalesce(s.account, i.account), coalesce(s.order_id, i.order_id), s.attempt) AS what,
           s.state IS NULL
           OR (s.payment IS NOT NULL) <> (s.paid IS NOT NULL)
           OR (s.payment IS NULL AND s.due > 0
               AND (s.state <> 'DECLINED' OR s.payment_method IS NOT NULL OR s.charged IS NOT NULL))
           OR (s.paid IS NOT NULL AND s.differs)
           OR (s.state = 'SUCCEEDED' AND s.due > 0) <> (i.id IS NOT NULL)
           OR (i.id IS NOT NULL AND (i.order_id, i.net, i.tax, i.total, i.currency, i.seller, i.state)
               IS DISTINCT FROM (s.order_id, s.net, s.tax, s.due, s.currency, s.seller, 'PAID')) AS broken
    FROM settled s FULL JOIN invoice i ON i.account = s.account AND i.id = s.invoice";

const SETTLEMENTS: &str = "
    SELECT concat_ws('/', s.account, s.order_id, s.attempt) AS what,
           s.net <> coalesce(sum(l.setup_amount), 0)
           OR s.tax <> div(s.net::numeric * s.tax_rate_ppm + 500000, 1000000)
           OR s.due <> s.net + s.tax
           OR coalesce(bool_or(l.setup_amount <> l.setup_fee::numeric * l.quantity),
                       s.decline_reason IS DISTINCT FROM 'quote_mismatch')
           OR bool_or(l.line IS NOT NULL
                      AND (p.offer, p.currency, p.setup) IS DISTINCT FROM (l.offer, s.currency, l.setup_fee)) AS broken
    FROM billing.settlement s
    LEFT JOIN billing.settlement_line l USING (account, order_id, attempt)
    LEFT JOIN billing.price p ON p.id = l.price
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

// A month's price is for the days that it had. PostgreSQL's zones are not asked for them: ours are bundled. Clocks that
// are changed move a month's bounds by hours, and it has all its days; a change of zone that leaves out its first day or
// its last takes longer.
const INVOICE_LINES: &str = "
    SELECT concat_ws('/', l.account, i.number, l.line) AS what,
           l.amount <> div(2 * l.quantity::numeric * l.unit_price + l.price_base_quantity,
                           2 * l.price_base_quantity)
           OR p.currency <> i.currency OR p.offer <> l.offer
           OR l.price_base_quantity NOT BETWEEN
               CASE WHEN l.usage_policy <> 'DAILY' OR l.usage_policy IS NULL THEN 1
                    WHEN abs(extract(epoch FROM b.end_time - b.start_time) - 86400 * d.days) <= 10800 THEN d.days
                    ELSE d.days - 2 END
               AND CASE l.usage_policy WHEN 'DAILY' THEN d.days ELSE 1 END
           OR l.unit_price <> CASE WHEN l.usage_policy IS NULL THEN p.setup ELSE p.monthly END
           OR coalesce(l.usage_policy <> p.usage_policy, false) AS broken
    FROM billing.invoice_line l
    JOIN billing.invoice i ON i.account = l.account AND i.id = l.invoice
    JOIN billing.price p ON p.id = l.price
    LEFT JOIN billing.billed_month b ON b.account = l.account AND b.month = l.month,
    LATERAL (SELECT extract(day FROM
        to_date(l.month, 'YYYY-MM') + interval '1 month' - interval '1 day') AS days) d";

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
               WHEN 'DISTINCT' THEN l.charged < coalesce(max(d.seats), 0)
                   OR l.charged > coalesce(sum(d.seats), 0)
               ELSE count(d.day) > 0
           END
           OR coalesce(bool_or(to_char(d.day, 'YYYY-MM') <> l.month), false) AS broken
    FROM line l
    LEFT JOIN billing.invoice_line_day d
        ON d.account = l.account AND d.invoice = l.invoice AND d.line = l.line
    GROUP BY l.account, l.invoice, l.number, l.line, l.charged, l.usage_policy, l.month";

// So many different ones from 1 to as many: there is no gap. Credit notes are numbered in a series of their own, and
// none is made yet.
const NUMBERS: &str = "
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
    FROM issued FULL JOIN billing.series USING (seller, year, kind)";

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

// A month names its run without a foreign key: the run belongs to the installation, not to the account.
const MONTHS_RUNS: &str = "
    SELECT concat_ws('/', m.account, m.month, m.bill_run) AS what,
           r.id IS NULL OR r.dry_run OR r.month <> m.month AS broken
    FROM billing.billed_month m LEFT JOIN billing.bill_run r ON r.id = m.bill_run";

// A chunk's invoices stand in one transaction with the run's progress, so a run under way is held to the same; a dry
// one closes no month.
const BILL_RUNS: &str = "
    WITH closed AS (
        SELECT bill_run AS id, count(*) AS months, count(invoice) AS invoices
        FROM billing.billed_month GROUP BY bill_run
    ), issued AS (
        SELECT m.bill_run, i.currency, sum(i.total) AS total
        FROM billing.billed_month m JOIN billing.invoice i ON i.account = m.account AND i.id = m.invoice
        GROUP BY m.bill_run, i.currency
    ), total AS (
        SELECT bill_run AS id, bool_or(issued.total IS DISTINCT FROM told.total) AS differs
        FROM issued FULL JOIN billing.bill_run_total told USING (bill_run, currency) GROUP BY bill_run
    ), parked AS (
        SELECT bill_run AS id, count(*) AS accounts FROM billing.bill_run_failure GROUP BY bill_run
    )
    SELECT r.id AS what,
           r.failed <> coalesce(parked.accounts, 0)
           OR (r.dry_run AND closed.months IS NOT NULL)
           OR (NOT r.dry_run AND (r.invoices <> coalesce(closed.invoices, 0) OR total.differs IS TRUE)) AS broken
    FROM billing.bill_run r
    LEFT JOIN closed USING (id)
    LEFT JOIN total USING (id)
    LEFT JOIN parked USING (id)";

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
        SELECT account, source, currency, seller, sum(amount) AS amount,
               bool_and(kind = 'PAYMENT' AND debit_account = 'CASH' AND credit_account = 'RECEIVABLE') AS sides
        FROM billing.ledger_transfer WHERE kind NOT IN ('INVOICE_NET', 'INVOICE_TAX')
        GROUP BY account, source, currency, seller
    ), payment AS (
        SELECT account, format('accounts/%s/payments/%s', account, p.id) COLLATE \"C\" AS source, p.currency, s.seller,
               p.amount
        FROM billing.payment p LEFT JOIN billing.settlement s USING (account, order_id, attempt)
        WHERE p.state = 'SUCCEEDED'
    )
    SELECT source AS what, l.amount IS DISTINCT FROM p.amount OR NOT coalesce(l.sides, false) AS broken
    FROM posted l FULL JOIN payment p USING (account, source, currency, seller)";

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
