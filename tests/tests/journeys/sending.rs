//! "You receive an e-mail": once, whatever happens on the way, and at which address.

use std::time::Duration;

use octroi_api::billing::v1::Account;
use octroi_api::notification::v1::ListEmailsRequest;
use octroi_api::notification::v1::email::State;
use octroi_tests::harness::{
    Answer as _, BUSINESS, Customer, Installation, Options, ServiceName, eventually,
};
use tonic::Code;

/// Longer than anything that is tried a few times in a row, shorter than a lease.
const OUTAGE: Duration = Duration::from_secs(4);

async fn with_license(octroi: &Installation) -> Customer {
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    octroi.mailed().await;
    acme
}

/// An e-mail that the mail server does not answer holds up no other.
#[tokio::test]
async fn though_another_hangs() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 2)]).await;
    octroi.mailed().await;
    octroi.mail.be_silent(true);
    for (number, login) in [(1, "sales"), (2, "night")] {
        acme.activates("office", number, login).await;
        eventually("it waits for the mail server's answer", async || {
            (octroi.mail.waiting() == usize::try_from(number).unwrap()).then_some(())
        })
        .await;
    }
    octroi.mail.be_silent(false);
    octroi.mailed().await;
    octroi.finish().await;
}

/// The mail server takes an e-mail, and then the database is away for a while.
#[tokio::test]
async fn once_though_the_database_is_away() {
    let octroi = Installation::with(Options {
        tapped: true,
        ..Options::default()
    })
    .await;
    let acme = with_license(&octroi).await;
    let before = octroi.mail.letters().len();
    octroi.mail.be_silent(true);
    acme.activates("office", 1, "sales").await;
    eventually("the e-mail is being sent", async || {
        let leased = "SELECT FROM notification.email WHERE lease_token IS NOT NULL";
        octroi.sql.query_opt(leased, &[]).await.unwrap()
    })
    .await;
    eventually("it waits for the mail server's answer", async || {
        (octroi.mail.waiting() > 0).then_some(())
    })
    .await;
    octroi.wire(ServiceName::Notification).cut(true);
    octroi.mail.be_silent(false);
    eventually("the mail server takes it", async || {
        (octroi.mail.letters().len() > before).then_some(())
    })
    .await;
    // Nothing happens meanwhile that could be waited for.
    tokio::time::sleep(OUTAGE).await;
    octroi.wire(ServiceName::Notification).cut(false);
    octroi.mailed().await;
    let sent = acme.receives("license-activated", 1).await;
    assert_eq!((sent.state(), sent.attempts), (State::Sent, 1));
    assert_eq!(octroi.mail.letters().len(), before + 1);
    octroi.finish().await;
}

/// An e-mail that no mail server takes is given up 72 hours after its first try.
#[tokio::test]
async fn for_three_days_and_no_longer() {
    let octroi = Installation::start().await;
    let acme = with_license(&octroi).await;
    let later = "451 4.3.0 try again later";
    octroi.mail.answer_next(&[later, later, later]);
    acme.activates("office", 1, "sales").await;
    let tried = async |attempts: i32| {
        eventually("a try failed", async || {
            let email = acme.receives("license-activated", 1).await;
            (email.attempts == attempts && !email.last_error.is_empty()).then_some(email)
        })
        .await
    };
    // Backoff is machine time, which no test clock moves: it is shortened by hand, once the try before has ended.
    let left = async |left: &str| {
        eventually("the try has ended", async || {
            let shorten =
                "UPDATE notification.email SET next_attempt_at = now(), give_up_at = now() + $1::text::interval
                 WHERE state = 'QUEUED' AND lease_token IS NULL";
            let shortened = octroi.sql.execute(shorten, &[&left]).await.unwrap();
            (shortened == 1).then_some(())
        })
        .await;
    };
    assert_eq!(tried(1).await.state(), State::Queued);
    let window = octroi
        .sql
        .query_one(
            "SELECT give_up_at - now() BETWEEN interval '71 hours 55 minutes' AND interval '72 hours'
             FROM notification.email WHERE state = 'QUEUED'",
            &[],
        )
        .await
        .unwrap();
    assert!(window.get::<_, bool>(0));
    left("1 hour").await;
    assert_eq!(tried(2).await.state(), State::Queued);
    left("0").await;
    let failed = eventually("it is given up", async || {
        let email = acme.receives("license-activated", 1).await;
        (email.state() == State::Failed).then_some(email)
    })
    .await;
    assert_eq!(failed.attempts, 3);
    assert!(failed.last_error.contains("451"), "{}", failed.last_error);
    octroi.finish().await;
}

