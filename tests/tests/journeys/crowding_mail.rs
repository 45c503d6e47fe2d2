//! Many e-mails at once: who has few of them waits for nobody who has many, and nobody for a mailbox that is slow.

use octroi_api::billing::v1::Account;
use octroi_api::notification::v1::email::State;
use octroi_tests::harness::{
    Answer as _, BUSINESS, Customer, Installation, Letter, Options, eventually,
};

/// More than are sent at the same time.
const SLOW: usize = 20;
/// What one account has waiting.
const MANY: usize = 200;
/// So many e-mails a second.
const RATE: u32 = 40;
/// As many as may be under way, or leased to be sent next, before another account's e-mail comes.
const UNDER_WAY: usize = 60;

async fn with_license(octroi: &Installation, id: &str) -> Customer {
    let customer = octroi.customer(id).await;
    customer.buys("office", &[(BUSINESS, 1)]).await;
    octroi.mailed().await;
    customer
}

/// Queues copies of an e-mail that was sent to `from`.
async fn queues(octroi: &Installation, from: &str, to: &str, copies: usize) {
    let queue = format!(
        "INSERT INTO notification.email (account, id, event, effective_at, template, parameters, message_id, state,
             next_attempt_at, license, secret_state)
         SELECT '{to}', md5('{to}' || g)::uuid, md5('{to}' || g)::uuid, effective_at, template, parameters,
                '<' || g || '@{to}.test>', 'QUEUED', now() - interval '1 hour', '', 'NONE'
         FROM notification.email, generate_series(1, {copies}) g
         WHERE account = '{from}' AND template = 'order-completed'"
    );
    octroi.sql.batch_execute(&queue).await.unwrap();
}

/// Mailboxes at many domains do not answer; another account's e-mail comes while they do not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_mailboxes_hold_up_no_other_account() {
    let octroi = Installation::start().await;
    let slow = octroi.customer("slow").await;
    let other = with_license(&octroi, "other").await;
    let domain = |number: usize| format!("slow{number}.test");
    octroi.mail.be_silent_to((0..SLOW).map(domain));
    for number in 0..SLOW / 2 {
        let contact = Account {
            contact_email: format!("it@{}", domain(number)),
            ..Account::default()
        };
        slow.changes(&["contact_email"], contact).await.got();
    }
    // To the new address and, but for the first time, to the one before.
    let stuck = SLOW - 1;
    eventually("every lane that there was is held", async || {
        (octroi.mail.waiting() >= stuck.min(12)).then_some(())
    })
    .await;
    other.activates("office", 1, "sales").await;
    eventually("it is sent all the same", async || {
        let email = other.receives("license-activated", 1).await;
        (email.state() == State::Sent).then_some(())
    })
    .await;
    assert!(octroi.mail.waiting() >= 12, "they still wait");
    octroi.mail.be_silent_to([]);
    octroi.mailed().await;
    octroi.finish().await;
}

/// An account with many e-mails stands between the others', and no more are sent than the mail server is to get.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_of_one_account_hold_up_no_other_and_keep_to_the_rate() {
    let octroi = Installation::with(Options {
        mail_rate: Some(RATE),
        ..Options::default()
    })
    .await;
    with_license(&octroi, "acme").await;
    let other = with_license(&octroi, "other").await;
    let before = octroi.mail.letters().len();
    octroi.mail.be_silent(true);
    queues(&octroi, "acme", "acme", MANY).await;
    eventually("they are being sent", async || {
        (octroi.mail.waiting() > 0).then_some(())
    })
    .await;
    other.activates("office", 1, "sales").await;
    eventually("the other one is queued", async || {
        let queued = "SELECT FROM notification.email WHERE account = 'other' AND template = 'license-activated'";
        octroi.sql.query_opt(queued, &[]).await.unwrap()
    })
    .await;
    octroi.mail.be_silent(false);
    octroi.mailed().await;
    let letters = octroi.mail.letters().split_off(before);
    assert_eq!(letters.len(), MANY + 1);
    let email = other.receives("license-activated", 1).await;
    let is_other = |letter: &Letter| letter.header("Message-ID") == email.message_id;
    let place = letters.iter().position(is_other).unwrap();
    assert!(place < UNDER_WAY, "behind {place} of another account");
    // Those that were under way when the mail server spoke again arrive at once.
    let rest = &letters[UNDER_WAY..];
    let took = rest[rest.len() - 1].at - rest[0].at;
    let least = (rest.len() - 1 - UNDER_WAY) as f64 / f64::from(RATE);
    assert!(took.as_secs_f64() >= least, "{} in {took:?}", rest.len());
    octroi.abandon().await;
}

/// E-mails of an account that is not known wait without being looked at again and again, and leave as soon as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_an_account_is_left_alone_until_it_is_known() {
    let octroi = Installation::start().await;
    with_license(&octroi, "acme").await;
    queues(&octroi, "acme", "late", MANY).await;
    let waiting = |what: &str| {
        format!(
            "SELECT count(*) FROM notification.email WHERE account = 'late' AND state = 'QUEUED' AND {what}"
        )
    };
    eventually("they are put off", async || {
        let off = waiting("next_attempt_at > now() + interval '4 minutes' AND place IS NULL");
        let off: i64 = octroi.sql.query_one(&off, &[]).await.unwrap().get(0);
        (usize::try_from(off).unwrap() == MANY).then_some(())
    })
    .await;
    octroi.customer("late").await;
    octroi.mailed().await;
    let letters = octroi.mail.letters();
    let late = letters
        .iter()
        .filter(|it| it.header("Message-ID").ends_with("@late.test>"));
    assert_eq!(late.count(), MANY);
    octroi.abandon().await;
}
