use super::{Around, Policy};
use crate::{Clock, Effect, Error, ErrorKind, Operation, Result, Retry};
use std::{
    collections::HashMap,
    future::Future,
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};

/// A backend that is left alone while it is down.
pub type Breaking<S> = Around<S, BreakerPolicy>;

/// Stops calling after so many failures in a row, for each operation on its own; after a pause, one call is let through to
/// see. While it is open the error is `Unavailable` without effect, to be retried after the rest of the pause.
///
/// Only what says that the backend is down counts: `Unavailable`, `Timeout`, and whatever has an unknown effect. A
/// `RateLimited` backend is well, and its answer does not count. Clones share the state.
#[derive(Clone, Debug)]
pub struct BreakerPolicy {
    failures: NonZeroU32,
    pause: Duration,
    clock: Arc<dyn Clock>,
    circuits: Arc<Mutex<HashMap<(&'static str, &'static str), Circuit>>>,
}

#[derive(Clone, Copy, Debug)]
enum Circuit {
    Closed {
        failures: u32,
    },
    Open {
        until: Duration,
    },
    /// One call is out to see; it is given up for lost at that time, for its future may have been dropped.
    Probing {
        until: Duration,
    },
}

impl<S> Breaking<S> {
    /// Opens after `failures` in a row, for `pause`.
    pub fn new(inner: S, failures: NonZeroU32, pause: Duration, clock: Arc<dyn Clock>) -> Self {
        Self::with_policy(inner, BreakerPolicy::new(failures, pause, clock))
    }
}

impl BreakerPolicy {
    /// Opens after `failures` in a row, for `pause`.
    pub fn new(failures: NonZeroU32, pause: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { failures, pause, clock, circuits: Arc::default() }
    }

    /// Whether calls of this operation are refused now.
    pub fn is_open(&self, seam: &'static str, operation: &'static str) -> bool {
        let now = self.clock.monotonic();
        match self.circuits().get(&(seam, operation)) {
            Some(Circuit::Open { until } | Circuit::Probing { until }) => now < *until,
            Some(Circuit::Closed { .. }) | None => false,
        }
    }

    fn admit(&self, operation: Operation) -> Result<()> {
        let now = self.clock.monotonic();
        let mut circuits = self.circuits();
        let circuit = circuits.entry((operation.seam, operation.name)).or_insert(Circuit::Closed { failures: 0 });
        match *circuit {
            Circuit::Closed { .. } => Ok(()),
            Circuit::Open { until } | Circuit::Probing { until } if now < until => {
                Err(Error::new(ErrorKind::Unavailable, "not called: it failed too often in a row")
                    .at(operation.seam, operation.name)
                    .retry_as(Retry::After(until.saturating_sub(now)))
                    .effect_as(Effect::None))
            }
            Circuit::Open { .. } | Circuit::Probing { .. } => {
                *circuit = Circuit::Probing { until: now + self.pause };
                Ok(())
            }
        }
    }

    fn record<T>(&self, operation: Operation, result: &Result<T>) {
        let down = result.as_ref().is_err_and(|e| {
            matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) || e.effect() == Effect::Unknown
        });
        let slowed = result.as_ref().is_err_and(|e| e.kind() == ErrorKind::RateLimited);
        let mut circuits = self.circuits();
        let circuit = circuits.entry((operation.seam, operation.name)).or_insert(Circuit::Closed { failures: 0 });
        *circuit = match *circuit {
            closed @ Circuit::Closed { .. } if slowed => closed,
            _ if !down => Circuit::Closed { failures: 0 },
            Circuit::Closed { failures } if failures + 1 < self.failures.get() => {
                Circuit::Closed { failures: failures + 1 }
            }
            _ => Circuit::Open { until: self.clock.monotonic() + self.pause },
        };
    }

    fn circuits(&self) -> std::sync::MutexGuard<'_, HashMap<(&'static str, &'static str), Circuit>> {
        self.circuits.lock().expect("no holder of the circuits panics")
    }
}

