//! SQL beside its row mapping.

pub mod account;
pub mod check;
pub mod delivery;
pub mod email;
pub mod erasure;
pub mod queue;

use std::time::Duration;

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
