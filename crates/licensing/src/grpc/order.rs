//! OrderService.

use std::collections::BTreeSet;

use octroi_api::billing::v1::NewPaymentMethod;
use octroi_api::licensing::v1 as wire;
use octroi_api::licensing::v1::order_service_server::OrderService;
use octroi_platform::name::{ID_RULE, is_id};
use octroi_platform::refusal::MISSING;
use octroi_platform::time::to_proto;
use octroi_platform::{
    AccountId, Answer, Fields, Name as _, Page, Violations, answer, command, open,
};
use tonic::{Request, Response};
use uuid::Uuid;

use crate::app::order::Orders;
use crate::app::payment::Payments;
use crate::billing::quote_message;
use crate::domain::group::GroupId;
use crate::domain::offer::OfferId;
use crate::domain::order::{Line, NewGroup, Order, OrderDraft, OrderId, Receipt, State};
use crate::domain::payment::Method;
use crate::domain::period::RenewalPeriod;
use crate::grpc::{check_name, check_text};
use crate::refusal;

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
    ) -> Answer<wire::Order> {
        let (call, (draft, prepaid, validate_only)) = command(request, draft)?;
        if prepaid {
            return Err(refusal::billing_mode_unavailable().status());
        }
        answer(self.orders.create(&call, draft, validate_only).await)
    }

    async fn get_order(&self, request: Request<wire::GetOrderRequest>) -> Answer<wire::Order> {
        let (call, id) = open(request, |it, fields| {
            fields.name::<OrderId>("name", &it.name)
        })?;
        let order = self.orders.get(&call, &id).await?;
        Ok(Response::new((&order).into()))
    }

    async fn list_orders(
        &self,
        request: Request<wire::ListOrdersRequest>,
    ) -> Answer<wire::ListOrdersResponse> {
        let (call, account, page) = Page::open(request, |it, fields| {
            fields.name::<AccountId>("parent", &it.parent)
        })?;
        let orders = self.orders.list(&call, &account, &page).await?;
        let (orders, next_page_token) = page.cut(orders, |it| it.id.id.clone(), |it| (&it).into());
        Ok(Response::new(wire::ListOrdersResponse {
            orders,
            next_page_token,
        }))
    }

    async fn pay_order(&self, request: Request<wire::PayOrderRequest>) -> Answer<wire::Order> {
        let (call, (id, method)) = command(request, |it, fields| {
            let id = fields.name::<OrderId>("name", &it.name);
            let method = it.new_payment_method.map(|given| method(given, fields));
            Some((id?, method))
        })?;
        let order = self.payments.pay(&call, &id, method).await?;
        Ok(Response::new((&order).into()))
    }

    async fn cancel_order(
        &self,
        request: Request<wire::CancelOrderRequest>,
    ) -> Answer<wire::Order> {
        let (call, (id, etag)) = command(request, |it, fields| {
            Some((fields.name::<OrderId>("name", &it.name)?, it.etag))
        })?;
        answer(self.orders.cancel(&call, &id, &etag).await)
    }
}

fn method(given: NewPaymentMethod, violations: &mut Violations) -> Method {
    let field = |name: &str| format!("new_payment_method.{name}");
    if given.gateway_token.is_empty() {
        violations.add(field("gateway_token"), MISSING);
    }
    let token = field("gateway_token");
    check_text(&token, &given.gateway_token, LONGEST_TOKEN, violations);
    if !given.display_name.is_empty() {
        check_name(&field("display_name"), &given.display_name, violations);
    }
    Method {
        gateway_token: given.gateway_token,
        display_name: given.display_name,
    }
}

/// The draft, whether its new group is to be PREPAID, and whether it is only validated.
fn draft(
    request: wire::CreateOrderRequest,
    fields: &mut Fields<'_>,
) -> Option<(OrderDraft, bool, bool)> {
    let account = fields.name::<AccountId>("parent", &request.parent);
    let id = match request.order_id.as_str() {
        "" => format!("o{}", Uuid::now_v7().simple()),
        chosen => {
            if !is_id(chosen) {
                fields.add("order_id", ID_RULE);
            }
            chosen.to_owned()
        }
    };
    let order = fields.given("order", request.order);
    let prepaid = order
        .new_group
        .as_ref()
        .is_some_and(|new| new.billing_mode() == wire::BillingMode::Prepaid);
    let (group, new_group) = match order.new_group {
        Some(new) => {
            if !order.license_group.is_empty() {
                fields.add(
                    "order.license_group",
                    "must be empty when new_group is given",
                );
            }
            let id = new.id.clone();
            let group = account.clone().map(|account| GroupId { account, id });
            (group, Some(new_group(new, fields)))
        }
        None => {
            let group = existing_group(&order.license_group, account.as_ref(), fields);
            (group, None)
        }
    };
    let lines = lines(&order.lines, fields);
    let draft = OrderDraft {
        id: OrderId {
            account: account?,
            id,
        },
        group: group?,
        new_group: match new_group {
            Some(new) => Some(new?),
            None => None,
        },
        lines,
    };
    Some((draft, prepaid, request.validate_only))
}

