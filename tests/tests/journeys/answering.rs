//! How often an answer waits for the database, counted on the wire: once for a read, three times at most for an
//! activation. Warm, uncontended, and with a request id that did not come before.

use octroi_api::billing::v1::{BillRun, CreateBillRunRequest};
use octroi_api::{METHODS, Method};
use octroi_tests::harness::{
    Answer as _, BUSINESS, Caller, Installation, Options, ServiceName, Turn, request_id, server,
};
use tonic::Code;

use crate::methods::{every_request, with_everything};

/// Calls before one counts: every connection of the pool has then prepared its statements.
const WARM: usize = 9;
/// Calls that count, at most; the least of them is what a call needs when nothing comes between.
const COUNTED: usize = 20;

/// What a service says by itself all the time, or because of a call but after it: its relays and the test clock's
/// follower. Whatever else it does by itself comes too seldom to be in the way of every call.
const BACKGROUND: &[&str] = &[
    "lease",
    "claim_delivery",
    "aside",
    "fetch",
    "due_attempts",
    "claim_attempt",
    "due_settlements",
    "lease_settlement",
    "earliest_period_end",
    "undelivered",
    "dead",
    "taken",
    "give_back",
    "put_off",
    "stored",
    "pending",
    "emitted",
    "report",
];

/// What the service says to the database for one call. Everything before it has been delivered.
async fn said(
    octroi: &Installation,
    service: ServiceName,
    call: &mut impl AsyncFnMut(),
) -> Vec<Turn> {
    octroi.drained().await;
    octroi.wire(service).take();
    call().await;
    let mut turns = octroi.wire(service).take();
    turns.retain(|turn| {
        let mut names = turn.statements.iter();
        !names.any(|name| BACKGROUND.contains(&name.as_str()))
    });
    turns
}

/// The least turns of several calls, of which one is enough that needs no more than it may.
async fn least(
    octroi: &Installation,
    service: ServiceName,
    most: usize,
    mut call: impl AsyncFnMut(),
) -> Vec<Turn> {
    for _ in 0..WARM {
        call().await;
    }
    let mut least = said(octroi, service, &mut call).await;
    for _ in 1..COUNTED {
        if least.len() <= most {
            break;
        }
        let turns = said(octroi, service, &mut call).await;
        if turns.len() < least.len() {
            least = turns;
        }
    }
    least
}

async fn tapped() -> Installation {
    Installation::with(Options {
        pool_size: 3,
        tapped: true,
        ..Options::default()
    })
    .await
}

#[tokio::test]
async fn a_read_waits_once() {
    let octroi = tapped().await;
    let (acme, known) = with_everything(&octroi, "acme").await;
    // The run that the request for a run asks for.
    let run = CreateBillRunRequest {
        bill_run_id: "none".to_owned(),
        bill_run: Some(BillRun {
            month: "2026-01".to_owned(),
            ..BillRun::default()
        }),
        ..CreateBillRunRequest::default()
    };
    acme.by.bill_runs().create_bill_run(run).await.got();
    octroi.mailed().await;
    let mut counted = 0;
    let user = acme.by.with_session(&known.session);
    for service in ServiceName::ALL {
        for (path, message) in every_request("acme", &known) {
            let method = Method::find(path).unwrap();
            if server(method) != service || !is_read(path) {
                continue;
            }
            let turns = least(&octroi, service, 1, async || {
                called(&user, service, path, &message).await;
            })
            .await;
            assert_eq!(turns.len(), 1, "{path}: {turns:?}");
            counted += 1;
        }
    }
    let reads = METHODS.iter().filter(|method| is_read(method.path)).count();
    assert_eq!(counted, reads, "every read");
    octroi.finish().await;
}

async fn called(user: &Caller, service: ServiceName, path: &str, message: &[u8]) {
    user.call(service, path, message.to_vec()).await.got();
}

/// A preview reads as well; the test clock is no part of the service.
fn is_read(path: &str) -> bool {
    let method = path.rsplit('/').next().unwrap();
    let read = ["Get", "List", "Query", "Preview"]
        .iter()
        .any(|verb| method.starts_with(verb));
    read && !path.contains("ClockService")
}

#[tokio::test]
async fn an_activation_waits_three_times_at_most() {
    let octroi = tapped().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 100)]).await;
    let mut number = 0;
    let turns = least(&octroi, ServiceName::Licensing, 3, async || {
        number += 1;
        let mut request = acme.activation("office", number, &format!("user{number}"));
        request.request_id = request_id();
        acme.by.licenses().activate_license(request).await.got();
    })
    .await;
    assert!((1..=3).contains(&turns.len()), "{turns:?}");
    octroi.finish().await;
}

/// A wrong password and an address that nobody has are looked up by the same words, and no other follow.
#[tokio::test]
async fn a_sign_in_asks_the_same_for_an_unknown_address() {
    const TRIES: usize = 4;
    let octroi = tapped().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    let license = acme.activates("office", 1, "sales").await;
    octroi.mailed().await;
    let unknown = license.activation_email.replace("sales", "nobody");
    for address in [license.activation_email, unknown] {
        let mut heard = Vec::new();
        for _ in 0..TRIES {
            let mut call = async || {
                let refused = acme.signs_in(&address, "Wrong-Kettle-42").await.refused();
                refused.is(Code::Unauthenticated, "SIGN_IN_FAILED");
            };
            let turns = said(&octroi, ServiceName::Licensing, &mut call).await;
            heard.push(turns.into_iter().flat_map(|turn| turn.statements).collect());
        }
        let expected = vec!["attempt_sign_in".to_owned()];
        assert!(heard.contains(&expected), "{address}: {heard:?}");
    }
    octroi.finish().await;
}
