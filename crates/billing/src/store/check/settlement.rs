//! What must hold of orders' settlements, and what was charged and paid for them.

#![expect(missing_docs, reason = "each names its rule")]

use octroi_platform::check::Check;

// A method is checked under the order's key too when nothing is due, so each success has its charge.
pub const CHARGES: Check = Check {
    name: "charges: one at most per order, one for each settlement that succeeded",
    sql: "
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
        FROM charge c FULL JOIN billing.settlement s USING (account, order_id, attempt)",
};

pub const PAYMENTS: Check = Check {
    name: "payments: agree with their settlements and invoices",
    sql: "
        WITH invoice AS (
            SELECT * FROM billing.invoice WHERE kind = 'ORDER'
        ), charge AS MATERIALIZED (
            SELECT key FROM billing.test_gateway_charge
        ), settled AS (
            SELECT account, order_id, attempt, s.state, s.due, s.net, s.tax, s.currency, s.seller, s.invoice, s.payment,
                   s.payment_method, s.decline_reason, p.id AS paid, c.key AS charged,
                   (p.id, p.state, p.amount, p.currency, p.invoice, p.payment_method, p.decline_reason)
                   IS DISTINCT FROM
                   (s.payment, s.state, s.due, s.currency, s.invoice, s.payment_method, s.decline_reason) AS differs
            FROM billing.settlement s FULL JOIN billing.payment p USING (account, order_id, attempt)
            LEFT JOIN charge c ON c.key = concat_ws('/', account, order_id, attempt)
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
        FROM settled s FULL JOIN invoice i ON i.account = s.account AND i.id = s.invoice",
};

pub const SETTLEMENTS: Check = Check {
    name: "settlements: lines, tax and what is due add up",
    sql: "
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
        GROUP BY s.account, s.order_id, s.attempt",
};
