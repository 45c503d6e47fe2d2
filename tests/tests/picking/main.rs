//! Due work is picked in the order of an index and stops at its limit, whatever the planner was told: 100,000 rows in
//! each queue, statistics from when it was empty, and the very statements that the services send.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;

use octroi_tests::harness::{Installation, Options, ServiceName, Text};
use serde_json::Value;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use ServiceName::{Billing, Licensing, Notification};

/// How many rows wait in each queue at first, and then as many more are due.
const QUEUE: i64 = 50_000;

/// A table in which work falls due.
struct Queue {
    service: ServiceName,
    table: &'static str,
    /// Fills it from `g`, an ordinal, and `due`, when that row falls due. Thousands fall due at once.
    fill: &'static str,
    pickers: &'static [Picker],
    /// When a row falls due, of what is swept batch by batch by its first picker.
    swept: Option<&'static str>,
}

/// A statement that finds what is due, or takes what was found.
struct Picker {
    name: &'static str,
    /// How many rows it takes at most.
    limit: i64,
    /// Its values: SQL that gives a column for each.
    values: &'static str,
}

const fn picker(name: &'static str, limit: i64, values: &'static str) -> Picker {
    Picker {
        name,
        limit,
        values,
    }
}

/// What was due at some time by now, at most ten, from the first on.
const FROM_THE_FIRST: &str = "SELECT now(), 'epoch'::timestamptz, '', '', 10::bigint";

