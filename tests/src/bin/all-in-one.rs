//! The all-in-one as a program of this package: `cargo test` builds no other package's, or leaves a stale one.

use std::process::ExitCode;

fn main() -> ExitCode {
    octroi::cli::run()
}
