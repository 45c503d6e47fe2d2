//! Bounds that several parts keep to.

use std::time::Duration;

/// The largest message that a call may bring, in bytes, before it was compressed.
pub(crate) const MESSAGE: usize = 4 << 20;
/// The largest that a caller without a token may bring, to health and reflection: a name or two.
pub(crate) const STRANGERS_MESSAGE: usize = 4 << 10;
/// How long a request without a token may take to come, to health and reflection.
pub(crate) const STRANGERS_DEADLINE: Duration = Duration::from_secs(10);
/// Moving a test clock by months works through every day.
pub(crate) const CLOCK_DEADLINE: Duration = Duration::from_secs(900);
