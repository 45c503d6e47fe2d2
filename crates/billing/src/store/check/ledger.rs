//! What must hold of the ledger, against invoices and payments.

#![expect(missing_docs, reason = "each names its rule")]

use octroi_platform::check::Check;

pub const LEDGER_INVOICES: Check = Check {
    name: "ledger: each invoice is posted to its net and tax",
    sql: "
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
        FROM posted p FULL JOIN invoice i USING (account, source, currency, seller)",
};

pub const LEDGER_PAYMENTS: Check = Check {
    name: "ledger: each payment is posted, and nothing else",
    sql: "
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
        FROM posted l FULL JOIN payment p USING (account, source, currency, seller)",
};

pub const LEDGER_RECEIVABLE: Check = Check {
    name: "ledger: what customers owe is what their open invoices say",
    sql: "
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
        FROM owed FULL JOIN open USING (account, seller, currency)",
};
