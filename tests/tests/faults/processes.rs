//! The three services as three processes: started in any order, one of them gone for a while, told to stop in the
//! middle of a call, or there twice.

use std::collections::BTreeSet;

use octroi_api::billing::v1::{Account, UpdateAccountRequest};
use octroi_api::licensing::v1::order;
use octroi_api::notification::v1::ListEmailsRequest;
use octroi_tests::harness::{
    Answer as _, BUSINESS, Caller, Customer, ServiceName, eventually, mailed_password, new_group,
};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::Code;
use uuid::Uuid;

use crate::chance::Chance;
use crate::rounds;
use crate::services::Services;
use crate::shopper::{Shopper, is_loss, kept, open_accounts};
use crate::stored::{converged, end_leases, leases_end_soon, sound};

use ServiceName::{Billing, Licensing, Notification};

/// The rounds of an ordinary run: one for each service.
const ORDINARY: usize = 3;
/// A kill and the start after it come within so many milliseconds each.
const KILL_WITHIN: u64 = 500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn started_in_any_order() {
    let mut octroi = Services::prepare().await;
    let orders = [
        [Licensing, Billing, Notification],
        [Licensing, Notification, Billing],
        [Billing, Licensing, Notification],
        [Billing, Notification, Licensing],
        [Notification, Licensing, Billing],
        [Notification, Billing, Licensing],
    ];
    for (at, order) in orders.into_iter().enumerate() {
        for service in order {
            octroi.starts(service).await;
        }
        plays_a_life(&octroi, &format!("acme-{at}")).await;
        for service in order {
            octroi.stop(service).await;
        }
    }
    octroi.start_all().await;
    plays_a_life(&octroi, "acme-together").await;
    finish(octroi).await;
}

/// An account, an order, its payment, an activation, and the e-mail that tells of it.
async fn plays_a_life(octroi: &Services, id: &str) {
    let customer = octroi.customer(id).await;
    customer.buys("office", &[(BUSINESS, 2)]).await;
    let license = customer.activates_generated("office", 1, "sales").await;
    assert_eq!(
        license.activation_email,
        format!("sales@office.{id}.users.example.com")
    );
    let email = customer.receives("license-activated", 1).await;
    let password = mailed_password(&email.text_body);
    eventually("the mail server has it", async || {
        let letters = octroi.mail.letters();
        let mut letters = letters.iter();
        letters
            .any(|letter| letter.text().contains(&password))
            .then_some(())
    })
    .await;
    let address = &license.activation_email;
    customer.signs_in(address, &password).await.got();
}

/// Everything comes to its end by itself, what is stored is sound, and each process stops well, having kept what it
/// knows to itself.
async fn finish(mut octroi: Services) {
    converged(&octroi.sql).await;
    sound(&octroi.admin(), &octroi.sql).await;
    for service in ServiceName::ALL {
        let ended = octroi.stop(service).await;
        for letter in octroi.mail.letters() {
            let text = letter.text();
            if text.contains("Password: ") {
                let password = mailed_password(&text);
                assert!(!ended.said.contains(&password), "{service} told a password");
            }
        }
    }
}

/// Whatever is not told to the dead is told to them later; what needs their answer is refused, and a payment that was
/// begun is completed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_is_gone_for_a_while() {
    let mut octroi = Services::prepare().await;
    octroi.start_all().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 3)]).await;
    acme.asks_for_more("more", "office", &[(BUSINESS, 1)])
        .await
        .got();

    // Killed at rest: what a dead process has leased is another test's.
    converged(&octroi.sql).await;
    octroi.kill(Notification).await;
    acme.buys("branch", &[(BUSINESS, 1)]).await;
    acme.activates("office", 1, "first").await;
    assert!(octroi.undelivered().await > 0);
    octroi.starts(Notification).await;
    acme.receives("order-completed", 2).await;
    acme.receives("license-activated", 1).await;

    converged(&octroi.sql).await;
    octroi.kill(Billing).await;
    acme.activates("office", 2, "second").await;
    let refused = acme
        .asks_for("o2", new_group("shop"), &[(BUSINESS, 1)])
        .await
        .refused();
    refused.is(Code::Unavailable, "UNAVAILABLE");
    let refused = acme.pays("more").await.refused();
    refused.is(Code::Unavailable, "PAYMENT_PROCESSING");
    acme.receives("license-activated", 2).await;
    octroi.starts(Billing).await;
    eventually("the payment ends by itself", async || {
        (acme.order("more").await.state() == order::State::Completed).then_some(())
    })
    .await;

    converged(&octroi.sql).await;
    octroi.kill(Licensing).await;
    let late = octroi.customer("late").await;
    moves(&acme, "new@acme.test").await;
    acme.receives("contact-changed", 2).await;
    octroi.starts(Licensing).await;
    late.buys("office", &[(BUSINESS, 1)]).await;
    acme.activates("office", 3, "third").await;
    let email = acme.receives("license-activated", 3).await;
    assert_eq!(email.recipient, "new@acme.test");
    finish(octroi).await;
}

