//! The content of an e-mail: its template's parameters. Stored as JSON, so a field may be added with a default and none
//! may be renamed.

use serde::{Deserialize, Serialize};

use crate::domain::locale::Amount;

/// An e-mail's template and parameters. None of them is a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "template", content = "parameters", rename_all = "kebab-case")]
pub enum Content {
    /// A licence was activated: its login, its password, how to install.
    LicenseActivated(Login),
    /// A licence's password was changed: the new one.
    PasswordChanged(Login),
    /// An order was paid and its licences exist.
    OrderCompleted(Order),
    /// A licence group was terminated.
    GroupTerminated(Group),
    /// An invoice was issued.
    InvoiceIssued(Invoice),
    /// The account's contact address was changed.
    ContactChanged(Contact),
}

/// A licence and who signs in with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// Display name of the offer.
    pub offer: String,
    /// The activation e-mail, which is the login.
    pub activation_email: String,
    /// The user's name as given; empty when the event does not name it.
    pub user: String,
}

/// A completed order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Id of the order within its account.
    pub order: String,
    /// Display name of the group that received the licences.
    pub group: String,
    /// Whether the order created the group.
    pub new_group: bool,
    /// What was ordered.
    pub lines: Vec<OrderLine>,
    /// What was charged at once, tax included.
    pub due_now: Option<Amount>,
}

/// A line of a completed order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderLine {
    /// Display name of the offer.
    pub offer: String,
    /// How many licences.
    pub quantity: i32,
}

/// A terminated group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Display name of the group.
    pub group: String,
    /// How many licences it had.
    pub licenses: i32,
}

/// An issued invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoice {
    /// Its number.
    pub number: String,
    /// What is to be paid, tax included.
    pub total: Option<Amount>,
    /// The month that it charges, such as "2026-11"; empty for an order's.
    pub month: String,
    /// Local date of issue, such as "2026-12-01".
    pub issue_date: String,
    /// Date by which it is to be paid; empty when nothing is left to pay.
    pub due_date: String,
}

/// A change of the account's contact address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// The address before.
    pub previous: String,
    /// The address from now on.
    pub current: String,
    /// Whether this copy goes to the address before.
    pub to_previous: bool,
}

impl Content {
    /// Whether every account gets one at the same time, so that other e-mails must not wait behind it.
    pub fn is_bulk(&self) -> bool {
        matches!(self, Content::InvoiceIssued(invoice) if !invoice.month.is_empty())
    }

    /// The template's name, as the wire and the files call it.
    pub fn template(&self) -> &'static str {
        match self {
            Content::LicenseActivated(_) => "license-activated",
            Content::PasswordChanged(_) => "password-changed",
            Content::OrderCompleted(_) => "order-completed",
            Content::GroupTerminated(_) => "group-terminated",
            Content::InvoiceIssued(_) => "invoice-issued",
            Content::ContactChanged(_) => "contact-changed",
        }
    }
}
