//! What a bench runs on: the services on threads of their own, so that what they cost can be told from what the load
//! costs, over a private PostgreSQL.

use std::fs;
use std::future::Future;
use std::time::Duration;

use octroi_tests::harness::{Customer, Installation, Options};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, Config, NoTls};

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
}

impl Run {
    pub fn start(size: Size) -> Self {
        let serving = runtime(SERVING);
        let installation = serving.block_on(Installation::with(Options {
            watched: true,
            ..Options::default()
        }));
        Self {
            size,
            installation,
            serving,
            calling: runtime(CALLING),
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

    /// A customer whose payments succeed, called from the calling threads.
    pub fn customer(&self, id: &str) -> Customer {
        self.waits(self.installation.customer(id))
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
        let row = self.waits(self.installation.sql.query_one("SHOW server_version", &[]));
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
    let mut sum = 0;
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        // A thread may end meanwhile.
        let Ok(name) = fs::read_to_string(task.join("comm")) else {
            continue;
        };
        if name.trim_end() == SERVING
            && let Ok(times) = fs::read_to_string(task.join("schedstat"))
        {
            let nanoseconds = times.split(' ').next();
            sum += nanoseconds.and_then(|it| it.parse().ok()).unwrap_or(0);
        }
    }
    Duration::from_nanos(sum)
}
