//! Asking a target, and what that took.

use crate::{
    BackendName, Clock, DeploymentEvent, Result,
    requests::{Requests, counted},
    timeout,
};
use std::{future::Future, time::Duration};

/// What asking a target took.
#[derive(Debug)]
pub(super) struct Took {
    requests: Requests,
    time: Duration,
}

/// Asks a target for something, for at most `limit`.
pub(super) async fn ask<T>(
    clock: &dyn Clock,
    limit: Duration,
    call: impl Future<Output = Result<T>>,
) -> (Result<T>, Took) {
    let began = clock.monotonic();
    let (result, requests) = counted(timeout(clock, limit, call)).await;
    (result, Took { requests, time: clock.monotonic().saturating_sub(began) })
}

impl Took {
    /// What the record says of it, if a provider was asked.
    pub(super) fn event(self, target: &BackendName, operation: &str) -> Option<DeploymentEvent> {
        let Requests { count, trace } = self.requests;
        (count > 0).then(|| DeploymentEvent::Asked {
            target: target.clone(),
            operation: operation.to_owned(),
            requests: count,
            millis: u64::try_from(self.time.as_millis()).unwrap_or(u64::MAX),
            trace,
        })
    }
}
