//! Transports: a mail server, or a directory of files.

pub mod directory;
pub mod mime;
pub mod pool;
pub mod refusal;
pub mod smtp;

use lettre::Message;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::directory::Directory;
use self::smtp::{Session, Smtp};
use crate::domain::email::Outcome;

pub enum Mailer {
    Directory(Directory),
    Smtp(Smtp),
}

/// An open connection, which sends one message after another.
pub enum Connection {
    Directory(Directory),
    /// Authenticated.
    Smtp(Box<Session>),
}

impl Mailer {
    /// Connects.
    ///
    /// # Errors
    /// Why the mail server refuses the connection. No message is at fault, so each is retried.
    pub async fn open(&self) -> Result<Connection, Outcome> {
        match self {
            Mailer::Directory(directory) => Ok(Connection::Directory(directory.clone())),
            Mailer::Smtp(smtp) => Ok(Connection::Smtp(Box::new(smtp.open().await?))),
        }
    }
}

impl Connection {
    /// Sends a message, or gives way: that ends the attempt for now, unless the mail server may have the message already.
    pub async fn send(
        &mut self,
        id: Uuid,
        message: &Message,
        give_way: &CancellationToken,
    ) -> Outcome {
        match self {
            Connection::Directory(directory) => directory.write(id, message.formatted()).await,
            Connection::Smtp(session) => session.send(message, give_way).await,
        }
    }

    /// Whether another message can be sent.
    pub fn is_open(&self) -> bool {
        match self {
            Connection::Directory(_) => true,
            Connection::Smtp(session) => session.is_open(),
        }
    }

    pub async fn close(self) {
        if let Connection::Smtp(session) = self {
            session.close().await;
        }
    }
}

#[cfg(test)]
mod tests;
