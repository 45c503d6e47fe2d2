//! Orders: asked for, quoted, paid; only then do the licences exist.

use jiff::{SignedDuration, Timestamp};
use octroi_platform::name::{Kind, Owned};

use crate::domain::group::GroupId;
use crate::domain::offer::OfferId;
use crate::domain::period::RenewalPeriod;
use crate::refusal::{self, Refusal};

/// How long an order can be paid.
const TO_BE_PAID: SignedDuration = SignedDuration::from_hours(24);

/// Which order: "accounts/acme/orders/first".
pub(crate) type OrderId = Owned<OrderKind>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OrderKind {}

impl Kind for OrderKind {
    type Id = String;
    const KIND: &'static str = "order";
    const COLLECTION: &'static str = "orders";
}

/// A request for licences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) id: OrderId,
    /// The group that receives the licences.
    pub(crate) group: GroupId,
    /// None for an existing group.
    pub(crate) new_group: Option<NewGroup>,
    /// 1 to 20, each with another offer.
    pub(crate) lines: Vec<Line>,
    pub(crate) state: State,
    /// What it costs, frozen.
    pub(crate) quote: Quote,
    pub(crate) attempts: i32,
    /// Why the last attempt was declined; empty when it was not.
    pub(crate) decline_reason: String,
    pub(crate) created_at: Timestamp,
    /// Until when it can be paid; this instant is too late.
    pub(crate) expires_at: Timestamp,
    pub(crate) version: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    AwaitingPayment,
    /// Its seats are reserved and its payment is under way.
    Paying,
    /// It is paid and its licences exist.
    Completed {
        at: Timestamp,
        receipt: Receipt,
    },
    Expired,
    Cancelled,
}

impl State {
    /// Its name in the database and, without prefix, on the wire.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::AwaitingPayment => "AWAITING_PAYMENT",
            Self::Paying => "PAYING",
            Self::Completed { .. } => "COMPLETED",
            Self::Expired => "EXPIRED",
            Self::Cancelled => "CANCELLED",
        }
    }
}

/// What settled an order; both are empty when nothing was due.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Receipt {
    /// Resource name of the payment.
    pub(crate) payment: String,
    /// Resource name of the invoice.
    pub(crate) invoice: String,
}

/// The group that an order creates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewGroup {
    pub(crate) display_name: String,
    pub(crate) renewal_period: RenewalPeriod,
    pub(crate) auto_renew: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) offer: OfferId,
    /// How many licences: 1 to 100000.
    pub(crate) quantity: i32,
    /// Resource name of the recurring price that was quoted; empty before.
    pub(crate) price: String,
}

/// What an order costs, as billing quoted it. Billing gets the same bytes back; licensing reads only what it publishes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Quote {
    /// The contract's message.
    pub(crate) encoded: Vec<u8>,
    /// What is due now, tax included.
    pub(crate) due_now: Money,
    /// Resource names of the recurring prices, one a line.
    pub(crate) prices: Vec<String>,
}

/// An amount that licensing passes on and never computes with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Money {
    /// ISO 4217 code.
    pub(crate) currency: String,
    /// Decimal string with exactly the currency's digits.
    pub(crate) amount: String,
}

/// What a caller asks for, before it is quoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OrderDraft {
    pub(crate) id: OrderId,
    pub(crate) group: GroupId,
    /// None for an existing group.
    pub(crate) new_group: Option<NewGroup>,
    pub(crate) lines: Vec<Line>,
}

impl Order {
    /// An order as it is quoted: it can be paid for 24 hours.
    pub(crate) fn quoted(draft: OrderDraft, quote: Quote, now: Timestamp) -> Self {
        let lines = draft
            .lines
            .into_iter()
            .zip(quote.prices.iter())
            .map(|(line, price)| Line {
                price: price.clone(),
                ..line
            })
            .collect();
        Self {
            id: draft.id,
            group: draft.group,
            new_group: draft.new_group,
            lines,
            state: State::AwaitingPayment,
            quote,
            attempts: 0,
            decline_reason: String::new(),
            created_at: now,
            expires_at: now.saturating_add(TO_BE_PAID).unwrap_or(Timestamp::MAX),
            version: 1,
        }
    }

    pub(crate) fn quantity(&self) -> i64 {
        self.lines.iter().map(|line| i64::from(line.quantity)).sum()
    }

    /// Starts the next attempt to pay it.
    ///
    /// # Errors
    /// ORDER_EXPIRED, or ORDER_STATE unless it awaits payment.
    pub(crate) fn pay(self, now: Timestamp) -> Result<Self, Refusal> {
        self.check_awaiting(now)?;
        Ok(Self {
            state: State::Paying,
            attempts: self.attempts + 1,
            decline_reason: String::new(),
            version: self.version + 1,
            ..self
        })
    }

    /// Its payment succeeded.
    ///
    /// # Errors
    /// ORDER_STATE unless it is being paid.
    pub(crate) fn complete(self, receipt: Receipt, now: Timestamp) -> Result<Self, Refusal> {
        self.check_paying()?;
        Ok(Self {
            state: State::Completed { at: now, receipt },
            version: self.version + 1,
            ..self
        })
    }

    /// Its payment was declined: it can be tried again.
    ///
    /// # Errors
    /// ORDER_STATE unless it is being paid.
    pub(crate) fn decline(self, reason: String) -> Result<Self, Refusal> {
        self.check_paying()?;
        Ok(Self {
            state: State::AwaitingPayment,
            decline_reason: reason,
            version: self.version + 1,
            ..self
        })
    }

    /// # Errors
    /// As [`Order::pay`].
    pub(crate) fn cancel(self, now: Timestamp) -> Result<Self, Refusal> {
        self.check_awaiting(now)?;
        Ok(self.ended(State::Cancelled))
    }

    /// Expires it if it still awaits payment after its time; else it stays as it is.
    pub(crate) fn expire(self, now: Timestamp) -> Self {
        match self.state {
            State::AwaitingPayment if now >= self.expires_at => self.ended(State::Expired),
            _ => self,
        }
    }

    fn ended(self, state: State) -> Self {
        Self {
            state,
            version: self.version + 1,
            ..self
        }
    }

    fn check_awaiting(&self, now: Timestamp) -> Result<(), Refusal> {
        match self.state {
            State::AwaitingPayment if now < self.expires_at => Ok(()),
            State::AwaitingPayment | State::Expired => Err(refusal::order_expired(&self.id)),
            State::Paying | State::Completed { .. } | State::Cancelled => {
                Err(refusal::order_state(&self.id, &self.state))
            }
        }
    }

    fn check_paying(&self) -> Result<(), Refusal> {
        match self.state {
            State::Paying => Ok(()),
            _ => Err(refusal::order_state(&self.id, &self.state)),
        }
    }
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
