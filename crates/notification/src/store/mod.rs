//! SQL beside its row mapping.

pub mod account;
pub mod check;
pub mod delivery;
pub mod email;
