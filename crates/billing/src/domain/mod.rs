//! The rules, pure: no I/O, no clock, no randomness. Instants, ids and random bytes are arguments.

pub mod account;
pub mod address;
pub mod bill;
pub mod bill_run;
pub mod charge;
pub mod invoice;
pub mod ledger;
pub mod mention;
pub mod money;
pub mod numbering;
pub mod order;
pub mod payment;
pub mod payment_method;
pub mod price;
pub mod quote;
pub mod seller;
pub mod settlement;
pub mod tax;
pub mod usage;
pub mod vat;

#[cfg(test)]
mod tests;
