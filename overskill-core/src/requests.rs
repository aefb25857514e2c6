//! How many requests to a provider a call of a backend takes, and what the provider calls its answers.

use std::{cell::RefCell, future::Future};

tokio::task_local! {
    static COUNTED: RefCell<Requests>;
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

/// Counts a request that a backend made to its provider for the call that it serves; `trace` is what the provider calls its
/// answer, where it says so (`cf-ray`, `x-request-id`). The story of a deployment tells both.
///
/// What `overskill-http` sends is counted there. A backend that talks to its provider otherwise calls this once for each
/// request, in the task that it was called in; elsewhere it does nothing.
///
/// ```
/// overskill_core::count_request(Some("8f2a1c0d9e7b6a54-FRA"));
/// ```
pub fn count_request(trace: Option<&str>) {
    let _ = COUNTED.try_with(|counted| {
        let mut counted = counted.borrow_mut();
        counted.count = counted.count.saturating_add(1);
        let legible = |trace: &&str| trace.len() <= MAX_TRACE_BYTES && trace.bytes().all(|b| b.is_ascii_graphic());
        if let Some(trace) = trace.filter(legible) {
            counted.trace = Some(trace.to_owned());
        }
    });
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
        count_request(Some("nobody counts this"));
        let (result, requests) = counted(async {
            count_request(Some("one"));
            count_request(None);
            7
        })
        .await;
        assert_eq!((result, requests), (7, Requests { count: 2, trace: Some("one".into()) }));
        let ((), none) = counted(async {}).await;
        assert_eq!(none, Requests::default());
    }

    #[tokio::test]
    async fn what_no_header_should_hold_is_not_kept() {
        for trace in ["with\nline", "with space", &"long".repeat(99)] {
            let ((), requests) = counted(async { count_request(Some(trace)) }).await;
            assert_eq!(requests, Requests { count: 1, trace: None }, "{trace}");
        }
    }
}
