//! Why a command failed, with the exit code for scripts.

use tokio_postgres::error::SqlState;

use crate::bootstrap::BootstrapError;
use crate::cluster::ClusterError;
use crate::connect::ConnectError;
use crate::keys::KeysError;
use crate::system::SystemError;

/// The exit codes, as `--help` shows them. They follow `sysexits.h`.
pub const EXIT_CODES: &str = "\
Exit codes:
   0  ended as asked, or nobody reads on (demo | head)
   1  verify found a breach
  64  a flag or variable is wrong, or the database does not fit it (test clock)
  69  no PostgreSQL is found, a port is taken, or the database server cannot be reached
  70  something broke, such as the database ending by itself
  73  a file or directory cannot be made, or is open to others
  75  the data directory is in use, or services use the database that is to be distributed
  77  the database refuses the password, or what its administrator is to do
  78  the database or a key cannot be used: another release's schema, too old, another encoding, somebody else's";

/// Something broke (sysexits.h, EX_SOFTWARE).
const EX_SOFTWARE: u8 = 70;

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    /// The process's exit code.
    pub code: u8,
    /// The reason, with its causes.
    pub reason: anyhow::Error,
}

impl Failure {
    /// A failure with an exit code of [`EXIT_CODES`].
    pub fn new(code: u8, reason: impl Into<anyhow::Error>) -> Self {
        Self {
            code,
            reason: reason.into(),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(reason: anyhow::Error) -> Self {
        let code = reason.downcast_ref().map(ConnectError::exit_code);
        Self::new(code.unwrap_or(EX_SOFTWARE), reason)
    }
}

impl From<ClusterError> for Failure {
    fn from(error: ClusterError) -> Self {
        Self::new(error.exit_code(), error)
    }
}

impl From<KeysError> for Failure {
    fn from(error: KeysError) -> Self {
        Self::new(error.exit_code(), error)
    }
}

impl From<SystemError> for Failure {
    fn from(error: SystemError) -> Self {
        Self::new(error.exit_code(), error)
    }
}

impl From<BootstrapError> for Failure {
    fn from(error: BootstrapError) -> Self {
        let code = match &error {
            BootstrapError::Name(_) | BootstrapError::TestClock { .. } => 64,
            BootstrapError::Connect { source, .. } if refuses(source) => 77,
            BootstrapError::Connect { .. } => 69,
            BootstrapError::Rights { .. } => 77,
            BootstrapError::Sql { .. } => EX_SOFTWARE,
            BootstrapError::TooOld { .. }
            | BootstrapError::Encoding { .. }
            | BootstrapError::SchemaTaken { .. } => 78,
        };
        Self::new(code, error)
    }
}

/// Whether the server rejected the user or the password.
pub(crate) fn refuses(error: &tokio_postgres::Error) -> bool {
    let refusals = [
        SqlState::INVALID_PASSWORD,
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
    ];
    error.code().is_some_and(|code| refusals.contains(code))
}
