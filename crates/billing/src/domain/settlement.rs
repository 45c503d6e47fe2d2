//! Settlements: attempts to settle an order's quote. An order has one attempt that is under way or succeeded at most,
//! and each attempt names one charge at the gateway.

use jiff::Timestamp;
use uuid::Uuid;

use super::invoice::InvoiceId;
use super::money::{Currency, Money, Rate};
use super::order::OrderId;
use super::payment::{Payment, PaymentId, PaymentState};
use super::payment_method::{NewMethod, PaymentMethodId};
use super::quote::{Quote, QuoteLine};
use super::seller::SellerId;
use super::tax::TaxCategory;

/// An attempt of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    pub order: OrderId,
    /// From 1.
    pub number: i32,
}

impl Attempt {
    /// The key under which the gateway keeps the attempt's one charge.
    pub fn charge_key(&self) -> String {
        let OrderId { account, id } = &self.order;
        format!("{}/{id}/{}", account.as_str(), self.number)
    }
}

/// What an attempt charges, from the order's frozen quote. Amounts are in `currency`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    pub currency: Currency,
    pub seller: SellerId,
    pub tax_category: TaxCategory,
    pub tax_rate: Rate,
    /// Without tax.
    pub net: i64,
    pub tax: i64,
    pub due: i64,
}

impl Charge {
    /// The charge of a quote that was checked.
    pub fn of(quote: &Quote, seller: &SellerId) -> Charge {
        Charge {
            currency: quote.currency,
            seller: seller.clone(),
            tax_category: quote.category,
            tax_rate: quote.rate,
            net: quote.net,
            tax: quote.tax,
            due: quote.due,
        }
    }
}

/// What an attempt is paid with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Means {
    OnFile(PaymentMethodId),
    /// A method given with the attempt: stored when it has paid, dropped when it is declined.
    New(NewMethod),
}

/// A definite outcome at the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Charged, or found good.
    Succeeded,
    /// Nothing was taken.
    Declined(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettlementState {
    /// The gateway's verdict is not known yet.
    Processing,
    /// Paid, or the method was found good and nothing was due.
    Succeeded {
        at: Timestamp,
        /// The order's invoice; none when nothing was due.
        invoice: Option<InvoiceId>,
    },
    /// Nothing was taken.
    Declined { at: Timestamp, reason: String },
}

/// An attempt to settle an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// Which attempt of which order.
    pub attempt: Attempt,
    pub charge: Charge,
    /// What it is paid with; none when there was no method, or the new one was declined.
    pub means: Option<Means>,
    /// The payment; none when nothing is due or the gateway was not called.
    pub payment: Option<PaymentId>,
    pub state: SettlementState,
    pub created_at: Timestamp,
}

/// The account has no payment method.
pub const METHOD_MISSING: &str = "payment_method_missing";
/// The gateway does not know the given token.
pub const METHOD_UNKNOWN: &str = "payment_method_unknown";
/// The quote's sums do not follow from its prices and tax.
pub const QUOTE_MISMATCH: &str = "quote_mismatch";
/// The seller lacks legal details that the invoice must have.
pub const SELLER_INCOMPLETE: &str = "seller_incomplete";

/// The attempt's outcome is definite already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the attempt is settled already")]
pub struct AlreadySettled;

impl Settlement {
    /// An attempt under way. `payment` is the id of its payment, if anything is due.
    pub fn begin(
        attempt: Attempt,
        charge: Charge,
        means: Means,
        payment: Uuid,
        now: Timestamp,
    ) -> Settlement {
        Settlement {
            payment: (charge.due > 0).then(|| PaymentId {
                account: attempt.order.account.clone(),
                id: payment,
            }),
            attempt,
            charge,
            means: Some(means),
            state: SettlementState::Processing,
            created_at: now,
        }
    }

    /// An attempt that is declined without calling the gateway.
    pub fn refused(attempt: Attempt, charge: Charge, reason: &str, now: Timestamp) -> Settlement {
        Settlement {
            attempt,
            charge,
            means: None,
            payment: None,
            state: SettlementState::Declined {
                at: now,
                reason: reason.to_owned(),
            },
            created_at: now,
        }
    }

