//! The billing service as a program of this package: `cargo test` builds no other package's, or leaves a stale one.

use std::process::ExitCode;

use octroi_billing::{SERVICE, start};

#[tokio::main]
async fn main() -> ExitCode {
    octroi_server::process::main(&SERVICE, start).await
}
