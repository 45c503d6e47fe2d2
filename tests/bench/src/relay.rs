//! Facts on their way to the other services.

use std::time::{Duration, Instant};

use octroi_tests::harness::ServiceName;

use crate::calls::create_accounts;
use crate::load::{Until, watching};
use crate::report::{Bar, Report};
use crate::run::Run;

pub fn measure(run: &Run, report: &mut Report) {
    let watched = run.installation.watched(ServiceName::Billing);
    let age = async || -> f64 {
        let mut oldest = 0.0_f64;
        for subscriber in ["licensing", "notification"] {
            let series = format!("octroi_delivery_age_seconds{{subscriber=\"{subscriber}\"}}");
            oldest = oldest.max(watched.shows(&series).await.unwrap_or_default());
        }
        oldest
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
