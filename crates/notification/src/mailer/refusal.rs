//! What a mail server's refusal is about: the e-mail, which it ends, or us, whom no other e-mail could help.
//!
//! | a 5xx answer                                                          | ends the e-mail                          |
//! |-----------------------------------------------------------------------|------------------------------------------|
//! | before MAIL FROM (greeting, EHLO, STARTTLS, AUTH) or to it            | no                                       |
//! | 530, 534, 535, 538: sign in, or otherwise                             | no                                       |
//! | X.1.7, X.1.8: the sender's address                                    | no                                       |
//! | other X.1 (address) but X.1.0, X.2 (mailbox), X.6 (content), X.3.4 (size) | yes                                  |
//! | X.7.0, X.7.1: policy, which after the message is mostly its content   | after the message, if it says nothing of us |
//! | other X.7: sign-in, encryption, proofs of who we are                  | no                                       |
//! | any other or none: 550 to 553 to RCPT TO, 550 to 554 to the message   | if it says nothing of us                 |
//! | any other or none, otherwise                                          | no                                       |
//!
//! X.Y.Z is the enhanced status (RFC 3463) wherever it stands in the answer. An e-mail that waits in vain is given up in
//! the end, one that is ended in error is lost with its password: where an answer can be read both ways, it waits.

use std::fmt::{self, Display};
use std::time::Duration;

/// What the mail server was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// MAIL FROM.
    Sender,
    /// RCPT TO.
    Recipient,
    /// DATA.
    Data,
    /// The message and its final dot.
    Message,
}

impl Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sender => "MAIL FROM",
            Self::Recipient => "RCPT TO",
            Self::Data => "DATA",
            Self::Message => "the message",
        })
    }
}

impl Step {
    /// How long an answer is waited for: what RFC 5321, 4.5.3.2, gives it. A server that judged a message for longer than
    /// it is waited for may have taken it all the same, and gets it again under the same Message-ID.
    pub const fn patience(self) -> Duration {
        Duration::from_mins(match self {
            Self::Sender | Self::Recipient => 5,
            Self::Data => 2,
            // Three for the message, ten for the answer.
            Self::Message => 13,
        })
    }
}

/// What shows that an answer speaks of us.
const OF_US: [&str; 4] = ["relay", "sender", "authenticat", "blocked"];

/// Whether a permanent refusal (5xx) ends the e-mail.
pub fn ends_it(step: Step, code: u16, text: &str) -> bool {
    if step == Step::Sender || matches!(code, 530 | 534 | 535 | 538) {
        return false;
    }
    let lower = text.to_lowercase();
    let of_us = OF_US.iter().any(|word| lower.contains(word));
    match status(text) {
        Some((1, 7 | 8)) => false,
        Some((1, 1..) | (2 | 6, _) | (3, 4)) => true,
        Some((7, 0 | 1)) => step == Step::Message && !of_us,
        Some((7, _)) => false,
        Some(_) | None => {
            let of_it = match step {
                Step::Recipient => matches!(code, 550..=553),
                Step::Message => matches!(code, 550..=554),
                Step::Sender | Step::Data => false,
            };
            of_it && !of_us
        }
    }
}

/// Subject and detail of the enhanced status: the first word of an answer such as "5.1.1" or "(#5.7.1)".
fn status(text: &str) -> Option<(u16, u16)> {
    let is_part = |c: char| c.is_ascii_digit() || c == '.';
    text.split(|c: char| c.is_whitespace() || "()[]#:;,-".contains(c))
        .filter(|word| word.chars().all(is_part))
        .find_map(|word| {
            let mut parts = word.strip_prefix("5.")?.split('.');
            let (subject, detail) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            parts.next().is_none().then_some((subject, detail))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_refuses_the_recipient_or_the_content_ends_an_email() {
        use Step::{Data, Message, Recipient, Sender};
        // As Postfix, Exim, Sendmail, qmail and Exchange say it.
        for (step, code, text, ends) in [
            (Sender, 550, "5.1.1 no such user", false),
            (
                Sender,
                553,
                "sorry, your envelope sender is in my badmailfrom list",
                false,
            ),
            (Sender, 552, "5.3.4 too big", false),
            (
                Recipient,
                550,
                "5.1.1 <x@y>: User unknown in relay recipient table",
                true,
            ),
            (Recipient, 550, "mailbox unavailable", true),
            (Recipient, 552, "5.2.2 mailbox full", true),
            (Recipient, 553, "mailbox name not allowed", true),
            (
                Recipient,
                550,
                "5.4.1 Recipient address rejected: Access denied",
                true,
            ),
            (Recipient, 501, "5.1.3 bad recipient address syntax", true),
            (Recipient, 501, "what", false),
            (Recipient, 503, "5.5.1 need MAIL command", false),
            (Recipient, 554, "transaction failed", false),
            (Recipient, 554, "5.7.1 <x@y>: Relay access denied", false),
            (
                Recipient,
                550,
                "5.7.54 SMTP; Unable to relay recipient in non-accepted domain",
                false,
            ),
            (Recipient, 550, "relay not permitted", false),
            (Recipient, 550, "Authentication required", false),
            (
                Recipient,
                553,
                "sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)",
                false,
            ),
            (
                Recipient,
                550,
                "5.1.0 <a@b>: Sender address rejected: User unknown",
                false,
            ),
            (
                Recipient,
                550,
                "5.1.8 <a@b>: domain of sender does not exist",
                false,
            ),
            (
                Recipient,
                554,
                "5.7.1 Service unavailable; Client host [192.0.2.1] blocked",
                false,
            ),
            (
                Recipient,
                530,
                "5.7.0 Must issue a STARTTLS command first",
                false,
            ),
            (Data, 554, "5.7.1 no", false),
            (Data, 554, "no valid recipients", false),
            (Data, 550, "5.1.1 nobody of that name", true),
            (Message, 554, "5.7.1 this is spam", true),
            (Message, 550, "content rejected", true),
            (Message, 552, "5.3.4 message too big", true),
            (Message, 554, "5.6.0 bad MIME", true),
            (Message, 550, "5.7.1 Relaying denied", false),
            (Message, 550, "5.7.26 unauthenticated sender", false),
            (Message, 535, "5.7.8 sign in again", false),
            (Message, 503, "bad sequence", false),
        ] {
            assert_eq!(ends_it(step, code, text), ends, "{step:?} {code} {text}");
        }
    }

    #[test]
    fn a_status_is_three_numbers_wherever_it_stands() {
        assert_eq!(status("5.7.1 no"), Some((7, 1)));
        assert_eq!(status("no (#5.7.12)"), Some((7, 12)));
        for none in [
            "",
            "no",
            "4.7.1 later",
            "at 5.7.1.9",
            "version 5.7",
            "5.x.1",
        ] {
            assert_eq!(status(none), None, "{none}");
        }
    }

    /// RFC 5321, 4.5.3.2.
    #[test]
    fn every_answer_has_its_time() {
        let minutes = |step: Step| step.patience().as_secs() / 60;
        assert_eq!(
            [Step::Sender, Step::Recipient, Step::Data].map(minutes),
            [5, 5, 2]
        );
        assert!(minutes(Step::Message) >= 10);
    }
}
