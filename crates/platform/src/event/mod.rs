//! The event log: what is listed of it, delivered to its subscribers, and taken from others.

pub mod check;
pub mod event_service;
pub mod intake;
pub mod lease;
pub(crate) mod progress;
pub mod relay;
