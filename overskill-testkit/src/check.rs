//! What cases have in common.

use crate::{Broken, Stop};
use overskill_core::{Operation, Policy, Result};
use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};
use tokio::sync::Barrier;

/// Reads until `holds`, or until `staleness` and some slack are over; the last answer either way.
///
/// On the machine's own clock: a provider knows no other. A store that is never stale is read once.
pub(crate) async fn settle<T>(
    staleness: Duration,
    read: impl AsyncFn() -> Result<T, Stop>,
    holds: impl Fn(&T) -> bool,
) -> Result<T, Stop> {
    const POLL: Duration = Duration::from_millis(25);
    let start = Instant::now();
    let limit = if staleness.is_zero() { staleness } else { staleness + staleness / 2 + 4 * POLL };
    loop {
        let over = start.elapsed() >= limit;
        let answer = read().await?;
        if over || holds(&answer) {
            return Ok(answer);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until whatever was written shows in every read, for cases that then read many times: a store that is stale for a
/// while may answer the new and then the old again.
pub(crate) async fn outlast(staleness: Duration) {
    if !staleness.is_zero() {
        tokio::time::sleep(staleness + staleness / 2).await;
    }
}

/// Polls a call so many times and drops it, as a caller that has gone away does; its answer, if it had one.
pub(crate) async fn poll_times<T>(polls: usize, call: impl Future<Output = T>) -> Option<T> {
    let mut call = pin!(call);
    for poll in 0..polls {
        if poll > 0 {
            // What it waits for gets the time to happen.
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        let done = std::future::poll_fn(|cx| match call.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => Poll::Ready(None),
        });
        if let Some(done) = done.await {
            return Some(done);
        }
    }
    None
}

/// Runs calls at the same time, on all threads there are: none begins before all are ready. Their answers, in order.
pub(crate) async fn race<T, C>(calls: impl IntoIterator<Item = C>) -> Result<Vec<T>, Stop>
where
    T: Send + 'static,
    C: Future<Output = T> + Send + 'static,
{
    let calls: Vec<_> = calls.into_iter().collect();
    let start = Arc::new(Barrier::new(calls.len()));
    let begin = |call: C| {
        let start = start.clone();
        tokio::spawn(async move {
            start.wait().await;
            call.await
        })
    };
    let running: Vec<_> = calls.into_iter().map(begin).collect();
    let mut answers = Vec::new();
    for call in running {
        answers.push(call.await.map_err(|e| Broken::new(format!("a concurrent call ended without an answer: {e}")))?);
    }
    Ok(answers)
}

/// The policy that does nothing, to see that a wrapped backend answers as itself.
#[derive(Debug)]
pub(crate) struct PassThrough;

impl Policy for PassThrough {
    async fn run<'a, T, F, Fut>(&'a self, _: Operation, mut call: F) -> Result<T>
    where
        T: Send + 'a,
        F: FnMut() -> Fut + Send + 'a,
        Fut: Future<Output = Result<T>> + Send + 'a,
    {
        call().await
    }
}
