//! Processes due work.

use std::fmt::Display;
use std::time::Duration;

use crate::error::Error;

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

/// Processes due items, each in a transaction of its own: those that fail, however many, do not block the others. `due`
/// reads some, after one or from the first; `one` says whether it did something.
///
/// # Errors
/// When the database is away, or when every due item failed.
pub async fn one_by_one<K, Due, One>(
    due: impl Fn(Option<K>) -> Due,
    one: impl Fn(K) -> One,
) -> Result<u64, Error>
where
    K: Clone + Display,
    Due: Future<Output = Result<Vec<K>, Error>>,
    One: Future<Output = Result<bool, Error>>,
{
    let (mut done, mut failed, mut last) = (0, None, None);
    loop {
        let some = due(last).await?;
        for key in &some {
            match one(key.clone()).await {
                Ok(worked) => done += u64::from(worked),
                Err(error) if error.is_away() => return Err(error),
                Err(error) => {
                    let text = format!("{error:#}");
                    tracing::warn!(due = %key, error = text, "a due item could not be processed; it is tried again");
                    failed = Some(error);
                }
            }
        }
        last = some.last().cloned();
        // After progress the loop stops: the next run starts again with the first.
        if done > 0 || last.is_none() {
            return match failed {
                Some(error) if done == 0 => Err(error),
                _ => Ok(done),
            };
        }
    }
}
