//! Work that is done for a caller and that the caller cannot stop.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::runtime::Handle;
use tracing::Instrument as _;

/// A future that goes on in a task of its own when it is dropped before its end, in the span that it is dropped in. One
/// that is awaited to its end needs no task.
pub(crate) struct Unstoppable<F>(Option<Pin<Box<F>>>)
where
    F: Future<Output: Send> + Send + 'static;

impl<F> Unstoppable<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    pub(crate) fn new(work: F) -> Self {
        Self(Some(Box::pin(work)))
    }
}

impl<F> Future for Unstoppable<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(work) = &mut self.0 else {
            return Poll::Pending;
        };
        let done = ready!(work.as_mut().poll(context));
        self.0 = None;
        Poll::Ready(done)
    }
}

impl<F> Drop for Unstoppable<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    fn drop(&mut self) {
        // Without a runtime nobody is left to do it.
        if let (Some(work), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(work.in_current_span());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::{mpsc, oneshot};
    use tokio::time::timeout;

    use super::*;

    /// Before its first step, and in the middle.
    #[tokio::test]
    async fn it_goes_on_without_whom_it_is_done_for() {
        for begun in [false, true] {
            let (go, may_go) = oneshot::channel::<()>();
            let (done, mut ends) = mpsc::channel(1);
            let mut work = Unstoppable::new(async move {
                may_go.await.unwrap();
                done.send("done").await.unwrap();
            });
            if begun {
                assert!(timeout(Duration::ZERO, &mut work).await.is_err());
            }
            drop(work);
            go.send(()).unwrap();
            assert_eq!(ends.recv().await, Some("done"));
        }
        assert_eq!(Unstoppable::new(async { 1 }).await, 1);
    }
}
