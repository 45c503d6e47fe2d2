//! Work that is due, worked off in transactions.

use crate::error::Error;

/// How many things one transaction of [`each`] works off.
const BATCH: i64 = 100;

/// Works off what is due, together, or one by one where that fails: what cannot be worked off holds up nothing else.
/// `some` works off at most so many, after the first ones, in one transaction; how many it was.
///
/// # Errors
/// When the database is away, or when something was due and none of it could be worked off.
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
