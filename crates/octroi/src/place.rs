//! An installation's data directory, and the server of its database.

use std::fs;
use std::future::pending;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use octroi_server::settings::Database;
use tokio_postgres::config::Host;
use tokio_postgres::{Config, NoTls};

use crate::bootstrap::DATABASE;
use crate::cluster::{Cluster, ClusterError, ClusterOptions, DataDir};
use crate::failure::Failure;
use crate::keys::replace_private;

/// The file with the administrator's connection string, there while a private server runs.
const CONNINFO: &str = "database.conninfo";

#[derive(Clone, Debug, Args)]
pub struct PlaceArgs {
    /// Directory of the database, the keys, the operator's token and the mail; made when it is missing.
    #[arg(
        long,
        env = "OCTROI_DATA_DIR",
        value_name = "DIR",
        default_value = ".octroi"
    )]
    pub data_dir: PathBuf,
    /// Directory of PostgreSQL's programs (initdb, postgres), where they are not found by themselves.
    #[arg(long, env = "OCTROI_PG_BIN", value_name = "DIR")]
    pub pg_bin: Option<PathBuf>,
    /// An existing PostgreSQL server instead of a private one: the URL by which its administrator connects. The
    /// database (`octroi` unless the URL names one) and the services' roles are made there.
    #[arg(
        long,
        env = "OCTROI_ADMIN_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub database_url: Option<Database>,
}

/// An installation that was opened: its data directory is locked, and its server runs.
#[derive(Debug)]
pub enum Place {
    /// A private cluster in the data directory.
    Private(Cluster),
    /// An existing server.
    Shared(DataDir, Config),
}

impl Place {
    /// Opens the installation, creating it the first time.
    ///
    /// # Errors
    /// The cluster's, each with what to do.
    pub async fn open(args: &PlaceArgs) -> Result<Self, ClusterError> {
        if let Some(Database(admin)) = &args.database_url {
            let data_dir = DataDir::open(&args.data_dir)?;
            return Ok(Self::Shared(data_dir, admin.clone()));
        }
        let options = ClusterOptions {
            pg_bin: args.pg_bin.clone(),
            ..ClusterOptions::new(&args.data_dir)
        };
        Cluster::start(options).await.map(Self::Private)
    }

    /// The data directory, absolute.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        match self {
            Self::Private(cluster) => cluster.data_dir(),
            Self::Shared(data_dir, _) => data_dir.path(),
        }
    }

    /// The administrator's connection settings; a private cluster's are without a database.
    #[must_use]
    pub fn admin(&self) -> Config {
        match self {
            Self::Private(cluster) => cluster.admin(),
            Self::Shared(_, admin) => admin.clone(),
        }
    }

    /// Where the database is, for display.
    #[must_use]
    pub fn location(&self) -> String {
        match self {
            Self::Private(cluster) => cluster.location().display().to_string(),
            Self::Shared(_, admin) => shared_location(admin),
        }
    }

    /// Writes the administrator's connection string to the data directory of a private server, for `verify` and psql.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_connection(&self, admin: &Config) -> Result<(), Failure> {
        if let Self::Private(_) = self
            && let Some(text) = conninfo(admin)
        {
            replace_private(&self.data_dir().join(CONNINFO), &text)?;
        }
        Ok(())
    }

    /// Waits until the private server exits on its own, which is an error; never returns for an existing server.
    pub async fn ended(&self) -> ClusterError {
        match self {
            Self::Private(cluster) => cluster.ended().await,
            Self::Shared(..) => pending().await,
        }
    }

    /// Stops the private server.
    ///
    /// # Errors
    /// When it had to be killed.
    pub async fn close(self) -> Result<(), ClusterError> {
        match self {
            Self::Private(cluster) => {
                // After a crash it stays; its readers try whether the connection works.
                let _ = fs::remove_file(cluster.data_dir().join(CONNINFO));
                cluster.stop().await
            }
            Self::Shared(..) => Ok(()),
        }
    }
}

/// The administrator's connection to an installation's database, and the installation to close afterwards if its server
/// had to be started.
///
/// # Errors
/// When there is no installation, or its server cannot be started.
pub async fn find_admin(args: &PlaceArgs) -> Result<(Config, Option<Place>), Failure> {
    if let Some(Database(admin)) = &args.database_url {
        return Ok((named(admin), None));
    }
    if let Some(admin) = running(&args.data_dir).await {
        return Ok((admin, None));
    }
    match fs::symlink_metadata(args.data_dir.join("postgres")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let dir = args.data_dir.display();
            let reason = anyhow::anyhow!(
                "there is no database in {dir}: name the directory with --data-dir, or start Octroi first"
            );
            return Err(Failure::new(69, reason));
        }
        _ => {}
    }
    let place = Place::open(args).await?;
    Ok((named(&place.admin()), Some(place)))
}

/// The connection string that a running Octroi wrote, if it works.
async fn running(data_dir: &Path) -> Option<Config> {
    let text = fs::read_to_string(data_dir.join(CONNINFO)).ok()?;
    let admin: Config = text.trim_end().parse().ok()?;
    let (client, connection) = admin.connect(NoTls).await.ok()?;
    tokio::spawn(connection);
    client.simple_query("SELECT 1").await.ok()?;
    Some(admin)
}

/// The settings with the default database where they name none.
fn named(admin: &Config) -> Config {
    let mut admin = admin.clone();
    if admin.get_dbname().is_none() {
        admin.dbname(DATABASE);
    }
    admin
}

/// The database and the server that it is on: "octroi on db.example:5432".
fn shared_location(admin: &Config) -> String {
    let port = admin.get_ports().first().copied().unwrap_or(5432);
    let host = match admin.get_hosts().first() {
        Some(Host::Tcp(name)) => name.clone(),
        Some(Host::Unix(path)) => path.display().to_string(),
        None => "localhost".to_owned(),
    };
    let database = admin.get_dbname().unwrap_or(DATABASE);
    format!("{database} on {host}:{port}")
}

/// A connection by Unix socket in libpq's key=value form.
fn conninfo(admin: &Config) -> Option<String> {
    let Some(Host::Unix(host)) = admin.get_hosts().first() else {
        return None;
    };
    let quoted = |value: &str| format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"));
    let port = admin.get_ports().first().copied().unwrap_or(5432);
    let password = std::str::from_utf8(admin.get_password()?).ok()?;
    Some(format!(
        "host={} port={port} user={} password={} dbname={}",
        quoted(host.to_str()?),
        quoted(admin.get_user()?),
        quoted(password),
        quoted(admin.get_dbname()?),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_servers_database_is_told_without_its_password() {
        let location = |url: &str| shared_location(&url.parse().unwrap());
        let url = "postgres://boss:secret@db.example/shop";
        assert_eq!(location(url), "shop on db.example:5432");
        assert_eq!(
            location("postgres://db.example:6432"),
            "octroi on db.example:6432"
        );
    }

    #[test]
    fn a_connection_that_is_written_down_reads_the_same() {
        let mut admin = Config::new();
        admin
            .host_path("/run/it's a \\ place")
            .port(5433)
            .user("postgres")
            .password("p'w \\")
            .dbname("octroi");
        let read: Config = conninfo(&admin).unwrap().parse().unwrap();
        assert_eq!(read.get_hosts(), admin.get_hosts());
        assert_eq!(read.get_ports(), admin.get_ports());
        assert_eq!(read.get_user(), admin.get_user());
        assert_eq!(read.get_password(), admin.get_password());
        assert_eq!(read.get_dbname(), admin.get_dbname());
    }
}
