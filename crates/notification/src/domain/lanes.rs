//! How many e-mails are sent at the same time, and to whom. A domain whose mail server takes its time gets lanes of its
//! own, so that it holds up no other domain.
//!
//! Times are since any one instant.

use std::collections::HashMap;
use std::time::Duration;

/// How many attempts are in fast lanes at most.
pub const FAST: usize = 12;

/// How many of them are to one domain: the others are there for the other domains.
const FAST_PER_DOMAIN: usize = 8;

/// How many attempts are in slow lanes at most.
const SLOW: usize = 24;

/// How many attempts to slow domains begin there; the other lanes are for attempts that turn out to be slow.
const SLOW_BEGUN: usize = 16;

/// How many of them are to one domain.
const SLOW_PER_DOMAIN: usize = 4;

/// An attempt that lasts longer moves to a slow lane.
const SLOW_AFTER: Duration = Duration::from_secs(3);

/// How long a domain counts as slow after its last slow attempt, unless a fast one ends that.
const REMEMBERED: Duration = Duration::from_secs(10 * 60);

/// How many slow domains are remembered.
const MOST_DOMAINS: usize = 10_000;

/// How many e-mails to one domain may be held ready to be sent, those being sent among them.
const READY_PER_DOMAIN: usize = 24;

/// The attempts under way, and the domains that are slow.
#[derive(Debug, Default)]
pub struct Lanes {
    attempts: HashMap<u64, Attempt>,
    /// When each of them was slow last.
    slow: HashMap<String, Duration>,
    begun: u64,
}

#[derive(Debug)]
struct Attempt {
    domain: String,
    began: Duration,
    is_slow: bool,
}

impl Lanes {
    /// Begins an attempt when there is a lane for its domain; its number.
    pub fn begin(&mut self, domain: &str, now: Duration) -> Option<u64> {
        let is_slow = self.is_slow(domain, now);
        let (most, per_domain) = match is_slow {
            true => (SLOW_BEGUN, SLOW_PER_DOMAIN),
            false => (FAST, FAST_PER_DOMAIN),
        };
        if self.count(is_slow) >= most || self.count_of(domain, is_slow) >= per_domain {
            return None;
        }
        self.begun = self.begun.wrapping_add(1);
        let attempt = Attempt {
            domain: domain.to_owned(),
            began: now,
            is_slow,
        };
        self.attempts.insert(self.begun, attempt);
        Some(self.begun)
    }

    /// Ends an attempt. How long it took says whether its domain is slow.
    pub fn end(&mut self, number: u64, now: Duration) {
        let Some(attempt) = self.attempts.remove(&number) else {
            return;
        };
        let took = now.saturating_sub(attempt.began);
        if took >= SLOW_AFTER {
            self.remember(attempt.domain, now);
        } else if took < SLOW_AFTER / 2 {
            self.slow.remove(&attempt.domain);
        }
    }

    /// Moves the attempts that have lasted long to slow lanes. Those that find none are to give way; their numbers.
    pub fn move_slow(&mut self, now: Duration) -> Vec<u64> {
        let mut room = SLOW.saturating_sub(self.count(true));
        let (mut moved, mut stay) = (Vec::new(), Vec::new());
        for (number, attempt) in &mut self.attempts {
            if attempt.is_slow || now.saturating_sub(attempt.began) < SLOW_AFTER {
                continue;
            }
            moved.push(attempt.domain.clone());
            if room > 0 {
                room -= 1;
                attempt.is_slow = true;
            } else {
                stay.push(*number);
            }
        }
        for domain in moved {
            self.remember(domain, now);
        }
        stay
    }

    /// Whether one more e-mail to the domain may be held ready, beside so many that are.
    pub fn may_hold(&self, domain: &str, ready: usize, now: Duration) -> bool {
        let is_slow = self.is_slow(domain, now);
        let under_way = self.count_of(domain, is_slow);
        match is_slow {
            true => self.count(true) + ready < SLOW_BEGUN && under_way + ready < SLOW_PER_DOMAIN,
            false => under_way + ready < READY_PER_DOMAIN,
        }
    }

    /// Whether the domain's mail server took its time lately.
    pub fn is_slow(&self, domain: &str, now: Duration) -> bool {
        let last = self.slow.get(domain);
        last.is_some_and(|last| now.saturating_sub(*last) < REMEMBERED)
    }

    fn remember(&mut self, domain: String, now: Duration) {
        if self.slow.len() >= MOST_DOMAINS {
            self.slow
                .retain(|_, last| now.saturating_sub(*last) < REMEMBERED);
        }
        if self.slow.len() < MOST_DOMAINS {
            self.slow.insert(domain, now);
        }
    }

    fn count(&self, is_slow: bool) -> usize {
        let attempts = self.attempts.values();
        attempts.filter(|it| it.is_slow == is_slow).count()
    }

