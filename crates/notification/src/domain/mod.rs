//! Pure: what an e-mail says, to whom, and what states it goes through.

pub mod account;
pub mod content;
pub mod email;
pub mod fact;
pub mod lanes;
pub mod locale;
pub mod message;
pub mod retry;
pub mod template;
