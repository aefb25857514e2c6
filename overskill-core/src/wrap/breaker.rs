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
    circuits: Arc<Mutex<HashMap<&'static str, Circuit>>>,
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

    /// Whether calls of this operation are let through now.
    pub fn is_open(&self, operation: &str) -> bool {
        let now = self.clock.monotonic();
        match self.circuits().get(operation) {
            Some(Circuit::Open { until } | Circuit::Probing { until }) => now < *until,
            Some(Circuit::Closed { .. }) | None => false,
        }
    }

    fn admit(&self, operation: Operation) -> Result<()> {
        let now = self.clock.monotonic();
        let mut circuits = self.circuits();
        let circuit = circuits.entry(operation.name).or_insert(Circuit::Closed { failures: 0 });
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
        let mut circuits = self.circuits();
        let circuit = circuits.entry(operation.name).or_insert(Circuit::Closed { failures: 0 });
        *circuit = match *circuit {
            _ if !down => Circuit::Closed { failures: 0 },
            Circuit::Closed { failures } if failures + 1 < self.failures.get() => {
                Circuit::Closed { failures: failures + 1 }
            }
            _ => Circuit::Open { until: self.clock.monotonic() + self.pause },
        };
    }

    fn circuits(&self) -> std::sync::MutexGuard<'_, HashMap<&'static str, Circuit>> {
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
