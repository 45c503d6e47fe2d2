//! octroi.billing.v1.AccountService.

use octroi_api::billing::v1 as wire;
use octroi_api::billing::v1::account_service_server::AccountService;
use octroi_platform::name::{ID_RULE, is_id};
use octroi_platform::refusal::MISSING;
use octroi_platform::time::to_proto;
use octroi_platform::{
    AccountId, Answer, Fields, Name as _, Page, Violations, answer, command, open,
};
use tonic::{Request, Response};

use crate::app::account::Accounts;
use crate::domain::account::{
    Account, AccountChange, Locale, NewAccount, Rule, check_email, check_legal_name, check_zone,
};
use crate::domain::address::{Address, check_city, check_country, check_lines, check_postal_code};
use crate::domain::money::Currency;
use crate::domain::seller::SellerId;
use crate::domain::vat::check_vat_number;

pub(crate) struct AccountApi {
    pub(crate) accounts: Accounts,
}

#[tonic::async_trait]
impl AccountService for AccountApi {
    async fn create_account(
        &self,
        request: Request<wire::CreateAccountRequest>,
    ) -> Answer<wire::Account> {
        let (call, (id, new)) = command(request, new_account)?;
        answer(self.accounts.create(&call, id, new).await)
    }

    async fn get_account(
        &self,
        request: Request<wire::GetAccountRequest>,
    ) -> Answer<wire::Account> {
        let (call, id) = open(request, |it, fields| {
            fields.name::<AccountId>("name", &it.name)
        })?;
        let account = self.accounts.get(&call, &id).await?;
        Ok(Response::new((&account).into()))
    }

    async fn list_accounts(
        &self,
        request: Request<wire::ListAccountsRequest>,
    ) -> Answer<wire::ListAccountsResponse> {
        let (call, (), page) = Page::open(request, |_, _| Some(()))?;
        let accounts = self.accounts.list(&call, &page).await?;
        let (accounts, next_page_token) =
            page.cut(accounts, |it| it.id.as_str().to_owned(), |it| (&it).into());
        Ok(Response::new(wire::ListAccountsResponse {
            accounts,
            next_page_token,
        }))
    }

    async fn update_account(
        &self,
        request: Request<wire::UpdateAccountRequest>,
    ) -> Answer<wire::Account> {
        let (call, (id, etag, change)) = command(request, account_change)?;
        answer(self.accounts.update(&call, &id, &etag, change).await)
    }
}

fn new_account(
    it: wire::CreateAccountRequest,
    fields: &mut Fields<'_>,
) -> Option<(Option<AccountId>, NewAccount)> {
    let id = Some(it.account_id).filter(|id| !id.is_empty());
    if id.is_none() && fields.caller().account.is_some() {
        fields.add(
            "account_id",
            "must be the account that the token is bound to",
        );
    } else if id.as_deref().is_some_and(|id| !is_id(id)) {
        fields.add("account_id", ID_RULE);
    }
    let id = id.and_then(|id| fields.show(AccountId::new(id)));
    let account = fields.given("account", it.account);
    let account = AccountFields {
        account: &account,
        violations: fields,
    };
    Some((id, account.new_account()?))
}

fn account_change(
    it: wire::UpdateAccountRequest,
    fields: &mut Fields<'_>,
) -> Option<(AccountId, String, AccountChange)> {
    let account = fields.given("account", it.account);
    let id = fields.name("account.name", &account.name);
    let paths = fields.mask(
        it.update_mask.as_ref(),
        &[
            "legal_name",
            "contact_email",
            "address",
            "vat_number",
            "currency_code",
            "seller",
            "locale",
            "time_zone",
        ],
    );
    let mut change = AccountChange::default();
    let mut fields = AccountFields {
        account: &account,
        violations: fields,
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
            _ => {}
        }
    }
    Some((id?, account.etag, change))
}

/// Reads an account's fields, noting every bad one; a bad one reads as none.
struct AccountFields<'a> {
    account: &'a wire::Account,
    violations: &'a mut Violations,
}

impl AccountFields<'_> {
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
            self.violations.add("account.address", MISSING);
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

    fn seller(&mut self) -> Option<Option<SellerId>> {
        let rule = Rule("must be a seller, such as \"sellers/specimen\"");
        self.optional("account.seller", &self.account.seller, |name| {
            SellerId::parse(name).ok_or(rule)
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

impl From<&Address> for wire::PostalAddress {
    fn from(address: &Address) -> Self {
        Self {
            lines: address.lines.clone(),
            postal_code: address.postal_code.clone(),
            city: address.city.clone(),
            country_code: address.country.clone(),
        }
    }
}

impl From<&Account> for wire::Account {
    fn from(account: &Account) -> Self {
        Self {
            name: account.id.to_string(),
            legal_name: account.legal_name.clone(),
            contact_email: account.contact_email.clone(),
            address: Some((&account.address).into()),
            vat_number: account.vat_number.clone(),
            currency_code: account.currency.code().to_owned(),
            seller: account.seller.to_string(),
            locale: account.locale.as_str().to_owned(),
            time_zone: account.time_zone().to_owned(),
            create_time: Some(to_proto(account.created_at)),
            update_time: Some(to_proto(account.updated_at)),
            etag: account.version.to_string(),
        }
    }
}
