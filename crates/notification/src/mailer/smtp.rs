//! A mail server, spoken to over connections that are as private as the settings say, or not at all.
//!
//! lettre's own pool is not used: a message whose try is given up in the middle would leave its connection in it, and
//! the next message would read the answer to this one. Here a worker owns its connection and drops it after anything
//! unexpected. lettre's `tracing` feature must stay off: it logs every command, the password's among them.

use std::time::Duration;

use lettre::Message;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::timeout;

use crate::domain::email::Outcome;

/// How long connecting, TLS and signing in may take together.
const OPEN: Duration = Duration::from_secs(30);

/// How long handing one message over may take. A server that takes longer may have taken the message all the same; it
/// then gets it twice, under one Message-ID.
const SEND: Duration = Duration::from_secs(2 * 60);

/// How long saying goodbye may take.
const CLOSE: Duration = Duration::from_secs(2);

/// How a connection is made private.
pub enum Tls {
    /// TLS from the first byte.
    Implicit(TlsParameters),
    /// STARTTLS, without which nothing is said.
    Starttls(TlsParameters),
    /// Not at all.
    Plaintext,
}

/// A mail server and how to reach it.
pub struct Smtp {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is made private.
    pub tls: Tls,
    /// User and password, where it wants them.
    pub credentials: Option<(String, SecretString)>,
    /// The name that we greet it with.
    pub hello: ClientId,
}

/// An open connection.
pub struct Session {
    connection: AsyncSmtpConnection,
}

impl Smtp {
    /// Connects and signs in.
    ///
    /// # Errors
    /// What failed, in words.
    pub async fn open(&self) -> Result<Session, String> {
        match timeout(OPEN, self.connect()).await {
            Ok(Ok(connection)) => Ok(Session { connection }),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", OPEN.as_secs())),
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
    /// Hands a message over.
    pub async fn send(&mut self, message: &Message) -> Outcome {
        let formatted = message.formatted();
        let sending = self.connection.send(message.envelope(), &formatted);
        match timeout(SEND, sending).await {
            Ok(Ok(_)) => Outcome::Delivered,
            Ok(Err(error)) => outcome(&error),
            Err(_) => Outcome::Later(format!("no answer within {} s", SEND.as_secs())),
        }
    }

    /// Says goodbye.
    pub async fn close(mut self) {
        let _ = timeout(CLOSE, self.connection.quit()).await;
    }
}

/// What an error says of the message. A refusal of us rather than of the message (530, 534, 535 and 538 ask for another
/// sign-in) is a matter of settings: the message waits until they are right.
fn outcome(error: &Error) -> Outcome {
    let text = error.to_string();
    let code = error.status().map(u16::from);
    if error.is_permanent() && !matches!(code, Some(530 | 534 | 535 | 538)) {
        return Outcome::Refused(text);
    }
    // The server lacks what this message needs, such as SMTPUTF8 for its address; nothing was sent.
    if error.is_client() {
        return Outcome::Refused(text);
    }
    Outcome::Later(text)
}
