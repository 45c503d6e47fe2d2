//! Accounts are invoiced in chunks: what a chunk asks of the database, and what is left of one that does not end.

use std::collections::BTreeMap;

use octroi_api::billing::v1::{BillRun, GetBillRunRequest, bill_run};
use octroi_tests::harness::{
    Answer as _, BUSINESS, Installation, Options, Price, ServiceName, Turn, at, eventually,
};

/// How many accounts a chunk has.
const CHUNK: usize = 500;

/// More accounts with two seats in use, such as a customer's, so that their month makes an invoice with evidence.
async fn using(octroi: &Installation, numbers: std::ops::RangeInclusive<i32>) {
    let (first, last) = numbers.into_inner();
    for copied in [
        "INSERT INTO billing.account
         SELECT (jsonb_populate_record(model, jsonb_build_object('account', 'a' || n))).*
         FROM billing.account AS model, generate_series($1::integer, $2) AS n WHERE model.account = 'acme'",
        "INSERT INTO billing.usage_interval
         SELECT 'a' || n, 'office', seat, gen_random_uuid(), 'offers/apps-for-business', '2026-02-03', NULL
         FROM generate_series($1::integer, $2) AS n, generate_series(1, 2) AS seat",
    ] {
        octroi.sql.execute(copied, &[&first, &last]).await.unwrap();
    }
}

/// What the chunk that issued invoices asked of the database, by name: what travels together has no order.
fn asked(turns: Vec<Turn>) -> Vec<String> {
    let mut chunks: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for turn in turns {
        let said = chunks.entry(turn.connection).or_default();
        if turn.statements.iter().any(|name| name == "hold_bill_run") {
            said.clear();
        }
        said.extend(turn.statements);
        let issued = said.iter().any(|name| name == "insert_invoices");
        if issued && let Some(end) = said.iter().position(|name| name == "COMMIT") {
            said.truncate(end + 1);
            said.sort();
            return said.clone();
        }
    }
    panic!("no chunk with invoices: {chunks:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_asks_as_much_however_many_accounts_it_has() {
    let octroi = Installation::with(Options {
        tapped: true,
        ..Options::default()
    })
    .await;
    octroi.newcomer("acme").await;
    let wire = octroi.wire(ServiceName::Billing);
    let mut chunks = Vec::new();
    for (accounts, month, today) in [
        (1..=3, "2026-02", "2026-03-02T08:00:00Z"),
        (4..=30, "2026-03", "2026-04-02T08:00:00Z"),
    ] {
        let last = *accounts.end();
        using(&octroi, accounts).await;
        octroi.advance_to(today).await;
        wire.take();
        let run = octroi.bills(month).await;
        assert_eq!((run.invoices, run.failed), (last, 0), "{run:?}");
        chunks.push(asked(wire.take()));
    }
    assert_eq!(chunks[0], chunks[1]);
    assert!(chunks[0].len() <= 24, "{:?}", chunks[0]);
    octroi.abandon().await;
}

/// A service that is stopped in the middle of a run goes on where its last chunk ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_interrupted_goes_on_where_it_was() {
    let mut octroi = Installation::start().await;
    let mut customers = Vec::new();
    for id in ["acme", "bert", "yves", "zoe"] {
        let customer = octroi.customer(id).await;
        customer.buys("office", &[(BUSINESS, 1)]).await;
        customer.activates("office", 1, "sales").await;
        customers.push(customer);
    }
    // Two customers and those without usage fill the first chunk.
    octroi.newcomer("model").await;
    octroi.drained().await;
    for schema in ["billing", "licensing", "notification"] {
        let copied = format!(
            "INSERT INTO {schema}.account
             SELECT (jsonb_populate_record(model, jsonb_build_object('account', 'm-' || n))).*
             FROM {schema}.account AS model, generate_series(1, {}) AS n WHERE model.account = 'model'",
            CHUNK - 2
        );
        octroi.sql.execute(&copied, &[]).await.unwrap();
    }
    octroi.advance_to("2026-03-01T08:00:00Z").await;
    octroi
        .sql
        .batch_execute("BEGIN; SELECT FROM billing.account WHERE account = 'zoe' FOR UPDATE")
        .await
        .unwrap();
    let run = octroi.begins_to_bill("2026-02", false).await;
    // The second chunk waits for us; once the first is kept it is cut off, and the service stopped before it tries again.
    let chunk = i32::try_from(CHUNK).unwrap();
    eventually("the first chunk is kept", async || {
        (state(&octroi, &run).await.accounts == chunk).then_some(())
    })
    .await;
    eventually("the second chunk is cut off", async || {
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_locks
                   WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))";
        octroi.sql.query_opt(cut, &[]).await.unwrap()
    })
    .await;
    let half = state(&octroi, &run).await;
    assert_eq!(half.state(), bill_run::State::Running);
    assert_eq!((half.accounts, half.invoices), (chunk, 2), "{half:?}");
    octroi.stop(ServiceName::Billing).await;
    octroi.sql.batch_execute("ROLLBACK").await.unwrap();
    let last = "SELECT last FROM billing.series WHERE kind = 'INVOICE'";
    let last: i64 = octroi.sql.query_one(last, &[]).await.unwrap().get(0);
    assert_eq!(last, 2, "numbers of what was not issued are free");

    octroi.restart(ServiceName::Billing).await;
    let whole = eventually("the run ends", async || {
        let run = state(&octroi, &run).await;
        (run.state() == bill_run::State::Completed).then_some(run)
    })
    .await;
    let told = (whole.accounts, whole.invoices, whole.skipped, whole.failed);
    assert_eq!(told, (chunk + 3, 4, chunk - 1, 0), "{whole:?}");
    let mut numbers = Vec::new();
    for customer in &customers {
        let invoices = customer.invoices().await;
        assert_eq!(invoices.len(), 1, "{}", customer.id);
        numbers.push(invoices[0].number.clone());
    }
    let expected = [1, 2, 3, 4].map(|number| format!("F-2026-{number:06}"));
    assert_eq!(numbers, expected);
    octroi.finish().await;
}

