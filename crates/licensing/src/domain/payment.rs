//! Attempts to pay an order.

use std::fmt;
use std::time::Duration;

use uuid::Uuid;

use crate::domain::order::OrderId;

const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// One attempt to pay an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) order: OrderId,
    /// 1 and up.
    pub(crate) number: i32,
    /// The request that started it; none when the caller gave no id.
    pub(crate) request: Option<Request>,
    /// A new payment method; none for the account's default, and none once the attempt is settled.
    pub(crate) method: Option<Method>,
    /// How often billing had no definite answer.
    pub(crate) tries: i32,
    /// Whether it has been under way for so long that a person should look.
    pub(crate) overdue: bool,
    /// How it ended; none while it is under way.
    pub(crate) outcome: Option<Outcome>,
}

/// The request that began an attempt: the same id and fingerprint are a repetition of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) id: Uuid,
    /// Keyed hash of the request's body.
    pub(crate) fingerprint: Vec<u8>,
}

/// A payment method that a caller gives with the order.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Method {
    pub(crate) gateway_token: String,
    /// May be empty.
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

impl Attempt {
    /// The back-off before billing is asked again: it doubles each time, up to a minute.
    pub(crate) fn pause(&self) -> Duration {
        let doublings = self.tries.clamp(0, 16).unsigned_abs();
        FIRST_PAUSE
            .saturating_mul(1 << doublings)
            .min(LONGEST_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use octroi_platform::name::Name as _;

    use super::*;

    #[test]
    fn a_pause_doubles_up_to_a_minute() {
        for (tries, millis) in [
            (i32::MIN, 250),
            (0, 250),
            (1, 500),
            (2, 1_000),
            (7, 32_000),
            (8, 60_000),
            (i32::MAX, 60_000),
        ] {
            let attempt = Attempt {
                order: OrderId::of(&["acme", "o1"]).unwrap(),
                number: 1,
                request: None,
                method: None,
                tries,
                overdue: false,
                outcome: None,
            };
            assert_eq!(attempt.pause(), Duration::from_millis(millis), "{tries}");
        }
    }

    #[test]
    fn a_token_never_shows_in_debug_output() {
        let method = Method {
            gateway_token: "test-success".to_owned(),
            display_name: "Visa".to_owned(),
        };
        assert_eq!(format!("{method:?}"), "Method");
    }
}
