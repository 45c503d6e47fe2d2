//! An e-mail as its reader sees it, made from its content whenever it is sent or shown.

use std::str::FromStr as _;

use jiff::Timestamp;
use jiff::civil::Date;

use crate::domain::account::Addressee;
use crate::domain::content::{Content, Login, Order};
use crate::domain::locale::Locale;
use crate::domain::template::{Format, Scope, TemplateError, Value, render};

/// What the installation says of itself.
#[derive(Debug, Clone)]
pub struct House {
    /// Who signs, such as the reseller's name.
    pub sender: String,
    /// Address of the portal where users sign in and download.
    pub portal_url: String,
}

/// What a reader may see of the password that an e-mail carries.
#[derive(Clone, Copy)]
pub enum Shown<'a> {
    /// It carries none.
    Nothing,
    /// The password.
    Password {
        /// In clear.
        plain: &'a str,
        /// Until when it can be read again.
        expires: Timestamp,
    },
    /// That there is one which this reader may not see.
    Hidden,
    /// That there was one.
    Gone,
}

/// A rendered e-mail. It may hold a password, so it has no Debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Letter {
    /// The subject; never a secret.
    pub subject: String,
    /// The text part.
    pub text: String,
    /// The HTML part: a whole document.
    pub html: String,
}

/// The template files of an e-mail in one language. The text begins with a line "Subject: …" and an empty one.
struct Files {
    text: &'static str,
    html: &'static str,
}

const LAYOUT: &str = include_str!("../../templates/layout.html");

macro_rules! files {
    ($name:literal) => {
        [
            Files {
                text: include_str!(concat!("../../templates/fr/", $name, ".txt")),
                html: include_str!(concat!("../../templates/fr/", $name, ".html")),
            },
            Files {
                text: include_str!(concat!("../../templates/en/", $name, ".txt")),
                html: include_str!(concat!("../../templates/en/", $name, ".html")),
            },
        ]
    };
}

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
    fn subject_and_text(&self) -> Result<(&'static str, &'static str), TemplateError> {
        self.text
            .strip_prefix("Subject: ")
            .and_then(|rest| rest.split_once("\n\n"))
            .ok_or(TemplateError::BadTag)
    }
}

/// Renders the subject alone.
///
/// # Errors
/// A template that does not fit its content.
pub fn subject(
    content: &Content,
    to: &Addressee,
    effective: Timestamp,
    house: &House,
) -> Result<String, TemplateError> {
    let (subject, _) = Files::of(content, to.locale).subject_and_text()?;
    let scope = scope(content, to, effective, Shown::Nothing, house);
    render(subject, &scope, Format::Text)
}

/// Renders the whole letter. `effective` is when what it tells of took effect.
///
/// # Errors
/// A template that does not fit its content.
pub fn letter(
    content: &Content,
    to: &Addressee,
    effective: Timestamp,
    shown: Shown<'_>,
    house: &House,
) -> Result<Letter, TemplateError> {
    let files = Files::of(content, to.locale);
    let (subject, text) = files.subject_and_text()?;
    let mut scope = scope(content, to, effective, shown, house);
    let subject = render(subject, &scope, Format::Text)?;
    let text = render(text, &scope, Format::Text)?;
    let body = render(files.html, &scope, Format::Html)?;
    scope.insert("body", Value::Html(body.trim_end().to_owned()));
    scope.insert("subject", Value::Text(subject.clone()));
    let html = render(LAYOUT, &scope, Format::Html)?;
    Ok(Letter {
        subject,
        text,
        html,
    })
}

/// Everything that the content's template may name.
fn scope(
    content: &Content,
    to: &Addressee,
    effective: Timestamp,
    shown: Shown<'_>,
    house: &House,
) -> Scope {
    let locale = to.locale;
    let today = || locale.date(effective.to_zoned(to.zone()).date());
    let mut scope = Scope::from([
        ("language", text(locale.tag())),
        ("customer", text(&to.customer)),
        ("sender", text(&house.sender)),
    ]);
    match content {
        Content::LicenseActivated(login) | Content::PasswordChanged(login) => {
            add_login(&mut scope, login, to, shown);
            scope.insert("portal", text(&house.portal_url));
        }
        Content::OrderCompleted(order) => add_order(&mut scope, order, locale),
        Content::GroupTerminated(group) => scope.extend([
            ("group", text(&group.group)),
            ("licenses", Value::Text(locale.licenses(group.licenses))),
            ("terminated", Value::Text(today())),
        ]),
        Content::InvoiceIssued(invoice) => {
            let total = invoice.total.as_ref().map(|total| locale.amount(total));
            scope.extend([
                ("number", text(&invoice.number)),
                ("total", Value::Text(total.unwrap_or_default())),
                ("month", Value::Text(month(&invoice.month, locale))),
                ("issue_date", Value::Text(date(&invoice.issue_date, locale))),
                ("due_date", Value::Text(date(&invoice.due_date, locale))),
            ]);
        }
        Content::ContactChanged(contact) => scope.extend([
            ("previous", text(&contact.previous)),
            ("current", text(&contact.current)),
            ("to_previous", flag(contact.to_previous)),
            ("changed", Value::Text(today())),
        ]),
    }
    scope
}

fn add_login(scope: &mut Scope, login: &Login, to: &Addressee, shown: Shown<'_>) {
    let (password, expires) = match shown {
        Shown::Password { plain, expires } => (plain, to.locale.instant(expires, &to.zone())),
        Shown::Nothing | Shown::Hidden | Shown::Gone => ("", String::new()),
    };
    scope.extend([
        ("offer", text(&login.offer)),
        ("activation_email", text(&login.activation_email)),
        ("user", text(&login.user)),
        ("password", text(password)),
        ("password_hidden", flag(matches!(shown, Shown::Hidden))),
        ("password_gone", flag(matches!(shown, Shown::Gone))),
        ("secret_expires", Value::Text(expires)),
    ]);
}

fn add_order(scope: &mut Scope, order: &Order, locale: Locale) {
    let lines = order
        .lines
        .iter()
        .map(|line| {
            Scope::from([
                ("offer", text(&line.offer)),
                ("quantity", Value::Text(locale.licenses(line.quantity))),
            ])
        })
        .collect();
    let due_now = order.due_now.as_ref().filter(|due| !due.is_zero());
    scope.extend([
        ("order", text(&order.order)),
        ("group", text(&order.group)),
        ("new_group", flag(order.new_group)),
        ("lines", Value::List(lines)),
        (
            "due_now",
            Value::Text(due_now.map(|due| locale.amount(due)).unwrap_or_default()),
        ),
    ]);
}

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

fn flag(value: bool) -> Value {
    text(if value { "yes" } else { "" })
}

/// A date as the contracts write it, in words; as it came if it is none.
fn date(iso: &str, locale: Locale) -> String {
    Date::from_str(iso).map_or_else(|_| iso.to_owned(), |date| locale.date(date))
}

/// A month as the contracts write it, in words; as it came if it is none.
fn month(iso: &str, locale: Locale) -> String {
    Date::from_str(&format!("{iso}-01")).map_or_else(|_| iso.to_owned(), |day| locale.month(day))
}

#[cfg(test)]
mod tests;
