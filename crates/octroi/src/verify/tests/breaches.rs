//! What breaks the rules of one schema, and those of the log.

/// What breaks each rule, by the check's name.
pub(super) const BREACHES: &[(&str, &str)] = &[
    (
        "seats: used, active and reserved are what licences and orders say",
        "UPDATE licensing.group_offer SET reserved = reserved + 1",
    ),
    (
        "seats: used, active and reserved are what licences and orders say",
        "DELETE FROM licensing.group_offer WHERE offer = 'apps-for-enterprise'",
    ),
    ("seats: no more than the offer allows", "UPDATE licensing.group_offer SET cap = used - 1"),
    (
        "seats: no more than the offer allows",
        "UPDATE licensing.group_offer SET cap = NULL WHERE cap IS NOT NULL",
    ),
    (
        "seats: numbers rise and are not used again",
        "UPDATE licensing.license_group SET next_license_number = 5",
    ),
    (
        "groups: a terminated one has no licence and no order to pay",
        "UPDATE licensing.license_group SET state = 'TERMINATED'",
    ),
    (
        "orders: a completed one has exactly its licences, another none",
        "DELETE FROM licensing.license WHERE number = 9",
    ),
    (
        "orders: a completed one has exactly its licences, another none",
        "UPDATE licensing.license_order SET state = 'CANCELLED' WHERE order_id = 'o2'",
    ),
    (
        "orders: a completed one has exactly its licences, another none",
        "UPDATE licensing.license SET group_id = 'other' WHERE number = 9",
    ),
    (
        "orders: a completed one has exactly its licences, another none",
        "DELETE FROM licensing.order_line WHERE order_id = 'o2'",
    ),
    ("orders: attempts agree with the state", "UPDATE licensing.payment_attempt SET outcome = 'DECLINED'"),
    (
        "orders: attempts agree with the state",
        "UPDATE licensing.payment_attempt SET attempt = 2 WHERE order_id = 'o1'",
    ),
    (
        "orders: none has been paying for more than 15 minutes",
        "UPDATE licensing.payment_attempt SET outcome = NULL, begun_at = begun_at - interval '16 minutes'",
    ),
    (
        "licences: each activation address opens exactly its licence",
        "DELETE FROM licensing.activation_address WHERE number = 1",
    ),
    (
        "licences: each activation address opens exactly its licence",
        "UPDATE licensing.activation_address SET number = 5 WHERE number = 1",
    ),
    (
        "licences: device counters are the devices, within the limits",
        "UPDATE licensing.license SET tablets = 4 WHERE number = 1",
    ),
    (
        "licences: device counters are the devices, within the limits",
        "UPDATE licensing.offer SET computer_limit = 4",
    ),
    (
        "licences: device counters are the devices, within the limits",
        "UPDATE licensing.device SET number = 99 WHERE platform = 'MACOS'",
    ),
    (
        "licences: no session and no device outlives its licence's user",
        "INSERT INTO licensing.session (account, group_id, number, id, token_hash, created_at, expires_at)
         SELECT account, group_id, number, gen_random_uuid(), '', created_at, created_at
         FROM licensing.license WHERE state = 'DELETED'",
    ),
    (
        "licences: no session and no device outlives its licence's user",
        "INSERT INTO licensing.session (account, group_id, number, id, token_hash, created_at, expires_at)
         SELECT account, group_id, number, gen_random_uuid(), '', activated_at - interval '1 day', activated_at
         FROM licensing.license WHERE state = 'ACTIVE'",
    ),
    (
        "licences: no session and no device outlives its licence's user",
        "UPDATE licensing.device SET registered_at = registered_at - interval '1 day'",
    ),
    (
        "charges: one at most per order, one for each settlement that succeeded",
        "INSERT INTO billing.test_gateway_charge
         SELECT 'acme/o1/2', token, amount, currency, decline_reason, looks, visible_at
         FROM billing.test_gateway_charge WHERE key = 'acme/o1/1'",
    ),
    (
        "charges: one at most per order, one for each settlement that succeeded",
        "UPDATE billing.test_gateway_charge SET decline_reason = 'do_not_honor'",
    ),
    (
        "charges: one at most per order, one for each settlement that succeeded",
        "DELETE FROM billing.test_gateway_charge WHERE key = 'acme/o1/1'",
    ),
    (
        "charges: one at most per order, one for each settlement that succeeded",
        "DELETE FROM billing.settlement WHERE order_id = 'o1'",
    ),
    ("payments: agree with their settlements and invoices", "UPDATE billing.payment SET amount = amount + 1"),
    ("payments: agree with their settlements and invoices", "DELETE FROM billing.payment"),
    ("payments: agree with their settlements and invoices", "DELETE FROM billing.settlement"),
    ("payments: agree with their settlements and invoices", "DELETE FROM billing.invoice WHERE kind = 'ORDER'"),
    (
        "payments: agree with their settlements and invoices",
        "UPDATE billing.invoice SET net = net - 1, tax = tax + 1 WHERE kind = 'ORDER'",
    ),
    (
        "payments: agree with their settlements and invoices",
        "INSERT INTO billing.invoice
         SELECT twin.* FROM billing.invoice, jsonb_populate_record(
             invoice, jsonb_build_object('id', gen_random_uuid(), 'number', 'F-2026-000009', 'order_id', 'o9')) twin
         WHERE invoice.number = 'F-2026-000001'",
    ),
    ("settlements: lines, tax and what is due add up", "UPDATE billing.settlement SET tax = tax + 1, due = due + 1"),
    ("settlements: lines, tax and what is due add up", "DELETE FROM billing.settlement_line"),
    (
        "settlements: lines, tax and what is due add up",
        "UPDATE billing.settlement_line SET setup_fee = 0, setup_amount = 0 WHERE order_id = 'o1'",
    ),
    (
        "settlements: lines, tax and what is due add up",
        "UPDATE billing.settlement_line SET offer = 'offers/apps-for-enterprise' WHERE order_id = 'o1'",
    ),
    (
        "invoices: lines and taxes add up to net, tax and total",
        "UPDATE billing.invoice SET net = net + 1, total = total + 1",
    ),
    ("invoices: lines and taxes add up to net, tax and total", "DELETE FROM billing.invoice_tax"),
    (
        "invoices: each line is quantity by price, rounded half up",
        "UPDATE billing.invoice_line SET amount = amount + 1 WHERE line = 1",
    ),
    (
        "invoices: each line is quantity by price, rounded half up",
        "UPDATE billing.invoice_line SET unit_price = 2 * unit_price, amount = 2 * amount WHERE line = 1",
    ),
    (
        "invoices: each line is quantity by price, rounded half up",
        "UPDATE billing.invoice_line
         SET price_base_quantity = 30, amount = div(2 * quantity::numeric * unit_price + 30, 60) WHERE line = 1",
    ),
    // Clocks that are changed leave out no day.
    (
        "invoices: each line is quantity by price, rounded half up",
        "WITH daily AS (UPDATE billing.price SET usage_policy = 'DAILY'),
              summer AS (UPDATE billing.billed_month SET end_time = end_time + interval '1 hour')
         UPDATE billing.invoice_line
         SET usage_policy = 'DAILY', price_base_quantity = 29,
             amount = div(2 * quantity::numeric * unit_price + 29, 2 * 29) WHERE month IS NOT NULL",
    ),
    (
        "invoices: tax per category and rate is that of its lines",
        "UPDATE billing.invoice_line SET tax_rate_ppm = 100000 WHERE line = 1",
    ),
    (
        "invoices: each line's evidence gives its quantity",
        "UPDATE billing.invoice_line_day SET peak = peak + 1",
    ),
    (
        "invoices: each line's evidence gives its quantity",
        "UPDATE billing.invoice_line_day SET day = day + 30",
    ),
    (
        "invoices: numbers are without gaps",
        "UPDATE billing.invoice SET number = 'F-2026-000009' WHERE number = 'F-2026-000002'",
    ),
    (
        "invoices: numbers are without gaps",
        "UPDATE billing.invoice SET number = 'F-2026-000000' WHERE number = 'F-2026-000001'",
    ),
    (
        "invoices: numbers are without gaps",
        "UPDATE billing.invoice SET number = 'F-2026-0000001' WHERE number = 'F-2026-000002'",
    ),
    ("invoices: numbers are without gaps", "UPDATE billing.series SET last = last + 1"),
    ("invoices: numbers are without gaps", "UPDATE billing.series SET last_date = last_date + 1"),
    ("invoices: numbers are without gaps", "UPDATE billing.series SET kind = 'CREDIT_NOTE'"),
    (
        "invoices: dates do not go back along the numbers",
        "UPDATE billing.invoice SET issue_date = issue_date - 30 WHERE number = 'F-2026-000003'",
    ),
    (
        "months: each billed one has its invoice, and starts where the last ended",
        "DELETE FROM billing.billed_month",
    ),
    (
        "months: each billed one has its invoice, and starts where the last ended",
        "INSERT INTO billing.billed_month (account, month, bill_run, start_time, end_time, invoice)
         SELECT account, '2026-12', bill_run, end_time + interval '1 hour', end_time + interval '2 hours', NULL
         FROM billing.billed_month",
    ),
    (
        "months: each was closed by a bill run of that month",
        "UPDATE billing.billed_month SET bill_run = 'none'",
    ),
    (
        "months: each was closed by a bill run of that month",
        "UPDATE billing.bill_run SET dry_run = true",
    ),
    (
        "bill runs: invoices, totals and failures are what became of their accounts",
        "UPDATE billing.bill_run_total SET total = total + 1",
    ),
    (
        "bill runs: invoices, totals and failures are what became of their accounts",
        "UPDATE billing.bill_run SET invoices = 2",
    ),
    (
        "bill runs: invoices, totals and failures are what became of their accounts",
        "UPDATE billing.bill_run SET failed = 1",
    ),
    (
        "bill runs: invoices, totals and failures are what became of their accounts",
        "UPDATE billing.bill_run SET dry_run = true",
    ),
    (
        "ledger: each invoice is posted to its net and tax",
        "DELETE FROM billing.ledger_transfer WHERE kind = 'INVOICE_TAX'",
    ),
    (
        "ledger: each invoice is posted to its net and tax",
        "UPDATE billing.ledger_transfer SET debit_account = credit_account, credit_account = debit_account",
    ),
    (
        "ledger: each payment is posted, and nothing else",
        "UPDATE billing.ledger_transfer SET amount = amount - 1 WHERE kind = 'PAYMENT'",
    ),
    (
        "ledger: each payment is posted, and nothing else",
        "INSERT INTO billing.ledger_transfer
             (account, id, seller, debit_account, credit_account, amount, currency, kind, source, time)
         SELECT account, gen_random_uuid(), seller, 'REVENUE', 'CASH', amount, currency, 'REFUND', source, time
         FROM billing.ledger_transfer WHERE kind = 'PAYMENT'",
    ),
    ("ledger: each payment is posted, and nothing else", "UPDATE billing.payment SET currency = 'CHF'"),
    ("ledger: each payment is posted, and nothing else", "UPDATE billing.settlement SET seller = 'other'"),
    (
        "ledger: what customers owe is what their open invoices say",
        "UPDATE billing.invoice SET state = 'PAID', pay_time = create_time",
    ),
    (
        "e-mails: no password is kept past its time",
        "UPDATE notification.email SET secret_expires_at = '2026-11-30T00:00:00Z' WHERE secret_state = 'READABLE'",
    ),
    (
        "e-mails: none waits because the mail server refuses us",
        "UPDATE notification.email SET state = 'QUEUED', sent_at = NULL, turned_away = true WHERE state = 'SENT'",
    ),
    (
        "e-mails: one readable password at most per licence",
        "UPDATE notification.email SET secret_state = 'READABLE', license = 'x'",
    ),
    (
        "e-mails: those of passwords alone carry one, and end with it if not sent yet",
        "UPDATE notification.email SET secret_state = 'NONE' WHERE template = 'password-changed'",
    ),
    (
        "e-mails: those of passwords alone carry one, and end with it if not sent yet",
        "UPDATE notification.email SET secret_state = 'READABLE' WHERE template = 'invoice-issued'",
    ),
    (
        "e-mails: those of passwords alone carry one, and end with it if not sent yet",
        "UPDATE notification.email SET state = 'QUEUED', secret_state = 'ERASED', next_attempt_at = '2014-01-01'
         WHERE template = 'license-activated'",
    ),
];

