//! Payments: one for each attempt of an order at which something was due.

use jiff::Timestamp;
use uuid::Uuid;

use super::money::Money;

/// Where a payment is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PaymentState {
    /// Its outcome is not known yet.
    Processing,
    /// The money was taken.
    Succeeded {
        /// When that became definite.
        at: Timestamp,
        /// The invoice that it pays.
        invoice: Uuid,
    },
    /// Nothing was taken.
    Declined {
        /// When that became definite.
        at: Timestamp,
        /// Why.
        reason: String,
    },
}

/// A payment by the customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// Account id.
    pub account: String,
    /// Its id.
    pub id: Uuid,
    /// How much; above zero.
    pub amount: Money,
    /// Where it is in its life.
    pub state: PaymentState,
    /// Id of the order that it pays.
    pub order: String,
    /// The order's attempt, from 1.
    pub attempt: i32,
    /// The payment method; none where it is not on file: a new one that has not paid yet, or was declined.
    pub method: Option<Uuid>,
    /// When it was begun.
    pub created: Timestamp,
}

/// Resource name of a payment.
pub fn name(account: &str, id: Uuid) -> String {
    format!("accounts/{account}/payments/{id}")
}

impl Payment {
    /// Resource name.
    pub fn name(&self) -> String {
        name(&self.account, self.id)
    }
    /// Resource name of the order that it pays.
    pub fn order_name(&self) -> String {
        format!("accounts/{}/orders/{}", self.account, self.order)
    }
}
