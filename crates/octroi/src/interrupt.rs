//! What an interrupt does to a start that is under way.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How long a start may go on after the interrupt: cut short in the middle it leaves half of its work behind.
const GRACE: Duration = Duration::from_secs(10);

/// Waits for the work, and gives it up some time after the interrupt; none if that came before its end. The terminal
/// interrupts the programs that the work runs as well, so its failure then says nothing.
///
/// # Errors
/// The work's.
pub(crate) async fn unless_interrupted<T, E>(
    interrupt: &CancellationToken,
    work: impl Future<Output = Result<T, E>>,
) -> Result<Option<T>, E> {
    let given_up = async {
        interrupt.cancelled().await;
        sleep(GRACE).await;
    };
    let done = tokio::select! {
        done = work => done,
        () = given_up => return Ok(None),
    };
    match done {
        Err(_) if interrupt.is_cancelled() => Ok(None),
        done => done.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_interrupted_start_ends_well_or_not_at_all() {
        let interrupt = CancellationToken::new();
        let start = |outcome: Result<u8, &'static str>| async move {
            sleep(Duration::from_millis(20)).await;
            outcome
        };
        let ended = unless_interrupted(&interrupt, start(Err("broken"))).await;
        assert_eq!(ended, Err("broken"));
        interrupt.cancel();
        let ended = unless_interrupted(&interrupt, start(Err("broken"))).await;
        assert_eq!(ended, Ok(None));
        assert_eq!(
            unless_interrupted(&interrupt, start(Ok(7))).await,
            Ok(Some(7))
        );
    }
}
