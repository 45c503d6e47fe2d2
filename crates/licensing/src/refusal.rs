//! What licensing refuses: one function for each reason of its contract.

use std::fmt::Display;
use std::time::Duration;

use octroi_api::licensing::v1::ErrorReason as R;
pub(crate) use octroi_platform::Refusal;
use octroi_platform::refusal::plain;
use tonic::Code;

use crate::domain::device::Kind;
use crate::domain::group::GroupId;
use crate::domain::license::{ActivationEmail, LicenseId};
use crate::domain::offer::OfferId;
use crate::domain::order::{OrderId, State};

fn new(code: Code, reason: R, message: impl Into<String>) -> Refusal {
    Refusal::new(code, reason.as_str_name(), message)
}

/// What a resource's state does not allow.
fn precondition(reason: R, resource: &impl Display, message: impl Into<String>) -> Refusal {
    Refusal::because_of(reason.as_str_name(), resource, message)
}

/// The group would hold more licences of the offer than the offer allows.
pub(crate) fn license_limit_reached(offer: &OfferId, limit: i32) -> Refusal {
    let message = format!("the group would hold more than {limit} licences of {offer}");
    new(Code::FailedPrecondition, R::LicenseLimitReached, message)
        .quota(
            &offer.to_string(),
            &format!("at most {limit} licences a group"),
        )
        .meta("offer", offer.to_string())
        .meta("limit", limit.to_string())
}

pub(crate) fn offer_archived(offer: &OfferId) -> Refusal {
    precondition(
        R::OfferArchived,
        offer,
        format!("{offer} is no longer sold"),
    )
}

pub(crate) fn billing_mode_unavailable() -> Refusal {
    let message = "PREPAID billing is not available yet";
    precondition(R::BillingModeUnavailable, &"PREPAID", message)
}

pub(crate) fn order_expired(order: &OrderId) -> Refusal {
    precondition(
        R::OrderExpired,
        order,
        format!("{order} was not paid in time"),
    )
}

/// The order's state does not allow this.
pub(crate) fn order_state(order: &OrderId, state: &State) -> Refusal {
    let state = state.as_str();
    precondition(R::OrderState, order, format!("{order} is {state}")).meta("state", state)
}

/// An order of the group is being paid.
pub(crate) fn order_in_progress(group: &GroupId) -> Refusal {
    let message = format!("an order of {group} is being paid; wait for its outcome");
    precondition(R::OrderInProgress, group, message)
}

/// `why` is billing's reason in lower case: the gateway's, such as "insufficient_funds", or that there is no method.
pub(crate) fn payment_declined(order: &OrderId, why: &str) -> Refusal {
    if why.eq_ignore_ascii_case(plain(R::PaymentMethodMissing.as_str_name())) {
        return payment_method_missing(order);
    }
    let message = format!("the payment of {order} was declined: {why}");
    precondition(R::PaymentDeclined, order, message).meta("decline_reason", why)
}

/// The payment has no definite outcome yet.
pub(crate) fn payment_processing(order: &OrderId) -> Refusal {
    let message =
        format!("the payment of {order} has no definite outcome yet; it goes on by itself");
    new(Code::Unavailable, R::PaymentProcessing, message)
        .resource("order", order.to_string())
        .retry_after(Duration::from_secs(2))
}

fn payment_method_missing(order: &OrderId) -> Refusal {
    let message = format!("no valid payment method is on file to pay {order}");
    precondition(R::PaymentMethodMissing, order, message)
}

/// Billing has no price in force; `subject` and `message` are billing's.
pub(crate) fn price_missing(subject: &str, message: &str) -> Refusal {
    precondition(R::PriceMissing, &subject, message)
}

/// Billing has no tax rate in force; `subject` and `message` are billing's.
pub(crate) fn tax_rate_missing(subject: &str, message: &str) -> Refusal {
    precondition(R::TaxRateMissing, &subject, message)
}

/// Billing refused to quote, for a reason of its own such as "AMOUNT_OVERFLOW".
pub(crate) fn quote_refused(subject: &str, reason: &str, message: &str) -> Refusal {
    let message = format!("billing refused: {message}");
    precondition(R::QuoteRefused, &subject, message).meta("billing_reason", reason)
}

pub(crate) fn group_terminated(group: &GroupId) -> Refusal {
    precondition(R::GroupTerminated, group, format!("{group} is terminated"))
}

pub(crate) fn group_suspended(group: &GroupId) -> Refusal {
    precondition(R::GroupSuspended, group, format!("{group} is suspended"))
}

pub(crate) fn no_termination_scheduled(group: &GroupId) -> Refusal {
    let message = format!("no termination of {group} is scheduled");
    precondition(R::NoTerminationScheduled, group, message)
}

pub(crate) fn termination_scheduled(group: &GroupId) -> Refusal {
    let message = format!("a termination of {group} is scheduled already");
    precondition(R::TerminationScheduled, group, message)
}

pub(crate) fn license_assigned(license: &LicenseId) -> Refusal {
    let message = format!("{license} already has a user");
    precondition(R::LicenseAssigned, license, message)
}

pub(crate) fn license_unassigned(license: &LicenseId) -> Refusal {
    precondition(
        R::LicenseUnassigned,
        license,
        format!("{license} has no user"),
    )
}

pub(crate) fn license_deleted(license: &LicenseId) -> Refusal {
    precondition(R::LicenseDeleted, license, format!("{license} is deleted"))
}

/// Another licence uses the address.
pub(crate) fn activation_email_taken(email: &ActivationEmail) -> Refusal {
    let address = email.as_str();
    let message = format!("another licence uses {address}");
    new(Code::AlreadyExists, R::ActivationEmailTaken, message)
        .resource("activation e-mail", address)
}

/// The address is unknown or the password wrong; it does not say which.
pub(crate) fn sign_in_failed() -> Refusal {
    let message = "unknown address or wrong password";
    new(Code::Unauthenticated, R::SignInFailed, message)
}

/// A user's own password, as a session gave it, is another.
pub(crate) fn wrong_password() -> Refusal {
    let message = "the current password is wrong";
    new(Code::Unauthenticated, R::SignInFailed, message)
}

pub(crate) fn sign_in_throttled(retry_after: Duration) -> Refusal {
    let message = "too many sign-ins failed; try again later";
    new(Code::ResourceExhausted, R::SignInThrottled, message).retry_after(retry_after)
}

pub(crate) fn session_invalid() -> Refusal {
    let message = "sign in: the octroi-session metadata is missing, unknown, expired or revoked";
    new(Code::Unauthenticated, R::SessionInvalid, message)
}

/// The session opens ChangeOwnPassword alone.
pub(crate) fn password_change_required(license: &LicenseId) -> Refusal {
    let message = "change the password first";
    precondition(R::PasswordChangeRequired, license, message)
}

/// The licence is installed on as many devices of this kind as it may be.
pub(crate) fn device_limit_reached(kind: Kind, limit: i32) -> Refusal {
    let kind = kind.as_str();
    let message = format!("the licence is installed on {limit} {kind} already");
    new(Code::ResourceExhausted, R::DeviceLimitReached, message)
        .quota(kind, &format!("at most {limit} {kind}"))
        .meta("kind", kind)
        .meta("limit", limit.to_string())
}

pub(crate) fn shared_computer_not_allowed(offer: &OfferId) -> Refusal {
    let message = format!("{offer} does not allow shared-computer activation");
    precondition(R::SharedComputerNotAllowed, offer, message)
}
