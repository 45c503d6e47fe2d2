//! Where a call stands in line for a connection to the database.

use std::sync::Arc;

use octroi_api::Method;
use octroi_platform::call::{Caller, SERVICE_SCOPE};
use octroi_platform::share::{Share, Whose};

/// The share that a call is of. No caller keeps out what Octroi's services ask of each other.
pub(crate) fn share(caller: &Caller, method: &Method) -> Share {
    if caller.has_scope(SERVICE_SCOPE) {
        Share::Background
    } else if method.reads {
        Share::Read
    } else {
        Share::Command
    }
}

/// Who takes turns: each of Octroi's services for each method, so that orders that wait for an account keep out neither
/// events nor other orders' quotes, and one service's events not another's.
pub(crate) fn in_line(share: Share, whose: &Whose, method: &Method) -> Whose {
    match (share, whose) {
        (Share::Background, Whose::Subject(service)) => {
            Whose::Service(Arc::clone(service), method.path)
        }
        _ => whose.clone(),
    }
}