const QUEUES: [Queue; 9] = [
    Queue {
        service: Licensing,
        table: "payment_attempt",
        fill: "INSERT INTO payment_attempt (account, order_id, attempt, started_at, next_try_at)
            SELECT 'a' || g % 1000, 'o' || g, 1, due, due",
        swept: None,
        pickers: &[
            picker("due_attempts", 10, "SELECT 10::bigint"),
            picker(
                "claim_attempt",
                1,
                "SELECT account, order_id, attempt, gen_random_uuid(), 1::bigint FROM payment_attempt LIMIT 1",
            ),
        ],
    },
    Queue {
        service: Licensing,
        table: "license_order",
        fill: "INSERT INTO license_order (account, order_id, group_id, state, quote, due_now_currency, due_now_amount,
                created_at, updated_at, expires_at)
            SELECT 'a' || g % 1000, 'o' || g, 'g' || g, 'AWAITING_PAYMENT', '', 'EUR', '0.00', due - interval '1 day',
                due, due",
        swept: None,
        pickers: &[
            picker("overdue_orders", 10, FROM_THE_FIRST),
            picker(
                "lock_free_order",
                1,
                "SELECT account, order_id FROM license_order ORDER BY expires_at LIMIT 1",
            ),
        ],
    },
    Queue {
        service: Licensing,
        table: "license_group",
        fill: "INSERT INTO license_group (account, group_id, display_name, state, billing_mode, renewal_period,
                auto_renew, first_date, period, period_start, period_end, next_license_number, created_at, updated_at)
            SELECT 'a' || g % 1000, 'g' || g, 'x', 'ACTIVE', 'POSTPAID', 'P1M', g % 2 = 0, '2026-01-01', 0,
                due - interval '30 days', due, 1, due, due",
        swept: None,
        pickers: &[
            picker("due_groups", 10, FROM_THE_FIRST),
            picker("earliest_period_end", 1, "SELECT"),
        ],
    },
    Queue {
        service: Licensing,
        table: "session",
        fill: "INSERT INTO session (account, group_id, number, id, token_hash, created_at, expires_at)
            SELECT 'a' || g % 1000, 'g', g, gen_random_uuid(), decode(repeat('00', 32), 'hex'),
                due - interval '2 days', due - interval '1 day'",
        swept: Some("expires_at"),
        pickers: &[
            picker("ended_sessions", 10, "SELECT now(), $from, 10::bigint"),
            picker(
                "delete_ended_session",
                1,
                "SELECT account, group_id, number, id FROM session ORDER BY expires_at LIMIT 1",
            ),
        ],
    },
    Queue {
        service: Licensing,
        table: "sign_in_failure",
        fill: "INSERT INTO sign_in_failure (kind, subject, failures, blocked_until, forget_at)
            SELECT 'LOGIN', sha256(g::text::bytea), 1, due, least(due, now() - interval '2 days')",
        swept: Some("greatest(forget_at, blocked_until)"),
        pickers: &[
            picker("sign_in_failures_over", 10, "SELECT $from, 10::bigint"),
            picker(
                "delete_sign_in_failure",
                1,
                "SELECT kind, subject FROM sign_in_failure LIMIT 1",
            ),
        ],
    },
    Queue {
        service: Billing,
        table: "settlement",
        fill: "INSERT INTO settlement (account, order_id, attempt, state, currency, seller, tax_category, tax_rate_ppm,
                net, tax, due, payment_method, create_time, look_time)
            SELECT 'a' || g % 1000, 'o' || g, 1, 'PROCESSING', 'EUR', 's', 'S', 0, 0, 0, 0, gen_random_uuid(), due,
                due",
        swept: None,
        pickers: &[
            picker("due_settlements", 16, "SELECT"),
            picker(
                "lease_settlement",
                1,
                "SELECT account, order_id, attempt, gen_random_uuid(), 1::bigint FROM settlement LIMIT 1",
            ),
        ],
    },
    Queue {
        service: Billing,
        table: "idempotency",
        fill: "INSERT INTO idempotency (account, method, request_id, fingerprint, created_at, lasting)
            SELECT 'a' || g % 1000, 'm', gen_random_uuid(), '', due - interval '30 days', false",
        swept: Some("created_at"),
        pickers: &[
            picker("old_requests", 1000, "SELECT $from"),
            picker(
                "forget",
                1,
                "SELECT account, method, request_id FROM idempotency LIMIT 1",
            ),
        ],
    },
    Queue {
        service: Notification,
        table: "email",
        // What is due waits to be put in line, or stands there.
        fill: "INSERT INTO email (account, id, event, effective_at, template, parameters, message_id, state,
                next_attempt_at, place, license, secret_state)
            SELECT 'a' || g % 1000, gen_random_uuid(), gen_random_uuid(), due, 'group-terminated',
                '{\"group\": \"g\", \"licenses\": 1}', 'm', 'QUEUED', due,
                CASE WHEN due < now() AND g % 2 = 0 THEN due END, '', 'NONE'",
        swept: None,
        pickers: &[
            picker("delivery::due", 10, "SELECT false, 10::bigint"),
            picker("delivery::due_again", 10, "SELECT 10::bigint"),
        ],
    },
    Queue {
        service: Notification,
        table: "email",
        fill: "INSERT INTO email (account, id, event, effective_at, template, parameters, message_id, state, sent_at,
                license, secret_state, sealed_secret, secret_expires_at)
            SELECT 'a' || g % 1000, gen_random_uuid(), gen_random_uuid(), due, 'license-activated', '{}', 'm', 'SENT',
                due, 'l' || g, 'READABLE', '', due",
        swept: Some("secret_expires_at"),
        pickers: &[picker(
            "erasure::expired",
            10,
            "SELECT now(), $from, 0::bigint, 10::bigint",
        )],
    },
];

/// What else the services say by themselves.
const OTHERS: &[&str] = &[
    // At their start.
    "audit",
    "countries_from",
    "insert_price",
    "insert_tax_rate",
    "lock_seller",
    "offers_from",
    "put_seller",
    "young",
    // The test clock's.
    "SELECT",
    "emitted",
    "pending",
    "progress",
    "report",
    "reports",
    "round",
    "step",
    "stored",
    // A run at a time.
    "lease_left",
    "next_range",
    // The relay's.
    "dead",
    "lease",
    "undelivered",
];

