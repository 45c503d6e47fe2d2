//! The process shell that Octroi's services share.
//!
//! Charter: what every service needs to be a service, and nothing of what any of them is about. It holds the pool and
//! transactions in two round trips, the event log with its relay and intake, idempotency, errors and their details,
//! names and pages, tokens and scopes, sealed secrets, business time, settings, and the server itself.
//! A noun of the business (an order, a seat, an invoice) has no place here; code that only one service needs stays in
//! that service.

pub mod db;
pub mod event;
mod server;
mod trust;
mod value;

pub use db::{change, migrate, tx};
pub use event::{check, intake, relay};
pub use server::{keys, process, service, settings};
pub use trust::{auth, jwk, peer};
pub use value::{
    call, clock, error, name, page, panic, refusal, request, seal, services, text, time,
};

pub(crate) use db::trail;
pub(crate) use event::{backlog, event_service};
pub(crate) use server::{
    access, admin, connection, gate, held, message, metrics, reflection, sending, test_clock, work,
};
pub(crate) use value::limits;

pub use call::{Call, Caller, IdempotencyKey, check_request_id};
pub use change::{Aggregate, Held};
pub use clock::Clock;
pub use db::{Db, Params, Reads, row_get};
pub use error::Error;
pub use event::NewEvent;
pub use event::progress::Horizon;
pub use gate::CALLS_AT_ONCE;
pub use intake::{Applied, Intake};
pub use metrics::{Reading, Shown};
pub use name::{AccountId, Name};
pub use page::Page;
pub use panic::round;
pub use peer::Peer;
pub use refusal::{Refusal, Violations};
pub use request::{Answer, Fields, answer, command, open};
pub use service::{Running, Service, Shell, StartError};
pub use settings::Settings;
pub use tokio_postgres::types::ToSql;
pub use tx::{Rows, Tx};
pub use work::each;
