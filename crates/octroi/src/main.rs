//! The all-in-one's process.

use std::process::ExitCode;

fn main() -> ExitCode {
    octroi::cli::run()
}
