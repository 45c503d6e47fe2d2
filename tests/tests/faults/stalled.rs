//! A COMMIT that stalls for longer than `complete_through` trails the clock: what it lets through is late usage.

use octroi_api::billing::v1::{BillRun, CreateBillRunRequest, GetBillRunRequest, bill_run};
use octroi_api::licensing::v1::NewLicenseGroup;
use octroi_api::testing::v1::SetClockRequest;
use octroi_platform::time::to_proto;
use octroi_tests::harness::{
    Answer as _, BUSINESS, Caller, Customer, Refused, amount, at, eventually, new_group,
};
use tokio_postgres::Client;

use crate::all_in_one::AllInOne;
use crate::stored::{converged, told};

/// The second licence's activation alone asks that a standby has it; everything else goes on.
const ASK_THE_STANDBY: &str = "
    CREATE FUNCTION licensing.ask_the_standby() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM set_config('synchronous_commit', 'on', true);
        RETURN NEW;
    END $$;
    CREATE TRIGGER ask_the_standby BEFORE INSERT ON licensing.event
        FOR EACH ROW WHEN (NEW.aggregate LIKE '%/licenses/2') EXECUTE FUNCTION licensing.ask_the_standby()";

/// The standby stays away while the test clock goes on past the trail and the month's end, so nothing is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_lets_through_is_charged_on_the_next_invoice() {
    let mut octroi = AllInOne::install();
    octroi.set("test-clock", "2026-02-20T08:00:00Z");
    octroi.restart();
    let sql = octroi.sql().await;
    for setting in [
        "synchronous_commit = local",
        "synchronous_standby_names = away",
    ] {
        sql.execute(&format!("ALTER SYSTEM SET {setting}"), &[])
            .await
            .unwrap();
    }
    drop(sql);
    octroi.rest();
    octroi.restart();
    let sql = octroi.sql().await;

    let acme = Customer::paying(octroi.operator(), "acme").await;
    let group = NewLicenseGroup {
        // Nothing falls due in it before the test's end.
        renewal_period: "P1Y".to_owned(),
        ..new_group("office")
    };
    acme.asks_for("office", group, &[(BUSINESS, 2)]).await.got();
    acme.pays("office").await.got();
    acme.activates("office", 1, "sales").await;
    converged(&sql).await;
    sql.batch_execute(ASK_THE_STANDBY).await.unwrap();
    let stalled = tokio::spawn({
        let acme = acme.clone();
        let request = acme.activation("office", 2, "support");
        async move { acme.by.licenses().activate_license(request).await }
    });
    eventually("the COMMIT waits for the standby", async || {
        (waiting(&sql).await == 1).then_some(())
    })
    .await;

    advance(&acme.by, "2026-03-01T08:00:00Z").await;
    bill(&acme.by, "2026-02").await;
    assert_eq!(invoiced(&acme, 0).await, ["2026-02: 1, 9.99 EUR"]);
    assert_eq!(waiting(&sql).await, 1, "it was not let through before");

    sql.execute("ALTER SYSTEM RESET synchronous_standby_names", &[])
        .await
        .unwrap();
    sql.execute("SELECT pg_reload_conf()", &[]).await.unwrap();
    let license = stalled.await.unwrap().got();
    assert!(license.activate_time.unwrap().seconds < at("2026-02-21T00:00:00Z").as_second());
    converged(&sql).await;
    let whole = acme.preview("2026-02").await;
    assert_eq!(amount(whole.net.as_ref()), "19.98 EUR");

    advance(&acme.by, "2026-04-01T08:00:00Z").await;
    bill(&acme.by, "2026-03").await;
    assert_eq!(invoiced(&acme, 0).await, ["2026-02: 1, 9.99 EUR"], "frozen");
    assert_eq!(
        invoiced(&acme, 1).await,
        ["2026-03: 2, 19.98 EUR", "2026-02: 1, 9.99 EUR"]
    );
    let invoices = acme.invoices().await;
    let figures = |at: usize| {
        [&invoices[at].net, &invoices[at].tax, &invoices[at].total].map(|it| amount(it.as_ref()))
    };
    assert_eq!(figures(0), ["9.99 EUR", "2.00 EUR", "11.99 EUR"]);
    assert_eq!(figures(1), ["29.97 EUR", "5.99 EUR", "35.96 EUR"]);
    converged(&sql).await;
    told(&octroi.admin(), &sql).await;
    drop(sql);
    tokio::task::spawn_blocking(move || octroi.stop())
        .await
        .unwrap();
}

/// How many transactions are committed here and wait for the standby.
async fn waiting(sql: &Client) -> i64 {
    let count = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    sql.query_one(count, &[]).await.unwrap().get(0)
}

async fn advance(by: &Caller, time: &str) {
    let time = Some(to_proto(at(time)));
    by.clock().set_clock(SetClockRequest { time }).await.got();
}

/// Invoices a month; what is on its way by then is waited for.
async fn bill(by: &Caller, month: &str) {
    let request = CreateBillRunRequest {
        bill_run: Some(BillRun {
            month: month.to_owned(),
            ..BillRun::default()
        }),
        ..CreateBillRunRequest::default()
    };
    let run = eventually("licensing's events are complete", async || {
        match by.bill_runs().create_bill_run(request.clone()).await {
            Err(status) if Refused::of(&status).reason == "USAGE_BEHIND" => None,
            answer => Some(answer.got()),
        }
    })
    .await;
    eventually("the bill run ends", async || {
        let name = run.name.clone();
        let run = by
            .bill_runs()
            .get_bill_run(GetBillRunRequest { name })
            .await
            .got();
        (run.state() == bill_run::State::Completed).then_some(())
    })
    .await;
}

/// What the lines of an invoice say: month, quantity and amount.
async fn invoiced(acme: &Customer, at: usize) -> Vec<String> {
    let invoice = acme.invoices().await.swap_remove(at);
    let lines = invoice.lines.iter();
    lines
        .map(|line| {
            format!(
                "{}: {}, {}",
                line.month,
                line.quantity,
                amount(line.amount.as_ref())
            )
        })
        .collect()
}
