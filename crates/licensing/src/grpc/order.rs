//! OrderService.

use std::collections::BTreeSet;

use octroi_api::billing::v1::NewPaymentMethod;
use octroi_api::licensing::v1 as wire;
use octroi_api::licensing::v1::order_service_server::OrderService;
use octroi_platform::event::to_proto;
use octroi_platform::name::{ID_RULE, is_id, parse};
use octroi_platform::{Call, Page, Violations, check_request_id};
use tonic::{Request, Response, Status};

use crate::app::order::Orders;
use crate::app::payment::Payments;
use crate::billing::stored_quote;
use crate::domain::order::{Line, NewGroup, Order, Receipt, State, Wish};
use crate::domain::payment::Method;
use crate::domain::period::RenewalPeriod;
use crate::domain::{group, offer};
use crate::error::Error;
use crate::grpc::{check_name, check_text, ids};

const MOST_LINES: usize = 20;
const MOST_LICENSES: i32 = 100_000;
const LONGEST_TOKEN: usize = 255;

pub(crate) struct OrderApi {
    pub(crate) orders: Orders,
    pub(crate) payments: Payments,
}

#[tonic::async_trait]
impl OrderService for OrderApi {
    async fn create_order(
        &self,
        request: Request<wire::CreateOrderRequest>,
    ) -> Result<Response<wire::Order>, Status> {
        let (call, mut request) = Call::open(request)?;
        let request_id = std::mem::take(&mut request.request_id);
        let wish = wish(&request, &request_id)?;
        let call = call.idempotent(&request_id, "", &request)?;
        let order = self
            .orders
            .create(&call, wish, request.validate_only, to_wire)
            .await?;
        Ok(Response::new(order))
    }

    async fn get_order(
        &self,
        request: Request<wire::GetOrderRequest>,
    ) -> Result<Response<wire::Order>, Status> {
        let (call, request) = Call::open(request)?;
        let mut violations = Violations::default();
        let [account, id] = order_name(&request.name, &mut violations);
        violations.finish()?;
        let order = self.orders.get(&call, account, id).await?;
        Ok(Response::new(to_wire(&order)?))
    }

    async fn list_orders(
        &self,
        request: Request<wire::ListOrdersRequest>,
    ) -> Result<Response<wire::ListOrdersResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let mut violations = Violations::default();
        let parent = ids("parent", &request.parent, ["accounts"], &mut violations);
        let page = Page::parse(
            &call,
            request.page_size,
            &request.page_token,
            &request.parent,
            &request.filter,
            &request.order_by,
            &mut violations,
        );
        violations.finish()?;
        let [account] = parent.unwrap_or_default();
        let orders = self.orders.list(&call, account, &page).await?;
        let (orders, next_page_token) =
            page.try_cut(orders, |order| order.id.clone(), |it| to_wire(&it))?;
        Ok(Response::new(wire::ListOrdersResponse {
            orders,
            next_page_token,
        }))
    }

    async fn pay_order(
        &self,
        request: Request<wire::PayOrderRequest>,
    ) -> Result<Response<wire::Order>, Status> {
        let (call, mut request) = Call::open(request)?;
        let request_id = std::mem::take(&mut request.request_id);
        let mut violations = Violations::default();
        check_request_id(&request_id, &mut violations);
        let [account, id] = order_name(&request.name, &mut violations);
        let method = request
            .new_payment_method
            .as_ref()
            .map(|given| method(given, &mut violations));
        violations.finish()?;
        let call = call.idempotent(&request_id, "", &request)?;
        let order = self
            .payments
            .pay(&call, account, id, method, to_wire)
            .await?;
        Ok(Response::new(order))
    }

    async fn cancel_order(
        &self,
        request: Request<wire::CancelOrderRequest>,
    ) -> Result<Response<wire::Order>, Status> {
        let (call, mut request) = Call::open(request)?;
        let request_id = std::mem::take(&mut request.request_id);
        let mut violations = Violations::default();
        check_request_id(&request_id, &mut violations);
        let [account, id] = order_name(&request.name, &mut violations);
        violations.finish()?;
        let call = call.idempotent(&request_id, "", &request)?;
        let order = self
            .orders
            .cancel(&call, account, id, &request.etag, to_wire)
            .await?;
        Ok(Response::new(order))
    }
}

fn order_name<'a>(name: &'a str, violations: &mut Violations) -> [&'a str; 2] {
    ids("name", name, ["accounts", "orders"], violations).unwrap_or_default()
}

fn method(given: &NewPaymentMethod, violations: &mut Violations) -> Method {
    let field = |name: &str| format!("new_payment_method.{name}");
    if given.gateway_token.is_empty() {
        violations.add(field("gateway_token"), "must be given");
    }
    let token = field("gateway_token");
    check_text(&token, &given.gateway_token, LONGEST_TOKEN, violations);
    if !given.display_name.is_empty() {
        check_name(&field("display_name"), &given.display_name, violations);
    }
    Method {
        gateway_token: given.gateway_token.clone(),
        display_name: given.display_name.clone(),
    }
}

