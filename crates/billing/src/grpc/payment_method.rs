//! octroi.billing.v1.PaymentMethodService.

use octroi_api::billing::v1 as wire;
use octroi_api::billing::v1::payment_method_service_server::PaymentMethodService;
use octroi_platform::time::to_proto;
use octroi_platform::{AccountId, Answer, Page, Violations, answer, command, open};
use tonic::{Request, Response};

use crate::app::payment_method::PaymentMethods;
use crate::domain::payment_method::{
    GATEWAY, NewMethod, PaymentMethod, PaymentMethodId, TestToken, check_display_name,
};

pub(crate) struct PaymentMethodApi {
    pub(crate) payment_methods: PaymentMethods,
}

#[tonic::async_trait]
impl PaymentMethodService for PaymentMethodApi {
    async fn create_payment_method(
        &self,
        request: Request<wire::CreatePaymentMethodRequest>,
    ) -> Answer<wire::PaymentMethod> {
        let (call, (account, new, make_default)) = command(request, |it, fields| {
            let account = fields.name::<AccountId>("parent", &it.parent);
            let given = fields.given("payment_method", it.payment_method);
            let new = new_method("payment_method", &given, fields);
            Some((account?, new?, it.make_default))
        })?;
        answer(
            self.payment_methods
                .create(&call, &account, new, make_default)
                .await,
        )
    }

    async fn get_payment_method(
        &self,
        request: Request<wire::GetPaymentMethodRequest>,
    ) -> Answer<wire::PaymentMethod> {
        let (call, id) = open(request, |it, fields| {
            fields.name::<PaymentMethodId>("name", &it.name)
        })?;
        let method = self.payment_methods.get(&call, &id).await?;
        Ok(Response::new((&method).into()))
    }

    async fn list_payment_methods(
        &self,
        request: Request<wire::ListPaymentMethodsRequest>,
    ) -> Answer<wire::ListPaymentMethodsResponse> {
        let (call, parent, page) = Page::open(request, |it, fields| {
            fields.name::<AccountId>("parent", &it.parent)
        })?;
        let methods = self.payment_methods.list(&call, &parent, &page).await?;
        let (payment_methods, next_page_token) =
            page.cut(methods, |it| it.id.id.to_string(), |it| (&it).into());
        Ok(Response::new(wire::ListPaymentMethodsResponse {
            payment_methods,
            next_page_token,
        }))
    }
}

/// A method to put on file.
pub(super) fn new_method(
    field: &str,
    given: &wire::NewPaymentMethod,
    violations: &mut Violations,
) -> Option<NewMethod> {
    let token = TestToken::parse(&given.gateway_token);
    let token = violations.check(&format!("{field}.gateway_token"), token);
    let display_name = check_display_name(&given.display_name);
    let display_name = violations.check(&format!("{field}.display_name"), display_name);
    Some(NewMethod {
        token: token?,
        display_name: display_name?,
    })
}

impl From<&PaymentMethod> for wire::PaymentMethod {
    fn from(method: &PaymentMethod) -> Self {
        Self {
            name: method.id.to_string(),
            display_name: method.display_name.clone(),
            gateway: GATEWAY.to_owned(),
            default: method.default,
            create_time: Some(to_proto(method.created_at)),
            etag: method.version.to_string(),
        }
    }
}
