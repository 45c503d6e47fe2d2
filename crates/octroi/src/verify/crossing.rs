//! What one service says against what another does.

/// Name and query of each check.
pub(super) const CHECKS: &[(&str, &str)] = &[
    (
        "orders: no licences without settlement, no settlement without licences",
        ORDER_SETTLEMENTS,
    ),
    (
        "orders: payment and invoice are those of the settlement",
        ORDER_PAYMENTS,
    ),
    (
        "usage: billing's intervals are licensing's, but for those on their way",
        INTERVALS,
    ),
    (
        "accounts: each service knows billing's, but for changes on their way",
        ACCOUNTS,
    ),
    (
        "e-mails: each fact that customers are told of has its e-mail",
        EMAILS,
    ),
    (
        "e-mails: a readable password belongs to an active licence",
        EMAIL_SECRETS,
    ),
    (
        "orphans: every account that licensing and notification name exists",
        ORPHAN_ACCOUNTS,
    ),
    (
        "orphans: every group and licence that is named exists",
        ORPHAN_LICENSES,
    ),
    (
        "orphans: every order that billing names exists",
        ORPHAN_ORDERS,
    ),
];

// An order being paid may be settled already: its licences follow.
const ORDER_SETTLEMENTS: &str = "
    WITH settled AS (
        SELECT account, order_id, max(attempt) FILTER (WHERE state = 'SUCCEEDED') AS attempt,
               count(*) FILTER (WHERE state = 'SUCCEEDED') AS charges,
               count(*) FILTER (WHERE state = 'PROCESSING') AS undecided
        FROM billing.settlement GROUP BY account, order_id
    )
    SELECT concat_ws('/', account, order_id) AS what,
           o.account IS NULL
           OR coalesce(s.charges, 0) > 1
           OR (o.state = 'COMPLETED' AND s.attempt IS DISTINCT FROM o.attempts)
           OR (o.state NOT IN ('COMPLETED', 'PAYING') AND coalesce(s.charges + s.undecided, 0) > 0)
           OR (o.state = 'COMPLETED' AND coalesce(s.undecided, 0) > 0) AS broken
    FROM licensing.license_order o FULL JOIN settled s USING (account, order_id)";

const ORDER_PAYMENTS: &str = "
    SELECT concat_ws('/', o.account, o.order_id) AS what,
           (o.payment, o.invoice)
           IS DISTINCT FROM
           (CASE WHEN s.payment IS NULL THEN ''
                 ELSE format('accounts/%s/payments/%s', s.account, s.payment) END,
            CASE WHEN s.invoice IS NULL THEN ''
                 ELSE format('accounts/%s/invoices/%s', s.account, s.invoice) END) AS broken
    FROM licensing.license_order o
    JOIN billing.settlement s ON s.account = o.account AND s.order_id = o.order_id AND s.attempt = o.attempts
    WHERE o.state = 'COMPLETED'";

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

const ACCOUNTS: &str = "
    WITH copy AS (
        SELECT 'licensing' AS service, account, version FROM licensing.account
        UNION ALL
        SELECT 'notification', account, max(version) FROM notification.account GROUP BY account
    ), asked AS (
        SELECT subscriber AS service, a.account, a.version
        FROM billing.account a, (VALUES ('licensing'), ('notification')) AS s (subscriber)
    )
    SELECT concat_ws('/', service, account) AS what,
           coalesce(copy.version > asked.version, false)
           OR (copy.version IS DISTINCT FROM asked.version AND NOT EXISTS (
               SELECT FROM billing.delivery d WHERE d.account = asked.account AND d.subscriber = asked.service))
           AS broken
    FROM asked FULL JOIN copy USING (service, account)";

