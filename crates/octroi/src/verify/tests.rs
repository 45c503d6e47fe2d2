//! Every rule is broken once, and the check that guards it says so.

use std::collections::BTreeSet;
use std::path::Path;

use tokio_postgres::{Client, Config, NoTls};

use super::*;
use crate::cluster::{Cluster, ClusterOptions};
use crate::demo;
use crate::system::Listeners;

/// Prices with a set-up fee, so that orders are paid and invoiced too.
const SETUP_FEES: &str = "
    INSERT INTO billing.price (id, offer, currency, monthly, setup, usage_policy, valid_from, create_time)
    SELECT gen_random_uuid(), offer, currency, monthly, 250, usage_policy, valid_from + interval '1 day', create_time
    FROM billing.price";

/// The database defends itself; what it would refuse is what the checks are for.
const DEFENCELESS: &str = "
    DO $$
    DECLARE rule record;
    BEGIN
        FOR rule IN
            SELECT conrelid::regclass AS owner, conname FROM pg_constraint
            WHERE contype IN ('c', 'f') AND conparentid = 0
              AND connamespace::regnamespace::text IN ('licensing', 'billing', 'notification')
        LOOP
            EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', rule.owner, rule.conname);
        END LOOP;
    END $$";

/// What breaks each rule, by the check's name.
const BREACHES: &[(&str, &str)] = &[
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
    ("orders: attempts agree with the state", "UPDATE licensing.payment_attempt SET outcome = 'DECLINED'"),
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
        "licences: no session outlives its licence's user",
        "INSERT INTO licensing.session (account, group_id, number, id, token_hash, created_at, expires_at)
         SELECT account, group_id, number, gen_random_uuid(), '', created_at, created_at
         FROM licensing.license WHERE state = 'DELETED'",
    ),
    (
        "usage: an interval is open exactly while its licence is active",
        "UPDATE licensing.usage_interval SET ended_at = started_at WHERE seat = 1",
    ),
    (
        "usage: intervals of a seat do not overlap",
        "INSERT INTO licensing.usage_interval (account, group_id, offer, seat, started_at, ended_at)
         SELECT account, group_id, offer, seat, started_at + interval '1 hour', ended_at
         FROM licensing.usage_interval WHERE ended_at IS NOT NULL",
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
        "e-mails: one readable password at most per licence",
        "UPDATE notification.email SET secret_state = 'READABLE', license = 'x'",
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
        "usage: billing's intervals are licensing's, but for those on their way",
        "UPDATE billing.usage_interval SET start_time = start_time + interval '1 microsecond' WHERE seat = 1",
    ),
    (
        "usage: billing's intervals are licensing's, but for those on their way",
        "DELETE FROM billing.usage_interval WHERE seat = 1",
    ),
    ("accounts: each service knows billing's, but for changes on their way", "DELETE FROM notification.account"),
    (
        "accounts: each service knows billing's, but for changes on their way",
        "UPDATE licensing.account SET version = version + 1",
    ),
    (
        "e-mails: each fact that customers are told of has its e-mail",
        "DELETE FROM notification.email WHERE template = 'invoice-issued'",
    ),
    (
        "e-mails: a readable password belongs to an active licence",
        "UPDATE notification.email SET license = 'accounts/acme/licenseGroups/office/licenses/9'
         WHERE secret_state = 'READABLE' AND license LIKE '%/2'",
    ),
    (
        "orphans: every account that licensing and notification name exists",
        "UPDATE billing.account SET account = 'other'",
    ),
    ("orphans: every group and licence that is named exists", "DELETE FROM licensing.license_group"),
    ("orphans: every group and licence that is named exists", "DELETE FROM licensing.license WHERE number = 1"),
    ("orphans: every order that billing names exists", "DELETE FROM licensing.license_order WHERE order_id = 'o1'"),
];

/// What looks odd and breaks nothing, with the check that must not mind.
const SOUND: &[(&str, &str)] = &[
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
];

/// What breaks the rules of the log, by the check's end and the schema's name.
const LOG_BREACHES: &[(&str, &str)] = &[
    (
        "events of an aggregate are numbered without gaps",
        "INSERT INTO {schema}.event
            (account, id, type, aggregate, sequence, effective_at, recorded_at, body)
         VALUES ('acme', gen_random_uuid(), 'x', 'accounts/acme', 7, now(), now(), '')",
    ),
    (
        "no delivery is parked or more than an hour old",
        "WITH event AS (
            INSERT INTO {schema}.event
                (account, id, type, aggregate, sequence, effective_at, recorded_at, body)
            VALUES ('acme', gen_random_uuid(), 'x', 'x', 1, '2014-01-01', '2014-01-01', '') RETURNING *
         )
         INSERT INTO {schema}.delivery (account, subscriber, aggregate, sequence, event_id, effective_at)
         SELECT account, 'x', aggregate, sequence, id, effective_at FROM event",
    ),
    (
        "each request that was kept has its answer",
        "INSERT INTO {schema}.idempotency (account, method, request_id, fingerprint)
         VALUES ('acme', 'x', gen_random_uuid(), '')",
    ),
];

