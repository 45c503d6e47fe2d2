//! The wire: requests are checked and converted, use cases called, answers converted. Contract types stop here.

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

use octroi_platform::{Error, Violations};

/// Ends a conversion: its value, or every bad field. A conversion gives no value only after it noted a bad field.
fn checked<T>(value: Option<T>, violations: Violations) -> Result<T, Error> {
    violations.finish()?;
    value.ok_or_else(|| Error::Internal(anyhow::anyhow!("a bad field that no rule named")))
}
