//! The private PostgreSQL cluster of the all-in-one.
//!
//! Its files are in the data directory, it listens on a Unix socket alone, and it runs for as long as its [`Cluster`]
//! lives. PostgreSQL refuses to run as root, so root runs it as an ordinary user, under `/var/lib/octroi` if that user
//! cannot reach the data directory; `postgres` in the data directory is then a symbolic link to it.

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
/// A log longer than this is rotated at the next start; one old log is kept.
const LOG_MAX: u64 = 10 * 1024 * 1024;
/// How many bytes of the log's end an error shows.
const LOG_TAIL: u64 = 8 * 1024;

#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// The data directory; made with mode 0700 if it is not there. To keep a
    /// cluster of root's in a temporary directory rather than under
    /// `/var/lib/octroi`, make that directory with mode 0711 beforehand.
    pub data_dir: PathBuf,
    /// The directory of PostgreSQL's programs; searched for when it is not given.
    pub pg_bin: Option<PathBuf>,
    /// Whether a commit survives a power failure. Tests do without.
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

/// A running cluster. End it with [`Cluster::stop`]; dropping it stops the server too, and blocks a moment for that.
#[derive(Debug)]
pub struct Cluster {
    // Fields are dropped in this order: the server must end before the locks on its files are released.
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
    /// Starts the cluster of a data directory, creating it the first time, and waits until it accepts connections. What
    /// a killed process left (a server, sockets, unfinished files) is stopped and removed first.
    ///
    /// # Errors
    ///
    /// [`ClusterError`]; its message says what to do.
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
                // Two races with an earlier process that was killed: backends of its server that have not exited yet,
                // and a server that wrote its pid file after we looked for one.
                Err(ClusterError::Exited { tail, .. })
                    if (tail.contains("still in use") || tail.contains("already exists"))
                        && Instant::now() < deadline =>
                {
                    sleep(SLOWEST_POLL).await;
                }
                Err(error) => {
                    // The first error is the one to report.
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
        // Left behind it does no harm: each start creates it again.
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

    /// The superuser's connection settings, without a database.
    #[must_use]
    pub fn admin(&self) -> Config {
        self.site.admin()
    }

    /// The cluster's own directory, which may be outside the data directory.
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

    /// Whether this start created the cluster.
    #[must_use]
    pub fn created(&self) -> bool {
        self.site.created
    }

    /// The server's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Waits until the server exits on its own, which is an error, and returns that error.
    pub async fn ended(&self) -> ClusterError {
        let status = self.server.ended().await;
        self.site.exited(status.map(|status| status.to_string()), 0)
    }
}

impl Site {
    fn prepare(options: ClusterOptions) -> Result<Self, ClusterError> {
        let data_dir = DataDir::open(&options.data_dir)?;
        let mut home = Home::locate(&data_dir)?;
        let data = home.data();
        let existing = home.major.map(|major| (data.as_path(), major));
        let binaries = find::find_for(options.pg_bin.as_deref(), home.user.as_ref(), existing)?;
        home.create_and_lock(&data_dir)?;
        init::remove_unfinished(&home)?;
        let password = init::superuser_password(&home)?;
        if home.major.is_none() {
            init::init(&home, &binaries, options.durable)?;
        }
        let socket_dir = socket::socket_dir(&home)?;
        rotate_log(&home.log())?;
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

    /// Stops an orphaned server and starts a new one; also returns the offset in the log where its output begins.
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
            status: status.unwrap_or_else(|| "exit status unknown".to_owned()),
            tail: log_tail(&log, log_start),
            log,
        }
    }

    fn remove(self) -> Result<(), ClusterError> {
        remove_all(&self.socket_dir)?;
        self.home.remove(&self.data_dir)
    }
}

/// Runs work on files and processes on a thread that may block.
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

fn rotate_log(log: &Path) -> Result<(), ClusterError> {
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
