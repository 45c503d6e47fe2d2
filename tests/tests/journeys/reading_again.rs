//! "You can also find this e-mail again": the history of e-mails, and how long a password in it can be read.

use jiff::Timestamp;
use octroi_api::billing::v1::{Account, UpdateAccountRequest};
use octroi_api::licensing::v1::{
    ChangeOwnPasswordRequest, ChangePasswordRequest, DeleteLicenseRequest, ReleaseLicenseRequest,
};
use octroi_api::notification::v1::email::{SecretState, State};
use octroi_api::notification::v1::{Email, GetEmailRequest, ListEmailsRequest};
use octroi_tests::harness::{
    Answer as _, BUSINESS, CHOSEN, Customer, Installation, eventually, instant, mailed_password,
};
use prost_types::FieldMask;
use tonic::Code;

#[tokio::test]
async fn for_seven_days() {
    let octroi = Installation::start().await;
    let acme = with_licenses(&octroi, 1).await;
    acme.activates("office", 1, "sales").await;
    let email = acme.receives("license-activated", 1).await;
    assert_eq!(email.secret_state(), SecretState::Readable);
    let expiry = instant(email.secret_expire_time);
    let activated = instant(acme.license("office", 1).await.activate_time);
    assert_eq!(expiry, activated + jiff::SignedDuration::from_hours(7 * 24));
    assert_eq!(mailed_password(&email.text_body), CHOSEN);

    octroi.advance_to("2026-02-09T07:59:00Z").await;
    assert_eq!(
        mailed_password(&acme.email(&email.name).await.text_body),
        CHOSEN
    );
    octroi.advance_to_instant(expiry).await;
    let erased = acme.email(&email.name).await;
    assert_gone(&erased);
    // The e-mail itself stays.
    assert_eq!(
        (&erased.subject, &erased.message_id),
        (&email.subject, &email.message_id)
    );
    octroi.finish().await;
}

#[tokio::test]
async fn until_it_changes_or_is_void() {
    let octroi = Installation::start().await;
    let acme = with_licenses(&octroi, 4).await;
    let mut first = Vec::new();
    for (number, login) in [(1, "changed"), (2, "own"), (3, "released"), (4, "deleted")] {
        let address = acme
            .activates("office", number, login)
            .await
            .activation_email;
        first.push(letter_for(&acme, &address).await);
    }
    let change = ChangePasswordRequest {
        name: acme.license_name("office", 1),
        password: "Green-Lantern-7".to_owned(),
        ..ChangePasswordRequest::default()
    };
    acme.by.licenses().change_password(change).await.got();
    let session = acme
        .signs_in("own@office.acme.users.octroi.example", CHOSEN)
        .await
        .got();
    let own = ChangeOwnPasswordRequest {
        current_password: CHOSEN.to_owned(),
        new_password: "Green-Lantern-7".to_owned(),
        ..ChangeOwnPasswordRequest::default()
    };
    let user = acme.by.with_session(&session.session_token);
    user.portal().change_own_password(own).await.got();
    let release = ReleaseLicenseRequest {
        name: acme.license_name("office", 3),
        ..ReleaseLicenseRequest::default()
    };
    acme.by.licenses().release_license(release).await.got();
    let delete = DeleteLicenseRequest {
        name: acme.license_name("office", 4),
        ..DeleteLicenseRequest::default()
    };
    acme.by.licenses().delete_license(delete).await.got();
    octroi.drained().await;
    for email in first {
        assert_gone(&acme.email(&email.name).await);
    }
    octroi.finish().await;
}

#[tokio::test]
async fn by_those_who_may() {
    let octroi = Installation::start().await;
    let acme = with_licenses(&octroi, 1).await;
    acme.activates("office", 1, "sales").await;
    let email = acme.receives("license-activated", 1).await;
    let name = email.name.clone();
    let reader = octroi.caller("notification.emails.read");
    let hidden = reader
        .emails()
        .get_email(GetEmailRequest { name: name.clone() })
        .await
        .got();
    assert_eq!(hidden.secret_state(), SecretState::Readable);
    for body in [&hidden.text_body, &hidden.html_body] {
        assert!(!body.contains(CHOSEN) && body.contains("hidden"), "{body}");
    }
    let allowed = octroi.caller("notification.emails.read notification.secrets.read");
    let shown = allowed
        .emails()
        .get_email(GetEmailRequest { name })
        .await
        .got();
    assert_eq!(mailed_password(&shown.text_body), CHOSEN);

    let request = ListEmailsRequest {
        parent: acme.name(),
        ..ListEmailsRequest::default()
    };
    let listed = acme.by.emails().list_emails(request).await.got().emails;
    assert_eq!(listed[0].name, email.name, "newest first");
    assert!(
        listed
            .iter()
            .all(|it| it.text_body.is_empty() && it.html_body.is_empty())
    );
    assert!(listed.iter().all(|it| !it.subject.is_empty()));
    let unknown = format!(
        "{}/emails/01890000-0000-7000-8000-000000000000",
        acme.name()
    );
    let refused = acme
        .by
        .emails()
        .get_email(GetEmailRequest { name: unknown })
        .await
        .refused();
    refused.is(Code::NotFound, "NOT_FOUND");
    let bad = acme
        .by
        .emails()
        .get_email(GetEmailRequest {
            name: "emails/1".to_owned(),
        })
        .await
        .refused();
    bad.names(&["name"]);
    octroi.finish().await;
}

