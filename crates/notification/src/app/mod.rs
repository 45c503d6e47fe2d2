//! The use cases. Each owns its transaction, but for the facts of other services, which join the intake's.

pub mod delivery;
pub mod email;
pub mod erasure;
pub mod fact;

/// The purpose that passwords are sealed for, as licensing names it.
const PASSWORD: &str = "password";
