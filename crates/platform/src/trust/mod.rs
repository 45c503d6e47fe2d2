//! Who calls, and whom we call.

pub mod auth;
pub mod peer;
