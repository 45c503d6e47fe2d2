//! Several workers share a run: who is held up holds up nobody else's accounts, and who has lost a lease keeps nothing.

use octroi_api::billing::v1::{BillRun, GetBillRunRequest, bill_run};
use octroi_server::Running;
use octroi_tests::harness::{Answer as _, Installation, ServiceName, eventually};
use tokio_util::sync::CancellationToken;

/// Three ranges: of five hundred accounts twice, and of the rest.
const ACCOUNTS: i32 = 1_100;

/// Accounts with a seat in use each, whose month has ended, a lock on the first of them, and another instance of billing;
/// the month's run, asked for.
async fn held(octroi: &Installation, shutdown: &CancellationToken) -> (BillRun, Running) {
    octroi.newcomer("model").await;
    for copied in [
        "INSERT INTO billing.account
         SELECT (jsonb_populate_record(model, jsonb_build_object('account', 'a' || to_char(n, 'FM0000')))).*
         FROM billing.account AS model, generate_series(1, $1) AS n WHERE model.account = 'model'",
        "INSERT INTO billing.usage_interval
         SELECT 'a' || to_char(n, 'FM0000'), 'office', 1, gen_random_uuid(), 'offers/apps-for-business', '2026-02-03', NULL
         FROM generate_series(1, $1) AS n",
    ] {
        octroi.sql.execute(copied, &[&ACCOUNTS]).await.unwrap();
    }
    octroi.advance_to("2026-03-02T08:00:00Z").await;
    let lock = "BEGIN; SELECT FROM billing.account WHERE account = 'a0001' FOR UPDATE";
    octroi.sql.batch_execute(lock).await.unwrap();
    let other = second(octroi, shutdown).await;
    (octroi.begins_to_bill("2026-02", false).await, other)
}

async fn second(octroi: &Installation, shutdown: &CancellationToken) -> Running {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = octroi_billing::Settings {
        platform: octroi.plan().settings(ServiceName::Billing, Some(listener)),
        seller_file: None,
        specimen_seller: true,
    };
    octroi_billing::start(settings, shutdown.clone())
        .await
        .unwrap()
}

/// Waits until all but the first range's accounts are done.
async fn the_others_are_done(octroi: &Installation, run: &BillRun) {
    let others = ACCOUNTS + 1 - 500;
    eventually("the other ranges are done", async || {
        (state(octroi, run).await.accounts == others).then_some(())
    })
    .await;
}

async fn state(octroi: &Installation, run: &BillRun) -> BillRun {
    let name = run.name.clone();
    let mut runs = octroi.operator().bill_runs();
    runs.get_bill_run(GetBillRunRequest { name }).await.got()
}

async fn completed(octroi: &Installation, run: &BillRun) -> BillRun {
    eventually("the run ends", async || {
        let run = state(octroi, run).await;
        (run.state() == bill_run::State::Completed).then_some(run)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_holds_up_nobody_else_s_accounts() {
    let octroi = Installation::start().await;
    let shutdown = CancellationToken::new();
    let (run, other) = held(&octroi, &shutdown).await;
    the_others_are_done(&octroi, &run).await;
    octroi.sql.batch_execute("ROLLBACK").await.unwrap();
    let run = completed(&octroi, &run).await;
    let told = (run.accounts, run.invoices, run.skipped, run.failed);
    assert_eq!(told, (ACCOUNTS + 1, ACCOUNTS, 1, 0), "{run:?}");
    let numbers =
        "SELECT count(*), count(DISTINCT account), min(number), max(number) FROM billing.invoice";
    let row = octroi.sql.query_one(numbers, &[]).await.unwrap();
    let all = i64::from(ACCOUNTS);
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (all, all));
    let first_and_last = (row.get::<_, &str>(2), row.get::<_, &str>(3));
    assert_eq!(first_and_last, ("F-2026-000001", "F-2026-001100"));
    shutdown.cancel();
    other.stopped().await.unwrap();
    octroi.abandon().await;
}

/// Another has ended the range meanwhile: what the first would have written is not kept.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_lost_a_lease_keeps_nothing() {
    let mut octroi = Installation::start().await;
    let shutdown = CancellationToken::new();
    let (run, other) = held(&octroi, &shutdown).await;
    the_others_are_done(&octroi, &run).await;
    octroi
        .sql
        .batch_execute("DELETE FROM billing.bill_run_range WHERE through = 'a0500'; COMMIT")
        .await
        .unwrap();
    // Whoever waited goes on to its last write, however soon it is to stop.
    shutdown.cancel();
    other.stopped().await.unwrap();
    octroi.stop(ServiceName::Billing).await;
    let issued = "SELECT count(*) FROM billing.invoice WHERE account <= 'a0500'";
    let issued: i64 = octroi.sql.query_one(issued, &[]).await.unwrap().get(0);
    assert_eq!(issued, 0);
    octroi.abandon().await;
}
