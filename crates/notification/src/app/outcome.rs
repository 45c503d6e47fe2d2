//! Writes what came of attempts. An attempt ends when its outcome is written; those that end while others are being
//! written are written next, together.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use octroi_platform::{Call, Clock, Db, Error};
use serde_json::json;
use tokio::sync::{Mutex as Turn, oneshot};
use tokio::time::Instant;
use uuid::Uuid;

use crate::app::together_or_alone;
use crate::domain::email::{Next, Outcome};
use crate::store;
use crate::store::queue::Leased;

/// For how long writing an outcome is retried, since an e-mail that was sent and not marked is sent again. While the
/// database is down nobody else can lease the e-mail either, so this is how long its outage may last.
const FINISH_WITHIN: Duration = Duration::from_secs(10 * 60);

/// The back-off after the first failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest back-off: others poll the queue as soon as the database is back.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Writes outcomes.
pub struct Outcomes {
    pub db: Db,
    pub clock: Clock,
    pub pending: Pending,
}

/// The outcomes that are not written yet.
#[derive(Default)]
pub struct Pending {
    waiting: Mutex<Vec<Waiting>>,
    /// Who has it writes.
    turn: Turn<()>,
}

struct Waiting {
    ended: Ended,
    written: oneshot::Sender<bool>,
}

/// An attempt that ended.
#[derive(Clone)]
struct Ended {
    leased: Arc<Leased>,
    next: Next,
}

impl Outcomes {
    /// Writes the outcome, and retries, since what is not written is sent again. Does nothing if another worker holds the
    /// lease by now.
    ///
    /// # Errors
    /// When it could not be written in time.
    pub async fn write(&self, leased: Arc<Leased>, outcome: Outcome) -> Result<(), Error> {
        let random = Uuid::new_v4().as_u64_pair().1;
        let next = leased.email.after_attempt(outcome, leased.left, random);
        log(&leased, &next);
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        while !self.write_once(&leased, &next).await {
            if begun.elapsed() >= FINISH_WITHIN {
                let what = anyhow::anyhow!("the outcome of {} is not written", leased.email.id);
                return Err(Error::Internal(what));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Ok(())
    }

    /// Whether it was written, by whoever has the turn.
    async fn write_once(&self, leased: &Arc<Leased>, next: &Next) -> bool {
        let (written, mut is_written) = oneshot::channel();
        let ended = Ended {
            leased: Arc::clone(leased),
            next: next.clone(),
        };
        self.waiting().push(Waiting { ended, written });
        let turn = self.pending.turn.lock().await;
        let batch = std::mem::take(&mut *self.waiting());
        if !batch.is_empty() {
            self.write_all(batch).await;
        }
        drop(turn);
        // Whoever had the turn before may have written it, and has said so.
        is_written.try_recv().unwrap_or(false)
    }

    async fn write_all(&self, batch: Vec<Waiting>) {
        let (ended, waiting): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|it| (it.ended, it.written)).unzip();
        let name = |it: &Ended| it.leased.email.id.to_string();
        let failed = match together_or_alone(&ended, name, |ended| self.commit(ended)).await {
            Ok((_, failed)) => failed,
            Err(error) => {
                tracing::warn!(%error, "outcomes of attempts are not written yet");
                ended.clone()
            }
        };
        let failed: HashSet<Uuid> = failed.iter().map(|it| it.leased.email.id.id).collect();
        for (ended, written) in ended.iter().zip(waiting) {
            let _ = written.send(!failed.contains(&ended.leased.email.id.id));
        }
    }

    async fn commit(&self, ended: Vec<Ended>) -> Result<(), Error> {
        let call = Call::background(self.clock.now(), "octroi.notification/DeliverEmails");
        let mut tx = store::queue::begin(&self.db, &call).await?;
        let outcomes: Vec<_> = ended.iter().map(|it| (&*it.leased, &it.next)).collect();
        let written = store::delivery::finish(&tx, call.now, &outcomes).await?;
        for (Leased { email, .. }, next) in outcomes {
            if written.contains(&email.id.id) {
                let after = json!({"next": format!("{next:?}"), "attempts": email.attempts});
                tx.audit(&email.id.to_string(), Some(email.audited()), Some(after));
            } else {
                tracing::warn!(email = %email.id, "its lease ran out or its outcome is written already");
            }
        }
        tx.commit_work().await
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        let waiting = &self.pending.waiting;
        waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log(leased: &Leased, next: &Next) {
    let email = leased.email.id.to_string();
    let attempts = leased.email.attempts;
    match next {
        Next::Sent => tracing::info!(email, attempts, "sent"),
        Next::Withdrawn => tracing::info!(email, attempts, "withdrawn: its password has ended"),
        Next::Retry {
            wait,
            error,
            turned_away,
        } => {
            tracing::warn!(
                email,
                attempts,
                ?wait,
                error,
                turned_away,
                "not taken; it is tried again"
            );
        }
        Next::Failed { error } => tracing::warn!(email, attempts, error, "failed"),
    }
}
