//! E-mails on their way to the mail server, beside a client that has nothing else to do.

use std::time::{Duration, Instant};

use lettre::address::Envelope;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::extension::ClientId;
use octroi_tests::harness::{ENTERPRISE, Letter};
use tokio::task::JoinSet;

use crate::report::{Bar, Report};
use crate::run::Run;

/// As many connections as notification has fast lanes.
const CONNECTIONS: u64 = 12;
/// Over how many domains the addresses are spread.
const DOMAINS: u64 = 50;

pub fn measure(run: &Run, report: &mut Report) {
    let letter = sample(run);
    run.installation.mail.forget();
    let count = run.size.pick(120, 5_000);
    let bare = blast(run, &letter, count);
    let mut first = None;
    for waiting in run
        .size
        .pick(vec![200, 400], vec![2_000, 100_000, 1_000_000])
    {
        fill(run, waiting);
        let rate = sent(run, count.min(waiting * 3 / 4));
        run.sql("DELETE FROM notification.email WHERE state = 'QUEUED'");
        report.ratio(
            &format!("sent while {waiting} wait"),
            "e-mails/s",
            rate,
            ("lettre, the same message and connections", bare),
            Bar::AtLeast(0.5),
        );
        let few = *first.get_or_insert(rate);
        if few != rate {
            report.ratio(
                &format!("the same while {waiting} wait"),
                "e-mails/s",
                rate,
                ("with the fewest", few),
                Bar::AtLeast(0.8),
            );
        }
    }
}

/// What a customer is told of an order.
fn sample(run: &Run) -> Letter {
    let customer = run.customer("bench");
    run.waits(async {
        customer.buys("office", &[(ENTERPRISE, 1)]).await;
        customer.receives("order-completed", 1).await;
        run.installation.mailed().await;
    });
    run.installation.mail.letters().pop().unwrap()
}

/// Sends the message over and over, as fast as the mail server takes it; how many a second.
fn blast(run: &Run, letter: &Letter, count: u64) -> f64 {
    let port = run.installation.mail.port();
    let to = letter.to.iter().map(|it| it.parse().unwrap()).collect();
    let envelope = Envelope::new(Some(letter.from.parse().unwrap()), to).unwrap();
    let message = letter.message.clone().into_bytes();
    run.calls(async move {
        let begun = Instant::now();
        let mut senders = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let (envelope, message) = (envelope.clone(), message.clone());
            senders.spawn(async move {
                let hello = ClientId::Domain("bench.test".to_owned());
                let server = ("127.0.0.1", port);
                let connected =
                    AsyncSmtpConnection::connect_tokio1(server, None, &hello, None, None);
                let mut connection = connected.await.unwrap();
                for _ in 0..count / CONNECTIONS {
                    connection.send(&envelope, &message).await.unwrap();
                }
                connection.quit().await.unwrap();
            });
        }
        while let Some(sender) = senders.join_next().await {
            sender.unwrap();
        }
        (count / CONNECTIONS * CONNECTIONS) as f64 / begun.elapsed().as_secs_f64()
    })
}

/// Puts so many e-mails in line, each of an account of its own.
fn fill(run: &Run, waiting: u64) {
    run.sql(&format!(
        "INSERT INTO notification.account
         SELECT r.* FROM notification.account a, generate_series(1, {waiting}) n, jsonb_populate_record(a,
             jsonb_build_object('account', 'mailed-' || n, 'contact_email', 'it@' || n % {DOMAINS} || '.test')) r
         WHERE a.account = 'bench' AND a.version = 1
         ON CONFLICT DO NOTHING;
         INSERT INTO notification.email
         SELECT r.* FROM notification.email e, generate_series(1, {waiting}) n, jsonb_populate_record(e,
             jsonb_build_object('account', 'mailed-' || n, 'id', gen_random_uuid(), 'state', 'QUEUED', 'place', now(),
                 'sent_at', NULL, 'attempts', 0, 'give_up_at', NULL, 'recipient', NULL, 'locale', NULL,
                 'customer', NULL, 'time_zone', NULL)) r
         WHERE e.account = 'bench' AND e.template = 'order-completed';"
    ));
}

/// How many are sent a second, once they are being sent.
fn sent(run: &Run, count: u64) -> f64 {
    let mail = &run.installation.mail;
    let from = mail.count() + count / 10;
    let until = from + count - count / 10;
    run.waits(async {
        let reached = async |count: u64| {
            while mail.count() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            (Instant::now(), mail.count())
        };
        let (begun, first) = reached(from).await;
        let (ended, last) = reached(until).await;
        (last - first) as f64 / (ended - begun).as_secs_f64()
    })
}
