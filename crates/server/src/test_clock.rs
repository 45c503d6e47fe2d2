//! The test clock: an offset in a schema of its own that every service follows. It moves a day at a time, and a day
//! ends when every service has seen it, run its due work, and delivered its events.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use octroi_api::testing::v1::clock_service_server::ClockService;
use octroi_api::testing::v1::{
    AdvanceClockRequest, Clock as ClockAnswer, GetClockRequest, SetClockRequest,
};
use octroi_api::r#type::v1::ErrorReason;
use octroi_platform::clock::Clock;
use octroi_platform::db::{Db, connect, row_get};
use octroi_platform::error::Error;
use octroi_platform::panic::caught;
use octroi_platform::refusal::{MISSING, Refusal};
use octroi_platform::relay::RelayHandle;
use octroi_platform::request::open;
use octroi_platform::time::{from_proto, to_proto};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::work::BackgroundWork;

const DAY: SignedDuration = SignedDuration::from_hours(24);
/// How far one call may move the clock: each day takes a while.
const FARTHEST: SignedDuration = SignedDuration::from_hours(10 * 366 * 24);
/// How long one day may take before the call gives up; the clock then stays where it is.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(4);
const IDLE_LOOK: Duration = Duration::from_millis(25);

/// The stored offset in microseconds; none when the database has no test clock.
pub(crate) async fn read_offset(
    config: &tokio_postgres::Config,
    schema: &str,
) -> Result<Option<i64>, Error> {
    let client = connect(config, schema).await?;
    let born = client
        .query_one(
            "SELECT to_regclass('testing.clock') IS NOT NULL AS born",
            &[],
        )
        .await?;
    if !row_get::<bool>(&born, "born")? {
        return Ok(None);
    }
    let row = client
        .query_opt("SELECT offset_micros FROM testing.clock", &[])
        .await?;
    row.map(|row| row_get(&row, "offset_micros")).transpose()
}

/// The stored clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stored {
    offset: i64,
    step: i64,
    round: i64,
}

async fn stored(db: &Db) -> Result<Stored, Error> {
    let row = db
        .query_opt(
            "-- stored
             SELECT offset_micros, step, round FROM testing.clock",
            &[],
        )
        .await?
        .ok_or_else(|| Error::Internal(anyhow::anyhow!("the test clock's row is gone")))?;
    Ok(Stored {
        offset: row_get(&row, "offset_micros")?,
        step: row_get(&row, "step")?,
        round: row_get(&row, "round")?,
    })
}

/// Follows the stored clock in one process.
pub(crate) struct Follower {
    pub(crate) service: &'static str,
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) works: BackgroundWork,
    pub(crate) relays: Vec<RelayHandle>,
}

