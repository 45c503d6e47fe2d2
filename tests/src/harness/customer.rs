//! A customer and common steps, for journeys that are about something else.

use octroi::system::ServiceName;
use octroi_api::billing::v1::{
    Account, CreateAccountRequest, CreatePaymentMethodRequest, NewPaymentMethod, PaymentMethod,
    PostalAddress, UpdateAccountRequest,
};
use octroi_api::event::v1::{Event, ListEventsRequest};
use octroi_api::licensing::v1::{
    ActivateLicenseRequest, CreateOrderRequest, GetLicenseGroupRequest, GetLicenseRequest,
    GetOrderRequest, License, LicenseGroup, LicenseUser, NewLicenseGroup, Order, OrderLine,
    PayOrderRequest, SignInRequest, SignInResponse,
};
use octroi_api::notification::v1::{Email, EmailView, GetEmailRequest, ListEmailsRequest};
use prost_types::FieldMask;
use tonic::{Code, Response, Status};
use uuid::Uuid;

use super::caller::Caller;
use super::installation::Installation;
use super::refusal::{Answer as _, Refused};
use super::time::eventually;

/// The offer that holds at most 300 licences a group.
pub const BUSINESS: &str = "offers/apps-for-business";
/// The offer without a limit.
pub const ENTERPRISE: &str = "offers/apps-for-enterprise";
/// A password that a customer may choose.
pub const CHOSEN: &str = "Blue-Kettle-42";

/// An ordinary account, in Paris.
#[must_use]
pub fn account(legal_name: &str) -> Account {
    Account {
        legal_name: legal_name.to_owned(),
        contact_email: "office@acme.test".to_owned(),
        address: Some(PostalAddress {
            lines: vec!["1 rue de la Paix".to_owned()],
            postal_code: "75002".to_owned(),
            city: "Paris".to_owned(),
            country_code: "FR".to_owned(),
        }),
        locale: "en".to_owned(),
        time_zone: "Europe/Paris".to_owned(),
        ..Account::default()
    }
}

/// A new monthly group.
#[must_use]
pub fn new_group(id: &str) -> NewLicenseGroup {
    NewLicenseGroup {
        id: id.to_owned(),
        renewal_period: "P1M".to_owned(),
        ..NewLicenseGroup::default()
    }
}

/// Lines of an order.
#[must_use]
pub fn lines(lines: &[(&str, i32)]) -> Vec<OrderLine> {
    lines
        .iter()
        .map(|(offer, quantity)| OrderLine {
            offer: (*offer).to_owned(),
            quantity: *quantity,
        })
        .collect()
}

/// A payment method of the test gateway.
#[must_use]
pub fn method(token: &str) -> NewPaymentMethod {
    NewPaymentMethod {
        gateway_token: token.to_owned(),
        display_name: String::new(),
    }
}

/// A new request id.
#[must_use]
pub fn request_id() -> String {
    Uuid::new_v4().to_string()
}

/// The password in the text of an English e-mail.
#[must_use]
#[track_caller]
pub fn mailed_password(text: &str) -> String {
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("Password: "));
    line.unwrap_or_else(|| panic!("no password in: {text}"))
        .to_owned()
}

/// A customer, and the caller who acts for them.
#[derive(Clone)]
pub struct Customer {
    /// The account's id.
    pub id: String,
    pub by: Caller,
}

impl Installation {
    /// A customer with an account and nothing else.
    pub async fn newcomer(&self, id: &str) -> Customer {
        Customer::newcomer(self.operator(), id).await
    }

    /// A customer whose payments succeed.
    pub async fn customer(&self, id: &str) -> Customer {
        Customer::paying(self.operator(), id).await
    }
}

impl Customer {
    /// Opens an account.
    pub async fn newcomer(by: Caller, id: &str) -> Self {
        let request = CreateAccountRequest {
            account_id: id.to_owned(),
            account: Some(account(id)),
            ..CreateAccountRequest::default()
        };
        by.accounts().create_account(request).await.got();
        let id = id.to_owned();
        Self { id, by }
    }

    /// Opens an account whose payments succeed.
    pub async fn paying(by: Caller, id: &str) -> Self {
        let customer = Self::newcomer(by, id).await;
        customer.pays_with("test-success").await;
        customer
    }

