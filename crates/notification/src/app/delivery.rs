//! Sends the queued e-mails. A round reads the queue's first ones without locks, leases those for which there is a lane,
//! and runs an attempt for each: at most a few at the same time, fewer to one domain, and apart to domains that are slow
//! ([`crate::domain::lanes`]). A lease is short and renewed meanwhile: a slow server may take its time, and what a dead
//! process held is free soon.
//!
//! Delivery is at least once: where a process dies before it writes the outcome, the lease expires and the e-mail is sent
//! again under the same Message-ID. A password that ended before it is read for sending is never sent; one that ends
//! between that and the server's reply is.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use octroi_platform::{Call, Error, while_leased};
use tokio::sync::Notify;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::app::attempt::Transport;
use crate::app::outcome::Outcomes;
use crate::app::queue::FIRST_MARGIN;
use crate::domain::lanes::{FAST, Lanes};
use crate::store;
use crate::store::queue::Leased;

/// How often the queue is looked at while nothing says that it changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often attempts that last long are looked for.
const WATCH_EVERY: Duration = Duration::from_millis(250);

/// Below how many leased e-mails that wait for their attempt more are leased.
const READY_AGAIN: usize = FAST;

/// Sends the queued e-mails.
pub struct EmailSender {
    pub transport: Transport,
    pub outcomes: Outcomes,
    /// How many messages a second are sent at most; none for as many as the mail server takes.
    pub rate: Option<u32>,
    /// Says that the queue changed.
    pub wake: Arc<Notify>,
    /// Cancelled when no more e-mails are to be leased.
    pub shutdown: CancellationToken,
    /// What is known of domains, from one round to the next.
    pub domains: Domains,
}

pub struct Domains {
    lanes: Mutex<Lanes>,
    started: Instant,
}

impl Default for Domains {
    fn default() -> Self {
        Self {
            lanes: Mutex::default(),
            started: Instant::now(),
        }
    }
}

impl Domains {
    pub(super) fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time, as the lanes count it.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

impl EmailSender {
    /// Sends what is due, until nothing is; how much it did.
    ///
    /// # Errors
    /// The database's. A refusal or a failure of the mail server is an outcome of the e-mail and no error.
    pub async fn deliver(self: Arc<Self>) -> anyhow::Result<u64> {
        let mut round = Round {
            sender: Arc::clone(&self),
            ready: VecDeque::new(),
            attempts: JoinSet::new(),
            running: HashMap::new(),
            avoided: HashMap::new(),
            margin: FIRST_MARGIN,
            next_send: Instant::now(),
            done: 0,
        };
        let done = round.run().await;
        round.release_all().await;
        self.transport.connections.close(true).await;
        done.context("taking e-mails")
    }

    pub(super) fn call(&self) -> Call {
        Call::background(
            self.transport.clock.now(),
            "octroi.notification/DeliverEmails",
        )
    }

