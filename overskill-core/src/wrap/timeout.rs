use super::{Around, Policy};
use crate::{Clock, Operation, Result, timeout};
use std::{future::Future, sync::Arc, time::Duration};

/// A backend whose calls have a limit of time.
pub type Timed<S> = Around<S, TimeoutPolicy>;

/// Drops a call that takes too long. The error is `Timeout`, with unknown effect.
#[derive(Clone, Debug)]
pub struct TimeoutPolicy {
    limit: Duration,
    clock: Arc<dyn Clock>,
}

impl<S> Timed<S> {
    /// Gives each call at most `limit`.
    pub fn new(inner: S, limit: Duration, clock: Arc<dyn Clock>) -> Self {
        Self::with_policy(inner, TimeoutPolicy::new(limit, clock))
    }
}

impl TimeoutPolicy {
    /// Gives each call at most `limit`.
    pub fn new(limit: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { limit, clock }
    }
}

impl Policy for TimeoutPolicy {
    async fn run<'a, T, F, Fut>(&'a self, operation: Operation, mut call: F) -> Result<T>
    where
        T: Send + 'a,
        F: FnMut() -> Fut + Send + 'a,
        Fut: Future<Output = Result<T>> + Send + 'a,
    {
        timeout(&*self.clock, self.limit, call()).await.map_err(|e| {
            // Its own timeouts say where they come from; the backend's errors say so already.
            if e.operation().is_empty() { e.at(operation.seam, operation.name) } else { e }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Scripted, notice};
    use super::*;
    use crate::{Effect, Error, ErrorKind, Notifier, TestClock};

    fn timed(inner: &Scripted) -> (Timed<Scripted>, TestClock) {
        let clock = TestClock::new();
        (Timed::new(inner.clone(), Duration::from_secs(5), Arc::new(clock.clone())), clock)
    }

    #[tokio::test]
    async fn a_call_that_takes_too_long_is_dropped_with_unknown_effect() {
        let inner = Scripted::default().hang();
        let (timed, clock) = timed(&inner);
        let notice = notice();
        let e = clock.drive(timed.notify(&notice)).await.unwrap_err();
        assert_eq!((e.kind(), e.effect()), (ErrorKind::Timeout, Effect::Unknown));
        assert_eq!(e.to_string(), "notifier/notify: no answer within 5s (timeout)");
        assert_eq!((inner.calls(), inner.running()), (1, 0));
        assert_eq!(clock.monotonic(), Duration::from_secs(5));
    }

    #[tokio::test]
    async fn what_comes_in_time_is_passed_on_as_it_is() {
        let own = Error::new(ErrorKind::Timeout, "the database was slow").at("pg", "query").effect_as(Effect::None);
        let (timed, clock) = timed(&Scripted::default().fail(own));
        let e = timed.check().await.unwrap_err();
        assert_eq!((e.to_string().as_str(), e.effect()), ("pg/query: the database was slow (timeout)", Effect::None));
        timed.check().await.unwrap();
        assert_eq!(clock.monotonic(), Duration::ZERO);
    }
}
