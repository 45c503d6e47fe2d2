//! octroi.billing.v1.PaymentService.

use std::sync::Arc;

use octroi_api::billing::v1 as pb;
use octroi_api::billing::v1::payment::State;
use octroi_api::billing::v1::payment_service_server::PaymentService;
use octroi_platform::event::to_proto;
use octroi_platform::{Call, Page, Violations};
use tonic::{Request, Response, Status};

use super::account::account_id;
use super::money;
use super::payment_method::child;
use crate::app::App;
use crate::domain::payment::{Payment, PaymentState};
use crate::domain::{invoice, payment_method};

/// Payments.
pub struct PaymentApi(pub Arc<App>);

#[tonic::async_trait]
impl PaymentService for PaymentApi {
    async fn get_payment(
        &self,
        request: Request<pb::GetPaymentRequest>,
    ) -> Result<Response<pb::Payment>, Status> {
        let (call, request) = Call::open(request)?;
        let mut violations = Violations::default();
        let (account, id) = child("name", &request.name, "payments", &mut violations);
        violations.finish()?;
        Ok(Response::new(to_wire(
            &self.0.get_payment(&call, &account, id).await?,
        )))
    }

    async fn list_payments(
        &self,
        request: Request<pb::ListPaymentsRequest>,
    ) -> Result<Response<pb::ListPaymentsResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let mut violations = Violations::default();
        let account = account_id("parent", &request.parent, &mut violations);
        let page = Page::parse(
            &call,
            request.page_size,
            &request.page_token,
            &request.parent,
            &request.filter,
            &request.order_by,
            &mut violations,
        );
        let before = page.key(&mut violations);
        violations.finish()?;
        let payments = self.0.list_payments(&call, &account, before, &page).await?;
        let (payments, next_page_token) = page.cut(
            payments,
            |payment| payment.id.to_string(),
            |it| to_wire(&it),
        );
        Ok(Response::new(pb::ListPaymentsResponse {
            payments,
            next_page_token,
        }))
    }
}

fn to_wire(payment: &Payment) -> pb::Payment {
    let account = &payment.account;
    let (state, settled, reason, invoice) = match &payment.state {
        PaymentState::Processing => (State::Processing, None, None, None),
        PaymentState::Succeeded { at, invoice } => {
            (State::Succeeded, Some(*at), None, Some(*invoice))
        }
        PaymentState::Declined { at, reason } => {
            (State::Declined, Some(*at), Some(reason.clone()), None)
        }
    };
    pb::Payment {
        name: payment.name(),
        amount: Some(money::to_wire(payment.amount)),
        state: state.into(),
        decline_reason: reason.unwrap_or_default(),
        order: payment.order_name(),
        attempt: payment.attempt,
        invoice: invoice
            .map(|id| invoice::name(account, id))
            .unwrap_or_default(),
        payment_method: payment
            .method
            .map(|id| payment_method::name(account, id))
            .unwrap_or_default(),
        create_time: Some(to_proto(payment.created)),
        settle_time: settled.map(to_proto),
    }
}
