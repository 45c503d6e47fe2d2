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

/// A way to hand over one message after another, by one worker.
pub enum Line<'a> {
    /// Into files.
    Directory(&'a Directory),
    /// Over a connection that is open and authenticated.
    Smtp(Box<Session>),
}

impl Mailer {
    /// Opens a line.
    ///
    /// # Errors
    /// Why the mail server does not take us. No message has anything to do with that, so each is tried again.
    pub async fn open(&self) -> Result<Line<'_>, Outcome> {
        match self {
            Mailer::Directory(directory) => Ok(Line::Directory(directory)),
            Mailer::Smtp(smtp) => Ok(Line::Smtp(Box::new(smtp.open().await?))),
        }
    }
}

impl Line<'_> {
    /// Hands a message over. After anything but [`Outcome::Delivered`] the line must not be used again.
    pub async fn send(&mut self, id: Uuid, message: &Message) -> Outcome {
        match self {
            Line::Directory(directory) => directory.write(id, message.formatted()).await,
            Line::Smtp(session) => session.send(message).await,
        }
    }

    /// Says goodbye.
    pub async fn close(self) {
        if let Line::Smtp(session) = self {
            session.close().await;
        }
    }
}

#[cfg(test)]
mod tests;
