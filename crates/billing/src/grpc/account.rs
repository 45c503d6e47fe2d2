//! octroi.billing.v1.AccountService.

use std::sync::Arc;

use octroi_api::billing::v1 as pb;
use octroi_api::billing::v1::account_service_server::AccountService;
use octroi_platform::event::to_proto;
use octroi_platform::name::{ID_RULE, is_id, parse};
use octroi_platform::{Call, Page, Violations, check_request_id};
use tonic::{Request, Response, Status};

use super::checked;
use crate::app::App;
use crate::domain::account::{
    Account, AccountChange, Locale, NewAccount, Rule, check_email, check_legal_name, check_zone,
};
use crate::domain::address::{Address, check_city, check_country, check_lines, check_postal_code};
use crate::domain::money::Currency;
use crate::domain::seller;
use crate::domain::vat::check_vat_number;
use crate::error::Error;

/// Customers.
pub struct AccountApi(pub Arc<App>);

#[tonic::async_trait]
impl AccountService for AccountApi {
    async fn create_account(
        &self,
        request: Request<pb::CreateAccountRequest>,
    ) -> Result<Response<pb::Account>, Status> {
        let (call, mut request) = Call::open(request)?;
        let request_id = std::mem::take(&mut request.request_id);
        let (id, new) = new_account(&call, &request, &request_id)?;
        let call = call.idempotent(&request_id, "", &request)?;
        Ok(Response::new(
            self.0.create_account(&call, id, new, to_wire).await?,
        ))
    }

    async fn get_account(
        &self,
        request: Request<pb::GetAccountRequest>,
    ) -> Result<Response<pb::Account>, Status> {
        let (call, request) = Call::open(request)?;
        let mut violations = Violations::default();
        let id = account_id("name", &request.name, &mut violations);
        violations.finish()?;
        Ok(Response::new(to_wire(
            &self.0.get_account(&call, &id).await?,
        )))
    }

    async fn list_accounts(
        &self,
        request: Request<pb::ListAccountsRequest>,
    ) -> Result<Response<pb::ListAccountsResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let mut violations = Violations::default();
        let page = Page::parse(
            &call,
            request.page_size,
            &request.page_token,
            "accounts",
            &request.filter,
            &request.order_by,
            &mut violations,
        );
        violations.finish()?;
        let accounts = self.0.list_accounts(&call, &page).await?;
        let (accounts, next_page_token) =
            page.cut(accounts, |account| account.id.clone(), |it| to_wire(&it));
        Ok(Response::new(pb::ListAccountsResponse {
            accounts,
            next_page_token,
        }))
    }

    async fn update_account(
        &self,
        request: Request<pb::UpdateAccountRequest>,
    ) -> Result<Response<pb::Account>, Status> {
        let (call, mut request) = Call::open(request)?;
        let request_id = std::mem::take(&mut request.request_id);
        let account = request.account.clone().unwrap_or_default();
        let paths = request.update_mask.as_ref().map(|mask| &mask.paths[..]);
        let mut violations = Violations::default();
        check_request_id(&request_id, &mut violations);
        let id = account_id("account.name", &account.name, &mut violations);
        let change = account_change(&account, paths.unwrap_or_default(), &mut violations);
        violations.finish()?;
        let call = call.idempotent(&request_id, "", &request)?;
        let answer = self
            .0
            .update_account(&call, &id, &account.etag, change, to_wire)
            .await?;
        Ok(Response::new(answer))
    }
}

/// The account id of a resource name.
pub(super) fn account_id(field: &str, name: &str, violations: &mut Violations) -> String {
    match parse(name, ["accounts"]) {
        Some([id]) => id.to_owned(),
        None => {
            violations.add(field, "must be an account, such as \"accounts/acme\"");
            String::new()
        }
    }
}

fn new_account(
    call: &Call,
    request: &pb::CreateAccountRequest,
    request_id: &str,
) -> Result<(Option<String>, NewAccount), Error> {
    let mut violations = Violations::default();
    check_request_id(request_id, &mut violations);
    let id = Some(request.account_id.clone()).filter(|id| !id.is_empty());
    if id.is_none() && call.caller.account.is_some() {
        violations.add(
            "account_id",
            "must be the account that the token is bound to",
        );
    } else if id.as_deref().is_some_and(|id| !is_id(id)) {
        violations.add("account_id", ID_RULE);
    }
    let account = request.account.clone().unwrap_or_else(|| {
        violations.add("account", "is required");
        pb::Account::default()
    });
    let fields = Fields {
        account: &account,
        violations: &mut violations,
    };
    let new = fields.new_account();
    Ok((id, checked(new, violations)?))
}

const CHANGEABLE: &str =
    "legal_name, contact_email, address, vat_number, currency_code, seller, locale and time_zone";

