//! Bill runs where it hurts: accounts that fail, accounts that are not due, usage told late, two runs on two
//! instances, facts that arrive in any order, and a database that keeps what was issued as it is.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops where it fails"
)]

mod any_order;
mod chunks;
mod late;
mod sharing;
mod zones;

use octroi_api::billing::v1::{
    BillRun, CreateAccountRequest, CreateBillRunRequest, GetBillRunRequest, bill_run, invoice,
};
use octroi_tests::harness::{
    Answer as _, BUSINESS, Customer, ENTERPRISE, Installation, Price, ServiceName, account, amount,
    at, eventually,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

async fn customer_in(octroi: &Installation, id: &str, country: &str, zone: &str) -> Customer {
    let by = octroi.operator();
    let mut account = account(id);
    account.time_zone = zone.to_owned();
    account.address.as_mut().unwrap().country_code = country.to_owned();
    let request = CreateAccountRequest {
        account_id: id.to_owned(),
        account: Some(account),
        ..CreateAccountRequest::default()
    };
    by.accounts().create_account(request).await.got();
    let customer = Customer {
        id: id.to_owned(),
        by,
    };
    customer.pays_with("test-success").await;
    customer
}

fn figures(run: &BillRun) -> [i32; 5] {
    [
        run.accounts,
        run.invoices,
        run.skipped,
        run.not_due,
        run.failed,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_invoices_whom_it_can_and_a_later_one_the_rest() {
    let octroi = Installation::start().await;
    let mut customers = Vec::new();
    for (id, country, zone) in [
        ("berlin", "DE", "Europe/Paris"),
        ("idle", "FR", "Europe/Paris"),
        ("pago", "FR", "Pacific/Pago_Pago"),
        ("paris", "FR", "Europe/Paris"),
    ] {
        let german =
            "INSERT INTO billing.tax_rate VALUES ($1, 'DE', 'S', 190000, '2007-01-01', now())";
        if country == "DE" {
            // Its order needs a rate; the rate of the month's end is taken away below.
            octroi.sql.execute(german, &[&Uuid::nil()]).await.unwrap();
        }
        let customer = customer_in(&octroi, id, country, zone).await;
        if id != "idle" {
            customer.buys("office", &[(BUSINESS, 3)]).await;
            customer.activates("office", 1, "sales").await;
        }
        customers.push(customer);
    }
    let [berlin, idle, pago, paris] = customers.as_slice() else {
        panic!("four customers");
    };
    octroi
        .sql
        .batch_execute(
            "ALTER TABLE billing.tax_rate DISABLE TRIGGER tax_rate_frozen;
             DELETE FROM billing.tax_rate WHERE country = 'DE';
             ALTER TABLE billing.tax_rate ENABLE TRIGGER tax_rate_frozen",
        )
        .await
        .unwrap();

    octroi
        .asks_to_bill("2026-02", false)
        .await
        .refused()
        .is(tonic::Code::FailedPrecondition, "MONTH_NOT_ENDED");
    octroi
        .asks_to_bill("2026-2", false)
        .await
        .refused()
        .names(&["bill_run.month"]);
    octroi.advance_to("2026-02-28T23:05:00Z").await;
    let expected = paris.preview("2026-02").await;
    let dry = octroi.tries_to_bill("2026-02").await;
    assert_eq!(figures(&dry), [4, 1, 1, 1, 1], "{dry:?}");
    assert_eq!(dry.failures[0].reason, "TAX_RATE_MISSING");
    assert_eq!(dry.failures[0].account, berlin.name());
    assert!(paris.invoices().await.is_empty());
    let run = octroi.bills("2026-02").await;
    assert_eq!(figures(&run), figures(&dry));
    assert_eq!((&run.totals, &run.failures), (&dry.totals, &dry.failures));
    let issued = paris.invoices().await.remove(0);
    assert_eq!(
        amount(issued.total.as_ref()),
        amount(expected.total.as_ref())
    );
    assert_eq!(
        (&issued.lines, &issued.taxes),
        (&expected.lines, &expected.taxes)
    );
    assert_eq!(issued.due_date, "2026-03-31");
    assert!(issued.specimen && issued.mentions[0].starts_with("SPECIMEN"));

    octroi.advance_to("2026-03-02T00:00:00Z").await;
    octroi
        .sql
        .execute(
            "INSERT INTO billing.tax_rate VALUES ($1, 'DE', 'S', 190000, '2007-01-01', now())",
            &[&Uuid::nil()],
        )
        .await
        .unwrap();
    let later = octroi.bills("2026-02").await;
    assert_eq!(figures(&later), [4, 2, 2, 0, 0], "{later:?}");
    assert_eq!(berlin.invoices().await[0].taxes[0].rate_ppm, 190_000);
    assert_eq!(pago.invoices().await[0].number, "F-2026-000003");
    assert!(idle.invoices().await.is_empty());
    octroi.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_issued_stays_as_it_is() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    acme.activates("office", 1, "sales").await;
    octroi.advance_to("2026-03-02T08:00:00Z").await;
    octroi.bills("2026-02").await;
    let before = acme.invoices().await;
    for change in [
        "UPDATE billing.invoice SET total = total + 1, net = net + 1",
        "UPDATE billing.invoice SET state = 'PAID', pay_time = now(), due_date = due_date + 1",
        "DELETE FROM billing.invoice",
        "UPDATE billing.invoice_line SET description = ''",
        "UPDATE billing.invoice_line SET ends_of_day = peaks",
        "UPDATE billing.invoice_tax SET base = base",
        "INSERT INTO billing.invoice_line SELECT (jsonb_populate_record(charge, '{\"line\": 9}')).* FROM billing.invoice_line AS charge",
        "INSERT INTO billing.invoice_tax SELECT account, invoice, 'Z', 0, 0, 0 FROM billing.invoice_tax",
    ] {
        let refused = octroi.sql.batch_execute(change).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "OC002", "{change}");
    }
    assert_eq!(acme.invoices().await, before);
    assert_eq!(before[0].state(), invoice::State::Open);
    octroi.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_on_two_instances_invoice_everyone_once_but_who_fails() {
    const ACCOUNTS: i32 = 450;
    let octroi = Installation::start().await;
    octroi.newcomer("acme").await;
    octroi
        .sql
        .execute(
            "INSERT INTO billing.account
             SELECT (jsonb_populate_record(model, jsonb_build_object('account', 'a' || n))).*
             FROM billing.account AS model, generate_series(1, $1) AS n",
            &[&ACCOUNTS],
        )
        .await
        .unwrap();
    octroi
        .sql
        .execute(
            "INSERT INTO billing.usage_interval
             SELECT 'a' || n, 'office', 1, gen_random_uuid(), 'offers/apps-for-business', '2026-02-03', NULL
             FROM generate_series(1, $1) AS n",
            &[&ACCOUNTS],
        )
        .await
        .unwrap();
    octroi
        .sql
        .batch_execute(
            "CREATE FUNCTION billing.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 RAISE EXCEPTION 'not this one';
             END $$;
             CREATE TRIGGER refuse BEFORE INSERT ON billing.invoice
                 FOR EACH ROW WHEN (NEW.account = 'a7') EXECUTE FUNCTION billing.refuse()",
        )
        .await
        .unwrap();
    octroi.advance_to("2026-03-02T08:00:00Z").await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let shutdown = CancellationToken::new();
    let second = octroi_billing::start(
        octroi_billing::Settings {
            platform: octroi.plan().settings(ServiceName::Billing, Some(listener)),
            seller_file: None,
            specimen_seller: true,
        },
        shutdown.clone(),
    )
    .await
    .unwrap();
    let ask = |id: &str| {
        let bill_run_id = id.to_owned();
        let mut runs = octroi.operator().bill_runs();
        async move {
            let request = CreateBillRunRequest {
                bill_run_id: bill_run_id.clone(),
                bill_run: Some(BillRun {
                    month: "2026-02".to_owned(),
                    ..BillRun::default()
                }),
                ..CreateBillRunRequest::default()
            };
            eventually("the run begins", async || {
                runs.create_bill_run(request.clone()).await.ok()
            })
            .await;
            let name = format!("billRuns/{bill_run_id}");
            eventually("the run ends", async || {
                let run = runs
                    .get_bill_run(GetBillRunRequest { name: name.clone() })
                    .await
                    .got();
                (run.state() == bill_run::State::Completed).then_some(run)
            })
            .await
        }
    };
    let (one, two, three) = tokio::join!(ask("r1"), ask("r2"), ask("r3"));
    assert_eq!(one.invoices + two.invoices + three.invoices, ACCOUNTS - 1);
    assert_eq!([one.failed, two.failed, three.failed], [1; 3], "{one:?}");
    let row = octroi
        .sql
        .query_one(
            "SELECT count(*), count(DISTINCT account), count(DISTINCT number), max(number), min(number)
             FROM billing.invoice",
            &[],
        )
        .await
        .unwrap();
    let all = i64::from(ACCOUNTS - 1);
    assert_eq!([row.get::<_, i64>(0), row.get(1), row.get(2)], [all; 3]);
    assert_eq!(
        (row.get::<_, &str>(3), row.get::<_, &str>(4)),
        ("F-2026-000449", "F-2026-000001")
    );
    shutdown.cancel();
    second.stopped().await.unwrap();
}

/// Amounts that are exact one by one may be more together than one amount can be.
#[tokio::test(flavor = "multi_thread")]
async fn huge_amounts_harm_nobody_else() {
    let octroi = Installation::start().await;
    let price = Price {
        offer: ENTERPRISE,
        monthly: 5_000_000_000_000_000_000,
        setup: 0,
        policy: "PEAK",
    };
    octroi.price(price, at("2026-01-01T00:00:00Z")).await;
    for (id, offer) in [("a", ENTERPRISE), ("b", ENTERPRISE), ("c", BUSINESS)] {
        let customer = octroi.customer(id).await;
        customer.buys("office", &[(offer, 1)]).await;
        customer.activates("office", 1, "sales").await;
    }
    octroi.advance_to("2026-03-02T08:00:00Z").await;
    let dry = octroi.tries_to_bill("2026-02").await;
    let run = octroi.bills("2026-02").await;
    for run in [&dry, &run] {
        assert_eq!(figures(run), [3, 3, 0, 0, 0], "{run:?}");
        assert_eq!(amount(run.totals.first()), "120000000000000011.99 EUR");
    }
    octroi.finish().await;
}
