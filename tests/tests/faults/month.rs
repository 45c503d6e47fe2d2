//! The all-in-one killed while it invoices a month: the run is completed after the restart, each account is invoiced
//! once, and no number is missing.

use std::collections::BTreeSet;

use octroi_api::billing::v1::{
    BillRun, CreateBillRunRequest, GetBillRunRequest, Invoice, bill_run, invoice,
};
use octroi_api::testing::v1::SetClockRequest;
use octroi_platform::time::to_proto;
use octroi_tests::harness::{
    Answer as _, BUSINESS, Caller, Customer, Refused, ServiceName, at, eventually, request_id,
};
use tokio::task::JoinSet;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::all_in_one::AllInOne;
use crate::chance::Chance;
use crate::rounds;
use crate::shopper::is_loss;
use crate::stored::{converged, end_leases, leases_end_soon, told};

/// The rounds of an ordinary run: one for each way to be in the middle.
const ORDINARY: usize = 3;
/// A run takes five hundred accounts at a time: these are two chunks.
const ACCOUNTS: usize = 540;
/// So many of them are opened, the others are copies of one that uses nothing.
const OPENED: usize = 120;
/// So many are opened at once: fewer than may wait for one caller.
const AT_ONCE: usize = 40;
/// Every so manyth of them has licences.
const CUSTOMER: usize = 20;
/// Without a lock the kill comes within so many milliseconds.
const KILL_WITHIN: u64 = 200;

/// Where a run stands when it is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// Its invoices wait for their numbers.
    Numbering,
    /// The second chunk waits for an account.
    SecondChunk,
    /// Anywhere.
    Any,
}

/// `OCTROI_MONTH_ROUNDS` says how many rounds, `OCTROI_MONTH_SEED` which ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_it_invoices() {
    let rounds = rounds("OCTROI_MONTH_ROUNDS", ORDINARY);
    let mut chance = Chance::from_environment("OCTROI_MONTH_SEED");
    let mut octroi = AllInOne::install();
    octroi.set("test-clock", "2026-02-26T08:00:00Z");
    octroi.restart();
    let customers = open_accounts(&octroi).await;
    let mut asked: Vec<CreateBillRunRequest> = Vec::new();
    for round in 0..rounds {
        // A run that was killed goes on by itself after the restart; one that nobody heard of is asked for again.
        if let Some(last) = asked.last()
            && known(&octroi, last).await.state() != bill_run::State::Unspecified
        {
            eventually("the killed run is completed", async || {
                let run = known(&octroi, last).await;
                (run.state() == bill_run::State::Completed).then_some(())
            })
            .await;
            asked.push(next_month(&octroi, asked.len()).await);
        } else if asked.is_empty() {
            asked.push(next_month(&octroi, 0).await);
        }
        let moments = [Moment::Numbering, Moment::SecondChunk, Moment::Any];
        let moment = moments.get(round).copied();
        let moment = moment.unwrap_or_else(|| chance.one_of(&moments));
        let database = chance.below(2) == 0;
        bill_until_killed(
            &mut octroi,
            asked.last().unwrap(),
            moment,
            database,
            &mut chance,
        )
        .await;
        println!("round {round}: {moment:?}, database killed {database}");
        let before = Uuid::now_v7();
        octroi.restart();
        let sql = octroi.sql().await;
        leases_end_soon(&sql, before).await;
        // A longer run waits, the last time, until the leases of the dead have ended by themselves.
        if round + 1 < rounds || rounds <= ORDINARY {
            end_leases(&sql, before, &ServiceName::ALL).await;
        }
    }
    asks(octroi.operator(), asked.last().unwrap().clone())
        .await
        .unwrap();
    let sql = octroi.sql().await;
    converged(&sql).await;
    told(&octroi.admin(), &sql).await;
    let mut invoices = Vec::new();
    for id in &customers {
        invoices.extend(octroi.customer(id).invoices().await);
    }
    for request in &asked {
        let run = known(&octroi, request).await;
        let of_month = invoices.iter().filter(|one| one.month == run.month);
        judge(&run, &of_month.collect::<Vec<_>>());
    }
    let numbers: BTreeSet<_> = invoices.iter().map(|one| one.number.clone()).collect();
    let gapless = (1..=customers.len() * asked.len()).map(|at| format!("F-2026-{at:06}"));
    assert_eq!(numbers, gapless.collect());
    drop(sql);
    tokio::task::spawn_blocking(move || octroi.stop())
        .await
        .unwrap();
}

