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
