//! The repository's rules: what the layers may know, how the contracts are written, which tables there are, and that
//! the documents say what is so.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a rule that cannot be checked stops its test"
)]

mod cluster;
mod contracts;
mod deploying;
mod documents;
mod layers;
mod locking;
mod repository;
mod secrets;
mod shape;
mod sql;
mod tables;
