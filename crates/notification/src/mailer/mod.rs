//! Hands messages over: to a mail server, or to files that stand for the recipients' mailboxes.

pub mod directory;
pub mod message;
pub mod refusal;
pub mod smtp;

use lettre::Message;
use uuid::Uuid;

use self::directory::Directory;
use self::smtp::{Session, Smtp};
use crate::domain::email::Outcome;

/// Where messages go.
pub enum Mailer {
    /// One file each.
    Directory(Directory),
    /// A mail server.
    Smtp(Smtp),
}

/// An open connection of one worker, which sends one message after another.
pub enum Connection<'a> {
    /// Into files.
    Directory(&'a Directory),
    /// Over a connection that is open and authenticated.
    Smtp(Box<Session>),
}

impl Mailer {
    /// Connects.
    ///
    /// # Errors
    /// Why the mail server refuses the connection. No message is at fault, so each is tried again.
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
