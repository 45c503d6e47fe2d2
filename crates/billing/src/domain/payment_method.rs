//! Payment methods, and the tokens that the test gateway knows.

use jiff::Timestamp;
use octroi_platform::name::{Kind, Owned};
use octroi_platform::refusal::MISSING;
use uuid::Uuid;

use super::account::{Rule, check_text};

/// The name of a payment method: "accounts/acme/paymentMethods/{uuid}".
pub type PaymentMethodId = Owned<PaymentMethodKind>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PaymentMethodKind {}

impl Kind for PaymentMethodKind {
    type Id = Uuid;
    const KIND: &'static str = "payment method";
    const COLLECTION: &'static str = "paymentMethods";
}

/// A token of the test gateway: how every charge of it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TestToken {
    /// At once, well.
    Success,
    /// At once, without enough money.
    InsufficientFunds,
    /// At once, on an expired card.
    CardExpired,
    /// Well, at the third look.
    Processing,
    /// No answer; well, as a look finds out.
    TimeoutThenSuccess,
    /// No answer; declined, as a look finds out.
    TimeoutThenDecline,
}

impl TestToken {
    const ALL: [TestToken; 6] = [
        TestToken::Success,
        TestToken::InsufficientFunds,
        TestToken::CardExpired,
        TestToken::Processing,
        TestToken::TimeoutThenSuccess,
        TestToken::TimeoutThenDecline,
    ];

    /// As the gateway gives it out.
    pub fn as_str(self) -> &'static str {
        match self {
            TestToken::Success => "test-success",
            TestToken::InsufficientFunds => "test-decline-insufficient-funds",
            TestToken::CardExpired => "test-decline-card-expired",
            TestToken::Processing => "test-processing",
            TestToken::TimeoutThenSuccess => "test-timeout-then-success",
            TestToken::TimeoutThenDecline => "test-timeout-then-decline",
        }
    }

    /// The token that is spelt so.
    ///
    /// # Errors
    /// The gateway knows no such token.
    pub fn parse(text: &str) -> Result<TestToken, Rule> {
        if text.is_empty() {
            return Err(Rule(MISSING));
        }
        TestToken::ALL
            .into_iter()
            .find(|token| token.as_str() == text)
            .ok_or(Rule("must be a token that the gateway gave out"))
    }

    /// Why its charges are declined; none when they are not.
    pub fn decline_reason(self) -> Option<&'static str> {
        match self {
            TestToken::InsufficientFunds => Some("insufficient_funds"),
            TestToken::CardExpired => Some("card_expired"),
            TestToken::TimeoutThenDecline => Some("do_not_honor"),
            TestToken::Success | TestToken::Processing | TestToken::TimeoutThenSuccess => None,
        }
    }

    /// At which look the outcome shows; 0 at the charge itself.
    pub fn visible_at(self) -> i32 {
        match self {
            TestToken::Success | TestToken::InsufficientFunds | TestToken::CardExpired => 0,
            TestToken::TimeoutThenSuccess | TestToken::TimeoutThenDecline => 1,
            TestToken::Processing => 3,
        }
    }
}

/// A payment method to put on file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMethod {
    /// The gateway's token.
    pub token: TestToken,
    pub display_name: String,
}

/// The name of a method that was given none: not its token, which is not for people.
const UNNAMED: &str = "Test card";

/// A method's name for people: at most 100 characters.
///
/// # Errors
/// The rule that it breaks.
pub fn check_display_name(name: &str) -> Result<String, Rule> {
    match name {
        "" => Ok(UNNAMED.to_owned()),
        name => check_text(name, 100).ok_or(Rule(
            "must be at most 100 characters, with no control or format character and no space around it",
        )),
    }
}

/// A way to pay, on file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentMethod {
    pub id: PaymentMethodId,
    pub display_name: String,
    /// The gateway's token.
    pub token: TestToken,
    /// Whether payments use it unless another is named.
    pub default: bool,
    pub version: i64,
    pub created_at: Timestamp,
}

/// The one gateway of this release.
pub const GATEWAY: &str = "test";

impl PaymentMethod {
    /// A method put on file now.
    pub fn put_on_file(
        id: PaymentMethodId,
        new: NewMethod,
        default: bool,
        now: Timestamp,
    ) -> PaymentMethod {
        PaymentMethod {
            id,
            display_name: new.display_name,
            token: new.token,
            default,
            version: 1,
            created_at: now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_knows_its_own_tokens() {
        assert!(TestToken::parse("4242 4242 4242 4242").is_err());
        for token in TestToken::ALL {
            assert_eq!(TestToken::parse(token.as_str()), Ok(token));
        }
    }

    #[test]
    fn a_method_without_a_name_is_called_by_its_token() {
        assert_eq!(check_display_name("").as_deref(), Ok("Test card"));
        assert_eq!(check_display_name("Visa 4242").as_deref(), Ok("Visa 4242"));
        assert!(check_display_name(" ").is_err());
    }

    #[test]
    fn a_token_says_how_and_when_its_charges_end() {
        for (token, declined, look) in [
            ("test-success", None, 0),
            (
                "test-decline-insufficient-funds",
                Some("insufficient_funds"),
                0,
            ),
            ("test-decline-card-expired", Some("card_expired"), 0),
            ("test-processing", None, 3),
            ("test-timeout-then-success", None, 1),
            ("test-timeout-then-decline", Some("do_not_honor"), 1),
        ] {
            let token = TestToken::parse(token).unwrap();
            assert_eq!(
                (token.decline_reason(), token.visible_at()),
                (declined, look)
            );
        }
    }
}
