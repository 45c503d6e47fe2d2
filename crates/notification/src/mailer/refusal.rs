//! Classifies a permanent SMTP reply (5xx): it is about this e-mail, which then fails, or about the sender, so that every
//! e-mail would be refused and waits for a changed setting.
//!
//! | a 5xx reply                                              | ends the e-mail                              |
//! |----------------------------------------------------------|----------------------------------------------|
//! | before MAIL FROM (greeting, EHLO, STARTTLS, AUTH), to it | no                                           |
//! | 530, 534, 535, 538: sign in, or otherwise                | no                                           |
//! | to RCPT TO: X.1.1, X.1.2, X.1.3, X.1.6, X.1.10, X.2.1, X.2.2, X.4.1 | yes                               |
//! | to RCPT TO: X.1.0, X.2.0; none, with 550 to 553          | unless it is about the sender                |
//! | to DATA: what is yes to RCPT TO                          | unless it is about the sender                |
//! | to the message: X.3.4 (size)                             | yes                                          |
//! | to the message: X.6 (content), X.2.2 (full)              | unless it is about the sender                |
//! | to the message: X.7.1 (policy)                           | if it is about the content, not the sender   |
//! | to the message: none, with 550 to 554                    | likewise, or 552 about a full mailbox        |
//! | any other                                                | no                                           |
//!
//! X.Y.Z is the enhanced status (RFC 3463) wherever it stands in the reply; X.0 counts as none. Providers use almost any of
//! them, at any step, for a sender that is not verified, over its limit or block-listed: so few statuses are trusted, and
//! hardly any against the reply's text. An e-mail that is retried in vain is given up after 72 hours, one that is failed in
//! error is lost with its password: an ambiguous reply is retried.

use std::fmt::{self, Display};
use std::time::Duration;

/// The command that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Sender,
    Recipient,
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
    /// The timeout of RFC 5321, 4.5.3.2. A server that takes longer may have accepted the message all the same, and gets it
    /// again under the same Message-ID.
    pub const fn timeout(self) -> Duration {
        Duration::from_mins(match self {
            Self::Sender | Self::Recipient => 5,
            Self::Data => 2,
            // Three for the message, ten for the answer.
            Self::Message => 13,
        })
    }
}

/// Words that show that a reply may be about the sender: its address, account, host, or volume.
const ABOUT_SENDER: [&str; 29] = [
    " from ",
    "auth",
    "black",
    "block",
    "client host",
    "denied",
    "dkim",
    "dmarc",
    "identit",
    "ip address",
    "limit",
    "listed",
    "mailfrom",
    "policy",
    "quota",
    "rbl",
    "rcpthosts",
    "relay",
    "reputation",
    "send as",
    "sendas",
    "sender",
    "sending",
    "spamhaus",
    "spf",
    "suspend",
    "too many",
    "verif",
    "your ip",
];

/// Words that show that a reply is about the content.
const ABOUT_CONTENT: [&str; 9] = [
    "attachment",
    "content",
    "malware",
    "mime",
    "size",
    "spam",
    "too big",
    "too large",
    "virus",
];

/// A quota that is the recipient's.
const MAILBOX_FULL: [&str; 4] = [
    "over quota",
    "mailbox full",
    "mailbox is full",
    "exceeded storage",
];

/// Whether a permanent refusal (5xx) ends the e-mail.
pub fn ends_email(step: Step, code: u16, text: &str) -> bool {
    if matches!(code, 530 | 534 | 535 | 538) {
        return false;
    }
    let text = text.to_lowercase();
    let contains_any = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let about_sender = is_about_sender(code, &text);
    let status = status(&text).filter(|(subject, _)| *subject != 0);
    let no_such_recipient = matches!(status, Some((1, 1 | 2 | 3 | 6 | 10) | (2, 1 | 2) | (4, 1)));
    match step {
        Step::Sender => false,
        Step::Recipient => match status {
            Some((1 | 2, 0)) => !about_sender,
            Some(_) => no_such_recipient,
            None => matches!(code, 550..=553) && !about_sender,
        },
        Step::Data => no_such_recipient && !about_sender,
        Step::Message => match status {
            Some((3, 4)) => true,
            Some((6, _) | (2, 2)) => !about_sender,
            Some((7, 1)) => contains_any(&ABOUT_CONTENT) && !about_sender,
            Some(_) => false,
            None => {
                let about_email =
                    contains_any(&ABOUT_CONTENT) || code == 552 && contains_any(&MAILBOX_FULL);
                matches!(code, 550..=554) && about_email && !about_sender
            }
        },
    }
}

