//! Checks that compare the schemas of two services.

use octroi_platform::check::Check;

/// Every rule, in the order of the report.
pub(super) const CHECKS: &[Check] = &[
    ORDER_SETTLEMENTS,
    ORDER_PAYMENTS,
    ORDER_OUTCOMES,
    ORDER_LINES,
    ACCOUNTS,
    FIXED_ACCOUNTS,
    EMAILS,
    EMAIL_SECRETS,
    ORPHAN_ACCOUNTS,
    ORPHAN_LICENSES,
    ORPHAN_ORDERS,
];

// An order in PAYING may be settled already; its licences follow.
pub(super) const ORDER_SETTLEMENTS: Check = Check {
    name: "orders: no licences without settlement, no settlement without licences",
    sql: "
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
        FROM licensing.license_order o FULL JOIN settled s USING (account, order_id)",
};

pub(super) const ORDER_PAYMENTS: Check = Check {
    name: "orders: payment and invoice are those of the settlement",
    sql: "
        SELECT concat_ws('/', o.account, o.order_id) AS what,
               (o.payment, o.invoice)
               IS DISTINCT FROM
               (CASE WHEN s.payment IS NULL THEN ''
                     ELSE format('accounts/%s/payments/%s', s.account, s.payment) END,
                CASE WHEN s.invoice IS NULL THEN ''
                     ELSE format('accounts/%s/invoices/%s', s.account, s.invoice) END) AS broken
        FROM licensing.license_order o
        LEFT JOIN billing.settlement s
            ON s.account = o.account AND s.order_id = o.order_id AND s.attempt = o.attempts AND o.state = 'COMPLETED'",
};

// Older releases of billing stored no settlement for some declines.
pub(super) const ORDER_OUTCOMES: Check = Check {
    name: "orders: each attempt to pay ended as billing settled it",
    sql: "
        SELECT concat_ws('/', account, order_id, attempt) AS what,
               a.started_at IS NULL
               OR (a.outcome = 'SUCCEEDED' AND s.state IS DISTINCT FROM 'SUCCEEDED')
               OR (a.outcome = 'DECLINED' AND s.state IS NOT NULL
                   AND (s.state, s.decline_reason) IS DISTINCT FROM ('DECLINED', a.decline_reason)) AS broken
        FROM licensing.payment_attempt a FULL JOIN billing.settlement s USING (account, order_id, attempt)",
};

// An order in PAYING may be settled already.
pub(super) const ORDER_LINES: Check = Check {
    name: "orders: what was ordered is what was settled and invoiced",
    sql: "
        WITH ordered AS (
            SELECT account, order_id, format('offers/%s', l.offer) COLLATE \"C\" AS offer, o.state, l.quantity, l.price
            FROM licensing.license_order o JOIN licensing.order_line l USING (account, order_id)
        ), settled AS (
            SELECT account, order_id, l.offer, l.quantity, format('prices/%s', l.price) AS price, l.setup_amount
            FROM billing.settlement s JOIN billing.settlement_line l USING (account, order_id, attempt)
            WHERE s.state = 'SUCCEEDED'
        ), invoiced AS (
            SELECT i.account, i.order_id, l.offer, l.quantity, format('prices/%s', l.price) AS price, l.amount
            FROM billing.invoice i JOIN billing.invoice_line l ON l.account = i.account AND l.invoice = i.id
            WHERE i.kind = 'ORDER'
        )
        SELECT concat_ws('/', account, order_id, offer) AS what,
               ordered.state IS NULL
               OR (ordered.state = 'COMPLETED' AND settled.price IS NULL)
               OR (settled.quantity, settled.price) <> (ordered.quantity, ordered.price)
               OR (coalesce(settled.setup_amount, 0) > 0) <> (invoiced.price IS NOT NULL)
               OR coalesce((invoiced.quantity, invoiced.price, invoiced.amount)
                           <> (settled.quantity, settled.price, settled.setup_amount), false) AS broken
        FROM ordered
        FULL JOIN settled USING (account, order_id, offer)
        FULL JOIN invoiced USING (account, order_id, offer)",
};

