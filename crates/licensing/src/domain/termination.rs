//! How and why groups are terminated.

use jiff::Timestamp;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Termination {
    /// Why; empty when the group was not to renew.
    pub(crate) reasons: Vec<Reason>,
    /// What the customer will use instead; may be empty.
    pub(crate) future_use: String,
    /// The customer's comment; may be empty.
    pub(crate) comment: String,
    /// When it takes or took effect.
    pub(crate) at: Timestamp,
    /// When it was requested; none when the group ended because it does not renew.
    pub(crate) requested_at: Option<Timestamp>,
}

/// A customer's request to terminate a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TerminationRequest {
    /// One or more reasons.
    pub(crate) reasons: Vec<Reason>,
    /// What they will use instead; may be empty.
    pub(crate) future_use: String,
    /// Their comment; may be empty.
    pub(crate) comment: String,
}

impl TerminationRequest {
    pub(crate) fn at(self, at: Timestamp, now: Timestamp) -> Termination {
        Termination {
            reasons: self.reasons,
            future_use: self.future_use,
            comment: self.comment,
            at,
            requested_at: Some(now),
        }
    }
}

/// Why a customer leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    MissingFeatures,
    Performance,
    Unreliable,
    TooExpensive,
    TooHard,
    Support,
    Tools,
    WrongSize,
    /// The brand is not known enough.
    Recognition,
    NotNeeded,
    /// Another product of the seller replaces it.
    OtherProduct,
    /// A competitor's product replaces it.
    Competitor,
    /// The customer does not want to say.
    NoAnswer,
    /// Another reason, given in the comment.
    Other,
}

impl Reason {
    pub(crate) const ALL: [Self; 14] = [
        Self::MissingFeatures,
        Self::Performance,
        Self::Unreliable,
        Self::TooExpensive,
        Self::TooHard,
        Self::Support,
        Self::Tools,
        Self::WrongSize,
        Self::Recognition,
        Self::NotNeeded,
        Self::OtherProduct,
        Self::Competitor,
        Self::NoAnswer,
        Self::Other,
    ];

    /// Its name in the database and, without prefix, on the wire.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::MissingFeatures => "MISSING_FEATURES",
            Self::Performance => "PERFORMANCE",
            Self::Unreliable => "UNRELIABLE",
            Self::TooExpensive => "TOO_EXPENSIVE",
            Self::TooHard => "TOO_HARD",
            Self::Support => "SUPPORT",
            Self::Tools => "TOOLS",
            Self::WrongSize => "WRONG_SIZE",
            Self::Recognition => "RECOGNITION",
            Self::NotNeeded => "NOT_NEEDED",
            Self::OtherProduct => "OTHER_PRODUCT",
            Self::Competitor => "COMPETITOR",
            Self::NoAnswer => "NO_ANSWER",
            Self::Other => "OTHER",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }
}
