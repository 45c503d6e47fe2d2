//! What breaks the rules of usage and those between services, and what breaks none.

use octroi_billing::check as billing;
use octroi_licensing::check as licensing;
use octroi_platform::check::Check;

use crate::verify::{crossing, usage};

/// What breaks each rule, by the check.
pub(super) const CROSSINGS: &[(Check, &str)] = &[
    (
        crossing::FIXED_ACCOUNTS,
        "UPDATE billing.account SET first_order_time = NULL",
    ),
    (
        licensing::OPEN_INTERVALS,
        "UPDATE licensing.usage_interval SET ended_at = started_at WHERE seat = 1",
    ),
    (
        usage::INTERVAL_OVERLAP,
        "INSERT INTO licensing.usage_interval (account, group_id, offer, seat, started_at, ended_at)
         SELECT account, group_id, offer, seat, started_at + interval '1 hour', ended_at
         FROM licensing.usage_interval WHERE ended_at IS NOT NULL",
    ),
    (
        usage::INTERVAL_OVERLAP,
        "INSERT INTO billing.usage_interval (account, group_id, seat, opened_by, offer, start_time, end_time)
         SELECT account, group_id, seat, gen_random_uuid(), offer, start_time, end_time
         FROM billing.usage_interval WHERE end_time IS NOT NULL",
    ),
    (
        licensing::INTERVAL_LIFE,
        "UPDATE licensing.usage_interval SET offer = 'apps-for-enterprise' WHERE seat = 1",
    ),
    (
        licensing::INTERVAL_LIFE,
        "UPDATE licensing.usage_interval SET ended_at = ended_at + interval '1 second'",
    ),
    (
        licensing::INTERVAL_LIFE,
        "UPDATE licensing.usage_interval SET started_at = started_at - interval '1 day' WHERE seat = 1",
    ),
    (
        licensing::INTERVAL_LIFE,
        "DELETE FROM licensing.license WHERE number = 1",
    ),
    (
        usage::INTERVALS,
        "UPDATE billing.usage_interval SET start_time = start_time + interval '1 microsecond' WHERE seat = 1",
    ),
    (
        usage::INTERVALS,
        "DELETE FROM billing.usage_interval WHERE seat = 1",
    ),
    (
        usage::ENTRIES,
        "UPDATE billing.group_offer_entry SET order_id = 'o2'",
    ),
    (
        usage::ENTRIES,
        "UPDATE billing.group_offer_entry SET price = gen_random_uuid()",
    ),
    (
        usage::ENTRIES,
        "DELETE FROM billing.group_offer_entry",
    ),
    (
        usage::ENTRIES,
        "UPDATE licensing.license_order SET completed_at = created_at - interval '1 day' WHERE order_id = 'o2'",
    ),
    (
        usage::GROUP_NAMES,
        "UPDATE billing.usage_group SET display_name = 'Other'",
    ),
    (
        usage::GROUP_NAMES,
        "DELETE FROM billing.usage_group",
    ),
    (
        usage::CHARGED_USAGE,
        "DELETE FROM billing.invoice_line WHERE month IS NOT NULL AND line = 1",
    ),
    (
        usage::CHARGED_USAGE,
        "UPDATE billing.invoice_line SET quantity = quantity + 1 WHERE month IS NOT NULL",
    ),
    (
        usage::CHARGED_USAGE,
        "UPDATE billing.usage_interval SET start_time = start_time + interval '10 days' WHERE seat = 1",
    ),
    (
        usage::CHARGED_USAGE,
        "DELETE FROM billing.usage_interval",
    ),
    (
        usage::CHARGED_USAGE,
        "INSERT INTO billing.usage_interval (account, group_id, seat, opened_by, offer, start_time, end_time)
         SELECT account, group_id, 10, gen_random_uuid(), offer, last.last, last.last + interval '1 microsecond'
         FROM billing.usage_interval, (SELECT max(start_time) AS last FROM billing.usage_interval) AS last
         WHERE seat = 1",
    ),
    (
        usage::CHARGED_USAGE,
        "UPDATE billing.invoice_line SET usage_policy = 'DISTINCT', quantity = 1 WHERE month IS NOT NULL",
    ),
    (
        usage::CHARGED_USAGE,
        "UPDATE billing.invoice_line l SET usage_policy = 'DAILY', quantity = 1 + (
             SELECT sum(day) FROM unnest(l.seats) AS day)
         WHERE month IS NOT NULL",
    ),
    (
        usage::CHARGED_USAGE,
        "INSERT INTO billing.usage_interval (account, group_id, seat, opened_by, offer, start_time)
         SELECT account, group_id, 10, gen_random_uuid(), offer, '2026-01-01'
         FROM billing.usage_interval WHERE seat = 1",
    ),
    (
        crossing::ORDER_SETTLEMENTS,
        "DELETE FROM billing.settlement WHERE order_id = 'o1'",
    ),
    (
        crossing::ORDER_SETTLEMENTS,
        "UPDATE licensing.license_order SET state = 'AWAITING_PAYMENT' WHERE order_id = 'o2'",
    ),
    (crossing::ORDER_PAYMENTS, "UPDATE licensing.license_order SET payment = ''"),
    (
        crossing::ORDER_PAYMENTS,
        "UPDATE licensing.license_order SET state = 'CANCELLED' WHERE order_id = 'o1'",
    ),
    (
        crossing::ORDER_OUTCOMES,
        "UPDATE licensing.payment_attempt SET outcome = 'DECLINED', decline_reason = 'card_expired'",
    ),
    (
        crossing::ORDER_OUTCOMES,
        "UPDATE billing.settlement SET state = 'DECLINED'",
    ),
    (
        crossing::ORDER_OUTCOMES,
        "DELETE FROM licensing.payment_attempt WHERE order_id = 'o1'",
    ),
    (
        crossing::ORDER_OUTCOMES,
        "DELETE FROM billing.settlement WHERE order_id = 'o1'",
    ),
    (
        crossing::ORDER_LINES,
        "UPDATE billing.settlement_line SET quantity = quantity + 1",
    ),
    (
        crossing::ORDER_LINES,
        "UPDATE licensing.order_line SET price = 'prices/other'",
    ),
    (
        crossing::ORDER_LINES,
        "DELETE FROM billing.settlement_line WHERE order_id = 'o1'",
    ),
    (
        crossing::ORDER_LINES,
        "DELETE FROM billing.invoice_line WHERE month IS NULL",
    ),
    (
        crossing::ORDER_LINES,
        "UPDATE billing.invoice_line SET amount = amount - 1 WHERE month IS NULL",
    ),
    (
        crossing::ORDER_LINES,
        "DELETE FROM licensing.order_line WHERE order_id = 'o1'",
    ),
    (crossing::ACCOUNTS, "DELETE FROM notification.account"),
    (
        crossing::ACCOUNTS,
        "UPDATE licensing.account SET version = version + 1",
    ),
    (
        crossing::ACCOUNTS,
        "DELETE FROM notification.account WHERE version = 1",
    ),
    (
        crossing::ACCOUNTS,
        "UPDATE notification.account SET contact_email = 'other@acme.example'",
    ),
    (
        crossing::ACCOUNTS,
        "UPDATE licensing.account SET zone_names = ARRAY['UTC']",
    ),
    (
        crossing::EMAILS,
        "DELETE FROM notification.email WHERE template = 'invoice-issued'",
    ),
    (
        crossing::EMAILS,
        "DELETE FROM notification.email WHERE template = 'contact-changed' AND recipient LIKE 'new%'",
    ),
    (
        crossing::EMAILS,
        "DELETE FROM notification.email WHERE template = 'password-changed'",
    ),
    (
        crossing::EMAILS,
        "UPDATE notification.email SET event = gen_random_uuid() WHERE template = 'license-activated'",
    ),
    (
        crossing::EMAILS,
        "DELETE FROM billing.event WHERE type = 'billing.invoice.issued'",
    ),
    (
        crossing::EMAILS,
        "UPDATE billing.event SET body = 'unreadable' WHERE type = 'billing.account.changed' AND sequence = 1",
    ),
    (
        crossing::EMAIL_SECRETS,
        "UPDATE notification.email SET license = 'accounts/acme/licenseGroups/office/licenses/9'
         WHERE secret_state = 'READABLE' AND license LIKE '%/2'",
    ),
    (
        crossing::EMAIL_SECRETS,
        "INSERT INTO licensing.event (account, id, type, aggregate, sequence, effective_at, recorded_at, body)
         SELECT account, gen_random_uuid(), 'licensing.license.password_changed', license, 99, now(), now(), ''
         FROM notification.email WHERE secret_state = 'READABLE'",
    ),
    (
        crossing::ORPHAN_ACCOUNTS,
        "UPDATE billing.account SET account = 'other'",
    ),
    (crossing::ORPHAN_LICENSES, "DELETE FROM licensing.license_group"),
    (crossing::ORPHAN_LICENSES, "DELETE FROM licensing.license WHERE number = 1"),
    (
        crossing::ORPHAN_LICENSES,
        "UPDATE notification.email SET license = 'accounts/acme/licenseGroups/office/licenses/99' WHERE license <> ''",
    ),
    (crossing::ORPHAN_ORDERS, "DELETE FROM licensing.license_order WHERE order_id = 'o1'"),
];

