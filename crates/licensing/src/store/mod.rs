//! The SQL, beside the mapping of its rows.

pub(crate) mod account;
pub mod check;
pub(crate) mod device;
pub(crate) mod group;
pub(crate) mod license;
pub(crate) mod offer;
pub(crate) mod order;
pub(crate) mod payment;
pub(crate) mod session;
pub(crate) mod throttle;
pub(crate) mod usage;
