//! octroi.billing.v1.PaymentService.

use octroi_api::billing::v1 as wire;
use octroi_api::billing::v1::payment::State;
use octroi_api::billing::v1::payment_service_server::PaymentService;
use octroi_platform::time::to_proto;
use octroi_platform::{AccountId, Answer, Page, open};
use tonic::{Request, Response};

use crate::app::payment::Payments;
use crate::domain::payment::{Payment, PaymentId, PaymentState};

pub(crate) struct PaymentApi {
    pub(crate) payments: Payments,
}

#[tonic::async_trait]
impl PaymentService for PaymentApi {
    async fn get_payment(
        &self,
        request: Request<wire::GetPaymentRequest>,
    ) -> Answer<wire::Payment> {
        let (call, id) = open(request, |it, fields| {
            fields.name::<PaymentId>("name", &it.name)
        })?;
        let payment = self.payments.get(&call, &id).await?;
        Ok(Response::new((&payment).into()))
    }

    async fn list_payments(
        &self,
        request: Request<wire::ListPaymentsRequest>,
    ) -> Answer<wire::ListPaymentsResponse> {
        let (call, parent, page) = Page::open(request, |it, fields| {
            fields.name::<AccountId>("parent", &it.parent)
        })?;
        let payments = self.payments.list(&call, &parent, &page).await?;
        let (payments, next_page_token) =
            page.cut(payments, |it| it.id.id.to_string(), |it| (&it).into());
        Ok(Response::new(wire::ListPaymentsResponse {
            payments,
            next_page_token,
        }))
    }
}

impl From<&Payment> for wire::Payment {
    fn from(payment: &Payment) -> Self {
        let (state, settled_at, reason, invoice) = match &payment.state {
            PaymentState::Processing => (State::Processing, None, None, None),
            PaymentState::Succeeded { at, invoice } => {
                (State::Succeeded, Some(*at), None, Some(invoice))
            }
            PaymentState::Declined { at, reason } => {
                (State::Declined, Some(*at), Some(reason.clone()), None)
            }
        };
        Self {
            name: payment.id.to_string(),
            amount: Some(payment.amount.into()),
            state: state.into(),
            decline_reason: reason.unwrap_or_default(),
            order: payment.order.to_string(),
            attempt: payment.attempt,
            invoice: invoice.map(ToString::to_string).unwrap_or_default(),
            payment_method: payment
                .method
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            create_time: Some(to_proto(payment.created_at)),
            settle_time: settled_at.map(to_proto),
        }
    }
}
