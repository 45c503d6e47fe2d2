//! Refusals and bad fields, as statuses that every client can read.

use std::collections::HashMap;
use std::fmt::Display;
use std::time::Duration;

use octroi_api::r#type::v1::ErrorReason;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The domain of every reason.
pub const DOMAIN: &str = "octroi";

/// The most that a refusal weighs as it is sent: its headers' names and values, the details in base64. Stock clients
/// take 8 KiB of headers, and one that gets more loses the refusal, or the whole connection.
const HEAVIEST: usize = 6 * 1024;
/// Limits: bad fields named, bytes of each text, bytes of the message.
const MOST_VIOLATIONS: usize = 20;
const LONGEST_TEXT: usize = 200;
const LONGEST_MESSAGE: usize = 512;
/// The rule that what is not there breaks.
pub const MISSING: &str = "must be given";

/// Every bad field of a request, each with the rule that it broke; of very many the first, and the rest counted.
#[derive(Debug, Default)]
pub struct Violations {
    first: Vec<(String, String)>,
    more: usize,
}

impl Violations {
    /// Notes a bad field.
    pub fn add(&mut self, field: impl Into<String>, rule: impl Into<String>) {
        if self.first.len() < MOST_VIOLATIONS {
            let (field, rule) = (field.into(), rule.into());
            self.first
                .push((cut(field, LONGEST_TEXT), cut(rule, LONGEST_TEXT)));
        } else {
            self.more += 1;
        }
    }

    /// Notes the error of a conversion, or gives its value.
    pub fn check<T, E: Display>(&mut self, field: &str, result: Result<T, E>) -> Option<T> {
        result
            .map_err(|rule| self.add(field, rule.to_string()))
            .ok()
    }

    /// Notes a message that is missing, and gives an empty one, so that what must be in it is named too.
    pub fn given<T: Default>(&mut self, field: &str, message: Option<T>) -> T {
        message.unwrap_or_else(|| {
            self.add(field, MISSING);
            T::default()
        })
    }

    /// Whether every field is good so far.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }
}

/// Ends a text at a character's border, so that it has no more than `most` bytes.
fn cut(mut text: String, most: usize) -> String {
    const END: &str = "…";
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most.saturating_sub(END.len())));
        text.push_str(END);
    }
    text
}

impl Display for Violations {
    /// Of very many those that a message holds.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut said = 0;
        for (at, (field, rule)) in self.first.iter().enumerate() {
            said += field.len() + rule.len();
            if at > 0 && said > LONGEST_MESSAGE - LONGEST_TEXT {
                let more = self.first.len() - at + self.more;
                return write!(f, "; and {more} more");
            }
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}{field} {rule}")?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// A refusal: a Status with `google.rpc` details. Values that it echoes are truncated here, so that every client can read it
/// whatever a caller sent.
#[derive(Debug)]
pub struct Refusal(Box<Parts>);

#[derive(Debug)]
struct Parts {
    code: Code,
    reason: &'static str,
    message: String,
    details: ErrorDetails,
    metadata: HashMap<String, String>,
    violations: Violations,
}

impl Refusal {
    /// A refusal with a service's own reason, such as "LICENSE_LIMIT_REACHED".
    pub fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            code,
            reason: plain(reason),
            message: cut(message.into(), LONGEST_MESSAGE),
            details: ErrorDetails::new(),
            metadata: HashMap::new(),
            violations: Violations::default(),
        }))
    }

    /// Its reason, such as "LICENSE_LIMIT_REACHED".
    pub fn reason(&self) -> &'static str {
        self.0.reason
    }

    /// A refusal with a reason that every service shares.
    pub fn shared(code: Code, reason: ErrorReason, message: impl Into<String>) -> Self {
        Self::new(code, reason.as_str_name(), message)
    }

    /// Adds a fact for machines to the ErrorInfo.
    pub fn meta(mut self, key: &str, value: impl Into<String>) -> Self {
        self.0
            .metadata
            .insert(key.to_owned(), cut(value.into(), LONGEST_TEXT));
        self
    }

    /// A refusal because of what a subject is or lacks: its PreconditionFailure has the reason as its type.
    pub fn because_of(
        reason: &'static str,
        subject: &impl Display,
        message: impl Into<String>,
    ) -> Self {
        let mut refusal = Self::new(Code::FailedPrecondition, reason, message);
        let parts = &mut refusal.0;
        let [subject, description] = [subject.to_string(), parts.message.clone()];
        let [subject, description] = [subject, description].map(|text| cut(text, LONGEST_TEXT));
        parts
            .details
            .add_precondition_failure_violation(parts.reason, subject, description);
        refusal
    }

    /// Adds a QuotaFailure.
    pub fn quota(mut self, subject: &str, description: &str) -> Self {
        let [subject, description] =
            [subject, description].map(|text| cut(text.to_owned(), LONGEST_TEXT));
        self.0
            .details
            .add_quota_failure_violation(subject, description);
        self
    }

    /// Adds a ResourceInfo.
    pub fn resource(mut self, kind: &str, name: impl Into<String>) -> Self {
        let name = cut(name.into(), LONGEST_TEXT);
        self.0.details.set_resource_info(kind, name, "", "");
        self
    }

    /// Adds a RetryInfo.
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.0.details.set_retry_info(Some(delay));
        self
    }

    /// Adds a BadRequest. How many fields it does not name stands in the ErrorInfo.
    pub(crate) fn bad_request(mut self, violations: Violations) -> Self {
        self.0.violations = violations;
        self
    }

    /// The status to answer, cut to the size that clients take: the last bad fields are dropped first.
    pub fn status(mut self) -> Status {
        let mut status = self.full_status();
        while weight(&status) > HEAVIEST {
            if self.0.violations.first.pop().is_some() {
                self.0.violations.more += 1;
            } else {
                (self.0.details, self.0.metadata) = Default::default();
                return self.full_status();
            }
            status = self.full_status();
        }
        status
    }

    fn full_status(&self) -> Status {
        let (mut details, mut metadata) = (self.0.details.clone(), self.0.metadata.clone());
        for (field, rule) in &self.0.violations.first {
            details.add_bad_request_violation(field, rule);
        }
        if self.0.violations.more > 0 {
            let more = self.0.violations.more.to_string();
            metadata.insert("more_violations".to_owned(), more);
        }
        details.set_error_info(self.0.reason, DOMAIN, metadata);
        Status::with_error_details(self.0.code, &self.0.message, details)
    }
}

