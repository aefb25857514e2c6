//! The arithmetic of a quota: a token bucket in whole numbers.

use std::time::Duration;

/// A token bucket. Levels are counted in tokens times the window's nanoseconds, so that nothing is ever rounded.
#[derive(Debug)]
pub(super) struct Bucket {
    window_nanos: u128,
    /// Tokens that flow back in a window.
    refill: u128,
    full: u128,
    level: u128,
    /// Up to when `level` counts; lies ahead while paused.
    updated: Duration,
}

impl Bucket {
    /// At most `calls` tokens leave in any half-open window, of which `burst` at once.
    ///
    /// Within less than a window at most `burst` and less than `refill` tokens can leave: with a refill of
    /// `calls − burst + 1` that is at most `calls`.
    pub(super) fn new(calls: u32, window: Duration, burst: u32, now: Duration) -> Self {
        let window_nanos = window.as_nanos().max(1);
        let full = u128::from(burst) * window_nanos;
        Self { window_nanos, refill: u128::from(calls.saturating_sub(burst)) + 1, full, level: full, updated: now }
    }

    /// Takes `tokens` if `floor` tokens remain.
    pub(super) fn take(&mut self, tokens: u32, floor: u32, now: Duration) -> bool {
        self.refill(now);
        if now < self.updated || self.level < self.tokens(tokens) + self.tokens(floor) {
            return false;
        }
        self.level -= self.tokens(tokens);
        true
    }

    /// Gives back tokens that were taken for a call that was never sent.
    pub(super) fn give_back(&mut self, tokens: u32) {
        self.level = (self.level + self.tokens(tokens)).min(self.full);
    }

    /// When `tokens` can be taken with `floor` remaining, if nobody else takes any.
    pub(super) fn ready_at(&self, tokens: u32, floor: u32) -> Duration {
        let missing = (self.tokens(tokens) + self.tokens(floor)).saturating_sub(self.level);
        let nanos = u64::try_from(missing.div_ceil(self.refill)).unwrap_or(u64::MAX);
        self.updated.saturating_add(Duration::from_nanos(nanos))
    }

    /// Lets nothing out until `until`, and then `tokens` at once at most: the first calls show whether the server is
    /// ready, before a whole burst goes.
    pub(super) fn pause(&mut self, until: Duration, tokens: u32, now: Duration) {
        self.refill(now);
        if until > self.updated {
            self.refill(until); // what flows in meanwhile counts, so that the first need not wait longer
            self.level = self.level.min(self.tokens(tokens));
        }
    }

    fn refill(&mut self, now: Duration) {
        let Some(elapsed) = now.checked_sub(self.updated) else {
            return;
        };
        self.level = (self.level + elapsed.as_nanos() * self.refill).min(self.full);
        self.updated = now;
    }

    fn tokens(&self, tokens: u32) -> u128 {
        u128::from(tokens) * self.window_nanos
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_window_ever_lets_more_through_than_the_quota(
            calls in 1_u32..50,
            burst in 1_u32..50,
            gaps in prop::collection::vec(0_u64..30, 1..400),
            pauses in prop::collection::vec(prop::option::weighted(0.05, 1_u64..200), 400),
        ) {
            let burst = burst.min(calls);
            let window = Duration::from_millis(100);
            let mut bucket = Bucket::new(calls, window, burst, Duration::ZERO);
            let (mut now, mut taken, mut paused) = (Duration::ZERO, Vec::new(), Duration::ZERO);
            for (gap, pause) in gaps.into_iter().zip(pauses) {
                now += Duration::from_millis(gap);
                if let Some(pause) = pause {
                    paused = paused.max(now + Duration::from_millis(pause));
                    bucket.pause(paused, 1, now);
                }
                while bucket.take(1, 0, now) {
                    prop_assert!(now >= paused);
                    taken.push(now);
                }
            }
            for (i, start) in taken.iter().enumerate() {
                let within = taken[i..].iter().take_while(|t| t.saturating_sub(*start) < window).count();
                prop_assert!(within <= calls as usize, "{within} of {calls}");
            }
        }

        #[test]
        fn ready_at_is_exact(calls in 1_u32..50, tokens in 1_u32..5, floor in 0_u32..5) {
            let burst = calls.min(10);
            prop_assume!(tokens + floor <= burst);
            let mut bucket = Bucket::new(calls, Duration::from_nanos(977), burst, Duration::ZERO);
            while bucket.take(1, 0, Duration::ZERO) {}
            let at = bucket.ready_at(tokens, floor);
            prop_assert!(!bucket.take(tokens, floor, at.saturating_sub(Duration::from_nanos(1))));
            prop_assert!(bucket.take(tokens, floor, at));
        }
    }

    #[test]
    fn a_full_quota_is_used_in_the_long_run() {
        let minute = Duration::from_mins(1);
        let mut bucket = Bucket::new(60, minute, 6, Duration::ZERO);
        let mut taken = 0;
        for second in 0..600 {
            while bucket.take(1, 0, Duration::from_secs(second)) {
                taken += 1;
            }
        }
        assert!((540..=600).contains(&taken), "{taken} of 600");
    }
}
