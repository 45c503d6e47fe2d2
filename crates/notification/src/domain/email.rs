//! The states of an e-mail and of the password that it may carry.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use octroi_platform::name::{Kind, Owned};
use octroi_platform::text::is_unseen;
use uuid::Uuid;

use crate::domain::account::{Account, Addressee};
use crate::domain::content::Content;
use crate::domain::retry;

/// How long a password stays readable, in business time.
pub const SECRET_LIFE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The longest text kept of a mail server's answer, in characters.
const LONGEST_ERROR: usize = 500;

/// The name of an e-mail.
pub type EmailId = Owned<EmailKind>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EmailKind {}

impl Kind for EmailKind {
    type Id = Uuid;
    const KIND: &'static str = "email";
    const COLLECTION: &'static str = "emails";
}

/// A message to a customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email {
    pub id: EmailId,
    pub event: Uuid,
    /// When the event took effect, in business time.
    pub effective_at: Timestamp,
    /// Its template and parameters.
    pub content: Content,
    /// Its Message-ID with the angle brackets, the same on every attempt.
    pub message_id: String,
    /// Fixed by the first attempt; none until the account is known here.
    pub addressee: Option<Addressee>,
    pub delivery: Delivery,
    /// How often sending was tried.
    pub attempts: i32,
    /// Why the last attempt failed; empty if it did not.
    pub last_error: String,
    /// The password that it carries.
    pub secret: Secret,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Waiting for its next attempt.
    Queued,
    /// Leased by a worker.
    Sending,
    /// Accepted by the mail server.
    Sent { at: Timestamp },
    /// Permanently refused, or given up.
    Failed,
    /// Not sent, because its password ended first.
    Withdrawn,
}

/// The password that an e-mail carries.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    None,
    Readable {
        /// Resource name of the licence that it opens.
        license: String,
        /// The password, sealed for this e-mail's account and event.
        sealed: Vec<u8>,
        /// Until when it can be read, in business time.
        expires_at: Timestamp,
    },
    Erased {
        /// Resource name of the licence that it opened.
        license: String,
        /// Until when it could have been read.
        expires_at: Timestamp,
    },
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Secret::None => "None",
            Secret::Readable { .. } => "Readable",
            Secret::Erased { .. } => "Erased",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Delivered,
    /// This e-mail was permanently refused.
    Refused(String),
    /// It failed for now.
    Later(String),
    /// The mail server refuses every e-mail of this sender: it waits for changed settings.
    TurnedAway(String),
    /// Its password ended before it was sent.
    SecretEnded,
}

/// The state after an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    Sent,
    /// It is tried again.
    Retry {
        /// After this time, in machine time.
        wait: Duration,
        error: String,
        /// Whether the mail server refuses every e-mail of this sender.
        turned_away: bool,
    },
    Failed {
        error: String,
    },
    Withdrawn,
}

/// Why an e-mail cannot be tried now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    #[error("it is not queued")]
    NotQueued,
    #[error("its account is not known yet")]
    NoAddressee,
}

impl Email {
    /// Fixes the addressee, unless an earlier attempt did: the account's contact when the event took effect.
    #[must_use]
    pub fn addressed(mut self, account: Option<&Account>) -> Self {
        if self.addressee.is_none() {
            self.addressee = account.map(|account| account.addressee(self.effective_at));
        }
        self
    }

    /// Begins an attempt, or withdraws the e-mail when the password that it would carry has ended.
    ///
    /// # Errors
    /// It is not queued, or its account is not known yet.
    pub fn begin_attempt(self, now: Timestamp) -> Result<Self, NotNow> {
        if self.delivery != Delivery::Queued {
            return Err(NotNow::NotQueued);
        }
        if self.secret.has_ended(now) {
            return Ok(self.without_secret());
        }
        if self.addressee.is_none() {
            return Err(NotNow::NoAddressee);
        }
        Ok(Self {
            delivery: Delivery::Sending,
            attempts: self.attempts.saturating_add(1),
            ..self
        })
    }

    /// Erases the password. A queued e-mail is withdrawn with it; one that is being sent is withdrawn if it is to be
    /// retried.
    #[must_use]
    pub fn without_secret(self) -> Self {
        let secret = self.secret.erased();
        let delivery = match (&secret, self.delivery) {
            (Secret::Erased { .. }, Delivery::Queued) => Delivery::Withdrawn,
            (_, delivery) => delivery,
        };
        Self {
            secret,
            delivery,
            ..self
        }
    }

