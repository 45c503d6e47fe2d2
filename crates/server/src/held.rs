//! What the requests of a service hold of its memory, all together: a bound on bytes, since a bound on calls alone lets
//! each bring the largest message.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use octroi_api::r#type::v1::ErrorReason;
use octroi_platform::refusal::Refusal;
use tonic::{Code, Status};

/// What all of a service's requests hold at most, in bytes.
pub(crate) const ALL: usize = 64 << 20;
/// What a small request holds at most.
const SMALL: usize = 16 << 10;
/// What only small requests take: twice what all calls that are worked on hold when they are small.
const FOR_SMALL: usize = 16 << 20;

/// The memory that requests share.
pub(crate) struct Memory {
    free: AtomicUsize,
}

impl Memory {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        let free = AtomicUsize::new(bytes);
        Arc::new(Self { free })
    }

    /// What one request holds: nothing yet.
    pub(crate) fn hold(self: &Arc<Self>) -> Held {
        let memory = Arc::clone(self);
        Held { memory, bytes: 0 }
    }
}

/// What one request holds, until it is dropped.
pub(crate) struct Held {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Held {
    /// Takes so many bytes more, if there is room for them.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Status> {
        let held = self.bytes + bytes;
        let kept = if held > SMALL { FOR_SMALL } else { 0 };
        let taken = |free: usize| free.checked_sub(bytes).filter(|left| *left >= kept);
        self.memory
            .free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken)
            .map_err(|_| overloaded("too much in the requests at once; try again"))?;
        self.bytes = held;
        Ok(())
    }

    /// Gives all of it back.
    pub(crate) fn release(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.memory.free.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release();
    }
}

/// The refusal of what there is no room for now.
pub(crate) fn overloaded(message: &str) -> Status {
    Refusal::shared(Code::Unavailable, ErrorReason::Overloaded, message)
        .retry_after(Duration::from_millis(200))
        .status()
}

/// The refusal of what did not come to its end in time.
pub(crate) fn late(message: &str) -> Status {
    let reason = ErrorReason::DeadlineExceeded;
    Refusal::shared(Code::DeadlineExceeded, reason, message).status()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_requests_leave_room_for_small_ones() {
        let memory = Memory::new(FOR_SMALL + 3 * SMALL);
        let (mut large, mut other) = (memory.hold(), memory.hold());
        large.grow(SMALL).unwrap();
        large.grow(2 * SMALL).unwrap();
        assert_eq!(large.grow(1).unwrap_err().code(), Code::Unavailable);
        other.grow(SMALL).unwrap();
        assert!(other.grow(1).is_err(), "it is no longer small");
        let mut small: Vec<_> = (1..FOR_SMALL / SMALL).map(|_| memory.hold()).collect();
        for each in &mut small {
            each.grow(SMALL).unwrap();
        }
        assert!(memory.hold().grow(1).is_err(), "all of it is taken");
        drop((large, small));
        other.grow(2 * SMALL).unwrap();
        drop(other);
        assert_eq!(memory.free.load(Ordering::Relaxed), FOR_SMALL + 3 * SMALL);
    }
}
