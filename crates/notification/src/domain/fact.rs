//! Facts of the other services, and the e-mails that follow from them.

use jiff::Timestamp;
use octroi_platform::name::AccountId;
use uuid::Uuid;

use crate::domain::account::{Account, Addressee};
use crate::domain::content::{Contact, Content, Group, Invoice, Login, Order};
use crate::domain::email::{Delivery, Email, EmailId, SECRET_LIFE, Secret};

/// Something that happened to an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    pub account: AccountId,
    /// The event that reported it.
    pub event: Uuid,
    /// When it took effect, in business time.
    pub effective_at: Timestamp,
    /// What happened.
    pub kind: FactKind,
}

/// Its kind and data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FactKind {
    /// The account was created or changed.
    AccountChanged {
        /// As it is from then on.
        account: Account,
        /// The contact address before, if that changed.
        previous_contact: Option<String>,
    },
    /// A licence was activated.
    LicenseActivated {
        /// Resource name of the licence.
        license: String,
        /// Who signs in.
        login: Login,
    },
    /// A licence's password was changed.
    PasswordChanged {
        /// Resource name of the licence.
        license: String,
        /// Who signs in; none when the new password is not to be mailed.
        mailed: Option<Login>,
    },
    /// A licence has no user any more, and so no password.
    LicenseDeactivated {
        /// Resource name of the licence.
        license: String,
    },
    /// An order was paid and its licences exist.
    OrderCompleted(Order),
    /// A group was terminated.
    GroupTerminated(Group),
    /// An invoice was issued.
    InvoiceIssued(Invoice),
}

/// An event whose password must be mailed came without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a password is to be mailed and did not come with its event")]
pub struct PasswordMissing;

impl Fact {
    /// The licence whose earlier passwords end with this fact. A licence's facts arrive in their own order, so
    /// "earlier" is all that is here.
    pub fn ends_passwords_of(&self) -> Option<&str> {
        match &self.kind {
            FactKind::LicenseActivated { license, .. }
            | FactKind::PasswordChanged { license, .. }
            | FactKind::LicenseDeactivated { license } => Some(license),
            FactKind::AccountChanged { .. }
            | FactKind::OrderCompleted(_)
            | FactKind::GroupTerminated(_)
            | FactKind::InvoiceIssued(_) => None,
        }
    }

    /// The e-mails about it. `sealed` is the password that came with the event; `domain` is that of the Message-IDs.
    ///
    /// # Errors
    /// A password is to be mailed and none came.
    pub fn emails(
        &self,
        sealed: Option<&[u8]>,
        domain: &str,
    ) -> Result<Vec<Email>, PasswordMissing> {
        let plain = |content| vec![self.email(0, content, None, Secret::None, domain)];
        let carrying = |content, license: &str| {
            let secret = Secret::Readable {
                license: license.to_owned(),
                sealed: sealed.ok_or(PasswordMissing)?.to_vec(),
                expires_at: self
                    .effective_at
                    .saturating_add(SECRET_LIFE)
                    .unwrap_or(Timestamp::MAX),
            };
            Ok(vec![self.email(0, content, None, secret, domain)])
        };
        match &self.kind {
            FactKind::AccountChanged {
                account,
                previous_contact: Some(previous),
            } => Ok(self.contact_changed(account, previous, domain)),
            FactKind::LicenseActivated { license, login } => {
                carrying(Content::LicenseActivated(login.clone()), license)
            }
            FactKind::PasswordChanged {
                license,
                mailed: Some(login),
            } => carrying(Content::PasswordChanged(login.clone()), license),
            FactKind::OrderCompleted(order) => Ok(plain(Content::OrderCompleted(order.clone()))),
            FactKind::GroupTerminated(group) => Ok(plain(Content::GroupTerminated(group.clone()))),
            FactKind::InvoiceIssued(invoice) => Ok(plain(Content::InvoiceIssued(invoice.clone()))),
            FactKind::AccountChanged { .. }
            | FactKind::PasswordChanged { .. }
            | FactKind::LicenseDeactivated { .. } => Ok(Vec::new()),
        }
    }

    /// To the previous address as well as the new one.
    fn contact_changed(&self, account: &Account, previous: &str, domain: &str) -> Vec<Email> {
        let copy = |nth, to_previous, to: &str| {
            let content = Content::ContactChanged(Contact {
                previous: previous.to_owned(),
                current: account.contact_email.clone(),
                to_previous,
            });
            let to = account.addressee_at(to.to_owned(), self.effective_at);
            self.email(nth, content, Some(to), Secret::None, domain)
        };
        vec![
            copy(0, false, &account.contact_email),
            copy(1, true, previous),
        ]
    }

