//! What breaks the rules of one schema, and those of the log.

use octroi_billing::check as billing;
use octroi_licensing::check as licensing;
use octroi_notification::check as notification;
use octroi_platform::check::{self, Check};

/// What breaks each rule, by the check.
pub(super) const BREACHES: &[(Check, &str)] = &[
    (
        licensing::SEATS,
        "UPDATE licensing.group_offer SET reserved = reserved + 1",
    ),
    (
        licensing::SEATS,
        "DELETE FROM licensing.group_offer WHERE offer = 'apps-for-enterprise'",
    ),
    (licensing::SEAT_LIMIT, "UPDATE licensing.group_offer SET cap = used - 1"),
    (
        licensing::SEAT_LIMIT,
        "UPDATE licensing.group_offer SET cap = NULL WHERE cap IS NOT NULL",
    ),
    (
        licensing::SEAT_NUMBERS,
        "UPDATE licensing.license_group SET next_license_number = 5",
    ),
    (
        licensing::TERMINATED_GROUPS,
        "UPDATE licensing.license_group SET state = 'TERMINATED'",
    ),
    (
        licensing::ORDER_LICENSES,
        "DELETE FROM licensing.license WHERE number = 9",
    ),
    (
        licensing::ORDER_LICENSES,
        "UPDATE licensing.license_order SET state = 'CANCELLED' WHERE order_id = 'o2'",
    ),
    (
        licensing::ORDER_LICENSES,
        "UPDATE licensing.license SET group_id = 'other' WHERE number = 9",
    ),
    (
        licensing::ORDER_LICENSES,
        "DELETE FROM licensing.order_line WHERE order_id = 'o2'",
    ),
    (licensing::ORDER_ATTEMPTS, "UPDATE licensing.payment_attempt SET outcome = 'DECLINED'"),
    (
        licensing::ORDER_ATTEMPTS,
        "UPDATE licensing.payment_attempt SET attempt = 2 WHERE order_id = 'o1'",
    ),
    (
        licensing::ORDER_WAITS,
        "UPDATE licensing.payment_attempt SET outcome = NULL, begun_at = begun_at - interval '16 minutes'",
    ),
    (
        licensing::ADDRESSES,
        "DELETE FROM licensing.activation_address WHERE number = 1",
    ),
    (
        licensing::ADDRESSES,
        "UPDATE licensing.activation_address SET number = 5 WHERE number = 1",
    ),
    (
        licensing::DEVICES,
        "UPDATE licensing.license SET tablets = 4 WHERE number = 1",
    ),
    (
        licensing::DEVICES,
        "UPDATE licensing.offer SET computer_limit = 4",
    ),
    (
        licensing::DEVICES,
        "UPDATE licensing.device SET number = 99 WHERE platform = 'MACOS'",
    ),
    (
        licensing::SESSIONS,
        "INSERT INTO licensing.session (account, group_id, number, id, token_hash, created_at, expires_at)
         SELECT account, group_id, number, gen_random_uuid(), '', created_at, created_at
         FROM licensing.license WHERE state = 'DELETED'",
    ),
    (
        licensing::SESSIONS,
        "INSERT INTO licensing.session (account, group_id, number, id, token_hash, created_at, expires_at)
         SELECT account, group_id, number, gen_random_uuid(), '', activated_at - interval '1 day', activated_at
         FROM licensing.license WHERE state = 'ACTIVE'",
    ),
    (
        licensing::SESSIONS,
        "UPDATE licensing.device SET registered_at = registered_at - interval '1 day'",
    ),
    (
        billing::CHARGES,
        "INSERT INTO billing.test_gateway_charge
         SELECT 'acme/o1/2', token, amount, currency, decline_reason, looks, visible_at
         FROM billing.test_gateway_charge WHERE key = 'acme/o1/1'",
    ),
    (
        billing::CHARGES,
        "UPDATE billing.test_gateway_charge SET decline_reason = 'do_not_honor'",
    ),
    (
        billing::CHARGES,
        "DELETE FROM billing.test_gateway_charge WHERE key = 'acme/o1/1'",
    ),
    (
        billing::CHARGES,
        "DELETE FROM billing.settlement WHERE order_id = 'o1'",
    ),
    (billing::PAYMENTS, "UPDATE billing.payment SET amount = amount + 1"),
    (billing::PAYMENTS, "DELETE FROM billing.payment"),
    (billing::PAYMENTS, "DELETE FROM billing.settlement"),
    (billing::PAYMENTS, "DELETE FROM billing.invoice WHERE kind = 'ORDER'"),
    (
        billing::PAYMENTS,
        "UPDATE billing.invoice SET net = net - 1, tax = tax + 1 WHERE kind = 'ORDER'",
    ),
    (
        billing::PAYMENTS,
        "INSERT INTO billing.invoice
         SELECT twin.* FROM billing.invoice, jsonb_populate_record(
             invoice, jsonb_build_object('id', gen_random_uuid(), 'number', 'F-2026-000009', 'order_id', 'o9')) twin
         WHERE invoice.number = 'F-2026-000001'",
    ),
    (billing::SETTLEMENTS, "UPDATE billing.settlement SET tax = tax + 1, due = due + 1"),
    (billing::SETTLEMENTS, "DELETE FROM billing.settlement_line"),
    (
        billing::SETTLEMENTS,
        "UPDATE billing.settlement_line SET setup_fee = 0, setup_amount = 0 WHERE order_id = 'o1'",
    ),
    (
        billing::SETTLEMENTS,
        "UPDATE billing.settlement_line SET offer = 'offers/apps-for-enterprise' WHERE order_id = 'o1'",
    ),
    (
        billing::INVOICE_TOTALS,
        "UPDATE billing.invoice SET net = net + 1, total = total + 1",
    ),
    (billing::INVOICE_TOTALS, "DELETE FROM billing.invoice_tax"),
    (
        billing::INVOICE_TOTALS,
        "INSERT INTO billing.invoice_line
         SELECT (jsonb_populate_record(charge, jsonb_build_object('invoice', gen_random_uuid()))).*
         FROM billing.invoice_line AS charge",
    ),
    (
        billing::INVOICE_TOTALS,
        "INSERT INTO billing.invoice_tax
         SELECT account, gen_random_uuid(), category, rate_ppm, base, amount FROM billing.invoice_tax",
    ),
    (
        billing::INVOICE_LINES,
        "UPDATE billing.invoice_line SET amount = amount + 1 WHERE line = 1",
    ),
    (
        billing::INVOICE_LINES,
        "UPDATE billing.invoice_line SET unit_price = 2 * unit_price, amount = 2 * amount WHERE line = 1",
    ),
    (
        billing::INVOICE_LINES,
        "UPDATE billing.invoice_line
         SET price_base_quantity = 30, amount = div(2 * quantity::numeric * unit_price + 30, 60) WHERE line = 1",
    ),
    // Clocks that are changed leave out no day.
    (
        billing::INVOICE_LINES,
        "WITH daily AS (UPDATE billing.price SET usage_policy = 'DAILY'),
              summer AS (UPDATE billing.billed_month SET end_time = end_time + interval '1 hour')
         UPDATE billing.invoice_line
         SET usage_policy = 'DAILY', price_base_quantity = 29,
             amount = div(2 * quantity::numeric * unit_price + 29, 2 * 29) WHERE month IS NOT NULL",
    ),
    (
        billing::INVOICE_TAXES,
        "UPDATE billing.invoice_line SET tax_rate_ppm = 100000 WHERE line = 1",
    ),
    (
        billing::INVOICE_EVIDENCE,
        "UPDATE billing.invoice_line SET peaks[1] = 1000",
    ),
    (
        billing::INVOICE_EVIDENCE,
        "UPDATE billing.invoice_line SET first_day = first_day + 30",
    ),
    (
        billing::INVOICE_EVIDENCE,
        "UPDATE billing.invoice_line SET ends_of_day[1] = peaks[1] + 1 WHERE month IS NOT NULL",
    ),
    (
        billing::INVOICE_EVIDENCE,
        "UPDATE billing.invoice_line SET seats = seats || 0 WHERE month IS NOT NULL",
    ),
    (
        billing::NUMBERS,
        "UPDATE billing.invoice SET number = 'F-2026-000009' WHERE number = 'F-2026-000002'",
    ),
    (
        billing::NUMBERS,
        "UPDATE billing.invoice SET number = 'F-2026-000000' WHERE number = 'F-2026-000001'",
    ),
    (
        billing::NUMBERS,
        "UPDATE billing.invoice SET number = 'F-2026-0000001' WHERE number = 'F-2026-000002'",
    ),
    (billing::NUMBERS, "UPDATE billing.series SET last = last + 1"),
    (billing::NUMBERS, "UPDATE billing.series SET last_date = last_date + 1"),
    (billing::NUMBERS, "UPDATE billing.series SET kind = 'CREDIT_NOTE'"),
    (
        billing::NUMBER_DATES,
        "UPDATE billing.invoice SET issue_date = issue_date - 30 WHERE number = 'F-2026-000003'",
    ),
    (
        billing::BILLED_MONTHS,
        "DELETE FROM billing.billed_month",
    ),
    (
        billing::BILLED_MONTHS,
        "UPDATE billing.billed_month SET invoice = gen_random_uuid()",
    ),
    (
        billing::BILLED_MONTHS,
        "INSERT INTO billing.billed_month (account, month, bill_run, start_time, end_time, invoice)
         SELECT account, '2026-12', bill_run, end_time + interval '1 hour', end_time + interval '2 hours', NULL
         FROM billing.billed_month",
    ),
    (
        billing::MONTHS_RUNS,
        "UPDATE billing.billed_month SET bill_run = 'none'",
    ),
    (
        billing::MONTHS_RUNS,
        "UPDATE billing.bill_run SET dry_run = true",
    ),
    (
        billing::BILL_RUNS,
        "UPDATE billing.bill_run_total SET total = total + 1",
    ),
    (
        billing::BILL_RUNS,
        "UPDATE billing.bill_run SET invoices = 2",
    ),
    (
        billing::BILL_RUNS,
        "UPDATE billing.bill_run SET failed = 1",
    ),
    (
        billing::BILL_RUNS,
        "UPDATE billing.bill_run SET dry_run = true",
    ),
    (
        billing::LEDGER_INVOICES,
        "DELETE FROM billing.ledger_transfer WHERE kind = 'INVOICE_TAX'",
    ),
    (
        billing::LEDGER_INVOICES,
        "UPDATE billing.ledger_transfer SET debit_account = credit_account, credit_account = debit_account",
    ),
    (
        billing::LEDGER_PAYMENTS,
        "UPDATE billing.ledger_transfer SET amount = amount - 1 WHERE kind = 'PAYMENT'",
    ),
    (
        billing::LEDGER_PAYMENTS,
        "INSERT INTO billing.ledger_transfer
             (account, id, seller, debit_account, credit_account, amount, currency, kind, source, time)
         SELECT account, gen_random_uuid(), seller, 'REVENUE', 'CASH', amount, currency, 'REFUND', source, time
         FROM billing.ledger_transfer WHERE kind = 'PAYMENT'",
    ),
    (billing::LEDGER_PAYMENTS, "UPDATE billing.payment SET currency = 'CHF'"),
    (billing::LEDGER_PAYMENTS, "UPDATE billing.settlement SET seller = 'other'"),
    (
        billing::LEDGER_RECEIVABLE,
        "UPDATE billing.invoice SET state = 'PAID', pay_time = create_time",
    ),
    (
        notification::SECRETS_EXPIRED,
        "UPDATE notification.email SET secret_expires_at = '2026-11-30T00:00:00Z' WHERE secret_state = 'READABLE'",
    ),
    (
        notification::TURNED_AWAY,
        "UPDATE notification.email SET state = 'QUEUED', sent_at = NULL, turned_away = true WHERE state = 'SENT'",
    ),
    (
        notification::SECRETS_ONE,
        "UPDATE notification.email SET secret_state = 'READABLE', license = 'x'",
    ),
    (
        notification::SECRETS_WITHDRAWN,
        "UPDATE notification.email SET secret_state = 'NONE' WHERE template = 'password-changed'",
    ),
    (
        notification::SECRETS_WITHDRAWN,
        "UPDATE notification.email SET secret_state = 'READABLE' WHERE template = 'invoice-issued'",
    ),
    (
        notification::SECRETS_WITHDRAWN,
        "UPDATE notification.email SET state = 'QUEUED', secret_state = 'ERASED', next_attempt_at = '2014-01-01'
         WHERE template = 'license-activated'",
    ),
];

