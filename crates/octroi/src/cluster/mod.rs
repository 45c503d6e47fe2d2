//! The private PostgreSQL cluster of the all-in-one.
//!
//! It lies in the data directory, is reached by its Unix socket only, and runs
//! as long as its [`Cluster`]. From root, where PostgreSQL refuses to run, it
//! runs as an ordinary user, under `/var/lib/octroi` if that user cannot reach
//! the data directory; `postgres` in the data directory is then a link there.

mod data_dir;
mod error;
mod files;
mod find;
mod home;
mod init;
mod orphan;
mod server;
mod socket;
mod user;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep, timeout_at},
};
use tokio_postgres::{Config, NoTls, error::SqlState};

use self::{
    error::io_at,
    files::{private_file, remove_all},
    home::Home,
    server::{Launch, Server},
};

pub use self::{
    data_dir::DataDir,
    error::ClusterError,
    find::{Binaries, MINIMUM_MAJOR, find},
    init::generate_password,
};

/// How long a server may take to accept connections, recovery included.
const READY_SECONDS: u64 = 60;
const FIRST_POLL: Duration = Duration::from_millis(5);
const SLOWEST_POLL: Duration = Duration::from_millis(100);
/// A log longer than this is put aside at a start; one older is kept.
const LOG_MAX: u64 = 10 * 1024 * 1024;
/// How much of the log's end an error looks at.
const LOG_TAIL: u64 = 8 * 1024;

/// How the cluster is to be run.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// The data directory; made with mode 0700 if it is not there. To keep a
    /// cluster of root's in a temporary directory rather than under
    /// `/var/lib/octroi`, make that directory with mode 0711 beforehand.
    pub data_dir: PathBuf,
    /// Where PostgreSQL's programs are, when they are not to be looked for.
    pub pg_bin: Option<PathBuf>,
    /// Whether a commit survives a power cut. Tests say no.
    pub durable: bool,
}

impl ClusterOptions {
    /// A durable cluster in `data_dir`, with the PostgreSQL that is found.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            pg_bin: None,
            durable: true,
        }
    }
}

/// A running cluster. [`Cluster::stop`] ends it in an orderly way; dropping it
/// stops the server as well, and blocks for a moment to see it end.
#[derive(Debug)]
pub struct Cluster {
    // The server goes before the locks that keep others off its files.
    server: Server,
    site: Site,
}

/// All that does not change while the server runs.
#[derive(Debug)]
struct Site {
    binaries: Binaries,
    socket_dir: PathBuf,
    password: SecretString,
    created: bool,
    durable: bool,
    home: Home,
    data_dir: DataDir,
}

impl Cluster {
    /// Starts the cluster of a data directory, made first if there is none,
    /// and waits until it accepts connections. Whatever a killed Octroi left
    /// is stopped or cleared away.
    ///
    /// # Errors
    ///
    /// Each says what to do; [`ClusterError::exit_code`] tells them apart.
    pub async fn start(options: ClusterOptions) -> Result<Self, ClusterError> {
        let mut site = blocking(move || Site::prepare(options)).await?;
        let deadline = Instant::now() + Duration::from_secs(READY_SECONDS);
        loop {
            let server;
            let log_start;
            (site, server, log_start) = blocking(move || {
                let (server, log_start) = site.launch()?;
                Ok((site, server, log_start))
            })
            .await?;
            match site.wait_until_ready(&server, log_start, deadline).await {
                Ok(()) => {
                    tracing::debug!(pid = server.pid(), home = %site.home.dir.display(), "PostgreSQL is ready");
                    return Ok(Self { server, site });
                }
                // The backends of a killed server take a moment to notice; and a server whose start was killed with
                // its Octroi may have come to its pid file since we looked for one.
                Err(ClusterError::Exited { tail, .. })
                    if (tail.contains("still in use") || tail.contains("already exists"))
                        && Instant::now() < deadline =>
                {
                    sleep(SLOWEST_POLL).await;
                }
                Err(error) => {
                    // The first error says more than this one would.
                    let _ = server.stop().await;
                    return Err(error);
                }
            }
        }
    }

    /// Stops the server and waits for it: a fast shutdown, and an immediate
    /// one if that takes too long.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Killed`] when neither worked.
    pub async fn stop(self) -> Result<(), ClusterError> {
        self.server.stop().await?;
        // It is made anew at each start; a crash leaves it as well.
        let _ = fs::remove_dir_all(&self.site.socket_dir);
        Ok(())
    }

    /// Stops the server and removes the cluster with everything in it.
    ///
    /// # Errors
    ///
    /// When the server does not stop or a file cannot be removed.
    pub async fn destroy(self) -> Result<(), ClusterError> {
        self.server.stop().await?;
        blocking(move || self.site.remove()).await
    }

    /// How the superuser connects; the database to use is left open.
    #[must_use]
    pub fn admin(&self) -> Config {
        self.site.admin()
    }

    /// The directory where the cluster really lies.
    #[must_use]
    pub fn location(&self) -> PathBuf {
        self.site.home.data()
    }

