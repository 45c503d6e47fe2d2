//! Accounts.

use octroi_api::billing::v1 as wire;
use octroi_platform::{AccountId, Aggregate, Call, Db, Error, Name as _, Page, row_get};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::domain::account::{Account, AccountChange, NewAccount, SellerDefaults};
use crate::domain::seller::SellerId;
use crate::{event, store};

#[derive(Clone)]
pub(crate) struct Accounts {
    pub(crate) db: Db,
    /// The installation's own seller, for accounts that name none.
    pub(crate) seller: Option<SellerId>,
}

impl Aggregate for Account {
    type Id = AccountId;
    type Wire = wire::Account;

    fn id(&self) -> &AccountId {
        &self.id
    }

    fn version(&self) -> i64 {
        self.version
    }

    fn audited(&self) -> Value {
        json!({
            "legal_name": self.legal_name,
            "contact_email": self.contact_email,
            "address": {
                "lines": self.address.lines,
                "postal_code": self.address.postal_code,
                "city": self.address.city,
                "country": self.address.country,
            },
            "vat_number": self.vat_number,
            "currency": self.currency.code(),
            "seller": self.seller.0,
            "locale": self.locale.as_str(),
            "time_zone": self.time_zone(),
            "version": self.version,
        })
    }
}

impl Accounts {
    /// Creates an account under the given id, or under one of its own.
    pub(crate) async fn create(
        &self,
        call: &Call,
        id: Option<AccountId>,
        new: NewAccount,
    ) -> Result<wire::Account, Error> {
        let id = id.unwrap_or_else(|| AccountId::new(format!("a-{}", Uuid::now_v7().simple())));
        call.note_account(id.as_str());
        let seller = new.seller.clone().or_else(|| self.seller.clone());
        // The request ids of who sees one account alone are that account's: those of others do not exist.
        let requests = call.caller.account.as_deref().unwrap_or("-");
        let sql = store::seller::GET_FOR_NEW_ACCOUNT;
        let (mut tx, rows) = self.db.begin(call, requests, sql, &[&seller, &id]).await?;
        let row = rows.first().ok_or_else(no_seller)?;
        let seller = match row_get::<Option<SellerId>>(row, "seller_id")? {
            None => return Err(no_seller()),
            Some(_) => store::seller::from_row(row)?.defaults(),
        };
        if row_get(row, "account_exists")? {
            return Err(id.already_exists());
        }
        let account = Account::create(id, new, &seller, call.now);
        store::account::insert(&mut tx, &account);
        tx.emit(event::account_changed(&account, None, call.now));
        match tx.keep(None, &account).await {
            Err(error) if error.violates("account_pkey") => Err(account.id.already_exists()),
            kept => kept,
        }
    }

    pub(crate) async fn get(&self, call: &Call, id: &AccountId) -> Result<Account, Error> {
        let row = self.db.query_opt(store::account::READ, &[id]).await?;
        store::account::from_row(&row.ok_or_else(|| call.not_found(id))?)
    }

    /// Accounts by id: all, or the only one that the caller may see.
    pub(crate) async fn list(
        &self,
        call: &Call,
        page: &Page<String>,
    ) -> Result<Vec<Account>, Error> {
        let after = page.after.as_deref().unwrap_or_default();
        let rows = self
            .db
            .query(
                store::account::LIST,
                &[&after, &page.limit, &call.caller.account],
            )
            .await?;
        rows.iter().map(store::account::from_row).collect()
    }

    pub(crate) async fn update(
        &self,
        call: &Call,
        id: &AccountId,
        etag: &str,
        change: AccountChange,
    ) -> Result<wire::Account, Error> {
        let seller = match &change.seller {
            None => None,
            Some(None) => Some(self.seller.clone().unwrap_or_default()),
            Some(named) => named.clone(),
        };
        let lock = store::account::LOCK_WITH_SELLER;
        self.db
            .change(
                call,
                (id, etag),
                (lock, &[id, &seller]),
                store::account::from_row,
                |held| {
                    let (row, before) = (&held.row, &held.now);
                    let seller = SellerDefaults {
                        id: row_get::<Option<SellerId>>(row, "default_seller")?
                            .ok_or_else(no_seller)?,
                        currency: store::currency(row, "seller", "default_currency")?,
                        zone: row_get(row, "default_zone")?,
                    };
                    let complete_through = row_get(row, "complete_through")?;
                    let account = before.change(change, &seller, complete_through, call.now)?;
                    if account.version > before.version {
                        let contact_changed = account.contact_email != before.contact_email;
                        let previous = contact_changed.then_some(before.contact_email.as_str());
                        let at = account.updated_at;
                        store::account::update(&mut held.tx, &account);
                        held.tx.emit(event::account_changed(&account, previous, at));
                    }
                    Ok(account)
                },
            )
            .await
    }
}

fn no_seller() -> Error {
    let rule = "must be an existing seller, such as \"sellers/specimen\"";
    Error::invalid("account.seller", rule)
}
