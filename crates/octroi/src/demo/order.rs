//! Ordering licences: the first ones, in a new group, and more of both offers into it.

use anyhow::Context as _;
use octroi_api::billing::v1::{Account, CreateAccountRequest, NewPaymentMethod, PostalAddress};
use octroi_api::licensing::v1::{
    CreateOrderRequest, ListOffersRequest, NewLicenseGroup, Order, OrderLine, PayOrderRequest,
    order,
};

use super::stage::{ACCOUNT, BUSINESS, ENTERPRISE, GROUP, Stage, amount, done, refused};

/// "Order a licence".
pub(super) async fn first(stage: &mut Stage) -> anyhow::Result<()> {
    stage.chapter("Order licences")?;
    let answer = stage.api.accounts.create_account(account()).await;
    let account = done("CreateAccount", answer)?;
    stage.report(
        "CreateAccount",
        format!("{}: {}", account.name, account.legal_name),
    )?;
    let answer = stage
        .api
        .offers
        .list_offers(ListOffersRequest::default())
        .await;
    for offer in done("ListOffers", answer)?.offers {
        let limit = match offer.group_license_limit {
            0 => "any number in a group".to_owned(),
            limit => format!("at most {limit} in a group"),
        };
        stage.report("ListOffers", format!("{}: {limit}", offer.display_name))?;
    }
    let order = Order {
        new_group: Some(NewLicenseGroup {
            id: "office".to_owned(),
            display_name: "Head office".to_owned(),
            renewal_period: "P1M".to_owned(),
            ..NewLicenseGroup::default()
        }),
        lines: vec![line(BUSINESS, 10)],
        ..Order::default()
    };
    let order = place(stage, "o1", order).await?;
    stage.report_more(format!(
        "renewed monthly, to be paid by {}",
        expiry(stage, &order)?
    ))?;
    let method = NewPaymentMethod {
        gateway_token: "test-success".to_owned(),
        display_name: "Company card".to_owned(),
    };
    pay(stage, &order, Some(method)).await
}

/// "Add a licence to an existing group".
pub(super) async fn more(stage: &mut Stage) -> anyhow::Result<()> {
    stage.at("2026-11-26T10:00").await?;
    stage.chapter("Add licences to the group")?;
    let into_group = |lines| Order {
        license_group: GROUP.to_owned(),
        lines,
        ..Order::default()
    };
    let answer = stage
        .api
        .orders
        .create_order(request("too-many", into_group(vec![line(BUSINESS, 291)])))
        .await;
    let refusal = refused("CreateOrder", "LICENSE_LIMIT_REACHED", answer)?;
    stage.report(
        "CreateOrder",
        format!("291 more Apps for business: {refusal}"),
    )?;
    let lines = vec![line(BUSINESS, 5), line(ENTERPRISE, 3)];
    let order = place(stage, "o2", into_group(lines)).await?;
    pay(stage, &order, None).await
}

async fn place(stage: &mut Stage, id: &str, order: Order) -> anyhow::Result<Order> {
    let answer = stage.api.orders.create_order(request(id, order)).await;
    let order = done("CreateOrder", answer)?;
    let quote = order.quote.as_ref().context("an order without a quote")?;
    for (nth, line) in quote.lines.iter().enumerate() {
        let what = format!(
            "{} {} at {} a month",
            line.quantity,
            line.offer,
            amount(line.monthly_price.as_ref())
        );
        if nth == 0 {
            stage.report("CreateOrder", format!("{}: {what}", order.name))?;
        } else {
            stage.report_more(what)?;
        }
    }
    stage.report_more(format!("due now: {}", amount(quote.due_now.as_ref())))?;
    Ok(order)
}

async fn pay(
    stage: &mut Stage,
    order: &Order,
    new_payment_method: Option<NewPaymentMethod>,
) -> anyhow::Result<()> {
    let how = match &new_payment_method {
        Some(method) => format!("with {}, kept for later", method.display_name),
        None => "with the method on file".to_owned(),
    };
    let request = PayOrderRequest {
        name: order.name.clone(),
        new_payment_method,
        ..PayOrderRequest::default()
    };
    let paid = done("PayOrder", stage.api.orders.pay_order(request).await)?;
    anyhow::ensure!(
        paid.state() == order::State::Completed,
        "the order is {:?} after its payment",
        paid.state()
    );
    let licenses: i32 = paid.lines.iter().map(|line| line.quantity).sum();
    stage.report(
        "PayOrder",
        format!("paid {how}: {licenses} licences in {}", paid.license_group),
    )?;
    Ok(())
}

fn expiry(stage: &Stage, order: &Order) -> anyhow::Result<String> {
    let expiry = order.expire_time.as_ref();
    let expiry = expiry.and_then(octroi_platform::time::from_proto);
    Ok(stage.show(expiry.context("an order without an expiry")?))
}

fn request(id: &str, order: Order) -> CreateOrderRequest {
    CreateOrderRequest {
        parent: ACCOUNT.to_owned(),
        order_id: id.to_owned(),
        order: Some(order),
        ..CreateOrderRequest::default()
    }
}

fn line(offer: &str, quantity: i32) -> OrderLine {
    OrderLine {
        offer: offer.to_owned(),
        quantity,
    }
}

fn account() -> CreateAccountRequest {
    CreateAccountRequest {
        account_id: "acme".to_owned(),
        account: Some(Account {
            legal_name: "Acme SAS".to_owned(),
            contact_email: "it@acme.example".to_owned(),
            address: Some(PostalAddress {
                lines: vec!["1 rue de la Paix".to_owned()],
                postal_code: "75002".to_owned(),
                city: "Paris".to_owned(),
                country_code: "FR".to_owned(),
            }),
            locale: "en".to_owned(),
            time_zone: super::stage::ZONE.to_owned(),
            ..Account::default()
        }),
        ..CreateAccountRequest::default()
    }
}
