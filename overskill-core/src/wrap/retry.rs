use super::{Around, Policy};
use crate::{Clock, Effect, Ids, IdsExt, Operation, Repeat, Result, Retry};
use std::{future::Future, num::NonZeroU32, sync::Arc, time::Duration};

/// A backend that is called again after failures that may pass.
pub type Retrying<S> = Around<S, RetryPolicy>;

/// Calls again while the error's [`Retry`] allows it and tries are left.
///
/// A call that is not safe to repeat is called again only when the failure had no effect. The wait before try *n* is drawn
/// evenly from zero to `first × 2ⁿ⁻¹`, at most `max` ("full jitter": AWS Architecture Blog, Exponential Backoff and
/// Jitter); a wait that the backend asked for is kept, even if it is longer, unless it is over `longest_asked`: then the
/// error is returned at once.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    tries: NonZeroU32,
    first: Duration,
    max: Duration,
    longest_asked: Duration,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
}

impl<S> Retrying<S> {
    /// At most 3 tries, with waits below 0.2 s, 0.4 s, … 10 s; waits that are asked for up to a minute.
    pub fn new(inner: S, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        Self::with_policy(inner, RetryPolicy::new(clock, ids))
    }
}

impl RetryPolicy {
    /// At most 3 tries, with waits below 0.2 s, 0.4 s, … 10 s; waits that are asked for up to a minute.
    pub fn new(clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        Self {
            tries: NonZeroU32::new(3).expect("not zero"),
            first: Duration::from_millis(200),
            max: Duration::from_secs(10),
            longest_asked: Duration::from_mins(1),
            clock,
            ids,
        }
    }

    /// Sets how many tries there are, the first among them.
    pub fn tries(mut self, tries: NonZeroU32) -> Self {
        self.tries = tries;
        self
    }

    /// Sets the bounds of the waits.
    pub fn waits(mut self, first: Duration, max: Duration) -> Self {
        (self.first, self.max) = (first, max);
        self
    }

    /// Sets the longest wait that a backend may ask for.
    pub fn longest_asked(mut self, longest: Duration) -> Self {
        self.longest_asked = longest;
        self
    }

    /// How long to wait after the failed try number `tried`, or `None` to give up.
    pub fn wait(&self, tried: u32, error: &crate::Error) -> Option<Duration> {
        if tried >= self.tries.get() {
            return None;
        }
        match error.retry() {
            Retry::Never => None,
            Retry::After(asked) if asked > self.longest_asked => None,
            Retry::After(asked) => Some(asked),
            Retry::Backoff => {
                let bound = self.first.saturating_mul(1 << tried.saturating_sub(1).min(20)).min(self.max);
                Some(self.ids.jitter(bound))
            }
        }
    }
}