/// What breaks the rules of the log, by the check's end and the schema's name.
pub(super) const LOG_BREACHES: &[(&str, &str)] = &[
    (
        "events of an aggregate are numbered without gaps",
        "INSERT INTO {schema}.event
            (account, id, type, aggregate, sequence, effective_at, recorded_at, body)
         VALUES ('acme', gen_random_uuid(), 'x', 'accounts/acme', 7, now(), now(), '')",
    ),
    (
        "events are listed one by one, each aggregate's in sequence",
        "INSERT INTO {schema}.event_position (account, last, giving) VALUES ('nobody', 1, false)",
    ),
    (
        "events are listed one by one, each aggregate's in sequence",
        "WITH placed AS (
            INSERT INTO {schema}.event
                (account, id, type, aggregate, sequence, effective_at, recorded_at, body, position)
            VALUES ('nobody', gen_random_uuid(), 'x', 'x', 1, now(), now(), '', 2),
                   ('nobody', gen_random_uuid(), 'x', 'x', 2, now(), now(), '', 1)
         )
         INSERT INTO {schema}.event_position (account, last, giving) VALUES ('nobody', 2, false)",
    ),
    (
        "no delivery is parked or more than an hour old",
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
        "each request that was kept has its answer",
        "INSERT INTO {schema}.idempotency (account, method, request_id, fingerprint)
         VALUES ('acme', 'x', gen_random_uuid(), '')",
    ),
    (
        "sealed passwords wait for notification alone",
        "WITH event AS (
            INSERT INTO {schema}.event
                (account, id, type, aggregate, sequence, effective_at, recorded_at, body)
            VALUES ('acme', gen_random_uuid(), 'x', 'x', 1, now(), now(), '') RETURNING *
         )
         INSERT INTO {schema}.delivery (account, subscriber, aggregate, sequence, event_id, effective_at, secret)
         SELECT account, 'billing', aggregate, sequence, id, effective_at, 'sealed' FROM event",
    ),
];

/// What breaks the rule of each way that events take.
pub(super) const INBOX_BREACHES: &[&str] = &[
    "UPDATE {subscriber}.inbox SET sequence = sequence + 1 WHERE source = '{source}'",
    "DELETE FROM {subscriber}.inbox WHERE source = '{source}'",
    "INSERT INTO {subscriber}.inbox (account, source, aggregate, sequence) VALUES ('acme', '{source}', 'x', 1)",
];
