//! What breaks the rules of usage and those between services, and what breaks none.

/// What breaks each rule, by the check's name.
pub(super) const CROSSINGS: &[(&str, &str)] = &[
    (
        "accounts: a kept order fixes currency and seller, but for news on their way",
        "UPDATE billing.account SET first_order_time = NULL",
    ),
    (
        "usage: an interval is open exactly while its licence is active",
        "UPDATE licensing.usage_interval SET ended_at = started_at WHERE seat = 1",
    ),
    (
        "usage: intervals of a seat do not overlap, in licensing and in billing",
        "INSERT INTO licensing.usage_interval (account, group_id, offer, seat, started_at, ended_at)
         SELECT account, group_id, offer, seat, started_at + interval '1 hour', ended_at
         FROM licensing.usage_interval WHERE ended_at IS NOT NULL",
    ),
    (
        "usage: intervals of a seat do not overlap, in licensing and in billing",
        "INSERT INTO billing.usage_interval (account, group_id, seat, opened_by, offer, start_time, end_time)
         SELECT account, group_id, seat, gen_random_uuid(), offer, start_time, end_time
         FROM billing.usage_interval WHERE end_time IS NOT NULL",
    ),
    (
        "usage: each interval lies in its licence's life and is of its offer",
        "UPDATE licensing.usage_interval SET offer = 'apps-for-enterprise' WHERE seat = 1",
    ),
    (
        "usage: each interval lies in its licence's life and is of its offer",
        "UPDATE licensing.usage_interval SET ended_at = ended_at + interval '1 second'",
    ),
    (
        "usage: each interval lies in its licence's life and is of its offer",
        "UPDATE licensing.usage_interval SET started_at = started_at - interval '1 day' WHERE seat = 1",
    ),
    (
        "usage: each interval lies in its licence's life and is of its offer",
        "DELETE FROM licensing.license WHERE number = 1",
    ),
    (
        "usage: billing's intervals are licensing's, but for those on their way",
        "UPDATE billing.usage_interval SET start_time = start_time + interval '1 microsecond' WHERE seat = 1",
    ),
    (
        "usage: billing's intervals are licensing's, but for those on their way",
        "DELETE FROM billing.usage_interval WHERE seat = 1",
    ),
    (
        "usage: an offer enters a group with its first paid order, at its price",
        "UPDATE billing.group_offer_entry SET order_id = 'o2'",
    ),
    (
        "usage: an offer enters a group with its first paid order, at its price",
        "UPDATE billing.group_offer_entry SET price = gen_random_uuid()",
    ),
    (
        "usage: an offer enters a group with its first paid order, at its price",
        "DELETE FROM billing.group_offer_entry",
    ),
    (
        "usage: an offer enters a group with its first paid order, at its price",
        "UPDATE licensing.license_order SET completed_at = created_at - interval '1 day' WHERE order_id = 'o2'",
    ),
    (
        "usage: billing names groups as they are called, but for names on their way",
        "UPDATE billing.usage_group SET display_name = 'Other'",
    ),
    (
        "usage: billing names groups as they are called, but for names on their way",
        "DELETE FROM billing.usage_group",
    ),
    (
        "usage: each closed month's is charged as its policy counts, no more, no less",
        "DELETE FROM billing.invoice_line WHERE month IS NOT NULL AND line = 1",
    ),
    (
        "usage: each closed month's is charged as its policy counts, no more, no less",
        "UPDATE billing.invoice_line SET quantity = quantity + 1 WHERE month IS NOT NULL",
    ),
    (
        "usage: each closed month's is charged as its policy counts, no more, no less",
        "UPDATE billing.usage_interval SET start_time = start_time + interval '10 days' WHERE seat = 1",
    ),
    (
        "usage: each closed month's is charged as its policy counts, no more, no less",
        "DELETE FROM billing.usage_interval",
    ),
    (
        "usage: each closed month's is charged as its policy counts, no more, no less",
        "INSERT INTO billing.usage_interval (account, group_id, seat, opened_by, offer, start_time, end_time)
         SELECT account, group_id, 10, gen_random_uuid(), offer, last.last, last.last + interval '1 microsecond'
         FROM billing.usage_interval, (SELECT max(start_time) AS last FROM billing.usage_interval) AS last
         WHERE seat = 1",
    ),
    (
        "usage: each closed month's is charged as its policy counts, no more, no less",
        "UPDATE billing.invoice_line SET usage_policy = 'DISTINCT', quantity = 1 WHERE month IS NOT NULL",
    ),
    (
        "usage: each closed month's is charged as its policy counts, no more, no less",
        "UPDATE billing.invoice_line l SET usage_policy = 'DAILY', quantity = 1 + (
             SELECT sum(seats) FROM billing.invoice_line_day d
             WHERE d.account = l.account AND d.invoice = l.invoice AND d.line = l.line)
         WHERE month IS NOT NULL",
    ),
    (
        "usage: each closed month's is charged as its policy counts, no more, no less",
        "INSERT INTO billing.usage_interval (account, group_id, seat, opened_by, offer, start_time)
         SELECT account, group_id, 10, gen_random_uuid(), offer, '2026-01-01'
         FROM billing.usage_interval WHERE seat = 1",
    ),
    (
        "orders: no licences without settlement, no settlement without licences",
        "DELETE FROM billing.settlement WHERE order_id = 'o1'",
    ),
    (
        "orders: no licences without settlement, no settlement without licences",
        "UPDATE licensing.license_order SET state = 'AWAITING_PAYMENT' WHERE order_id = 'o2'",
    ),
    ("orders: payment and invoice are those of the settlement", "UPDATE licensing.license_order SET payment = ''"),
    (
        "orders: payment and invoice are those of the settlement",
        "UPDATE licensing.license_order SET state = 'CANCELLED' WHERE order_id = 'o1'",
    ),
    (
        "orders: each attempt to pay ended as billing settled it",
        "UPDATE licensing.payment_attempt SET outcome = 'DECLINED', decline_reason = 'card_expired'",
    ),
    (
        "orders: each attempt to pay ended as billing settled it",
        "UPDATE billing.settlement SET state = 'DECLINED'",
    ),
    (
        "orders: each attempt to pay ended as billing settled it",
        "DELETE FROM licensing.payment_attempt WHERE order_id = 'o1'",
    ),
    (
        "orders: each attempt to pay ended as billing settled it",
        "DELETE FROM billing.settlement WHERE order_id = 'o1'",
    ),
    (
        "orders: what was ordered is what was settled and invoiced",
        "UPDATE billing.settlement_line SET quantity = quantity + 1",
    ),
    (
        "orders: what was ordered is what was settled and invoiced",
        "UPDATE licensing.order_line SET price = 'prices/other'",
    ),
    (
        "orders: what was ordered is what was settled and invoiced",
        "DELETE FROM billing.settlement_line WHERE order_id = 'o1'",
    ),
    (
        "orders: what was ordered is what was settled and invoiced",
        "DELETE FROM billing.invoice_line WHERE month IS NULL",
    ),
    (
        "orders: what was ordered is what was settled and invoiced",
        "UPDATE billing.invoice_line SET amount = amount - 1 WHERE month IS NULL",
    ),
    (
        "orders: what was ordered is what was settled and invoiced",
        "DELETE FROM licensing.order_line WHERE order_id = 'o1'",
    ),
    ("accounts: each service knows billing's, but for changes on their way", "DELETE FROM notification.account"),
    (
        "accounts: each service knows billing's, but for changes on their way",
        "UPDATE licensing.account SET version = version + 1",
    ),
    (
        "accounts: each service knows billing's, but for changes on their way",
        "DELETE FROM notification.account WHERE version = 1",
    ),
    (
        "accounts: each service knows billing's, but for changes on their way",
        "UPDATE notification.account SET contact_email = 'other@acme.example'",
    ),
    (
        "accounts: each service knows billing's, but for changes on their way",
        "UPDATE licensing.account SET zone_names = ARRAY['UTC']",
    ),
    (
        "e-mails: each fact that customers are told of has its own, and each its fact",
        "DELETE FROM notification.email WHERE template = 'invoice-issued'",
    ),
    (
        "e-mails: each fact that customers are told of has its own, and each its fact",
        "DELETE FROM notification.email WHERE template = 'contact-changed' AND recipient LIKE 'new%'",
    ),
    (
        "e-mails: each fact that customers are told of has its own, and each its fact",
        "DELETE FROM notification.email WHERE template = 'password-changed'",
    ),
    (
        "e-mails: each fact that customers are told of has its own, and each its fact",
        "UPDATE notification.email SET event = gen_random_uuid() WHERE template = 'license-activated'",
    ),
    (
        "e-mails: each fact that customers are told of has its own, and each its fact",
        "DELETE FROM billing.event WHERE type = 'billing.invoice.issued'",
    ),
    (
        "e-mails: each fact that customers are told of has its own, and each its fact",
        "UPDATE billing.event SET body = 'unreadable' WHERE type = 'billing.account.changed' AND sequence = 1",
    ),
    (
        "e-mails: a readable password is the one in force of an active licence",
        "UPDATE notification.email SET license = 'accounts/acme/licenseGroups/office/licenses/9'
         WHERE secret_state = 'READABLE' AND license LIKE '%/2'",
    ),
    (
        "e-mails: a readable password is the one in force of an active licence",
        "INSERT INTO licensing.event (account, id, type, aggregate, sequence, effective_at, recorded_at, body)
         SELECT account, gen_random_uuid(), 'licensing.license.password_changed', license, 99, now(), now(), ''
         FROM notification.email WHERE secret_state = 'READABLE'",
    ),
    (
        "orphans: every account that licensing and notification name exists",
        "UPDATE billing.account SET account = 'other'",
    ),
    ("orphans: every group and licence that is named exists", "DELETE FROM licensing.license_group"),
    ("orphans: every group and licence that is named exists", "DELETE FROM licensing.license WHERE number = 1"),
    (
        "orphans: every group and licence that is named exists",
        "UPDATE notification.email SET license = 'accounts/acme/licenseGroups/office/licenses/99' WHERE license <> ''",
    ),
    ("orphans: every order that billing names exists", "DELETE FROM licensing.license_order WHERE order_id = 'o1'"),
];

