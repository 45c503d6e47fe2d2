//! One attempt to send an e-mail that is leased: it renders the message, with its password if it carries one, and hands it
//! to the mail server, with no transaction open.

use std::sync::Arc;

use jiff::Timestamp;
use lettre::Message;
use lettre::message::Mailbox;
use octroi_platform::seal::SealingKeys;
use octroi_platform::{Clock, Db};
use secrecy::{ExposeSecret as _, SecretString};
use tokio_util::sync::CancellationToken;

use crate::app::PASSWORD;
use crate::domain::email::{Outcome, Secret};
use crate::domain::message::{Branding, PasswordView, render};
use crate::mailer::mime;
use crate::mailer::pool::Pool;
use crate::mailer::smtp::gave_way;
use crate::store;
use crate::store::queue::Leased;

/// What an attempt needs.
pub struct Transport {
    pub db: Db,
    pub clock: Clock,
    /// The keys that passwords are sealed with.
    pub keys: Arc<SealingKeys>,
    pub connections: Pool,
    pub branding: Branding,
    /// The From header.
    pub from: Mailbox,
}

impl Transport {
    /// Sends the e-mail over a connection of the pool, or gives way to others before the mail server has it.
    pub async fn send(&self, leased: &Leased, give_way: &CancellationToken) -> Outcome {
        let open = tokio::select! {
            open = self.connections.take() => open,
            () = give_way.cancelled() => return gave_way(),
        };
        let mut open = match open {
            Ok(open) => open,
            Err(outcome) => return outcome,
        };
        // The password is read last, so that one that ended meanwhile is not sent.
        let outcome = match self.message(leased).await {
            Ok(message) => {
                let id = leased.email.id.id;
                open.connection.send(id, &message, give_way).await
            }
            Err(outcome) => outcome,
        };
        self.connections.put_back(open).await;
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
        let (content, at) = (&email.content, email.effective_at);
        let rendered = render(content, to, at, password, &self.branding)
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
}