/// Opens the accounts; those that have a licence in use.
async fn open_accounts(octroi: &AllInOne) -> Vec<String> {
    let operator = octroi.operator();
    let mut customers = Vec::new();
    let mut opening = JoinSet::new();
    for number in 0..OPENED {
        if opening.len() == AT_ONCE {
            customers.extend(opening.join_next().await.unwrap().unwrap());
        }
        let operator = operator.clone();
        opening.spawn(async move {
            let id = format!("acme-{number:03}");
            if number % CUSTOMER != 0 {
                Customer::newcomer(operator, &id).await;
                return None;
            }
            let customer = Customer::paying(operator, &id).await;
            customer.buys("office", &[(BUSINESS, 1)]).await;
            customer.activates("office", 1, "sales").await;
            Some(id)
        });
    }
    customers.extend(opening.join_all().await.into_iter().flatten());
    let sql = octroi.sql().await;
    converged(&sql).await;
    for schema in ServiceName::ALL {
        let copied = format!(
            "INSERT INTO {schema}.account
             SELECT (jsonb_populate_record(model, jsonb_build_object('account', 'more-' || n))).*
             FROM {schema}.account AS model, generate_series(1, {}) AS n WHERE model.account = 'acme-001'",
            ACCOUNTS - OPENED
        );
        sql.batch_execute(&copied).await.unwrap();
    }
    customers
}

/// Lets the next month end; the request that invoices it.
async fn next_month(octroi: &AllInOne, at_month: usize) -> CreateBillRunRequest {
    let month = at_month + 2;
    let time = at(&format!("2026-{:02}-01T08:00:00Z", month + 1));
    let time = Some(to_proto(time));
    let mut clock = octroi.operator().clock();
    clock.set_clock(SetClockRequest { time }).await.got();
    CreateBillRunRequest {
        bill_run_id: format!("month-{month}"),
        bill_run: Some(BillRun {
            month: format!("2026-{month:02}"),
            ..BillRun::default()
        }),
        request_id: request_id(),
    }
}

/// Asks for a run, again if it was asked for before; usage that is on its way is waited for.
pub async fn asks(by: Caller, request: CreateBillRunRequest) -> Result<BillRun, Status> {
    eventually("licensing's events are complete", async || {
        match by.bill_runs().create_bill_run(request.clone()).await {
            Ok(run) => Some(Ok(run.into_inner())),
            Err(status) if is_loss(&status) => Some(Err(status)),
            Err(status) => {
                Refused::of(&status).is(Code::FailedPrecondition, "USAGE_BEHIND");
                None
            }
        }
    })
    .await
}

/// A run as it is; one that nobody has heard of if its beginning was lost.
async fn known(octroi: &AllInOne, request: &CreateBillRunRequest) -> BillRun {
    let name = format!("billRuns/{}", request.bill_run_id);
    let mut runs = octroi.operator().bill_runs();
    match runs.get_bill_run(GetBillRunRequest { name }).await {
        Ok(run) => run.into_inner(),
        Err(status) => {
            Refused::of(&status).is(Code::NotFound, "NOT_FOUND");
            BillRun::default()
        }
    }
}

/// Asks for a run and kills the process in the middle of it.
async fn bill_until_killed(
    octroi: &mut AllInOne,
    request: &CreateBillRunRequest,
    moment: Moment,
    database: bool,
    chance: &mut Chance,
) {
    let held = octroi.sql().await;
    let (lock, waiting) = match moment {
        Moment::Numbering => ("BEGIN; LOCK TABLE billing.series IN SHARE MODE", "-- take"),
        Moment::SecondChunk => (
            "BEGIN; SELECT FROM billing.account ORDER BY account DESC LIMIT 1 FOR UPDATE",
            "-- hold_accounts",
        ),
        Moment::Any => ("", ""),
    };
    held.batch_execute(lock).await.unwrap();
    let sql = octroi.sql().await;
    let asking = asks(octroi.operator(), request.clone());
    let killing = async {
        if let Moment::Any = moment {
            chance.pause(KILL_WITHIN).await;
        } else {
            eventually("the run waits", async || {
                let waits = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND starts_with(query, $1)";
                let waits = sql.query(waits, &[&waiting]).await.unwrap();
                (!waits.is_empty()).then_some(())
            })
            .await;
        }
        octroi.kill(database);
    };
    let (asked, ()) = tokio::join!(asking, killing);
    if let Err(status) = asked {
        assert!(is_loss(&status), "{status:?}");
    }
}

/// Holds a completed run to what it issued.
fn judge(run: &BillRun, invoices: &[&Invoice]) {
    assert_eq!(run.state(), bill_run::State::Completed);
    let customers = OPENED / CUSTOMER;
    let sizes = [ACCOUNTS, customers, ACCOUNTS - customers, 0, 0];
    let said = [
        run.accounts,
        run.invoices,
        run.skipped,
        run.not_due,
        run.failed,
    ];
    assert_eq!(said.map(|count| usize::try_from(count).unwrap()), sizes);
    let accounts: BTreeSet<_> = invoices
        .iter()
        .map(|one| one.name.split('/').nth(1).unwrap())
        .collect();
    assert_eq!((invoices.len(), accounts.len()), (customers, customers));
    for one in invoices {
        assert_eq!(one.kind(), invoice::Kind::BillRun);
    }
}