impl Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Refusal {}

/// Refusals are equal when reason and message are.
impl PartialEq for Refusal {
    fn eq(&self, other: &Self) -> bool {
        (self.0.reason, &self.0.message) == (other.0.reason, &other.0.message)
    }
}

/// The size of a status in an answer's headers.
fn weight(status: &Status) -> usize {
    let mut headers = http::HeaderMap::new();
    match status.add_header(&mut headers) {
        Ok(()) => headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum(),
        Err(_) => usize::MAX,
    }
}

/// A reason on the wire, from its enum's name: "CONFLICT" from "ERROR_REASON_CONFLICT".
pub fn plain(reason: &str) -> &str {
    reason.trim_start_matches("ERROR_REASON_")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::Error;

    /// Text that is long, and takes more room on the wire than in memory.
    fn hostile() -> impl Strategy<Value = String> {
        let letter = prop_oneof![
            Just("a"),
            Just(" "),
            Just("\""),
            Just("\u{0}"),
            Just("\r\n"),
            Just("é"),
            Just("한"),
            Just("👩\u{200d}🚀")
        ];
        (letter, 0..700_usize, ".{0,9}")
            .prop_map(|(letter, times, end)| letter.repeat(times) + &end)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_client_can_read_a_refusal(
            fields in prop::collection::vec((hostile(), hostile()), 0..60),
            facts in prop::collection::vec(hostile(), 0..60),
            message in hostile(),
        ) {
            let mut violations = Violations::default();
            for (field, rule) in &fields {
                violations.add(field, rule);
            }
            let reason = ErrorReason::InvalidFields.as_str_name();
            let mut refusal = Refusal::because_of(reason, &message, &message)
                .resource("thing", "é".repeat(5000))
                .bad_request(violations);
            for (at, fact) in facts.iter().enumerate() {
                refusal = match at % 2 {
                    0 => refusal.meta(&format!("fact{at}"), fact),
                    _ => refusal.quota(fact, fact),
                };
            }
            let status = refusal.status();
            prop_assert!(weight(&status) <= HEAVIEST);
            let details = status.get_error_details();
            let info = details.error_info().unwrap();
            prop_assert_eq!((&*info.reason, &*info.domain), ("INVALID_FIELDS", DOMAIN));
            let bad = details.bad_request();
            let named = bad.map_or(&[][..], |bad| &bad.field_violations);
            prop_assert!(named.len() <= MOST_VIOLATIONS);
            let more = info.metadata.get("more_violations");
            let more: usize = more.map_or(0, |more| more.parse().unwrap());
            prop_assert_eq!(named.len() + more, fields.len());
            for (said, (field, _)) in named.iter().zip(&fields) {
                prop_assert!(field == &said.field || field.starts_with(said.field.trim_end_matches('…')));
            }
        }

        #[test]
        fn a_message_says_how_many_fields_it_leaves_out(count in 1..100_usize, rule in hostile()) {
            let mut violations = Violations::default();
            for at in 0..count {
                violations.add(format!("field{at}"), &rule);
            }
            let status = Status::from(Error::Invalid(violations));
            prop_assert!(weight(&status) <= HEAVIEST);
            let (told, more) = match status.message().rsplit_once("; and ") {
                Some((told, more)) => (told, more.strip_suffix(" more").unwrap().parse().unwrap()),
                None => (status.message(), 0),
            };
            let named = (0..count).filter(|at| told.contains(&format!("field{at} ")));
            prop_assert_eq!(named.count() + more, count);
        }
    }

    /// What is ordinary comes whole.
    #[test]
    fn twenty_ordinary_fields_are_all_named() {
        let mut violations = Violations::default();
        for at in 0..20 {
            violations.add(
                format!("order.lines[{at}].offer"),
                "must be the name of an offer: offers/ and an id",
            );
        }
        let status = Status::from(Error::Invalid(violations));
        let details = status.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations.len(), 20);
        assert!(
            !details
                .error_info()
                .unwrap()
                .metadata
                .contains_key("more_violations")
        );
    }
}
