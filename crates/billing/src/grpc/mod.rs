//! The wire: requests are checked and converted, use cases called, answers converted. Contract types stop here, but for
//! the answers of commands, which are stored with what they did.

pub mod account;
pub mod bill_run;
pub mod intake;
pub mod invoice;
mod invoice_line;
pub mod money;
pub mod payment;
pub mod payment_method;
pub mod quote;
pub mod settlement;