const EMAILS: &str = "
    WITH told AS (
        SELECT account, id, aggregate, 'licensing' AS source FROM licensing.event
        WHERE type IN ('licensing.order.completed', 'licensing.license.activated', 'licensing.group.terminated')
        UNION ALL
        SELECT account, id, aggregate, 'billing' FROM billing.event WHERE type = 'billing.invoice.issued'
    ), under_way AS (
        SELECT 'licensing' AS source, account, event_id FROM licensing.delivery WHERE subscriber = 'notification'
        UNION ALL
        SELECT 'billing', account, event_id FROM billing.delivery WHERE subscriber = 'notification'
    )
    SELECT concat_ws(' ', told.aggregate, told.id) AS what,
           NOT EXISTS (SELECT FROM notification.email e WHERE e.account = told.account AND e.event = told.id)
           AND NOT EXISTS (
               SELECT FROM under_way u
               WHERE u.source = told.source AND u.account = told.account AND u.event_id = told.id) AS broken
    FROM told";

const EMAIL_SECRETS: &str = "
    SELECT concat_ws(' ', e.license, e.id) AS what,
           NOT EXISTS (
               SELECT FROM licensing.license l
               WHERE l.account = e.account AND l.state = 'ACTIVE'
                 AND e.license = format('accounts/%s/licenseGroups/%s/licenses/%s', l.account, l.group_id, l.number))
           AND NOT EXISTS (
               SELECT FROM licensing.delivery d
               WHERE d.account = e.account AND d.subscriber = 'notification' AND d.aggregate = e.license) AS broken
    FROM notification.email e WHERE e.secret_state = 'READABLE'";

const ORPHAN_ACCOUNTS: &str = "
    SELECT concat_ws('/', named.place, named.account) AS what, a.account IS NULL AS broken
    FROM (
        SELECT 'licensing.account' AS place, account FROM licensing.account
        UNION SELECT 'notification.account', account FROM notification.account
        UNION SELECT 'notification.email', account FROM notification.email
        UNION SELECT 'licensing.event', account FROM licensing.event WHERE account <> '-'
        UNION SELECT 'billing.event', account FROM billing.event WHERE account <> '-'
    ) named
    LEFT JOIN billing.account a USING (account)";

// A group that an order creates holds its first seats before it exists.
const ORPHAN_LICENSES: &str = "
    SELECT concat_ws('/', named.place, account, group_id, nullif(named.number, 0)) AS what,
           g.account IS NULL
           AND NOT (named.place = 'licensing.group_offer' AND EXISTS (
               SELECT FROM licensing.license_order o
               WHERE o.account = named.account AND o.group_id = named.group_id AND o.new_display_name IS NOT NULL))
           OR (named.number > 0 AND l.account IS NULL) AS broken
    FROM (
        SELECT 'licensing.group_offer' AS place, account, group_id, 0 AS number FROM licensing.group_offer
        UNION SELECT 'licensing.activation_address', account, group_id, number FROM licensing.activation_address
        UNION SELECT 'billing.usage_group', account, group_id, 0 FROM billing.usage_group
        UNION SELECT 'billing.group_offer_entry', account, group_id, 0 FROM billing.group_offer_entry
        UNION SELECT 'billing.usage_interval', account, group_id, seat FROM billing.usage_interval
        UNION SELECT 'billing.invoice_line', account, group_id, 0 FROM billing.invoice_line WHERE group_id IS NOT NULL
    ) named
    LEFT JOIN licensing.license_group g USING (account, group_id)
    LEFT JOIN licensing.license l USING (account, group_id, number)";

const ORPHAN_ORDERS: &str = "
    SELECT concat_ws('/', named.place, account, order_id) AS what, o.account IS NULL AS broken
    FROM (
        SELECT 'billing.settlement' AS place, account, order_id FROM billing.settlement
        UNION SELECT 'billing.invoice', account, order_id FROM billing.invoice WHERE order_id IS NOT NULL
        UNION SELECT 'billing.group_offer_entry', account, order_id FROM billing.group_offer_entry
        UNION SELECT 'billing.payment_method', account, order_id FROM billing.payment_method
            WHERE order_id IS NOT NULL
    ) named
    LEFT JOIN licensing.license_order o USING (account, order_id)";
