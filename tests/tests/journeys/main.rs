//! The customer's guide, played end to end: one module for each of its headings, the refusals beside the successes.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a journey that cannot go on has failed"
)]

mod accounts;
mod activating;
mod adding;
mod deleting;
mod installing;
mod invoicing;
mod ordering;
mod reading_again;
mod renewing;
mod terminating;
mod thin;