    /// The state after an attempt, when `left` of machine time remains until the e-mail is given up.
    pub fn after_attempt(&self, outcome: Outcome, left: Duration, random: u64) -> Next {
        let turned_away = matches!(outcome, Outcome::TurnedAway(_));
        match outcome {
            Outcome::Delivered => Next::Sent,
            Outcome::SecretEnded => Next::Withdrawn,
            Outcome::Refused(error) => Next::Failed {
                error: shortened(&error),
            },
            Outcome::Later(error) | Outcome::TurnedAway(error) => {
                let error = shortened(&error);
                match retry::next_attempt(self.attempts, left, random) {
                    Some(wait) => Next::Retry {
                        wait,
                        error,
                        turned_away,
                    },
                    None => Next::Failed { error },
                }
            }
        }
    }
}

impl Secret {
    /// The sealed password, if it can still be read.
    pub fn readable(&self, now: Timestamp) -> Option<&[u8]> {
        match self {
            Secret::Readable {
                sealed, expires_at, ..
            } if now < *expires_at => Some(sealed),
            Secret::Readable { .. } | Secret::None | Secret::Erased { .. } => None,
        }
    }

    /// Until when it can be read, or could have been.
    pub fn expires_at(&self) -> Option<Timestamp> {
        match self {
            Secret::None => None,
            Secret::Readable { expires_at, .. } | Secret::Erased { expires_at, .. } => {
                Some(*expires_at)
            }
        }
    }

    /// Whether there was one that cannot be read any more.
    pub fn has_ended(&self, now: Timestamp) -> bool {
        !matches!(self, Secret::None) && self.readable(now).is_none()
    }

    fn erased(self) -> Self {
        match self {
            Secret::Readable {
                license,
                expires_at,
                ..
            } => Secret::Erased {
                license,
                expires_at,
            },
            other => other,
        }
    }
}

/// A server's reply on one line, truncated.
fn shortened(error: &str) -> String {
    error
        .chars()
        .map(
            |character| {
                if is_unseen(character) { ' ' } else { character }
            },
        )
        .take(LONGEST_ERROR)
        .collect()
}

#[cfg(test)]
mod tests {
    use octroi_platform::name::AccountId;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::content::Login;
    use crate::domain::locale::Locale;