/// A mail that was not sent yet is withdrawn when its password changes.
#[tokio::test]
async fn never_sent_once_it_is_void() {
    let octroi = Installation::start().await;
    let acme = with_licenses(&octroi, 1).await;
    octroi.mailed().await;
    octroi.mail.answer_next(&["451 4.3.0 try again later"]);
    acme.activates("office", 1, "sales").await;
    let waiting = eventually("the first try failed", async || {
        let email = acme.receives("license-activated", 1).await;
        (!email.last_error.is_empty()).then_some(email)
    })
    .await;
    assert_eq!(waiting.state(), State::Queued);
    assert!(waiting.last_error.contains("451"), "{}", waiting.last_error);
    let change = ChangePasswordRequest {
        name: acme.license_name("office", 1),
        ..ChangePasswordRequest::default()
    };
    acme.by.licenses().change_password(change).await.got();
    acme.receives("password-changed", 1).await;
    let withdrawn = acme.email(&waiting.name).await;
    assert_eq!(withdrawn.state(), State::Withdrawn);
    assert_gone(&withdrawn);
    octroi.mailed().await;
    assert!(
        octroi
            .mail
            .letters()
            .iter()
            .all(|letter| !letter.text().contains(CHOSEN))
    );
    octroi.finish().await;
}

/// 4xx is tried again under the same Message-ID, 5xx is the end.
#[tokio::test]
async fn when_the_mail_server_says_no() {
    let octroi = Installation::start().await;
    let acme = with_licenses(&octroi, 2).await;
    octroi.mailed().await;
    octroi.mail.answer_next(&["451 4.3.0 try again later"]);
    acme.activates("office", 1, "sales").await;
    let waiting = eventually("the first try failed", async || {
        let email = acme.receives("license-activated", 1).await;
        (!email.last_error.is_empty()).then_some(email)
    })
    .await;
    // Backoff is machine time, which no test clock moves.
    let due = "UPDATE notification.email SET next_attempt_at = now() WHERE state = 'QUEUED'";
    octroi.sql.execute(due, &[]).await.unwrap();
    octroi.mailed().await;
    let sent = acme.email(&waiting.name).await;
    assert_eq!((sent.state(), sent.attempts), (State::Sent, 2));
    assert_eq!(sent.message_id, waiting.message_id);
    assert!(
        octroi
            .mail
            .letters()
            .iter()
            .any(|letter| letter.header("Message-ID") == sent.message_id)
    );

    octroi.mail.answer_next(&["550 5.1.1 nobody here"]);
    acme.activates("office", 2, "night").await;
    let failed = eventually("the mail is given up", async || {
        let email = acme.receives("license-activated", 2).await;
        (email.state() == State::Failed).then_some(email)
    })
    .await;
    assert!(failed.last_error.contains("550"), "{}", failed.last_error);
    octroi.finish().await;
}

/// A mail server that takes its time gets the e-mail once: its lease is short, and renewed while the answer is awaited.
#[tokio::test]
async fn when_the_mail_server_takes_its_time() {
    const LEASE: &str =
        "SELECT lease_expires_at FROM notification.email WHERE lease_token IS NOT NULL";
    let octroi = Installation::start().await;
    let acme = with_licenses(&octroi, 1).await;
    octroi.mailed().await;
    octroi.mail.be_silent(true);
    acme.activates("office", 1, "sales").await;
    let lease = async || -> Option<Timestamp> {
        let row = octroi.sql.query_opt(LEASE, &[]).await.unwrap();
        row.map(|row| row.get(0))
    };
    let first = eventually("the e-mail is being sent", async || lease().await).await;
    eventually("its lease is renewed", async || {
        lease().await.filter(|renewed| *renewed > first)
    })
    .await;
    octroi.mail.be_silent(false);
    octroi.mailed().await;
    let sent = acme.receives("license-activated", 1).await;
    assert_eq!((sent.state(), sent.attempts), (State::Sent, 1));
    let letters = octroi.mail.letters();
    let copies = letters
        .iter()
        .filter(|letter| letter.header("Message-ID") == sent.message_id);
    assert_eq!(copies.count(), 1);
    octroi.finish().await;
}

/// Mail goes to the contact as it is then, and a change of contact is told to the old one too.
#[tokio::test]
async fn at_a_new_address() {
    let octroi = Installation::start().await;
    let acme = with_licenses(&octroi, 1).await;
    octroi.mailed().await;
    let request = UpdateAccountRequest {
        account: Some(Account {
            name: acme.name(),
            contact_email: "new@acme.test".to_owned(),
            ..Account::default()
        }),
        update_mask: Some(FieldMask {
            paths: vec!["contact_email".to_owned()],
        }),
        ..UpdateAccountRequest::default()
    };
    acme.by.accounts().update_account(request).await.got();
    acme.activates("office", 1, "sales").await;
    let email = acme.receives("license-activated", 1).await;
    assert_eq!(email.recipient, "new@acme.test");
    acme.receives("contact-changed", 2).await;
    octroi.mailed().await;
    let mut told: Vec<_> = acme
        .emails()
        .await
        .into_iter()
        .filter(|email| email.template == "contact-changed")
        .map(|email| email.recipient)
        .collect();
    told.sort();
    assert_eq!(told, ["new@acme.test", "office@acme.test"]);
    octroi.finish().await;
}

async fn with_licenses(octroi: &Installation, count: i32) -> Customer {
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, count)]).await;
    acme
}

async fn letter_for(acme: &Customer, address: &str) -> Email {
    eventually("the activation's e-mail", async || {
        let emails = acme.emails().await;
        emails
            .into_iter()
            .find(|email| email.text_body.contains(address))
    })
    .await
}

#[track_caller]
fn assert_gone(email: &Email) {
    assert_eq!(email.secret_state(), SecretState::Erased);
    for body in [&email.text_body, &email.html_body] {
        assert!(!body.contains(CHOSEN) && body.contains("erased"), "{body}");
    }
}
