//! A share's own places in the pool, and those who wait for one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::call::Caller;

/// How many calls of callers wait in a share at least before one is refused. It is twice as many as were given a connection
/// in a short while, where that is more.
pub(super) const WAITING: usize = 128;
/// How many of a caller's may wait, however many of others do already.
const ALWAYS: usize = WAITING / 8;
/// How long what was done counts.
const WHILE: Duration = Duration::from_millis(100);

/// Who shares what one caller may have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Whose {
    /// Of all tokens that are bound to an account.
    Account(Arc<str>),
    /// Of all other tokens of a subject.
    Subject(Arc<str>),
    /// Of all who have no token.
    Stranger,
    /// Of a service of Octroi's, in what it asks by a method.
    Service(Arc<str>, &'static str),
    /// Of background work, by its name.
    Work(&'static str),
}

impl Whose {
    /// Of a caller.
    pub fn of(caller: &Caller) -> Self {
        match &caller.account {
            Some(account) => Self::Account(account.as_str().into()),
            None => Self::Subject(caller.subject.as_str().into()),
        }
    }
}

/// Whose place it is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Anybodys,
    TheShares,
}

/// A share's own places, and those who wait for one or for anybody's.
#[derive(Default)]
pub(super) struct Part {
    free: usize,
    /// How many of them each caller has.
    taken: HashMap<Whose, usize>,
    /// By caller, the next first.
    pub(super) lines: VecDeque<(Whose, VecDeque<Waiter>)>,
    pub(super) waiting: usize,
    pub(super) pace: Pace,
}

pub(super) struct Waiter {
    /// Whether its work has begun.
    begun: bool,
    turn: oneshot::Sender<Kind>,
}

impl Part {
    pub(super) fn new(free: usize) -> Self {
        Self {
            free,
            ..Self::default()
        }
    }

    pub(super) fn take(&mut self, anybodys: &mut usize, caller: &Whose) -> Option<Kind> {
        let taken = self.taken.get(caller).copied().unwrap_or_default();
        let kind = if *anybodys > 0 {
            *anybodys -= 1;
            Kind::Anybodys
        } else if taken < self.free {
            self.free -= 1;
            self.taken.insert(caller.clone(), taken + 1);
            Kind::TheShares
        } else {
            return None;
        };
        self.pace.count(Instant::now());
        Some(kind)
    }

    pub(super) fn give_back(&mut self, caller: &Whose) {
        self.free += 1;
        if let Some(taken) = self.taken.get_mut(caller) {
            *taken -= 1;
            if *taken == 0 {
                self.taken.remove(caller);
            }
        }
    }

    pub(super) fn line(&self, caller: &Whose) -> Option<usize> {
        self.lines.iter().position(|(of, _)| of == caller)
    }

    /// Whether a caller waits with as many as may wait still.
    pub(super) fn is_full_for(&mut self, caller: &Whose) -> bool {
        let own = self.line(caller).map_or(0, |at| self.lines[at].1.len());
        let most = WAITING.max(2 * self.pace.most(Instant::now()));
        own >= most.saturating_sub(self.waiting).max(ALWAYS)
    }

    /// What has begun goes before what has not, among its caller's own.
    pub(super) fn wait(&mut self, caller: &Whose, begun: bool) -> oneshot::Receiver<Kind> {
        let (sender, turn) = oneshot::channel();
        let at = self.line(caller).unwrap_or_else(|| {
            self.lines.push_back((caller.clone(), VecDeque::new()));
            self.lines.len() - 1
        });
        let line = &mut self.lines[at].1;
        let before = match begun {
            true => line.iter().take_while(|it| it.begun).count(),
            false => line.len(),
        };
        let turn_of = Waiter {
            begun,
            turn: sender,
        };
        line.insert(before, turn_of);
        self.waiting += 1;
        turn
    }

    /// Takes those of a caller's out who have left.
    pub(super) fn forget_gone(&mut self, caller: &Whose) {
        let Some(at) = self.line(caller) else {
            return;
        };
        let line = &mut self.lines[at].1;
        let before = line.len();
        line.retain(|waiter| !waiter.turn.is_closed());
        self.waiting -= before - line.len();
        if line.is_empty() {
            self.lines.remove(at);
        }
    }

    /// Gives those who wait what is free, one of each caller in turn.
    pub(super) fn serve(&mut self, anybodys: &mut usize) {
        let mut passed = 0;
        while passed < self.lines.len() {
            let Some((caller, mut line)) = self.lines.pop_front() else {
                return;
            };
            passed += 1;
            if let Some(kind) = self.take(anybodys, &caller)
                && let Some(waiter) = line.pop_front()
            {
                passed = 0;
                self.waiting -= 1;
                // Who has left meanwhile finds it there, and gives it back.
                let _ = waiter.turn.send(kind);
            }
            if !line.is_empty() {
                self.lines.push_back((caller, line));
            }
        }
    }
}

/// Counts what is done in the while that lasts, and knows the one before.
#[derive(Default)]
pub(super) struct Pace {
    since: Option<Instant>,
    counted: usize,
    before: usize,
}

impl Pace {
    pub(super) fn count(&mut self, now: Instant) {
        self.go_on(now);
        self.counted += 1;
    }

    /// How much was done in one of the two, at most.
    pub(super) fn most(&mut self, now: Instant) -> usize {
        self.go_on(now);
        self.counted.max(self.before)
    }

    fn go_on(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(*self.since.get_or_insert(now));
        if passed >= WHILE {
            self.before = if passed < 2 * WHILE { self.counted } else { 0 };
            (self.since, self.counted) = (Some(now), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_counts_for_a_short_while() {
        let begun = Instant::now();
        let at = |millis| begun + Duration::from_millis(millis);
        let mut pace = Pace::default();
        assert_eq!(pace.most(at(0)), 0);
        for millis in 0..90 {
            pace.count(at(millis));
        }
        assert_eq!(pace.most(at(99)), 90);
        for millis in 100..140 {
            pace.count(at(millis));
        }
        assert_eq!(pace.most(at(199)), 90);
        assert_eq!(pace.most(at(200)), 40);
        // A stall.
        assert_eq!(pace.most(at(500)), 0);
    }
}
