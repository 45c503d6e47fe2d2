//! Activating licences, and the e-mail with the user's password.

use anyhow::Context as _;
use octroi_api::licensing::v1::{ActivateLicenseRequest, License, LicenseUser};
use octroi_api::notification::v1::{Email, EmailView, ListEmailsRequest, email};

use super::stage::{ACCOUNT, GROUP, Stage, done, eventually};
use crate::output;

const CHOSEN_PASSWORD: &str = "Chosen-by-us-7";

/// Further seats, users and logins. The last two are of the larger offer.
const USERS: [(i32, (&str, &str), &str); 4] = [
    (2, ("Front", "Office"), "front"),
    (3, ("Back", "Office"), "back"),
    (16, ("Data", "Team"), "data"),
    (17, ("Night", "Shift"), "night"),
];

/// "Activate your licence"; returns the password that was mailed.
pub(super) async fn first(stage: &mut Stage) -> anyhow::Result<String> {
    stage.at("2026-11-25T09:10").await?;
    stage.chapter("Activate a licence")?;
    let license = activate(stage, 1, ("Sales", "Desk"), "sales", "").await?;
    stage.report(
        "ActivateLicense",
        format!("{}: {}", license.name, license.activation_email),
    )?;
    let email = mailed(stage, &license.activation_email).await?;
    stage.report(
        "ListEmails",
        format!("to {}: {}", email.recipient, email.subject),
    )?;
    output::line("")?;
    for line in email.text_body.lines() {
        output::line(format_args!("      | {line}"))?;
    }
    output::line("")?;
    let password = email
        .text_body
        .lines()
        .find_map(|line| line.trim().strip_prefix("Password:"))
        .context("the e-mail holds no password")?;
    Ok(password.trim().to_owned())
}

/// More users, with a password of the customer's choice.
pub(super) async fn more(stage: &mut Stage) -> anyhow::Result<()> {
    stage.at("2026-11-26T14:00").await?;
    stage.chapter("Activate more licences")?;
    for (seat, user, login) in USERS {
        let license = activate(stage, seat, user, login, CHOSEN_PASSWORD).await?;
        stage.report(
            "ActivateLicense",
            format!(
                "seat {seat}, {}: {}",
                license.offer, license.activation_email
            ),
        )?;
    }
    Ok(())
}

/// Activates a licence; for an empty password one is generated.
async fn activate(
    stage: &mut Stage,
    seat: i32,
    (first_name, last_name): (&str, &str),
    login: &str,
    password: &str,
) -> anyhow::Result<License> {
    let request = ActivateLicenseRequest {
        name: format!("{GROUP}/licenses/{seat}"),
        user: Some(LicenseUser {
            first_name: first_name.to_owned(),
            last_name: last_name.to_owned(),
        }),
        activation_email: login.to_owned(),
        password: password.to_owned(),
        ..ActivateLicenseRequest::default()
    };
    let answer = stage.api.licenses.activate_license(request).await;
    done("ActivateLicense", answer)
}

/// The e-mail with a user's password, once it is sent.
async fn mailed(stage: &Stage, address: &str) -> anyhow::Result<Email> {
    eventually("the e-mail with the password", || {
        let mut emails = stage.api.emails.clone();
        async move {
            let request = ListEmailsRequest {
                parent: ACCOUNT.to_owned(),
                view: EmailView::Full.into(),
                ..ListEmailsRequest::default()
            };
            let sent = done("ListEmails", emails.list_emails(request).await)?.emails;
            Ok(sent.into_iter().find(|email| {
                email.template == "license-activated"
                    && email.state() == email::State::Sent
                    && email.text_body.contains(address)
            }))
        }
    })
    .await
}
