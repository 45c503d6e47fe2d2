//! Settlements: attempts to settle an order's quote. An order has one attempt that is under way or succeeded at most,
//! and each attempt names one charge at the gateway.

use jiff::Timestamp;
use uuid::Uuid;

use super::money::{Currency, Money, Rate};
use super::payment::{Payment, PaymentState};
use super::quote::{Quote, QuoteLine};
use super::tax::TaxCategory;

/// An attempt of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Account id.
    pub account: String,
    /// Order id.
    pub order: String,
    /// From 1.
    pub number: i32,
}

impl Attempt {
    /// Resource name of the order.
    pub fn order_name(&self) -> String {
        format!("accounts/{}/orders/{}", self.account, self.order)
    }

    /// The key under which the gateway keeps the attempt's one charge.
    pub fn charge_key(&self) -> String {
        format!("{}/{}/{}", self.account, self.order, self.number)
    }
}

/// What an attempt charges, from the order's frozen quote. Amounts are in `currency`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// The currency.
    pub currency: Currency,
    /// Id of the seller.
    pub seller: String,
    /// Category of the tax.
    pub tax_category: TaxCategory,
    /// Rate of the tax.
    pub tax_rate: Rate,
    /// Without tax.
    pub net: i64,
    /// The tax.
    pub tax: i64,
    /// Net and tax.
    pub due: i64,
}

impl Charge {
    /// What a quote that fits its prices charges.
    pub fn of(quote: &Quote, seller: &str) -> Charge {
        Charge {
            currency: quote.currency,
            seller: seller.to_owned(),
            tax_category: quote.category,
            tax_rate: quote.rate,
            net: quote.net,
            tax: quote.tax,
            due: quote.due,
        }
    }
}

/// A definite end at the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Charged, or found good.
    Succeeded,
    /// Nothing was taken.
    Declined(String),
}

/// Where an attempt is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettlementState {
    /// The gateway's verdict is not known yet.
    Processing,
    /// Paid, or the method was found good and nothing was due.
    Succeeded {
        /// When that became definite.
        at: Timestamp,
        /// The order's invoice; none when nothing was due.
        invoice: Option<Uuid>,
    },
    /// Nothing was taken.
    Declined {
        /// When that became definite.
        at: Timestamp,
        /// Why.
        reason: String,
    },
}

/// An attempt to settle an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// Which attempt of which order.
    pub attempt: Attempt,
    /// What it charges.
    pub charge: Charge,
    /// The payment method; none when there was none.
    pub method: Option<Uuid>,
    /// The payment; none when nothing is due or there was no method.
    pub payment: Option<Uuid>,
    /// Where it is in its life.
    pub state: SettlementState,
    /// When it was begun.
    pub created: Timestamp,
}

/// The account has no payment method.
pub const METHOD_MISSING: &str = "payment_method_missing";
/// The gateway does not know the given token.
pub const METHOD_UNKNOWN: &str = "payment_method_unknown";

/// The attempt's outcome is definite already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the attempt is settled already")]
pub struct AlreadySettled;

impl Settlement {
    /// An attempt under way. `payment` is the id of its payment, if anything is due.
    pub fn begin(
        attempt: Attempt,
        charge: Charge,
        method: Uuid,
        payment: Uuid,
        now: Timestamp,
    ) -> Settlement {
        Settlement {
            payment: (charge.due > 0).then_some(payment),
            attempt,
            charge,
            method: Some(method),
            state: SettlementState::Processing,
            created: now,
        }
    }

    /// An attempt that ends before it begins, for want of a method that can be asked.
    pub fn refused(attempt: Attempt, charge: Charge, reason: &str, now: Timestamp) -> Settlement {
        Settlement {
            attempt,
            charge,
            method: None,
            payment: None,
            state: SettlementState::Declined {
                at: now,
                reason: reason.to_owned(),
            },
            created: now,
        }
    }

