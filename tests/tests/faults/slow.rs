//! Bill runs and accounts that take too long: for a reason of their own, or because everybody does.

use std::time::Duration;

use octroi_api::billing::v1::{BillRun, GetBillRunRequest, bill_run};
use octroi_platform::{Call, Clock, Db, Error};
use octroi_tests::harness::{Answer as _, BUSINESS, Customer, Installation, eventually, within};

/// A run waits for a lock and tries again, with pauses; on a busy machine that takes its time.
const PATIENCE: Duration = Duration::from_secs(240);

async fn customers(octroi: &Installation) -> Vec<Customer> {
    let mut customers = Vec::new();
    for id in ["acme", "bert", "zoe"] {
        let customer = octroi.customer(id).await;
        customer.buys("office", &[(BUSINESS, 1)]).await;
        customer.activates("office", 1, "sales").await;
        customers.push(customer);
    }
    octroi.advance_to("2026-03-02T08:00:00Z").await;
    customers
}

async fn state(octroi: &Installation, run: &BillRun) -> BillRun {
    let name = run.name.clone();
    let mut runs = octroi.operator().bill_runs();
    runs.get_bill_run(GetBillRunRequest { name }).await.got()
}

async fn ended(octroi: &Installation, run: &BillRun) -> BillRun {
    within(PATIENCE, "the run ends", async || {
        let run = state(octroi, run).await;
        (run.state() == bill_run::State::Completed).then_some(run)
    })
    .await
}

fn figures(run: &BillRun) -> [i32; 4] {
    [run.accounts, run.invoices, run.skipped, run.failed]
}

/// One account is locked by somebody who does not let go: it alone is left to a later run.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_takes_too_long_is_parked_alone() {
    let octroi = Installation::start().await;
    let customers = customers(&octroi).await;
    let lock = "BEGIN; SELECT FROM billing.account WHERE account = 'bert' FOR UPDATE";
    octroi.sql.batch_execute(lock).await.unwrap();
    let first = octroi.begins_to_bill("2026-02", false).await;
    // It waits for its turn behind the first.
    let second = octroi.begins_to_bill("2026-02", false).await;
    let first = ended(&octroi, &first).await;
    assert_eq!(figures(&first), [3, 2, 0, 1], "{first:?}");
    let failure = &first.failures[0];
    assert_eq!(
        (failure.account.as_str(), failure.reason.as_str()),
        ("accounts/bert", "CONFLICT")
    );
    assert_eq!(customers[0].invoices().await.len(), 1);
    assert_eq!(customers[2].invoices().await.len(), 1);

    octroi.sql.batch_execute("ROLLBACK").await.unwrap();
    let second = ended(&octroi, &second).await;
    assert_eq!(figures(&second), [3, 1, 2, 0], "{second:?}");
    assert_eq!(customers[1].invoices().await.len(), 1);
    octroi.finish().await;
}

/// A range stays with whoever works on it, also while it looks for the account that holds it up.
#[tokio::test(flavor = "multi_thread")]
async fn a_range_that_takes_long_stays_with_its_worker() {
    let octroi = Installation::start().await;
    customers(&octroi).await;
    let lock = "BEGIN; SELECT FROM billing.account WHERE account = 'acme' FOR UPDATE";
    octroi.sql.batch_execute(lock).await.unwrap();
    let run = octroi.begins_to_bill("2026-02", false).await;
    let lease = async || {
        let lease = "SELECT lease_token::text, lease_until::text FROM billing.bill_run_range";
        let row = octroi.sql.query_opt(lease, &[]).await.unwrap()?;
        Some((row.get::<_, String>(0), row.get::<_, String>(1)))
    };
    let (token, until) = eventually("it is leased", lease).await;
    let renewed = async || lease().await.filter(|(_, later)| *later > until);
    let (still, _) = within(PATIENCE, "the lease changes", renewed).await;
    assert_eq!(still, token, "another worker has it");
    octroi.sql.batch_execute("ROLLBACK").await.unwrap();
    let run = ended(&octroi, &run).await;
    assert_eq!(figures(&run), [3, 3, 0, 0], "{run:?}");
    octroi.finish().await;
}

