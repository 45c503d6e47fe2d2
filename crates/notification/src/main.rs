//! The notification service as a process of its own.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use octroi_notification::{SERVICE, Settings, start};
use octroi_platform::migrate::migrate;
use octroi_platform::settings::Database;
use octroi_platform::{StartError, process};

/// Octroi's notification service: the e-mails to customers and their history.
#[derive(Parser)]
#[command(name = "notification", version)]
struct Command {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Serves until told to stop (SIGINT or SIGTERM), then drains.
    Serve(Box<Settings>),
    /// Brings the schema up to date and ends.
    Migrate {
        /// The database, with the service's own role.
        #[arg(long, env = "OCTROI_DATABASE_URL", hide_env_values = true)]
        database_url: Database,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let command: Command = match process::parse() {
        Ok(command) => command,
        Err(code) => return code,
    };
    process::log();
    let ended = match command.what {
        What::Serve(settings) => serve(*settings).await,
        What::Migrate { database_url } => {
            migrate(&database_url.0, SERVICE.name, SERVICE.migrations)
                .await
                .map_err(StartError::Database)
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => process::refused(&error),
    }
}

async fn serve(settings: Settings) -> Result<(), StartError> {
    let running = start(settings, process::until_signal()).await?;
    tracing::info!(address = %running.address, "serving");
    running.stopped().await.map_err(StartError::Internal)
}
