//! What the requests of a service and the answers that have not left hold of its memory, all together: a bound on bytes,
//! since a bound on calls alone lets each bring the largest message.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use octroi_api::r#type::v1::ErrorReason;
use octroi_platform::refusal::Refusal;
use octroi_platform::share::Whose;
use tonic::{Code, Status};

/// What all of a service's requests and answers hold at most, in bytes. One caller has half of each part.
pub(crate) const ALL: usize = 64 << 20;
/// What a small request holds at most.
const SMALL: usize = 16 << 10;
/// What only small requests take: twice what all calls that are worked on hold when they are small.
const FOR_SMALL: usize = 16 << 20;

/// The memory that requests and answers share.
pub(crate) struct Memory {
    bytes: usize,
    taken: Mutex<Taken>,
}

/// What is taken, by all together and by each caller who holds something.
#[derive(Default)]
struct Taken {
    all: usize,
    each: HashMap<Whose, usize>,
}

impl Memory {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        let taken = Mutex::default();
        Arc::new(Self { bytes, taken })
    }

    /// What one request or answer of a caller's holds: nothing yet.
    pub(crate) fn hold(self: &Arc<Self>, whose: &Whose) -> Held {
        Held {
            memory: Arc::clone(self),
            whose: whose.clone(),
            bytes: 0,
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one request or answer holds, until it is dropped.
pub(crate) struct Held {
    memory: Arc<Memory>,
    whose: Whose,
    bytes: usize,
}

impl Held {
    /// Takes so many bytes more, if there is room for them.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Status> {
        let mut taken = self.memory.taken();
        let kept = if self.bytes + bytes > SMALL {
            FOR_SMALL
        } else {
            0
        };
        let most = self.memory.bytes.saturating_sub(kept);
        let own = taken.each.get(&self.whose).copied().unwrap_or_default();
        if taken.all + bytes > most || own + bytes > most / 2 {
            let message = "too much in requests and in answers that are not read; try again";
            return Err(overloaded(message));
        }
        taken.take(&self.whose, bytes);
        self.bytes += bytes;
        Ok(())
    }

    /// Takes the bytes of an answer, which is made already: what is too much is not there for the next requests.
    pub(crate) fn owe(&mut self, bytes: usize) {
        self.memory.taken().take(&self.whose, bytes);
        self.bytes += bytes;
    }

    /// Gives all of it back.
    pub(crate) fn release(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes > 0 {
            self.memory.taken().give_back(&self.whose, bytes);
        }
    }
}

impl Taken {
    fn take(&mut self, whose: &Whose, bytes: usize) {
        self.all += bytes;
        *self.each.entry(whose.clone()).or_default() += bytes;
    }

    fn give_back(&mut self, whose: &Whose, bytes: usize) {
        self.all -= bytes;
        if let Some(own) = self.each.get_mut(whose) {
            *own -= bytes;
            if *own == 0 {
                self.each.remove(whose);
            }
        }
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
    use octroi_platform::call::Caller;

    use super::*;

    /// Each of a caller's own, unless it names one.
    fn each(memory: &Arc<Memory>, caller: usize) -> Held {
        memory.hold(&Whose::Subject(caller.to_string().into()))
    }

    #[test]
    fn a_subject_that_is_named_like_an_account_is_none() {
        let mut bound = Caller::default();
        bound.account = Some("acme".to_owned());
        let mut named = Caller::default();
        for name in ["acme", "accounts/acme"] {
            named.subject = name.to_owned();
            assert_ne!(Whose::of(&named), Whose::of(&bound), "{name}");
        }
    }

    #[test]
    fn large_requests_leave_room_for_small_ones() {
        let memory = Memory::new(FOR_SMALL + 6 * SMALL);
        let (mut large, mut other) = (each(&memory, 1), each(&memory, 2));
        large.grow(SMALL).unwrap();
        large.grow(2 * SMALL).unwrap();
        other.grow(SMALL).unwrap();
        other.grow(2 * SMALL).unwrap();
        let mut third = each(&memory, 3);
        third.grow(SMALL).unwrap();
        assert_eq!(third.grow(1).unwrap_err().code(), Code::Unavailable);
        let mut small: Vec<_> = (1..FOR_SMALL / SMALL).map(|it| each(&memory, it)).collect();
        for held in &mut small {
            held.grow(SMALL).unwrap();
        }
        assert!(each(&memory, 4).grow(1).is_err(), "all of it is taken");
        drop((large, small));
        third.grow(2 * SMALL).unwrap();
        drop((third, other));
        let taken = memory.taken();
        assert_eq!((taken.all, taken.each.len()), (0, 0));
    }

    #[test]
    fn one_caller_leaves_half_of_each_part_to_others() {
        let memory = Memory::new(FOR_SMALL + 6 * SMALL);
        let mut large = each(&memory, 1);
        large.grow(3 * SMALL).unwrap();
        assert!(large.grow(1).is_err(), "half of what is for large ones");
        let mut small = Vec::new();
        while small.len() < FOR_SMALL / SMALL {
            let mut held = each(&memory, 1);
            if held.grow(SMALL).is_err() {
                break;
            }
            small.push(held);
        }
        assert_eq!(small.len(), FOR_SMALL / SMALL / 2);
        each(&memory, 2).grow(SMALL).unwrap();
    }

    /// It is made, whatever there is room for; the next requests are refused for it.
    #[test]
    fn an_answer_that_is_not_read_is_held() {
        let memory = Memory::new(FOR_SMALL + 6 * SMALL);
        let mut answer = each(&memory, 1);
        answer.owe(memory.bytes / 2);
        assert!(each(&memory, 1).grow(1).is_err());
        each(&memory, 2).grow(1).unwrap();
        answer.owe(memory.bytes / 2);
        assert!(each(&memory, 2).grow(1).is_err());
        drop(answer);
        each(&memory, 1).grow(1).unwrap();
    }
}
