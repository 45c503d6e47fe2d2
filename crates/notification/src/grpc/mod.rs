//! Convert, call, convert.

pub mod email;
pub mod intake;
