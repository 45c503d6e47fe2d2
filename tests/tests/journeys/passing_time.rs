//! The test clock: forward, never back.

use octroi_api::testing::v1::clock_service_client::ClockServiceClient;
use octroi_api::testing::v1::{AdvanceClockRequest, GetClockRequest, SetClockRequest};
use octroi_platform::time::to_proto;
use octroi_tests::harness::{Answer as _, BUSINESS, Installation, ServiceName, at, instant};
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
    let odd = |seconds, nanos| AdvanceClockRequest {
        duration: Some(prost_types::Duration { seconds, nanos }),
    };
    for bad in [
        AdvanceClockRequest { duration: None },
        odd(1, 1_000_000_000),
        odd(1, i32::MAX),
        odd(1, -1),
        odd(-1, 1),
        advance(-1),
        advance(11 * 366 * 86_400),
    ] {
        by.clock()
            .advance_clock(bad)
            .await
            .refused()
            .names(&["duration"]);
    }
    let far = later.time.unwrap().seconds + 3600;
    let instants = [1_000_000_000, i32::MAX, -1].map(|nanos| {
        Some(prost_types::Timestamp {
            seconds: far,
            nanos,
        })
    });
    let too_far = prost_types::Timestamp {
        seconds: far + 11 * 366 * 86_400,
        nanos: 0,
    };
    for time in instants.into_iter().chain([None, Some(too_far)]) {
        let refused = by
            .clock()
            .set_clock(SetClockRequest { time })
            .await
            .refused();
        refused.names(&["time"]);
    }
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

/// How long a delivery has been on its way is machine time: the clock's jumps make none of them old.
#[tokio::test]
async fn what_is_on_its_way_does_not_age_with_the_clock() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    octroi.drained().await;
    // Billing put the next fact off so often that the clock does not wait for it.
    let put_off = "
        CREATE FUNCTION licensing.put_off() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            NEW.attempts := 8;
            NEW.due_at := clock_timestamp() + interval '10 minutes';
            RETURN NEW;
        END $$;
        CREATE TRIGGER put_off BEFORE INSERT ON licensing.delivery
            FOR EACH ROW EXECUTE FUNCTION licensing.put_off()";
    octroi.sql.batch_execute(put_off).await.unwrap();
    acme.buys("office", &[(BUSINESS, 1)]).await;
    octroi.advance_to("2026-02-04T08:00:00Z").await;
    assert!(octroi.undelivered().await > 0);
    octroi.sound().await;
    let go_on = "
        DROP TRIGGER put_off ON licensing.delivery;
        UPDATE licensing.delivery SET due_at = clock_timestamp()";
    octroi.sql.batch_execute(go_on).await.unwrap();
    octroi.finish().await;
}
