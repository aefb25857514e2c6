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
                let bound = self.first.saturating_mul(1 << (tried - 1).min(20)).min(self.max);
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
