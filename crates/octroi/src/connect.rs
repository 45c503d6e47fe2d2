//! The administrator's connection to the database of an installation.

use tokio_postgres::{Client, Config, NoTls};

use crate::failure::refuses;

/// Why a command cannot work on a database.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot connect to the database")]
    Connect(#[source] tokio_postgres::Error),
    #[error("cannot read the database")]
    Read(#[source] tokio_postgres::Error),
    #[error("there is no Octroi in this database")]
    Empty,
}

impl ConnectError {
    /// The exit code, as `--help` shows it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Connect(error) if refuses(error) => 77,
            Self::Connect(_) => 69,
            Self::Read(_) => 70,
            Self::Empty => 78,
        }
    }
}

/// Connects to the database of an installation.
///
/// # Errors
/// When it cannot be reached, or is none of an installation.
pub async fn connect(admin: &Config) -> Result<Client, ConnectError> {
    let connected = admin.connect(NoTls).await;
    let (client, connection) = connected.map_err(ConnectError::Connect)?;
    tokio::spawn(connection);
    let sql = "SELECT FROM pg_class WHERE oid = to_regclass('licensing.event')";
    let there = client.query_opt(sql, &[]).await;
    there
        .map_err(ConnectError::Read)?
        .map(|_| client)
        .ok_or(ConnectError::Empty)
}
