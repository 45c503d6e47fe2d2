//! Handing e-mails over. A worker leases one e-mail, hands it over with no transaction open, and writes what came of it. The
//! lease is short and renewed meanwhile, so a slow server is waited for and a dead process holds nothing up for long.
//!
//! What came of it is written as soon as the database lets it. A process that dies in between leaves the lease to run
//! out, and the e-mail is handed over again under the same Message-ID: a recipient may get it twice, and never not at
//! all. What a lease covers counts as being sent: a password that ends before is never sent, one that ends in the moment
//! between the last look at it and the server's answer is.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use lettre::Message;
use lettre::message::Mailbox;
use octroi_platform::seal::SealingKeys;
use octroi_platform::{Call, Clock, Db, Error};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::app::PASSWORD;
use crate::app::fact::audited;
use crate::domain::email::{Delivery, Next, Outcome, Secret};
use crate::domain::letter::{House, Shown, letter};
use crate::mailer::message::message;
use crate::mailer::{Line, Mailer};
use crate::store;
use crate::store::delivery::Leased;

/// How many e-mails are handed over at the same time, each over a connection of its own.
pub const LANES: usize = 4;

/// How many e-mails a lane hands over before it hangs up.
const LANE_LENGTH: u64 = 100;

/// For how long writing what came of a try is tried: an e-mail that was handed over and not marked is sent again. While
/// the database is away nobody else can take the e-mail, so this is what a database may take to come back.
const FINISH_WITHIN: Duration = Duration::from_secs(10 * 60);

/// The wait after the first of these tries; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest wait between two of them: others look at the queue as soon as the database is back.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Hands e-mails over.
pub struct Courier {
    /// The database.
    pub db: Db,
    /// Business time.
    pub clock: Clock,
    /// The keys that passwords are sealed with.
    pub keys: Arc<SealingKeys>,
    /// Where messages go.
    pub mailer: Mailer,
    /// What the installation says of itself.
    pub house: House,
    /// Who sends.
    pub from: Mailbox,
    /// Told when no more e-mails are to be begun with.
    pub shutdown: CancellationToken,
}

/// What the queue gave.
enum Taken {
    Nothing,
    Withdrawn,
    Leased(Box<Leased>),
}

impl Courier {
    /// Hands over what is due: one e-mail after another until nothing is, over one connection while that works; how
    /// many it tried. Several run side by side, so that one that hangs at the mail server holds up its own lane only.
    ///
    /// # Errors
    /// The database's. Whatever a mail server does is the e-mail's outcome and no error.
    pub async fn deliver(self: Arc<Self>) -> anyhow::Result<u64> {
        let mut line = None;
        let mut done = 0;
        while done < LANE_LENGTH && !self.shutdown.is_cancelled() {
            match self.take().await.context("taking an e-mail")? {
                Taken::Nothing => break,
                Taken::Withdrawn => {}
                Taken::Leased(leased) => {
                    let trying = async {
                        let outcome = self.hand_over(&leased, &mut line).await;
                        self.finish(&leased, outcome).await
                    };
                    tokio::select! {
                        ended = trying => ended?,
                        never = self.keep(&leased) => match never {},
                    }
                }
            }
            done += 1;
        }
        if let Some(line) = line {
            Line::close(line).await;
        }
        Ok(done)
    }

    /// Leases the next e-mail that is due, or withdraws it when its password has ended.
    async fn take(&self) -> Result<Taken, Error> {
        let call = self.call();
        let (mut tx, due) = store::delivery::due(&self.db, &call).await?;
        let Some((email, left)) = due else {
            tx.rollback().await;
            return Ok(Taken::Nothing);
        };
        let before = audited(&email);
        let email = email
            .begin_try(call.now)
            .map_err(|error| Error::Internal(error.into()))?;
        if email.delivery == Delivery::Withdrawn {
            store::email::erase_secret(&mut tx, &email);
            tx.audit(&email.name(), Some(before), Some(audited(&email)));
            tx.commit_work().await?;
            return Ok(Taken::Withdrawn);
        }
        let token = Uuid::now_v7();
        store::delivery::lease(&mut tx, &email, token)?;
        tx.commit_work().await?;
        Ok(Taken::Leased(Box::new(Leased { email, token, left })))
    }

