//! Connections that are of no use are closed, and whoever would have used one at that moment notices nothing.

use std::time::Duration;

use h2::Ping;
use octroi_tests::harness::{Installation, ServiceName, late_calls};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Far longer than a connection may go without its first call.
const PATIENCE: Duration = Duration::from_secs(60);

async fn connected(octroi: &Installation) -> TcpStream {
    let url = octroi.plan().url(ServiceName::Licensing);
    let address = url.trim_start_matches("http://");
    TcpStream::connect(address).await.unwrap()
}

#[tokio::test]
async fn one_that_says_nothing() {
    let octroi = Installation::start().await;
    let mut silent = connected(&octroi).await;
    let mut heard = Vec::new();
    let ended = timeout(PATIENCE, silent.read_to_end(&mut heard)).await;
    ended.expect("the service closes it").unwrap();
    octroi.finish().await;
}

#[tokio::test]
async fn one_that_only_pings() {
    let octroi = Installation::start().await;
    let socket = connected(&octroi).await;
    let (_client, mut connection) = h2::client::handshake(socket).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    let pinging = tokio::spawn(async move {
        let mut answered = 0;
        while pings.ping(Ping::opaque()).await.is_ok() {
            answered += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        answered
    });
    let ended = timeout(PATIENCE, connection).await;
    // Whether the end is a good one or a broken pipe depends on which side was writing.
    let _ = ended.expect("the service closes it");
    assert!(pinging.await.unwrap() > 1, "its pings were answered");
    octroi.finish().await;
}

/// Calls of stock clients, sent around the end of the time that a connection has for its first: each is answered, on
/// that connection or, since the client knows that it was not begun, on another.
#[tokio::test]
async fn a_call_at_its_end_is_not_lost() {
    const EACH: usize = 120;
    let octroi = Installation::start().await;
    let url = octroi.plan().url(ServiceName::Licensing);
    for (client, lost) in late_calls(&url, EACH, 9.8, 10.1).await {
        assert_eq!(lost, 0, "of {EACH} calls by {client}");
    }
    octroi.finish().await;
}
