//! What a bench runs on: the services on threads of their own, so that what they cost can be told from what the load
//! costs, over a private PostgreSQL.

use std::collections::BTreeSet;
use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use octroi_platform::db::DEFAULT_POOL;
use octroi_server::Running;
use octroi_tests::harness::{Customer, Installation, Options, ServiceName};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, Config, NoTls};
use tokio_util::sync::CancellationToken;

use crate::Size;

/// The names of the threads that serve and of those that call, as the system keeps them.
const SERVING: &str = "serving";
const CALLING: &str = "calling";

/// A run of a bench.
pub struct Run {
    pub size: Size,
    pub installation: Installation,
    serving: Runtime,
    calling: Runtime,
    /// The serving threads that are none for blocking work.
    workers: BTreeSet<String>,
}

impl Run {
    pub fn start(size: Size, mail_rate: Option<u32>) -> Self {
        let serving = runtime(SERVING);
        let workers = loop {
            let workers: BTreeSet<_> = serving_threads().collect();
            if workers.len() == serving.metrics().num_workers() {
                break workers;
            }
            std::thread::yield_now();
        };
        let installation = serving.block_on(Installation::with(Options {
            pool_size: DEFAULT_POOL,
            watched: true,
            mail_rate,
            ..Options::default()
        }));
        Self {
            size,
            installation,
            serving,
            calling: runtime(CALLING),
            workers,
        }
    }

    /// Runs what calls, on its own threads.
    pub fn calls<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        // Spawned, so that nothing of it runs on the main thread.
        let spawned = self.calling.spawn(work);
        self.calling.block_on(spawned).unwrap()
    }

    /// Runs what is neither measured nor served.
    pub fn waits<T>(&self, work: impl Future<Output = T>) -> T {
        self.calling.block_on(work)
    }

    /// Starts something among what serves: the naive server.
    pub fn serves<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let spawned = self.serving.spawn(work);
        self.serving.block_on(spawned).unwrap()
    }

    /// The share of a processor that the services have when nobody calls: they look for due work, and at the test clock.
    pub fn idle(&self) -> f64 {
        let time = Duration::from_millis(self.size.pick(100, 1_000));
        let shares = (0..5).map(|_| {
            let before = served();
            std::thread::sleep(time);
            (served() - before).as_secs_f64() / time.as_secs_f64()
        });
        // What was done before is still followed by work at first.
        shares.fold(f64::INFINITY, f64::min)
    }

    /// How long the threads for blocking work have had a processor or waited for one so far: the hashes of passwords.
    pub fn hashed(&self) -> Duration {
        had_by(|thread| !self.workers.contains(thread), true)
    }

    /// A customer whose payments succeed, called from the calling threads.
    pub fn customer(&self, id: &str) -> Customer {
        self.waits(self.installation.customer(id))
    }

    /// Stops a service.
    pub fn stops(&mut self, service: ServiceName) {
        self.calling.block_on(self.installation.stop(service));
    }

    /// Another instance of billing, among what serves.
    pub fn second_billing(&self, shutdown: &CancellationToken) -> Running {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let plan = self.installation.plan();
        let settings = octroi_billing::Settings {
            platform: plan.settings(ServiceName::Billing, Some(listener)),
            seller_file: None,
            specimen_seller: true,
        };
        let started = octroi_billing::start(settings, shutdown.clone());
        self.serving.block_on(started).unwrap()
    }

    /// The id of the server's first process.
    pub fn server(&self) -> u32 {
        let lock = self.data_directory().join("postmaster.pid");
        let lock = fs::read_to_string(lock).unwrap();
        lock.lines().next().unwrap().parse().unwrap()
    }

    /// Where the server keeps its data.
    pub fn data_directory(&self) -> PathBuf {
        let row = self.waits(self.installation.sql.query_one("SHOW data_directory", &[]));
        PathBuf::from(row.unwrap().get::<_, String>(0))
    }

    /// Ends everything; the harness checks nothing, since a bench fills tables with what no installation has.
    pub fn stop(self) {
        let Self {
            installation,
            serving,
            calling,
            ..
        } = self;
        calling.block_on(installation.abandon());
        serving.shutdown_timeout(Duration::from_secs(5));
    }

    pub fn postgres_version(&self) -> String {
        let told =
            "SELECT current_setting('server_version') || ', fsync ' || current_setting('fsync')";
        let row = self.waits(self.installation.sql.query_one(told, &[]));
        row.unwrap().get(0)
    }

    /// Runs statements as the superuser.
    pub fn sql(&self, statements: &str) {
        self.waits(self.installation.sql.batch_execute(statements))
            .unwrap_or_else(|error| panic!("{error}: {statements}"));
    }
}

/// A connection as a service has it.
pub async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn runtime(name: &str) -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .thread_name(name)
        // What a thread had of the processors is known as long as it is there.
        .thread_keep_alive(Duration::from_secs(86_400))
        .enable_all()
        .build()
        .unwrap()
}

/// What the serving threads have had of the processors so far.
pub fn served() -> Duration {
    had_by(|_| true, false)
}

fn had_by(counts: impl Fn(&str) -> bool, waits: bool) -> Duration {
    let mut sum = 0;
    for thread in serving_threads().filter(|thread| counts(thread)) {
        // It may end meanwhile.
        if let Ok(times) = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")) {
            // On a processor, and ready for one.
            let nanoseconds = times.split(' ').take(1 + usize::from(waits));
            sum += nanoseconds.map(|it| it.parse().unwrap_or(0)).sum::<u64>();
        }
    }
    Duration::from_nanos(sum)
}

/// What a process and its children have had of the processors so far, those that have ended too.
pub fn consumed(process: u32) -> Duration {
    let process = process.to_string();
    let mut ticks = 0;
    for entry in fs::read_dir("/proc").unwrap() {
        // A process may end meanwhile.
        let Ok(stat) = fs::read_to_string(entry.unwrap().path().join("stat")) else {
            continue;
        };
        let (id, rest) = stat.split_once(' ').unwrap();
        let (_, rest) = rest.rsplit_once(") ").unwrap();
        let fields: Vec<&str> = rest.split(' ').collect();
        let of = |range: std::ops::Range<usize>| -> u64 {
            fields[range]
                .iter()
                .map(|it| it.parse::<u64>().unwrap())
                .sum()
        };
        ticks += match (id == process, fields[1] == process) {
            (true, _) => of(11..15),
            (_, true) => of(11..13),
            _ => 0,
        };
    }
    // A hundredth of a second each.
    Duration::from_millis(ticks * 10)
}

/// The numbers of the serving threads.
fn serving_threads() -> impl Iterator<Item = String> {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    let threads = threads.map(|thread| thread.unwrap().file_name().into_string().unwrap());
    threads.filter(|thread| {
        let name = fs::read_to_string(format!("/proc/self/task/{thread}/comm"));
        name.is_ok_and(|name| name.trim_end() == SERVING)
    })
}