impl Policy for RetryPolicy {
    async fn run<'a, T, F, Fut>(&'a self, operation: Operation, mut call: F) -> Result<T>
    where
        T: Send + 'a,
        F: FnMut() -> Fut + Send + 'a,
        Fut: Future<Output = Result<T>> + Send + 'a,
    {
        for tried in 1.. {
            let error = match call().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let safe = operation.repeat == Repeat::Safe || error.effect() == Effect::None;
            match self.wait(tried, &error).filter(|_| safe) {
                Some(wait) => self.clock.sleep(wait).await,
                None => return Err(if tried > 1 { error.with("tries", tried) } else { error }),
            }
        }
        unreachable!("tries end below u32::MAX")
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Scripted, notice};
    use super::*;
    use crate::{Error, ErrorKind, Notifier, SeededIds, TestClock};

    fn policy(clock: &TestClock) -> RetryPolicy {
        RetryPolicy::new(Arc::new(clock.clone()), Arc::new(SeededIds::new(1)))
    }

    fn retrying(inner: &Scripted) -> (Retrying<Scripted>, TestClock) {
        let clock = TestClock::new();
        (Retrying::with_policy(inner.clone(), policy(&clock)), clock)
    }

    #[tokio::test]
    async fn a_safe_call_is_made_again_until_tries_are_used_up() {
        let inner = Scripted::default().fail_times(2, ErrorKind::Timeout, Effect::Unknown);
        let (retrying, clock) = retrying(&inner);
        clock.drive(retrying.check()).await.unwrap();
        assert_eq!(inner.calls(), 3);
        assert!(clock.monotonic() <= Duration::from_millis(600), "{:?}", clock.monotonic());

        let inner = Scripted::default().fail_times(9, ErrorKind::Unavailable, Effect::None);
        let retrying = Retrying::with_policy(inner.clone(), policy(&clock).tries(NonZeroU32::new(4).unwrap()));
        let e = clock.drive(retrying.check()).await.unwrap_err();
        assert_eq!(inner.calls(), 4);
        assert_eq!(e.context().collect::<Vec<_>>(), [("tries", "4")]);
    }

    #[tokio::test]
    async fn an_unsafe_call_is_not_made_again_when_it_may_have_happened() {
        for kind in [ErrorKind::Timeout, ErrorKind::Unavailable, ErrorKind::RateLimited] {
            let inner = Scripted::default().fail_times(1, kind, Effect::Unknown);
            let (retrying, clock) = retrying(&inner);
            let e = clock.drive(retrying.notify(&notice())).await.unwrap_err();
            assert_eq!((inner.calls(), e.kind(), e.effect()), (1, kind, Effect::Unknown));
            assert_eq!(e.context().count(), 0, "one try is not worth telling");
        }
        // It did not happen, and then it may have: that is where it ends.
        let inner = Scripted::default().fail_times(1, ErrorKind::Unavailable, Effect::None).fail_times(
            1,
            ErrorKind::Timeout,
            Effect::Unknown,
        );
        let (retrying, clock) = retrying(&inner);
        let e = clock.drive(retrying.notify(&notice())).await.unwrap_err();
        assert_eq!((inner.calls(), e.kind()), (2, ErrorKind::Timeout));
    }

    #[tokio::test]
    async fn an_unsafe_call_that_provably_did_nothing_is_made_again() {
        let inner = Scripted::default().fail_times(2, ErrorKind::Unavailable, Effect::None);
        let (retrying, clock) = retrying(&inner);
        clock.drive(retrying.notify(&notice())).await.unwrap();
        assert_eq!(inner.calls(), 3);
    }

    #[tokio::test]
    async fn what_would_be_answered_alike_is_not_asked_again() {
        for kind in ErrorKind::ALL {
            let inner = Scripted::default().fail_times(1, kind, Effect::None);
            let (retrying, clock) = retrying(&inner);
            let passes = matches!(kind, ErrorKind::RateLimited | ErrorKind::Timeout | ErrorKind::Unavailable);
            assert_eq!(clock.drive(retrying.check()).await.is_ok(), passes, "{kind}");
            assert_eq!(inner.calls(), 1 + usize::from(passes), "{kind}");
        }
    }

    #[tokio::test]
    async fn a_wait_that_was_asked_for_is_kept_unless_it_is_too_long() {
        let asked =
            |secs| Error::new(ErrorKind::RateLimited, "slow down").retry_as(Retry::After(Duration::from_secs(secs)));
        let inner = Scripted::default().fail(asked(60));
        let (retrying, clock) = retrying(&inner);
        clock.drive(retrying.check()).await.unwrap();
        assert_eq!(clock.monotonic(), Duration::from_mins(1), "longer than the policy's own bound of 10 s");

        let inner = Scripted::default().fail(asked(61));
        let retrying = Retrying::with_policy(inner.clone(), policy(&clock));
        retrying.check().await.unwrap_err();
        assert_eq!(inner.calls(), 1, "over a minute the caller decides");
    }

    #[test]
    fn waits_are_spread_evenly_below_a_bound_that_doubles() {
        let (first, max) = (Duration::from_millis(200), Duration::from_secs(10));
        let policy = policy(&TestClock::new()).waits(first, max).tries(NonZeroU32::MAX);
        let e = Error::new(ErrorKind::Unavailable, "down");
        for (tried, bound) in
            [(1, 200), (2, 400), (3, 800), (6, 6_400), (7, 10_000), (40, 10_000), (u32::MAX - 1, 10_000)]
        {
            let bound = Duration::from_millis(bound);
            let waits: Vec<_> = (0..400).map(|_| policy.wait(tried, &e).unwrap()).collect();
            assert!(waits.iter().all(|wait| *wait <= bound), "try {tried}");
            for quarter in 0..4 {
                let within = |wait: &&Duration| (bound * quarter / 4..bound * (quarter + 1) / 4).contains(*wait);
                let share = waits.iter().filter(within).count();
                assert!((60..140).contains(&share), "try {tried}: {share} of 400 in quarter {quarter}");
            }
        }
        assert_eq!(policy.wait(u32::MAX, &e), None);
    }
}