/// What looks odd and breaks nothing, with the check that must not mind.
pub(super) const SOUND: &[(&str, &str)] = &[
    // A seat given out again at the very instant that took it back: licensing lets the interval go on.
    (
        "usage: billing's intervals are licensing's, but for those on their way",
        "INSERT INTO billing.usage_interval (account, group_id, seat, opened_by, offer, start_time, end_time)
         SELECT account, group_id, seat, gen_random_uuid(), offer, start_time, start_time
         FROM billing.usage_interval WHERE seat = 1",
    ),
    // One that was taken back at the instant that gave it out, for good.
    (
        "usage: billing's intervals are licensing's, but for those on their way",
        "INSERT INTO licensing.usage_interval (account, group_id, offer, seat, started_at, ended_at)
         SELECT account, group_id, offer, seat, created_at, created_at
         FROM licensing.usage_interval JOIN licensing.license USING (account, group_id, offer) WHERE number = 9",
    ),
    (
        "usage: intervals of a seat do not overlap, in licensing and in billing",
        "INSERT INTO billing.usage_interval (account, group_id, seat, opened_by, offer, start_time, end_time)
         SELECT account, group_id, seat, gen_random_uuid(), offer, start_time, start_time
         FROM billing.usage_interval WHERE seat = 1",
    ),
    // What the evidence counted day by day is what the recount comes to without any day's bounds.
    (
        "usage: each closed month's is charged as its policy counts, no more, no less",
        "UPDATE billing.invoice_line l SET usage_policy = 'DAILY', quantity = (
             SELECT sum(seats) FROM billing.invoice_line_day d
             WHERE d.account = l.account AND d.invoice = l.invoice AND d.line = l.line)
         WHERE month IS NOT NULL",
    ),
    // A seat whose day was cut in two counts once in it.
    (
        "usage: each closed month's is charged as its policy counts, no more, no less",
        "WITH daily AS (
             UPDATE billing.invoice_line l SET usage_policy = 'DAILY', quantity = (
                 SELECT sum(seats) FROM billing.invoice_line_day d
                 WHERE d.account = l.account AND d.invoice = l.invoice AND d.line = l.line)
             WHERE month IS NOT NULL
         ), cut AS (
             UPDATE billing.usage_interval SET start_time = start_time + interval '2 hours'
             WHERE seat = 1 RETURNING *
         )
         INSERT INTO billing.usage_interval (account, group_id, seat, opened_by, offer, start_time, end_time)
         SELECT account, group_id, seat, gen_random_uuid(), offer, start_time - interval '2 hours',
                start_time - interval '1 hour' FROM cut",
    ),
    (
        "invoices: each line is quantity by price, rounded half up",
        "WITH daily AS (UPDATE billing.price SET usage_policy = 'DAILY'),
              summer AS (UPDATE billing.billed_month SET end_time = end_time + interval '1 hour')
         UPDATE billing.invoice_line
         SET usage_policy = 'DAILY', price_base_quantity = 30,
             amount = div(2 * quantity::numeric * unit_price + 30, 2 * 30) WHERE month IS NOT NULL",
    ),
    // A month with late usage waits for the next invoice.
    (
        "usage: each closed month's is charged as its policy counts, no more, no less",
        "WITH late AS (
             INSERT INTO billing.late_usage (account, month) SELECT account, '2026-11' FROM billing.billed_month
         )
         DELETE FROM billing.invoice_line WHERE month IS NOT NULL",
    ),
    (
        "e-mails: a readable password is the one in force of an active licence",
        "WITH event AS (
             INSERT INTO licensing.event (account, id, type, aggregate, sequence, effective_at, recorded_at, body)
             SELECT account, gen_random_uuid(), 'licensing.license.deactivated', license, 99, now(), now(), ''
             FROM notification.email WHERE secret_state = 'READABLE' RETURNING *
         )
         INSERT INTO licensing.delivery (account, subscriber, aggregate, sequence, event_id, effective_at)
         SELECT account, 'notification', aggregate, sequence, id, effective_at FROM event",
    ),
    // Seats that were active since long before are active the whole month, and as many at most.
    (
        "usage: each closed month's is charged as its policy counts, no more, no less",
        "UPDATE billing.usage_interval SET start_time = start_time - interval '1 year'",
    ),
];
