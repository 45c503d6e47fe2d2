//! What must hold of the rows of billing.

mod bill_run;
mod invoice;
mod ledger;
mod settlement;

use octroi_platform::check::Check;

pub use self::bill_run::{BILL_RUNS, BILLED_MONTHS, MONTHS_RUNS};
pub use self::invoice::{
    INVOICE_EVIDENCE, INVOICE_LINES, INVOICE_TAXES, INVOICE_TOTALS, NUMBER_DATES, NUMBERS,
};
pub use self::ledger::{LEDGER_INVOICES, LEDGER_PAYMENTS, LEDGER_RECEIVABLE};
pub use self::settlement::{CHARGES, PAYMENTS, SETTLEMENTS};

/// Every rule, in the order of the report.
pub const CHECKS: &[Check] = &[
    CHARGES,
    PAYMENTS,
    SETTLEMENTS,
    INVOICE_TOTALS,
    INVOICE_LINES,
    INVOICE_TAXES,
    INVOICE_EVIDENCE,
    NUMBERS,
    NUMBER_DATES,
    BILLED_MONTHS,
    MONTHS_RUNS,
    BILL_RUNS,
    LEDGER_INVOICES,
    LEDGER_PAYMENTS,
    LEDGER_RECEIVABLE,
];