/// What looks odd and breaks nothing, with the check that must not mind.
pub(super) const SOUND: &[(Check, &str)] = &[
    // A seat given out again at the very instant that took it back: licensing lets the interval go on.
    (
        usage::INTERVALS,
        "INSERT INTO billing.usage_interval (account, group_id, seat, opened_by, offer, start_time, end_time)
         SELECT account, group_id, seat, gen_random_uuid(), offer, start_time, start_time
         FROM billing.usage_interval WHERE seat = 1",
    ),
    // One that was taken back at the instant that gave it out, for good.
    (
        usage::INTERVALS,
        "INSERT INTO licensing.usage_interval (account, group_id, offer, seat, started_at, ended_at)
         SELECT account, group_id, offer, seat, created_at, created_at
         FROM licensing.usage_interval JOIN licensing.license USING (account, group_id, offer) WHERE number = 9",
    ),
    (
        usage::INTERVAL_OVERLAP,
        "INSERT INTO billing.usage_interval (account, group_id, seat, opened_by, offer, start_time, end_time)
         SELECT account, group_id, seat, gen_random_uuid(), offer, start_time, start_time
         FROM billing.usage_interval WHERE seat = 1",
    ),
    // What the evidence counted day by day is what the recount comes to.
    (
        usage::CHARGED_USAGE,
        "UPDATE billing.invoice_line l SET usage_policy = 'DAILY', quantity = (
             SELECT sum(day) FROM unnest(l.seats) AS day)
         WHERE month IS NOT NULL",
    ),
    // A seat whose day was cut in two counts once in it.
    (
        usage::CHARGED_USAGE,
        "WITH daily AS (
             UPDATE billing.invoice_line l SET usage_policy = 'DAILY', quantity = (
                 SELECT sum(day) FROM unnest(l.seats) AS day)
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
        billing::INVOICE_LINES,
        "WITH daily AS (UPDATE billing.price SET usage_policy = 'DAILY'),
              summer AS (UPDATE billing.billed_month SET end_time = end_time + interval '1 hour')
         UPDATE billing.invoice_line
         SET usage_policy = 'DAILY', price_base_quantity = 30,
             amount = div(2 * quantity::numeric * unit_price + 30, 2 * 30) WHERE month IS NOT NULL",
    ),
    // A month with late usage waits for the next invoice.
    (
        usage::CHARGED_USAGE,
        "WITH late AS (
             INSERT INTO billing.late_usage (account, month) SELECT account, '2026-11' FROM billing.billed_month
         )
         DELETE FROM billing.invoice_line WHERE month IS NOT NULL",
    ),
    (
        crossing::EMAIL_SECRETS,
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
        usage::CHARGED_USAGE,
        "UPDATE billing.usage_interval SET start_time = start_time - interval '1 year'",
    ),
];
