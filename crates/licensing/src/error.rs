//! What licensing refuses, and how it is said on the wire.

use std::time::Duration;

use octroi_api::licensing::v1::ErrorReason;
use octroi_platform::Refusal;
use octroi_platform::error::Error as Platform;
use tonic::{Code, Status};

/// Everything that a use case of licensing may answer instead of its result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// What any service may refuse or meet.
    #[error(transparent)]
    Platform(#[from] Platform),
    /// The group would hold more licences of the offer than the offer allows.
    #[error("the group would hold more than {limit} licences of {offer}")]
    LicenseLimitReached {
        /// Resource name of the offer.
        offer: String,
        /// The most licences of it that a group may hold.
        limit: i32,
    },
    /// The offer is no longer sold.
    #[error("{offer} is no longer sold")]
    OfferArchived {
        /// Resource name of the offer.
        offer: String,
    },
    /// PREPAID.
    #[error("PREPAID billing is not available yet")]
    BillingModeUnavailable,
    /// The order was not paid in time.
    #[error("{order} was not paid in time")]
    OrderExpired {
        /// Resource name of the order.
        order: String,
    },
    /// The order's state does not allow this.
    #[error("{order} is {state}")]
    OrderState {
        /// Resource name of the order.
        order: String,
        /// Its state, as the enum's name without its prefix.
        state: &'static str,
    },
    /// An order of the group is being paid.
    #[error("an order of {group} is being paid; wait for its outcome")]
    OrderInProgress {
        /// Resource name of the group.
        group: String,
    },
    /// The payment was declined.
    #[error("the payment of {order} was declined: {reason}")]
    PaymentDeclined {
        /// Resource name of the order.
        order: String,
        /// The gateway's reason, such as "insufficient_funds".
        reason: String,
    },
    /// The payment has no definite outcome yet.
    #[error("the payment of {order} has no definite outcome yet; it goes on by itself")]
    PaymentProcessing {
        /// Resource name of the order.
        order: String,
    },
    /// No valid payment method is on file.
    #[error("no valid payment method is on file to pay {order}")]
    PaymentMethodMissing {
        /// Resource name of the order.
        order: String,
    },
    /// Billing has no price in force; its message says for what.
    #[error("{0}")]
    PriceMissing(String),
    /// Billing has no tax rate in force; its message says for what.
    #[error("{0}")]
    TaxRateMissing(String),
    /// Billing refused to quote or to settle.
    #[error("billing refused: {message}")]
    QuoteRefused {
        /// Billing's reason, such as "AMOUNT_OVERFLOW".
        reason: String,
        /// Billing's message.
        message: String,
    },
    /// The group is terminated.
    #[error("{group} is terminated")]
    GroupTerminated {
        /// Resource name of the group.
        group: String,
    },
    /// The group is suspended.
    #[error("{group} is suspended")]
    GroupSuspended {
        /// Resource name of the group.
        group: String,
    },
    /// The group has no termination to take back.
    #[error("no termination of {group} is scheduled")]
    NoTerminationScheduled {
        /// Resource name of the group.
        group: String,
    },
    /// The group's termination at period end is scheduled already.
    #[error("a termination of {group} is scheduled already")]
    TerminationScheduled {
        /// Resource name of the group.
        group: String,
    },
    /// The licence has a user.
    #[error("{license} already has a user")]
    LicenseAssigned {
        /// Resource name of the licence.
        license: String,
    },
    /// The licence has no user.
    #[error("{license} has no user")]
    LicenseUnassigned {
        /// Resource name of the licence.
        license: String,
    },
    /// The licence is deleted.
    #[error("{license} is deleted")]
    LicenseDeleted {
        /// Resource name of the licence.
        license: String,
    },
    /// Another licence uses the activation e-mail.
    #[error("another licence uses {address}")]
    ActivationEmailTaken {
        /// The address, complete, as the caller gave it.
        address: String,
    },
    /// Unknown address or wrong password, without saying which.
    #[error("unknown address or wrong password")]
    SignInFailed,
    /// Too many sign-ins failed.
    #[error("too many sign-ins failed; try again later")]
    SignInThrottled {
        /// How long to wait.
        retry_after: Duration,
    },
    /// No session, or one that is unknown, expired or revoked.
    #[error("sign in: the octroi-session metadata is missing, unknown, expired or revoked")]
    SessionInvalid,
    /// The session opens ChangeOwnPassword alone.
    #[error("change the password first")]
    PasswordChangeRequired,
    /// The licence is installed on as many devices of this kind as it may be.
    #[error("the licence is installed on {limit} {kind} already")]
    DeviceLimitReached {
        /// "computers", "tablets" or "smartphones".
        kind: &'static str,
        /// The most devices of this kind.
        limit: i32,
    },
    /// The offer does not allow shared-computer activation.
    #[error("{offer} does not allow shared-computer activation")]
    SharedComputerNotAllowed {
        /// Resource name of the offer.
        offer: String,
    },
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        let (code, reason) = said(&error);
        let refusal = Refusal::new(code, reason.as_str_name(), message);
        match error {
            Error::Platform(error) => error.into(),
            Error::LicenseLimitReached { offer, limit } => refusal
                .quota(&offer, &format!("at most {limit} licences a group"))
                .meta("offer", offer)
                .meta("limit", limit.to_string())
                .status(),
            Error::OfferArchived { offer } | Error::SharedComputerNotAllowed { offer } => {
                precondition(refusal, reason, &offer).status()
            }
            Error::OrderState { order, state } => precondition(refusal, reason, &order)
                .meta("state", state)
                .status(),
            Error::PaymentDeclined { order, reason: why } => precondition(refusal, reason, &order)
                .meta("decline_reason", why)
                .status(),
            Error::PaymentProcessing { order } => refusal
                .resource("order", order)
                .retry_after(Duration::from_secs(2))
                .status(),
            Error::OrderExpired { order } | Error::PaymentMethodMissing { order } => {
                precondition(refusal, reason, &order).status()
            }
            Error::OrderInProgress { group }
            | Error::GroupTerminated { group }
            | Error::GroupSuspended { group }
            | Error::NoTerminationScheduled { group }
            | Error::TerminationScheduled { group } => {
                precondition(refusal, reason, &group).status()
            }
            Error::LicenseAssigned { license }
            | Error::LicenseUnassigned { license }
            | Error::LicenseDeleted { license } => precondition(refusal, reason, &license).status(),
            Error::QuoteRefused { reason: why, .. } => refusal.meta("billing_reason", why).status(),
            Error::SignInThrottled { retry_after } => refusal.retry_after(retry_after).status(),
            Error::DeviceLimitReached { kind, limit } => refusal
                .quota(kind, &format!("at most {limit} {kind}"))
                .meta("kind", kind)
                .meta("limit", limit.to_string())
                .status(),
            Error::ActivationEmailTaken { address } => {
                refusal.resource("activation e-mail", address).status()
            }
            Error::BillingModeUnavailable
            | Error::PriceMissing(_)
            | Error::TaxRateMissing(_)
            | Error::SignInFailed
            | Error::SessionInvalid
            | Error::PasswordChangeRequired => refusal.status(),
        }
    }
}

