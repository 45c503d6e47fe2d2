//! Erases expired passwords. Readers check the expiry themselves, so none is shown while this is late.

use anyhow::Context as _;
use jiff::Timestamp;
use octroi_platform::{Call, Db, Error};

use crate::app::fact::audited;
use crate::store;

/// How many passwords one transaction erases.
const BATCH: i64 = 100;

/// Erases what has expired at `now`, up to a limit, and returns how many. One that cannot be erased is skipped.
///
/// # Errors
/// When something had expired and nothing could be erased.
pub async fn erase(db: &Db, now: Timestamp) -> anyhow::Result<u64> {
    let error = match erase_some(db, now, 0, BATCH).await {
        Err(error) if !is_outage(&error) => error,
        other => return other.context("erasing expired secrets"),
    };
    let (mut done, mut failed) = (0, 0);
    while failed < BATCH {
        match erase_some(db, now, failed, 1).await {
            Ok(0) => break,
            Ok(erased) => done += erased,
            Err(error) if is_outage(&error) => return Err(error.into()),
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::new(error));
                tracing::error!(error, "a password could not be erased; it is tried again");
                failed += 1;
            }
        }
    }
    match done {
        0 => Err(error).context("erasing expired secrets"),
        done => Ok(done),
    }
}

/// Erases at most `most`, after the first `after`, in one transaction.
async fn erase_some(db: &Db, now: Timestamp, after: i64, most: i64) -> Result<u64, Error> {
    let call = Call::background(now, "octroi.notification/EraseSecrets");
    let (mut tx, emails) = store::delivery::expired(db, &call, after, most).await?;
    let mut erased = 0;
    for email in emails {
        let before = audited(&email);
        let email = email.without_secret();
        store::email::erase_secret(&mut tx, &email);
        tx.audit(&email.id.to_string(), Some(before), Some(audited(&email)));
        erased += 1;
    }
    if erased == 0 {
        tx.rollback().await;
    } else {
        tx.commit_work().await?;
    }
    Ok(erased)
}

/// Whether the database is unreachable, so that trying the others one by one is no use.
fn is_outage(error: &Error) -> bool {
    matches!(error, Error::Unavailable(_) | Error::OutcomeUnknown)
}
