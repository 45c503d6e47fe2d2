//! The licensing service as a process of its own.

use std::process::ExitCode;

use octroi_licensing::{SERVICE, start};
use octroi_server::process;

#[tokio::main]
async fn main() -> ExitCode {
    process::main(&SERVICE, start).await
}
