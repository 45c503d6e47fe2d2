//! Calls one by one.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use argon2::{Algorithm, Argon2, Params, Version};
use octroi_api::billing::v1::CreateAccountRequest;
use octroi_api::licensing::v1::license_service_client::LicenseServiceClient;
use octroi_api::licensing::v1::{ActivateLicenseRequest, GetLicenseRequest};
use octroi_platform::db::DEFAULT_POOL;
use octroi_tests::harness::{Answer as _, Customer, Refused, ServiceName, account};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::fill::{GROUP, licensed};
use crate::load::{Seen, Until, closed, open};
use crate::naive::{ECHO, Naive};
use crate::report::{Bar, Report};
use crate::run::Run;
use crate::statement::{SAMPLE, pgbench, statements};

/// Calls in flight where it is about what one costs, over as many connections as a busy peer has.
const IN_FLIGHT: u64 = 32;
/// Writes in flight.
const WRITES: u64 = 8;

pub fn measure(run: &mut Run, report: &mut Report) {
    let licenses = run.size.pick(200, 10_000);
    let customer = licensed(run, "bench", licenses);
    reads(run, report, &customer, licenses);
    accounts(run, report);
    activations(run, report, &customer);
}

/// The request for a licence by its place in a walk over all of them.
fn request(customer: &Customer, licenses: u64, number: u64) -> GetLicenseRequest {
    let number = number.wrapping_mul(7_919) % licenses + 1;
    let number = i32::try_from(number).unwrap();
    let name = customer.license_name(GROUP, number);
    GetLicenseRequest { name }
}

/// One GetLicense of that walk. How often such a call was refused is counted.
fn read(
    (customer, licenses): &(Customer, u64),
    number: u64,
    refused: &Arc<AtomicU64>,
) -> impl Future<Output = ()> + use<> {
    let request = request(customer, *licenses, number);
    let (mut client, refused) = (customer.by.licenses(), Arc::clone(refused));
    async move {
        while let Err(status) = client.get_license(request.clone()).await {
            refused.fetch_add(1, Ordering::Relaxed);
            told_to_wait(&status).await;
        }
    }
}

/// What is too much at once is told to come again, which is a part of how long it takes.
async fn told_to_wait(status: &Status) {
    let refused = Refused::of(status);
    refused.is(Code::ResourceExhausted, "TOO_MANY_CALLS");
    tokio::time::sleep(refused.retry.unwrap()).await;
}

/// GetLicense under a closed load.
pub fn get_license(run: &Run, customer: &Customer, licenses: u64, time: Duration) -> Seen {
    let (of, refused) = ((customer.clone(), licenses), Arc::default());
    let until = Until {
        time,
        calls: u64::MAX,
    };
    run.calls(async move {
        let call = move |number| read(&of, number, &refused);
        closed(IN_FLIGHT, until, call).await
    })
}