/// What takes too long for everybody parks nobody: the run waits, and goes on when it has passed.
#[tokio::test(flavor = "multi_thread")]
async fn what_takes_too_long_for_everybody_parks_nobody() {
    let octroi = Installation::start().await;
    customers(&octroi).await;
    let cancel = "
        CREATE SEQUENCE billing.cancelled;
        CREATE FUNCTION billing.cancel() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM nextval('billing.cancelled');
            RAISE EXCEPTION 'canceling statement due to statement timeout' USING ERRCODE = 'query_canceled';
        END $$;
        GRANT ALL ON SEQUENCE billing.cancelled TO PUBLIC;
        CREATE TRIGGER cancel BEFORE INSERT ON billing.invoice FOR EACH ROW EXECUTE FUNCTION billing.cancel()";
    octroi.sql.batch_execute(cancel).await.unwrap();
    let run = octroi.begins_to_bill("2026-02", false).await;
    // Whole, in tens, alone; then alone again, and with the next account.
    let often = "SELECT 1 FROM billing.cancelled WHERE last_value >= 5";
    within(PATIENCE, "the account was tried often", async || {
        octroi.sql.query_opt(often, &[]).await.unwrap()
    })
    .await;
    let waiting = state(&octroi, &run).await;
    assert_eq!(waiting.state(), bill_run::State::Running);
    assert_eq!(figures(&waiting), [0; 4], "{waiting:?}");
    let passed = "DROP FUNCTION billing.cancel() CASCADE";
    octroi.sql.batch_execute(passed).await.unwrap();
    let run = ended(&octroi, &run).await;
    assert_eq!(figures(&run), [3, 3, 0, 0], "{run:?}");
    octroi.finish().await;
}

/// A single account that is cancelled time and again is parked with that reason.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_whose_statements_are_cancelled_is_parked_alone() {
    let octroi = Installation::start().await;
    customers(&octroi).await;
    let cancel = "
        CREATE FUNCTION billing.cancel() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            RAISE EXCEPTION 'canceling statement due to statement timeout' USING ERRCODE = 'query_canceled';
        END $$;
        CREATE TRIGGER cancel BEFORE INSERT ON billing.invoice
            FOR EACH ROW WHEN (NEW.account = 'zoe') EXECUTE FUNCTION billing.cancel()";
    octroi.sql.batch_execute(cancel).await.unwrap();
    let run = octroi.begins_to_bill("2026-02", false).await;
    let run = ended(&octroi, &run).await;
    assert_eq!(figures(&run), [3, 2, 0, 1], "{run:?}");
    let failure = &run.failures[0];
    assert_eq!(
        (failure.account.as_str(), failure.reason.as_str()),
        ("accounts/zoe", "TOOK_TOO_LONG")
    );
    let passed = "DROP FUNCTION billing.cancel() CASCADE";
    octroi.sql.batch_execute(passed).await.unwrap();
    let again = octroi.bills("2026-02").await;
    assert_eq!(figures(&again), [3, 1, 2, 0], "{again:?}");
    octroi.finish().await;
}

/// Of reads that travel together one fails and takes the others along: its reason is told, and not theirs, even where
/// all are answered before anyone looks, and whichever is looked at first.
#[tokio::test]
async fn joined_reads_tell_why_the_first_of_them_failed() {
    let octroi = Installation::start().await;
    octroi.customer("bert").await;
    let config = &octroi.plan().databases.billing;
    let db = Db::new(config, "billing", 1, Clock::system()).unwrap();
    let lock = "SELECT FROM billing.account WHERE account = 'bert' FOR UPDATE";
    let (held, plain) = (
        "SELECT FROM account WHERE account = 'bert' FOR UPDATE",
        "SELECT 1",
    );
    // From here on the connection sends each of them at once.
    db.query(held, &[]).await.unwrap();
    db.query(plain, &[]).await.unwrap();
    octroi.sql.batch_execute("BEGIN").await.unwrap();
    octroi.sql.execute(lock, &[]).await.unwrap();
    for looks in 3..9 {
        let call = Call::background(Clock::system().now(), "test");
        let soon = "SET LOCAL lock_timeout = '50ms'";
        let (tx, _) = db.begin_work(&call, soon, &[]).await.unwrap();
        let busy = async {
            for _ in 0..looks {
                tokio::task::yield_now().await;
            }
            // Holds up this test's only thread, so that both answers have arrived at the next look.
            std::thread::sleep(Duration::from_millis(200));
            Ok(())
        };
        let joined = tokio::try_join!(tx.query(held, &[]), tx.query(plain, &[]), busy);
        assert!(
            matches!(joined, Err(Error::Conflict(_))),
            "{looks}: {joined:?}"
        );
        tx.rollback().await;
    }
    octroi.sql.batch_execute("ROLLBACK").await.unwrap();
    octroi.finish().await;
}
