//! Payments: one for each attempt of an order at which something was due.

use std::fmt;

use jiff::Timestamp;
use octroi_platform::name::{AccountId, Name, parse_uuid};
use uuid::Uuid;

use super::invoice::InvoiceId;
use super::money::Money;
use super::order::OrderId;
use super::payment_method::PaymentMethodId;

/// The name of a payment: "accounts/acme/payments/{uuid}".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentId {
    pub account: AccountId,
    pub id: Uuid,
}

impl Name for PaymentId {
    const KIND: &'static str = "payment";
    const COLLECTIONS: &'static [&'static str] = &["accounts", "payments"];

    fn of(ids: &[&str]) -> Option<Self> {
        let [account, id] = ids else { return None };
        Some(Self {
            account: AccountId::new(*account),
            id: parse_uuid(id)?,
        })
    }

    fn account(&self) -> Option<&str> {
        Some(self.account.as_str())
    }
}

impl fmt::Display for PaymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/payments/{}", self.account, self.id)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PaymentState {
    /// Its outcome is not known yet.
    Processing,
    /// The money was taken.
    Succeeded {
        at: Timestamp,
        /// The invoice that it pays.
        invoice: InvoiceId,
    },
    /// Nothing was taken.
    Declined { at: Timestamp, reason: String },
}

/// A payment by the customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    pub id: PaymentId,
    /// Above zero.
    pub amount: Money,
    pub state: PaymentState,
    /// The order that it pays.
    pub order: OrderId,
    /// The order's attempt, from 1.
    pub attempt: i32,
    /// The payment method; none where it is not on file: a new one that has not paid yet, or was declined.
    pub method: Option<PaymentMethodId>,
    pub created_at: Timestamp,
}
