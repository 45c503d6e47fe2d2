//! The process of a service: its settings, its listener, the gate that every call goes through, its drain.
//!
//! Charter: here is what runs a service and what its `main` and `start` are written with: flags and keys, connections
//! and messages on the wire, the gate, the loops of background work, the test clock, metrics and health. What the code
//! of a service is written with, from `grpc/` to `store/`, lies below, in `octroi-platform`, which knows nothing of this
//! crate; and no noun of the business has a place in either.

mod access;
mod admin;
mod backlog;
mod connection;
mod gate;
mod held;
pub mod keys;
mod message;
mod metrics;
pub mod process;
mod reflection;
mod sending;
pub mod service;
pub mod services;
pub mod settings;
mod test_clock;
mod work;

pub use metrics::Reading;
pub use service::{Running, Service, Shell, StartError};
pub use settings::Settings;
