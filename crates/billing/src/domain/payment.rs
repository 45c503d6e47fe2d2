//! Payments: one for each attempt of an order at which something was due.

use jiff::Timestamp;
use octroi_platform::name::{Kind, Owned};
use uuid::Uuid;

use super::invoice::InvoiceId;
use super::money::Money;
use super::order::OrderId;
use super::payment_method::PaymentMethodId;

/// The name of a payment: "accounts/acme/payments/{uuid}".
pub type PaymentId = Owned<PaymentKind>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PaymentKind {}

impl Kind for PaymentKind {
    type Id = Uuid;
    const KIND: &'static str = "payment";
    const COLLECTION: &'static str = "payments";
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
