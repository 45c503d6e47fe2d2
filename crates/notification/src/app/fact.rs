//! Applying another service's fact.

use octroi_platform::{Error, Tx};
use serde_json::json;

use crate::domain::email::Email;
use crate::domain::fact::{Fact, FactKind};
use crate::store;

/// Applies a fact within the intake's transaction: ends the passwords that it ends, keeps the account that it tells of
/// and queues its e-mails. `sealed` is the password that came with it.
///
/// # Errors
/// The database's; [`Error::Internal`] when a password is to be mailed and none came.
pub async fn apply(
    tx: &mut Tx,
    fact: &Fact,
    sealed: Option<&[u8]>,
    message_id_domain: &str,
) -> Result<(), Error> {
    if let Some(license) = fact.ends_passwords_of() {
        for email in store::email::with_password_of(tx, &fact.account, license).await? {
            let before = audited(&email);
            let email = email.without_secret();
            store::email::erase_secret(tx, &email);
            tx.audit(&email.id.to_string(), Some(before), Some(audited(&email)));
        }
    }
    if let FactKind::AccountChanged { account, .. } = &fact.kind {
        store::account::insert(tx, &fact.account, fact.effective, account);
    }
    let emails = fact
        .emails(sealed, message_id_domain)
        .map_err(|error| Error::Internal(error.into()))?;
    for email in emails {
        store::email::insert(tx, &email)?;
        tx.audit(&email.id.to_string(), None, Some(audited(&email)));
    }
    Ok(())
}

/// What the audit keeps of an e-mail.
pub(super) fn audited(email: &Email) -> serde_json::Value {
    json!({
        "template": email.content.template(),
        "delivery": format!("{:?}", email.delivery),
        "secret": format!("{:?}", email.secret),
    })
}