/// A chunk takes its numbers last: whoever takes one meanwhile does not wait for what else the chunk writes.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_free_while_a_chunk_writes() {
    let octroi = Installation::start().await;
    let price = Price {
        offer: BUSINESS,
        monthly: 9_99,
        setup: 1_00,
        policy: "PEAK",
    };
    octroi.price(price, at("2026-01-01T00:00:00Z")).await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    acme.activates("office", 1, "sales").await;
    octroi.advance_to("2026-03-01T08:00:00Z").await;
    // The chunk's lines refer to it.
    octroi
        .sql
        .batch_execute("BEGIN; SELECT FROM billing.price FOR UPDATE")
        .await
        .unwrap();
    let run = octroi.begins_to_bill("2026-02", false).await;
    eventually("the chunk waits", async || {
        let waits = "SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))";
        octroi.sql.query_opt(waits, &[]).await.unwrap()
    })
    .await;
    let free = "SELECT last FROM billing.series WHERE kind = 'INVOICE' FOR UPDATE NOWAIT";
    let last: i64 = octroi.sql.query_one(free, &[]).await.unwrap().get(0);
    assert_eq!(last, 1, "the order's");
    octroi.sql.batch_execute("ROLLBACK").await.unwrap();
    eventually("the run ends", async || {
        let run = state(&octroi, &run).await;
        (run.state() == bill_run::State::Completed).then_some(())
    })
    .await;
    assert_eq!(acme.invoices().await[1].number, "F-2026-000002");
    octroi.finish().await;
}

async fn state(octroi: &Installation, run: &BillRun) -> BillRun {
    let name = run.name.clone();
    let mut runs = octroi.operator().bill_runs();
    runs.get_bill_run(GetBillRunRequest { name }).await.got()
}
