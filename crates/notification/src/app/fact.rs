//! Applies other services' events.

use octroi_platform::{Error, Tx};

use crate::domain::fact::{Fact, FactKind};
use crate::store;

/// Applies a fact within the intake's transaction: erases the passwords that it replaces, stores the account's new version
/// and queues the e-mails. `sealed` is the password that came with the event.
///
/// # Errors
/// The database's; [`Error::Internal`] when a password is to be mailed and the event has none.
pub async fn apply(
    tx: &mut Tx,
    fact: &Fact,
    sealed: Option<&[u8]>,
    message_id_domain: &str,
) -> Result<(), Error> {
    if let Some(license) = fact.ends_passwords_of() {
        for email in store::email::with_password_of(tx, &fact.account, license).await? {
            let before = email.audited();
            let email = email.without_secret();
            store::email::erase_secret(tx, &email);
            tx.audit(&email.id.to_string(), Some(before), Some(email.audited()));
        }
    }
    if let FactKind::AccountChanged { account, .. } = &fact.kind {
        store::account::insert(tx, &fact.account, fact.effective_at, account);
    }
    let emails = fact
        .emails(sealed, message_id_domain)
        .map_err(|error| Error::Internal(error.into()))?;
    for email in emails {
        store::email::insert(tx, &email)?;
        tracing::info!(email = %email.id, "queued");
        tx.audit(&email.id.to_string(), None, Some(email.audited()));
    }
    Ok(())
}
