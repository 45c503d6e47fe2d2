//! The payment gateway. This release has a test gateway alone: its tokens determine how charges end.
//!
//! Whatever the gateway, a charge is named by a key: the same key is the same charge, however often it is sent. An
//! unknown outcome is looked up, and sent again under its key only when the provider does not know it.

use octroi_platform::{Db, Error};

use crate::domain::money::{Currency, Money};
use crate::domain::payment_method::TestToken;
use crate::domain::settlement::Verdict;
use crate::store::gateway::{self, Kept};

/// The gateway's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// How it ended.
    Definite(Verdict),
    /// It is under way.
    Processing,
    /// No answer came: it may have been charged or not.
    Unknown,
}

/// A payment gateway.
#[derive(Clone)]
pub(crate) enum Gateway {
    /// The test gateway, whose provider remembers in a table of its own.
    Test(Db),
}

impl Gateway {
    /// Charges an amount under a key.
    pub(crate) async fn charge(
        &self,
        key: &str,
        amount: Money,
        token: TestToken,
    ) -> Result<Outcome, Error> {
        match self {
            Gateway::Test(db) => {
                let (kept, first) = gateway::charge(db, key, amount, token).await?;
                Ok(outcome(kept, first))
            }
        }
    }

    /// Asks whether a method is good, without charging anything.
    pub(crate) async fn verify(
        &self,
        key: &str,
        currency: Currency,
        token: TestToken,
    ) -> Result<Outcome, Error> {
        self.charge(key, Money::new(0, currency), token).await
    }

    /// How the charge (or check) under a key ended; none when the provider does not know it.
    pub(crate) async fn lookup(&self, key: &str) -> Result<Option<Outcome>, Error> {
        match self {
            Gateway::Test(db) => {
                let kept = gateway::look(db, key).await?;
                Ok(kept.map(|kept| outcome(kept, false)))
            }
        }
    }
}

/// The outcome of a stored charge. One that is visible at the first look simulates a first answer that was lost.
fn outcome(kept: Kept, first: bool) -> Outcome {
    match (kept.looks >= kept.visible_at, kept.decline_reason) {
        (true, None) => Outcome::Definite(Verdict::Succeeded),
        (true, Some(reason)) => Outcome::Definite(Verdict::Declined(reason)),
        (false, _) if first && kept.visible_at == 1 => Outcome::Unknown,
        (false, _) => Outcome::Processing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_show_when_their_token_says() {
        let at = |token: TestToken, looks| {
            let kept = Kept {
                decline_reason: token.decline_reason().map(str::to_owned),
                looks,
                visible_at: token.visible_at(),
            };
            outcome(kept, looks == 0)
        };
        let declined = |reason: &str| Outcome::Definite(Verdict::Declined(reason.into()));
        assert_eq!(
            at(TestToken::Success, 0),
            Outcome::Definite(Verdict::Succeeded)
        );
        assert_eq!(at(TestToken::CardExpired, 0), declined("card_expired"));
        assert_eq!(at(TestToken::Processing, 2), Outcome::Processing);
        assert_eq!(
            at(TestToken::Processing, 3),
            Outcome::Definite(Verdict::Succeeded)
        );
        assert_eq!(at(TestToken::TimeoutThenSuccess, 0), Outcome::Unknown);
        assert_eq!(
            at(TestToken::TimeoutThenSuccess, 1),
            Outcome::Definite(Verdict::Succeeded)
        );
        assert_eq!(
            at(TestToken::TimeoutThenDecline, 1),
            declined("do_not_honor")
        );
    }
}
