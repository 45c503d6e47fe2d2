//! Every table's kind, declared here and nowhere else: a test holds the catalog of a migrated database to it, and
//! [`distribute`](crate::distribute) spreads the tables by it.

use crate::system::ServiceName;

/// What a table's rows belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One account: its id leads every primary, unique and foreign key. Spread by it.
    Account,
    /// Every account: the catalogue, the numbers and runs of documents, how far other services have told everything. On
    /// every node.
    Reference,
    /// What a caller knows before the account is known, which is in this column. Spread by it.
    Directory(&'static str),
    /// The installation as a whole. On the coordinator alone.
    Installation,
}

use Kind::{Account, Directory, Installation, Reference};

/// What every service's schema holds.
const SHARED: [(&str, Kind); 9] = [
    ("audit", Account),
    ("delivery", Account),
    ("event", Account),
    ("event_position", Account),
    ("idempotency", Account),
    ("inbox", Account),
    ("intake_progress", Reference),
    ("platform_migration", Installation),
    ("service_migration", Installation),
];

/// What the services add, and the test clock.
const OWN: [(&str, Kind); 40] = [
    ("billing.account", Account),
    ("billing.bill_run", Reference),
    ("billing.bill_run_failure", Reference),
    ("billing.bill_run_range", Reference),
    ("billing.bill_run_total", Reference),
    ("billing.billed_month", Account),
    ("billing.group_offer_entry", Account),
    ("billing.invoice", Account),
    ("billing.invoice_line", Account),
    ("billing.invoice_tax", Account),
    ("billing.late_usage", Account),
    ("billing.ledger_transfer", Account),
    ("billing.payment", Account),
    ("billing.payment_method", Account),
    ("billing.price", Reference),
    ("billing.seller", Reference),
    ("billing.series", Reference),
    ("billing.settlement", Account),
    ("billing.settlement_line", Account),
    ("billing.tax_rate", Reference),
    ("billing.test_gateway_charge", Directory("key")),
    ("billing.usage_group", Account),
    ("billing.usage_interval", Account),
    ("licensing.account", Account),
    ("licensing.activation_address", Directory("address")),
    ("licensing.device", Account),
    ("licensing.group_offer", Account),
    ("licensing.license", Account),
    ("licensing.license_group", Account),
    ("licensing.license_order", Account),
    ("licensing.offer", Reference),
    ("licensing.order_line", Account),
    ("licensing.payment_attempt", Account),
    ("licensing.session", Account),
    ("licensing.sign_in_failure", Installation),
    ("licensing.usage_interval", Account),
    ("notification.account", Account),
    ("notification.email", Account),
    ("testing.barrier", Installation),
    ("testing.clock", Installation),
];

/// Every table with its schema.
#[must_use]
pub fn all() -> Vec<(String, Kind)> {
    let shared = ServiceName::ALL
        .into_iter()
        .flat_map(|schema| SHARED.map(|(table, kind)| (format!("{schema}.{table}"), kind)));
    let own = OWN.iter().map(|(table, kind)| ((*table).to_owned(), *kind));
    shared.chain(own).collect()
}