/// A mail server that refuses us, at whatever step, costs no e-mail: each waits until the setting is mended, and `verify`
/// says so. What refuses the recipient or the content ends an e-mail.
#[tokio::test]
async fn when_the_mail_server_takes_us_again() {
    const REFUSALS: [(&str, &str, State); 17] = [
        ("220", "554 5.3.2 not for you", State::Queued),
        ("EHLO", "550 5.7.1 who are you", State::Queued),
        ("MAIL", "550 5.7.1 sender not allowed", State::Queued),
        ("MAIL", "553 5.1.8 no such domain", State::Queued),
        ("MAIL", "550 that is not your address", State::Queued),
        ("RCPT", "554 5.7.1 <x>: Relay access denied", State::Queued),
        ("RCPT", "550 relaying denied", State::Queued),
        ("RCPT", "530 5.7.0 sign in first", State::Queued),
        ("DATA", "554 5.7.1 no", State::Queued),
        (".", "550 5.7.1 Relaying denied", State::Queued),
        (
            ".",
            "554 Message rejected: Email address is not verified.",
            State::Queued,
        ),
        (
            ".",
            "554 5.2.252 SendAsDenied; a@b not allowed to send as c@d",
            State::Queued,
        ),
        ("RCPT", "550 SPF check failed", State::Queued),
        ("RCPT", "550 5.1.1 nobody of that name", State::Failed),
        ("RCPT", "550 mailbox unavailable", State::Failed),
        ("RCPT", "550 Unrouteable address", State::Failed),
        (".", "554 5.7.1 this is spam", State::Failed),
    ];
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    let seats = i32::try_from(REFUSALS.len()).unwrap();
    acme.buys("office", &[(BUSINESS, seats)]).await;
    octroi.mailed().await;
    let mut waiting = Vec::new();
    for (number, (step, answer, state)) in (1..).zip(REFUSALS) {
        octroi.mail.refuse(step, answer);
        acme.activates_generated("office", number, &format!("desk{number}"))
            .await;
        let email = acme
            .receives("license-activated", usize::try_from(number).unwrap())
            .await;
        let email = eventually("the try has ended", async || {
            let email = acme.email(&email.name).await;
            (!email.last_error.is_empty()).then_some(email)
        })
        .await;
        // Those before are not due again before half of 30 s.
        octroi.mail.relent();
        assert_eq!(email.state(), state, "{step} {answer}: {email:?}");
        let (_, words) = answer.split_once(' ').unwrap();
        assert!(email.last_error.contains(words), "{}", email.last_error);
        if state == State::Queued {
            waiting.push(email.name);
        }
    }
    let report = octroi::verify::run(&octroi.plan().databases.admin).await;
    let report = report.unwrap();
    let breached: Vec<_> = report
        .findings
        .iter()
        .filter(|finding| finding.breaches > 0)
        .map(|finding| (finding.check.as_str(), finding.breaches))
        .collect();
    let queued = i64::try_from(waiting.len()).unwrap();
    assert_eq!(
        breached,
        [(
            "e-mails: none waits because the mail server refuses us",
            queued
        )],
        "{report}"
    );
    let hurry = "UPDATE notification.email SET next_attempt_at = now() WHERE state = 'QUEUED'";
    octroi.sql.execute(hurry, &[]).await.unwrap();
    octroi.mailed().await;
    for name in waiting {
        assert_eq!(acme.email(&name).await.state(), State::Sent);
    }
    octroi.finish().await;
}

/// What billing could not tell in time holds nothing up: the e-mail goes to the contact that is known, and both are told
/// of the change when it comes.
#[tokio::test]
async fn to_the_contact_that_is_known() {
    let mut octroi = Installation::start().await;
    let acme = with_license(&octroi).await;
    octroi.stop(ServiceName::Notification).await;
    let contact = Account {
        contact_email: "new@acme.test".to_owned(),
        ..Account::default()
    };
    acme.changes(&["contact_email"], contact).await.got();
    acme.activates("office", 1, "sales").await;
    octroi.stop(ServiceName::Billing).await;
    octroi.restart(ServiceName::Notification).await;
    let email = acme.receives("license-activated", 1).await;
    let sent = eventually("it is sent", async || {
        let email = acme.email(&email.name).await;
        (email.state() == State::Sent).then_some(email)
    })
    .await;
    assert_eq!(sent.recipient, "office@acme.test");
    octroi.restart(ServiceName::Billing).await;
    acme.receives("contact-changed", 2).await;
    assert_eq!(acme.email(&sent.name).await.recipient, "office@acme.test");
    octroi.mailed().await;
    let letters = octroi.mail.letters();
    let mut told: Vec<_> = letters
        .iter()
        .filter(|letter| letter.text().contains("new@acme.test"))
        .flat_map(|letter| &letter.to)
        .collect();
    told.sort();
    assert_eq!(told, ["new@acme.test", "office@acme.test"]);
    octroi.finish().await;
}

/// An account that is not known here is not found, as one that is about to be.
#[tokio::test]
async fn to_nobody_there_is_none() {
    let octroi = Installation::start().await;
    let request = ListEmailsRequest {
        parent: "accounts/nobody".to_owned(),
        ..ListEmailsRequest::default()
    };
    let mut emails = octroi.operator().emails();
    let refused = emails.list_emails(request).await.refused();
    refused.is(Code::NotFound, "NOT_FOUND");
    octroi.finish().await;
}