    /// Renews a lease for as long as it is polled.
    async fn keep(&self, leased: &Leased) -> Infallible {
        loop {
            tokio::time::sleep(store::delivery::RENEW_EVERY).await;
            if let Err(error) = store::delivery::renew(&self.db, leased).await {
                tracing::warn!(email = leased.email.name(), %error, "a lease could not be renewed");
            }
        }
    }

    /// One try. `line` is opened when it is not, and given up after anything unexpected.
    async fn hand_over<'a>(&'a self, leased: &Leased, line: &mut Option<Line<'a>>) -> Outcome {
        let mut open = match line.take() {
            Some(open) => open,
            None => match self.mailer.open().await {
                Ok(open) => open,
                Err(outcome) => return outcome,
            },
        };
        // The password is read when everything else is ready, so that one that ends meanwhile is not sent.
        let outcome = match self.message(leased).await {
            Ok(message) => open.send(leased.email.id, &message).await,
            Err(outcome) => {
                *line = Some(open);
                return outcome;
            }
        };
        if outcome == Outcome::Delivered {
            *line = Some(open);
        }
        outcome
    }

    /// The message, or why there is none.
    async fn message(&self, leased: &Leased) -> Result<Message, Outcome> {
        let email = &leased.email;
        let broken = |what: &str, error: &dyn std::fmt::Display| {
            tracing::error!(email = email.name(), %error, "{what}");
            Outcome::Later(what.to_owned())
        };
        let Some(to) = &email.addressee else {
            return Err(broken("it has no addressee", &"leased without one"));
        };
        let now = self.clock.now();
        let password = match &email.secret {
            Secret::None => None,
            Secret::Readable { expires, .. } => Some((self.password(leased, now).await?, *expires)),
            Secret::Erased { .. } => return Err(Outcome::SecretEnded),
        };
        let shown = match &password {
            Some((password, expires)) => Shown::Password {
                plain: password.expose_secret(),
                expires: *expires,
            },
            None => Shown::Nothing,
        };
        let letter = letter(&email.content, to, email.effective, shown, &self.house)
            .map_err(|error| broken("its template does not fit it", &error))?;
        message(letter, to, &self.from, &email.message_id, now).map_err(Outcome::Refused)
    }

    /// The password of a leased e-mail.
    async fn password(&self, leased: &Leased, now: Timestamp) -> Result<SecretString, Outcome> {
        let email = &leased.email;
        let sealed = store::delivery::sealed_secret(&self.db, leased, now)
            .await
            .map_err(|error| {
                tracing::warn!(email = email.name(), %error, "a sealed password could not be read");
                Outcome::Later("the password could not be read".to_owned())
            })?
            .ok_or(Outcome::SecretEnded)?;
        self.keys
            .open(&sealed, &email.account, email.event, PASSWORD)
            .map_err(|error| {
                tracing::error!(email = email.name(), %error, "a sealed password does not open");
                Outcome::Later("the password could not be opened".to_owned())
            })
    }

    /// Writes what came of a try; tries hard, since what is not written is sent again. An e-mail that passed to another
    /// worker meanwhile stays with it.
    async fn finish(&self, leased: &Leased, outcome: Outcome) -> Result<(), Error> {
        let random = Uuid::new_v4().as_u64_pair().1;
        let next = leased.email.after_try(outcome, leased.left, random);
        log(leased, &next);
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            match self.write(leased, &next).await {
                Err(error) if error.is_transient() && begun.elapsed() < FINISH_WITHIN => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                ended => return ended,
            }
        }
    }

    async fn write(&self, leased: &Leased, next: &Next) -> Result<(), Error> {
        let call = self.call();
        let (mut tx, held) = store::delivery::held(&self.db, &call, leased).await?;
        if !held {
            tx.rollback().await;
            tracing::warn!(
                email = leased.email.name(),
                "its lease ran out or its outcome is written already"
            );
            return Ok(());
        }
        store::delivery::finish(&mut tx, leased, next, call.now);
        tx.audit(
            &leased.email.name(),
            Some(audited(&leased.email)),
            Some(json!({"next": format!("{next:?}"), "attempts": leased.email.attempts})),
        );
        tx.commit_work().await
    }

    fn call(&self) -> Call {
        Call::background(self.clock.now(), "octroi.notification/DeliverEmails")
    }
}

fn log(leased: &Leased, next: &Next) {
    let email = leased.email.name();
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
