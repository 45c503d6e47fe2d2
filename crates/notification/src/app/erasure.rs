//! Erases expired passwords. Readers check the expiry themselves, so none is shown while this is late.

use anyhow::Context as _;
use jiff::Timestamp;
use octroi_platform::{Call, Db, Error};

use crate::app::together_or_alone;
use crate::domain::email::Email;
use crate::store;

/// How many are erased in one transaction.
const BATCH: i64 = 100;

/// Erases what has expired at `now`, up to a limit, and returns how many. One that cannot be erased is skipped.
///
/// # Errors
/// The database's.
pub async fn erase(db: &Db, now: Timestamp) -> anyhow::Result<u64> {
    erase_some(db, now).await.context("erasing expired secrets")
}

async fn erase_some(db: &Db, now: Timestamp) -> Result<u64, Error> {
    let call = Call::background(now, "octroi.notification/EraseSecrets");
    let mut failed = 0;
    loop {
        let expired = store::erasure::expired(db, now, failed, BATCH).await?;
        if expired.is_empty() {
            return Ok(0);
        }
        let read = expired.len();
        let mut emails = Vec::with_capacity(read);
        for email in expired {
            match email {
                Ok(email) => emails.push((email.clone(), email.without_secret())),
                Err(error) => tracing::error!(%error, "a secret cannot be erased"),
            }
        }
        let name = |(email, _): &(Email, Email)| email.id.to_string();
        let erase = |emails| erase_all(db, &call, emails);
        let (erased, _) = together_or_alone(&emails, name, erase).await?;
        let erased = erased.into_iter().sum();
        // Once some were erased the rest is for the next round, which begins with the first again.
        if erased > 0 {
            return Ok(erased);
        }
        failed += i64::try_from(read).unwrap_or(BATCH);
    }
}

async fn erase_all(db: &Db, call: &Call, emails: Vec<(Email, Email)>) -> Result<u64, Error> {
    let mut tx = store::queue::begin(db, call).await?;
    let erased = store::erasure::erase(&tx, &emails).await?;
    for (before, after) in emails.iter().filter(|(it, _)| erased.contains(&it.id.id)) {
        let name = after.id.to_string();
        tx.audit(&name, Some(before.audited()), Some(after.audited()));
    }
    tx.commit_work().await?;
    Ok(erased.len() as u64)
}
