use super::breaks;
use async_trait::async_trait;
use overskill_core::{
    Commit, Committed, DeployLease, DeploymentId, DeploymentStore, DeploymentSummary, ErrorKind, Fence, LeaseChange,
    Page, Readiness, RecordedEvent, Result, Scope, Timestamp, memory::MemoryDeployments,
};
use overskill_testkit::{DeploymentStoreFixture, suites::deployments::V1};
use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex},
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    ForgetsFences,
    ReordersEvents,
    LosesAnEvent,
    LeasesTwice,
    WritesUnderAStaleFence,
    GoesOnAfterTheEnd,
    CountsNothing,
}

#[derive(Debug)]
struct Broken {
    store: MemoryDeployments,
    flaw: Flaw,
    fences: Mutex<HashMap<Scope, Fence>>,
}

async fn broken(flaw: Flaw, cases: &[&str]) {
    breaks(&V1, cases, async || {
        let store = MemoryDeployments::new();
        DeploymentStoreFixture::new(Arc::new(Broken { store, flaw, fences: Mutex::default() }))
    })
    .await;
}

#[async_trait]
impl DeploymentStore for Broken {
    async fn check(&self) -> Result<Readiness> {
        self.store.check().await
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed> {
        let mut commit = commit.clone();
        match self.flaw {
            Flaw::ForgetsFences => {
                // To the outside, every fence is 1.
                if let LeaseChange::Keep { fence, .. } | LeaseChange::Release { fence } = &mut commit.lease
                    && *fence == Fence::from_u64(1)
                {
                    *fence = self.fences.lock().unwrap().get(&commit.scope).copied().unwrap_or_default();
                }
                let mut committed = self.store.commit(&commit).await?;
                if let Some(lease) = &mut committed.lease {
                    self.fences.lock().unwrap().insert(commit.scope, lease.fence);
                    lease.fence = Fence::from_u64(1);
                }
                return Ok(committed);
            }
            Flaw::LosesAnEvent if commit.events.len() > 1 => drop(commit.events.pop()),
            Flaw::CountsNothing => commit.expected_seq = self.store.events(commit.id).await?.len() as u64,
            Flaw::GoesOnAfterTheEnd => {
                let events = self.store.events(commit.id).await?;
                if events.iter().any(|e| matches!(e.event, overskill_core::DeploymentEvent::Ended { .. })) {
                    return Ok(Committed { seq: events.len() as u64 + 1, lease: None });
                }
            }
            _ => {}
        }
        match self.store.commit(&commit).await {
            Err(e) if e.kind() == ErrorKind::Conflict => {
                let alone = Commit { lease: LeaseChange::None, ..commit.clone() };
                match (&commit.lease, self.flaw) {
                    (LeaseChange::Take { holder, ttl, above }, Flaw::LeasesTwice) => {
                        let Committed { seq, .. } = self.store.commit(&alone).await?;
                        let (fence, expires_at) = (above.next(), commit.now.plus(*ttl));
                        let lease = DeployLease { fence, deployment: commit.id, holder: holder.clone(), expires_at };
                        Ok(Committed { seq, lease: Some(lease) })
                    }
                    (LeaseChange::Keep { .. } | LeaseChange::Release { .. }, Flaw::WritesUnderAStaleFence) => {
                        drop(self.store.commit(&alone).await);
                        Err(e)
                    }
                    _ => Err(e),
                }
            }
            done => done,
        }
    }

    async fn events(&self, id: DeploymentId) -> Result<Vec<RecordedEvent>> {
        let mut events = self.store.events(id).await?;
        if self.flaw == Flaw::ReordersEvents {
            events.reverse();
        }
        Ok(events)
    }

    async fn scope_of(&self, id: DeploymentId) -> Result<Option<Scope>> {
        self.store.scope_of(id).await
    }

    async fn lease(&self, scope: &Scope, now: Timestamp) -> Result<Option<DeployLease>> {
        let lease = self.store.lease(scope, now).await?;
        let outside = |lease: DeployLease| DeployLease { fence: Fence::from_u64(1), ..lease };
        Ok(if self.flaw == Flaw::ForgetsFences { lease.map(outside) } else { lease })
    }

    async fn pending(&self, now: Timestamp, limit: NonZeroU32) -> Result<Vec<DeploymentSummary>> {
        self.store.pending(now, limit).await
    }

    async fn list(
        &self,
        scope: &Scope,
        before: Option<DeploymentId>,
        limit: NonZeroU32,
    ) -> Result<Page<DeploymentSummary, DeploymentId>> {
        self.store.list(scope, before, limit).await
    }
}

#[tokio::test]
async fn a_store_that_forgets_a_fence() {
    let cases = [
        "its_own_lease_is_taken_again_with_a_higher_fence",
        "an_expired_lease_is_taken_with_a_higher_fence",
        "a_released_lease_is_free_and_fences_grow",
        "a_fence_is_above_what_was_seen_elsewhere",
        "of_concurrent_takes_one_wins",
    ];
    broken(Flaw::ForgetsFences, &cases).await;
}

#[tokio::test]
async fn a_store_that_reorders_events() {
    broken(Flaw::ReordersEvents, &["events_come_back_as_they_were", "the_events_of_one_commit_stay_together"]).await;
}

#[tokio::test]
async fn a_store_that_loses_an_event_of_a_commit() {
    broken(Flaw::LosesAnEvent, &["the_events_of_one_commit_stay_together", "events_and_lease_happen_together"]).await;
}

#[tokio::test]
async fn a_store_that_gives_a_lease_twice() {
    broken(Flaw::LeasesTwice, &["a_held_lease_is_refused_to_others", "of_concurrent_takes_one_wins"]).await;
}

#[tokio::test]
async fn a_store_that_writes_events_under_a_stale_fence() {
    broken(Flaw::WritesUnderAStaleFence, &["a_stale_fence_writes_nothing"]).await;
}

#[tokio::test]
async fn a_store_that_goes_on_after_the_end() {
    broken(Flaw::GoesOnAfterTheEnd, &["an_ended_deployment_takes_only_sweeps"]).await;
}

#[tokio::test]
async fn a_store_that_does_not_count_events() {
    broken(Flaw::CountsNothing, &["a_deployment_is_created_once", "a_wrong_count_of_events_is_refused"]).await;
}
