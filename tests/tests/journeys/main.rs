//! The customer's guide, played end to end: one module for each of its headings, the refusals beside the successes.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a journey that cannot go on has failed"
)]

mod accounts;
mod activating;
mod adding;
mod answering;
mod bytes;
mod calling;
mod changing;
mod clients;
mod converging;
mod coverage;
mod crowding;
mod crowding_mail;
mod declining;
mod deleting;
mod following;
mod forgetting;
mod ids;
mod installing;
mod invoicing;
mod late_ends;
mod leasing;
mod listing;
mod made_up;
mod methods;
mod missing;
mod numbering;
mod ordering;
mod passing_time;
mod paying;
mod previewing;
mod printing;
mod quoting;
mod reading_again;
mod recording;
mod renewing;
mod repeating;
mod routing;
mod sending;
mod settling;
mod starting;
mod suspending;
mod terminating;
mod thin;
mod throttling;
mod trusting;
mod waiting;
mod watching;
