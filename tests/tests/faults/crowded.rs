//! A caller with more calls than the database takes keeps nobody else out.

use std::time::Duration;

use octroi_api::billing::v1::{Account, GetAccountRequest, UpdateAccountRequest};
use octroi_api::licensing::v1::order;
use octroi_tests::harness::{
    Answer as _, BUSINESS, Caller, Customer, Installation, Options, Refused, ServiceName,
    eventually, new_group,
};
use prost::Message as _;
use prost_types::FieldMask;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use crate::held::{begun, connected};

/// More than wait for one caller and have a connection, over so many connections of its own.
const CROWD: usize = 400;
const CONNECTIONS: usize = 4;
const RENAME: &str = "octroi.billing.v1.AccountService/UpdateAccount";
/// How many commands of one caller have a connection of eight: the two that are anybody's, and one of the commands' two.
const BEGUN: i64 = 3;

fn rename(customer: &Customer, name: &str) -> UpdateAccountRequest {
    UpdateAccountRequest {
        account: Some(Account {
            name: customer.name(),
            legal_name: name.to_owned(),
            ..Account::default()
        }),
        update_mask: Some(FieldMask {
            paths: vec!["legal_name".to_owned()],
        }),
        ..UpdateAccountRequest::default()
    }
}

async fn reads(by: &Caller, customer: &Customer) -> Account {
    let name = customer.name();
    let request = GetAccountRequest { name };
    by.accounts().get_account(request).await.got()
}

/// One caller's commands all wait for a locked row. What is beyond its part is refused at once; another caller reads and
/// changes meanwhile, the caller itself reads, and what the services ask and tell each other goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_a_caller_whose_commands_wait() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    let zeta = octroi.customer("zeta").await;
    octroi.drained().await;
    let lock = "BEGIN; SELECT FROM billing.account WHERE account = 'acme' FOR UPDATE";
    octroi.sql.batch_execute(lock).await.unwrap();
    let callers: Vec<_> = (0..CONNECTIONS).map(|_| octroi.bound_to("acme")).collect();
    let mut crowd = JoinSet::new();
    for number in 0..CROWD {
        let by = callers[number % CONNECTIONS].clone();
        let request = rename(&acme, &format!("Acme {number}"));
        crowd.spawn(async move {
            let answer = by.accounts().update_account(request).await;
            answer.err().map(|status| Refused::of(&status))
        });
    }
    // Nothing else ends while the row is locked.
    let refused = crowd.join_next().await.unwrap().unwrap().unwrap();
    refused.is(Code::ResourceExhausted, "TOO_MANY_CALLS");
    assert_eq!(refused.retry, Some(Duration::from_secs(1)));

    let other = octroi.bound_to("zeta");
    reads(&other, &zeta).await;
    reads(&callers[0], &acme).await;
    let change = rename(&zeta, "Zeta again");
    other.accounts().update_account(change).await.got();
    // Licensing has billing settle the order, and tells it of the activation.
    zeta.buys("office", &[(BUSINESS, 1)]).await;
    zeta.activates("office", 1, "sales").await;
    eventually("billing is told of it", async || {
        let told = "SELECT FROM billing.usage_interval WHERE account = 'zeta'";
        octroi.sql.query_opt(told, &[]).await.unwrap()
    })
    .await;
    octroi.sql.batch_execute("ROLLBACK").await.unwrap();
    while let Some(answered) = crowd.join_next().await {
        drop(answered.unwrap());
    }
    octroi.finish().await;
}

/// Orders that wait for their account in billing hold up no other account's, from the quote to the licences.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_orders_of_a_locked_account() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    let zeta = octroi.customer("zeta").await;
    let orders: Vec<String> = (0..12).map(|number| format!("order-{number}")).collect();
    for order in &orders {
        acme.asks_for(order, new_group(order), &[(BUSINESS, 1)])
            .await
            .got();
    }
    octroi.drained().await;
    let lock = "BEGIN; SELECT FROM billing.account WHERE account = 'acme' FOR UPDATE";
    octroi.sql.batch_execute(lock).await.unwrap();
    let mut paying = JoinSet::new();
    for order in orders {
        let acme = acme.clone();
        paying.spawn(async move { drop(acme.pays(&order).await) });
    }
    eventually("as many wait for the account as can", async || {
        let waiting = "SELECT FROM pg_stat_activity WHERE application_name = 'octroi-billing' AND wait_event_type = 'Lock'
            HAVING count(*) >= 3";
        octroi.sql.query_opt(waiting, &[]).await.unwrap()
    })
    .await;
    let bought = zeta.buys("office", &[(BUSINESS, 1)]).await;
    assert_eq!(bought.state(), order::State::Completed);
    octroi.sql.batch_execute("ROLLBACK").await.unwrap();
    while paying.join_next().await.is_some() {}
    octroi.finish().await;
}

/// Who leaves while they wait, or comes to their deadline, is out of the queue, and nothing is done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_none_who_have_left() {
    let octroi = Installation::with(Options {
        watched: true,
        ..Options::default()
    })
    .await;
    let acme = octroi.customer("acme").await;
    octroi.drained().await;
    let before = version(&octroi).await;
    let lock = "BEGIN; SELECT FROM billing.account WHERE account = 'acme' FOR UPDATE";
    octroi.sql.batch_execute(lock).await.unwrap();
    let watched = octroi.watched(ServiceName::Billing);
    let waiting = async |some: bool| {
        let series = "octroi_db_waiting{share=\"commands\"}";
        eventually("they wait, or do no more", async || {
            let shown = watched.shows(series).await;
            (shown.unwrap() > 0.0).eq(&some).then_some(())
        })
        .await;
    };
    let by = octroi.operator();
    let mut crowd = JoinSet::new();
    for number in 0..CROWD / 2 {
        let (by, request) = (by.clone(), rename(&acme, &format!("Acme {number}")));
        crowd.spawn(async move { drop(by.accounts().update_account(request).await) });
    }
    waiting(true).await;
    crowd.shutdown().await;
    waiting(false).await;
    let late = rename(&acme, "Acme at last").encode_to_vec();
    let length = u32::try_from(late.len()).unwrap();
    let late = [&[0][..], &length.to_be_bytes(), &late].concat();
    let token = format!("Bearer {}", octroi.token("*"));
    let headers = [
        ("authorization", token),
        ("grpc-timeout", "200m".to_owned()),
    ];
    let url = octroi.plan().url(ServiceName::Billing);
    let mut client = connected(&url).await;
    let (answer, mut body) = begun(&mut client, &url, RENAME, &headers).await;
    body.send_data(late.into(), true).unwrap();
    let answer = answer.await.unwrap();
    let status = Status::from_header_map(answer.headers()).unwrap();
    Refused::of(&status).is(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    waiting(false).await;
    octroi.sql.batch_execute("ROLLBACK").await.unwrap();
    let changed = reads(&by, &acme).await;
    assert_ne!(changed.legal_name, "Acme at last");
    octroi.drained().await;
    assert!(version(&octroi).await <= before + BEGUN);
    octroi.finish().await;
}

/// How often acme's account was changed.
async fn version(octroi: &Installation) -> i64 {
    let version = "SELECT version FROM billing.account WHERE account = 'acme'";
    octroi.sql.query_one(version, &[]).await.unwrap().get(0)
}
