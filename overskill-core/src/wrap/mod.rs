//! Wrappers: a backend with a policy around it is a backend again.
//!
//! [`Around<S, P>`] implements every seam that `S` implements, and passes each call through the [`Policy`] `P`. There are
//! four policies here, each with a name for the wrapped form, and a host may write its own:
//!
//! | wrapper | what it does |
//! |---|---|
//! | [`Retrying`] | calls again after failures that may pass, where that is safe |
//! | [`Timed`] | gives each call a limit of time |
//! | [`Breaking`] | stops calling a backend that is down, and tries it again now and then |
//! | [`Limited`] | lets only so many calls run at a time |
//!
//! The order matters: a time limit *inside* retries limits each try, `Retrying::new(Timed::new(target, …), …)`; outside, it
//! would cut the retries short. A breaker goes inside the retries, so that each try counts.
//!
//! ```
//! use overskill_core::{FileStore, Retrying, SystemClock, SystemIds, Timed, memory::MemoryFiles};
//! use std::{sync::Arc, time::Duration};
//!
//! let clock = Arc::new(SystemClock);
//! let store = Timed::new(MemoryFiles::new(), Duration::from_secs(5), clock.clone());
//! let store = Retrying::new(store, clock, Arc::new(SystemIds));
//! assert_eq!(store.info().name, "memory");
//! ```

mod breaker;
mod limit;
mod retry;
#[cfg(test)]
mod testing;
mod timeout;

pub use breaker::{BreakerPolicy, Breaking};
pub use limit::{LimitPolicy, Limited};
pub use retry::{RetryPolicy, Retrying};
pub use timeout::{Timed, TimeoutPolicy};

use crate::{Operation, Result};
use std::{fmt::Debug, future::Future};

/// What happens around every call of a wrapped backend.
pub trait Policy: Debug + Send + Sync + 'static {
    /// Runs `call`, once or more, or not at all.
    ///
    /// Each call of `call` gives a future that has not begun. Dropping it stops it, with unknown effect.
    fn run<'a, T, F, Fut>(&'a self, operation: Operation, call: F) -> impl Future<Output = Result<T>> + Send
    where
        T: Send + 'a,
        F: FnMut() -> Fut + Send + 'a,
        Fut: Future<Output = Result<T>> + Send + 'a;
}

/// A backend with a policy around it.
#[derive(Clone, Debug)]
pub struct Around<S, P> {
    inner: S,
    policy: P,
}

impl<S, P> Around<S, P> {
    /// Puts `policy` around `inner`.
    pub const fn with_policy(inner: S, policy: P) -> Self {
        Self { inner, policy }
    }

    /// The backend inside.
    pub const fn inner(&self) -> &S {
        &self.inner
    }

    /// The policy.
    pub const fn policy(&self) -> &P {
        &self.policy
    }
}
