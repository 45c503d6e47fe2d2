//! The process of a service: settings, listener, the gate that every call goes through, draining.
//!
//! This crate runs a service, and its `main` and `start` use it: flags and keys, connections and messages on the wire,
//! the gate, loops of background work, the test clock, metrics and health. What a service's code from `grpc/` to
//! `store/` uses is in `octroi-platform`, which does not depend on this crate. Neither has a noun of the business in
//! it.

mod access;
mod admin;
mod backlog;
mod connection;
mod gate;
mod held;
pub mod keys;
mod line;
mod link;
mod message;
mod metrics;
pub mod process;
mod reflection;
mod sending;
pub mod service;
pub mod services;
pub mod settings;
mod stranger;
mod test_clock;
mod unstoppable;
mod work;

pub use metrics::Reading;
pub use service::{Running, Service, Shell, StartError};
pub use settings::Settings;
