//! Payment methods.

use octroi_platform::error::Error as Shared;
use octroi_platform::{Call, Page};
use prost::Message;
use serde_json::{Value, json};
use uuid::Uuid;

use super::App;
use super::account::not_found;
use crate::domain::account;
use crate::domain::payment_method::{NewMethod, PaymentMethod, name};
use crate::error::Error;
use crate::store;

impl App {
    /// Puts a payment method on file; the first one becomes the default.
    pub async fn create_payment_method<R: Message + Default>(
        &self,
        call: &Call,
        account: &str,
        new: NewMethod,
        make_default: bool,
        reply: fn(&PaymentMethod) -> R,
    ) -> Result<R, Error> {
        call.caller
            .may_see(account, "account", &account::name(account))?;
        let begun = self
            .db
            .begin(
                call,
                account,
                store::payment_method::LOCK_ACCOUNT,
                &[&account],
            )
            .await?;
        let (mut tx, rows) = match begun.fresh()? {
            Ok(fresh) => fresh,
            Err(answer) => return Ok(answer),
        };
        if rows.is_empty() {
            return Err(not_found(account).into());
        }
        // Read after the lock is held: an attempt to settle an order may have brought a method meanwhile.
        let default = store::payment_method::default(&tx, account).await?;
        let becomes_default = make_default || default.is_none();
        if becomes_default {
            store::payment_method::clear_default(&mut tx, account);
        }
        let method =
            PaymentMethod::put_on_file(account, Uuid::now_v7(), new, becomes_default, call.now);
        store::payment_method::insert(&mut tx, &method, None);
        tx.audit(&method.name(), None, Some(audited(&method)));
        let answer = reply(&method);
        tx.commit(&answer).await?;
        Ok(answer)
    }

    /// One payment method.
    pub async fn get_payment_method(
        &self,
        call: &Call,
        account: &str,
        id: Uuid,
    ) -> Result<PaymentMethod, Error> {
        let not_found = || Shared::NotFound {
            kind: "payment method",
            name: name(account, id),
        };
        call.caller
            .may_see(account, "payment method", &name(account, id))?;
        let row = self
            .db
            .read_opt(store::payment_method::GET, &[&account, &id])
            .await?;
        Ok(store::payment_method::payment_method(
            &row.ok_or_else(not_found)?,
        )?)
    }

    /// An account's payment methods, oldest first.
    pub async fn list_payment_methods(
        &self,
        call: &Call,
        account: &str,
        after: Option<Uuid>,
        page: &Page,
    ) -> Result<Vec<PaymentMethod>, Error> {
        call.caller
            .may_see(account, "account", &account::name(account))?;
        let after = after.unwrap_or_default();
        let rows = self
            .db
            .read(
                store::payment_method::LIST,
                &[&account, &after, &page.limit],
            )
            .await?;
        let rows = store::of_parent(rows, "id")?.ok_or_else(|| not_found(account))?;
        Ok(rows
            .iter()
            .map(store::payment_method::payment_method)
            .collect::<Result<_, _>>()?)
    }
}

/// The gateway's token stays out of it.
pub(super) fn audited(method: &PaymentMethod) -> Value {
    json!({ "display_name": method.display_name, "default": method.default })
}
