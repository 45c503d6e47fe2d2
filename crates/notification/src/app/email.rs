//! Reading the history of e-mails.

use std::sync::Arc;

use jiff::Timestamp;
use octroi_platform::seal::SealingKeys;
use octroi_platform::{AccountId, Call, Db, Error, Page};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::PASSWORD;
use crate::domain::email::{Email, EmailId, Secret};
use crate::domain::message::{Branding, Message, PasswordView, render, render_subject};
use crate::store::email::{LIST, READ, from_row};

/// The scope that lets a caller see passwords.
const SECRETS_SCOPE: &str = "notification.secrets.read";

#[derive(Clone)]
pub struct Emails {
    pub db: Db,
    /// The keys that passwords are sealed with.
    pub keys: Arc<SealingKeys>,
    pub branding: Branding,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Everything but the bodies.
    Basic,
    Full,
}

/// An e-mail as rendered for one reader.
pub struct RenderedEmail {
    pub email: Email,
    /// Subject and, in the full view, bodies. All are empty until the recipient, and so the language, is known.
    pub message: Message,
    /// The business time at which it was read.
    pub read_at: Timestamp,
}

impl Emails {
    /// One e-mail in the full view. One round trip.
    pub async fn get(&self, call: &Call, id: &EmailId) -> Result<RenderedEmail, Error> {
        let row = self.db.query_opt(READ, &[&id.account, &id.id]).await?;
        let email = from_row(&row.ok_or_else(|| call.not_found(id))?)?;
        self.render(call, email, View::Full)
    }

    /// An account's e-mails, newest first. One round trip.
    pub async fn list(
        &self,
        call: &Call,
        account: &AccountId,
        page: &Page<Uuid>,
    ) -> Result<Vec<Email>, Error> {
        let params = [account as _, &page.after as _, &page.limit as _];
        self.db.list(call, account, LIST, &params, from_row).await
    }

    /// Renders an e-mail for the caller.
    ///
    /// # Errors
    /// [`Error::Internal`] when it cannot be rendered or its password cannot be opened.
    pub fn render(&self, call: &Call, email: Email, view: View) -> Result<RenderedEmail, Error> {
        let message = self.message(call, &email, view)?;
        Ok(RenderedEmail {
            email,
            message,
            read_at: call.now,
        })
    }

    fn message(&self, call: &Call, email: &Email, view: View) -> Result<Message, Error> {
        let without_bodies = |subject| Message {
            subject,
            text: String::new(),
            html: String::new(),
        };
        let Some(to) = &email.addressee else {
            return Ok(without_bodies(String::new()));
        };
        if view == View::Basic {
            return render_subject(&email.content, to, email.effective_at, &self.branding)
                .map(without_bodies)
                .map_err(|error| Error::Internal(error.into()));
        }
        let plain = self.password(call, email)?;
        let password = match (&email.secret, email.secret.readable(call.now), &plain) {
            (Secret::None, ..) => PasswordView::None,
            (Secret::Readable { expires_at, .. }, Some(_), Some(plain)) => PasswordView::Visible {
                plain: plain.expose_secret(),
                expires_at: *expires_at,
            },
            (_, Some(_), _) => PasswordView::Hidden,
            (_, None, _) => PasswordView::Erased,
        };
        render(
            &email.content,
            to,
            email.effective_at,
            password,
            &self.branding,
        )
        .map_err(|error| Error::Internal(error.into()))
    }

    /// The password, if it is readable and the caller may see it.
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
            caller = call.caller.subject,
            call = %call.id,
            "a password was shown"
        );
        Ok(Some(password))
    }
}

impl Email {
    /// What the audit keeps of it: no secret.
    pub fn audited(&self) -> Value {
        json!({
            "template": self.content.template(),
            "delivery": format!("{:?}", self.delivery),
            "secret": format!("{:?}", self.secret),
        })
    }
}
