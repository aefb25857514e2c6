//! Backends that panic when two calls meet: a call without an answer is no call that was refused.

use overskill_core::{
    Around, BackendName, Operation, Policy, Result,
    memory::{MemoryDeployments, MemoryJobs, MemoryPreviews, MemoryTarget},
};
use overskill_testkit::{
    DeploymentStoreFixture, DeploymentTargetFixture, Fixture, Jobs, JobsFixture, PreviewHostFixture, PreviewOutside,
    Suite, TargetOutside,
    report::{self, Outcome},
    suites,
};
use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

#[derive(Debug, Default)]
struct PanicsWhenCallsMeet(AtomicU32);

impl Policy for PanicsWhenCallsMeet {
    async fn run<'a, T, F, Fut>(&'a self, operation: Operation, mut call: F) -> Result<T>
    where
        T: Send + 'a,
        F: FnMut() -> Fut + Send + 'a,
        Fut: Future<Output = Result<T>> + Send + 'a,
    {
        // Counts down again, whatever becomes of the call.
        struct Under<'a>(&'a AtomicU32);
        impl Drop for Under<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let others = self.0.fetch_add(1, Ordering::SeqCst);
        let _under = Under(&self.0);
        assert!(others == 0, "{} while another call is under way", operation.name);
        tokio::time::sleep(Duration::from_millis(2)).await;
        call().await
    }
}

/// The first call of a race succeeds and the others panic: that must not look as if they had been refused.
async fn panics<S: ?Sized, W>(suite: &Suite<Fixture<S, W>>, cases: &[&str], fixture: impl Fn() -> Fixture<S, W>) {
    let report = report::run(suite, "panics", &[], async || fixture()).await;
    for case in cases {
        let case = report.cases.iter().find(|c| c.name == *case).unwrap();
        assert_eq!(case.outcome, Outcome::Failed, "{}", report.to_markdown());
        let message = case.message.as_deref().unwrap();
        assert!(message.contains("a concurrent call ended without an answer"), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_race_of_commits_is_seen() {
    let cases = ["of_concurrent_commits_one_wins", "of_concurrent_takes_one_wins"];
    panics(&suites::deployments::V1, &cases, || {
        let store = Around::with_policy(MemoryDeployments::new(), PanicsWhenCallsMeet::default());
        DeploymentStoreFixture::new(Arc::new(store))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_race_of_claims_is_seen() {
    let cases = ["no_run_is_in_two_leases", "every_node_together_makes_one_run"];
    panics(&suites::jobs::V1, &cases, || {
        let jobs = Around::with_policy(MemoryJobs::new(), PanicsWhenCallsMeet::default());
        JobsFixture::new(Arc::new(Jobs::new(Arc::new(jobs))))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_race_of_activations_is_seen() {
    panics(&suites::target::V1, &["of_concurrent_activations_the_highest_wins"], || {
        let target = MemoryTarget::new(BackendName::parse("panics").unwrap());
        let target = Around::with_policy(target, PanicsWhenCallsMeet::default());
        DeploymentTargetFixture::with(Arc::new(target), TargetOutside::new())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_race_of_updates_is_seen() {
    panics(&suites::preview::V1, &["of_concurrent_updates_one_is_applied"], || {
        let host = Around::with_policy(MemoryPreviews::new(), PanicsWhenCallsMeet::default());
        PreviewHostFixture::with(Arc::new(host), PreviewOutside::new())
    })
    .await;
}