    /// Resource name of the account.
    #[must_use]
    pub fn name(&self) -> String {
        format!("accounts/{}", self.id)
    }

    /// Resource name of a group.
    #[must_use]
    pub fn group_name(&self, group: &str) -> String {
        format!("accounts/{}/licenseGroups/{group}", self.id)
    }

    /// Resource name of a licence.
    #[must_use]
    pub fn license_name(&self, group: &str, number: i32) -> String {
        format!(
            "accounts/{}/licenseGroups/{group}/licenses/{number}",
            self.id
        )
    }

    /// Resource name of an order.
    #[must_use]
    pub fn order_name(&self, order: &str) -> String {
        format!("accounts/{}/orders/{order}", self.id)
    }

    /// Updates these fields of the account; returns the answer whatever it is.
    pub async fn changes(
        &self,
        paths: &[&str],
        account: Account,
    ) -> Result<Response<Account>, Status> {
        let request = UpdateAccountRequest {
            account: Some(Account {
                name: self.name(),
                ..account
            }),
            update_mask: Some(FieldMask {
                paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            }),
            ..UpdateAccountRequest::default()
        };
        self.by.accounts().update_account(request).await
    }

    /// Moves the account to another country.
    pub async fn moves_to(&self, country: &str) {
        let moved = account(&self.id);
        let address = moved.address.map(|address| PostalAddress {
            country_code: country.to_owned(),
            ..address
        });
        let moved = Account {
            address,
            ..Account::default()
        };
        self.changes(&["address"], moved).await.got();
    }

    /// Puts a payment method on file as the default.
    pub async fn pays_with(&self, token: &str) -> PaymentMethod {
        let request = CreatePaymentMethodRequest {
            parent: self.name(),
            payment_method: Some(method(token)),
            make_default: true,
            ..CreatePaymentMethodRequest::default()
        };
        self.by
            .payment_methods()
            .create_payment_method(request)
            .await
            .got()
    }

    /// Orders licences in a new group; returns the answer whatever it is.
    pub async fn asks_for(
        &self,
        order: &str,
        group: NewLicenseGroup,
        wanted: &[(&str, i32)],
    ) -> Result<Response<Order>, Status> {
        let order = self.request(
            order,
            Order {
                new_group: Some(group),
                lines: lines(wanted),
                ..Order::default()
            },
        );
        self.by.orders().create_order(order).await
    }

    /// Orders more licences in an existing group.
    pub async fn asks_for_more(
        &self,
        order: &str,
        group: &str,
        wanted: &[(&str, i32)],
    ) -> Result<Response<Order>, Status> {
        let order = self.request(
            order,
            Order {
                license_group: self.group_name(group),
                lines: lines(wanted),
                ..Order::default()
            },
        );
        self.by.orders().create_order(order).await
    }

    fn request(&self, order_id: &str, order: Order) -> CreateOrderRequest {
        CreateOrderRequest {
            parent: self.name(),
            order_id: order_id.to_owned(),
            order: Some(order),
            ..CreateOrderRequest::default()
        }
    }

    /// Pays an order with the method on file.
    pub async fn pays(&self, order: &str) -> Result<Response<Order>, Status> {
        let request = PayOrderRequest {
            name: self.order_name(order),
            ..PayOrderRequest::default()
        };
        self.by.orders().pay_order(request).await
    }

    /// Pays an order with a new method.
    pub async fn pays_by(&self, order: &str, token: &str) -> Result<Response<Order>, Status> {
        let request = PayOrderRequest {
            name: self.order_name(order),
            new_payment_method: Some(method(token)),
            ..PayOrderRequest::default()
        };
        self.by.orders().pay_order(request).await
    }

    /// Orders and pays a new monthly group; the order is named after it.
    pub async fn buys(&self, group: &str, wanted: &[(&str, i32)]) -> Order {
        self.asks_for(group, new_group(group), wanted).await.got();
        self.pays(group).await.got()
    }

