//! What must hold when things go wrong: processes killed, seats raced for, events out of order, releases side by side.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod age;
mod all_in_one;
mod backlog;
mod chance;
mod corrupt;
mod crash;
mod crowded;
mod dead_letters;
mod draining;
mod gone;
mod heavy;
mod held;
mod idle;
mod large;
mod leases;
mod locked;
mod log;
mod mailing;
mod month;
mod passing;
mod poison;
mod process;
mod processes;
mod race;
mod ready;
mod refusing;
mod releases;
mod same;
mod sending;
mod services;
mod shopper;
mod slow;
mod stalled;
mod starts;
mod stored;
mod subscribers;
mod unread;

/// How many rounds a test plays: what this variable says, or else as many as an ordinary run has time for.
fn rounds(variable: &str, ordinary: usize) -> usize {
    match std::env::var(variable) {
        Ok(rounds) => rounds
            .parse()
            .unwrap_or_else(|_| panic!("{variable} must be a number of rounds")),
        Err(_) => ordinary,
    }
}
