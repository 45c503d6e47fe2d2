//! The all-in-one whose database goes away.

use std::time::Duration;

use octroi_tests::harness::{BUSINESS, Customer, eventually, within};
use tokio::net::TcpStream;
use tonic::codegen::http::Request;

use crate::all_in_one::AllInOne;

/// Less than one service alone would wait for what it has begun, and more than a machine under load needs.
const PROMPT: Duration = Duration::from_secs(15);

/// Nothing can be answered any more, so nothing is waited for: neither a call that waits in the database nor, in each
/// service, one whose request has not come whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_with_its_database() {
    let mut octroi = AllInOne::start();
    let acme = Customer::paying(octroi.operator(), "acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    let lock = octroi.sql().await;
    lock.batch_execute("BEGIN; SELECT FROM licensing.license FOR UPDATE")
        .await
        .unwrap();
    let caller = acme.clone();
    let calling = tokio::spawn(async move {
        let request = caller.activation("office", 1, "sales");
        caller.by.licenses().activate_license(request).await
    });
    let sql = octroi.sql().await;
    eventually("the call waits for the row", async || {
        let waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' LIMIT 1";
        sql.query_opt(waiting, &[]).await.unwrap()
    })
    .await;
    let token = octroi.token();
    let mut unfinished = Vec::new();
    for (url, path) in octroi.urls().iter().zip([
        "/octroi.licensing.v1.OfferService/ListOffers",
        "/octroi.billing.v1.AccountService/ListAccounts",
        "/octroi.notification.v1.EmailService/ListEmails",
    ]) {
        unfinished.push(half_a_call(url, path, &token).await);
    }

    octroi.kill_database();
    let ended = within(PROMPT, "the process ends", async || octroi.ended()).await;
    assert_eq!(ended.code(), Some(70), "{ended}");
    calling.await.unwrap().unwrap_err();
    for call in unfinished {
        call.await.unwrap();
    }
}

/// Begins a call whose message never comes, and waits until the service has seen it; ends with its connection.
async fn half_a_call(url: &str, path: &str, token: &str) -> tokio::task::JoinHandle<()> {
    let address = url.trim_start_matches("http://");
    let socket = TcpStream::connect(address).await.unwrap();
    let (mut client, mut connection) = h2::client::handshake(socket).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    let connected = tokio::spawn(connection);
    let request = Request::post(format!("{url}{path}"))
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (answer, message) = client.send_request(request, false).unwrap();
    pings.ping(h2::Ping::opaque()).await.unwrap();
    tokio::spawn(async move {
        // It ends one way or the other; that it does is what counts.
        let _ = (answer.await, message, connected.await);
    })
}