    fn instant(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn email(secret: Secret) -> Email {
        Email {
            id: EmailId {
                account: AccountId::new("acme"),
                id: Uuid::from_u128(1),
            },
            event: Uuid::from_u128(1),
            effective_at: instant(0),
            content: Content::LicenseActivated(Login {
                offer: "Apps".to_owned(),
                activation_email: "desk@acme.example".to_owned(),
                user: String::new(),
            }),
            message_id: "<1@octroi.test>".to_owned(),
            addressee: Some(Addressee {
                email: "it@acme.example".to_owned(),
                locale: Locale::Fr,
                customer: "Acme SAS".to_owned(),
                time_zone: "Europe/Paris".to_owned(),
            }),
            delivery: Delivery::Queued,
            attempts: 0,
            last_error: String::new(),
            secret,
        }
    }

    fn readable(expires_at: i64) -> Secret {
        Secret::Readable {
            license: "accounts/acme/licenseGroups/office/licenses/1".to_owned(),
            sealed: vec![1, 2, 3],
            expires_at: instant(expires_at),
        }
    }

    #[test]
    fn an_email_without_an_account_waits() {
        let waiting = Email {
            addressee: None,
            ..email(Secret::None)
        };
        assert_eq!(
            waiting.clone().begin_attempt(instant(1)),
            Err(NotNow::NoAddressee)
        );
        let account = Account {
            version: 1,
            contact_email: "new@acme.example".to_owned(),
            locale: Locale::En,
            legal_name: "Acme".to_owned(),
            zones: Vec::new(),
        };
        let addressed = waiting.addressed(Some(&account));
        assert_eq!(
            addressed.addressee.as_ref().map(|to| to.email.as_str()),
            Some("new@acme.example")
        );
        // What is fixed stays.
        let fixed = email(Secret::None);
        assert_eq!(fixed.clone().addressed(Some(&account)), fixed);
        let sending = addressed.begin_attempt(instant(1)).unwrap();
        assert_eq!((sending.delivery, sending.attempts), (Delivery::Sending, 1));
        let name = sending.id.to_string();
        assert!(name.starts_with("accounts/acme/emails/0000"));
    }

    #[test]
    fn a_secret_that_ends_while_its_email_is_handed_over_lets_it_go() {
        let sending = email(readable(100)).begin_attempt(instant(1)).unwrap();
        let erased = sending.without_secret();
        assert_eq!(erased.delivery, Delivery::Sending);
        assert!(matches!(erased.secret, Secret::Erased { .. }));
        let back = Email {
            delivery: Delivery::Queued,
            ..erased
        };
        assert_eq!(
            back.begin_attempt(instant(2)).unwrap().delivery,
            Delivery::Withdrawn
        );
    }

    #[test]
    fn an_error_is_kept_short_and_on_one_line() {
        let sending = email(Secret::None).begin_attempt(instant(1)).unwrap();
        let long = format!("451 busy\r\n{}", "é".repeat(2_000));
        let Next::Retry { error, .. } =
            sending.after_attempt(Outcome::Later(long), Duration::from_secs(9), 0)
        else {
            panic!("it must be tried again");
        };
        assert_eq!(error.chars().count(), LONGEST_ERROR);
        assert!(error.starts_with("451 busy  é"));
    }

    #[test]
    fn a_secret_s_end_outlives_it() {
        assert_eq!(readable(100).expires_at(), Some(instant(100)));
        assert_eq!(readable(100).erased().expires_at(), Some(instant(100)));
        assert_eq!(Secret::None.expires_at(), None);
    }

    #[test]
    fn a_secret_never_shows_in_debug_output() {
        assert_eq!(format!("{:?}", readable(1)), "Readable");
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Try,
        Deliver,
        Refuse,
        Later { left: u64, random: u64 },
        Void,
        Wait(i64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Try),
            1 => Just(Step::Deliver),
            1 => Just(Step::Refuse),
            2 => (0..3_u64, any::<u64>()).prop_map(|(left, random)| Step::Later { left, random }),
            1 => Just(Step::Void),
            2 => (0..60_i64).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// Whatever happens in whatever order: a password that ended is never readable again nor sent, ends stay ends,
        /// and an e-mail without a password is never withdrawn.
        #[test]
        fn a_life_keeps_its_promises(
            with_secret in any::<bool>(),
            steps in prop::collection::vec(step(), 1..40),
        ) {
            let mut now = 0;
            let mut state = email(if with_secret { readable(100) } else { Secret::None });
            let mut ended = false;
            for step in steps {
                let before = state.clone();
                let next = |outcome, left, random| {
                    matches!(before.delivery, Delivery::Sending)
                        .then(|| before.after_attempt(outcome, Duration::from_secs(left), random))
                };
                let followed = match step {
                    Step::Try => {
                        if let Ok(tried) = before.clone().begin_attempt(instant(now)) {
                            state = tried;
                        }
                        None
                    }
                    Step::Deliver => next(Outcome::Delivered, 1, 0),
                    Step::Refuse => next(Outcome::Refused("550".to_owned()), 1, 0),
                    Step::Later { left, random } => {
                        next(Outcome::Later("451".to_owned()), left, random)
                    }
                    Step::Void => {
                        state = before.clone().without_secret();
                        None
                    }
                    Step::Wait(seconds) => {
                        now += seconds;
                        None
                    }
                };
                match followed {
                    None => {}
                    Some(Next::Sent) => state.delivery = Delivery::Sent { at: instant(now) },
                    Some(Next::Failed { .. }) => state.delivery = Delivery::Failed,
                    Some(Next::Retry { .. }) => state.delivery = Delivery::Queued,
                    Some(Next::Withdrawn) => prop_assert!(false, "nothing said so"),
                }
                if ended {
                    prop_assert!(state.secret.readable(instant(now)).is_none());
                    prop_assert!(
                        before.delivery == Delivery::Sending || state.delivery != Delivery::Sending
                    );
                }
                ended |= state.secret.has_ended(instant(now));
                if matches!(
                    before.delivery,
                    Delivery::Sent { .. } | Delivery::Failed | Delivery::Withdrawn
                ) {
                    prop_assert_eq!(state.delivery, before.delivery);
                }
                if state.delivery == Delivery::Withdrawn {
                    let erased = matches!(state.secret, Secret::Erased { .. });
                    prop_assert!(erased);
                }
                prop_assert_eq!(with_secret, state.secret != Secret::None);
            }
        }
    }
}
