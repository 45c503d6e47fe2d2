//! Events as a service writes them.

use jiff::Timestamp;
use octroi_api::event::v1::Event;
use octroi_api::event::v1::event::Payload;
use prost::Message as _;
use uuid::Uuid;

use crate::call::Call;
use crate::time::to_proto;

/// A fact about to be appended in the transaction that makes it true. Hold the aggregate's row lock, or create the
/// aggregate, when emitting for it: its next sequence is taken in the database.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// UUIDv7.
    pub id: Uuid,
    /// Account id; empty for what belongs to no account.
    pub account: String,
    /// Resource name of what it happened to.
    pub aggregate: String,
    /// When it took effect.
    pub effective: Timestamp,
    /// What happened, in full.
    pub payload: Payload,
    /// Secrets for single subscribers, sealed. They ride on the delivery and are not kept with the event.
    pub secrets: Vec<(&'static str, Vec<u8>)>,
}

impl NewEvent {
    /// A fact without secrets, under a new id.
    pub fn new(account: &str, aggregate: String, effective: Timestamp, payload: Payload) -> Self {
        Self {
            id: Uuid::now_v7(),
            account: account.to_owned(),
            aggregate,
            effective,
            payload,
            secrets: Vec::new(),
        }
    }

    /// The bytes that are kept and forwarded: the whole event but its sequence.
    pub(crate) fn body(&self, call: &Call, recorded: Timestamp) -> Vec<u8> {
        Event {
            id: self.id.to_string(),
            r#type: self.payload.event_type().name.to_owned(),
            account: match self.account.as_str() {
                "" => String::new(),
                account => format!("accounts/{account}"),
            },
            aggregate: self.aggregate.clone(),
            sequence: 0,
            effective_time: Some(to_proto(self.effective)),
            record_time: Some(to_proto(recorded)),
            request_id: call.request_id().map_or(String::new(), |id| id.to_string()),
            traceparent: call.traceparent.clone(),
            payload: Some(self.payload.clone()),
        }
        .encode_to_vec()
    }
}

/// What the rows of an aggregate's events are kept and found by: the account that they belong to or, where that is
/// empty, the aggregate itself. No account's id can be a resource's name, which holds a slash.
pub(crate) fn key<'a>(account: &'a str, aggregate: &'a str) -> &'a str {
    if account.is_empty() {
        aggregate
    } else {
        account
    }
}
