//! Who calls, and whom we call.

pub mod auth;
pub mod jwk;
pub mod peer;