    fn count_of(&self, domain: &str, is_slow: bool) -> usize {
        let attempts = self.attempts.values();
        attempts
            .filter(|it| it.is_slow == is_slow && it.domain == domain)
            .count()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn fill(lanes: &mut Lanes, domain: &str, now: Duration) -> Vec<u64> {
        std::iter::from_fn(|| lanes.begin(domain, now)).collect()
    }

    #[test]
    fn a_domain_leaves_lanes_to_others() {
        let mut lanes = Lanes::default();
        assert_eq!(fill(&mut lanes, "a.test", at(0)).len(), FAST_PER_DOMAIN);
        let others = FAST - FAST_PER_DOMAIN;
        assert_eq!(fill(&mut lanes, "b.test", at(0)).len(), others);
        assert_eq!(lanes.begin("c.test", at(0)), None);
    }

    #[test]
    fn slow_attempts_move_and_make_room() {
        let mut lanes = Lanes::default();
        let stuck = fill(&mut lanes, "a.test", at(0));
        assert!(lanes.move_slow(at(2_999)).is_empty());
        assert!(!lanes.is_slow("a.test", at(2_999)));
        assert!(lanes.move_slow(at(3_000)).is_empty());
        assert!(lanes.is_slow("a.test", at(3_000)));
        // It holds more slow lanes than it may begin in.
        assert_eq!(lanes.begin("a.test", at(3_000)), None);
        assert_eq!(fill(&mut lanes, "b.test", at(3_000)).len(), FAST_PER_DOMAIN);
        for number in stuck {
            lanes.end(number, at(5_000));
        }
        assert_eq!(fill(&mut lanes, "a.test", at(5_000)).len(), SLOW_PER_DOMAIN);
    }

    #[test]
    fn a_slow_domain_is_fast_again_after_a_fast_attempt_or_a_while() {
        let mut lanes = Lanes::default();
        let slow = lanes.begin("a.test", at(0)).unwrap();
        lanes.end(slow, at(3_000));
        assert!(lanes.is_slow("a.test", at(3_000)));
        let middling = lanes.begin("a.test", at(4_000)).unwrap();
        lanes.end(middling, at(5_500));
        assert!(lanes.is_slow("a.test", at(5_500)));
        let fast = lanes.begin("a.test", at(6_000)).unwrap();
        lanes.end(fast, at(7_499));
        assert!(!lanes.is_slow("a.test", at(7_499)));
        let slow = lanes.begin("a.test", at(10_000)).unwrap();
        lanes.end(slow, at(13_000));
        assert!(lanes.is_slow("a.test", at(612_999)));
        assert!(!lanes.is_slow("a.test", at(613_000)));
    }

    #[test]
    fn what_finds_no_slow_lane_gives_way() {
        let mut lanes = Lanes::default();
        for round in 0..SLOW / FAST {
            let now = at(3_000 * round as u64);
            for domain in 0..FAST {
                assert!(
                    lanes
                        .begin(&format!("{domain}.{round}.test"), now)
                        .is_some()
                );
            }
            assert!(lanes.move_slow(now + SLOW_AFTER).is_empty());
        }
        let now = at(100_000);
        let last: Vec<_> = (0..FAST)
            .map(|domain| lanes.begin(&format!("{domain}.last.test"), now).unwrap())
            .collect();
        let mut way = lanes.move_slow(now + SLOW_AFTER);
        way.sort_unstable();
        assert_eq!(way, last);
    }

    #[test]
    fn as_many_are_held_as_can_be_sent_soon() {
        let mut lanes = Lanes::default();
        assert!(lanes.may_hold("a.test", READY_PER_DOMAIN - 1, at(0)));
        assert!(!lanes.may_hold("a.test", READY_PER_DOMAIN, at(0)));
        let slow = lanes.begin("a.test", at(0)).unwrap();
        assert!(!lanes.may_hold("a.test", READY_PER_DOMAIN - 1, at(0)));
        lanes.move_slow(at(3_000));
        assert!(lanes.may_hold("a.test", SLOW_PER_DOMAIN - 2, at(3_000)));
        assert!(!lanes.may_hold("a.test", SLOW_PER_DOMAIN - 1, at(3_000)));
        lanes.end(slow, at(3_000));
        assert!(lanes.may_hold("a.test", SLOW_PER_DOMAIN - 1, at(3_000)));
    }

    proptest! {
        /// Whatever domains are stuck, another one's e-mail finds a lane a few seconds later, once those that are to give
        /// way did.
        #[test]
        fn the_last_lanes_are_never_held(domains in prop::collection::vec(0..40_u8, 1..400)) {
            let mut lanes = Lanes::default();
            let mut now = at(0);
            for domain in domains {
                lanes.begin(&format!("{domain}.test"), now);
                now += at(100);
                for number in lanes.move_slow(now) {
                    lanes.end(number, now);
                }
                prop_assert!(lanes.count(false) <= FAST && lanes.count(true) <= SLOW);
            }
            now += SLOW_AFTER;
            for number in lanes.move_slow(now) {
                lanes.end(number, now);
            }
            prop_assert!(lanes.begin("other.test", now).is_some());
        }
    }
}
