//! An e-mail as its reader sees it, made from its content whenever it is sent or read.

use std::str::FromStr as _;

use jiff::Timestamp;
use jiff::civil::Date;
use minijinja::{Error, Value};

use crate::domain::account::Addressee;
use crate::domain::content::{Content, Login, Order};
use crate::domain::locale::Locale;
use crate::domain::template::{Scope, Template};

/// The reseller as messages show it.
#[derive(Debug, Clone)]
pub struct Branding {
    /// Who signs, such as the reseller's name.
    pub sender: String,
    /// Address of the portal where users sign in and download.
    pub portal_url: String,
}

/// How a message shows the password that its e-mail carries.
#[derive(Clone, Copy)]
pub enum PasswordView<'a> {
    /// The e-mail carries no password.
    None,
    /// In clear.
    Visible {
        plain: &'a str,
        expires_at: Timestamp,
    },
    /// Readable, but not by this reader.
    Hidden,
    /// Expired or replaced.
    Erased,
}

/// A rendered e-mail. It may hold a password, so it has no Debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// The subject; never a secret.
    pub subject: String,
    /// The text part.
    pub text: String,
    /// The HTML part: a whole document.
    pub html: String,
}

/// The template files of an e-mail in one language. The text begins with a line "Subject: …" and an empty one.
struct Files {
    text: Template,
    html: Template,
}

macro_rules! template {
    ($($path:literal),+) => {
        Template {
            path: concat!($($path),+),
            source: include_str!(concat!("../../templates/", $($path),+)),
        }
    };
}

macro_rules! files {
    ($name:literal) => {
        [
            Files {
                text: template!("fr/", $name, ".txt"),
                html: template!("fr/", $name, ".html"),
            },
            Files {
                text: template!("en/", $name, ".txt"),
                html: template!("en/", $name, ".html"),
            },
        ]
    };
}

const LAYOUT: Template = template!("layout.html");

impl Files {
    fn of(content: &Content, locale: Locale) -> Self {
        let [french, english] = match content {
            Content::LicenseActivated(_) => files!("license-activated"),
            Content::PasswordChanged(_) => files!("password-changed"),
            Content::OrderCompleted(_) => files!("order-completed"),
            Content::GroupTerminated(_) => files!("group-terminated"),
            Content::InvoiceIssued(_) => files!("invoice-issued"),
            Content::ContactChanged(_) => files!("contact-changed"),
        };
        match locale {
            Locale::Fr => french,
            Locale::En => english,
        }
    }

    /// The subject's template and the text's.
    fn subject_and_text(&self) -> (Template, Template) {
        let Template { path, source } = self.text;
        let source = source.strip_prefix("Subject: ").unwrap_or(source);
        let (subject, text) = source.split_once("\n\n").unwrap_or((source, ""));
        let of = |source| Template { path, source };
        (of(subject), of(text))
    }
}

/// Renders the subject alone.
///
/// # Errors
/// A template that does not fit its content.
pub fn render_subject(
    content: &Content,
    to: &Addressee,
    effective_at: Timestamp,
    branding: &Branding,
) -> Result<String, Error> {
    let (subject, _) = Files::of(content, to.locale).subject_and_text();
    subject.render(&scope(
        content,
        to,
        effective_at,
        PasswordView::None,
        branding,
    ))
}

/// Renders the whole message. `effective` is when its event took effect.
///
/// # Errors
/// A template that does not fit its content.
pub fn render(
    content: &Content,
    to: &Addressee,
    effective_at: Timestamp,
    password: PasswordView<'_>,
    branding: &Branding,
) -> Result<Message, Error> {
    let files = Files::of(content, to.locale);
    let (subject, text) = files.subject_and_text();
    let mut scope = scope(content, to, effective_at, password, branding);
    let subject = subject.render(&scope)?;
    let text = text.render(&scope)?;
    let body = files.html.render(&scope)?;
    let body = Value::from_safe_string(body.trim_end().to_owned());
    scope.extend([("body", body), ("subject", Value::from(&subject))]);
    let html = LAYOUT.render(&scope)?;
    Ok(Message {
        subject,
        text,
        html,
    })
}

