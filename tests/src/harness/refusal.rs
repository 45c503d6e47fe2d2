//! Answers: the message, or the refusal with its details.

use std::collections::BTreeMap;
use std::time::Duration;

use tonic::{Code, Response, Status};
use tonic_types::{ErrorDetails, PreconditionViolation, StatusExt as _};

/// A refusal and its details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The status' code.
    pub code: Code,
    /// ErrorInfo's reason.
    pub reason: String,
    /// The status' message.
    pub message: String,
    /// The fields that BadRequest names, in its order.
    pub fields: Vec<String>,
    /// The subjects that QuotaFailure names, with their descriptions.
    pub quotas: Vec<(String, String)>,
    /// ErrorInfo's metadata.
    pub metadata: BTreeMap<String, String>,
    /// RetryInfo's delay.
    pub retry: Option<Duration>,
}

impl Refused {
    /// Reads a status and its details.
    ///
    /// # Panics
    /// When it has no ErrorInfo of Octroi's, as every refusal must.
    #[must_use]
    #[track_caller]
    pub fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        let Some(info) = details.error_info() else {
            panic!("a refusal without ErrorInfo: {status:?}");
        };
        assert_eq!(info.domain, "octroi", "{status:?}");
        hold_to_the_dialect(status, &details, &info.reason);
        let fields = details.bad_request().map(|bad| &bad.field_violations);
        let quotas = details.quota_failure().map(|quota| &quota.violations);
        Self {
            code: status.code(),
            reason: info.reason.clone(),
            message: status.message().to_owned(),
            fields: fields
                .into_iter()
                .flatten()
                .map(|violation| violation.field.clone())
                .collect(),
            quotas: quotas
                .into_iter()
                .flatten()
                .map(|violation| (violation.subject.clone(), violation.description.clone()))
                .collect(),
            metadata: info.metadata.clone().into_iter().collect(),
            retry: details.retry_info().and_then(|retry| retry.retry_delay),
        }
    }

    /// Checks the refusal's code and reason.
    ///
    /// # Panics
    /// When they differ.
    #[track_caller]
    pub fn is(&self, code: Code, reason: &str) -> &Self {
        assert_eq!(
            (self.code, self.reason.as_str()),
            (code, reason),
            "{self:?}"
        );
        self
    }

    /// Checks that the refusal names exactly these fields, in any order.
    ///
    /// # Panics
    /// When it names others.
    #[track_caller]
    pub fn names(&self, fields: &[&str]) {
        self.is(Code::InvalidArgument, "INVALID_FIELDS");
        let (mut named, mut expected) = (self.fields.clone(), fields.to_vec());
        named.sort();
        expected.sort_unstable();
        assert_eq!(named, expected, "{}", self.message);
    }
}

/// What is refused for the same kind of reason says so in the same way, whichever service refuses it.
#[track_caller]
fn hold_to_the_dialect(status: &Status, details: &ErrorDetails, reason: &str) {
    let failures = details.precondition_failure();
    let failures = failures.map_or(&[][..], |failure| &failure.violations);
    let told = |failure: &PreconditionViolation| {
        !failure.subject.is_empty()
            && failure.r#type == reason
            && failure.description == status.message()
    };
    assert!(failures.iter().all(told), "{status:?}");
    let has = match status.code() {
        Code::FailedPrecondition => !failures.is_empty() || details.quota_failure().is_some(),
        Code::NotFound | Code::AlreadyExists => details.resource_info().is_some(),
        Code::Aborted if reason == "ETAG_MISMATCH" => details.resource_info().is_some(),
        Code::Internal => details
            .error_info()
            .is_some_and(|info| info.metadata.contains_key("call_id")),
        _ => true,
    };
    assert!(has, "a detail is missing: {status:?} {details:?}");
}

/// What a test expects of an answer.
pub trait Answer<T> {
    /// The message; fails on a refusal.
    fn got(self) -> T;
    /// The refusal; fails on a message.
    fn refused(self) -> Refused;
}

impl<T: std::fmt::Debug> Answer<T> for Result<Response<T>, Status> {
    #[track_caller]
    fn got(self) -> T {
        match self {
            Ok(response) => response.into_inner(),
            Err(status) => panic!("refused: {:?}", Refused::of(&status)),
        }
    }

    #[track_caller]
    fn refused(self) -> Refused {
        match self {
            Ok(response) => panic!("not refused: {:?}", response.into_inner()),
            Err(status) => Refused::of(&status),
        }
    }
}
