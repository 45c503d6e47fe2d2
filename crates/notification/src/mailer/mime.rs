//! Builds the MIME message (RFC 5322): multipart/alternative, text and HTML.

use std::fmt::Display;
use std::time::SystemTime;

use jiff::Timestamp;
use lettre::Address;
use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message, MultiPart, SinglePart};

use crate::domain::account::Addressee;
use crate::domain::message::Message as Rendered;

/// Builds the message. `now` is its Date; `message_id` includes its angle brackets.
///
/// # Errors
/// Why no message can be sent to this address.
pub fn build(
    rendered: Rendered,
    to: &Addressee,
    from: &Mailbox,
    message_id: &str,
    now: Timestamp,
) -> Result<Message, String> {
    let recipient = to
        .email
        .parse()
        .map_err(|error| format!("{} is not an address: {error}", to.email))
        .and_then(|address| in_ascii(&address))?;
    // Quoted-printable whatever the content: accents stay the exception in French too, and the lines stay short.
    let part = |content_type, body| {
        SinglePart::builder()
            .header(content_type)
            .header(ContentTransferEncoding::QuotedPrintable)
            .body::<String>(body)
    };
    Message::builder()
        .message_id(Some(message_id.to_owned()))
        .date(SystemTime::from(now))
        .from(from.clone())
        .to(Mailbox::new(None, recipient))
        .subject(rendered.subject)
        // RFC 3834: suppresses out-of-office replies.
        .raw_header(raw("Auto-Submitted", "auto-generated"))
        .raw_header(raw("Content-Language", to.locale.tag()))
        .multipart(
            MultiPart::alternative()
                .singlepart(part(ContentType::TEXT_PLAIN, rendered.text))
                .singlepart(part(ContentType::TEXT_HTML, rendered.html)),
        )
        .map_err(|error| format!("it cannot be sent to {}: {error}", to.email))
}

/// The address in ASCII, its domain in A-labels, as every mail server accepts it.
///
/// # Errors
/// A local part that is not ASCII: too few mail servers support SMTPUTF8.
pub fn in_ascii(address: &Address) -> Result<Address, String> {
    if !address.user().is_ascii() {
        return Err(format!(
            "{address} has letters before the \"@\" that are not ASCII"
        ));
    }
    let broken =
        |error: &dyn Display| format!("{address} has no domain that mail is sent to: {error}");
    let domain = idna::domain_to_ascii(address.domain()).map_err(|error| broken(&error))?;
    Address::new(address.user(), domain).map_err(|error| broken(&error))
}

fn raw(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}
