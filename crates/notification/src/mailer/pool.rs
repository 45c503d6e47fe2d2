//! The connections that are open and send nothing now. There are never more of them than attempts were under way at once.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::email::Outcome;
use crate::mailer::{Connection, Mailer};

/// How many messages are sent over one connection: mail servers limit that too.
const MESSAGES: u32 = 100;

/// How long a connection stays open unused. Mail servers close it after some time, and the next message would fail.
const UNUSED: Duration = Duration::from_secs(5);

pub struct Pool {
    pub mailer: Mailer,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    open: Open,
    since: Instant,
}

/// A connection in use.
pub struct Open {
    pub connection: Connection,
    sent: u32,
}

impl Pool {
    pub fn new(mailer: Mailer) -> Self {
        Self {
            mailer,
            idle: Mutex::default(),
        }
    }

    /// The connection that was used last, or a new one.
    ///
    /// # Errors
    /// As [`Mailer::open`].
    pub async fn take(&self) -> Result<Open, Outcome> {
        let idle = self.idle().pop();
        match idle.filter(|it| it.since.elapsed() < UNUSED) {
            Some(idle) => Ok(idle.open),
            None => Ok(Open {
                connection: self.mailer.open().await?,
                sent: 0,
            }),
        }
    }

    /// Takes a connection back after a message, or closes it.
    pub async fn put_back(&self, mut open: Open) {
        open.sent += 1;
        if !open.connection.is_open() {
            return;
        }
        if open.sent >= MESSAGES {
            return open.connection.close().await;
        }
        let since = Instant::now();
        self.idle().push(Idle { open, since });
    }

    /// Closes those that nobody used for a while, or all of them.
    pub async fn close(&self, all: bool) {
        let unused: Vec<Idle> = {
            let mut idle = self.idle();
            let (kept, unused) = std::mem::take(&mut *idle)
                .into_iter()
                .partition(|it| !all && it.since.elapsed() < UNUSED);
            *idle = kept;
            unused
        };
        futures_util::future::join_all(unused.into_iter().map(|it| it.open.connection.close()))
            .await;
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
