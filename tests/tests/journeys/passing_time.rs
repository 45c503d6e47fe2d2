//! The test clock: forward, never back.

use octroi_api::testing::v1::clock_service_client::ClockServiceClient;
use octroi_api::testing::v1::{AdvanceClockRequest, GetClockRequest, SetClockRequest};
use octroi_platform::event::to_proto;
use octroi_tests::harness::{Answer as _, Installation, ServiceName, at, instant};
use tonic::Code;

#[tokio::test]
async fn never_back() {
    let octroi = Installation::start().await;
    let by = octroi.operator();
    let start = octroi.now().await;
    assert!(start >= at("2026-02-02T08:00:00Z") && start < at("2026-02-02T08:05:00Z"));
    let advance = |seconds| AdvanceClockRequest {
        duration: Some(prost_types::Duration { seconds, nanos: 0 }),
    };
    let later = by.clock().advance_clock(advance(3600)).await.got();
    assert!(instant(later.time) >= start + jiff::SignedDuration::from_hours(1));
    let set = SetClockRequest {
        time: Some(to_proto(start)),
    };
    let refused = by.clock().set_clock(set).await.refused();
    refused.is(Code::FailedPrecondition, "CLOCK_BACKWARDS");
    for bad in [
        AdvanceClockRequest { duration: None },
        advance(-1),
        advance(11 * 366 * 86_400),
    ] {
        by.clock()
            .advance_clock(bad)
            .await
            .refused()
            .names(&["duration"]);
    }
    let refused = by
        .clock()
        .set_clock(SetClockRequest { time: None })
        .await
        .refused();
    refused.names(&["time"]);
    by.clock().advance_clock(advance(0)).await.got();
    octroi.finish().await;
}

/// Every service serves the same clock, and keeps its time.
#[tokio::test]
async fn the_same_everywhere() {
    let octroi = Installation::start().await;
    let by = octroi.operator();
    let mut time = at("2026-02-03T00:00:00Z");
    for mover in ServiceName::ALL {
        time += jiff::SignedDuration::from_hours(36);
        let set = SetClockRequest {
            time: Some(to_proto(time)),
        };
        ClockServiceClient::new(by.line(mover))
            .set_clock(set)
            .await
            .got();
        for service in ServiceName::ALL {
            let clock = ClockServiceClient::new(by.line(service))
                .get_clock(GetClockRequest {})
                .await;
            let shown = instant(clock.got().time);
            assert!(
                shown >= time && shown < time + jiff::SignedDuration::from_mins(1),
                "{service}"
            );
        }
    }
    octroi.finish().await;
}
