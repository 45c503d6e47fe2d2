//! What must hold of bill runs and the months that they close.

#![expect(missing_docs, reason = "each names its rule")]

use octroi_platform::check::Check;

pub const BILLED_MONTHS: Check = Check {
    name: "months: each billed one has its invoice, and starts where the last ended",
    sql: "
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
        FROM billing.billed_month m FULL JOIN invoice i USING (account, month)",
};

// A month names its run without a foreign key: the run belongs to the installation, not to the account.
pub const MONTHS_RUNS: Check = Check {
    name: "months: each was closed by a bill run of that month",
    sql: "
        SELECT concat_ws('/', m.account, m.month, m.bill_run) AS what,
               r.id IS NULL OR r.dry_run OR r.month <> m.month AS broken
        FROM billing.billed_month m LEFT JOIN billing.bill_run r ON r.id = m.bill_run",
};

// A chunk's invoices stand in one transaction with the run's progress, so a run under way is held to the same; a dry
// one closes no month.
pub const BILL_RUNS: Check = Check {
    name: "bill runs: invoices, totals and failures are what became of their accounts",
    sql: "
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
               OR (r.state = 'COMPLETED' AND EXISTS (
                   SELECT FROM billing.bill_run_range range WHERE range.bill_run = r.id))
               OR (r.dry_run AND closed.months IS NOT NULL)
               OR (NOT r.dry_run AND (r.invoices <> coalesce(closed.invoices, 0) OR total.differs IS TRUE)) AS broken
        FROM billing.bill_run r
        LEFT JOIN closed USING (id)
        LEFT JOIN total USING (id)
        LEFT JOIN parked USING (id)",
};