/// What breaks the rules of the log in each schema, by the check.
pub(super) const LOG_BREACHES: &[(Check, &str)] = &[
    (
        check::EVENTS,
        "INSERT INTO {schema}.event
            (account, id, type, aggregate, sequence, effective_at, recorded_at, body)
         VALUES ('acme', gen_random_uuid(), 'x', 'accounts/acme', 7, now(), now(), '')",
    ),
    (
        check::POSITIONS,
        "INSERT INTO {schema}.event_position (account, last, giving) VALUES ('nobody', 1, false)",
    ),
    (
        check::POSITIONS,
        "WITH placed AS (
            INSERT INTO {schema}.event
                (account, id, type, aggregate, sequence, effective_at, recorded_at, body, position)
            VALUES ('nobody', gen_random_uuid(), 'x', 'x', 1, now(), now(), '', 2),
                   ('nobody', gen_random_uuid(), 'x', 'x', 2, now(), now(), '', 1)
         )
         INSERT INTO {schema}.event_position (account, last, giving) VALUES ('nobody', 2, false)",
    ),
    (
        check::DELIVERIES,
        "WITH event AS (
            INSERT INTO {schema}.event
                (account, id, type, aggregate, sequence, effective_at, recorded_at, body)
            VALUES ('acme', gen_random_uuid(), 'x', 'x', 1, now(), now(), '') RETURNING *
         )
         INSERT INTO {schema}.delivery
             (account, subscriber, aggregate, sequence, event_id, effective_at, created_at)
         SELECT account, 'x', aggregate, sequence, id, effective_at, clock_timestamp() - interval '61 minutes'
         FROM event",
    ),
    (
        check::PROGRESS,
        "INSERT INTO {schema}.intake_progress (source, complete_through) VALUES ('x', '2099-01-01T00:00:00Z')",
    ),
    (
        check::IDEMPOTENCY,
        "INSERT INTO {schema}.idempotency (account, method, request_id, fingerprint)
         VALUES ('acme', 'x', gen_random_uuid(), '')",
    ),
    (
        check::SEALED,
        "WITH event AS (
            INSERT INTO {schema}.event
                (account, id, type, aggregate, sequence, effective_at, recorded_at, body)
            VALUES ('acme', gen_random_uuid(), 'x', 'x', 1, now(), now(), '') RETURNING *
         )
         INSERT INTO {schema}.delivery (account, subscriber, aggregate, sequence, event_id, effective_at, secret)
         SELECT account, 'billing', aggregate, sequence, id, effective_at, 'sealed' FROM event",
    ),
];

