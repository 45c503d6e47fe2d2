//! The use cases. Each owns its transaction, except facts of other services, which are applied in the intake's.

pub mod delivery;
pub mod email;
pub mod erasure;
pub mod fact;

/// The purpose that passwords are sealed for, as licensing names it.
const PASSWORD: &str = "password";
