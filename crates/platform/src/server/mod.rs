//! The process: its settings, its server, its background work.

pub(crate) mod access;
pub(crate) mod admin;
pub(crate) mod connection;
pub(crate) mod gate;
pub(crate) mod held;
pub mod keys;
pub(crate) mod message;
pub(crate) mod metrics;
pub mod process;
pub(crate) mod reflection;
pub(crate) mod sending;
pub mod service;
pub mod settings;
pub(crate) mod test_clock;
pub(crate) mod work;
