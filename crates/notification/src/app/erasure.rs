//! Erases expired passwords. Readers check the expiry themselves, so none is shown while this is late.

use anyhow::Context as _;
use jiff::Timestamp;
use octroi_platform::{Call, Db, Error};
use tokio_util::sync::CancellationToken;

use crate::app::together_or_alone;
use crate::domain::email::Email;
use crate::store;

/// How many are erased in one transaction.
const BATCH: i64 = 100;

/// Erases what has expired at `now`, until nothing is left or the service stops, and returns how many. One that cannot be
/// erased is skipped. Each batch begins where the last one ended: before it lies what is erased, and is still in the index.
///
/// # Errors
/// The database's.
pub async fn erase(db: &Db, now: Timestamp, shutdown: &CancellationToken) -> anyhow::Result<u64> {
    let erased = erase_all(db, now, shutdown).await;
    erased.context("erasing expired secrets")
}

async fn erase_all(db: &Db, now: Timestamp, shutdown: &CancellationToken) -> Result<u64, Error> {
    let call = Call::background(now, "octroi.notification/EraseSecrets");
    let (mut from, mut failed, mut done) = (Timestamp::UNIX_EPOCH, 0, 0);
    while !shutdown.is_cancelled() {
        let (expired, last) = store::erasure::expired(db, now, (from, failed), BATCH).await?;
        if expired.is_empty() {
            break;
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
        let erase = |emails| erase_some(db, &call, emails);
        let (erased, _) = together_or_alone(&emails, name, erase).await?;
        let erased: u64 = erased.into_iter().sum();
        done += erased;
        // Those that failed are left behind, or counted where the next ones expired at the same instant.
        failed = match last > from {
            true => 0,
            false => failed + i64::try_from(read as u64 - erased).unwrap_or(BATCH),
        };
        from = last;
    }
    Ok(done)
}

async fn erase_some(db: &Db, call: &Call, emails: Vec<(Email, Email)>) -> Result<u64, Error> {
    let mut tx = store::queue::begin(db, call).await?;
    let erased = store::erasure::erase(&tx, &emails).await?;
    for (before, after) in emails.iter().filter(|(it, _)| erased.contains(&it.id.id)) {
        let name = after.id.to_string();
        tx.audit(&name, Some(before.audited()), Some(after.audited()));
    }
    tx.commit_work().await?;
    Ok(erased.len() as u64)
}