fn account_change(
    account: &pb::Account,
    paths: &[String],
    violations: &mut Violations,
) -> AccountChange {
    let mut change = AccountChange::default();
    if paths.is_empty() {
        violations.add("update_mask", "must name the fields to change");
    }
    let mut fields = Fields {
        account,
        violations,
    };
    for path in paths {
        match path.as_str() {
            "legal_name" => change.legal_name = fields.legal_name(),
            "contact_email" => change.contact_email = fields.contact_email(),
            "address" => change.address = fields.address(),
            "vat_number" => change.vat_number = fields.vat_number(),
            "currency_code" => change.currency = fields.currency(),
            "seller" => change.seller = fields.seller(),
            "locale" => change.locale = fields.locale(),
            "time_zone" => change.zone = fields.zone(),
            other => fields
                .violations
                .add("update_mask", format!("takes {CHANGEABLE}, not {other:?}")),
        }
    }
    change
}

/// Reads an account's fields, noting every bad one; a bad one reads as none.
struct Fields<'a> {
    account: &'a pb::Account,
    violations: &'a mut Violations,
}

impl Fields<'_> {
    /// Every field, so that every bad one is noted.
    fn new_account(mut self) -> Option<NewAccount> {
        let legal_name = self.legal_name();
        let contact_email = self.contact_email();
        let address = self.address();
        let vat_number = self.vat_number();
        let currency = self.currency();
        let seller = self.seller();
        let locale = self.locale();
        let zone = self.zone();
        Some(NewAccount {
            legal_name: legal_name?,
            contact_email: contact_email?,
            address: address?,
            vat_number: vat_number?,
            currency: currency?,
            seller: seller?,
            locale: locale?,
            zone: zone?,
        })
    }

    fn legal_name(&mut self) -> Option<String> {
        self.violations.check(
            "account.legal_name",
            check_legal_name(&self.account.legal_name),
        )
    }

    fn contact_email(&mut self) -> Option<String> {
        self.violations.check(
            "account.contact_email",
            check_email(&self.account.contact_email),
        )
    }

    fn address(&mut self) -> Option<Address> {
        let Some(address) = &self.account.address else {
            self.violations.add("account.address", "is required");
            return None;
        };
        let check = &mut *self.violations;
        let lines = check.check("account.address.lines", check_lines(&address.lines));
        let postal_code = check.check(
            "account.address.postal_code",
            check_postal_code(&address.postal_code),
        );
        let city = check.check("account.address.city", check_city(&address.city));
        let country = check.check(
            "account.address.country_code",
            check_country(&address.country_code),
        );
        Some(Address {
            lines: lines?,
            postal_code: postal_code?,
            city: city?,
            country: country?,
        })
    }

    fn vat_number(&mut self) -> Option<String> {
        self.violations.check(
            "account.vat_number",
            check_vat_number(&self.account.vat_number),
        )
    }

    /// The outer none is a bad currency, the inner one an empty field.
    fn currency(&mut self) -> Option<Option<Currency>> {
        let rule = Rule("must be a known ISO 4217 currency in capitals, such as \"EUR\"");
        self.optional(
            "account.currency_code",
            &self.account.currency_code,
            |code| Currency::find(code).ok_or(rule),
        )
    }

    fn seller(&mut self) -> Option<Option<String>> {
        let rule = Rule("must be a seller, such as \"sellers/specimen\"");
        self.optional("account.seller", &self.account.seller, |name| {
            parse(name, ["sellers"])
                .map(|[id]| id.to_owned())
                .ok_or(rule)
        })
    }

    fn locale(&mut self) -> Option<Locale> {
        let rule = Rule("must be \"fr\" or \"en\"");
        self.optional("account.locale", &self.account.locale, |locale| {
            Locale::parse(locale).ok_or(rule)
        })
        .map(|locale| locale.unwrap_or(Locale::Fr))
    }

    fn zone(&mut self) -> Option<Option<String>> {
        self.optional("account.time_zone", &self.account.time_zone, check_zone)
    }

    fn optional<T>(
        &mut self,
        field: &str,
        value: &str,
        check: impl FnOnce(&str) -> Result<T, Rule>,
    ) -> Option<Option<T>> {
        match value {
            "" => Some(None),
            value => self.violations.check(field, check(value)).map(Some),
        }
    }
}

/// A postal address as the contracts carry it.
pub(super) fn address(address: &Address) -> pb::PostalAddress {
    pb::PostalAddress {
        lines: address.lines.clone(),
        postal_code: address.postal_code.clone(),
        city: address.city.clone(),
        country_code: address.country.clone(),
    }
}

fn to_wire(account: &Account) -> pb::Account {
    pb::Account {
        name: account.name(),
        legal_name: account.legal_name.clone(),
        contact_email: account.contact_email.clone(),
        address: Some(address(&account.address)),
        vat_number: account.vat_number.clone(),
        currency_code: account.currency.code().to_owned(),
        seller: seller::name(&account.seller),
        locale: account.locale.as_str().to_owned(),
        time_zone: account.time_zone().to_owned(),
        create_time: Some(to_proto(account.created)),
        update_time: Some(to_proto(account.updated)),
        etag: account.version.to_string(),
    }
}
