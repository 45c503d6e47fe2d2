//! The wire: requests are checked and converted, use cases called, answers converted. Contract types stop here, but for
//! the answers of commands, which are stored with what they did.

pub(crate) mod account;
pub(crate) mod bill_run;
pub(crate) mod intake;
pub(crate) mod invoice;
mod invoice_line;
pub(crate) mod money;
pub(crate) mod payment;
pub(crate) mod payment_method;
pub(crate) mod quote;
pub(crate) mod settlement;
