//! Payments.

use octroi_platform::{AccountId, Call, Db, Error, Page};
use uuid::Uuid;

use crate::domain::payment::{Payment, PaymentId};
use crate::store::payment::{GET, LIST, from_row};

#[derive(Clone)]
pub struct Payments {
    pub db: Db,
}

impl Payments {
    pub async fn get(&self, call: &Call, id: &PaymentId) -> Result<Payment, Error> {
        let row = self.db.query_opt(GET, &[&id.account, &id.id]).await?;
        from_row(&row.ok_or_else(|| call.not_found(id))?)
    }

    /// An account's payments, newest first.
    pub async fn list(
        &self,
        call: &Call,
        account: &AccountId,
        page: &Page<Uuid>,
    ) -> Result<Vec<Payment>, Error> {
        let params = [account as _, &page.after as _, &page.limit as _];
        self.db.list(call, account, LIST, &params, from_row).await
    }
}
