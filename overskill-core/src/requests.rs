//! Requests to a provider that a call of a backend takes: how many, what the provider calls its answers, and whether they go
//! before others.

use std::{cell::RefCell, future::Future};

tokio::task_local! {
    static COUNTED: RefCell<Requests>;
    static URGENT: ();
}

/// What a call of a backend asked its provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requests {
    pub(crate) count: u32,
    /// What the provider called its last answer.
    pub(crate) trace: Option<String>,
}

/// Longest name of an answer that is kept, in bytes.
const MAX_TRACE_BYTES: usize = 128;

/// Counts a request that a backend is about to make to its provider, for the call that it serves. The story of a deployment
/// tells how many there were.
///
/// What `overskill-http` sends is counted there. A backend that talks to its provider otherwise calls this once for each
/// request, in the task that it was called in; elsewhere it does nothing.
///
/// ```
/// overskill_core::count_request();
/// overskill_core::name_answer("8f2a1c0d9e7b6a54-FRA");
/// ```
pub fn count_request() {
    let _ = COUNTED.try_with(|counted| {
        let mut counted = counted.borrow_mut();
        counted.count = counted.count.saturating_add(1);
    });
}

/// Says what the provider calls its answer (`cf-ray`, `x-request-id`); the last of a call is kept, if it has at most 128
/// bytes that can be read.
pub fn name_answer(trace: &str) {
    let legible = trace.len() <= MAX_TRACE_BYTES && trace.bytes().all(|b| b.is_ascii_graphic());
    if legible {
        let _ = COUNTED.try_with(|counted| counted.borrow_mut().trace = Some(trace.to_owned()));
    }
}

/// Has the requests of a call go before others where they wait for a quota: for what gives a scope other traffic at once, such
/// as going back. Deployments do so by themselves when they go back.
///
/// ```
/// # async fn example(target: &dyn overskill_core::DeploymentTarget, scope: &overskill_core::Scope) {
/// use overskill_core::{Removal, urgently};
/// let gone = urgently(target.remove(scope, Removal::All)).await; // off the air, and now
/// # drop(gone);
/// # }
/// ```
pub async fn urgently<T>(call: impl Future<Output = T>) -> T {
    URGENT.scope((), call).await
}

/// Whether this is within [`urgently`], in the same task. What `overskill-http` sends asks it; a backend that waits for a
/// quota otherwise asks it too.
pub fn is_urgent() -> bool {
    URGENT.try_with(|()| ()).is_ok()
}

/// Counts the requests of a call, whatever becomes of it.
pub(crate) async fn counted<T>(call: impl Future<Output = T>) -> (T, Requests) {
    let counting = async {
        let result = call.await;
        (result, COUNTED.with(RefCell::take))
    };
    COUNTED.scope(RefCell::default(), counting).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_are_counted_for_the_call_they_are_made_for() {
        count_request(); // nobody counts this
        let (result, requests) = counted(async {
            count_request();
            name_answer("one");
            count_request();
            7
        })
        .await;
        assert_eq!((result, requests), (7, Requests { count: 2, trace: Some("one".into()) }));
        let ((), none) = counted(async {}).await;
        assert_eq!(none, Requests::default());
    }

    #[tokio::test]
    async fn what_is_urgent_is_so_to_its_end_and_in_its_own_task() {
        assert!(!is_urgent());
        let (within, elsewhere) = urgently(async {
            tokio::task::yield_now().await;
            (is_urgent(), tokio::spawn(async { is_urgent() }).await.unwrap())
        })
        .await;
        assert_eq!((within, elsewhere, is_urgent()), (true, false, false));
    }

    #[tokio::test]
    async fn what_no_header_should_hold_is_not_kept() {
        for trace in ["with\nline", "with space", &"long".repeat(99)] {
            let ((), requests) = counted(async { name_answer(trace) }).await;
            assert_eq!(requests.trace, None, "{trace}");
        }
    }
}
