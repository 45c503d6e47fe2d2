//! An SMTP client. A connection is encrypted as configured, or fails.
//!
//! lettre's own pool is not used: a send that is cancelled half way would put its connection back, and the next message
//! would read this one's reply. Here a worker owns its connection and drops it after any failure. lettre's `tracing`
//! feature must stay off: it logs every command, and so the password.

use std::error::Error as _;
use std::fmt::{self, Display};
use std::time::Duration;

use lettre::Message;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt, Rset};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Response;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::domain::email::Outcome;
use crate::mailer::refusal::{Step, ends_email};

/// How long connecting, TLS and signing in may take together.
const OPEN: Duration = Duration::from_secs(30);

/// How long QUIT may take.
const CLOSE: Duration = Duration::from_secs(2);

pub enum Tls {
    /// TLS from the first byte.
    Implicit(TlsParameters),
    /// STARTTLS; nothing is sent to a server that does not offer it.
    Starttls(TlsParameters),
    Plaintext,
}

pub struct Smtp {
    pub host: String,
    pub port: u16,
    pub tls: Tls,
    /// User and password, where the server requires authentication.
    pub credentials: Option<(String, SecretString)>,
    /// The name in EHLO.
    pub hello: ClientId,
}

pub struct Session {
    connection: AsyncSmtpConnection,
    is_open: bool,
}

impl Smtp {
    /// Connects and authenticates.
    ///
    /// # Errors
    /// What failed: [`Outcome::TurnedAway`] where no repetition helps, or else [`Outcome::Later`].
    pub async fn open(&self) -> Result<Session, Outcome> {
        match timeout(OPEN, self.connect()).await {
            Ok(Ok(connection)) => Ok(Session {
                connection,
                is_open: true,
            }),
            // A server without STARTTLS or AUTH, or with a wrong certificate, needs a changed setting just as a 5xx does.
            Ok(Err(error)) if error.is_permanent() || error.is_client() || error.is_tls() => {
                Err(Outcome::TurnedAway(describe("before MAIL FROM", &error)))
            }
            Ok(Err(error)) => Err(Outcome::Later(describe("before MAIL FROM", &error))),
            Err(_) => Err(timed_out(OPEN)),
        }
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Error> {
        let implicit = match &self.tls {
            Tls::Implicit(parameters) => Some(parameters.clone()),
            Tls::Starttls(_) | Tls::Plaintext => None,
        };
        let mut connection = AsyncSmtpConnection::connect_tokio1(
            (self.host.as_str(), self.port),
            None,
            &self.hello,
            implicit,
            None,
        )
        .await?;
        if let Tls::Starttls(parameters) = &self.tls {
            connection.starttls(parameters.clone(), &self.hello).await?;
        }
        if let Some((user, password)) = &self.credentials {
            let credentials = Credentials::new(user.clone(), password.expose_secret().to_owned());
            connection.auth(DEFAULT_MECHANISMS, &credentials).await?;
        }
        Ok(connection)
    }
}

impl Session {
    /// Sends a message, or gives way before its content is sent. A refused message leaves the connection open.
    pub async fn send(&mut self, message: &Message, give_way: &CancellationToken) -> Outcome {
        // Cancelled half way, replies are still to come.
        self.is_open = false;
        match self.transmit(message, give_way).await {
            Ok(()) => {
                self.is_open = true;
                Outcome::Delivered
            }
            Err((outcome, is_usable)) => {
                self.is_open = is_usable && self.reset().await;
                if !self.is_open {
                    let _ = timeout(CLOSE, self.connection.abort()).await;
                }
                outcome
            }
        }
    }

    /// Everything is ASCII: addresses by [`crate::mailer::mime::in_ascii`], the rest by its encoding. So no SMTP extension
    /// is needed. What failed, and whether the connection can
    /// be used all the same.
    async fn transmit(
        &mut self,
        message: &Message,
        give_way: &CancellationToken,
    ) -> Result<(), (Outcome, bool)> {
        let preparing = async {
            let envelope = message.envelope();
            let sender = Mail::new(envelope.from().cloned(), Vec::new());
            self.command(Step::Sender, sender).await?;
            for recipient in envelope.to() {
                let recipient = Rcpt::new(recipient.clone(), Vec::new());
                self.command(Step::Recipient, recipient).await?;
            }
            self.command(Step::Data, Data).await
        };
        tokio::select! {
            prepared = preparing => prepared?,
            () = give_way.cancelled() => return Err((gave_way(), false)),
        }
        self.command(Step::Message, Content(message)).await
    }

    async fn command(&mut self, step: Step, command: impl Display) -> Result<(), (Outcome, bool)> {
        reply(step, self.connection.command(command)).await
    }

    /// Makes the connection ready for the next message, if the server agrees.
    async fn reset(&mut self) -> bool {
        matches!(
            timeout(CLOSE, self.connection.command(Rset)).await,
            Ok(Ok(_))
        )
    }

    pub fn is_open(&self) -> bool {
        self.is_open
    }

    pub async fn close(mut self) {
        let _ = timeout(CLOSE, self.connection.quit()).await;
    }
}

/// A message as DATA takes it, and the line that ends it (RFC 5321, 4.5.2). lettre would write the end by itself, and that
/// small packet waits some 40 ms for the acknowledgement of those before it.
struct Content<'a>(&'a Message);

impl Display for Content<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let formatted = self.0.formatted();
        for line in String::from_utf8_lossy(&formatted).split_inclusive("\r\n") {
            if line.starts_with('.') {
                f.write_str(".")?;
            }
            f.write_str(line)?;
        }
        let end = if formatted.ends_with(b"\r\n") {
            ".\r\n"
        } else {
            "\r\n.\r\n"
        };
        f.write_str(end)
    }
}

/// What ends an attempt that holds up others.
pub fn gave_way() -> Outcome {
    Outcome::Later("the mail server took its time".to_owned())
}

/// Waits for the reply to a command, and classifies a refusal. Whether the connection can be used all the same.
async fn reply(
    step: Step,
    received: impl Future<Output = Result<Response, Error>>,
) -> Result<(), (Outcome, bool)> {
    let error = match timeout(step.timeout(), received).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => error,
        Err(_) => return Err((timed_out(step.timeout()), false)),
    };
    let text = describe(format_args!("at {step}"), &error);
    let outcome = match error.status() {
        Some(code) if error.is_permanent() => {
            match ends_email(step, code.into(), &reply_text(&error)) {
                true => Outcome::Refused(text),
                false => Outcome::TurnedAway(text),
            }
        }
        _ => Outcome::Later(text),
    };
    // What is about the recipient leaves the connection as it was; 421 announces its end.
    let is_closing = error.status().is_none_or(|code| u16::from(code) == 421);
    let is_usable =
        step == Step::Recipient && !matches!(outcome, Outcome::TurnedAway(_)) && !is_closing;
    Err((outcome, is_usable))
}

/// The error with its step. Not lettre's own text, which calls "permanent" what is retried here.
fn describe(place: impl Display, error: &Error) -> String {
    match error.status() {
        Some(code) => format!("{code} {place}: {}", reply_text(error)),
        None => error.to_string(),
    }
}

/// The text of the server's reply.
fn reply_text(error: &Error) -> String {
    error.source().map(ToString::to_string).unwrap_or_default()
}

fn timed_out(waited: Duration) -> Outcome {
    Outcome::Later(format!("no answer within {} s", waited.as_secs()))
}
