//! A run that was killed and went on issues what an undisturbed one issues from an equal database.

use octroi_api::billing::v1::{BillRun, CreateBillRunRequest};
use octroi_api::testing::v1::SetClockRequest;
use octroi_platform::time::to_proto;
use octroi_tests::harness::{
    Answer as _, BUSINESS, Customer, ENTERPRISE, ServiceName, at, eventually,
};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::all_in_one::AllInOne;
use crate::month::asks;
use crate::stored::end_leases;

/// Two chunks.
const ACCOUNTS: i64 = 520;
const CHUNK: i64 = 500;

/// What a month left behind, without what each run makes anew: ids, instants, and which number went to whom.
const ISSUED: &str = "
    SELECT 'invoice ' || (to_jsonb(i) - '{id,number,issued_by,create_time}'::text[])::text
    FROM billing.invoice i
    UNION ALL SELECT 'line ' || (to_jsonb(l) - 'invoice')::text FROM billing.invoice_line l
    UNION ALL SELECT 'tax ' || (to_jsonb(t) - 'invoice')::text FROM billing.invoice_tax t
    UNION ALL SELECT 'transfer ' || (to_jsonb(l) - '{id,source,time}'::text[])::text FROM billing.ledger_transfer l
    UNION ALL SELECT 'month ' || (to_jsonb(m) - 'invoice')::text FROM billing.billed_month m
    UNION ALL SELECT 'number ' || number FROM billing.invoice
    UNION ALL SELECT 'event ' || e.account || ' ' || e.sequence FROM billing.event e WHERE type = 'billing.invoice.issued'
    ORDER BY 1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_run_issues_what_an_undisturbed_one_does() {
    let mut octroi = AllInOne::install();
    octroi.set("test-clock", "2026-02-26T08:00:00Z");
    octroi.restart();
    let model = Customer::newcomer(octroi.operator(), "model").await;
    fill(&octroi.sql().await).await;
    let time = Some(to_proto(at("2026-03-01T08:00:00Z")));
    let mut clock = model.by.clock();
    clock.set_clock(SetClockRequest { time }).await.got();
    octroi.rest();
    let mut other = octroi.copy();

    octroi.restart();
    bill(&octroi).await;
    let sql = octroi.sql().await;
    completed(&sql).await;
    let undisturbed = issued(&sql).await;
    drop(sql);
    octroi.stop();

    other.restart();
    let sql = other.sql().await;
    let last = "BEGIN; SELECT FROM billing.account WHERE account = 'a0520' FOR UPDATE";
    sql.batch_execute(last).await.unwrap();
    bill(&other).await;
    // Of others' statements a transaction sees what they were when it first looked.
    let look = other.sql().await;
    eventually("one chunk is kept and the other waits", async || {
        let waiting = "SELECT FROM billing.bill_run, pg_stat_activity
            WHERE accounts = $1 AND wait_event_type = 'Lock' AND starts_with(query, '-- hold_accounts')";
        look.query_opt(waiting, &[&i32::try_from(CHUNK).unwrap()]).await.unwrap()
    })
    .await;
    let kept = ids(&sql).await;
    other.kill(false);
    drop(sql);
    let before = Uuid::now_v7();
    other.restart();
    let sql = other.sql().await;
    end_leases(&sql, before, &[ServiceName::Billing]).await;
    completed(&sql).await;
    assert_eq!(issued(&sql).await, undisturbed);
    let all = ids(&sql).await;
    assert!(
        kept.iter().all(|id| all.contains(id)),
        "what was kept is kept"
    );
    assert_eq!((kept.len(), all.len()), (500, 520));
    drop(sql);
    other.stop();
}

/// Accounts like the model, with two seats of which one changes hands; some use an offer that others do not.
async fn fill(sql: &Client) {
    for service in ServiceName::ALL {
        let accounts = format!(
            "INSERT INTO {service}.account
             SELECT (jsonb_populate_record(model, jsonb_build_object('account', 'a' || to_char(n, 'FM0000')))).*
             FROM {service}.account AS model, generate_series(1, {ACCOUNTS}) AS n WHERE model.account = 'model'"
        );
        sql.batch_execute(&accounts).await.unwrap();
    }
    let intervals = format!(
        "INSERT INTO billing.usage_interval
         SELECT 'a' || to_char(n, 'FM0000'), 'office', seat, gen_random_uuid(),
             CASE WHEN n % 3 = 0 THEN '{ENTERPRISE}' ELSE '{BUSINESS}' END,
             timestamptz '2026-02-03' + n * interval '1 minute', CASE WHEN seat = 2 THEN timestamptz '2026-02-20' END
         FROM generate_series(1, {ACCOUNTS}) AS n, generate_series(1, 2) AS seat"
    );
    sql.batch_execute(&intervals).await.unwrap();
}

async fn bill(octroi: &AllInOne) {
    let request = CreateBillRunRequest {
        bill_run_id: "february".to_owned(),
        bill_run: Some(BillRun {
            month: "2026-02".to_owned(),
            ..BillRun::default()
        }),
        ..CreateBillRunRequest::default()
    };
    asks(octroi.operator(), request).await.unwrap();
}

async fn completed(sql: &Client) {
    eventually("the run is completed", async || {
        let completed = "SELECT FROM billing.bill_run WHERE state = 'COMPLETED'";
        sql.query_opt(completed, &[]).await.unwrap()
    })
    .await;
}

async fn issued(sql: &Client) -> Vec<String> {
    let rows = sql.query(ISSUED, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn ids(sql: &Client) -> Vec<Uuid> {
    let rows = sql
        .query("SELECT id FROM billing.invoice", &[])
        .await
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}
