//! Business time. Machine time (leases, tokens, deadlines) comes from the operating system and the database and
//! never moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// The one source of business time in a process: system time plus an offset that only a test clock moves.
#[derive(Clone, Debug)]
pub struct Clock {
    offset_micros: Arc<AtomicI64>,
    test: bool,
}

impl Clock {
    /// The real clock.
    pub fn system() -> Self {
        Self {
            offset_micros: Arc::default(),
            test: false,
        }
    }

    /// A clock that a test may move.
    pub fn test(offset_micros: i64) -> Self {
        Self {
            offset_micros: Arc::new(AtomicI64::new(offset_micros)),
            test: true,
        }
    }

    /// Whether documents made now are specimens.
    pub fn is_test(&self) -> bool {
        self.test
    }

    /// The instant, truncated to the microsecond that PostgreSQL keeps.
    pub fn now(&self) -> Timestamp {
        let micros = system_micros().saturating_add(self.offset_micros.load(Ordering::Acquire));
        Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX)
    }

    /// Moves a test clock; the offset never falls.
    pub fn set_offset(&self, micros: i64) {
        self.offset_micros.fetch_max(micros, Ordering::AcqRel);
    }
}

/// System time in seconds since 1970, as tokens count it.
pub fn system_seconds() -> i64 {
    system_micros() / 1_000_000
}

/// System time in microseconds since 1970, for machine time and for offsets.
pub fn system_micros() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "the one reading of system time")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|elapsed| i64::try_from(elapsed.as_micros()).ok())
        .unwrap_or_default()
}
