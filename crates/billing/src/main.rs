//! The billing service as a process of its own.

use std::process::ExitCode;

use clap::Parser;
use octroi_billing::{SERVICE, Settings, start};
use octroi_platform::settings::Database;
use octroi_platform::{StartError, migrate, process};

/// Octroi's billing service.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Command {
    #[command(subcommand)]
    task: Option<Task>,
    #[command(flatten)]
    settings: Option<Settings>,
}

/// What to do.
#[derive(clap::Subcommand)]
enum Task {
    /// Serve until told to stop (the default).
    Serve(Box<Settings>),
    /// Bring the schema up to date, and stop.
    Migrate {
        /// The database, with a role that may change the schema.
        #[arg(long, env = "OCTROI_DATABASE_URL", hide_env_values = true)]
        database_url: Database,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let command = match process::parse::<Command>() {
        Ok(command) => command,
        Err(code) => return code,
    };
    process::log();
    match (command.task, command.settings) {
        (Some(Task::Migrate { database_url }), _) => {
            match migrate::migrate(&database_url.0, SERVICE.name, SERVICE.migrations).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => process::refused(&StartError::Database(error)),
            }
        }
        (Some(Task::Serve(settings)), _) => serve(*settings).await,
        (None, Some(settings)) => serve(settings).await,
        (None, None) => ExitCode::from(process::EX_USAGE),
    }
}

async fn serve(settings: Settings) -> ExitCode {
    let running = match start(settings, process::until_signal()).await {
        Ok(running) => running,
        Err(error) => return process::refused(&error),
    };
    tracing::info!(address = %running.address, "billing serves");
    match running.stopped().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "billing failed");
            ExitCode::FAILURE
        }
    }
}
