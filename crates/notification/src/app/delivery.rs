//! Sends e-mails. A worker leases one e-mail, sends it with no transaction open, and writes the outcome. The lease is short
//! and renewed meanwhile: a slow server may take its time, and what a dead process held is free soon.
//!
//! Delivery is at least once: where a process dies before it writes the outcome, the lease expires and the e-mail is sent
//! again under the same Message-ID. A password that ended before it is read for sending is never sent; one that ends
//! between that and the server's reply is.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use lettre::Message;
use lettre::message::Mailbox;
use octroi_platform::seal::SealingKeys;
use octroi_platform::{Call, Clock, Db, Error, while_leased};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::app::PASSWORD;
use crate::domain::email::{Delivery, Next, Outcome, Secret};
use crate::domain::message::{Branding, PasswordView, render};
use crate::mailer::{Connection, Mailer, mime};
use crate::store;
use crate::store::delivery::Leased;

/// How many workers send at the same time, each over its own connection.
pub const WORKERS: usize = 4;

/// How many e-mails a worker sends over one connection.
const PER_CONNECTION: u64 = 100;

/// For how long writing the outcome is retried, since an e-mail that was sent and not marked is sent again. While the
/// database is down nobody else can lease the e-mail either, so this is how long its outage may last.
const FINISH_WITHIN: Duration = Duration::from_secs(10 * 60);

/// The back-off after the first of these attempts; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest back-off: other workers poll the queue as soon as the database is back.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Sends the queued e-mails.
pub struct EmailSender {
    pub db: Db,
    pub clock: Clock,
    /// The keys that passwords are sealed with.
    pub keys: Arc<SealingKeys>,
    pub mailer: Mailer,
    pub branding: Branding,
    /// The From header.
    pub from: Mailbox,
    /// Cancelled when no more e-mails are to be leased.
    pub shutdown: CancellationToken,
}

enum Claim {
    Nothing,
    Withdrawn,
    Leased(Box<Leased>),
}

impl EmailSender {
    /// Sends what is due, one e-mail after another over one connection while that works, and returns how many it tried.
    /// Several run concurrently, so that one that waits for the mail server delays no other.
    ///
    /// # Errors
    /// The database's. A refusal or a failure of the mail server is an outcome of the e-mail and no error.
    pub async fn deliver(self: Arc<Self>) -> anyhow::Result<u64> {
        let mut connection = None;
        let mut done = 0;
        while done < PER_CONNECTION && !self.shutdown.is_cancelled() {
            match self.claim().await.context("claiming an e-mail")? {
                Claim::Nothing => break,
                Claim::Withdrawn => {}
                Claim::Leased(leased) => {
                    let attempt = async {
                        let outcome = self.attempt(&leased, &mut connection).await;
                        self.finish(&leased, outcome).await
                    };
                    let renew = || store::delivery::renew(&self.db, &leased);
                    while_leased(store::delivery::RENEW_EVERY, renew, attempt).await?;
                }
            }
            done += 1;
        }
        if let Some(connection) = connection {
            Connection::close(connection).await;
        }
        Ok(done)
    }

    /// Leases the next e-mail that is due, or withdraws it when its password has ended.
    async fn claim(&self) -> Result<Claim, Error> {
        let call = self.call();
        let (mut tx, due) = store::delivery::due(&self.db, &call).await?;
        let Some((email, left)) = due else {
            tx.rollback().await;
            return Ok(Claim::Nothing);
        };
        let before = email.audited();
        let email = email
            .begin_attempt(call.now)
            .map_err(|error| Error::Internal(error.into()))?;
        if email.delivery == Delivery::Withdrawn {
            store::email::erase_secret(&mut tx, &email);
            tx.audit(&email.id.to_string(), Some(before), Some(email.audited()));
            tx.commit_work().await?;
            return Ok(Claim::Withdrawn);
        }
        let token = Uuid::now_v7();
        store::delivery::lease(&mut tx, &email, token)?;
        tx.commit_work().await?;
        Ok(Claim::Leased(Box::new(Leased { email, token, left })))
    }

    /// One attempt. Connects when there is no connection, and drops it after any failure.
    async fn attempt<'a>(
        &'a self,
        leased: &Leased,
        connection: &mut Option<Connection<'a>>,
    ) -> Outcome {
        let mut open = match connection.take() {
            Some(open) => open,
            None => match self.mailer.open().await {
                Ok(open) => open,
                Err(outcome) => return outcome,
            },
        };
        // The password is read last, so that one that ended meanwhile is not sent.
        let outcome = match self.message(leased).await {
            Ok(message) => open.send(leased.email.id.id, &message).await,
            Err(outcome) => {
                *connection = Some(open);
                return outcome;
            }
        };
        if outcome == Outcome::Delivered {
            *connection = Some(open);
        }
        outcome
    }

    async fn message(&self, leased: &Leased) -> Result<Message, Outcome> {
        let email = &leased.email;
        let broken = |what: &str, error: &dyn std::fmt::Display| {
            tracing::error!(email = %email.id, %error, "{what}");
            Outcome::Later(what.to_owned())
        };
        let Some(to) = &email.addressee else {
            return Err(broken("it has no addressee", &"leased without one"));
        };
        let now = self.clock.now();
        let password = match &email.secret {
            Secret::None => None,
            Secret::Readable { expires_at, .. } => {
                Some((self.password(leased, now).await?, *expires_at))
            }
            Secret::Erased { .. } => return Err(Outcome::SecretEnded),
        };
        let password = match &password {
            Some((plain, expires_at)) => PasswordView::Visible {
                plain: plain.expose_secret(),
                expires_at: *expires_at,
            },
            None => PasswordView::None,
        };
        let rendered = render(
            &email.content,
            to,
            email.effective_at,
            password,
            &self.branding,
        )
        .map_err(|error| broken("its template cannot be rendered", &error))?;
        mime::build(rendered, to, &self.from, &email.message_id, now).map_err(Outcome::Refused)
    }

    async fn password(&self, leased: &Leased, now: Timestamp) -> Result<SecretString, Outcome> {
        let email = &leased.email;
        let sealed = store::delivery::sealed_secret(&self.db, leased, now)
            .await
            .map_err(|error| {
                tracing::warn!(email = %email.id, %error, "a sealed password could not be read");
                Outcome::Later("the password could not be read".to_owned())
            })?
            .ok_or(Outcome::SecretEnded)?;
        self.keys
            .open(&sealed, email.id.account.as_str(), email.event, PASSWORD)
            .map_err(|error| {
                tracing::error!(email = %email.id, %error, "a sealed password does not open");
                Outcome::Later("the password could not be opened".to_owned())
            })
    }

    /// Writes the outcome, and retries, since what is not written is sent again. Does nothing if another worker holds the
    /// lease by now.
    async fn finish(&self, leased: &Leased, outcome: Outcome) -> Result<(), Error> {
        let random = Uuid::new_v4().as_u64_pair().1;
        let next = leased.email.after_attempt(outcome, leased.left, random);
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
                email = %leased.email.id,
                "its lease ran out or its outcome is written already"
            );
            return Ok(());
        }
        store::delivery::finish(&mut tx, leased, next, call.now);
        tx.audit(
            &leased.email.id.to_string(),
            Some(leased.email.audited()),
            Some(json!({"next": format!("{next:?}"), "attempts": leased.email.attempts})),
        );
        tx.commit_work().await
    }

    fn call(&self) -> Call {
        Call::background(self.clock.now(), "octroi.notification/DeliverEmails")
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
