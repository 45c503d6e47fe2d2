//! octroi.billing.v1.PaymentMethodService.

use std::sync::Arc;

use octroi_api::billing::v1 as pb;
use octroi_api::billing::v1::payment_method_service_server::PaymentMethodService;
use octroi_platform::event::to_proto;
use octroi_platform::name::{parse, parse_uuid};
use octroi_platform::{Call, Page, Violations, check_request_id};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::account::account_id;
use super::checked;
use crate::app::App;
use crate::domain::payment_method::{
    GATEWAY, NewMethod, PaymentMethod, TestToken, check_display_name,
};

/// Ways to pay.
pub struct PaymentMethodApi(pub Arc<App>);

#[tonic::async_trait]
impl PaymentMethodService for PaymentMethodApi {
    async fn create_payment_method(
        &self,
        request: Request<pb::CreatePaymentMethodRequest>,
    ) -> Result<Response<pb::PaymentMethod>, Status> {
        let (call, mut request) = Call::open(request)?;
        let request_id = std::mem::take(&mut request.request_id);
        let mut violations = Violations::default();
        check_request_id(&request_id, &mut violations);
        let account = account_id("parent", &request.parent, &mut violations);
        let given = request.payment_method.clone().unwrap_or_default();
        let new = new_method("payment_method", &given, &mut violations);
        let new = checked(new, violations)?;
        let call = call.idempotent(&request_id, "", &request)?;
        let answer = self
            .0
            .create_payment_method(&call, &account, new, request.make_default, to_wire)
            .await?;
        Ok(Response::new(answer))
    }

    async fn get_payment_method(
        &self,
        request: Request<pb::GetPaymentMethodRequest>,
    ) -> Result<Response<pb::PaymentMethod>, Status> {
        let (call, request) = Call::open(request)?;
        let mut violations = Violations::default();
        let (account, id) = child("name", &request.name, "paymentMethods", &mut violations);
        violations.finish()?;
        let method = self.0.get_payment_method(&call, &account, id).await?;
        Ok(Response::new(to_wire(&method)))
    }

    async fn list_payment_methods(
        &self,
        request: Request<pb::ListPaymentMethodsRequest>,
    ) -> Result<Response<pb::ListPaymentMethodsResponse>, Status> {
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
        let after = page.key(&mut violations);
        violations.finish()?;
        let methods = self
            .0
            .list_payment_methods(&call, &account, after, &page)
            .await?;
        let (methods, next_page_token) =
            page.cut(methods, |method| method.id.to_string(), |it| to_wire(&it));
        Ok(Response::new(pb::ListPaymentMethodsResponse {
            payment_methods: methods,
            next_page_token,
        }))
    }
}

/// A method to put on file.
pub(super) fn new_method(
    field: &str,
    given: &pb::NewPaymentMethod,
    violations: &mut Violations,
) -> Option<NewMethod> {
    let token = TestToken::parse(&given.gateway_token);
    let token = violations.check(&format!("{field}.gateway_token"), token);
    let display_name = check_display_name(&given.display_name, &given.gateway_token);
    let display_name = violations.check(&format!("{field}.display_name"), display_name);
    Some(NewMethod {
        token: token?,
        display_name: display_name?,
    })
}

/// Account and id of a resource name with a UUID under an account.
pub(super) fn child(
    field: &str,
    name: &str,
    collection: &str,
    violations: &mut Violations,
) -> (String, Uuid) {
    let parsed = parse(name, ["accounts", collection])
        .and_then(|[account, id]| Some((account.to_owned(), parse_uuid(id)?)));
    parsed.unwrap_or_else(|| {
        violations.add(
            field,
            format!("must be of the form \"accounts/acme/{collection}/{{uuid}}\""),
        );
        Default::default()
    })
}

fn to_wire(method: &PaymentMethod) -> pb::PaymentMethod {
    pb::PaymentMethod {
        name: method.name(),
        display_name: method.display_name.clone(),
        gateway: GATEWAY.to_owned(),
        default: method.default,
        create_time: Some(to_proto(method.created)),
        etag: method.version.to_string(),
    }
}