impl Policy for BreakerPolicy {
    async fn run<'a, T, F, Fut>(&'a self, operation: Operation, mut call: F) -> Result<T>
    where
        T: Send + 'a,
        F: FnMut() -> Fut + Send + 'a,
        Fut: Future<Output = Result<T>> + Send + 'a,
    {
        self.admit(operation)?;
        let result = call().await;
        self.record(operation, &result);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Scripted, notice};
    use super::*;
    use crate::{Notifier, TestClock};
    use futures::FutureExt;

    const PAUSE: Duration = Duration::from_secs(30);

    fn breaking(inner: &Scripted) -> (Breaking<Scripted>, TestClock) {
        let clock = TestClock::new();
        let three = NonZeroU32::new(3).unwrap();
        (Breaking::new(inner.clone(), three, PAUSE, Arc::new(clock.clone())), clock)
    }

    fn down(inner: Scripted, times: usize) -> Scripted {
        inner.fail_times(times, ErrorKind::Unavailable, Effect::None)
    }

    #[tokio::test]
    async fn it_opens_after_failures_in_a_row_and_tells_how_long() {
        let inner = down(down(Scripted::default(), 2).succeed(), 3);
        let (breaking, clock) = breaking(&inner);
        for failed in [true, true, false, true, true, true] {
            assert!(!breaking.policy().is_open("notifier", "check"));
            assert_eq!(breaking.check().await.is_err(), failed);
        }
        assert!(breaking.policy().is_open("notifier", "check"));
        clock.advance(Duration::from_secs(10));
        let e = breaking.check().await.unwrap_err();
        assert_eq!((e.kind(), e.effect()), (ErrorKind::Unavailable, Effect::None));
        assert_eq!(e.retry(), Retry::After(Duration::from_secs(20)));
        assert_eq!((e.backend(), e.operation()), ("notifier", "check"));
        assert_eq!(inner.calls(), 6, "while it is open nothing is called");
        // Each operation is on its own, and clones share the state.
        breaking.notify(&notice()).await.unwrap();
        assert!(breaking.clone().check().await.is_err());
        assert_eq!(inner.calls(), 7);
    }

    #[tokio::test]
    async fn what_does_not_say_that_it_is_down_does_not_open_it() {
        for kind in ErrorKind::ALL {
            let inner = Scripted::default().fail_times(10, kind, Effect::None);
            let (breaking, _) = breaking(&inner);
            for _ in 0..10 {
                breaking.check().await.unwrap_err();
            }
            let counts = matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout);
            assert_eq!(breaking.policy().is_open("notifier", "check"), counts, "{kind}");
            assert_eq!(inner.calls(), if counts { 3 } else { 10 }, "{kind}");
        }
        let inner = Scripted::default().fail_times(3, ErrorKind::Unexpected, Effect::Unknown);
        let (breaking, _) = breaking(&inner);
        for _ in 0..3 {
            breaking.check().await.unwrap_err();
        }
        assert!(breaking.policy().is_open("notifier", "check"), "an unknown effect counts, whatever its kind");
    }

    #[tokio::test]
    async fn after_the_pause_one_call_sees_whether_it_is_back() {
        let inner = down(Scripted::default(), 4).hang();
        let (breaking, clock) = breaking(&inner);
        for _ in 0..3 {
            breaking.check().await.unwrap_err();
        }
        clock.advance(PAUSE);
        breaking.check().await.unwrap_err();
        assert_eq!(inner.calls(), 4, "one call is let through");
        assert!(breaking.policy().is_open("notifier", "check"), "it failed: one failure is enough now");

        clock.advance(PAUSE);
        let probe = breaking.check();
        let mut probe = std::pin::pin!(probe);
        assert!(probe.as_mut().now_or_never().is_none());
        let e = breaking.check().await.unwrap_err();
        assert_eq!((inner.calls(), e.retry()), (5, Retry::After(PAUSE)), "while one is out, no other follows");
    }

    #[tokio::test]
    async fn a_call_that_succeeds_closes_it() {
        let inner = down(down(Scripted::default(), 3).succeed(), 2);
        let (breaking, clock) = breaking(&inner);
        for _ in 0..3 {
            breaking.check().await.unwrap_err();
        }
        clock.advance(PAUSE);
        breaking.check().await.unwrap();
        for _ in 0..2 {
            breaking.check().await.unwrap_err();
        }
        assert!(!breaking.policy().is_open("notifier", "check"), "the count begins anew");
    }

    #[tokio::test]
    async fn a_probe_that_was_dropped_is_given_up_for_lost() {
        let inner = down(Scripted::default(), 3).hang();
        let (breaking, clock) = breaking(&inner);
        for _ in 0..3 {
            breaking.check().await.unwrap_err();
        }
        clock.advance(PAUSE);
        assert!(breaking.check().now_or_never().is_none());
        assert!(breaking.policy().is_open("notifier", "check"));
        clock.advance(PAUSE);
        breaking.check().await.unwrap();
        assert_eq!(inner.calls(), 5);
    }
}