// Notification keeps every change, licensing the latest. An order's quote may tell licensing before the event does.
pub(super) const ACCOUNTS: Check = Check {
    name: "accounts: each service knows billing's, but for changes on their way",
    sql: "
        WITH copy AS (
            SELECT 'licensing' AS service, account, version, true AS whole,
                   jsonb_build_array(locale, currency, to_jsonb(zone_names), to_jsonb(zone_times)) AS data
            FROM licensing.account
            UNION ALL
            (SELECT DISTINCT ON (account) 'notification', account, version,
                    count(*) OVER (PARTITION BY account) = version,
                    jsonb_build_array(contact_email, locale, legal_name, jsonb_path_query_array(zones, '$[*].time_zone'))
             FROM notification.account ORDER BY account, version DESC)
        ), original AS (
            SELECT 'licensing' AS service, account, version,
                   jsonb_build_array(locale, currency, to_jsonb(zone_names), to_jsonb(zone_times)) AS data
            FROM billing.account
            UNION ALL
            SELECT 'notification', account, version,
                   jsonb_build_array(contact_email, locale, legal_name, to_jsonb(zone_names))
            FROM billing.account
        ), under_way AS (
            SELECT DISTINCT subscriber AS service, account, true AS pending FROM billing.delivery
            WHERE aggregate = format('accounts/%s', account)
        )
        SELECT concat_ws('/', service, account) AS what,
               coalesce(copy.version > original.version, false)
               OR copy.whole IS FALSE
               OR (copy.version IS DISTINCT FROM original.version AND under_way.pending IS NULL)
               OR coalesce(copy.version = original.version AND copy.data <> original.data, false) AS broken
        FROM original FULL JOIN copy USING (service, account) LEFT JOIN under_way USING (service, account)",
};

pub(super) const FIXED_ACCOUNTS: Check = Check {
    name: "accounts: a kept order fixes currency and seller, but for news on their way",
    sql: "
        WITH under_way AS (
            SELECT DISTINCT account, aggregate FROM licensing.delivery WHERE subscriber = 'billing'
        )
        SELECT concat_ws('/', o.account, o.order_id) AS what, a.first_order_time IS NULL AS broken
        FROM licensing.license_order o JOIN billing.account a USING (account)
        WHERE NOT EXISTS (
            SELECT FROM under_way
            WHERE under_way.account = o.account
              AND under_way.aggregate = format('accounts/%s/orders/%s', o.account, o.order_id))",
};

// Whether a changed password or contact is mailed stands in the event's body only, so `octroi.mailed` holds the ids. An
// e-mail without its event is as wrong as a missing one.
pub(super) const EMAILS: Check = Check {
    name: "e-mails: each event to be mailed has its e-mail, and each e-mail its event",
    sql: "
        WITH mailed AS (
            SELECT DISTINCT unnest(current_setting('octroi.mailed')::uuid[]) AS id
        ), expected AS (
            SELECT 'licensing' AS source, account, id, aggregate, template, 1 AS copies
            FROM licensing.event
            JOIN (VALUES ('licensing.order.completed', 'order-completed'),
                         ('licensing.license.activated', 'license-activated'),
                         ('licensing.group.terminated', 'group-terminated')) AS letter (type, template) USING (type)
            UNION ALL
            SELECT 'licensing', account, id, aggregate, 'password-changed', 1
            FROM licensing.event JOIN mailed USING (id) WHERE type = 'licensing.license.password_changed'
            UNION ALL
            SELECT 'billing', account, id, aggregate, 'invoice-issued', 1
            FROM billing.event WHERE type = 'billing.invoice.issued'
            UNION ALL
            SELECT 'billing', account, id, aggregate, 'contact-changed', 2
            FROM billing.event JOIN mailed USING (id) WHERE type = 'billing.account.changed'
        ), sent AS (
            SELECT account, event AS id, template, count(*) AS copies
            FROM notification.email GROUP BY account, event, template
        ), under_way AS (
            SELECT 'licensing' AS source, account, event_id AS id, true AS pending
            FROM licensing.delivery WHERE subscriber = 'notification'
            UNION ALL
            SELECT 'billing', account, event_id, true FROM billing.delivery WHERE subscriber = 'notification'
        )
        SELECT concat_ws(' ', coalesce(expected.aggregate, format('accounts/%s', account)), template, id) AS what,
               sent.copies IS DISTINCT FROM expected.copies AND NOT (sent.copies IS NULL AND under_way.pending IS TRUE) AS broken
        FROM expected
        FULL JOIN sent USING (account, id, template)
        LEFT JOIN under_way USING (source, account, id)",
};

