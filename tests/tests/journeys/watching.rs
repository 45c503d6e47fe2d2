//! What operators' machines see: metrics, health, and the access log.

use octroi_api::licensing::v1::GetOfferRequest;
use octroi_tests::harness::{BUSINESS, Installation, Options, ServiceName, eventually};
use tonic::Code;

async fn watched() -> Installation {
    Installation::with(Options {
        watched: true,
        ..Options::default()
    })
    .await
}

#[tokio::test]
async fn calls_are_counted_by_method_and_code() {
    let octroi = watched().await;
    let licensing = octroi.watched(ServiceName::Licensing);
    let mut offers = octroi.operator().offers();
    for name in [BUSINESS, "offers/none"] {
        let name = name.to_owned();
        let _ = offers.get_offer(GetOfferRequest { name }).await;
    }
    let method = "octroi.licensing.v1.OfferService/GetOffer";
    // The last byte has left before its call is counted.
    for (code, calls) in [("Ok", 1.0), ("NotFound", 1.0)] {
        let series = format!("octroi_calls_total{{method=\"{method}\",code=\"{code}\"}}");
        eventually("the call is counted", async || {
            (licensing.shows(&series).await == Some(calls)).then_some(())
        })
        .await;
    }
    let of_method = |name: &str| format!("{name}{{method=\"{method}\"}}");
    let count = of_method("octroi_call_duration_seconds_count");
    assert_eq!(licensing.shows(&count).await, Some(2.0));
    let under_way = of_method("octroi_calls_in_flight");
    assert_eq!(licensing.shows(&under_way).await, Some(0.0));
    octroi.finish().await;
}

/// Whoever asks for what there is not makes no label of it.
#[tokio::test]
async fn methods_that_nobody_has_are_counted_as_one() {
    let octroi = watched().await;
    let licensing = octroi.watched(ServiceName::Licensing);
    let operator = octroi.operator();
    for eaten in 0..3 {
        let path = format!("/octroi.licensing.v1.OrderService/EatOrder{eaten}");
        let call = operator.call(ServiceName::Licensing, &path, Vec::new());
        assert_eq!(call.await.unwrap_err().code(), Code::Unimplemented);
    }
    let series = "octroi_calls_total{method=\"unknown\",code=\"Unimplemented\"}";
    eventually("the calls are counted", async || {
        (licensing.shows(series).await == Some(3.0)).then_some(())
    })
    .await;
    let metrics = licensing.metrics().await;
    assert!(!metrics.contains("EatOrder"), "{metrics}");
    octroi.finish().await;
}

#[tokio::test]
async fn what_a_subscriber_has_not_taken_shows() {
    let mut octroi = watched().await;
    let billing = octroi.watched(ServiceName::Billing);
    let of_notification = |name: &str| format!("octroi_{name}{{subscriber=\"notification\"}}");
    let shows = async |name: &str| billing.shows(&of_notification(name)).await.unwrap();
    octroi.drained().await;
    assert_eq!(shows("deliveries").await, 0.0);
    octroi.stop(ServiceName::Notification).await;
    octroi.customer("acme").await;
    let waiting = shows("deliveries").await;
    assert!(waiting >= 1.0);
    assert_eq!(shows("dead_letters").await, 0.0);
    let age = "UPDATE billing.delivery SET parked = true, created_at = clock_timestamp() - interval '1 hour'
               WHERE subscriber = 'notification'";
    octroi.sql.batch_execute(age).await.unwrap();
    assert_eq!(shows("dead_letters").await, waiting);
    assert!((3600.0..3900.0).contains(&shows("delivery_age_seconds").await));
    let mend = "UPDATE billing.delivery SET parked = false";
    octroi.sql.batch_execute(mend).await.unwrap();
    octroi.restart(ServiceName::Notification).await;
    octroi.drained().await;
    octroi.finish().await;
}

/// The gauges of each service are there, and bounded.
#[tokio::test]
async fn each_service_shows_what_it_works_on() {
    let octroi = watched().await;
    octroi.customer("acme").await;
    octroi.mailed().await;
    for (service, series, shown) in [
        (
            ServiceName::Licensing,
            "octroi_password_hashing{state=\"busy\"}",
            0.0,
        ),
        (
            ServiceName::Licensing,
            "octroi_db_connections{state=\"max\"}",
            8.0,
        ),
        (
            ServiceName::Billing,
            "octroi_bill_run_accounts{outcome=\"failed\"}",
            0.0,
        ),
        (
            ServiceName::Notification,
            "octroi_email_overdue_seconds{state=\"new\"}",
            0.0,
        ),
    ] {
        let watched = octroi.watched(service);
        assert_eq!(watched.shows(series).await, Some(shown), "{series}");
        assert_eq!(watched.get("/healthz").await.0, 200);
        assert_eq!(watched.get("/readyz").await.0, 200);
        assert_eq!(watched.get("/").await.0, 404);
    }
    octroi.finish().await;
}