fn existing_group(
    given: &str,
    account: Option<&AccountId>,
    violations: &mut Violations,
) -> Option<GroupId> {
    if given.is_empty() {
        violations.add("order.new_group", "must be given, or order.license_group");
        return None;
    }
    let group = GroupId::parse(given).filter(|it| Some(&it.account) == account && is_id(&it.id));
    if group.is_none() {
        violations.add(
            "order.license_group",
            "must be the name of one of the parent's groups, such as accounts/{id}/licenseGroups/{id}",
        );
    }
    group
}

fn new_group(new: wire::NewLicenseGroup, violations: &mut Violations) -> Option<NewGroup> {
    if !is_id(&new.id) {
        violations.add("order.new_group.id", ID_RULE);
    }
    let display_name = match new.display_name.as_str() {
        "" => new.id,
        given => {
            check_name("order.new_group.display_name", given, violations);
            new.display_name
        }
    };
    if wire::BillingMode::try_from(new.billing_mode).is_err() {
        violations.add(
            "order.new_group.billing_mode",
            "must be POSTPAID or PREPAID",
        );
    }
    let renewal_period: RenewalPeriod =
        violations.check("order.new_group.renewal_period", new.renewal_period.parse())?;
    Some(NewGroup {
        display_name,
        renewal_period,
        auto_renew: new.auto_renew.unwrap_or(true),
    })
}

fn lines(given: &[wire::OrderLine], fields: &mut Fields<'_>) -> Vec<Line> {
    if !(1..=MOST_LINES).contains(&given.len()) {
        fields.add("order.lines", format!("must have 1 to {MOST_LINES} lines"));
    }
    let mut seen = BTreeSet::new();
    let mut lines = Vec::with_capacity(given.len().min(MOST_LINES));
    for (at, line) in given.iter().take(MOST_LINES).enumerate() {
        let field = format!("order.lines[{at}].offer");
        if let Some(offer) = fields.name::<OfferId>(&field, &line.offer) {
            if !seen.insert(offer.clone()) {
                fields.add(field, "must not be that of another line");
            }
            lines.push(Line {
                offer,
                quantity: line.quantity,
                price: String::new(),
            });
        }
        if !(1..=MOST_LICENSES).contains(&line.quantity) {
            let rule = format!("must be 1 to {MOST_LICENSES}");
            fields.add(format!("order.lines[{at}].quantity"), rule);
        }
    }
    lines
}

impl From<&Order> for wire::Order {
    fn from(order: &Order) -> Self {
        let (complete_time, receipt) = match &order.state {
            State::Completed { at, receipt } => (Some(to_proto(*at)), receipt.clone()),
            _ => (None, Receipt::default()),
        };
        Self {
            name: order.id.to_string(),
            new_group: order.new_group.as_ref().map(|new| wire::NewLicenseGroup {
                id: order.group.id.clone(),
                display_name: new.display_name.clone(),
                renewal_period: new.renewal_period.as_str().to_owned(),
                billing_mode: wire::BillingMode::Postpaid.into(),
                auto_renew: Some(new.auto_renew),
            }),
            license_group: order.group.to_string(),
            lines: order
                .lines
                .iter()
                .map(|line| wire::OrderLine {
                    offer: line.offer.to_string(),
                    quantity: line.quantity,
                })
                .collect(),
            state: state(&order.state).into(),
            quote: quote_message(&order.quote),
            create_time: Some(to_proto(order.created_at)),
            expire_time: Some(to_proto(order.expires_at)),
            complete_time,
            payment_attempts: order.attempts,
            decline_reason: order.decline_reason.clone(),
            payment: receipt.payment,
            invoice: receipt.invoice,
            etag: order.version.to_string(),
        }
    }
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
