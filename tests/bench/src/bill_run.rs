//! A month's bill run, beside what the database takes to count the same usage and to copy the same rows.

use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use octroi_api::billing::v1::{BillRun, GetBillRunRequest, bill_run};
use octroi_tests::harness::{Answer as _, ServiceName, eventually};
use tokio_util::sync::CancellationToken;

use crate::calls::median;
use crate::report::{Bar, Report};
use crate::run::{Run, consumed, served};

/// The tables that a run writes, in the order of their references: which rows, and where they are no longer as they were
/// written, what stands for them.
const WRITTEN: [(&str, &str); 8] = [
    ("invoice", "FROM invoice WHERE month = $month"),
    ("invoice_line", "FROM invoice_line WHERE month = $month"),
    (
        "invoice_tax",
        "FROM invoice_tax JOIN invoice ON invoice.account = invoice_tax.account AND id = invoice WHERE month = $month",
    ),
    (
        "ledger_transfer",
        "FROM ledger_transfer JOIN invoice ON invoice.account = ledger_transfer.account
             AND source = 'accounts/' || invoice.account || '/invoices/' || invoice.id WHERE month = $month",
    ),
    ("billed_month", "FROM billed_month WHERE month = $month"),
    (
        "event",
        "FROM event JOIN invoice ON invoice.account = event.account
             AND aggregate = 'accounts/' || invoice.account || '/invoices/' || invoice.id WHERE month = $month",
    ),
    (
        "delivery",
        "FROM delivery JOIN invoice ON invoice.account = delivery.account
             AND aggregate = 'accounts/' || invoice.account || '/invoices/' || invoice.id WHERE month = $month",
    ),
    (
        "audit",
        "FROM audit JOIN invoice ON invoice.account = audit.account
             AND resource = 'accounts/' || invoice.account || '/invoices/' || invoice.id WHERE month = $month",
    ),
];

/// What a run took.
struct Took {
    time: Duration,
    /// What the serving threads had of the processors.
    service: Duration,
    /// What PostgreSQL had.
    database: Duration,
    /// The most memory that the process had, in MiB.
    memory: f64,
}

pub fn measure(run: &mut Run, report: &mut Report, accounts: u64) {
    run.customer("model");
    run.waits(run.installation.advance_to("2026-06-02T08:00:00Z"));
    fill(run, 1..=accounts / 2);
    // No event is due, so that what is measured is the run alone.
    run.sql("ALTER TABLE billing.delivery ALTER COLUMN due_at SET DEFAULT 'infinity'");
    let half = bills(run, "2026-02", false);
    fill(run, accounts / 2 + 1..=accounts);

    let dry = bills(run, "2026-03", true);
    let before = size(run);
    let wet = bills(run, "2026-03", false);
    let grown = size(run) - before;
    let copied = copy_out(run, "2026-03");

    let shutdown = CancellationToken::new();
    let second = run.second_billing(&shutdown);
    let shared = bills(run, "2026-04", false);
    shutdown.cancel();
    run.waits(second.stopped()).unwrap();

    run.sql(
        "DELETE FROM billing.delivery;
         ALTER TABLE billing.delivery ALTER COLUMN due_at SET DEFAULT clock_timestamp()",
    );
    let beside = bills(run, "2026-05", false);
    for service in ServiceName::ALL {
        run.stops(service);
    }
    let (aggregate, reading) = counting(run);
    let copying = copy_in(run, &copied);

    let rate = |took: &Took| accounts as f64 / took.time.as_secs_f64();
    let seconds = |time: Duration| time.as_secs_f64();
    report.figure("invoices", "a second", rate(&wet));
    report.ratio(
        &format!("bill run of {accounts} accounts"),
        "s",
        seconds(wet.time),
        ("bare aggregate, COPY of the same rows", aggregate + copying),
        Bar::AtMost(2.0),
    );
    report.ratio(
        "the same dry",
        "s",
        seconds(dry.time),
        ("bare aggregate, reading the intervals", aggregate + reading),
        Bar::AtMost(2.0),
    );
    report.ratio(
        "bill run of all accounts",
        "s",
        seconds(wet.time),
        ("of half of them", seconds(half.time)),
        Bar::AtMost(2.1),
    );
    report.ratio(
        "bill run by two replicas",
        "invoices/s",
        rate(&shared),
        ("by one", rate(&wet)),
        Bar::AtLeast(1.0),
    );
    report.ratio(
        "bill run while its events are delivered and its e-mails queued",
        "s",
        seconds(beside.time),
        ("alone", seconds(wet.time)),
        Bar::AtMost(2.0),
    );
    report.ratio(
        "memory of the process, at most",
        "MiB",
        wet.memory.max(half.memory).max(dry.memory),
        ("wanted", 128.0),
        Bar::AtMost(1.0),
    );
    let each = |time: Duration| seconds(time) * 1e6 / accounts as f64;
    report.figure(
        "processor time of the service an invoice",
        "µs",
        each(wet.service),
    );
    report.figure(
        "processor time of PostgreSQL an invoice",
        "µs",
        each(wet.database),
    );
    report.figure(
        "processor time of the service an account, dry",
        "µs",
        each(dry.service),
    );
    report.figure(
        "processor time of PostgreSQL an account, dry",
        "µs",
        each(dry.database),
    );
    report.figure("stored of an invoice", "bytes", grown / accounts as f64);
}

