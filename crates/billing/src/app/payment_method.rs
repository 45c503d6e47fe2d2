//! Payment methods.

use octroi_api::billing::v1 as wire;
use octroi_platform::{AccountId, Aggregate, Call, Db, Error, Page};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::domain::payment_method::{NewMethod, PaymentMethod, PaymentMethodId};
use crate::store::payment_method::{self as store, GET, LIST, from_row};

#[derive(Clone)]
pub struct PaymentMethods {
    pub db: Db,
}

impl Aggregate for PaymentMethod {
    type Id = PaymentMethodId;
    type Wire = wire::PaymentMethod;

    fn id(&self) -> &PaymentMethodId {
        &self.id
    }

    fn version(&self) -> i64 {
        self.version
    }

    fn audited(&self) -> Value {
        json!({ "display_name": self.display_name, "default": self.default })
    }
}

impl PaymentMethods {
    /// Puts a payment method on file; the first one becomes the default.
    pub async fn create(
        &self,
        call: &Call,
        account: &AccountId,
        new: NewMethod,
        make_default: bool,
    ) -> Result<wire::PaymentMethod, Error> {
        let (mut tx, rows) = self
            .db
            .begin(call, account.as_str(), store::LOCK_ACCOUNT, &[account])
            .await?;
        if rows.is_empty() {
            return Err(call.not_found(account));
        }
        // Read after the lock is held: an attempt to settle an order may have brought a method meanwhile.
        let default = store::default(&tx, account).await?;
        let becomes_default = make_default || default.is_none();
        if becomes_default {
            store::clear_default(&mut tx, account);
        }
        let id = PaymentMethodId {
            account: account.clone(),
            id: Uuid::now_v7(),
        };
        let method = PaymentMethod::put_on_file(id, new, becomes_default, call.now);
        store::insert(&mut tx, &method, None);
        tx.keep(None, &method).await
    }

    pub async fn get(&self, call: &Call, id: &PaymentMethodId) -> Result<PaymentMethod, Error> {
        let row = self.db.query_opt(GET, &[&id.account, &id.id]).await?;
        from_row(&row.ok_or_else(|| call.not_found(id))?)
    }

    /// An account's payment methods, oldest first.
    pub async fn list(
        &self,
        call: &Call,
        account: &AccountId,
        page: &Page<Uuid>,
    ) -> Result<Vec<PaymentMethod>, Error> {
        let after = page.after.unwrap_or_default();
        let params = [account as _, &after as _, &page.limit as _];
        self.db.list(call, account, LIST, &params, from_row).await
    }
}
