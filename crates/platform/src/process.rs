//! What a service's `main` shares: settings, logs, signals and exit codes.

use std::process::ExitCode;

use clap::Parser;
use tokio_util::sync::CancellationToken;

use crate::service::StartError;

/// Exit code of bad settings (sysexits.h, EX_USAGE).
pub const EX_USAGE: u8 = 64;

/// Parses flags and environment; bad ones are printed and end the process's start with 64.
///
/// # Errors
/// The exit code to end with: 0 after help or version.
pub fn parse<P: Parser>() -> Result<P, ExitCode> {
    P::try_parse().map_err(|error| {
        let _ = error.print();
        match error.kind() {
            clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion => {
                ExitCode::SUCCESS
            }
            _ => ExitCode::from(EX_USAGE),
        }
    })
}

/// Logs to standard error: JSON when `OCTROI_LOG_FORMAT=json`, filtered by `RUST_LOG`.
pub fn log() {
    let mut filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // Below this the driver prints every parameter, secrets among them.
    if let Ok(driver) = "tokio_postgres=info".parse() {
        filter = filter.add_directive(driver);
    }
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if std::env::var_os("OCTROI_LOG_FORMAT").is_some_and(|format| format == "json") {
        logs.json().init();
    } else {
        logs.init();
    }
}

/// A token that SIGINT or SIGTERM cancels.
pub fn until_signal() -> CancellationToken {
    let shutdown = CancellationToken::new();
    let told = shutdown.clone();
    tokio::spawn(async move {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut terminate) = signal(SignalKind::terminate()) else {
            return;
        };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        told.cancel();
    });
    shutdown
}

/// Prints why a service did not start, and the code to end with.
pub fn refused(error: &StartError) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(error.exit_code())
}