/// Accounts like the model, each with ten seats of two offers that were taken into use one after the other; every tenth
/// seat changes hands in the month.
fn fill(run: &Run, numbers: std::ops::RangeInclusive<u64>) {
    let (first, last) = numbers.into_inner();
    let range = format!("generate_series({first}, {last}) n");
    for service in ServiceName::ALL {
        run.sql(&format!(
            "INSERT INTO {service}.account
             SELECT (jsonb_populate_record(a, jsonb_build_object('account', 'b' || to_char(n, 'FM0000000')))).*
             FROM {service}.account a, {range} WHERE account = 'model'"
        ));
    }
    run.sql(&format!(
        "SET search_path = billing;
         CREATE TEMP TABLE bought AS
             SELECT 'b' || to_char(n, 'FM0000000') AS account, offer, id, place
             FROM {range}, (
                 SELECT row_number() OVER (ORDER BY offer) AS place, * FROM (
                     SELECT DISTINCT ON (offer) offer, id FROM price WHERE currency = 'EUR' ORDER BY offer, valid_from
                 ) p
             ) p;
         INSERT INTO usage_group SELECT DISTINCT account, 'office', 'Office', 1, timestamptz '2026-01-05' FROM bought;
         INSERT INTO group_offer_entry
             SELECT account, 'office', offer, 'Microsoft 365 Apps', '2026-01-05', 'o1', id FROM bought;
         INSERT INTO usage_interval
             SELECT account, 'office', seat, gen_random_uuid(), offer, timestamptz '2026-01-06' + seat * interval '1 hour',
                 CASE WHEN seat = 10 THEN timestamptz '2026-03-15 10:00:00Z' END
             FROM bought, generate_series(1, 10) seat WHERE seat % 2 = place % 2;
         DROP TABLE bought;
         ANALYZE"
    ));
}

/// Has a month invoiced.
fn bills(run: &Run, month: &str, dry: bool) -> Took {
    // From here on the most memory is counted anew.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let installation = &run.installation;
    let server = run.server();
    let asked = run.waits(eventually("usage is complete", async || {
        let before = (Instant::now(), served(), consumed(server));
        let begun = installation.asks_to_bill(month, dry).await.ok()?;
        Some((begun.into_inner(), before))
    }));
    let (begun, (started, service, database)) = asked;
    let done = run.waits(async {
        let mut runs = installation.operator().bill_runs();
        loop {
            let name = begun.name.clone();
            let seen: BillRun = runs.get_bill_run(GetBillRunRequest { name }).await.got();
            if seen.state() == bill_run::State::Completed {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let time = started.elapsed();
    // The model uses nothing.
    assert_eq!(
        (done.failed, done.invoices),
        (0, done.accounts - 1),
        "{done:?}"
    );
    Took {
        time,
        service: served() - service,
        database: consumed(server) - database,
        memory: most_memory(),
    }
}

/// The most memory that this process has had, in MiB.
fn most_memory() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes: f64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kilobytes / 1024.0
}

/// What the tables that a run writes take on disk.
fn size(run: &Run) -> f64 {
    let sizes = WRITTEN.map(|(table, _)| format!("pg_total_relation_size('billing.{table}')"));
    let sum = format!("SELECT ({})::float8", sizes.join(" + "));
    run.waits(run.installation.sql.query_one(&sum, &[]))
        .unwrap()
        .get(0)
}

/// How many seconds a statement takes.
fn timed(run: &Run, sql: &str) -> f64 {
    let begun = Instant::now();
    run.sql(sql);
    begun.elapsed().as_secs_f64()
}

/// How many seconds the bare aggregate takes, and reading the intervals.
fn counting(run: &Run) -> (f64, f64) {
    let often = |sql: &str| median((0..3).map(|_| timed(run, sql)).collect());
    let aggregate = often(
        "DO $$ BEGIN PERFORM account, group_id, offer, count(*), count(DISTINCT seat) FROM billing.usage_interval
         GROUP BY account, group_id, offer; END $$",
    );
    let reading = often(&format!(
        "COPY (SELECT account, group_id, offer, seat, start_time, end_time FROM billing.usage_interval) TO '{}'",
        file(run, "usage_interval")
    ));
    (aggregate, reading)
}

/// Writes what a month's run wrote to files; the statements that copy it back.
fn copy_out(run: &Run, month: &str) -> String {
    let mut back = String::new();
    run.sql("SET search_path = billing");
    for (table, rows) in WRITTEN {
        let (columns, file) = (columns(run, table), file(run, table));
        let qualified: Vec<String> = columns.iter().map(|it| format!("{table}.{it}")).collect();
        let (qualified, columns) = (qualified.join(", "), columns.join(", "));
        let rows = rows.replace("$month", &format!("'{month}'"));
        run.sql(&format!("COPY (SELECT {qualified} {rows}) TO '{file}'"));
        writeln!(back, "COPY {table} ({columns}) FROM '{file}';").unwrap();
    }
    back
}

/// How many seconds it takes to copy it back, into the same tables, which then hold nothing else.
fn copy_in(run: &Run, back: &str) -> f64 {
    let tables = WRITTEN.map(|(table, _)| table).join(", ");
    run.sql(&format!(
        "SET search_path = billing; TRUNCATE {tables} CASCADE"
    ));
    timed(run, &format!("BEGIN; {back} COMMIT"))
}

/// A file that the server can write.
fn file(run: &Run, name: &str) -> String {
    run.data_directory().join(name).display().to_string()
}

/// A table's columns but those that the database alone gives a value.
fn columns(run: &Run, table: &str) -> Vec<String> {
    let sql = "SELECT attname::text FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0
                   AND NOT attisdropped AND attgenerated = '' AND atttypid <> 'xid8'::regtype ORDER BY attnum";
    let rows = run
        .waits(run.installation.sql.query(sql, &[&table]))
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}