/// The variables of the content's template.
fn scope(
    content: &Content,
    to: &Addressee,
    effective_at: Timestamp,
    password: PasswordView<'_>,
    branding: &Branding,
) -> Scope {
    let locale = to.locale;
    let today = || locale.date(effective_at.to_zoned(to.zone()).date());
    let mut scope = Scope::from([
        ("language", Value::from(locale.tag())),
        ("customer", Value::from(&to.customer)),
        ("sender", Value::from(&branding.sender)),
    ]);
    match content {
        Content::LicenseActivated(login) | Content::PasswordChanged(login) => {
            add_login(&mut scope, login, to, password);
            scope.insert("portal", Value::from(&branding.portal_url));
        }
        Content::OrderCompleted(order) => add_order(&mut scope, order, locale),
        Content::GroupTerminated(group) => scope.extend([
            ("group", Value::from(&group.group)),
            ("licenses", Value::from(locale.licenses(group.licenses))),
            ("terminated", Value::from(today())),
        ]),
        Content::InvoiceIssued(invoice) => {
            let total = invoice.total.as_ref().map(|total| locale.amount(total));
            scope.extend([
                ("number", Value::from(&invoice.number)),
                ("total", Value::from(total.unwrap_or_default())),
                ("month", Value::from(month(&invoice.month, locale))),
                ("issue_date", Value::from(date(&invoice.issue_date, locale))),
                ("due_date", Value::from(date(&invoice.due_date, locale))),
            ]);
        }
        Content::ContactChanged(contact) => scope.extend([
            ("previous", Value::from(&contact.previous)),
            ("current", Value::from(&contact.current)),
            ("to_previous", Value::from(contact.to_previous)),
            ("changed", Value::from(today())),
        ]),
    }
    scope
}

fn add_login(scope: &mut Scope, login: &Login, to: &Addressee, password: PasswordView<'_>) {
    let (plain, expires_at) = match password {
        PasswordView::Visible { plain, expires_at } => {
            (plain, to.locale.instant(expires_at, &to.zone()))
        }
        PasswordView::None | PasswordView::Hidden | PasswordView::Erased => ("", String::new()),
    };
    scope.extend([
        ("offer", Value::from(&login.offer)),
        ("activation_email", Value::from(&login.activation_email)),
        ("user", Value::from(&login.user)),
        ("password", Value::from(plain)),
        (
            "password_hidden",
            Value::from(matches!(password, PasswordView::Hidden)),
        ),
        (
            "password_gone",
            Value::from(matches!(password, PasswordView::Erased)),
        ),
        ("secret_expires", Value::from(expires_at)),
    ]);
}

fn add_order(scope: &mut Scope, order: &Order, locale: Locale) {
    let lines = order.lines.iter().map(|line| {
        Scope::from([
            ("offer", Value::from(&line.offer)),
            ("quantity", Value::from(locale.licenses(line.quantity))),
        ])
    });
    let due_now = order.due_now.as_ref().filter(|due| !due.is_zero());
    scope.extend([
        ("order", Value::from(&order.order)),
        ("group", Value::from(&order.group)),
        ("new_group", Value::from(order.new_group)),
        ("lines", Value::from_iter(lines)),
        (
            "due_now",
            Value::from(due_now.map(|due| locale.amount(due)).unwrap_or_default()),
        ),
    ]);
}

/// An ISO date in words; any other text unchanged.
fn date(iso: &str, locale: Locale) -> String {
    Date::from_str(iso).map_or_else(|_| iso.to_owned(), |date| locale.date(date))
}

/// An ISO month in words; any other text unchanged.
fn month(iso: &str, locale: Locale) -> String {
    Date::from_str(&format!("{iso}-01")).map_or_else(|_| iso.to_owned(), |day| locale.month(day))
}

#[cfg(test)]
mod tests;