/// Changes the contact of an account.
async fn moves(customer: &Customer, contact: &str) {
    let request = UpdateAccountRequest {
        account: Some(Account {
            name: customer.name(),
            contact_email: contact.to_owned(),
            ..Account::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["contact_email".to_owned()],
        }),
        ..UpdateAccountRequest::default()
    };
    customer.by.accounts().update_account(request).await.got();
}

/// `OCTROI_PROCESS_ROUNDS` says how many rounds, `OCTROI_PROCESS_SEED` which ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_is_killed_while_everybody_buys() {
    let rounds = rounds("OCTROI_PROCESS_ROUNDS", ORDINARY);
    let mut chance = Chance::from_environment("OCTROI_PROCESS_SEED");
    let mut octroi = Services::prepare().await;
    octroi.start_all().await;
    let mut shoppers = open_accounts(&octroi.operator()).await;
    for round in 0..rounds {
        let victim = ServiceName::ALL[round % 3];
        let (stop, stopped) = watch::channel(false);
        let mut shopping = JoinSet::new();
        for shopper in shoppers {
            let operator = octroi.operator();
            shopping.spawn(shops(shopper, operator, chance.split(), stopped.clone()));
        }
        chance.pause(KILL_WITHIN).await;
        octroi.kill(victim).await;
        chance.pause(KILL_WITHIN).await;
        let before = Uuid::now_v7();
        octroi.starts(victim).await;
        chance.pause(KILL_WITHIN).await;
        stop.send_replace(true);
        shoppers = shopping.join_all().await;
        leases_end_soon(&octroi.sql, before).await;
        // A longer run waits, the last time, until the leases of the dead have ended by themselves.
        if round + 1 < rounds || rounds <= ORDINARY {
            end_leases(&octroi.sql, before, &[victim]).await;
        }
        converged(&octroi.sql).await;
        sound(&octroi.admin(), &octroi.sql).await;
        kept(&octroi.sql, &shoppers).await;
    }
    let operator = octroi.operator();
    for shopper in &mut shoppers {
        shopper.finishes(&operator).await;
    }
    let completed: usize = shoppers.iter().map(|shopper| shopper.completed.len()).sum();
    println!("{completed} orders were said to be completed");
    assert!(completed >= rounds, "too little was going on");
    finish(octroi).await;
}

/// Buys until an answer is lost or it is time to stop.
async fn shops(
    mut shopper: Shopper,
    by: Caller,
    mut chance: Chance,
    mut stopped: watch::Receiver<bool>,
) -> Shopper {
    tokio::select! {
        status = shopper.shops(by, &mut chance) => {
            assert!(is_loss(&status), "an answer that a kill does not explain: {status:?}");
        }
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
    shopper
}

/// Told to stop, a service takes no new connection, answers what it was asked, and ends well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_under_way_is_answered() {
    let mut octroi = Services::prepare().await;
    octroi.start_all().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    converged(&octroi.sql).await;
    let customer = acme.clone();
    let activation = async move {
        customer.activates("office", 1, "sales").await;
    };
    let lock = "SELECT FROM licensing.license FOR UPDATE";
    drains(&mut octroi, Licensing, lock, activation).await;

    let customer = acme.clone();
    let change = async move { moves(&customer, "new@acme.test").await };
    let lock = "SELECT FROM billing.account FOR UPDATE";
    drains(&mut octroi, Billing, lock, change).await;

    let customer = acme.clone();
    let reading = async move {
        let parent = customer.name();
        let request = ListEmailsRequest {
            parent,
            ..ListEmailsRequest::default()
        };
        customer.by.emails().list_emails(request).await.got();
    };
    let lock = "LOCK TABLE notification.email";
    drains(&mut octroi, Notification, lock, reading).await;

    octroi.start_all().await;
    acme.receives("license-activated", 1).await;
    acme.receives("contact-changed", 2).await;
    finish(octroi).await;
}

