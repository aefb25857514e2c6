//! When a failed call is tried again.

use crate::Repeat;
use overskill_core::{Effect, Error, Ids, IdsExt as _, Retry};
use std::{num::NonZeroU32, time::Duration};

/// How often, and after how long, a failed call is tried again.
///
/// Waits are "full jitter": the n-th is spread evenly over 0 to `base · 2^(n−1)`, at most `cap` (AWS Architecture Blog,
/// "Exponential Backoff And Jitter"). A server's `Retry-After` wins over that; when it reaches past the deadline, the
/// call fails at once, and its error still says how long to wait.
///
/// A call that may have landed ([`Effect::Unknown`]) is tried again only when its [`Repeat`] allows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// How often a call is sent at most, the first time included. 4 unless set.
    pub max_tries: NonZeroU32,
    /// Longest first wait. 250 ms unless set.
    pub base: Duration,
    /// Longest wait between tries, unless the server asks for more. 10 s unless set.
    pub cap: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_tries: const { NonZeroU32::new(4).expect("4 is not 0") },
            base: Duration::from_millis(250),
            cap: Duration::from_secs(10),
        }
    }
}

impl RetryPolicy {
    /// Every call is sent once.
    pub fn never() -> Self {
        Self::default().max_tries(NonZeroU32::MIN)
    }

    /// Sets how often a call is sent at most.
    pub fn max_tries(mut self, tries: NonZeroU32) -> Self {
        self.max_tries = tries;
        self
    }

    /// Sets the longest first wait and the longest wait of all.
    pub fn backoff(mut self, base: Duration, cap: Duration) -> Self {
        (self.base, self.cap) = (base, cap);
        self
    }

    /// How long to wait before the next try, when there should be one. `tries` were made.
    pub fn next_wait(&self, error: &Error, repeat: Repeat, tries: u32, ids: &dyn Ids) -> Option<Duration> {
        if tries >= self.max_tries.get() {
            return None;
        }
        if repeat == Repeat::Once && error.effect() == Effect::Unknown {
            return None;
        }
        match error.retry() {
            Retry::Never => None,
            Retry::Backoff => Some(ids.jitter(self.longest(tries))),
            Retry::After(wait) => Some(wait),
        }
    }

    fn longest(&self, tries: u32) -> Duration {
        let doubled = 1_u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX);
        self.base.saturating_mul(doubled).min(self.cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use overskill_core::{ErrorKind, SeededIds};
    use proptest::prelude::*;

    #[test]
    fn a_call_that_may_have_landed_is_repeated_only_when_that_is_harmless() {
        let policy = RetryPolicy::default();
        let ids = SeededIds::new(1);
        for (repeat, effect, again) in [
            (Repeat::Once, Effect::None, true),
            (Repeat::Once, Effect::Unknown, false),
            (Repeat::Idempotent, Effect::Unknown, true),
            (Repeat::Safe, Effect::Unknown, true),
        ] {
            let e = Error::new(ErrorKind::Timeout, "x").effect_as(effect);
            assert_eq!(policy.next_wait(&e, repeat, 1, &ids).is_some(), again, "{repeat:?} {effect:?}");
            let never = e.retry_as(Retry::Never);
            assert_eq!(policy.next_wait(&never, repeat, 1, &ids), None);
        }
    }

    #[test]
    fn tries_are_counted_and_the_servers_wish_wins() {
        let policy = RetryPolicy::default().backoff(Duration::from_millis(1), Duration::from_millis(1));
        let ids = SeededIds::new(1);
        let minute = Duration::from_mins(1);
        let e = Error::new(ErrorKind::RateLimited, "x").retry_as(Retry::After(minute));
        assert_eq!(policy.next_wait(&e, Repeat::Once, 3, &ids), Some(minute));
        assert_eq!(policy.next_wait(&e, Repeat::Once, 4, &ids), None);
        assert_eq!(RetryPolicy::never().next_wait(&e, Repeat::Safe, 1, &ids), None);
    }

    proptest! {
        #[test]
        fn waits_are_jittered_over_the_whole_range_below_the_cap(seed: u64, tries in 1_u32..200) {
            let many = NonZeroU32::MAX;
            let policy = RetryPolicy::default().max_tries(many);
            let ids = SeededIds::new(seed);
            let e = Error::new(ErrorKind::Unavailable, "x");
            let waits: Vec<_> = (0..64)
                .map(|_| policy.next_wait(&e, Repeat::Safe, tries, &ids).unwrap())
                .collect();
            let longest = policy.longest(tries);
            prop_assert!(longest <= policy.cap);
            prop_assert!(waits.iter().all(|w| *w <= longest));
            prop_assert!(waits.iter().any(|w| *w < longest / 2));
            prop_assert!(waits.iter().any(|w| *w > longest / 2));
        }
    }
}
