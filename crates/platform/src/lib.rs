//! The process shell that Octroi's services share.
//!
//! Charter: what every service needs to be a service, and nothing of what any of them is about. It holds the pool and
//! transactions in two round trips, the event log with its relay and intake, idempotency, errors and their details,
//! names and pages, tokens and scopes, sealed secrets, business time and calendars, settings, and the server itself.
//! A noun of the business (an order, a seat, an invoice) has no place here; code that only one service needs stays in
//! that service.

pub mod auth;
pub mod calendar;
pub mod call;
pub mod clock;
pub mod db;
pub mod error;
pub mod event;
mod event_service;
mod held;
pub mod intake;
mod layer;
mod listen;
mod message;
pub mod migrate;
pub mod name;
pub mod page;
pub mod peer;
pub mod process;
mod reflection;
pub mod refusal;
pub mod relay;
pub mod seal;
pub mod service;
pub mod settings;
mod test_clock;
pub mod text;
mod trail;
pub mod tx;
mod work;

pub use call::{Call, Caller, IdempotencyKey, check_request_id};
pub use clock::Clock;
pub use db::{Db, Params, Reads, row_get};
pub use error::Error;
pub use event::NewEvent;
pub use intake::{Applied, Intake};
pub use layer::CALLS_AT_ONCE;
pub use page::Page;
pub use peer::Peer;
pub use refusal::{Refusal, Violations};
pub use relay::Horizon;
pub use service::{Running, Service, Shell, StartError};
pub use settings::Settings;
pub use tokio_postgres::types::ToSql;
pub use tx::{Begun, Rows, Tx};
pub use work::round;