pub(super) const EMAIL_SECRETS: Check = Check {
    name: "e-mails: a readable password is the one in force of an active licence",
    sql: "
        WITH under_way AS (
            SELECT DISTINCT account, aggregate AS license, true AS pending
            FROM licensing.delivery WHERE subscriber = 'notification'
        ), active AS (
            SELECT account, format('accounts/%s/licenseGroups/%s/licenses/%s', account, group_id, number) COLLATE \"C\"
                   AS license, state
            FROM licensing.license WHERE state = 'ACTIVE'
        )
        SELECT concat_ws(' ', license, e.id) AS what,
               under_way.pending IS NULL
               AND (active.state IS NULL OR (fact.aggregate, fact.sequence) IS DISTINCT FROM (license, last.sequence))
               AS broken
        FROM notification.email e
        LEFT JOIN active USING (account, license)
        LEFT JOIN under_way USING (account, license)
        LEFT JOIN licensing.event fact ON fact.account = e.account AND fact.id = e.event
        LEFT JOIN LATERAL (
            SELECT max(v.sequence) AS sequence FROM licensing.event v
            WHERE v.account = e.account AND v.aggregate = e.license
              AND v.type IN ('licensing.license.activated', 'licensing.license.password_changed',
                             'licensing.license.deactivated')
        ) last ON true
        WHERE e.secret_state = 'READABLE'",
};

pub(super) const ORPHAN_ACCOUNTS: Check = Check {
    name: "orphans: every account that licensing and notification name exists",
    sql: "
        SELECT concat_ws('/', named.place, named.account) AS what, a.account IS NULL AS broken
        FROM (
            SELECT 'licensing.account' AS place, account FROM licensing.account
            UNION SELECT 'notification.account', account FROM notification.account
            UNION SELECT 'notification.email', account FROM notification.email
            UNION SELECT 'licensing.event', account FROM licensing.event WHERE strpos(account, '/') = 0
            UNION SELECT 'billing.event', account FROM billing.event WHERE strpos(account, '/') = 0
        ) named
        LEFT JOIN billing.account a USING (account)",
};

// A group that an order creates holds its first seats before it exists.
pub(super) const ORPHAN_LICENSES: Check = Check {
    name: "orphans: every group and licence that is named exists",
    sql: "
        SELECT concat_ws('/', named.place, account, group_id, nullif(named.number, 0)) AS what,
               g.account IS NULL AND NOT (named.place = 'licensing.group_offer' AND ordered.is_new IS TRUE)
               OR (named.number > 0 AND l.account IS NULL) AS broken
        FROM (
            SELECT 'licensing.group_offer' AS place, account, group_id, 0 AS number FROM licensing.group_offer
            UNION SELECT 'licensing.activation_address', account, group_id, number FROM licensing.activation_address
            UNION SELECT 'billing.usage_group', account, group_id, 0 FROM billing.usage_group
            UNION SELECT 'billing.group_offer_entry', account, group_id, 0 FROM billing.group_offer_entry
            UNION SELECT 'billing.usage_interval', account, group_id, seat FROM billing.usage_interval
            UNION SELECT 'billing.invoice_line', account, group_id, 0 FROM billing.invoice_line WHERE group_id IS NOT NULL
            UNION SELECT 'notification.email', account, split_part(license, '/', 4), split_part(license, '/', 6)::int
                FROM notification.email WHERE license <> ''
        ) named
        LEFT JOIN licensing.license_group g USING (account, group_id)
        LEFT JOIN licensing.license l USING (account, group_id, number)
        LEFT JOIN (
            SELECT DISTINCT account, group_id, true AS is_new
            FROM licensing.license_order WHERE new_display_name IS NOT NULL
        ) ordered USING (account, group_id)",
};

pub(super) const ORPHAN_ORDERS: Check = Check {
    name: "orphans: every order that billing names exists",
    sql: "
        SELECT concat_ws('/', named.place, account, order_id) AS what, o.account IS NULL AS broken
        FROM (
            SELECT 'billing.settlement' AS place, account, order_id FROM billing.settlement
            UNION SELECT 'billing.invoice', account, order_id FROM billing.invoice WHERE order_id IS NOT NULL
            UNION SELECT 'billing.group_offer_entry', account, order_id FROM billing.group_offer_entry
            UNION SELECT 'billing.payment_method', account, order_id FROM billing.payment_method
                WHERE order_id IS NOT NULL
        ) named
        LEFT JOIN licensing.license_order o USING (account, order_id)",
};
