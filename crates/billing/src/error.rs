//! What billing refuses, and how each refusal reads on the wire.

use octroi_platform::Refusal;
use tonic::{Code, Status};

use crate::domain::bill_run::NotEnded;
use crate::domain::charge::Unchargeable;
use crate::domain::money::Overflow;
use crate::domain::seller::Incomplete;

/// A refusal or a failure of a use case. The reasons are those of `octroi.billing.v1.ErrorReason`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Refusals and failures that every service has.
    #[error(transparent)]
    Platform(#[from] octroi_platform::error::Error),
    /// No price is in force for an offer in a currency.
    #[error("no price in {currency} is in force for {offer}")]
    PriceMissing {
        /// Resource name of the offer.
        offer: String,
        /// ISO 4217 code.
        currency: String,
    },
    /// No tax rate is in force for a country.
    #[error("no tax rate is in force for {country}")]
    TaxRateMissing {
        /// ISO 3166-1 alpha-2 code.
        country: String,
    },
    /// PREPAID was asked for.
    #[error("prepaid billing is not available yet")]
    BillingModeUnavailable,
    /// Currency or seller was to change after the first order.
    #[error("{fields} of {account} cannot change after its first order")]
    AccountFixed {
        /// Resource name of the account.
        account: String,
        /// The fields that were to change, separated by commas.
        fields: String,
    },
    /// Currency or seller was to change while the first order may be on its way.
    #[error(
        "{fields} of {account} cannot change now: an order was quoted, and is not known yet to be kept or not"
    )]
    AccountHeld {
        /// Resource name of the account.
        account: String,
        /// The fields that were to change, separated by commas.
        fields: String,
    },
    /// Licensing's events are not complete through a bill run's cut-off.
    #[error("usage is not complete through {cut_off} yet")]
    UsageBehind {
        /// The cut-off, RFC 3339.
        cut_off: String,
        /// Through when usage is complete, RFC 3339; empty when that is not known.
        complete_through: String,
    },
    /// The month has not ended anywhere.
    #[error("{month} has not ended anywhere yet")]
    MonthNotEnded {
        /// The month, such as "2026-11".
        month: String,
    },
    /// The seller lacks legal details.
    #[error("{seller} lacks legal details: {missing}")]
    SellerIncomplete {
        /// Resource name of the seller.
        seller: String,
        /// Names of the missing fields, separated by commas.
        missing: String,
    },
    /// The quote does not fit the prices that it names.
    #[error("the quote does not fit its prices: {what}")]
    QuoteMismatch {
        /// Which part does not fit.
        what: String,
    },
    /// Another attempt of the order was settled already, or is still undecided.
    #[error("attempt {attempt} of {order} was settled already, or is still undecided")]
    OrderSettled {
        /// Resource name of the order.
        order: String,
        /// The attempt that stands in the way.
        attempt: i32,
    },
    /// An amount is beyond what can be computed exactly.
    #[error("amounts are beyond what can be computed exactly")]
    AmountOverflow,
}

impl From<Overflow> for Error {
    fn from(Overflow: Overflow) -> Self {
        Error::AmountOverflow
    }
}

impl From<NotEnded> for Error {
    fn from(NotEnded(month): NotEnded) -> Self {
        Error::MonthNotEnded {
            month: month.to_string(),
        }
    }
}

impl From<Unchargeable> for Error {
    fn from(unchargeable: Unchargeable) -> Self {
        match unchargeable {
            Unchargeable::PriceMissing { offer, currency } => Error::PriceMissing {
                offer,
                currency: currency.to_owned(),
            },
            Unchargeable::TaxRateMissing { country } => Error::TaxRateMissing { country },
            Unchargeable::Overflow(Overflow) => Error::AmountOverflow,
        }
    }
}

impl From<Incomplete> for Error {
    fn from(incomplete: Incomplete) -> Self {
        Error::SellerIncomplete {
            seller: incomplete.seller,
            missing: incomplete.missing.join(", "),
        }
    }
}

impl Error {
    /// The reason's name on the wire, without prefix; None for what the platform names itself.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Error::Platform(_) => None,
            Error::PriceMissing { .. } => Some("PRICE_MISSING"),
            Error::TaxRateMissing { .. } => Some("TAX_RATE_MISSING"),
            Error::BillingModeUnavailable => Some("BILLING_MODE_UNAVAILABLE"),
            Error::AccountFixed { .. } | Error::AccountHeld { .. } => Some("ACCOUNT_FIXED"),
            Error::UsageBehind { .. } => Some("USAGE_BEHIND"),
            Error::MonthNotEnded { .. } => Some("MONTH_NOT_ENDED"),
            Error::SellerIncomplete { .. } => Some("SELLER_INCOMPLETE"),
            Error::QuoteMismatch { .. } => Some("QUOTE_MISMATCH"),
            Error::OrderSettled { .. } => Some("ORDER_SETTLED"),
            Error::AmountOverflow => Some("AMOUNT_OVERFLOW"),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Status {
        let message = error.to_string();
        let refused = |reason| Refusal::new(Code::FailedPrecondition, reason, message.clone());
        match error {
            Error::Platform(error) => error.into(),
            Error::PriceMissing { offer, currency } => refused("PRICE_MISSING")
                .meta("offer", offer.clone())
                .meta("currency", currency)
                .precondition("PRICE", &offer, &message)
                .status(),
            Error::TaxRateMissing { country } => refused("TAX_RATE_MISSING")
                .meta("country", country.clone())
                .precondition("TAX_RATE", &country, &message)
                .status(),
            Error::BillingModeUnavailable => refused("BILLING_MODE_UNAVAILABLE")
                .precondition("BILLING_MODE", "PREPAID", &message)
                .status(),
            Error::AccountFixed { account, fields } => refused("ACCOUNT_FIXED")
                .meta("account", account.clone())
                .meta("fields", fields)
                .precondition("ACCOUNT", &account, &message)
                .status(),
            Error::AccountHeld { account, fields } => refused("ACCOUNT_FIXED")
                .meta("account", account.clone())
                .meta("fields", fields)
                .precondition("ACCOUNT", &account, &message)
                .retry_after(std::time::Duration::from_secs(60))
                .status(),
            Error::UsageBehind {
                cut_off,
                complete_through,
            } => refused("USAGE_BEHIND")
                .meta("cut_off", cut_off)
                .meta("complete_through", complete_through)
                .retry_after(std::time::Duration::from_secs(60))
                .status(),
            Error::MonthNotEnded { month } => refused("MONTH_NOT_ENDED")
                .meta("month", month.clone())
                .precondition("MONTH", &month, &message)
                .status(),
            Error::SellerIncomplete { seller, missing } => refused("SELLER_INCOMPLETE")
                .meta("missing", missing)
                .meta("seller", seller.clone())
                .precondition("SELLER", &seller, &message)
                .status(),
            Error::QuoteMismatch { what } => refused("QUOTE_MISMATCH").meta("what", what).status(),
            Error::OrderSettled { order, attempt } => refused("ORDER_SETTLED")
                .meta("attempt", attempt.to_string())
                .meta("order", order.clone())
                .precondition("ORDER", &order, &message)
                .status(),
            Error::AmountOverflow => refused("AMOUNT_OVERFLOW").status(),
        }
    }
}
