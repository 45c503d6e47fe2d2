//! The use cases: each owns its transaction.

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
pub(crate) mod usage;
