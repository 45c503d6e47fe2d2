//! The one service that licensing calls: billing quotes and settles orders. Its messages stop here.

use std::time::Duration;

use jiff::Timestamp;
use octroi_api::billing::v1::settle_order_response::Outcome as Answer;
use octroi_api::billing::v1::settlement_service_client::SettlementServiceClient;
use octroi_api::billing::v1::{
    self as wire, ErrorReason as R, NewPaymentMethod, QuoteOrderRequest, QuotedLine,
    SettleOrderRequest,
};
use octroi_api::event::v1::AccountChanged;
use octroi_platform::refusal::plain;
use octroi_platform::time::from_proto;
use octroi_platform::{AccountId, Call, Error, Peer, Violations};
use prost::Message as _;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::domain::account::Account;
use crate::domain::order::{Money, Order, OrderDraft, Quote, Receipt};
use crate::domain::payment::{Attempt, Outcome};
use crate::refusal;

const QUOTE_DEADLINE: Duration = Duration::from_secs(5);
/// How long one question about a payment may take; what takes longer goes on in the background.
pub(crate) const SETTLE_DEADLINE: Duration = Duration::from_secs(5);

/// Billing, as licensing uses it.
#[derive(Clone)]
pub(crate) struct Billing(SettlementServiceClient<Peer>);

#[derive(Debug)]
pub(crate) enum Settlement {
    Definite(Outcome, Receipt),
    /// Not known yet: ask again.
    Unknown,
}

impl Billing {
    pub(crate) fn new(peer: Peer) -> Self {
        Self(SettlementServiceClient::new(peer))
    }

    /// What an order costs, and the account as it is. `kept` says that the order is to be kept: billing then holds the
    /// account to the quote's currency and seller.
    ///
    /// # Errors
    /// Billing's refusals in licensing's words, and [`Error::Unavailable`].
    pub(crate) async fn quote(
        &self,
        call: &Call,
        draft: &OrderDraft,
        kept: bool,
    ) -> Result<(Quote, Account), Error> {
        let account = &draft.id.account;
        let lines = draft.lines.iter().map(|line| QuotedLine {
            offer: line.offer.to_string(),
            quantity: line.quantity,
        });
        let request = with_deadline(
            QuoteOrderRequest {
                account: account.to_string(),
                lines: lines.collect(),
                prepaid: false,
                order: match kept {
                    true => draft.id.to_string(),
                    false => String::new(),
                },
            },
            QUOTE_DEADLINE,
        );
        let answer = self
            .0
            .clone()
            .quote_order(request)
            .await
            .map_err(|status| quote_refused(call, account, &status))?
            .into_inner();
        let quote = answer
            .quote
            .filter(|quote| quote.lines.len() == draft.lines.len())
            .ok_or_else(|| nonsense("quote"))?;
        let account = answer
            .account
            .and_then(|changed| account_of(account.clone(), changed))
            .ok_or_else(|| nonsense("account"))?;
        Ok((frozen(quote), account))
    }

    /// Asks for the outcome of an attempt to pay. The same attempt is one charge, however often it is asked for.
    pub(crate) async fn settle(&self, order: &Order, attempt: &Attempt) -> Settlement {
        let method = attempt.method.as_ref().map(|method| NewPaymentMethod {
            gateway_token: method.gateway_token.clone(),
            display_name: method.display_name.clone(),
        });
        let request = with_deadline(
            SettleOrderRequest {
                order: order.id.to_string(),
                attempt: attempt.number,
                quote: quote_message(&order.quote),
                new_payment_method: method,
            },
            SETTLE_DEADLINE,
        );
        let answer = match self.0.clone().settle_order(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return settle_refused(order, &status),
        };
        let receipt = Receipt {
            payment: answer.payment.clone(),
            invoice: answer.invoice.clone(),
        };
        match answer.outcome() {
            Answer::Succeeded => Settlement::Definite(Outcome::Succeeded, receipt),
            Answer::Declined => {
                Settlement::Definite(Outcome::Declined(answer.decline_reason), receipt)
            }
            Answer::Processing | Answer::Unspecified => Settlement::Unknown,
        }
    }
}

/// The account of a snapshot by billing; none when its zones are not valid.
pub(crate) fn account_of(id: AccountId, changed: AccountChanged) -> Option<Account> {
    let zones = changed
        .zones
        .into_iter()
        .map(|change| Some((from_proto(&change.time?)?, change.time_zone)))
        .collect::<Option<Vec<(Timestamp, String)>>>()?;
    let account = Account {
        id,
        version: changed.version,
        locale: changed.locale,
        currency: changed.currency_code,
        zones,
    };
    account.calendar().is_ok().then_some(account)
}

/// Reads a quote that an order was kept with; none when it cannot be read.
pub(crate) fn quote(encoded: &[u8]) -> Option<Quote> {
    wire::Quote::decode(encoded).ok().map(frozen)
}

/// The quote as billing made it. It could be read when it came, and whenever it was read from the database.
pub(crate) fn quote_message(quote: &Quote) -> Option<wire::Quote> {
    wire::Quote::decode(quote.encoded.as_slice()).ok()
}

fn frozen(quote: wire::Quote) -> Quote {
    let due_now = quote.due_now.clone().unwrap_or_default();
    Quote {
        encoded: quote.encode_to_vec(),
        due_now: Money {
            currency: due_now.currency_code,
            amount: due_now.amount,
        },
        prices: quote.lines.into_iter().map(|line| line.price).collect(),
    }
}

fn with_deadline<T>(message: T, deadline: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}

fn nonsense(what: &str) -> Error {
    Error::Internal(anyhow::anyhow!("billing answered a {what} that cannot be"))
}

/// The reason of billing's refusal, such as "PRICE_MISSING"; empty when it gave none.
fn reason(status: &Status) -> String {
    status
        .get_details_error_info()
        .map(|info| info.reason)
        .unwrap_or_default()
}

/// What billing refused because of.
fn subject(status: &Status) -> Option<String> {
    let failure = status.get_details_precondition_failure()?;
    Some(failure.violations.into_iter().next()?.subject)
}

fn quote_refused(call: &Call, account: &AccountId, status: &Status) -> Error {
    let message = status.message();
    let reason = reason(status);
    let subject = subject(status).unwrap_or_else(|| account.to_string());
    let is = |known: R| reason == plain(known.as_str_name());
    match status.code() {
        Code::NotFound => call.not_found(account),
        _ if is(R::PriceMissing) => refusal::price_missing(&subject, message).into(),
        _ if is(R::TaxRateMissing) => refusal::tax_rate_missing(&subject, message).into(),
        _ if is(R::BillingModeUnavailable) => refusal::billing_mode_unavailable().into(),
        Code::FailedPrecondition => refusal::quote_refused(&subject, &reason, message).into(),
        Code::InvalidArgument => {
            let mut violations = Violations::default();
            violations.add("order", message);
            Error::Invalid(violations)
        }
        _ => unavailable(status),
    }
}

/// A refusal does not mean that an earlier request was not charged: the order stays PAYING, and the call is repeated.
fn settle_refused(order: &Order, status: &Status) -> Settlement {
    let reason = reason(status);
    tracing::warn!(order = %order.id, code = %status.code(), reason, "billing did not settle");
    Settlement::Unknown
}

fn unavailable(status: &Status) -> Error {
    tracing::warn!(code = %status.code(), message = status.message(), "billing did not quote");
    Error::Unavailable("billing cannot be reached now; try again".to_owned())
}
