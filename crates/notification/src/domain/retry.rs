//! Retries of e-mails: exponential back-off with jitter, in machine time.

use std::time::Duration;

/// How long an e-mail is retried, counted from its first attempt.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(72 * 60 * 60);

/// The wait after the first failure, before jitter.
const FIRST: Duration = Duration::from_secs(30);

/// The longest wait, before jitter.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// The back-off after the given number of failed attempts (1 or more): doubling from 30 s to an hour, less up to half of it
/// by `random`.
pub fn backoff(attempts: i32, random: u64) -> Duration {
    let doublings = u32::try_from(attempts.max(1) - 1)
        .unwrap_or_default()
        .min(16);
    let full = FIRST.saturating_mul(1 << doublings).min(LONGEST);
    let half = full / 2;
    let millis = u64::try_from(half.as_millis()).unwrap_or(u64::MAX).max(1);
    half + Duration::from_millis(random % millis)
}

/// The back-off before the next attempt, when `left` remains until the e-mail is given up; none when nothing does. The last
/// attempt is at the very end.
pub fn next_attempt(attempts: i32, left: Duration, random: u64) -> Option<Duration> {
    if left.is_zero() {
        return None;
    }
    Some(backoff(attempts, random).min(left))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_wait_stays_within_its_bounds(attempts in any::<i32>(), random in any::<u64>()) {
            let wait = backoff(attempts, random);
            prop_assert!(wait >= FIRST / 2);
            prop_assert!(wait <= LONGEST);
        }

        #[test]
        fn a_wait_grows_until_it_is_an_hour(attempts in 1..12_i32, random in any::<u64>()) {
            let full = FIRST * 2_u32.pow(attempts.unsigned_abs() - 1);
            let wait = backoff(attempts, random);
            prop_assert!(wait >= full.min(LONGEST) / 2);
            prop_assert!(wait <= full.min(LONGEST));
        }

        #[test]
        fn tries_end_with_the_time_given(randoms in prop::collection::vec(any::<u64>(), 400)) {
            let mut left = GIVE_UP_AFTER;
            let mut tries = 1;
            for random in randoms {
                let Some(wait) = next_attempt(tries, left, random) else { break };
                prop_assert!(wait <= left);
                left -= wait;
                tries += 1;
            }
            prop_assert!(left.is_zero());
            prop_assert!((76..=160).contains(&tries), "{} tries", tries);
        }
    }
}