fn wish(request: &wire::CreateOrderRequest, request_id: &str) -> Result<Wish, Error> {
    let mut violations = Violations::default();
    check_request_id(request_id, &mut violations);
    let parent = ids("parent", &request.parent, ["accounts"], &mut violations);
    let [account] = parent.unwrap_or_default();
    if !request.order_id.is_empty() && !is_id(&request.order_id) {
        violations.add("order_id", ID_RULE);
    }
    let nothing = wire::Order::default();
    if request.order.is_none() {
        violations.add("order", "must be given");
    }
    let order = request.order.as_ref().unwrap_or(&nothing);
    let (group, new_group) = match &order.new_group {
        Some(new) => {
            if !order.license_group.is_empty() {
                violations.add(
                    "order.license_group",
                    "must be empty when new_group is given",
                );
            }
            (new.id.clone(), Some(new_group(new, &mut violations)))
        }
        None => (existing_group(order, account, &mut violations), None),
    };
    let lines = lines(&order.lines, &mut violations);
    violations.finish()?;
    let prepaid = order
        .new_group
        .as_ref()
        .is_some_and(|new| new.billing_mode() == wire::BillingMode::Prepaid);
    if prepaid {
        return Err(Error::BillingModeUnavailable);
    }
    Ok(Wish {
        account: account.to_owned(),
        id: request.order_id.clone(),
        group,
        new_group: new_group.flatten(),
        lines,
    })
}

fn existing_group(order: &wire::Order, account: &str, violations: &mut Violations) -> String {
    if order.license_group.is_empty() {
        violations.add("order.new_group", "must be given, or order.license_group");
        return String::new();
    }
    match parse(&order.license_group, ["accounts", "licenseGroups"]) {
        Some([of, group]) if of == account && is_id(group) => group.to_owned(),
        _ => {
            violations.add(
                "order.license_group",
                "must be the name of one of the parent's groups, such as accounts/{id}/licenseGroups/{id}",
            );
            String::new()
        }
    }
}

fn new_group(new: &wire::NewLicenseGroup, violations: &mut Violations) -> Option<NewGroup> {
    if !is_id(&new.id) {
        violations.add("order.new_group.id", ID_RULE);
    }
    let display_name = match new.display_name.as_str() {
        "" => &new.id,
        given => given,
    };
    if !new.display_name.is_empty() {
        check_name("order.new_group.display_name", display_name, violations);
    }
    if wire::BillingMode::try_from(new.billing_mode).is_err() {
        violations.add(
            "order.new_group.billing_mode",
            "must be POSTPAID or PREPAID",
        );
    }
    let renewal_period: RenewalPeriod =
        violations.check("order.new_group.renewal_period", new.renewal_period.parse())?;
    Some(NewGroup {
        display_name: display_name.to_owned(),
        renewal_period,
        auto_renew: new.auto_renew.unwrap_or(true),
    })
}

fn lines(given: &[wire::OrderLine], violations: &mut Violations) -> Vec<Line> {
    if !(1..=MOST_LINES).contains(&given.len()) {
        violations.add("order.lines", format!("must have 1 to {MOST_LINES} lines"));
    }
    let mut seen = BTreeSet::new();
    let mut lines = Vec::with_capacity(given.len().min(MOST_LINES));
    for (at, line) in given.iter().take(MOST_LINES).enumerate() {
        let field = format!("order.lines[{at}].offer");
        if let Some([offer]) = ids(&field, &line.offer, ["offers"], violations) {
            if !seen.insert(offer) {
                violations.add(field, "must not be that of another line");
            }
            lines.push(Line {
                offer: offer.to_owned(),
                quantity: line.quantity,
                price: String::new(),
            });
        }
        if !(1..=MOST_LICENSES).contains(&line.quantity) {
            let rule = format!("must be 1 to {MOST_LICENSES}");
            violations.add(format!("order.lines[{at}].quantity"), rule);
        }
    }
    lines
}

/// An order on the wire.
///
/// # Errors
/// [`Error::Platform`] when its quote cannot be read.
pub(crate) fn to_wire(order: &Order) -> Result<wire::Order, Error> {
    let (complete_time, receipt) = match &order.state {
        State::Completed { at, receipt } => (Some(to_proto(*at)), receipt.clone()),
        _ => (None, Receipt::default()),
    };
    Ok(wire::Order {
        name: order.name(),
        new_group: order.new_group.as_ref().map(|new| wire::NewLicenseGroup {
            id: order.group.clone(),
            display_name: new.display_name.clone(),
            renewal_period: new.renewal_period.text().to_owned(),
            billing_mode: wire::BillingMode::Postpaid.into(),
            auto_renew: Some(new.auto_renew),
        }),
        license_group: group::name(&order.account, &order.group),
        lines: order
            .lines
            .iter()
            .map(|line| wire::OrderLine {
                offer: offer::name(&line.offer),
                quantity: line.quantity,
            })
            .collect(),
        state: state(&order.state).into(),
        quote: Some(stored_quote(order)?),
        create_time: Some(to_proto(order.created_at)),
        expire_time: Some(to_proto(order.expires_at)),
        complete_time,
        payment_attempts: order.attempts,
        decline_reason: order.decline_reason.clone(),
        payment: receipt.payment,
        invoice: receipt.invoice,
        etag: order.version.to_string(),
    })
}

fn state(state: &State) -> wire::order::State {
    match state {
        State::AwaitingPayment => wire::order::State::AwaitingPayment,
        State::Paying => wire::order::State::Paying,
        State::Completed { .. } => wire::order::State::Completed,
        State::Expired => wire::order::State::Expired,
        State::Cancelled => wire::order::State::Cancelled,
    }
}
