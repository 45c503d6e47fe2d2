//! What the services' `main`s share: settings, logs, signals and exit codes.

use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory as _, FromArgMatches as _, Parser};
use octroi_platform::migrate;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::fmt::MakeWriter;

use crate::service::{Running, Service, StartError};
use crate::settings::Database;

/// Exit code of bad settings (sysexits.h).
const EX_USAGE: u8 = 64;

/// One of Octroi's services. It serves when no subcommand is named.
#[derive(Parser)]
#[command(version)]
struct Command<S: clap::Args> {
    #[command(subcommand)]
    task: Task<S>,
}

#[derive(clap::Subcommand)]
enum Task<S: clap::Args> {
    /// Serves until told to stop (SIGINT or SIGTERM), then drains.
    Serve(Box<S>),
    /// Brings the schema up to date, and ends.
    Migrate(Box<Schema>),
}

#[derive(clap::Args)]
struct Schema {
    /// The database, with a role that may change the service's schema.
    #[arg(long, env = "OCTROI_DATABASE_URL", hide_env_values = true)]
    database_url: Database,
}

/// The whole of a service's `main`: `serve` (the default) and `migrate`, with settings from flags and environment.
pub async fn main<S, F>(
    service: &'static Service,
    start: impl FnOnce(S, CancellationToken) -> F,
) -> ExitCode
where
    S: clap::Args,
    F: Future<Output = Result<Running, StartError>>,
{
    let command = Command::<S>::command().name(service.name);
    let matches = command.try_get_matches_from(serving_by_default(std::env::args_os().collect()));
    let task = match matches.and_then(|matches| Command::<S>::from_arg_matches(&matches)) {
        Ok(command) => command.task,
        Err(wrong) => return bad_usage(wrong),
    };
    log();
    let ended = match task {
        Task::Migrate(schema) => {
            migrate::migrate(&schema.database_url.0, service.name, service.migrations)
                .await
                .map_err(StartError::from)
        }
        Task::Serve(settings) => serve(start(*settings, until_signal())).await,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refused(&error),
    }
}

async fn serve(
    starting: impl Future<Output = Result<Running, StartError>>,
) -> Result<(), StartError> {
    let running = starting.await?;
    tracing::info!(address = %running.address, "serving");
    running.stopped().await.map_err(StartError::Internal)
}

/// Puts "serve" where no subcommand is named. Clap has no default subcommand, and an optional group of settings counts
/// as absent when all of it comes from the environment.
fn serving_by_default(mut args: Vec<OsString>) -> Vec<OsString> {
    let own = ["-h", "--help", "-V", "--version"];
    let named = args.get(1).is_some_and(|first| {
        !first.as_encoded_bytes().starts_with(b"-") || own.iter().any(|flag| first == flag)
    });
    if !named {
        args.insert(args.len().min(1), "serve".into());
    }
    args
}

/// Parses flags and environment. An error is printed.
///
/// # Errors
/// The exit code to end with: 0 after help or version.
pub fn parse<P: Parser>() -> Result<P, ExitCode> {
    P::try_parse().map_err(bad_usage)
}

/// Prints an error without the bad value, which may contain a password, and returns the exit code.
fn bad_usage(mut error: clap::Error) -> ExitCode {
    if error.get(ContextKind::InvalidValue).is_some() {
        let hidden = ContextValue::String("…".to_owned());
        error.insert(ContextKind::InvalidValue, hidden);
    }
    let _ = error.print();
    match error.exit_code() {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(EX_USAGE),
    }
}

/// Logs to standard error: JSON when `OCTROI_LOG_FORMAT=json`, filtered by `RUST_LOG`, or from "info" on.
pub fn log() {
    log_from("info");
}

/// Logs as [`log`] does, from another level on where `RUST_LOG` says nothing.
pub fn log_from(level: &str) {
    log_to(level, std::io::stderr, std::io::stderr().is_terminal());
}

/// Logs as [`log_from`] does, elsewhere, in colours or without.
pub fn log_to<W>(level: &str, writer: W, colours: bool)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let mut filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    // Below this the driver prints every parameter, secrets among them; and what refinery does is told by who has it done,
    // at each start once and without the paths of where it was built.
    for quiet in ["tokio_postgres=info", "refinery_core=warn"] {
        if let Ok(quiet) = quiet.parse() {
            filter = filter.add_directive(quiet);
        }
    }
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(colours)
        // It would report on standard error that it cannot write to standard error, and panic.
        .log_internal_errors(false);
    if std::env::var_os("OCTROI_LOG_FORMAT").is_some_and(|format| format == "json") {
        logs.json().init();
    } else {
        logs.init();
    }
}

/// A token that SIGINT or SIGTERM cancels.
pub fn until_signal() -> CancellationToken {
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    tokio::spawn(async move {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut terminate) = signal(SignalKind::terminate()) else {
            return;
        };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        token.cancel();
    });
    shutdown
}

/// Prints why a service did not start, and returns the exit code.
pub fn refused(error: &StartError) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{error}");
    ExitCode::from(error.exit_code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_serves_unless_told_otherwise() {
        let given = |args: &[&str]| {
            let args = args.iter().map(OsString::from).collect();
            serving_by_default(args)
        };
        assert_eq!(given(&["licensing"]), ["licensing", "serve"]);
        assert_eq!(
            given(&["licensing", "--a", "b"]),
            ["licensing", "serve", "--a", "b"]
        );
        for kept in [
            ["licensing", "migrate"],
            ["licensing", "serve"],
            ["licensing", "--help"],
        ] {
            assert_eq!(given(&kept), kept);
        }
    }
}
