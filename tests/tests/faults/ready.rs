//! A service that starts is alive and takes no calls before it can serve them.

use std::net::TcpListener;
use std::sync::Arc;

use octroi_tests::harness::{Installation, ServiceName, Watched, eventually};
use prost::bytes::Bytes;
use tokio_postgres::NoTls;
use tokio_util::sync::CancellationToken;

use crate::held::{begun, connected};

/// Health's answers over gRPC, framed.
pub const SERVING: [u8; 7] = [0, 0, 0, 0, 2, 8, 1];
pub const NOT_SERVING: [u8; 7] = [0, 0, 0, 0, 2, 8, 2];

/// Held back by a lock on a table that it writes while it starts.
#[tokio::test]
async fn not_before_a_service_has_started() {
    let mut octroi = Installation::start().await;
    octroi.stop(ServiceName::Billing).await;
    let admin = octroi.plan().databases.admin.clone();
    let (lock, connection) = admin.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    lock.batch_execute("BEGIN; LOCK TABLE billing.seller")
        .await
        .unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let admin_listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let watched = Watched(admin_listener.local_addr().unwrap());
    let mut platform = octroi.plan().settings(ServiceName::Billing, Some(listener));
    platform.admin_listener = Some(Arc::new(admin_listener));
    let settings = octroi_billing::Settings {
        platform,
        seller_file: None,
        specimen_seller: true,
    };
    let shutdown = CancellationToken::new();
    let starting = tokio::spawn(octroi_billing::start(settings, shutdown.clone()));
    // The system takes the connection for a service that does not listen yet.
    let check = tokio::spawn(async move {
        let mut client = connected(&url).await;
        let (answer, mut body) = begun(&mut client, &url, "grpc.health.v1.Health/Check", &[]).await;
        body.send_data(Bytes::from_static(&[0; 5]), true).unwrap();
        let mut body = answer.await.unwrap().into_body();
        body.data().await.unwrap().unwrap()
    });
    eventually("the start waits for the lock", async || {
        let waiting = "SELECT count(*) FROM pg_stat_activity
                       WHERE application_name = 'octroi-billing' AND datname = current_database()
                         AND wait_event_type = 'Lock'";
        let row = octroi.sql.query_one(waiting, &[]).await.unwrap();
        (row.get::<_, i64>(0) > 0).then_some(())
    })
    .await;
    assert_eq!(watched.get("/healthz").await.0, 200);
    assert_eq!(watched.get("/readyz").await.0, 503);
    assert!(!check.is_finished(), "it answers before it has started");

    lock.batch_execute("ROLLBACK").await.unwrap();
    let running = starting.await.unwrap().unwrap();
    assert_eq!(check.await.unwrap(), SERVING[..]);
    assert_eq!(watched.get("/readyz").await.0, 200);
    shutdown.cancel();
    running.stopped().await.unwrap();
    octroi.restart(ServiceName::Billing).await;
    octroi.finish().await;
}
