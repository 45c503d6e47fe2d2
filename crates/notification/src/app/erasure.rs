//! Erases expired passwords. Readers check the expiry themselves, so none is shown while this is late.

use anyhow::Context as _;
use jiff::Timestamp;
use octroi_platform::{Call, Db, Error, each};

use crate::store;

/// Erases what has expired at `now`, up to a limit, and returns how many. One that cannot be erased is skipped.
///
/// # Errors
/// When something had expired and nothing could be erased.
pub async fn erase(db: &Db, now: Timestamp) -> anyhow::Result<u64> {
    let erased = each(|after, most| erase_some(db, now, after, most)).await;
    erased.context("erasing expired secrets")
}

/// Erases at most `most`, after the first `after`, in one transaction.
async fn erase_some(db: &Db, now: Timestamp, after: i64, most: i64) -> Result<u64, Error> {
    let call = Call::background(now, "octroi.notification/EraseSecrets");
    let (mut tx, emails) = store::delivery::expired(db, &call, after, most).await?;
    let mut erased = 0;
    for email in emails {
        let before = email.audited();
        let email = email.without_secret();
        store::email::erase_secret(&mut tx, &email);
        tx.audit(&email.id.to_string(), Some(before), Some(email.audited()));
        erased += 1;
    }
    if erased == 0 {
        tx.rollback().await;
    } else {
        tx.commit_work().await?;
    }
    Ok(erased)
}
