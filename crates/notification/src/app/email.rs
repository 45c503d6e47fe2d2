//! Reading the history of e-mails.

use std::sync::Arc;

use octroi_platform::seal::SealingKeys;
use octroi_platform::{AccountId, Call, Db, Error, Page, ToSql};
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use crate::app::PASSWORD;
use crate::domain::email::{Email, EmailId, Secret};
use crate::domain::letter::{Branding, Letter, Shown, letter, subject};
use crate::store;

/// The scope that lets a caller see passwords.
const SECRETS_SCOPE: &str = "notification.secrets.read";

/// Reads e-mails and renders them for their reader.
pub struct Emails {
    /// The database.
    pub db: Db,
    /// The keys that passwords are sealed with.
    pub keys: Arc<SealingKeys>,
    /// What the installation says of itself.
    pub branding: Branding,
}

/// How much of an e-mail its reader asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Everything but the bodies.
    Basic,
    /// Everything.
    Full,
}

/// An e-mail as its reader may see it.
pub struct Seen {
    /// The e-mail.
    pub email: Email,
    /// Subject and, in the full view, bodies; all empty as long as nobody knows whom it goes to, and so in which
    /// language it speaks.
    pub letter: Letter,
}

impl Emails {
    /// One e-mail, whole. One round trip.
    pub async fn get(&self, call: &Call, id: &EmailId) -> Result<Seen, Error> {
        let email = store::email::get(&self.db, id).await?;
        let email = email.ok_or_else(|| call.not_found(id))?;
        self.seen(call, email, View::Full)
    }

    /// An account's e-mails, newest first. One round trip.
    pub async fn list(
        &self,
        call: &Call,
        parent: &AccountId,
        page: &Page<Uuid>,
    ) -> Result<Vec<Email>, Error> {
        let before = page.after.unwrap_or(Uuid::max());
        let params: [&(dyn ToSql + Sync); 3] = [parent, &before, &page.limit];
        let list = store::email::LIST;
        self.db
            .list(call, parent, list, &params, store::email::from_row)
            .await
    }

    /// An e-mail as its reader may see it.
    ///
    /// # Errors
    /// [`Error::Internal`] when it cannot be rendered or its password cannot be opened.
    pub fn seen(&self, call: &Call, email: Email, view: View) -> Result<Seen, Error> {
        let letter = self.letter(call, &email, view)?;
        Ok(Seen { email, letter })
    }

    fn letter(&self, call: &Call, email: &Email, view: View) -> Result<Letter, Error> {
        let nothing = |subject| Letter {
            subject,
            text: String::new(),
            html: String::new(),
        };
        let Some(to) = &email.addressee else {
            return Ok(nothing(String::new()));
        };
        if view == View::Basic {
            return subject(&email.content, to, email.effective, &self.branding)
                .map(nothing)
                .map_err(|error| Error::Internal(error.into()));
        }
        let password = self.password(call, email)?;
        let shown = match (&email.secret, email.secret.readable(call.now), &password) {
            (Secret::None, ..) => Shown::Nothing,
            (Secret::Readable { expires, .. }, Some(_), Some(password)) => Shown::Password {
                plain: password.expose_secret(),
                expires: *expires,
            },
            (_, Some(_), _) => Shown::Hidden,
            (_, None, _) => Shown::Gone,
        };
        letter(&email.content, to, email.effective, shown, &self.branding)
            .map_err(|error| Error::Internal(error.into()))
    }

    /// The password, if there still is one and the caller may see it.
    fn password(&self, call: &Call, email: &Email) -> Result<Option<SecretString>, Error> {
        let Some(sealed) = email.secret.readable(call.now) else {
            return Ok(None);
        };
        if !call.caller.has_scope(SECRETS_SCOPE) {
            return Ok(None);
        }
        let password = self
            .keys
            .open(sealed, email.id.account.as_str(), email.event, PASSWORD)?;
        tracing::info!(
            email = %email.id,
            subject = call.caller.subject,
            call = %call.id,
            "a password was shown"
        );
        Ok(Some(password))
    }
}
