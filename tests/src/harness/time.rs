//! Instants, and waiting for what follows an event.

use std::time::Duration;

use jiff::Timestamp;
use octroi_platform::time::from_proto;

/// How long to wait for what follows from an event.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(10);

/// An instant from RFC 3339 text.
#[must_use]
pub fn at(text: &str) -> Timestamp {
    text.parse()
        .expect("an instant such as 2026-03-02T08:00:00Z")
}

/// An instant from the wire, which must be set.
#[must_use]
#[track_caller]
pub fn instant(time: Option<prost_types::Timestamp>) -> Timestamp {
    time.as_ref()
        .and_then(from_proto)
        .expect("an instant that is set")
}

/// Polls until there is a result; fails with `what` when there is none in time.
///
/// # Panics
/// When there is none in time.
pub async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look).await
}

/// [`eventually`] with another time limit.
///
/// # Panics
/// When there is none in time.
pub async fn within<T>(
    patience: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "not in {patience:?}: {what}"
        );
        tokio::time::sleep(LOOK).await;
    }
}
