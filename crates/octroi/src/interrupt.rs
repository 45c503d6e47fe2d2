//! The signals that end a command, and what they do to a start that is under way.

use std::fs;
use std::time::Duration;

use octroi_server::process;
use tokio::signal::unix::{SignalKind, signal};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How long a start may go on after the signal, rather than leave half of its work behind.
const GRACE: Duration = Duration::from_secs(10);

/// A token that SIGINT and SIGTERM cancel, and SIGHUP, which comes when the terminal is closed.
pub(crate) fn until_interrupted() -> CancellationToken {
    let interrupt = process::until_signal();
    if !hangup_is_ignored()
        && let Ok(mut hangup) = signal(SignalKind::hangup())
    {
        let token = interrupt.clone();
        tokio::spawn(async move {
            hangup.recv().await;
            token.cancel();
        });
    }
    interrupt
}

/// Whether SIGHUP is ignored, as nohup arranges; assumed where there is no /proc.
fn hangup_is_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // SIGHUP is signal 1, the lowest bit.
    ignored.is_none_or(|mask| mask & 1 == 1)
}

/// Runs the work, and abandons it [`GRACE`] after the signal; `None` when it did not complete. The terminal also
/// signals the programs that the work runs, so a failure after the signal is not reported.
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