    /// One attempt, to its written end.
    async fn attempt(&self, leased: Arc<Leased>, give_way: CancellationToken) -> Result<(), Error> {
        let attempt = async {
            let outcome = self.transport.send(&leased, &give_way).await;
            self.outcomes.write(Arc::clone(&leased), outcome).await
        };
        let renew = || store::delivery::renew(&self.transport.db, &leased);
        while_leased(store::delivery::RENEW_EVERY, renew, attempt).await
    }
}

/// A time in which there is always something to send or being sent.
pub struct Round {
    pub(super) sender: Arc<EmailSender>,
    /// Leased e-mails whose attempt has not begun, each with when it was leased and its domain.
    pub(super) ready: VecDeque<(Leased, Instant, String)>,
    attempts: JoinSet<Result<(), Error>>,
    /// The number of each attempt among the lanes, and what makes it give way.
    running: HashMap<Id, (u64, CancellationToken)>,
    /// Until when e-mails are left alone that could not be taken.
    pub(super) avoided: HashMap<Uuid, Instant>,
    pub(super) margin: i64,
    /// When the next message may be sent.
    next_send: Instant,
    pub(super) done: u64,
}

impl Round {
    async fn run(&mut self) -> Result<u64, Error> {
        let wake = Arc::clone(&self.sender.wake);
        let (mut failed, mut is_woken, mut looked) = (None, true, Instant::now());
        // Whether the last look found something to do.
        let mut more = true;
        loop {
            let ends = failed.is_some() || self.sender.shutdown.is_cancelled();
            let is_time = more || is_woken || looked.elapsed() >= LOOK_EVERY;
            if !ends && is_time && self.ready.len() < READY_AGAIN {
                let all = is_woken || looked.elapsed() >= LOOK_EVERY;
                (is_woken, looked) = (false, Instant::now());
                match self.look(all).await {
                    Ok(found) => more = found,
                    Err(error) => failed = Some(error),
                }
            }
            if !ends {
                self.start();
                self.release_late().await;
            }
            let is_idle = self.attempts.is_empty();
            if is_idle && (ends || failed.is_some() || self.ready.is_empty() && !more) {
                return match failed {
                    Some(error) => Err(error),
                    None => Ok(self.done),
                };
            }
            // There is more to take at once, as soon as there is room for it.
            if more && self.ready.is_empty() && !ends && failed.is_none() {
                tokio::task::yield_now().await;
                while let Some(ended) = self.attempts.try_join_next_with_id() {
                    self.ended(ended);
                }
                continue;
            }
            let pause = self.pause();
            tokio::select! {
                Some(ended) = self.attempts.join_next_with_id() => self.ended(ended),
                () = wake.notified() => is_woken = true,
                () = sleep(pause) => self.watch().await,
            }
        }
    }

    /// Begins the attempts for which there is a lane, as fast as the rate allows.
    fn start(&mut self) {
        let now = self.sender.domains.now();
        let mut waiting = VecDeque::new();
        while let Some((leased, since, domain)) = self.ready.pop_front() {
            if self.next_send > Instant::now() {
                waiting.push_back((leased, since, domain));
                break;
            }
            let Some(number) = self.sender.domains.lanes().begin(&domain, now) else {
                waiting.push_back((leased, since, domain));
                continue;
            };
            if let Some(rate) = self.sender.rate {
                let last = self.next_send.max(Instant::now());
                self.next_send = last + Duration::from_secs(1) / rate.max(1);
            }
            let (sender, leased) = (Arc::clone(&self.sender), Arc::new(leased));
            let give_way = CancellationToken::new();
            let handle = self.attempts.spawn({
                let give_way = give_way.clone();
                async move { sender.attempt(leased, give_way).await }
            });
            self.running.insert(handle.id(), (number, give_way));
        }
        waiting.append(&mut self.ready);
        self.ready = waiting;
    }

    /// Notes the end of an attempt.
    fn ended(&mut self, ended: Result<(Id, Result<(), Error>), JoinError>) {
        let (id, result) = match ended {
            Ok((id, result)) => (id, result.map_err(anyhow::Error::new)),
            Err(error) => (error.id(), Err(anyhow::Error::new(error))),
        };
        if let Err(error) = result {
            tracing::error!(error = format!("{error:#}"), "an attempt did not end well");
        }
        if let Some((number, _)) = self.running.remove(&id) {
            let now = self.sender.domains.now();
            self.sender.domains.lanes().end(number, now);
        }
    }

    /// Moves slow attempts out of the way of others, and closes what nobody uses.
    async fn watch(&mut self) {
        let now = self.sender.domains.now();
        for number in self.sender.domains.lanes().move_slow(now) {
            let running = self.running.values().find(|it| it.0 == number);
            if let Some((_, give_way)) = running {
                give_way.cancel();
            }
        }
        let now = Instant::now();
        self.avoided.retain(|_, until| *until > now);
        self.sender.transport.connections.close(false).await;
    }

    fn pause(&self) -> Duration {
        let until_send = self.next_send.saturating_duration_since(Instant::now());
        match self.ready.is_empty() || until_send.is_zero() {
            true => WATCH_EVERY,
            false => until_send.min(WATCH_EVERY),
        }
    }
}
