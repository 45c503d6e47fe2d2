//! The rules of the business, pure: what time it is, which ids and which random bytes to use are arguments.

pub(crate) mod account;
pub(crate) mod device;
pub(crate) mod group;
pub(crate) mod license;
pub(crate) mod offer;
pub(crate) mod order;
pub(crate) mod password;
pub(crate) mod payment;
pub(crate) mod period;
pub(crate) mod portal;
pub(crate) mod session;
pub(crate) mod termination;
pub(crate) mod usage;

#[cfg(test)]
mod tests;