/// What breaks the rule of each route.
pub(super) const INBOX_BREACHES: &[&str] = &[
    "UPDATE {subscriber}.inbox SET sequence = sequence + 1 WHERE source = '{source}'",
    "DELETE FROM {subscriber}.inbox WHERE source = '{source}'",
    "INSERT INTO {subscriber}.inbox (account, source, aggregate, sequence) VALUES ('acme', '{source}', 'x', 1)",
    // It is for nobody.
    "WITH event AS (
         INSERT INTO {source}.event (account, id, type, aggregate, sequence, effective_at, recorded_at, body)
         VALUES ('acme', gen_random_uuid(), 'x', 'x', 1, now(), now(), '') RETURNING *
     )
     INSERT INTO {source}.delivery (account, subscriber, aggregate, sequence, event_id, effective_at)
     SELECT account, '{subscriber}', aggregate, sequence, id, effective_at FROM event",
    // The second does not wait for the first.
    "WITH event AS (
         INSERT INTO {source}.event
             (account, id, type, aggregate, sequence, effective_at, recorded_at, body, subscribers)
         SELECT 'acme', gen_random_uuid(), 'x', 'x', n, now(), now(), '', ARRAY['{subscriber}']
         FROM generate_series(1, 2) AS n RETURNING *
     )
     INSERT INTO {source}.delivery (account, subscriber, aggregate, sequence, event_id, effective_at)
     SELECT account, '{subscriber}', aggregate, sequence, id, effective_at FROM event",
];