/// Whether a reply, in lower case, may be about the sender. A full mailbox and an oversized message are not.
fn is_about_sender(code: u16, text: &str) -> bool {
    let others = MAILBOX_FULL
        .iter()
        .fold(text.to_owned(), |text, full| text.replace(full, ""));
    let of_size = code == 552 && text.contains("size");
    let ours = |word: &&str| others.contains(*word) && !(of_size && *word == "limit");
    ABOUT_SENDER.iter().any(ours)
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
        // As Postfix, Exim, Sendmail, qmail, Exchange and the large providers say it.
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
            (
                Message,
                554,
                "Message rejected: Email address is not verified. The following identities failed the check in region EU-WEST-1: a@b",
                false,
            ),
            (
                Message,
                554,
                "5.2.252 SendAsDenied; a@b not allowed to send as no-reply@shop",
                false,
            ),
            (
                Message,
                554,
                "5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied",
                false,
            ),
            (Message, 554, "Sending suspended for this account", false),
            (
                Message,
                554,
                "5.7.1 Spam from your IP address, see its reputation",
                false,
            ),
            (Message, 554, "transaction failed", false),
            (Message, 554, "5.1.1 a@b may not send as this sender", false),
            (
                Message,
                554,
                "5.6.0 header From is not an identity of yours",
                false,
            ),
            (
                Message,
                550,
                "5.4.5 Daily user sending limit exceeded",
                false,
            ),
            (
                Message,
                550,
                "5.1.90 Your message cannot be sent because you reached your daily limit for message recipients",
                false,
            ),
            (Message, 550, "5.7.1 no", false),
            (Message, 550, "SPF check failed", false),
            (Message, 552, "Daily sending quota exceeded", false),
            (
                Recipient,
                550,
                "rejected because 192.0.2.1 is in a black list at zen.spamhaus.org",
                false,
            ),
            (
                Recipient,
                550,
                "JunkMail rejected - mail.shop.example [192.0.2.1] is in an RBL",
                false,
            ),
            (Recipient, 550, "SPF check failed", false),
            (Recipient, 550, "5.1.90 you reached your daily limit", false),
            (Recipient, 550, "5.2.0 SendAsDenied", false),
            (Recipient, 550, "5.7.1 spam", false),
            (Recipient, 550, "Access denied", false),
            (Recipient, 552, "sender is over quota", false),
            (Recipient, 552, "sending limit reached", false),
            (
                Recipient,
                550,
                "5.1.1 The email account that you tried to reach does not exist. Please try double-checking the recipient's email address",
                true,
            ),
            (
                Recipient,
                550,
                "5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup",
                true,
            ),
            (Recipient, 550, "Unrouteable address", true),
            (
                Recipient,
                550,
                "5.1.1 <x>: Recipient address rejected: User unknown in virtual mailbox table",
                true,
            ),
            (Recipient, 550, "5.1.0 Address rejected", true),
            (Recipient, 550, "5.0.0 user unknown", true),
            (
                Recipient,
                550,
                "5.2.1 The email account that you tried to reach is disabled",
                true,
            ),
            (
                Recipient,
                552,
                "5.2.2 The email account that you tried to reach is over quota",
                true,
            ),
            (Recipient, 552, "mailbox full", true),
            (Recipient, 552, "x@y is over quota", true),
            (Message, 552, "Message size exceeds fixed limit", true),
            (Message, 552, "5.3.4 Message size exceeds fixed limit", true),
            (Message, 552, "mailbox full", true),
            (Message, 552, "5.2.2 over quota", true),
            (Message, 554, "5.7.1 Message contains a virus", true),
        ] {
            assert_eq!(ends_email(step, code, text), ends, "{step:?} {code} {text}");
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
        let minutes = |step: Step| step.timeout().as_secs() / 60;
        assert_eq!(
            [Step::Sender, Step::Recipient, Step::Data].map(minutes),
            [5, 5, 2]
        );
        assert!(minutes(Step::Message) >= 10);
    }
}
