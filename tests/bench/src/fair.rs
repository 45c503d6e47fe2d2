//! What one caller's writes cost another caller's reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use octroi_api::billing::v1::GetAccountRequest;
use octroi_tests::harness::{Answer as _, Caller, Refused};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::calls::{median, new_account};
use crate::load::{Seen, Until, closed};
use crate::report::{Bar, Report};
use crate::run::Run;

/// What the writer saw.
struct Written {
    /// How long each of its calls was under way, answered or refused, ascending.
    answers: Vec<Duration>,
    /// A second.
    written: f64,
    refused: f64,
}

pub fn measure(run: &Run, report: &mut Report) {
    let reader = run.customer("reader").id;
    run.waits(run.installation.drained());
    // The reader has a thread of its own, which the writer's tasks do not keep busy.
    let reading = Builder::new_current_thread().enable_all().build().unwrap();
    let by = reading.block_on(async { run.installation.bound_to(&reader) });
    let time = Duration::from_millis(run.size.pick(300, 3_000));
    let loads = [32, 128, 500];
    let (mut alone, mut beside) = (Vec::new(), loads.map(|_| Vec::new()));
    let mut from = 1_000_000;
    for _ in 0..run.size.pick(1, 4) {
        for (at, in_flight) in loads.into_iter().enumerate() {
            alone.push(reads(&reading, &by, &reader, time));
            let (stop, writers) = (Arc::new(AtomicBool::new(false)), 4);
            let callers = (0..writers).map(|_| run.waits(async { run.installation.operator() }));
            let writing = writes(callers.collect(), (in_flight, from), Arc::clone(&stop));
            let seen = std::thread::scope(|scope| {
                let written = scope.spawn(|| run.calls(writing));
                std::thread::sleep(Duration::from_millis(500));
                let read = reads(&reading, &by, &reader, time);
                stop.store(true, Ordering::Relaxed);
                (read, written.join().unwrap())
            });
            beside[at].push(seen);
            from += 1_000_000;
            run.waits(run.installation.drained());
        }
    }
    let within = |part: f64, seen: &mut dyn Iterator<Item = &Seen>| {
        median(seen.map(|seen| seen.latency(part)).collect())
    };
    let idle = [0.5, 0.99].map(|part| within(part, &mut alone.iter()));
    report.figure("GetAccount, one at a time, p50", "µs", idle[0]);
    report.figure("the same, p99", "µs", idle[1]);
    for (in_flight, seen) in loads.into_iter().zip(&beside) {
        let told = format!("beside {in_flight} CreateAccount of another caller");
        let [p50, p99] = [0.5, 0.99].map(|part| within(part, &mut seen.iter().map(|(it, _)| it)));
        report.figure(&format!("{told}, p50"), "µs", p50);
        let what = format!("{told}, p99");
        report.ratio(&what, "µs", p99, ("alone", idle[1]), Bar::AtMost(3.0));
        let of =
            |figure: fn(&Written) -> f64| median(seen.iter().map(|(_, it)| figure(it)).collect());
        report.figure("CreateAccount meanwhile", "calls/s", of(|it| it.written));
        report.figure("refused meanwhile", "calls/s", of(|it| it.refused));
        report.figure(
            "answered or refused within, p99",
            "ms",
            of(|it| it.answers[(it.answers.len() - 1) * 99 / 100].as_secs_f64() * 1e3),
        );
    }
}

fn reads(reading: &Runtime, by: &Caller, account: &str, time: Duration) -> Seen {
    let by = by.clone();
    let request = GetAccountRequest {
        name: format!("accounts/{account}"),
    };
    let call = move |_| {
        let (request, mut client) = (request.clone(), by.accounts());
        async move {
            client.get_account(request).await.got();
        }
    };
    let until = Until {
        time,
        calls: u64::MAX,
    };
    reading.block_on(closed(1, until, call))
}

/// CreateAccount with so many in flight, the numbers counted from a first, by one caller who does as a refusal says.
async fn writes(
    callers: Vec<Caller>,
    (in_flight, from): (u64, u64),
    stop: Arc<AtomicBool>,
) -> Written {
    let next = Arc::new(AtomicU64::new(from));
    let begun = Instant::now();
    let mut writers: JoinSet<_> = (0..in_flight)
        .map(|writer| {
            let mut client = callers[writer as usize % callers.len()].accounts();
            let (next, stop) = (Arc::clone(&next), Arc::clone(&stop));
            async move {
                let (mut answers, mut refusals) = (Vec::new(), 0_u64);
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let sent = Instant::now();
                    let answer = client
                        .create_account(new_account(&number.to_string()))
                        .await;
                    answers.push(sent.elapsed());
                    if let Err(status) = answer {
                        refusals += 1;
                        let refused = Refused::of(&status);
                        sleep(refused.retry.expect("a delay")).await;
                    }
                }
                (answers, refusals)
            }
        })
        .collect();
    let (mut answers, mut refusals) = (Vec::new(), 0);
    while let Some(writer) = writers.join_next().await {
        let (its, refused) = writer.unwrap();
        answers.extend(its);
        refusals += refused;
    }
    answers.sort();
    let seconds = begun.elapsed().as_secs_f64();
    Written {
        written: (answers.len() as u64 - refusals) as f64 / seconds,
        refused: refusals as f64 / seconds,
        answers,
    }
}
