//! The use cases. Each owns its transaction, except facts of other services, which are applied in the intake's.

pub mod attempt;
pub mod delivery;
pub mod email;
pub mod erasure;
pub mod fact;
pub mod outcome;
pub mod queue;

use octroi_platform::Error;

/// The purpose that passwords are sealed for, as licensing names it.
const PASSWORD: &str = "password";

/// Works on all items together or, where that fails, on each alone: one that cannot be worked on holds up no other. What
/// came of it, and the items that failed, each logged by its name.
///
/// # Errors
/// When the database is away.
async fn together_or_alone<T, R, Fut>(
    items: &[T],
    name: impl Fn(&T) -> String,
    work: impl Fn(Vec<T>) -> Fut,
) -> Result<(Vec<R>, Vec<T>), Error>
where
    T: Clone,
    Fut: Future<Output = Result<R, Error>>,
{
    if items.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    match work(items.to_vec()).await {
        Ok(result) => return Ok((vec![result], Vec::new())),
        Err(error) if error.is_away() => return Err(error),
        Err(_) => {}
    }
    let (mut results, mut failed) = (Vec::new(), Vec::new());
    for item in items {
        match work(vec![item.clone()]).await {
            Ok(result) => results.push(result),
            Err(error) if error.is_away() => return Err(error),
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::new(error));
                tracing::warn!(email = name(item), error, "it is tried again");
                failed.push(item.clone());
            }
        }
    }
    Ok((results, failed))
}
