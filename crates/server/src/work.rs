//! Background work: loops that run at intervals, when notified, and at each step of a test clock.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use octroi_platform::clock::Clock;
use octroi_platform::panic::caught;
use octroi_platform::share::{Share, Turn, Whose};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span};

/// The background work of a process.
#[derive(Clone)]
pub(crate) struct BackgroundWork {
    span: Span,
    clock: Clock,
    shutdown: CancellationToken,
    tracker: TaskTracker,
    /// One per loop: asks it to run until it is idle and to return how much it did.
    requests: Arc<Mutex<Vec<mpsc::Sender<oneshot::Sender<u64>>>>>,
}

impl BackgroundWork {
    /// What it logs is logged in the span.
    pub(crate) fn new(
        span: Span,
        clock: Clock,
        shutdown: CancellationToken,
        tracker: TaskTracker,
    ) -> Self {
        Self {
            span,
            clock,
            shutdown,
            tracker,
            requests: Arc::default(),
        }
    }

    pub(crate) fn spawn<F, Fut>(&self, name: &'static str, every: Duration, work: F) -> Arc<Notify>
    where
        F: Fn(Timestamp) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = anyhow::Result<u64>> + Send + 'static,
    {
        let hint = Arc::new(Notify::new());
        let (sender, requests) = mpsc::channel(4);
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(sender);
        let work = Loop {
            name,
            every,
            work,
            clock: self.clock.clone(),
            hint: Arc::clone(&hint),
        };
        let turn = Turn::new(Share::Background, Whose::Work(name));
        let running = turn.scope(work.run(requests, self.shutdown.clone()));
        self.tracker.spawn(running.instrument(self.span.clone()));
        hint
    }

    /// Runs every loop until it is idle; returns how much was done in all.
    pub(crate) async fn run_due(&self) -> u64 {
        let requests = self
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut answers = Vec::with_capacity(requests.len());
        for request in requests {
            let (sender, answer) = oneshot::channel();
            if request.send(sender).await.is_ok() {
                answers.push(answer);
            }
        }
        let mut done = 0;
        for answer in answers {
            done += answer.await.unwrap_or_default();
        }
        done
    }
}

struct Loop<F> {
    name: &'static str,
    every: Duration,
    work: F,
    clock: Clock,
    hint: Arc<Notify>,
}

impl<F, Fut> Loop<F>
where
    F: Fn(Timestamp) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = anyhow::Result<u64>> + Send + 'static,
{
    async fn run(
        self,
        mut requests: mpsc::Receiver<oneshot::Sender<u64>>,
        shutdown: CancellationToken,
    ) {
        let mut failures = 0_u32;
        loop {
            let hint = self.hint.notified();
            tokio::pin!(hint);
            hint.as_mut().enable();
            let (_, failed) = self.until_idle(&shutdown).await;
            failures = if failed {
                failures.saturating_add(1)
            } else {
                0
            };
            // A failing loop backs off, also when it is notified.
            let pause = self.every.max(Duration::from_millis(100)) * (1 << failures.min(5));
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                () = &mut hint, if failures == 0 => {}
                Some(answer) = requests.recv() => {
                    let (done, _) = self.until_idle(&shutdown).await;
                    let _ = answer.send(done);
                }
            }
        }
    }

    async fn until_idle(&self, shutdown: &CancellationToken) -> (u64, bool) {
        let mut total = 0;
        while !shutdown.is_cancelled() {
            let work = caught(async { (self.work)(self.clock.now()).await });
            let span = tracing::info_span!("work", name = self.name);
            match work.instrument(span).await {
                Ok(0) => return (total, false),
                Ok(done) => total += done,
                Err(error) => {
                    tracing::warn!(
                        work = self.name,
                        error = format!("{error:#}"),
                        "background work failed; it is tried again"
                    );
                    return (total, true);
                }
            }
        }
        (total, false)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_failed_round() {
        let tracker = TaskTracker::new();
        let shutdown = CancellationToken::new();
        let works = BackgroundWork::new(
            Span::none(),
            Clock::system(),
            shutdown.clone(),
            tracker.clone(),
        );
        let rounds = Arc::new(AtomicU32::new(0));
        let (done, mut ran) = mpsc::channel(1);
        let played = Arc::clone(&rounds);
        works.spawn("panicking", Duration::ZERO, move |_| {
            let round = played.fetch_add(1, Ordering::Relaxed);
            // Once when the future is made and once when it is polled.
            assert_ne!(round, 0, "the first round");
            let done = done.clone();
            async move {
                assert_ne!(round, 1, "the second round");
                let _ = done.try_send(());
                Ok(0)
            }
        });
        assert_eq!(ran.recv().await, Some(()));
        // A loop that has ended would not answer.
        assert_eq!(works.run_due().await, 0);
        assert!(rounds.load(Ordering::Relaxed) >= 3);
        shutdown.cancel();
        tracker.close();
        tracker.wait().await;
    }
}
