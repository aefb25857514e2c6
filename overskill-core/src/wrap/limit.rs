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
