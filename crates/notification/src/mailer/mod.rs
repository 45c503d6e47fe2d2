//! Transports: a mail server, or a directory of files.

pub mod directory;
pub mod mime;
pub mod refusal;
pub mod smtp;

use lettre::Message;
use uuid::Uuid;

use self::directory::Directory;
use self::smtp::{Session, Smtp};
use crate::domain::email::Outcome;

pub enum Mailer {
    Directory(Directory),
    Smtp(Smtp),
}

/// An open connection of one worker, which sends one message after another.
pub enum Connection<'a> {
    Directory(&'a Directory),
    /// Authenticated.
    Smtp(Box<Session>),
}

impl Mailer {
    /// Connects.
    ///
    /// # Errors
    /// Why the mail server refuses the connection. No message is at fault, so each is retried.
    pub async fn open(&self) -> Result<Connection<'_>, Outcome> {
        match self {
            Mailer::Directory(directory) => Ok(Connection::Directory(directory)),
            Mailer::Smtp(smtp) => Ok(Connection::Smtp(Box::new(smtp.open().await?))),
        }
    }
}

impl Connection<'_> {
    /// Sends a message. After anything but [`Outcome::Delivered`] the connection must not be used again.
    pub async fn send(&mut self, id: Uuid, message: &Message) -> Outcome {
        match self {
            Connection::Directory(directory) => directory.write(id, message.formatted()).await,
            Connection::Smtp(session) => session.send(message).await,
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
