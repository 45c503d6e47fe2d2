//! Processes due work in transactions.

use std::time::Duration;

use crate::error::Error;

/// How many items one transaction of [`each`] processes.
const BATCH: i64 = 100;

/// Processes due items in one transaction, or one by one where that fails, so that one that fails does not block the others.
/// `some` processes at most so many, after skipping some, in one transaction, and answers how many.
///
/// # Errors
/// When the database is away, or when every due item failed.
pub async fn each<Fut>(some: impl Fn(i64, i64) -> Fut) -> Result<u64, Error>
where
    Fut: Future<Output = Result<u64, Error>>,
{
    let is_away = |error: &Error| matches!(error, Error::Unavailable(_) | Error::OutcomeUnknown);
    let error = match some(0, BATCH).await {
        Err(error) if !is_away(&error) => error,
        other => return other,
    };
    let (mut done, mut failed) = (0, 0);
    while failed < BATCH {
        match some(failed, 1).await {
            Ok(0) => break,
            Ok(one) => done += one,
            Err(error) if is_away(&error) => return Err(error),
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::new(error));
                tracing::error!(error, "one of many things due failed; it is tried again");
                failed += 1;
            }
        }
    }
    match done {
        0 => Err(error),
        done => Ok(done),
    }
}

/// Does work under a lease, which `renew` renews at each interval until the work is done.
pub async fn while_leased<T, Fut>(
    every: Duration,
    renew: impl Fn() -> Fut,
    work: impl Future<Output = T>,
) -> T
where
    Fut: Future<Output = Result<(), Error>>,
{
    tokio::pin!(work);
    loop {
        let renewed = async {
            tokio::time::sleep(every).await;
            renew().await
        };
        tokio::select! {
            done = &mut work => return done,
            renewed = renewed => {
                if let Err(error) = renewed {
                    tracing::warn!(%error, "a lease could not be renewed");
                }
            }
        }
    }
}
