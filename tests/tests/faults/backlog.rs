//! A backlog is worked off however large it is and whatever lies in it.

use octroi_api::billing::v1::{Account, UpdateAccountRequest};
use octroi_tests::harness::{
    Answer as _, BUSINESS, Installation, Options, ServiceName, eventually,
};
use prost_types::FieldMask;

use crate::log::{first_of, open_to, rewrite};

/// What a service reads of one message, in bytes.
const MESSAGE: usize = 4 << 20;
/// A field of `Event` that no release has, with a text of 2^23 + 1 bytes at most.
const PADDING: [u8; 2] = [0xa2, 0x3f];

/// More events of more aggregates than one delivery carries.
#[tokio::test]
async fn is_worked_off_to_the_end() {
    const ACCOUNTS: usize = 63;
    const CHANGES: usize = 7;
    let mut octroi = Installation::start().await;
    octroi.stop(ServiceName::Notification).await;
    let mut customers = Vec::new();
    for number in 0..ACCOUNTS {
        customers.push(octroi.newcomer(&format!("acme{number}")).await);
    }
    for change in 0..CHANGES {
        for customer in &customers {
            let request = UpdateAccountRequest {
                account: Some(Account {
                    name: customer.name(),
                    contact_email: format!("office{change}@acme.test"),
                    ..Account::default()
                }),
                update_mask: Some(FieldMask {
                    paths: vec!["contact_email".to_owned()],
                }),
                ..UpdateAccountRequest::default()
            };
            customer.by.accounts().update_account(request).await.got();
        }
    }
    octroi.restart(ServiceName::Notification).await;
    octroi.finish().await;
}

/// Deliveries are under way while more is looked for: over one connection neither waits for the other in vain.
#[tokio::test(flavor = "multi_thread")]
async fn is_worked_off_over_one_connection() {
    const EVENTS: usize = 3_000;
    let octroi = Installation::with(Options {
        pool_size: 1,
        watched: true,
        ..Options::default()
    })
    .await;
    octroi.records_invoices(0..EVENTS, false).await;
    octroi.drained().await;
    let metrics = octroi.watched(ServiceName::Billing).metrics().await;
    let waits = |of: &str| -> f64 {
        let series = format!("octroi_db_wait_seconds_{of}");
        let shown = metrics.lines().find_map(|line| line.strip_prefix(&series));
        shown.unwrap().trim().parse().unwrap()
    };
    let all = waits(r#"count{service="billing",share="background"}"#);
    let short = waits(r#"bucket{service="billing",share="background",le="5"}"#);
    assert!(all > 0.0);
    assert!(
        (all - short).abs() < 0.5,
        "of {all} waits {short} were short"
    );
    octroi.abandon().await;
}

/// Events that are too heavy for one message go in several; one that is too heavy by itself is parked and holds up its
/// own aggregate alone.
#[tokio::test]
async fn goes_in_pieces_that_the_receiver_takes() {
    let mut octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 8)]).await;
    octroi.drained().await;
    octroi.stop(ServiceName::Billing).await;
    let held = acme.license_name("office", 4);
    let mut whole = Vec::new();
    for number in 1..=8 {
        let login = format!("user{number}");
        acme.activates("office", number, &login).await;
        // Notification has taken it as it was: it is billing alone that cannot.
        eventually("notification has it", async || {
            let waiting = open_to(&octroi, "notification").await;
            waiting.is_empty().then_some(())
        })
        .await;
        let name = acme.license_name("office", number);
        let body = first_of(&octroi.sql, &name).await;
        let weight = if name == held { MESSAGE } else { MESSAGE / 3 };
        rewrite(&octroi.sql, &name, &padded(&body, weight)).await;
        if name == held {
            whole = body;
        }
    }
    octroi.restart(ServiceName::Billing).await;

    // The pauses between its tries are cut short.
    let hurry = "UPDATE licensing.delivery SET due_at = clock_timestamp() WHERE NOT parked AND due_at > clock_timestamp()";
    let waiting = eventually("only the one too heavy is left, and parked", async || {
        octroi.sql.execute(hurry, &[]).await.unwrap();
        let waiting = open_to(&octroi, "billing").await;
        (waiting.len() == 1 && waiting[0].parked).then_some(waiting)
    })
    .await;
    assert_eq!(waiting[0].aggregate, held);
    assert!(waiting[0].last_error.contains("larger than"), "{waiting:?}");

    rewrite(&octroi.sql, &held, &whole).await;
    let admin = &octroi.plan().databases.admin;
    let again = octroi::replay::run(admin).await.unwrap();
    assert!(
        matches!(again.as_slice(), [one] if one.contains(&held)),
        "{again:?}"
    );
    octroi.finish().await;
}

/// The same event and so many bytes that say nothing.
fn padded(body: &[u8], bytes: usize) -> Vec<u8> {
    let mut padded = body.to_vec();
    padded.extend(PADDING);
    let mut length = bytes;
    while length >= 0x80 {
        padded.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    padded.push(u8::try_from(length).unwrap());
    padded.resize(padded.len() + bytes, b' ');
    padded
}