    /// Orders and pays licences for an existing group.
    pub async fn buys_more(&self, order: &str, group: &str, wanted: &[(&str, i32)]) -> Order {
        self.asks_for_more(order, group, wanted).await.got();
        self.pays(order).await.got()
    }

    pub async fn order(&self, order: &str) -> Order {
        let name = self.order_name(order);
        let mut orders = self.by.orders();
        orders.get_order(GetOrderRequest { name }).await.got()
    }

    pub async fn group(&self, group: &str) -> LicenseGroup {
        let name = self.group_name(group);
        let mut groups = self.by.groups();
        groups
            .get_license_group(GetLicenseGroupRequest { name })
            .await
            .got()
    }

    pub async fn license(&self, group: &str, number: i32) -> License {
        let name = self.license_name(group, number);
        let mut licenses = self.by.licenses();
        licenses.get_license(GetLicenseRequest { name }).await.got()
    }

    /// The request that activates a licence with a login and a chosen password.
    #[must_use]
    pub fn activation(&self, group: &str, number: i32, login: &str) -> ActivateLicenseRequest {
        ActivateLicenseRequest {
            name: self.license_name(group, number),
            user: Some(LicenseUser {
                first_name: "Sales".to_owned(),
                last_name: "Desk".to_owned(),
            }),
            activation_email: login.to_owned(),
            password: CHOSEN.to_owned(),
            ..ActivateLicenseRequest::default()
        }
    }

    /// Activates a licence with a chosen password.
    pub async fn activates(&self, group: &str, number: i32, login: &str) -> License {
        let request = self.activation(group, number, login);
        self.by.licenses().activate_license(request).await.got()
    }

    /// Activates a licence with a generated password, which is mailed.
    pub async fn activates_generated(&self, group: &str, number: i32, login: &str) -> License {
        let request = ActivateLicenseRequest {
            password: String::new(),
            ..self.activation(group, number, login)
        };
        self.by.licenses().activate_license(request).await.got()
    }

    /// Signs a licence's user in.
    pub async fn signs_in(
        &self,
        address: &str,
        password: &str,
    ) -> Result<Response<SignInResponse>, Status> {
        let request = SignInRequest {
            activation_email: address.to_owned(),
            password: password.to_owned(),
            client_address: "192.0.2.7".to_owned(),
        };
        self.by.portal().sign_in(request).await
    }

    /// A signed-in user whose password needs no change.
    pub async fn user(&self, address: &str, password: &str) -> Caller {
        let session = self.signs_in(address, password).await.got();
        self.by.with_session(&session.session_token)
    }

    /// The account's e-mails with their bodies, oldest first; none as long as notification does not know the account.
    pub async fn emails(&self) -> Vec<Email> {
        let request = ListEmailsRequest {
            parent: self.name(),
            page_size: 1000,
            view: EmailView::Full.into(),
            ..ListEmailsRequest::default()
        };
        let listed = self.by.emails().list_emails(request).await;
        if listed.as_ref().is_err_and(is_not_known_yet) {
            return Vec::new();
        }
        let mut emails = listed.got().emails;
        emails.reverse();
        emails
    }

    pub async fn email(&self, name: &str) -> Email {
        let name = name.to_owned();
        let mut emails = self.by.emails();
        emails.get_email(GetEmailRequest { name }).await.got()
    }

    /// Waits for the account's `count`th e-mail of a template and returns the newest.
    pub async fn receives(&self, template: &str, count: usize) -> Email {
        eventually(&format!("e-mail {count} of {template}"), async || {
            let mut emails = self.emails().await;
            emails.retain(|email| email.template == template);
            (emails.len() == count).then(|| emails.pop()).flatten()
        })
        .await
    }

    /// The events that a service has recorded of the account, oldest first.
    pub async fn events(&self, service: ServiceName) -> Vec<Event> {
        let request = ListEventsRequest {
            parent: self.name(),
            page_size: 1000,
            ..ListEventsRequest::default()
        };
        let mut events = self.by.events(service);
        events.list_events(request).await.got().events
    }
}

/// Whether an account was not found by a service that has not received its event yet.
fn is_not_known_yet(status: &Status) -> bool {
    let refused = Refused::of(status);
    refused.code == Code::NotFound && refused.retry.is_some()
}
