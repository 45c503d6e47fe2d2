//! A service that stops ends what it has begun.

use std::time::Duration;

use octroi_api::licensing::v1::{ActivateLicenseRequest, LicenseUser, license};
use octroi_tests::harness::{BUSINESS, CHOSEN, Installation, Options, ServiceName, eventually};
use prost::bytes::Bytes;
use tokio::net::TcpStream;
use tokio_postgres::NoTls;

use crate::held::{begun, connected};
use crate::ready::{NOT_SERVING, SERVING};

/// A command whose caller has left is under way when the service is told to stop: it is waited for.
#[tokio::test]
async fn waits_for_commands_whose_callers_have_left() {
    let mut octroi = Installation::with(Options {
        watched: true,
        ..Options::default()
    })
    .await;
    let watched = octroi.watched(ServiceName::Licensing);
    assert_eq!(watched.get("/readyz").await.0, 200);
    let url = octroi.plan().url(ServiceName::Licensing);
    let mut client = connected(&url).await;
    let (answer, mut body) = begun(&mut client, &url, "grpc.health.v1.Health/Watch", &[]).await;
    body.send_data(Bytes::from_static(&[0; 5]), true).unwrap();
    let mut health = answer.await.unwrap().into_body();
    assert_eq!(health.data().await.unwrap().unwrap(), SERVING[..]);
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    let admin = octroi.plan().databases.admin.clone();
    let (lock, connection) = admin.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    lock.batch_execute("BEGIN; SELECT FROM licensing.license FOR UPDATE")
        .await
        .unwrap();

    let caller = acme.clone();
    let calling = tokio::spawn(async move {
        let request = ActivateLicenseRequest {
            name: caller.license_name("office", 1),
            user: Some(LicenseUser {
                first_name: "Sales".to_owned(),
                last_name: "Desk".to_owned(),
            }),
            activation_email: "sales".to_owned(),
            password: CHOSEN.to_owned(),
            ..ActivateLicenseRequest::default()
        };
        caller.by.licenses().activate_license(request).await
    });
    eventually("the command waits for the row", async || {
        let waiting = "SELECT count(*) FROM pg_stat_activity
                       WHERE application_name = 'octroi-licensing' AND datname = current_database()
                         AND wait_event_type = 'Lock'";
        let row = octroi.sql.query_one(waiting, &[]).await.unwrap();
        (row.get::<_, i64>(0) > 0).then_some(())
    })
    .await;
    calling.abort();
    assert!(calling.await.unwrap_err().is_cancelled());

    {
        let mut stopping = std::pin::pin!(octroi.stop(ServiceName::Licensing));
        let early = tokio::time::timeout(Duration::from_secs(1), &mut stopping).await;
        assert!(early.is_err(), "it stopped over a running command");
        // It is alive and takes no calls any more.
        assert_eq!(watched.get("/readyz").await.0, 503);
        assert_eq!(watched.get("/healthz").await.0, 200);
        assert_eq!(health.data().await.unwrap().unwrap(), NOT_SERVING[..]);
        eventually("it takes no connection any more", async || {
            let address = url.trim_start_matches("http://");
            TcpStream::connect(address).await.err()
        })
        .await;
        drop((client, health));
        lock.batch_execute("COMMIT").await.unwrap();
        stopping.await;
    }
    let row = octroi
        .sql
        .query_one("SELECT state FROM licensing.license", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, String>(0), "ACTIVE");
    octroi.restart(ServiceName::Licensing).await;
    assert_eq!(
        acme.license("office", 1).await.state(),
        license::State::Active
    );
    octroi.finish().await;
}