/// What breaks the rule of each way that events take.
const INBOX_BREACHES: &[&str] = &[
    "UPDATE {subscriber}.inbox SET sequence = sequence + 1 WHERE source = '{source}'",
    "DELETE FROM {subscriber}.inbox WHERE source = '{source}'",
    "INSERT INTO {subscriber}.inbox (account, source, aggregate, sequence) VALUES ('acme', '{source}', 'x', 1)",
];

async fn client(admin: &Config) -> Client {
    let (client, connection) = admin.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Every breach with the name of the check that must find it.
fn breaches() -> Vec<(String, String)> {
    let mut breaches: Vec<(String, String)> = BREACHES
        .iter()
        .map(|(name, sql)| ((*name).to_owned(), (*sql).to_owned()))
        .collect();
    for schema in log::SCHEMAS {
        for (name, sql) in LOG_BREACHES {
            breaches.push((format!("{schema}: {name}"), sql.replace("{schema}", schema)));
        }
    }
    for (source, subscriber) in log::ROUTES {
        for sql in INBOX_BREACHES {
            let sql = sql
                .replace("{source}", source)
                .replace("{subscriber}", subscriber);
            breaches.push((log::inbox_name(source, subscriber), sql));
        }
    }
    breaches
}

async fn played(dir: &Path) -> (Cluster, Config) {
    let options = ClusterOptions {
        durable: false,
        ..ClusterOptions::new(dir)
    };
    let cluster = Cluster::start(options).await.unwrap();
    let listeners = Listeners::free().unwrap();
    let (system, mut stage) = demo::set_up(&cluster, listeners).await.unwrap();
    let admin = system.plan().databases.admin.clone();
    client(&admin)
        .await
        .batch_execute(SETUP_FEES)
        .await
        .unwrap();
    demo::until_the_first_invoice(&mut stage).await.unwrap();
    system.stop().await;
    (cluster, admin)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_check_finds_what_it_is_for() {
    let dir = demo::temporary_directory().unwrap();
    let (cluster, admin) = played(dir.path()).await;
    let report = run(&admin).await.unwrap();
    assert!(report.is_clean(), "{report}");
    let mut client = client(&admin).await;
    client.batch_execute(DEFENCELESS).await.unwrap();
    let offset = clock_offset(&client).await.unwrap();
    let mut found = BTreeSet::new();
    for (name, sql) in breaches() {
        let finding = look_after(&mut client, offset, &name, &sql).await;
        assert!(finding.breaches > 0, "{name:?} does not see: {sql}");
        assert!(!finding.examples.is_empty());
        found.insert(name);
    }
    for (name, sql) in SOUND {
        let finding = look_after(&mut client, offset, name, sql).await;
        assert!(finding.rows > 0, "{name:?} looks at nothing: {sql}");
        assert_eq!(finding.breaches, 0, "{:?}: {sql}", finding.examples);
    }
    let all: BTreeSet<String> = checks().into_iter().map(|check| check.name).collect();
    let unguarded: Vec<&String> = all.difference(&found).collect();
    assert!(
        unguarded.is_empty(),
        "no breach is planted for {unguarded:?}"
    );
    drop(client);
    cluster.destroy().await.unwrap();
}

/// What a check finds once a statement has changed the data; the change is undone.
async fn look_after(client: &mut Client, offset: i64, name: &str, sql: &str) -> Finding {
    let tx = client.transaction().await.unwrap();
    tx.batch_execute("SET LOCAL session_replication_role = replica")
        .await
        .unwrap();
    let touched = tx
        .execute(sql, &[])
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    assert!(touched > 0, "nothing to change for {name:?}: {sql}");
    tell_time(&tx, offset).await.unwrap();
    let checks = checks();
    let check = checks.iter().find(|check| check.name == name);
    let check = check.unwrap_or_else(|| panic!("there is no check {name:?}"));
    let finding = look(&tx, check).await.unwrap();
    tx.rollback().await.unwrap();
    finding
}

#[test]
fn every_check_has_a_name_of_its_own() {
    let names: Vec<String> = checks().into_iter().map(|check| check.name).collect();
    let distinct: BTreeSet<&String> = names.iter().collect();
    assert_eq!(distinct.len(), names.len());
    assert!(names.iter().all(|name| name.chars().count() <= 80));
}

#[test]
fn a_report_is_a_table_that_names_breaches() {
    let finding = |check: &str, rows, examples: &[&str]| Finding {
        check: check.to_owned(),
        rows,
        breaches: i64::try_from(examples.len()).unwrap(),
        examples: examples.iter().map(|text| (*text).to_owned()).collect(),
    };
    let report = Report {
        findings: vec![
            finding("first", 12, &[]),
            finding("second one", 3, &["acme/x"]),
        ],
    };
    assert!(!report.is_clean());
    assert_eq!(
        report.to_string(),
        "check            rows  breaches\n\
         first              12         0\n\
         second one          3         1\n    acme/x\n\n2 checks, 1 breached\n"
    );
}
