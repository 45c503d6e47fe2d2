//! Pure: what an e-mail says, to whom, and what may become of it.

pub mod account;
pub mod content;
pub mod email;
pub mod fact;
pub mod letter;
pub mod locale;
pub mod retry;
pub mod template;
