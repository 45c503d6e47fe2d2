//! What requests, rows and answers are made of. Knows no database and no server.

pub mod call;
pub mod clock;
pub mod error;
pub mod name;
pub mod page;
pub mod refusal;
pub mod seal;
pub mod text;
