//! The command line.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use octroi_server::process;

use crate::demo;
use crate::distribute;
use crate::failure::{EXIT_CODES, Failure};
use crate::output::{self, Unread};
use crate::place::PlaceArgs;
use crate::replay;
use crate::serve::{self, ServeArgs};
use crate::verify;

/// The process's threads. Work waits for the database, not for processors, and each thread costs memory.
const THREADS: usize = 2;

/// Octroi in one process: licensing, billing and notification over a PostgreSQL of its own.
///
/// Without a command it serves: `octroi` is `octroi serve`.
#[derive(Debug, Parser)]
#[command(name = "octroi", version, args_conflicts_with_subcommands = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts everything and serves until Ctrl-C.
    #[command(after_help = EXIT_CODES)]
    Serve(Box<ServeArgs>),
    /// Plays a customer's whole life on a test clock, in a temporary directory, and prints it.
    #[command(after_help = EXIT_CODES)]
    Demo(demo::DemoArgs),
    /// Checks the invariants of the stored data across the three services, also while Octroi serves.
    #[command(after_help = EXIT_CODES)]
    Verify(Box<PlaceArgs>),
    /// Delivers dead letters again, once what refused them is repaired; also while Octroi serves.
    #[command(after_help = EXIT_CODES)]
    Replay(Box<PlaceArgs>),
    /// Spreads the tables of a migrated database over the nodes of a Citus cluster; the services are stopped meanwhile.
    #[command(after_help = EXIT_CODES)]
    Distribute(Box<PlaceArgs>),
}

/// Runs the command that the process was started with.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match process::parse::<Cli>() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let built = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_keep_alive(Duration::from_secs(1))
        .enable_all()
        .build();
    let runtime = match built {
        Ok(runtime) => runtime,
        Err(error) => return refused(&Failure::from(anyhow::Error::new(error))),
    };
    let ended = runtime.block_on(async {
        match cli.command.unwrap_or(Command::Serve(Box::new(cli.serve))) {
            Command::Serve(args) => serve::serve(*args).await,
            Command::Demo(args) => demo::demo(args).await,
            Command::Verify(args) => verify::verify(&args).await,
            Command::Replay(args) => replay::replay(&args).await,
            Command::Distribute(args) => distribute::distribute(&args).await,
        }
    });
    // Not waiting for threads that still block, as in a DNS look-up.
    runtime.shutdown_background();
    ended.unwrap_or_else(|failure| refused(&failure))
}

fn refused(failure: &Failure) -> ExitCode {
    if failure.reason.is::<Unread>() {
        return ExitCode::SUCCESS;
    }
    output::print_error(&failure.reason);
    ExitCode::from(failure.code)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_a_command_it_serves() {
        let cli = Cli::try_parse_from(["octroi", "--licensing-port", "7"]).unwrap();
        assert!(cli.command.is_none());
        let cli = Cli::try_parse_from(["octroi", "verify", "--data-dir", "x y"]).unwrap();
        assert!(matches!(cli.command, Some(Command::Verify(_))));
    }
}
