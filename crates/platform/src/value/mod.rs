//! What requests, rows and answers are made of. Knows no database and no server.

pub mod call;
pub mod clock;
pub mod error;
pub mod limits;
pub mod name;
pub(crate) mod new_event;
pub mod page;
pub mod panic;
pub mod refusal;
pub mod request;
pub mod seal;
pub mod text;
pub mod time;
pub mod work;
