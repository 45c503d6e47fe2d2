//! Facts on their way to the other services.

use std::time::{Duration, Instant};

use octroi_tests::harness::{BUSINESS, Customer};

use crate::calls::create_accounts;
use crate::load::{Until, watching};
use crate::report::{Bar, Report};
use crate::run::Run;

pub fn measure(run: &Run, report: &mut Report) {
    accounts(run, report);
    invoices(run, report);
}

/// Facts that calls record, while they are under way.
fn accounts(run: &Run, report: &mut Report) {
    let age = async || -> f64 {
        let age =
            "SELECT coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8
                   FROM billing.delivery";
        let row = run.installation.sql.query_one(age, &[]).await.unwrap();
        row.get(0)
    };
    let count = run.size.pick(200, 20_000);
    for (round, in_flight) in [8, 128].into_iter().enumerate() {
        let until = Until {
            time: Duration::from_secs(300),
            calls: count,
        };
        let from = 1_000_000 * (round as u64 + 1);
        let (seen, ages) = std::thread::scope(|scope| {
            let load = scope.spawn(|| create_accounts(run, (in_flight, from), until));
            let loaded = async {
                while !load.is_finished() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            let ((), ages) = run.waits(watching(age, loaded));
            (load.join().unwrap(), ages)
        });
        let begun = Instant::now();
        run.waits(run.installation.drained());
        let rest = begun.elapsed();
        let p99 = ages[(ages.len() - 1) * 99 / 100];
        report.figure(
            &format!("CreateAccount, {in_flight} in flight"),
            "calls/s",
            seen.rate(),
        );
        report.ratio(
            &format!("oldest delivery meanwhile, p99, {in_flight} in flight"),
            "s",
            p99,
            ("a second", 1.0),
            Bar::AtMost(1.0),
        );
        report.figure("the rest was delivered after", "s", rest.as_secs_f64());
    }
}

/// As many invoices as a month's end brings, told to notification at once, and orders meanwhile. Their accounts are not
/// known to it, so that nothing but the intake is measured: no e-mail of theirs is sent.
fn invoices(run: &Run, report: &mut Report) {
    let orders = run.size.pick(5, 100);
    let customer = run.customer("buyer");
    run.waits(customer.buys("office", &[(BUSINESS, 1)]));
    let mut queued = 1;
    let idle: Vec<f64> = (0..orders)
        .map(|_| run.waits(order_mailed(run, &customer, &mut queued)))
        .collect();
    let count = run.size.pick(500, 100_000);
    run.waits(issue(run, count));
    let are_left = async || -> bool {
        let left = "SELECT EXISTS (SELECT FROM billing.delivery WHERE subscriber = 'notification')";
        run.installation
            .sql
            .query_one(left, &[])
            .await
            .unwrap()
            .get(0)
    };
    let begun = Instant::now();
    let (mut meanwhile, mut took) = (Vec::new(), None);
    run.sql("UPDATE billing.delivery SET parked = false WHERE subscriber = 'notification'");
    while took.is_none() {
        meanwhile.push(run.waits(order_mailed(run, &customer, &mut queued)));
        took = (!run.waits(are_left())).then(|| begun.elapsed());
    }
    report.ratio(
        "invoices told to notification",
        "events/s",
        count as f64 / took.unwrap().as_secs_f64(),
        ("5,000 a second", 5_000.0),
        Bar::AtLeast(1.0),
    );
    for (name, of) in [("p50", 0.5), ("p99", 0.99)] {
        report.ratio(
            &format!("an order's e-mail is queued meanwhile, {name}"),
            "ms",
            quantile(&mut meanwhile, of),
            ("at rest", quantile(&mut idle.clone(), of)),
            Bar::AtMost(2.0),
        );
    }
    report.figure("orders meanwhile", "orders", meanwhile.len() as f64);
}

/// Buys a licence in a group of its own, since one holds three hundred; how long after the answer its e-mail is queued, in milliseconds.
async fn order_mailed(run: &Run, customer: &Customer, queued: &mut i64) -> f64 {
    customer
        .buys(&format!("office-{queued}"), &[(BUSINESS, 1)])
        .await;
    let begun = Instant::now();
    let sql = "SELECT count(*) FROM notification.email WHERE account = $1 AND template = 'order-completed'";
    while run
        .installation
        .sql
        .query_one(sql, &[&"buyer"])
        .await
        .unwrap()
        .get::<_, i64>(0)
        <= *queued
    {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    *queued += 1;
    begun.elapsed().as_secs_f64() * 1_000.0
}

/// Records invoices of as many accounts, and holds their deliveries.
async fn issue(run: &Run, count: usize) {
    for first in (0..count).step_by(10_000) {
        let numbers = first..count.min(first + 10_000);
        run.installation.records_invoices(numbers, true).await;
    }
}

fn quantile(seen: &mut [f64], of: f64) -> f64 {
    seen.sort_by(f64::total_cmp);
    let at = ((seen.len() - 1) as f64 * of).round() as usize;
    seen[at]
}