fn reads(run: &Run, report: &mut Report, customer: &Customer, licenses: u64) {
    let time = Duration::from_millis(run.size.pick(300, 4_000));
    let sample = statements(run, async {
        let name = customer.license_name(GROUP, SAMPLE.parse().unwrap());
        let mut licenses = customer.by.licenses();
        licenses.get_license(GetLicenseRequest { name }).await.got();
    });
    assert_eq!(
        (sample.len(), sample[0].len()),
        (1, 1),
        "one read: {sample:?}"
    );
    let mut database = run.installation.plan().databases.licensing.clone();
    database.options("-c search_path=licensing");
    let naive = Naive::start(database, DEFAULT_POOL, sample[0][0].sql.clone());
    let address = run.serves(naive);
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let channel = run.calls(async move { endpoint.tcp_nodelay(true).connect().await.unwrap() });

    let idle = run.idle();
    let (mut ours, mut theirs, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    // One after the other, over and over: what else the machine does falls on all alike.
    for _ in 0..run.size.pick(1, 5) {
        ours.push(get_license(run, customer, licenses, time));
        theirs.push(naive_license(run, &channel, customer, licenses, time));
        bare.push(echo(run, &channel, customer, licenses, time));
    }
    let cost = |seen: &[Seen]| median(seen.iter().map(|it| it.cost(idle)).collect());
    report.ratio(
        "GetLicense, processor time",
        "µs",
        cost(&ours),
        ("tonic + deadpool, same SQL", cost(&theirs)),
        Bar::AtMost(1.2),
    );
    report.figure("a bare tonic echo, processor time", "µs", cost(&bare));
    report.figure("at rest, of a processor", "µs/s", idle * 1e6);
    let rate = |seen: &[Seen]| median(seen.iter().map(Seen::rate).collect());
    report.ratio(
        "GetLicense, 32 in flight",
        "calls/s",
        rate(&ours),
        ("tonic + deadpool, same SQL", rate(&theirs)),
        Bar::AtLeast(0.8),
    );
    let steady = 0.8 * rate(&ours);
    let refused = Arc::<AtomicU64>::default();
    let busy = {
        let (of, refused) = ((customer.clone(), licenses), Arc::clone(&refused));
        run.calls(async move {
            let call = move |number| read(&of, number, &refused);
            open(steady, time, call).await
        })
    };
    report.ratio(
        "GetLicense at 80 % of that, p99",
        "µs",
        busy.latency(0.99),
        ("its p50", busy.latency(0.5)),
        Bar::AtMost(2.0),
    );
    let refused = refused.load(Ordering::Relaxed) as f64;
    report.figure("refused meanwhile", "calls", refused);
    let steady = 0.8 * rate(&theirs);
    let customer = customer.clone();
    let busy = run.calls(async move {
        let client = LicenseServiceClient::new(channel);
        let call = move |number| {
            let request = request(&customer, licenses, number);
            let mut client = client.clone();
            async move {
                client.get_license(request).await.unwrap();
            }
        };
        open(steady, time, call).await
    });
    for (what, part) in [("p50", 0.5), ("p99", 0.99)] {
        let what = format!("tonic + deadpool at 80 % of its own, {what}");
        report.figure(&what, "µs", busy.latency(part));
    }
}

fn naive_license(
    run: &Run,
    channel: &Channel,
    customer: &Customer,
    licenses: u64,
    time: Duration,
) -> Seen {
    let (channel, customer) = (channel.clone(), customer.clone());
    let calls = u64::MAX;
    run.calls(async move {
        let client = LicenseServiceClient::new(channel);
        let call = move |number| {
            let request = request(&customer, licenses, number);
            let mut client = client.clone();
            async move {
                client.get_license(request).await.unwrap();
            }
        };
        closed(IN_FLIGHT, Until { time, calls }, call).await
    })
}

fn echo(run: &Run, channel: &Channel, customer: &Customer, licenses: u64, time: Duration) -> Seen {
    let (channel, customer) = (channel.clone(), customer.clone());
    let calls = u64::MAX;
    run.calls(async move {
        let call = move |number| {
            let request = Request::new(request(&customer, licenses, number));
            let mut client = Grpc::new(channel.clone());
            async move {
                client.ready().await.unwrap();
                let path = PathAndQuery::from_static(ECHO);
                let codec = ProstCodec::<GetLicenseRequest, GetLicenseRequest>::default();
                client.unary(request, path, codec).await.unwrap();
            }
        };
        closed(IN_FLIGHT, Until { time, calls }, call).await
    })
}

/// The request for an account by its number.
pub fn new_account(number: &str) -> CreateAccountRequest {
    let id = format!("new-{number}");
    CreateAccountRequest {
        account: Some(account(&id)),
        account_id: id,
        ..CreateAccountRequest::default()
    }
}

/// CreateAccount under a closed load, the numbers counted from a first.
pub fn create_accounts(run: &Run, (in_flight, from): (u64, u64), until: Until) -> Seen {
    // Several connections, as several callers have.
    let callers: Vec<_> = run.waits(async {
        let callers = (0..4).map(|_| run.installation.operator());
        callers.collect()
    });
    run.calls(async move {
        let call = move |number: u64| {
            let request = new_account(&(from + number).to_string());
            let mut client = callers[(number % 4) as usize].accounts();
            async move {
                while let Err(status) = client.create_account(request.clone()).await {
                    told_to_wait(&status).await;
                }
            }
        };
        closed(in_flight, until, call).await
    })
}

fn accounts(run: &Run, report: &mut Report) {
    let time = Duration::from_millis(run.size.pick(500, 8_000));
    let operator = run.waits(async { run.installation.operator() });
    let sample = statements(run, async {
        let request = new_account(SAMPLE);
        operator.accounts().create_account(request).await.got();
    });
    let database = &run.installation.plan().databases.billing;
    let pgbench = |from| pgbench(run, database, "billing", &sample, (WRITES, time, from));
    let until = Until {
        time,
        calls: 1_000_000,
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..run.size.pick(1, 3_u64) {
        theirs.push(pgbench(100_000_000 + round * 20_000_000));
        let numbers = (WRITES, 10_000_000 + round * 1_000_000);
        ours.push(create_accounts(run, numbers, until).rate());
        run.waits(run.installation.drained());
        // What pgbench wrote is no fact that anybody could read.
        run.sql("DELETE FROM billing.delivery");
    }
    report.ratio(
        "CreateAccount, 8 in flight",
        "calls/s",
        median(ours),
        ("pgbench, same statements", median(theirs)),
        Bar::AtLeast(0.5),
    );
}

fn activations(run: &mut Run, report: &mut Report, customer: &Customer) {
    let count = run.size.pick(20, 1_000);
    let activation = |number: u64| -> ActivateLicenseRequest {
        let login = format!("user-{number}");
        customer.activation(GROUP, i32::try_from(number).unwrap(), &login)
    };
    let sample = statements(run, async {
        let request = activation(SAMPLE.parse().unwrap());
        customer.by.licenses().activate_license(request).await.got();
    });
    run.waits(run.installation.drained());
    // What follows from an activation is no part of it, and pgbench does none of that: a hash would share its processor
    // with the last activation's deliveries.
    for service in [ServiceName::Billing, ServiceName::Notification] {
        run.stops(service);
    }
    let requests: Vec<_> = (1..=count).map(activation).collect();
    let by = customer.by.clone();
    let before = run.hashed();
    let seen = run.calls(async move {
        let call = move |number: u64| {
            let (request, mut client) = (requests[number as usize].clone(), by.licenses());
            async move {
                client.activate_license(request).await.got();
            }
        };
        let time = Duration::from_secs(600);
        closed(1, Until { time, calls: count }, call).await
    });
    let hash = (run.hashed() - before).as_secs_f64() * 1e6 / count as f64;
    let alone = hash_time(count.min(50));
    let time = Duration::from_millis(run.size.pick(500, 8_000));
    let more = 2_000_000;
    run.sql(&format!(
        "INSERT INTO licensing.license (account, group_id, number, offer, order_id, state, created_at, updated_at)
         SELECT account, group_id, n, offer, order_id, 'UNASSIGNED', created_at, created_at
         FROM licensing.license, generate_series({more}, {more} + 100000) n WHERE account = 'bench' AND number = 1;
         UPDATE licensing.group_offer SET used = used + 100001 WHERE account = 'bench';"
    ));
    let database = &run.installation.plan().databases.licensing;
    let floor = pgbench(run, database, "licensing", &sample, (1, time, more));
    run.sql("DELETE FROM licensing.delivery");
    let without = 1e6 / (seen.mean() - hash);
    report.ratio(
        "ActivateLicense, one at a time, its hash aside",
        "calls/s",
        without,
        ("pgbench, same statements", floor),
        Bar::AtLeast(0.8),
    );
    report.figure(
        "ActivateLicense, one at a time, p50",
        "µs",
        seen.latency(0.5),
    );
    report.figure("its mean", "µs", seen.mean());
    report.figure("its hash, waits for a processor with it", "µs", hash);
    report.figure("a hash alone", "µs", alone.as_secs_f64() * 1e6);
}

/// How long a password's hash takes.
fn hash_time(count: u64) -> Duration {
    let params = Params::new(19_456, 2, 1, Some(32)).unwrap();
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut times = Vec::new();
    for _ in 0..count {
        let begun = Instant::now();
        let mut hash = [0; 32];
        argon2
            .hash_password_into(b"Blue-Kettle-42", b"sixteen bytes...", &mut hash)
            .unwrap();
        black_box(hash);
        times.push(begun.elapsed());
    }
    times.sort();
    times[times.len() / 2]
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
