//! What billing refuses, and how each refusal reads on the wire: one function each.

use std::fmt::Display;
use std::time::Duration;

use jiff::Timestamp;
use octroi_api::billing::v1::ErrorReason as R;
use octroi_platform::{AccountId, Refusal};

use crate::domain::order::OrderId;
use crate::domain::price::OfferId;

/// A refusal because of what a subject is or lacks.
fn because_of(reason: R, subject: &impl Display, message: impl Into<String>) -> Refusal {
    Refusal::because_of(reason.as_str_name(), subject, message)
}

/// How long until what was too early may be tried again.
const A_MINUTE: Duration = Duration::from_secs(60);

/// No price is in force for an offer in a currency.
pub(crate) fn price_missing(offer: &OfferId, currency: &str) -> Refusal {
    let offer = offer.to_string();
    let message = format!("no price in {currency} is in force for {offer}");
    because_of(R::PriceMissing, &offer, message)
        .meta("offer", &offer)
        .meta("currency", currency)
}

/// No tax rate is in force for a country.
pub(crate) fn tax_rate_missing(country: &str) -> Refusal {
    let message = format!("no tax rate is in force for {country}");
    because_of(R::TaxRateMissing, &country, message).meta("country", country)
}

/// PREPAID was asked for.
pub(crate) fn billing_mode_unavailable() -> Refusal {
    let message = "PREPAID billing is not available yet";
    because_of(R::BillingModeUnavailable, &"PREPAID", message)
}

/// Currency or seller was to change after the first order.
pub(crate) fn account_fixed(account: &AccountId, fields: &str) -> Refusal {
    let message = format!("{fields} of {account} cannot change after its first order");
    fixed(account, fields, message)
}

/// Currency or seller was to change while it is not known whether the first order is kept.
pub(crate) fn account_held(account: &AccountId, fields: &str) -> Refusal {
    let message = format!(
        "{fields} of {account} cannot change now: an order was quoted, and is not known yet to be kept or not"
    );
    fixed(account, fields, message).retry_after(A_MINUTE)
}

fn fixed(account: &AccountId, fields: &str, message: String) -> Refusal {
    let account = account.to_string();
    because_of(R::AccountFixed, &account, message)
        .meta("account", &account)
        .meta("fields", fields)
}

/// Licensing's events are not complete through a bill run's cut-off.
pub(crate) fn usage_behind(cut_off: Timestamp, complete_through: Option<Timestamp>) -> Refusal {
    let complete_through = complete_through.map(|at| at.to_string());
    let message = format!("usage is not complete through {cut_off} yet");
    because_of(R::UsageBehind, &"licensing", message)
        .meta("cut_off", cut_off.to_string())
        .meta("complete_through", complete_through.unwrap_or_default())
        .retry_after(A_MINUTE)
}

/// The month has not ended anywhere.
pub(crate) fn month_not_ended(month: &str) -> Refusal {
    let message = format!("{month} has not ended anywhere yet");
    because_of(R::MonthNotEnded, &month, message).meta("month", month)
}

/// The seller lacks legal details, so it cannot invoice.
pub(crate) fn seller_incomplete(seller: &str, missing: &str) -> Refusal {
    let message = format!("{seller} lacks legal details: {missing}");
    because_of(R::SellerIncomplete, &seller, message)
        .meta("missing", missing)
        .meta("seller", seller)
}

/// Another attempt of the order was settled already, or is still undecided.
pub(crate) fn order_settled(order: &OrderId, attempt: i32) -> Refusal {
    let order = order.to_string();
    let message =
        format!("attempt {attempt} of {order} was settled already, or is still undecided");
    because_of(R::OrderSettled, &order, message)
        .meta("attempt", attempt.to_string())
        .meta("order", &order)
}

/// An amount is beyond what can be computed exactly.
pub(crate) fn amount_overflow() -> Refusal {
    let message = "amounts are beyond what can be computed exactly";
    because_of(R::AmountOverflow, &"amount", message)
}
