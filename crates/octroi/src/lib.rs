//! octroi

pub mod bootstrap;
pub mod cluster;
