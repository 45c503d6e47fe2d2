//! The event log (outbox), its delivery to subscribers, and the inbox.

pub mod check;
pub mod event_service;
mod inbox;
pub mod intake;
pub mod lease;
pub(crate) mod progress;
pub mod relay;
