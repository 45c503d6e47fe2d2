//! Payments.

use octroi_platform::error::Error as Shared;
use octroi_platform::{Call, Page};
use uuid::Uuid;

use super::App;
use super::account::not_found;
use crate::domain::account;
use crate::domain::payment::{Payment, name};
use crate::error::Error;
use crate::store;

impl App {
    /// One payment.
    pub async fn get_payment(
        &self,
        call: &Call,
        account: &str,
        id: Uuid,
    ) -> Result<Payment, Error> {
        let not_found = || Shared::NotFound {
            kind: "payment",
            name: name(account, id),
        };
        call.caller
            .may_see(account, "payment", &name(account, id))?;
        let row = self
            .db
            .read_opt(store::payment::GET, &[&account, &id])
            .await?;
        Ok(store::payment::payment(&row.ok_or_else(not_found)?)?)
    }

    /// An account's payments, newest first; those before `before` by id.
    pub async fn list_payments(
        &self,
        call: &Call,
        account: &str,
        before: Option<Uuid>,
        page: &Page,
    ) -> Result<Vec<Payment>, Error> {
        call.caller
            .may_see(account, "account", &account::name(account))?;
        let rows = self
            .db
            .read(store::payment::LIST, &[&account, &before, &page.limit])
            .await?;
        let rows = store::of_parent(rows, "id")?.ok_or_else(|| not_found(account))?;
        Ok(rows
            .iter()
            .map(store::payment::payment)
            .collect::<Result<_, _>>()?)
    }
}
