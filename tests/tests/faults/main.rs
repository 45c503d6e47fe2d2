//! What must hold when things go wrong: processes killed, seats raced for, events out of order, releases side by side.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]
