//! Payment methods.

use octroi_api::billing::v1 as wire;
use octroi_platform::{AccountId, Aggregate, Call, Db, Error, Page};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::domain::payment_method::{NewMethod, PaymentMethod, PaymentMethodId};
use crate::store;

#[derive(Clone)]
pub(crate) struct PaymentMethods {
    pub(crate) db: Db,
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
    pub(crate) async fn create(
        &self,
        call: &Call,
        account: &AccountId,
        new: NewMethod,
        make_default: bool,
    ) -> Result<wire::PaymentMethod, Error> {
        let (mut tx, rows) = self
            .db
            .begin(
                call,
                account.as_str(),
                store::payment_method::LOCK_ACCOUNT,
                &[account],
            )
            .await?;
        if rows.is_empty() {
            return Err(call.not_found(account));
        }
        // Read under the lock: a concurrent settlement may have added a method.
        let default = store::payment_method::default(&tx, account).await?;
        let becomes_default = make_default || default.is_none();
        if becomes_default {
            store::payment_method::clear_default(&mut tx, account);
        }
        let id = PaymentMethodId {
            account: account.clone(),
            id: Uuid::now_v7(),
        };
        let method = PaymentMethod::put_on_file(id, new, becomes_default, call.now);
        store::payment_method::insert(&mut tx, &method, None);
        tx.keep(None, &method).await
    }

    pub(crate) async fn get(
        &self,
        call: &Call,
        id: &PaymentMethodId,
    ) -> Result<PaymentMethod, Error> {
        let row = self
            .db
            .query_opt(store::payment_method::READ, &[&id.account, &id.id])
            .await?;
        store::payment_method::from_row(&row.ok_or_else(|| call.not_found(id))?)
    }

    /// An account's payment methods, oldest first.
    pub(crate) async fn list(
        &self,
        call: &Call,
        account: &AccountId,
        page: &Page<Uuid>,
    ) -> Result<Vec<PaymentMethod>, Error> {
        let after = page.after.unwrap_or_default();
        let params = [account as _, &after as _, &page.limit as _];
        let (sql, from_row) = (store::payment_method::LIST, store::payment_method::from_row);
        self.db.list(call, account, sql, &params, from_row).await
    }
}