impl Follower {
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut seen = None;
        let mut moving_until = tokio::time::Instant::now();
        while !shutdown.is_cancelled() {
            match stored(&self.db).await {
                Ok(now) if seen == Some(now) => {}
                Ok(now) => {
                    self.clock.set_offset(now.offset);
                    if let Err(error) = caught(self.settle(now)).await {
                        tracing::warn!(%error, "a step of the test clock failed; it is tried again");
                    } else {
                        seen = Some(now);
                        moving_until = tokio::time::Instant::now() + Duration::from_secs(1);
                    }
                }
                Err(error) => tracing::warn!(%error, "the test clock cannot be read"),
            }
            let pause = if tokio::time::Instant::now() < moving_until {
                LOOK
            } else {
                IDLE_LOOK
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One round: runs due work, delivers everything, sends the subscribers the new `complete_through`, and reports.
    async fn settle(&self, at: Stored) -> anyhow::Result<()> {
        self.works.run_due().await;
        let pending = self.drain().await?;
        if at.round > 0 {
            self.announce().await;
        }
        let emitted = self.count("-- emitted\nSELECT count(*) FROM event").await?;
        self.db
            .execute(
                "-- report
                 INSERT INTO testing.barrier (service, step, round, pending, emitted)
                 VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (service) DO UPDATE
                 SET step = $2, round = $3, pending = $4, emitted = $5",
                &[&self.service, &at.step, &at.round, &pending, &emitted],
            )
            .await?;
        Ok(())
    }

    async fn count(&self, sql: &str) -> Result<i64, Error> {
        let row = self.db.query_opt(sql, &[]).await?;
        row.map_or(Ok(0), |row| row_get(&row, "count"))
    }

    /// Waits, with a limit, until nothing is undelivered; returns how much still is.
    async fn drain(&self) -> Result<i64, Error> {
        let deadline = tokio::time::Instant::now() + PATIENCE / 4;
        loop {
            // Deliveries that have been backed off for long, such as events of an unknown type, do not hold up the
            // clock.
            let pending = self
                .count(
                    "-- pending
                     SELECT count(*) FROM delivery WHERE NOT parked AND attempts < 8",
                )
                .await?;
            if pending == 0 || tokio::time::Instant::now() > deadline {
                return Ok(pending);
            }
            for relay in &self.relays {
                relay.nudge.notify_one();
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Sends every subscriber the clock's new time as `complete_through`.
    async fn announce(&self) {
        let now = self.clock.now();
        for relay in &self.relays {
            let mut told = relay.told.clone();
            let behind = SignedDuration::from_secs(90);
            let reached = |told: &Option<Timestamp>| {
                told.is_some_and(|told| now.duration_since(told) < behind)
            };
            relay.nudge.notify_one();
            // A subscriber that is down, or due work of long ago, must not hold up the clock.
            let _ = tokio::time::timeout(Duration::from_secs(2), told.wait_for(reached)).await;
        }
    }
}

pub(crate) struct ClockApi {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
}

#[tonic::async_trait]
impl ClockService for ClockApi {
    async fn get_clock(
        &self,
        request: Request<GetClockRequest>,
    ) -> Result<Response<ClockAnswer>, Status> {
        open(request, |_, _| Some(()))?;
        Ok(Response::new(self.answer()))
    }

    async fn set_clock(
        &self,
        request: Request<SetClockRequest>,
    ) -> Result<Response<ClockAnswer>, Status> {
        let farthest = self.clock.now().checked_add(FARTHEST);
        let farthest = farthest.unwrap_or(Timestamp::MAX);
        let (_, target) = open(request, |it, fields| {
            let target = it.time.as_ref().and_then(from_proto);
            let target = target.filter(|target| *target <= farthest);
            let rule = match it.time {
                None => MISSING,
                Some(_) => "must be an instant, at most ten years away",
            };
            fields.check("time", target.ok_or(rule))
        })?;
        if target < self.clock.now() {
            let message = format!("the clock is past {target} already and cannot go back");
            let reason = ErrorReason::ClockBackwards.as_str_name();
            return Err(Refusal::because_of(reason, &"clock", message).status());
        }
        self.move_to(target).await
    }

    async fn advance_clock(
        &self,
        request: Request<AdvanceClockRequest>,
    ) -> Result<Response<ClockAnswer>, Status> {
        let (_, duration) = open(request, |it, fields| {
            let duration = it
                .duration
                .filter(|duration| (0..=FARTHEST.as_secs()).contains(&duration.seconds))
                .filter(|duration| (0..1_000_000_000).contains(&duration.nanos))
                .map(|duration| SignedDuration::new(duration.seconds, duration.nanos));
            let rule = match it.duration {
                None => MISSING,
                Some(_) => "must be from 0 to ten years",
            };
            fields.check("duration", duration.ok_or(rule))
        })?;
        self.move_to(self.clock.now() + duration).await
    }
}

impl ClockApi {
    fn answer(&self) -> ClockAnswer {
        ClockAnswer {
            time: Some(to_proto(self.clock.now())),
        }
    }

    async fn move_to(&self, target: Timestamp) -> Result<Response<ClockAnswer>, Status> {
        loop {
            let left = target - self.clock.now();
            let left =
                SignedDuration::try_from(left).map_err(|error| Error::Internal(error.into()))?;
            if left <= SignedDuration::ZERO {
                return Ok(Response::new(self.answer()));
            }
            self.step(left.min(DAY)).await?;
        }
    }

    /// Moves by a day or less, and repeats rounds until two in a row found every service with nothing undelivered and
    /// nothing new.
    async fn step(&self, by: SignedDuration) -> Result<(), Error> {
        let from = stored(&self.db).await?;
        let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        let offset = from.offset.saturating_add(by);
        let step = from.step + 1;
        let moved = self
            .db
            .execute(
                "-- step
                 UPDATE testing.clock SET offset_micros = $1, step = $2, round = 0 WHERE step = $3",
                &[&offset, &step, &from.step],
            )
            .await?;
        if moved != 1 {
            return Err(Error::Conflict("another call moves the clock"));
        }
        self.clock.set_offset(offset);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut before = None;
        for round in 0.. {
            let reports = self.reports(step, round, deadline).await?;
            let quiet = reports.iter().all(|(_, pending, _)| *pending == 0);
            if quiet && before.as_ref() == Some(&reports) {
                return Ok(());
            }
            before = Some(reports);
            self.db
                .execute(
                    "-- round
                     UPDATE testing.clock SET round = $2 WHERE step = $1",
                    &[&step, &(round + 1)],
                )
                .await?;
        }
        Ok(())
    }

    /// Every service's report of a round: name, undelivered events, events recorded so far.
    async fn reports(
        &self,
        step: i64,
        round: i64,
        deadline: tokio::time::Instant,
    ) -> Result<Vec<(String, i64, i64)>, Error> {
        loop {
            let rows = self
                .db
                .query(
                    "-- reports
                     SELECT service, pending, emitted, step = $1 AND round = $2 AS reported
                     FROM testing.barrier ORDER BY service",
                    &[&step, &round],
                )
                .await?;
            let mut missing = Vec::new();
            let mut reports = Vec::new();
            for row in &rows {
                let service: String = row_get(row, "service")?;
                if row_get(row, "reported")? {
                    reports.push((service, row_get(row, "pending")?, row_get(row, "emitted")?));
                } else {
                    missing.push(service);
                }
            }
            if missing.is_empty() {
                return Ok(reports);
            }
            if tokio::time::Instant::now() > deadline {
                return Err(Error::Unavailable(format!(
                    "not every service follows the clock; missing: {}",
                    missing.join(", ")
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