    /// The attempt after its verdict. `invoice` is the order's, for a success at which something was due.
    ///
    /// # Errors
    /// [`AlreadySettled`]: a verdict is never changed.
    pub fn settle(
        self,
        verdict: Verdict,
        invoice: Option<Uuid>,
        at: Timestamp,
    ) -> Result<Settlement, AlreadySettled> {
        match self.state {
            SettlementState::Processing => Ok(Settlement {
                state: match verdict {
                    Verdict::Succeeded => SettlementState::Succeeded { at, invoice },
                    Verdict::Declined(reason) => SettlementState::Declined { at, reason },
                },
                ..self
            }),
            SettlementState::Succeeded { .. } | SettlementState::Declined { .. } => {
                Err(AlreadySettled)
            }
        }
    }

    /// The attempt's payment, as its state has it.
    pub fn payment(&self) -> Option<Payment> {
        let state = match &self.state {
            SettlementState::Processing => PaymentState::Processing,
            SettlementState::Succeeded { at, invoice } => PaymentState::Succeeded {
                at: *at,
                invoice: (*invoice)?,
            },
            SettlementState::Declined { at, reason } => PaymentState::Declined {
                at: *at,
                reason: reason.clone(),
            },
        };
        Some(Payment {
            account: self.attempt.account.clone(),
            id: self.payment?,
            amount: Money::new(self.charge.due, self.charge.currency),
            state,
            order: self.attempt.order.clone(),
            attempt: self.attempt.number,
            method: self.method?,
            created: self.created,
        })
    }
}

/// What an order's invoice charges: the settlement and the lines of its quote at which something is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderCharge {
    /// Account id.
    pub account: String,
    /// Resource name of the order.
    pub order: String,
    /// What is charged in all.
    pub charge: Charge,
    /// The lines with a set-up amount above zero.
    pub lines: Vec<QuoteLine>,
}

/// Another attempt stands in the way of a new one: it succeeded, is under way, or came after.
pub fn in_the_way(number: i32, others: &[(i32, bool)]) -> Option<i32> {
    others
        .iter()
        .filter(|(other, _)| *other != number)
        .find(|(other, open_or_paid)| *open_or_paid || *other > number)
        .map(|(other, _)| *other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settlement(due: i64) -> Settlement {
        let attempt = Attempt {
            account: "acme".into(),
            order: "o1".into(),
            number: 1,
        };
        let charge = Charge {
            currency: Currency::find("EUR").unwrap(),
            seller: "specimen".into(),
            tax_category: TaxCategory::Standard,
            tax_rate: Rate::from_ppm(200_000).unwrap(),
            net: due / 6 * 5,
            tax: due / 6,
            due,
        };
        Settlement::begin(
            attempt,
            charge,
            Uuid::nil(),
            Uuid::max(),
            Timestamp::UNIX_EPOCH,
        )
    }

    #[test]
    fn a_verdict_is_never_changed() {
        let at = Timestamp::UNIX_EPOCH;
        let paid = settlement(600)
            .settle(Verdict::Succeeded, Some(Uuid::nil()), at)
            .unwrap();
        assert!(matches!(
            paid.payment().unwrap().state,
            PaymentState::Succeeded { .. }
        ));
        let again = paid.settle(Verdict::Declined("insufficient_funds".into()), None, at);
        assert_eq!(again, Err(AlreadySettled));
    }

    #[test]
    fn nothing_due_has_no_payment() {
        let found_good = settlement(0)
            .settle(Verdict::Succeeded, None, Timestamp::UNIX_EPOCH)
            .unwrap();
        assert_eq!(found_good.payment(), None);
    }

    #[test]
    fn one_attempt_at_a_time_and_never_an_older_one() {
        assert_eq!(in_the_way(1, &[]), None);
        assert_eq!(in_the_way(2, &[(1, false)]), None);
        assert_eq!(in_the_way(2, &[(1, true)]), Some(1));
        assert_eq!(in_the_way(1, &[(2, false)]), Some(2));
        assert_eq!(in_the_way(1, &[(1, true)]), None);
    }
}