/// Holds a call up by a lock, tells its service to stop meanwhile, and lets the call go on.
async fn drains(
    octroi: &mut Services,
    service: ServiceName,
    lock: &str,
    call: impl Future<Output = ()> + Send + 'static,
) {
    octroi.sql.batch_execute("BEGIN").await.unwrap();
    octroi.sql.batch_execute(lock).await.unwrap();
    let call = tokio::spawn(call);
    eventually("the call waits for the lock", async || {
        // The work in the background skips what is locked, but for a table.
        let waiting = "SELECT FROM pg_stat_activity WHERE usename = $1 AND wait_event_type = 'Lock'
             AND query NOT LIKE '%delivery::due%'";
        // Within a transaction the first look would be every later one's too.
        let clear = "SELECT pg_stat_clear_snapshot()";
        octroi.sql.batch_execute(clear).await.unwrap();
        let role = format!("octroi_{service}");
        let waiting = octroi.sql.query(waiting, &[&role]).await.unwrap();
        (!waiting.is_empty()).then_some(())
    })
    .await;
    let port = octroi.port(service);
    let mut process = octroi.take(service);
    process.terminate();
    eventually("nobody is let in", async || {
        let connected = TcpStream::connect(("127.0.0.1", port)).await;
        connected.is_err().then_some(())
    })
    .await;
    assert!(process.runs(), "{service} did not wait for the call");
    assert!(!call.is_finished());
    octroi.sql.batch_execute("COMMIT").await.unwrap();
    call.await.unwrap();
    let ended = process.ended().await;
    assert_eq!(ended.code, Some(0), "{service}: {}", ended.said);
}

/// Two instances of each service share the work: each fact is applied once, each order charged once, each e-mail sent
/// once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_is_there_twice() {
    let mut octroi = Services::prepare().await;
    octroi.start_all().await;
    octroi.mail.be_silent(true);
    let alone = octroi.operator();
    buy_at(&octroi, ["acme-0", "acme-1"], &[alone.clone(), alone]).await;
    eventually("the e-mails are queued", async || {
        (octroi.undelivered().await == 0).then_some(())
    })
    .await;
    let (seconds, second) = octroi.start_seconds().await;
    // Half of them are left for the second instance: one sends four at the same time at most.
    eventually("both are sending", async || {
        let leased = "SELECT count(*) FROM notification.email WHERE lease_expires_at > now()";
        let row = octroi.sql.query_one(leased, &[]).await.unwrap();
        (row.get::<_, i64>(0) > 4).then_some(())
    })
    .await;
    let twins = [octroi.operator(), second];
    buy_at(&octroi, ["acme-2", "acme-3"], &twins).await;
    octroi.mail.be_silent(false);
    converged(&octroi.sql).await;
    let letters = octroi.mail.letters();
    let each: BTreeSet<_> = letters
        .iter()
        .map(|letter| letter.header("Message-ID"))
        .collect();
    // An order, its invoice and two activations of each customer.
    assert_eq!((letters.len(), each.len()), (16, 16));
    for process in seconds {
        process.terminate();
        let ended = process.ended().await;
        assert_eq!(ended.code, Some(0), "{}", ended.said);
    }
    finish(octroi).await;
}

/// Customers order at one instance and activate at both.
async fn buy_at(octroi: &Services, customers: [&str; 2], twins: &[Caller; 2]) {
    let mut shopping = JoinSet::new();
    for id in customers {
        let mut customer = octroi.customer(id).await;
        let twins = twins.clone();
        shopping.spawn(async move {
            customer.buys("office", &[(BUSINESS, 2)]).await;
            for (number, twin) in (1..).zip(twins) {
                customer.by = twin;
                let login = format!("user{number}");
                customer.activates("office", number, &login).await;
            }
        });
    }
    shopping.join_all().await;
}

/// An address that nobody has is hashed for like any other: the memory that a hash takes is touched in both cases, by a
/// process that has hashed nothing before.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_address_is_hashed_for() {
    /// Argon2id's 19 MiB in KiB, but for what the system counts late.
    const HASH: u64 = 18 * 1024;
    let mut octroi = Services::prepare().await;
    octroi.start_all().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    let license = acme.activates("office", 1, "sales").await;
    let unknown = license.activation_email.replace("sales", "nobody");
    for address in [unknown, license.activation_email] {
        octroi.stop(Licensing).await;
        octroi.starts(Licensing).await;
        acme.license("office", 1).await;
        let before = octroi.peak_memory(Licensing);
        let refused = acme.signs_in(&address, "Wrong-Kettle-42").await.refused();
        refused.is(Code::Unauthenticated, "SIGN_IN_FAILED");
        let grown = octroi.peak_memory(Licensing) - before;
        assert!((HASH..2 * HASH).contains(&grown), "{address}: {grown} KiB");
    }
    finish(octroi).await;
}