    fn email(
        &self,
        nth: u8,
        content: Content,
        addressee: Option<Addressee>,
        secret: Secret,
        domain: &str,
    ) -> Email {
        let id = email_id(self.event, nth);
        Email {
            id: EmailId {
                account: self.account.clone(),
                id,
            },
            event: self.event,
            effective_at: self.effective_at,
            content,
            message_id: format!("<{id}@{domain}>"),
            addressee,
            delivery: Delivery::Queued,
            attempts: 0,
            last_error: String::new(),
            secret,
        }
    }
}

/// The id of an event's nth e-mail: the event's own for the first, so that ids sort as the facts do and the same facts
/// lead to the same e-mails in whatever order they arrive.
fn email_id(event: Uuid, nth: u8) -> Uuid {
    let mut bytes = event.into_bytes();
    bytes[15] ^= nth;
    Uuid::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::locale::Locale;

    fn fact(kind: FactKind) -> Fact {
        Fact {
            account: AccountId::new("acme"),
            event: Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_00a0),
            effective_at: "2026-11-22T17:00:00Z".parse().unwrap(),
            kind,
        }
    }

    fn login() -> Login {
        Login {
            offer: "Apps for business".to_owned(),
            activation_email: "desk@acme.example".to_owned(),
            user: "Sales Desk".to_owned(),
        }
    }

    const LICENSE: &str = "accounts/acme/licenseGroups/office/licenses/1";

    #[test]
    fn an_activation_carries_its_password_for_seven_days() {
        let fact = fact(FactKind::LicenseActivated {
            license: LICENSE.to_owned(),
            login: login(),
        });
        assert_eq!(fact.ends_passwords_of(), Some(LICENSE));
        assert_eq!(fact.emails(None, "d"), Err(PasswordMissing));
        let emails = fact.emails(Some(b"sealed"), "octroi.test").unwrap();
        assert_eq!(emails.len(), 1);
        assert_eq!(emails[0].id.id, fact.event);
        assert_eq!(
            emails[0].message_id,
            format!("<{}@octroi.test>", fact.event)
        );
        let last = "2026-11-29T16:59:59.999999Z".parse().unwrap();
        let end = "2026-11-29T17:00:00Z".parse().unwrap();
        assert_eq!(emails[0].secret.readable(last), Some(&b"sealed"[..]));
        assert_eq!(emails[0].secret.readable(end), None);
    }

    #[test]
    fn a_password_that_is_not_mailed_only_ends_the_earlier_one() {
        let quiet = fact(FactKind::PasswordChanged {
            license: LICENSE.to_owned(),
            mailed: None,
        });
        assert_eq!(quiet.ends_passwords_of(), Some(LICENSE));
        assert_eq!(quiet.emails(None, "d").unwrap(), []);
        let mailed = fact(FactKind::PasswordChanged {
            license: LICENSE.to_owned(),
            mailed: Some(login()),
        });
        assert_eq!(mailed.emails(Some(b"s"), "d").unwrap().len(), 1);
    }

    #[test]
    fn both_addresses_are_notified_of_a_change() {
        let account = Account {
            version: 2,
            contact_email: "new@acme.example".to_owned(),
            locale: Locale::Fr,
            legal_name: "Acme SAS".to_owned(),
            zones: Vec::new(),
        };
        let changed = |previous_contact| {
            fact(FactKind::AccountChanged {
                account: account.clone(),
                previous_contact,
            })
        };
        assert_eq!(changed(None).emails(None, "d").unwrap(), []);
        let emails = changed(Some("old@acme.example".to_owned()))
            .emails(None, "d")
            .unwrap();
        let to: Vec<_> = emails
            .iter()
            .filter_map(|email| email.addressee.as_ref())
            .map(|to| to.email.as_str())
            .collect();
        assert_eq!(to, ["new@acme.example", "old@acme.example"]);
        assert_ne!(emails[0].id, emails[1].id);
    }

    #[test]
    fn an_event_s_emails_have_ids_of_their_own() {
        for last in 0..=255 {
            let event = Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0000 + last);
            assert_eq!(email_id(event, 0), event);
            assert_ne!(email_id(event, 1), event);
            assert_eq!(email_id(email_id(event, 1), 1), event);
        }
    }
}
