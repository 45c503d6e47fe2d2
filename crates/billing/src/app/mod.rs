//! Use cases. Each owns its transaction: it reads and locks, decides in `domain`, writes through `store`, commits.

pub mod account;
pub mod bill_run;
pub mod charge;
pub mod chunk;
pub mod gateway;
pub mod invoice;
pub mod payment;
pub mod payment_method;
pub mod quote;
pub mod seller;
pub mod settlement;
pub mod usage;
