//! How often an answer waits for the database, counted on the wire: once for a read, three times at most for an
//! activation. Warm, uncontended, and with a request id that did not come before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use octroi_api::billing::v1::{BillRun, CreateBillRunRequest};
use octroi_api::{METHODS, Method};
use octroi_tests::harness::{
    Answer as _, BUSINESS, Caller, Installation, Options, ServiceName, Turn, request_id, server,
};

use crate::methods::{every_request, with_everything};

/// Calls before one counts: every connection of the pool has then prepared its statements.
const WARM: usize = 9;
/// Calls that count; the least of them is what a call needs when nothing comes between.
const COUNTED: usize = 5;

/// What a relay says when there is something to deliver, beside what it says always.
const RELAY: &[&str] = &["fetch", "taken", "give_back", "put_off"];

/// Tells a call's own turns from those of the work in the background.
struct Ear {
    service: ServiceName,
    background: BTreeSet<String>,
}

impl Ear {
    /// Listens while nobody calls.
    async fn tuned(octroi: &Installation, service: ServiceName) -> Self {
        octroi.wire(service).take();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let heard = octroi.wire(service).take();
        let heard = heard.into_iter().flat_map(|turn| turn.statements);
        let background = heard.chain(RELAY.iter().map(|name| (*name).to_owned()));
        let bounds = ["BEGIN", "COMMIT", "ROLLBACK"];
        Self {
            service,
            background: background
                .filter(|name| !bounds.contains(&name.as_str()))
                .collect(),
        }
    }

    /// The turns that are not the background's. One that only ends a transaction belongs to who began it.
    fn own(&self, turns: Vec<Turn>) -> Vec<Turn> {
        let mut background = BTreeMap::new();
        turns
            .into_iter()
            .filter(|turn| {
                let bounds = turn
                    .statements
                    .iter()
                    .all(|name| name == "COMMIT" || name == "ROLLBACK");
                let before = background.get(&turn.connection) == Some(&true);
                let known = turn
                    .statements
                    .iter()
                    .any(|name| self.background.contains(name));
                let of_background = known || (bounds && !turn.statements.is_empty() && before);
                background.insert(turn.connection, of_background);
                !of_background
            })
            .collect()
    }

    /// The least turns of several calls.
    async fn count(&self, octroi: &Installation, mut call: impl AsyncFnMut()) -> Vec<Turn> {
        for _ in 0..WARM {
            call().await;
        }
        let mut least: Option<Vec<Turn>> = None;
        for _ in 0..COUNTED {
            octroi.drained().await;
            octroi.wire(self.service).take();
            call().await;
            let turns = self.own(octroi.wire(self.service).take());
            if least.as_ref().is_none_or(|least| turns.len() < least.len()) {
                least = Some(turns);
            }
        }
        least.unwrap()
    }
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
        let ear = Ear::tuned(&octroi, service).await;
        for (path, message) in every_request("acme", &known) {
            let method = Method::find(path).unwrap();
            if server(method) != service || !is_read(path) {
                continue;
            }
            let turns = ear
                .count(&octroi, async || {
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
    let ear = Ear::tuned(&octroi, ServiceName::Licensing).await;
    let mut number = 0;
    let turns = ear
        .count(&octroi, async || {
            number += 1;
            let mut request = acme.activation("office", number, &format!("user{number}"));
            request.request_id = request_id();
            acme.by.licenses().activate_license(request).await.got();
        })
        .await;
    assert!((1..=3).contains(&turns.len()), "{turns:?}");
    octroi.finish().await;
}
