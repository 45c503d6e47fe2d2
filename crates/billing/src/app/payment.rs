//! Payments.

use octroi_platform::{AccountId, Call, Db, Error, Page};
use uuid::Uuid;

use crate::domain::payment::{Payment, PaymentId};
use crate::store;

#[derive(Clone)]
pub(crate) struct Payments {
    pub(crate) db: Db,
}

impl Payments {
    pub(crate) async fn get(&self, call: &Call, id: &PaymentId) -> Result<Payment, Error> {
        let row = self
            .db
            .query_opt(store::payment::READ, &[&id.account, &id.id])
            .await?;
        store::payment::from_row(&row.ok_or_else(|| call.not_found(id))?)
    }

    /// An account's payments, newest first.
    pub(crate) async fn list(
        &self,
        call: &Call,
        account: &AccountId,
        page: &Page<Uuid>,
    ) -> Result<Vec<Payment>, Error> {
        let params = [account as _, &page.after as _, &page.limit as _];
        let (sql, from_row) = (store::payment::LIST, store::payment::from_row);
        self.db.list(call, account, sql, &params, from_row).await
    }
}
