//! Attempts to pay an order.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

/// The longest pause between two questions to billing.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// One attempt to pay an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// Account id.
    pub(crate) account: String,
    /// Order id.
    pub(crate) order: String,
    /// 1 and up.
    pub(crate) number: i32,
    /// The request that started it; none when the caller gave no id.
    pub(crate) request: Option<Request>,
    /// A new payment method; none for the account's default, and none once the attempt is settled.
    pub(crate) method: Option<Method>,
    /// How often billing was asked in vain.
    pub(crate) tries: i32,
    /// How it ended; none while it is under way.
    pub(crate) outcome: Option<Outcome>,
    /// When it ended; none while it is under way.
    pub(crate) settled_at: Option<Timestamp>,
}

/// What tells a repetition from another request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// The request id.
    pub(crate) id: Uuid,
    /// Keyed hash of the request's body.
    pub(crate) fingerprint: Vec<u8>,
}

/// A payment method that a caller gives with the order.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Method {
    /// The gateway's token.
    pub(crate) gateway_token: String,
    /// Name for people; may be empty.
    pub(crate) display_name: String,
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Method")
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Paid, or the method was found good and nothing was due.
    Succeeded,
    /// Nothing was taken, and why.
    Declined(String),
}

/// What an attempt is to a request that wants to pay its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kinship {
    /// It was started by the same request.
    Same,
    /// It was started by a request with the same id and another body.
    Reused,
    /// It was started by another request.
    Other,
}

impl Attempt {
    /// What it is to `request`; a request without an id is another one always.
    pub(crate) fn kinship(&self, request: Option<&Request>) -> Kinship {
        match (&self.request, request) {
            (Some(own), Some(other)) if own == other => Kinship::Same,
            (Some(own), Some(other)) if own.id == other.id => Kinship::Reused,
            _ => Kinship::Other,
        }
    }

    /// The outcome that a repetition sent at `sent` waits for: that of the same request, when it had not ended yet. A
    /// repetition sent after a decline is a new try.
    pub(crate) fn outcome_for(
        &self,
        request: Option<&Request>,
        sent: Timestamp,
    ) -> Option<&Outcome> {
        let in_flight = self.settled_at.is_some_and(|settled| sent <= settled);
        self.outcome
            .as_ref()
            .filter(|_| in_flight && self.kinship(request) == Kinship::Same)
    }

    /// How long to wait before billing is asked again: twice as long each time, up to a minute.
    pub(crate) fn pause(&self) -> Duration {
        let doublings = self.tries.clamp(0, 16).unsigned_abs();
        FIRST_PAUSE
            .saturating_mul(1 << doublings)
            .min(LONGEST_PAUSE)
    }
}
