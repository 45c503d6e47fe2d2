//! Takes other services' events.

use std::future::Future;
use std::sync::Arc;

use octroi_api::event::v1::delivery_outcome::Result as Outcome;
use octroi_api::event::v1::event::Payload;
use octroi_api::event::v1::event_intake_service_server::EventIntakeService;
use octroi_api::event::v1::{DeliverEventsRequest, DeliverEventsResponse, Event};
use octroi_api::r#type::v1::ErrorReason;
use tonic::{Code, Request, Response, Status};

use crate::db::Db;
use crate::error::Error;
use crate::name::{AccountId, Name as _};
use crate::refusal::Refusal;
use crate::request::open;
use crate::time::from_proto;
use crate::tx::Tx;

/// The most events in one delivery.
pub(crate) const MOST: usize = 500;
/// The most accounts that a delivery names as held.
pub(crate) const MOST_HELD: usize = 1_000;

/// What a service does with other services' events.
pub trait Intake: Send + Sync + 'static {
    /// Applies an event within `tx`: reads with [`Tx::query`], queues writes, does not commit. Between aggregates any
    /// order of arrival must lead to the same state. Payloads are matched without `_`, so that none is forgotten.
    fn apply(
        &self,
        tx: &mut Tx,
        event: &Event,
        payload: &Payload,
        secret: Option<&[u8]>,
    ) -> impl Future<Output = Result<Applied, Error>> + Send;

    /// Called after events were applied and committed, to wake the work that they cause.
    fn applied(&self) {}
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// Its writes are queued, or it needs none.
    Done,
    /// Its type does not name this service. It waits: a release that names it knows what to do with it, and a mistake
    /// shows as a delivery that grows old.
    NotForUs,
}

/// Serves EventIntakeService.
pub struct IntakeApi<I> {
    /// Where the inbox is.
    pub db: Db,
    /// What applies the events.
    pub intake: Arc<I>,
}

#[tonic::async_trait]
impl<I: Intake> EventIntakeService for IntakeApi<I> {
    async fn deliver_events(
        &self,
        request: Request<DeliverEventsRequest>,
    ) -> Result<Response<DeliverEventsResponse>, Status> {
        let (call, (request, complete, held)) = open(request, |it, fields| {
            if it.source.is_empty() {
                fields.add("source", "must name the service that recorded the events");
            }
            if it.deliveries.len() > MOST {
                fields.add("deliveries", format!("must be at most {MOST}"));
            }
            let complete = it.complete_through.as_ref().map(from_proto);
            if complete == Some(None) {
                fields.add("complete_through", "must be an instant");
            }
            let held = it.held_accounts.iter().map(|name| AccountId::parse(name));
            let held = held.map(|id| id.filter(|id| id.as_str() != "-"));
            let held = held.collect::<Option<Vec<_>>>();
            let held = held.filter(|held| held.len() <= MOST_HELD);
            let rule = format!("must be at most {MOST_HELD}, each accounts/{{account}}");
            let held = fields.check("held_accounts", held.ok_or(rule));
            Some((it, complete.flatten(), held?))
        })?;
        if call.caller.subject != format!("service:{}", request.source) {
            let message = "a service delivers its own events only";
            let reason = ErrorReason::ServicesOnly;
            return Err(Refusal::shared(Code::PermissionDenied, reason, message).status());
        }
        let outcomes = self.apply_all(&request.source, request.deliveries).await;
        if outcomes
            .iter()
            .any(|outcome| outcome.result() == Outcome::Applied)
        {
            self.intake.applied();
        }
        if let Some(told) = complete {
            // Who has told everything up to a later instant has told everything up to now.
            let now = self.db.clock.now();
            let complete = told.min(now);
            if told > now {
                let source = request.source.as_str();
                tracing::warn!(source, %told, "a service's clock is ahead, or this one's is behind");
            }
            self.db
                .execute(
                    "-- progress
                     INSERT INTO intake_progress (source, complete_through, held_accounts) VALUES ($1, $2, $3)
                     ON CONFLICT (source) DO UPDATE
                     SET complete_through = excluded.complete_through, held_accounts = excluded.held_accounts
                     WHERE intake_progress.complete_through <= excluded.complete_through
                        OR intake_progress.complete_through > $4",
                    &[&request.source, &complete, &held, &now],
                )
                .await?;
        }
        Ok(Response::new(DeliverEventsResponse { outcomes }))
    }
}