    /// The attempt after its verdict. `invoice` is the order's, for a success at which something was due; `kept` is the
    /// id under which a new method that has paid is put on file, and none for any other.
    ///
    /// # Errors
    /// [`AlreadySettled`]: a verdict is never changed.
    pub fn settle(
        self,
        verdict: Verdict,
        invoice: Option<InvoiceId>,
        kept: Option<PaymentMethodId>,
        at: Timestamp,
    ) -> Result<Settlement, AlreadySettled> {
        match self.state {
            SettlementState::Processing => Ok(Settlement {
                means: match (self.means, &verdict) {
                    (Some(Means::New(_)), Verdict::Succeeded) => kept.map(Means::OnFile),
                    (Some(Means::New(_)), Verdict::Declined(_)) => None,
                    (means, _) => means,
                },
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

    /// Its method, when that is on file.
    pub fn on_file(&self) -> Option<&PaymentMethodId> {
        match &self.means {
            Some(Means::OnFile(id)) => Some(id),
            Some(Means::New(_)) | None => None,
        }
    }

    /// The attempt's payment, as its state has it.
    pub fn payment(&self) -> Option<Payment> {
        let state = match &self.state {
            SettlementState::Processing => PaymentState::Processing,
            SettlementState::Succeeded { at, invoice } => PaymentState::Succeeded {
                at: *at,
                invoice: invoice.clone()?,
            },
            SettlementState::Declined { at, reason } => PaymentState::Declined {
                at: *at,
                reason: reason.clone(),
            },
        };
        Some(Payment {
            id: self.payment.clone()?,
            amount: Money::new(self.charge.due, self.charge.currency),
            state,
            order: self.attempt.order.clone(),
            attempt: self.attempt.number,
            method: self.on_file().cloned(),
            created_at: self.created_at,
        })
    }
}

/// What an order's invoice charges: the settlement and the lines of its quote at which something is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderCharge {
    pub order: OrderId,
    /// What is charged in all.
    pub charge: Charge,
    /// The lines with a set-up amount above zero.
    pub lines: Vec<QuoteLine>,
}

/// The number of another attempt that blocks a new one: it succeeded, is under way, or is later.
pub fn blocking_attempt(number: i32, others: &[(i32, bool)]) -> Option<i32> {
    others
        .iter()
        .filter(|(other, _)| *other != number)
        .find(|(other, open_or_paid)| *open_or_paid || *other > number)
        .map(|(other, _)| *other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::payment_method::TestToken;
    use octroi_platform::name::AccountId;

    fn settlement(due: i64) -> Settlement {
        paid_with(due, Means::OnFile(method(0)))
    }

    fn method(id: u128) -> PaymentMethodId {
        PaymentMethodId {
            account: AccountId::new("acme"),
            id: Uuid::from_u128(id),
        }
    }

    fn invoice() -> Option<InvoiceId> {
        Some(InvoiceId {
            account: AccountId::new("acme"),
            id: Uuid::nil(),
        })
    }

    fn paid_with(due: i64, means: Means) -> Settlement {
        let attempt = Attempt {
            order: OrderId {
                account: AccountId::new("acme"),
                id: "o1".into(),
            },
            number: 1,
        };
        let charge = Charge {
            currency: Currency::find("EUR").unwrap(),
            seller: SellerId("specimen".into()),
            tax_category: TaxCategory::Standard,
            tax_rate: Rate::from_ppm(200_000).unwrap(),
            net: due / 6 * 5,
            tax: due / 6,
            due,
        };
        Settlement::begin(attempt, charge, means, Uuid::max(), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_verdict_is_never_changed() {
        let at = Timestamp::UNIX_EPOCH;
        let paid = settlement(600)
            .settle(Verdict::Succeeded, invoice(), None, at)
            .unwrap();
        assert!(matches!(
            paid.payment().unwrap().state,
            PaymentState::Succeeded { .. }
        ));
        let again = paid.settle(declined(), None, None, at);
        assert_eq!(again, Err(AlreadySettled));
    }

    fn declined() -> Verdict {
        Verdict::Declined("insufficient_funds".into())
    }

    #[test]
    fn a_new_method_is_put_on_file_when_it_has_paid() {
        let new = || {
            let token = TestToken::Success;
            let display_name = "Visa 4242".into();
            paid_with(
                600,
                Means::New(NewMethod {
                    token,
                    display_name,
                }),
            )
        };
        let (kept, at) = (method(7), Timestamp::UNIX_EPOCH);
        assert_eq!(new().payment().unwrap().method, None);
        let paid = new().settle(Verdict::Succeeded, invoice(), Some(kept.clone()), at);
        assert_eq!(paid.unwrap().payment().unwrap().method, Some(kept));
        let refused = new().settle(declined(), None, None, at).unwrap();
        assert_eq!(
            (&refused.means, refused.payment().unwrap().method),
            (&None, None)
        );
        let on_file = settlement(600).settle(declined(), None, None, at).unwrap();
        assert_eq!(on_file.payment().unwrap().method, Some(method(0)));
    }

    #[test]
    fn nothing_due_has_no_payment() {
        assert_eq!(settlement(0).payment(), None);
        assert!(settlement(1).payment().is_some());
        let found_good = settlement(0)
            .settle(Verdict::Succeeded, None, None, Timestamp::UNIX_EPOCH)
            .unwrap();
        assert_eq!(found_good.payment(), None);
    }

    #[test]
    fn one_attempt_at_a_time_and_never_an_older_one() {
        assert_eq!(blocking_attempt(1, &[]), None);
        assert_eq!(blocking_attempt(2, &[(1, false)]), None);
        assert_eq!(blocking_attempt(2, &[(1, true)]), Some(1));
        assert_eq!(blocking_attempt(1, &[(2, false)]), Some(2));
        assert_eq!(blocking_attempt(1, &[(1, true)]), None);
    }
}