/// Something of each kind that is due, so that it is taken and not just looked for.
const LITTLE: &str = "
    SET session_replication_role = replica;
    INSERT INTO billing.idempotency (account, method, request_id, fingerprint, created_at, lasting)
    VALUES ('a', 'm', gen_random_uuid(), '', now() - interval '31 days', false);
    INSERT INTO billing.settlement (account, order_id, attempt, state, currency, seller, tax_category, tax_rate_ppm,
        net, tax, due, payment_method, create_time, look_time)
    VALUES ('a', 'o', 1, 'PROCESSING', 'EUR', 's', 'S', 0, 0, 0, 0, gen_random_uuid(), now(), now());
    INSERT INTO licensing.session (account, group_id, number, id, token_hash, created_at, expires_at)
    VALUES ('a', 'g', 1, gen_random_uuid(), sha256(''), '2020-01-01', '2020-01-02');
    INSERT INTO licensing.sign_in_failure (kind, subject, failures, blocked_until, forget_at)
    VALUES ('LOGIN', sha256(''), 1, '2020-01-01', '2020-01-01');
    INSERT INTO licensing.payment_attempt (account, order_id, attempt, started_at, next_try_at)
    VALUES ('a', 'x', 1, now(), now());
    INSERT INTO licensing.license_order (account, order_id, group_id, state, quote, due_now_currency, due_now_amount,
        created_at, updated_at, expires_at)
    VALUES ('a', 'o', 'g', 'AWAITING_PAYMENT', '', 'EUR', '0.00', '2020-01-01', '2020-01-01', '2020-01-02')";

