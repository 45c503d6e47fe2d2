//! What the code of Octroi's services shares.
//!
//! Charter: here is what the code of every service is written with, and nothing of what any of them is about: the pool
//! and transactions in two round trips, the event log with its relay and intake, idempotency, errors and their details,
//! names and pages, tokens and scopes, sealed secrets, business time. A noun of the business (an order, a seat, an
//! invoice) has no place here; what only one service needs stays in that service, and what runs its process lies above,
//! in `octroi-server`.

pub mod db;
pub mod event;
mod trust;
mod value;

pub use db::{change, migrate, share, tx};
pub use event::{check, event_service, intake, lease, relay};
pub use trust::{auth, jwk, peer};
pub use value::{
    call, clock, error, limits, name, page, panic, refusal, request, seal, text, time, work,
};

pub(crate) use db::trail;
pub(crate) use value::new_event;

pub use call::{Call, Caller, IdempotencyKey};
pub use change::{Aggregate, Held};
pub use clock::Clock;
pub use db::{Db, Params, Reads, Shown, row_get};
pub use error::Error;
pub use event::progress::Horizon;
pub use intake::{Applied, Intake};
pub use limits::CALLS_AT_ONCE;
pub use name::{AccountId, Name};
pub use new_event::NewEvent;
pub use page::Page;
pub use panic::caught;
pub use peer::Peer;
pub use refusal::{Refusal, Violations};
pub use request::{Answer, Fields, answer, command, open};
pub use tokio_postgres::types::ToSql;
pub use tx::{Rows, Tx};
pub use work::{one_by_one, while_leased};
