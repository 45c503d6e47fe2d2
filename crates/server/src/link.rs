//! What a connection knows of its calls: whether any is under way, and whether an answer stays unread.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

/// How many calls without a token a connection has at once, to health and reflection.
const STRANGERS: usize = 16;
/// How long after its deadline an answer may stay on its connection: who reads has the end of it by then.
pub(crate) const UNREAD: Duration = Duration::from_secs(5);

/// What a connection and its calls share.
#[derive(Clone)]
pub(crate) struct Link {
    /// The caller's address.
    pub(crate) remote: IpAddr,
    /// Places of calls without a token.
    pub(crate) strangers: Arc<Semaphore>,
    begun: Instant,
    calls: Arc<Mutex<Calls>>,
}

/// How many calls are under way, when the last one ended, and the deadlines of those whose answers have not left, each with
/// a number of its own.
#[derive(Default)]
struct Calls {
    open: usize,
    last: Option<Instant>,
    due: BTreeSet<(Instant, u64)>,
    numbered: u64,
}

/// Counts as a call under way until it is dropped.
pub(crate) struct Busy(pub(crate) Link);

/// Is dropped when an answer has left.
pub(crate) struct Due {
    link: Link,
    call: (Instant, u64),
}

impl Link {
    pub(crate) fn new(remote: IpAddr) -> Self {
        Self {
            remote,
            strangers: Arc::new(Semaphore::new(STRANGERS)),
            begun: Instant::now(),
            calls: Arc::default(),
        }
    }

    /// Keeps the connection open until the call has ended.
    pub(crate) fn begin(&self) -> Busy {
        self.calls().open += 1;
        Busy(self.clone())
    }

    /// Expects an answer to have left soon after its call's deadline. The connection on which it then stays is of no use.
    pub(crate) fn expect(&self, until: Instant) -> Due {
        let mut calls = self.calls();
        calls.numbered += 1;
        let call = (until, calls.numbered);
        calls.due.insert(call);
        Due {
            link: self.clone(),
            call,
        }
    }

    /// Waits until an answer is overdue.
    pub(crate) async fn left_unread(&self) {
        loop {
            let now = Instant::now();
            let first = self.calls().due.first().map(|(until, _)| *until + UNREAD);
            if first.is_some_and(|first| first <= now) {
                return;
            }
            // The next call may have an earlier deadline.
            let next = now + UNREAD;
            sleep_until(first.map_or(next, |first| first.min(next))).await;
        }
    }

    /// Waits until the connection is idle: for `first` since its beginning, or for `later` since its last call.
    pub(crate) async fn without_calls(&self, first: Duration, later: Duration) {
        while let Some(until) = self.stays(Instant::now(), first, later) {
            sleep_until(until).await;
        }
    }

    /// When to check again; none when it has been idle for too long.
    pub(crate) fn stays(&self, now: Instant, first: Duration, later: Duration) -> Option<Instant> {
        let calls = self.calls();
        let until = match calls.last {
            _ if calls.open > 0 => return Some(now + later),
            Some(last) => last + later,
            None => self.begun + first,
        };
        (until > now).then(|| until.min(now + later))
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut calls = self.0.calls();
        calls.open -= 1;
        calls.last = Some(Instant::now());
    }
}

impl Drop for Due {
    fn drop(&mut self) {
        self.link.calls().due.remove(&self.call);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const FAR: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_connection_stays_for_its_calls_and_a_while_longer() {
        let (first, idle) = (Duration::ZERO, FAR);
        let link = Link::new(HERE);
        let now = Instant::now();
        assert_eq!(link.stays(now, first, idle), None);
        let (one, other) = (link.begin(), link.begin());
        drop(one);
        assert!(link.stays(now + 2 * idle, first, idle).is_some());
        drop(other);
        let now = Instant::now();
        let until = link.stays(now, first, idle);
        assert!(until.is_some_and(|until| until <= now + idle));
        assert_eq!(link.stays(now + idle, first, idle), None);
    }
}