/// Every statement that the services have sent, by service and name, once all their background work has run.
async fn said(octroi: &Installation, through: &str) -> BTreeMap<String, Text> {
    octroi.advance_to(through).await;
    ServiceName::ALL
        .into_iter()
        .flat_map(|service| {
            let texts = octroi.wire(service).texts().into_iter();
            texts.map(move |(name, text)| (format!("{service}.{name}"), text))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picker_reads_no_more_than_it_takes() {
    let mut octroi = Installation::with(Options {
        tapped: true,
        ..Options::default()
    })
    .await;
    let known = |name: &str| {
        let pickers = QUEUES.iter().flat_map(|queue| queue.pickers);
        pickers.map(|picker| picker.name).any(|it| it == name) || OTHERS.contains(&name)
    };
    let name = |full: &String| full.split_once('.').unwrap().1.to_owned();
    let mut unknown = Vec::from_iter(said(&octroi, "2026-02-02T09:00:00Z").await.into_keys());
    unknown.retain(|full| !known(&name(full)));
    assert!(
        unknown.is_empty(),
        "background work says what no queue here has: {unknown:?}"
    );
    octroi.sql.batch_execute(LITTLE).await.unwrap();
    let said = said(&octroi, "2026-02-02T10:00:00Z").await;
    for service in ServiceName::ALL {
        octroi.stop(service).await;
    }
    for queue in &QUEUES {
        check(&octroi.sql, queue, &said).await;
        if let Some(at) = queue.swept {
            check_sweep(&octroi, queue, at, &said).await;
        }
    }
    octroi.abandon().await;
}

/// Holds a queue's pickers to their limits, while everything waits and when as much again is due.
async fn check(sql: &Client, queue: &Queue, said: &BTreeMap<String, Text>) {
    let Queue { service, table, .. } = queue;
    let prepare = format!(
        "SET search_path = {service};
         ALTER TABLE {table} SET (autovacuum_enabled = false);
         ANALYZE {table}"
    );
    sql.batch_execute(&prepare).await.unwrap();
    for (sign, from) in [("+", 1), ("-", QUEUE + 1)] {
        let due = format!("now() {sign} interval '2 days' {sign} g % 7 * interval '1 hour'");
        let rows = format!("generate_series({from}, {})", from + QUEUE - 1);
        let fill = format!(
            "{} FROM (SELECT g, {due} AS due FROM {rows} g) q",
            queue.fill
        );
        sql.batch_execute(&fill).await.unwrap();
        for picker in queue.pickers {
            let text = &said[&format!("{service}.{}", picker.name)];
            let by_key = picker.values.contains("FROM");
            assert!(
                text.planned || by_key,
                "{}: a plan that is kept is one from when there was little",
                picker.name
            );
            let values = picker.values.replace("$from", "'epoch'::timestamptz");
            let (rows, pages) = read(sql, picker, &values, &text.sql).await;
            let takes = if sign == "-" || by_key {
                picker.limit
            } else {
                1
            };
            assert!(
                rows <= 2 * takes + 2 && pages <= 8 * takes + 24,
                "{service}.{} takes {takes} of {QUEUE}, and reads {rows} rows on {pages} pages",
                picker.name
            );
        }
    }
}

/// Holds a sweep to its limit after its earlier batches, though somebody may still see what those deleted, so that it is
/// still in the index.
async fn check_sweep(
    octroi: &Installation,
    queue: &Queue,
    at: &str,
    said: &BTreeMap<String, Text>,
) {
    let Queue { service, table, .. } = queue;
    let (sql, picker) = (&octroi.sql, &queue.pickers[0]);
    let slow = octroi_platform::db::connect(&octroi.plan().databases.admin, "public")
        .await
        .unwrap();
    slow.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM pg_class")
        .await
        .unwrap();
    let middle = format!(
        "SELECT ({at})::text FROM {table} WHERE {at} IS NOT NULL ORDER BY {at} OFFSET {} LIMIT 1",
        QUEUE / 2
    );
    let from: String = sql.query_one(&middle, &[]).await.unwrap().get(0);
    let earlier = format!("DELETE FROM {table} WHERE {at} < '{from}'");
    assert!(sql.execute(&earlier, &[]).await.unwrap() > 10_000);
    let values = picker
        .values
        .replace("$from", &format!("'{from}'::timestamptz"));
    let text = &said[&format!("{service}.{}", picker.name)];
    let (rows, pages) = read(sql, picker, &values, &text.sql).await;
    let takes = picker.limit;
    assert!(
        rows <= 2 * takes + 2 && pages <= 8 * takes + 24,
        "{service}.{} takes {takes} after earlier batches, and reads {rows} rows on {pages} pages",
        picker.name
    );
    drop(slow);
}

/// How many rows and pages a statement reads.
async fn read(sql: &Client, picker: &Picker, values: &str, text: &str) -> (i64, i64) {
    let row = sql.query_one(values, &[]).await.unwrap();
    let types: Vec<Type> = row.columns().iter().map(|it| it.type_().clone()).collect();
    let value = |(at, column): (usize, &Type)| -> Box<dyn ToSql + Sync> {
        match *column {
            Type::INT8 => Box::new(row.get::<_, i64>(at)),
            Type::TIMESTAMPTZ => Box::new(row.get::<_, jiff::Timestamp>(at)),
            Type::INT4 => Box::new(row.get::<_, i32>(at)),
            Type::BOOL => Box::new(row.get::<_, bool>(at)),
            Type::UUID => Box::new(row.get::<_, Uuid>(at)),
            Type::BYTEA => Box::new(row.get::<_, Vec<u8>>(at)),
            _ => Box::new(row.get::<_, String>(at)),
        }
    };
    let values: Vec<_> = types.iter().enumerate().map(value).collect();
    let typed: Vec<_> = values.iter().map(|it| &**it).zip(types).collect();
    let explain = format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {text}");
    sql.batch_execute("BEGIN").await.unwrap();
    let rows = sql.query_typed(&explain, &typed).await.unwrap();
    sql.batch_execute("ROLLBACK").await.unwrap();
    let plan: Value = rows[0].get(0);
    let plan = &plan[0]["Plan"];
    if std::env::var_os("SHOW_PLANS").is_some() {
        println!("{}: {plan:#}", picker.name);
    }
    let pages = ["Shared Hit Blocks", "Shared Read Blocks"].map(|it| plan[it].as_i64().unwrap());
    (scanned(plan), pages.iter().sum())
}

/// How many rows the scans of a plan looked at, kept or not.
fn scanned(plan: &Value) -> i64 {
    let number = |name: &str| plan[name].as_f64().unwrap_or_default();
    let own = match plan["Relation Name"] {
        Value::Null => 0.0,
        _ => (number("Actual Rows") + number("Rows Removed by Filter")) * number("Actual Loops"),
    };
    let inner = plan["Plans"].as_array().into_iter().flatten();
    #[expect(clippy::cast_possible_truncation, reason = "a count of rows")]
    let own = own as i64;
    own + inner.map(scanned).sum::<i64>()
}
