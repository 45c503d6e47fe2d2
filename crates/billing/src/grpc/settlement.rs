//! octroi.billing.v1.SettlementService, for services only.

use octroi_api::billing::v1 as wire;
use octroi_api::billing::v1::settle_order_response::Outcome;
use octroi_api::billing::v1::settlement_service_server::SettlementService;
use octroi_platform::{AccountId, Answer, Error, open};
use tonic::{Request, Response};

use super::payment_method::new_method;
use super::quote;
use crate::app::quote::Quotes;
use crate::app::settlement::{PayWith, Settle, Settlements};
use crate::domain::order::OrderId;
use crate::domain::payment_method::NewMethod;
use crate::domain::settlement::{Attempt, Settlement, SettlementState};
use crate::event::account_snapshot;
use crate::refusal::billing_mode_unavailable;

/// Quotes and settles orders for licensing.
pub(crate) struct SettlementApi {
    pub(crate) quotes: Quotes,
    pub(crate) settlements: Settlements,
}

#[tonic::async_trait]
impl SettlementService for SettlementApi {
    async fn quote_order(
        &self,
        request: Request<wire::QuoteOrderRequest>,
    ) -> Answer<wire::QuoteOrderResponse> {
        let (call, (account, order, lines, prepaid)) = open(request, |it, fields| {
            let account = fields.name::<AccountId>("account", &it.account);
            let order = match it.order.as_str() {
                "" => None,
                given => fields.name::<OrderId>("order", given),
            };
            if order.is_some() && order.as_ref().map(|order| &order.account) != account.as_ref() {
                fields.add("order", "must be an order of the account");
            }
            let lines = quote::asked(it.lines, fields);
            Some((account?, order, lines?, it.prepaid))
        })?;
        if prepaid {
            return Err(Error::from(billing_mode_unavailable()).into());
        }
        let quoted = self.quotes.quote(&call, &account, order.as_ref(), lines);
        let (quote, account) = quoted.await?;
        Ok(Response::new(wire::QuoteOrderResponse {
            quote: Some((&quote).into()),
            account: Some(account_snapshot(&account, None)),
        }))
    }

    async fn settle_order(
        &self,
        request: Request<wire::SettleOrderRequest>,
    ) -> Answer<wire::SettleOrderResponse> {
        let (call, (attempt, quote, with)) = open(request, |it, fields| {
            let order = fields.name("order", &it.order);
            if it.attempt < 1 {
                fields.add("attempt", "must be at least 1");
            }
            let with = it.new_payment_method.map_or(Ok(PayWith::Default), |given| {
                pay_with(fields.part(|fields| new_method("", &given, fields)))
            });
            let quote = fields.part(|fields| quote::read(it.quote, fields));
            let (order, number) = (order?, it.attempt);
            Some((Attempt { order, number }, quote, with))
        })?;
        let settle = Settle {
            attempt,
            quote,
            with: with?,
        };
        let settlement = self.settlements.settle(&call, settle).await?;
        Ok(Response::new((&settlement).into()))
    }
}

/// A bad token or name declines the attempt: the payment has definitely failed.
///
/// # Errors
/// What is no fault of the method, which therefore declines nothing.
fn pay_with(new: Result<NewMethod, Error>) -> Result<PayWith, Error> {
    match new {
        Ok(new) => Ok(PayWith::New(new)),
        Err(Error::Invalid(_)) => Ok(PayWith::Unknown),
        Err(error) => Err(error),
    }
}

impl From<&Settlement> for wire::SettleOrderResponse {
    fn from(settlement: &Settlement) -> Self {
        let (outcome, reason, invoice) = match &settlement.state {
            SettlementState::Processing => (Outcome::Processing, None, None),
            SettlementState::Succeeded { invoice, .. } => {
                (Outcome::Succeeded, None, invoice.as_ref())
            }
            SettlementState::Declined { reason, .. } => {
                (Outcome::Declined, Some(reason.clone()), None)
            }
        };
        Self {
            outcome: outcome.into(),
            decline_reason: reason.unwrap_or_default(),
            payment: settlement
                .payment
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            invoice: invoice.map(ToString::to_string).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bad_method_declines() {
        let bad = pay_with(Err(Error::invalid("gateway_token", "is none")));
        assert!(matches!(bad, Ok(PayWith::Unknown)));
        let ours = pay_with(Err(Error::Internal(anyhow::anyhow!("a fault of ours"))));
        assert!(matches!(ours, Err(Error::Internal(_))));
    }
}
