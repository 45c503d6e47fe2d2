//! Accounts.

use octroi_platform::error::Error as Shared;
use octroi_platform::name::check_etag;
use octroi_platform::{Call, Page, Violations, row_get};
use prost::Message;
use serde_json::{Value, json};
use tokio_postgres::Row;
use uuid::Uuid;

use super::App;
use crate::domain::account::{Account, AccountChange, NewAccount, SellerDefaults, name};
use crate::error::Error;
use crate::{event, store};

impl App {
    /// Creates an account under the given id, or under one of its own.
    pub async fn create_account<R: Message + Default>(
        &self,
        call: &Call,
        id: Option<String>,
        new: NewAccount,
        reply: fn(&Account) -> R,
    ) -> Result<R, Error> {
        let id = match id {
            Some(id) => {
                call.caller.may_see(&id, "account", &name(&id))?;
                id
            }
            None => format!("a-{}", Uuid::now_v7().simple()),
        };
        let seller = new.seller.clone().or_else(|| self.seller.clone());
        // The request ids of who sees one account alone are that account's: those of others do not exist.
        let requests = call.caller.account.as_deref().unwrap_or("-");
        let begun = self
            .db
            .begin(
                call,
                requests,
                store::seller::GET_FOR_NEW_ACCOUNT,
                &[&seller, &id],
            )
            .await?;
        let (mut tx, rows) = match begun.fresh()? {
            Ok(fresh) => fresh,
            Err(answer) => return Ok(answer),
        };
        let seller = self.read_seller(rows.first())?;
        let exists = || Shared::AlreadyExists {
            kind: "account",
            name: name(&id),
        };
        if rows
            .first()
            .map(|row| row_get::<bool>(row, "account_exists"))
            .transpose()?
            == Some(true)
        {
            return Err(exists().into());
        }
        let account = Account::create(id.clone(), new, &seller, call.now);
        store::account::insert(&mut tx, &account);
        tx.emit(event::account_changed(&account, None, call.now));
        tx.audit(&account.name(), None, Some(audited(&account)));
        let answer = reply(&account);
        match tx.commit(&answer).await {
            Err(error) if error.violates("account_pkey") => Err(exists().into()),
            other => Ok(other.map(|()| answer)?),
        }
    }

    /// One account.
    pub async fn get_account(&self, call: &Call, id: &str) -> Result<Account, Error> {
        call.caller.may_see(id, "account", &name(id))?;
        let row = self.db.read_opt(store::account::GET, &[&id]).await?;
        let row = row.ok_or_else(|| not_found(id))?;
        Ok(store::account::account(&row)?)
    }

    /// Accounts by id: all, or the only one that the caller may see.
    pub async fn list_accounts(&self, call: &Call, page: &Page) -> Result<Vec<Account>, Error> {
        let after = page.after.as_deref().unwrap_or_default();
        let rows = self
            .db
            .read(
                store::account::LIST,
                &[&after, &page.limit, &call.caller.account],
            )
            .await?;
        Ok(rows
            .iter()
            .map(store::account::account)
            .collect::<Result<_, _>>()?)
    }

    /// Changes an account.
    pub async fn update_account<R: Message + Default>(
        &self,
        call: &Call,
        id: &str,
        etag: &str,
        change: AccountChange,
        reply: fn(&Account) -> R,
    ) -> Result<R, Error> {
        call.caller.may_see(id, "account", &name(id))?;
        let seller = match &change.seller {
            None => None,
            Some(None) => Some(self.seller.clone().unwrap_or_default()),
            Some(named) => named.clone(),
        };
        let begun = self
            .db
            .begin(call, id, store::account::LOCK_WITH_SELLER, &[&id, &seller])
            .await?;
        let (mut tx, rows) = match begun.fresh()? {
            Ok(fresh) => fresh,
            Err(answer) => return Ok(answer),
        };
        let row = rows.first().ok_or_else(|| not_found(id))?;
        let before = store::account::account(row)?;
        check_etag(etag, before.version, &before.name())?;
        let seller = SellerDefaults {
            id: row_get::<Option<String>>(row, "default_seller")?.ok_or_else(no_seller)?,
            currency: store::currency(row, "seller", "default_currency")?,
            zone: row_get(row, "default_zone")?,
        };
        let complete_through = row_get(row, "complete_through")?;
        let changed = before.change(change, &seller, complete_through, call.now);
        let account = changed.map_err(|fixed| {
            let (account, fields) = (before.name(), fixed.fields.join(", "));
            match fixed.kept {
                true => Error::AccountFixed { account, fields },
                false => Error::AccountHeld { account, fields },
            }
        })?;
        if account.version > before.version {
            let contact_changed = account.contact_email != before.contact_email;
            let previous = contact_changed.then_some(before.contact_email.as_str());
            store::account::update(&mut tx, &account);
            tx.emit(event::account_changed(&account, previous, account.updated));
            tx.audit(
                &account.name(),
                Some(audited(&before)),
                Some(audited(&account)),
            );
        }
        let answer = reply(&account);
        tx.commit(&answer).await?;
        Ok(answer)
    }

    fn read_seller(&self, row: Option<&Row>) -> Result<SellerDefaults, Error> {
        let row = row.ok_or_else(no_seller)?;
        match row_get::<Option<&str>>(row, "seller_id")? {
            None => Err(no_seller().into()),
            Some(_) => Ok(store::seller::seller(row)?.defaults()),
        }
    }
}

/// The account does not exist.
pub(super) fn not_found(id: &str) -> Shared {
    Shared::NotFound {
        kind: "account",
        name: name(id),
    }
}

fn no_seller() -> Shared {
    let mut violations = Violations::default();
    violations.add(
        "account.seller",
        "must be an existing seller, such as \"sellers/specimen\"",
    );
    Shared::Invalid(violations)
}

fn audited(account: &Account) -> Value {
    json!({
        "legal_name": account.legal_name,
        "contact_email": account.contact_email,
        "address": {
            "lines": account.address.lines,
            "postal_code": account.address.postal_code,
            "city": account.address.city,
            "country": account.address.country,
        },
        "vat_number": account.vat_number,
        "currency": account.currency.code(),
        "seller": account.seller,
        "locale": account.locale.as_str(),
        "time_zone": account.time_zone(),
        "version": account.version,
    })
}
