use super::{Around, Policy};
use crate::{Clock, Effect, Error, ErrorKind, Operation, Result, Retry};
use std::{future::Future, num::NonZeroU32, sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// A backend that is asked only so much at a time.
pub type Limited<S> = Around<S, LimitPolicy>;

/// Lets only so many calls run at a time; the others wait in turn, at most for so long. Then the error is `RateLimited`,
/// without effect. Clones share the limit.
#[derive(Clone, Debug)]
pub struct LimitPolicy {
    running: Arc<Semaphore>,
    longest_wait: Duration,
    clock: Arc<dyn Clock>,
}

impl<S> Limited<S> {
    /// At most `calls` at a time; others wait at most `longest_wait`.
    pub fn new(inner: S, calls: NonZeroU32, longest_wait: Duration, clock: Arc<dyn Clock>) -> Self {
        Self::with_policy(inner, LimitPolicy::new(calls, longest_wait, clock))
    }
}

impl LimitPolicy {
    /// At most `calls` at a time; others wait at most `longest_wait`.
    pub fn new(calls: NonZeroU32, longest_wait: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { running: Arc::new(Semaphore::new(calls.get() as usize)), longest_wait, clock }
    }
}

impl Policy for LimitPolicy {
    async fn run<'a, T, F, Fut>(&'a self, operation: Operation, mut call: F) -> Result<T>
    where
        T: Send + 'a,
        F: FnMut() -> Fut + Send + 'a,
        Fut: Future<Output = Result<T>> + Send + 'a,
    {
        let turn = tokio::select! {
            biased;
            turn = self.running.acquire() => turn.expect("the semaphore is never closed"),
            () = self.clock.sleep(self.longest_wait) => {
                let message = format!("waited {:?} for its turn", self.longest_wait);
                return Err(Error::new(ErrorKind::RateLimited, message)
                    .at(operation.seam, operation.name)
                    .retry_as(Retry::Backoff)
                    .effect_as(Effect::None));
            }
        };
        let done = call().await;
        drop(turn);
        done
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Scripted;
    use super::*;
    use crate::{Notifier, TestClock};
    use futures::{FutureExt, future::join};

    const WAIT: Duration = Duration::from_secs(5);

    fn limited(inner: &Scripted, calls: u32) -> (Limited<Scripted>, TestClock) {
        let clock = TestClock::new();
        let calls = NonZeroU32::new(calls).unwrap();
        (Limited::new(inner.clone(), calls, WAIT, Arc::new(clock.clone())), clock)
    }

    #[tokio::test]
    async fn only_so_many_run_at_a_time_and_the_next_has_its_turn() {
        let inner = Scripted::default().hang().hang();
        let (limited, _) = limited(&inner, 2);
        let other = limited.clone();
        let (mut first, second) = (limited.check(), other.check());
        let mut second = std::pin::pin!(second);
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        let mut third = limited.check();
        assert!(third.as_mut().now_or_never().is_none());
        assert_eq!((inner.calls(), inner.running()), (2, 2), "clones share the limit");
        drop(first);
        assert!(third.await.is_ok());
        assert_eq!((inner.calls(), inner.running()), (3, 1));
    }

    #[tokio::test]
    async fn who_waits_too_long_is_told_that_nothing_happened() {
        let inner = Scripted::default().hang();
        let (limited, clock) = limited(&inner, 1);
        let mut first = limited.check();
        assert!(first.as_mut().now_or_never().is_none());
        let (e, other) = clock.drive(join(limited.check(), limited.check())).await;
        for e in [e.unwrap_err(), other.unwrap_err()] {
            assert_eq!((e.kind(), e.retry(), e.effect()), (ErrorKind::RateLimited, Retry::Backoff, Effect::None));
            assert_eq!(e.to_string(), "notifier/check: waited 5s for its turn (rate_limited)");
        }
        assert_eq!((inner.calls(), clock.monotonic()), (1, WAIT));
        // Who gave up takes nobody's turn.
        drop(first);
        limited.check().await.unwrap();
    }
}
