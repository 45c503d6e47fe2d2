//! octroi.billing.v1.SettlementService, for services only.

use std::sync::Arc;

use octroi_api::billing::v1 as pb;
use octroi_api::billing::v1::settle_order_response::Outcome;
use octroi_api::billing::v1::settlement_service_server::SettlementService;
use octroi_platform::name::parse;
use octroi_platform::{Call, Violations};
use tonic::{Request, Response, Status};

use super::account::account_id;
use super::payment_method::new_method;
use super::{checked, quote};
use crate::app::App;
use crate::app::settlement::{PayWith, Settle};
use crate::domain::settlement::{Attempt, Settlement, SettlementState};
use crate::domain::{invoice, payment};
use crate::error::Error;
use crate::event::account_snapshot;

/// Quotes and settles orders for licensing.
pub struct SettlementApi(pub Arc<App>);

#[tonic::async_trait]
impl SettlementService for SettlementApi {
    async fn quote_order(
        &self,
        request: Request<pb::QuoteOrderRequest>,
    ) -> Result<Response<pb::QuoteOrderResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let mut violations = Violations::default();
        let account = account_id("account", &request.account, &mut violations);
        let lines = quote::asked(request.lines, &mut violations);
        let order = match parse(&request.order, ["accounts", "orders"]) {
            None if request.order.is_empty() => None,
            Some([of, _]) if of == account => Some(request.order.as_str()),
            _ => {
                violations.add("order", "must be an order of the account");
                None
            }
        };
        violations.finish()?;
        if request.prepaid {
            return Err(Error::BillingModeUnavailable.into());
        }
        let (quote, account) = self.0.quote_order(&call, &account, order, lines).await?;
        Ok(Response::new(pb::QuoteOrderResponse {
            quote: Some(quote::to_wire(&quote)),
            account: Some(account_snapshot(&account, None)),
        }))
    }

    async fn settle_order(
        &self,
        request: Request<pb::SettleOrderRequest>,
    ) -> Result<Response<pb::SettleOrderResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let attempt = attempt(&request)?;
        // Before the rest is judged: what was begun is what is answered, whatever it is asked with now.
        let settlement = match self.0.go_on(&call, &attempt).await? {
            Some(settlement) => settlement,
            None => {
                let settle = settle(attempt, request)?;
                self.0.settle_order(&call, settle).await?
            }
        };
        Ok(Response::new(answer(&settlement)))
    }
}

fn attempt(request: &pb::SettleOrderRequest) -> Result<Attempt, Error> {
    let mut violations = Violations::default();
    let order = parse(&request.order, ["accounts", "orders"]);
    if order.is_none() {
        violations.add("order", "must be of the form \"accounts/acme/orders/o1\"");
    }
    if request.attempt < 1 {
        violations.add("attempt", "must be at least 1");
    }
    let attempt = order.map(|[account, order]| Attempt {
        account: account.to_owned(),
        order: order.to_owned(),
        number: request.attempt,
    });
    Ok(checked(attempt, violations)?)
}

fn settle(attempt: Attempt, request: pb::SettleOrderRequest) -> Result<Settle, Error> {
    let mut violations = Violations::default();
    let quote = quote::from_wire(request.quote, &mut violations);
    // A token or a name that is no good declines the attempt: the order's payment has then failed, and is not in doubt.
    let with = match request.new_payment_method {
        None => PayWith::Default,
        Some(given) => new_method("", &given, &mut Violations::default())
            .map_or(PayWith::Unknown, PayWith::New),
    };
    let settle = quote.map(|quote| Settle {
        attempt,
        quote,
        with,
    });
    Ok(checked(settle, violations)?)
}

fn answer(settlement: &Settlement) -> pb::SettleOrderResponse {
    let account = &settlement.attempt.account;
    let (outcome, reason, invoice) = match &settlement.state {
        SettlementState::Processing => (Outcome::Processing, None, None),
        SettlementState::Succeeded { invoice, .. } => (Outcome::Succeeded, None, *invoice),
        SettlementState::Declined { reason, .. } => (Outcome::Declined, Some(reason.clone()), None),
    };
    pb::SettleOrderResponse {
        outcome: outcome.into(),
        decline_reason: reason.unwrap_or_default(),
        payment: settlement
            .payment
            .map(|id| payment::name(account, id))
            .unwrap_or_default(),
        invoice: invoice
            .map(|id| invoice::name(account, id))
            .unwrap_or_default(),
    }
}
