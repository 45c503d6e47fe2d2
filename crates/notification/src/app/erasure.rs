//! Erasing passwords that have had their time. Readers look at the time themselves, so none is shown while this is
//! late.

use anyhow::Context as _;
use jiff::Timestamp;
use octroi_platform::{Call, Db};

use crate::app::fact::audited;
use crate::store;

/// How many passwords one transaction erases.
const BATCH: i64 = 100;

/// Erases what had its time at `now`, up to a limit; how much it was.
///
/// # Errors
/// The database's.
pub async fn erase(db: &Db, now: Timestamp) -> anyhow::Result<u64> {
    let call = Call::background(now, "octroi.notification/EraseSecrets");
    let (mut tx, emails) = store::delivery::expired(db, &call, BATCH)
        .await
        .context("reading expired secrets")?;
    let mut erased = 0;
    for email in emails {
        let before = audited(&email);
        let email = email.without_secret();
        store::email::erase_secret(&mut tx, &email);
        tx.audit(&email.name(), Some(before), Some(audited(&email)));
        erased += 1;
    }
    if erased == 0 {
        tx.rollback().await;
    } else {
        tx.commit_work().await.context("erasing expired secrets")?;
    }
    Ok(erased)
}