/// The code and the reason of each refusal, as the contract has them.
fn said(error: &Error) -> (Code, ErrorReason) {
    use ErrorReason as R;
    let precondition = |reason| (Code::FailedPrecondition, reason);
    match error {
        // Says its own.
        Error::Platform(_) => (Code::Internal, R::Unspecified),
        Error::LicenseLimitReached { .. } => precondition(R::LicenseLimitReached),
        Error::OfferArchived { .. } => precondition(R::OfferArchived),
        Error::BillingModeUnavailable => precondition(R::BillingModeUnavailable),
        Error::OrderExpired { .. } => precondition(R::OrderExpired),
        Error::OrderState { .. } => precondition(R::OrderState),
        Error::OrderInProgress { .. } => precondition(R::OrderInProgress),
        Error::PaymentDeclined { .. } => precondition(R::PaymentDeclined),
        Error::PaymentProcessing { .. } => (Code::Unavailable, R::PaymentProcessing),
        Error::PaymentMethodMissing { .. } => precondition(R::PaymentMethodMissing),
        Error::PriceMissing(_) => precondition(R::PriceMissing),
        Error::TaxRateMissing(_) => precondition(R::TaxRateMissing),
        Error::QuoteRefused { .. } => precondition(R::QuoteRefused),
        Error::GroupTerminated { .. } => precondition(R::GroupTerminated),
        Error::GroupSuspended { .. } => precondition(R::GroupSuspended),
        Error::NoTerminationScheduled { .. } => precondition(R::NoTerminationScheduled),
        Error::TerminationScheduled { .. } => precondition(R::TerminationScheduled),
        Error::LicenseAssigned { .. } => precondition(R::LicenseAssigned),
        Error::LicenseUnassigned { .. } => precondition(R::LicenseUnassigned),
        Error::LicenseDeleted { .. } => precondition(R::LicenseDeleted),
        Error::ActivationEmailTaken { .. } => (Code::AlreadyExists, R::ActivationEmailTaken),
        Error::SignInFailed => (Code::Unauthenticated, R::SignInFailed),
        Error::SignInThrottled { .. } => (Code::ResourceExhausted, R::SignInThrottled),
        Error::SessionInvalid => (Code::Unauthenticated, R::SessionInvalid),
        Error::PasswordChangeRequired => precondition(R::PasswordChangeRequired),
        Error::DeviceLimitReached { .. } => (Code::ResourceExhausted, R::DeviceLimitReached),
        Error::SharedComputerNotAllowed { .. } => precondition(R::SharedComputerNotAllowed),
    }
}

fn precondition(refusal: Refusal, reason: ErrorReason, subject: &str) -> Refusal {
    let kind = reason
        .as_str_name()
        .trim_start_matches("ERROR_REASON_")
        .to_owned();
    refusal.precondition(&kind, subject, "")
}