    /// The server's log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.site.home.log()
    }

    /// The data directory, absolute.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        self.site.data_dir.path()
    }

    /// The programs that run the cluster.
    #[must_use]
    pub fn binaries(&self) -> &Binaries {
        &self.site.binaries
    }

    /// Whether this start made the cluster.
    #[must_use]
    pub fn created(&self) -> bool {
        self.site.created
    }

    /// The server's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Waits until the server ends by itself, which it should not, and tells
    /// how.
    pub async fn ended(&self) -> ClusterError {
        let status = self.server.ended().await;
        self.site.exited(status.map(|status| status.to_string()), 0)
    }
}

impl Site {
    fn prepare(options: ClusterOptions) -> Result<Self, ClusterError> {
        let data_dir = DataDir::open(&options.data_dir)?;
        let mut home = Home::settle(&data_dir)?;
        let data = home.data();
        let existing = home.major.map(|major| (data.as_path(), major));
        let binaries = find::find_for(options.pg_bin.as_deref(), home.user.as_ref(), existing)?;
        home.occupy(&data_dir)?;
        init::remove_unfinished(&home)?;
        let password = init::superuser_password(&home)?;
        if home.major.is_none() {
            init::init(&home, &binaries, options.durable)?;
        }
        let socket_dir = socket::socket_dir(&home)?;
        put_aside_long_log(&home.log())?;
        Ok(Self {
            binaries,
            socket_dir,
            password,
            created: home.major.is_none(),
            durable: options.durable,
            home,
            data_dir,
        })
    }

    /// Starts the server in place of an orphan, and tells where its part of the log begins.
    fn launch(&self) -> Result<(Server, u64), ClusterError> {
        orphan::stop_orphan(&self.home.data())?;
        let path = self.home.log();
        let log = private_file(&path, OpenOptions::new().append(true).create(true))?;
        let log_start = log.metadata().map_err(io_at("read", &path))?.len();
        let server = Server::spawn(Launch {
            binaries: &self.binaries,
            user: self.home.user.as_ref(),
            data: &self.home.data(),
            socket_dir: &self.socket_dir,
            durable: self.durable,
            log,
        })?;
        Ok((server, log_start))
    }

    fn admin(&self) -> Config {
        let mut config = Config::new();
        config
            .host_path(&self.socket_dir)
            .port(5432)
            .user(init::SUPERUSER)
            .password(self.password.expose_secret());
        config
    }

    async fn wait_until_ready(
        &self,
        server: &Server,
        log_start: u64,
        deadline: Instant,
    ) -> Result<(), ClusterError> {
        let mut admin = self.admin();
        admin.application_name("octroi-start");
        let mut poll = FIRST_POLL;
        let mut last = "no answer".to_owned();
        loop {
            let attempt = tokio::select! {
                biased;
                status = server.ended() => {
                    return Err(self.exited(status.map(|status| status.to_string()), log_start));
                }
                attempt = timeout_at(deadline, admin.connect(NoTls)) => attempt,
            };
            match attempt {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) if error.code() == Some(&SqlState::INVALID_PASSWORD) => {
                    return Err(ClusterError::Password {
                        file: self.home.password(),
                    });
                }
                Ok(Err(error)) => last = error.to_string(),
                Err(_) => {}
            }
            if Instant::now() >= deadline {
                let log = self.home.log();
                return Err(ClusterError::NotReady {
                    seconds: READY_SECONDS,
                    last,
                    tail: log_tail(&log, log_start),
                    log,
                });
            }
            tokio::select! {
                _ = server.ended() => {}
                () = sleep(poll) => poll = (poll * 2).min(SLOWEST_POLL),
            }
        }
    }

    fn exited(&self, status: Option<String>, log_start: u64) -> ClusterError {
        let log = self.home.log();
        ClusterError::Exited {
            status: status.unwrap_or_else(|| "how is not known".to_owned()),
            tail: log_tail(&log, log_start),
            log,
        }
    }

    fn remove(self) -> Result<(), ClusterError> {
        remove_all(&self.socket_dir)?;
        self.home.remove(&self.data_dir)
    }
}

/// Runs blocking work on a thread for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ClusterError> + Send + 'static,
) -> Result<T, ClusterError> {
    spawn_blocking(work)
        .await
        .map_err(|error| ClusterError::Io {
            what: "the work on the database's files ended early".to_owned(),
            source: io::Error::other(error),
        })?
}

fn put_aside_long_log(log: &Path) -> Result<(), ClusterError> {
    if fs::metadata(log).is_ok_and(|metadata| metadata.len() > LOG_MAX) {
        fs::rename(log, log.with_extension("log.old")).map_err(io_at("rename", log))?;
    }
    Ok(())
}

/// The end of the log, no earlier than `start`; empty when it cannot be read.
fn log_tail(path: &Path, start: u64) -> String {
    let read = || {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(start.max(length.saturating_sub(LOG_TAIL))))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL).read_to_end(&mut bytes)?;
        io::Result::Ok(bytes)
    };
    init::last_lines(&String::from_utf8_lossy(&read().unwrap_or_default()))
}
