use super::breaks;
use async_trait::async_trait;
use overskill_core::{
    Commit, Committed, DeployLease, DeploymentId, DeploymentStore, DeploymentSummary, ErrorKind, Fence, LeaseChange,
    Page, Readiness, RecordedEvent, Result, Scope, Standing, Timestamp, memory::MemoryDeployments,
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
    SharesEnvironments,
    ListsBackwards,
    LeasesTooLong,
    RefusesWithoutLease,
    AddsEvents,
    KnowsEverybody,
    ForgetsAtRestart,
    IsNotReady,
    IgnoresWhoseTheLeaseIs,
    ForgetsWhatIsDue,
    StandsAlone,
    TakesWhatIsOlder,
    GivesWayToNobody,
    GivesNoTurns,
}

const FLAWS: [Flaw; 21] = [
    Flaw::ForgetsFences,
    Flaw::ReordersEvents,
    Flaw::LosesAnEvent,
    Flaw::LeasesTwice,
    Flaw::WritesUnderAStaleFence,
    Flaw::GoesOnAfterTheEnd,
    Flaw::CountsNothing,
    Flaw::SharesEnvironments,
    Flaw::ListsBackwards,
    Flaw::LeasesTooLong,
    Flaw::RefusesWithoutLease,
    Flaw::AddsEvents,
    Flaw::KnowsEverybody,
    Flaw::ForgetsAtRestart,
    Flaw::IsNotReady,
    Flaw::IgnoresWhoseTheLeaseIs,
    Flaw::ForgetsWhatIsDue,
    Flaw::StandsAlone,
    Flaw::TakesWhatIsOlder,
    Flaw::GivesWayToNobody,
    Flaw::GivesNoTurns,
];

#[derive(Debug)]
struct Broken {
    store: MemoryDeployments,
    flaw: Flaw,
    fences: Mutex<HashMap<Scope, Fence>>,
}

fn fixture(flaw: Flaw) -> DeploymentStoreFixture {
    let open = move |store| -> Arc<dyn DeploymentStore> { Arc::new(Broken { store, flaw, fences: Mutex::default() }) };
    let store = MemoryDeployments::new();
    let again = store.clone();
    DeploymentStoreFixture::new(open(store)).reopen(move || {
        let forgot = flaw == Flaw::ForgetsAtRestart;
        let again = open(if forgot { MemoryDeployments::new() } else { again.clone() });
        async { again }
    })
}

async fn broken(flaw: Flaw, cases: &[&str]) {
    breaks(&V1, cases, async || fixture(flaw)).await;
}

impl Broken {
    /// The scope as the store takes it.
    fn seen(&self, scope: &Scope) -> Scope {
        let one = overskill_core::Environment::Production;
        if self.flaw == Flaw::SharesEnvironments { Scope::new(scope.app.clone(), one) } else { scope.clone() }
    }
}

#[async_trait]
impl DeploymentStore for Broken {
    async fn check(&self) -> Result<Readiness> {
        let readiness = self.store.check().await?;
        Ok(if self.flaw == Flaw::IsNotReady { readiness.lacks("a disk", "buy one") } else { readiness })
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed> {
        let mut commit = commit.clone();
        commit.scope = self.seen(&commit.scope);
        let held = self.store.lease(&commit.scope, commit.now).await?;
        let refuses = self.flaw == Flaw::RefusesWithoutLease && commit.lease == LeaseChange::None;
        if refuses && held.is_some_and(|lease| lease.deployment != commit.id) {
            return Err(overskill_core::Error::conflict("another deployment holds the lease"));
        }
        match self.flaw {
            Flaw::LeasesTooLong => {
                if let LeaseChange::Take { ttl, .. } = &mut commit.lease {
                    *ttl *= 2;
                }
            }
            Flaw::AddsEvents if commit.events.is_empty() => {
                commit.events.push(overskill_core::DeploymentEvent::Released);
            }
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
            Flaw::IgnoresWhoseTheLeaseIs => {
                if let LeaseChange::Keep { fence, .. } | LeaseChange::Release { fence } = commit.lease
                    && let Some(held) = self.store.lease(&commit.scope, commit.now).await?
                    && (held.fence, held.deployment) != (fence, commit.id)
                    && held.fence == fence
                {
                    commit.lease = LeaseChange::None;
                }
            }
            Flaw::ForgetsWhatIsDue => commit.due = None,
            Flaw::GivesWayToNobody => commit.after = None,
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
                let alone = commit.clone().lease(LeaseChange::None);
                match (&commit.lease, self.flaw) {
                    (LeaseChange::None, Flaw::TakesWhatIsOlder) if self.store.scope_of(commit.id).await?.is_none() => {
                        Ok(Committed { seq: commit.events.len() as u64, lease: None })
                    }
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
        let scope = self.store.scope_of(id).await?;
        let invented = || overskill_testkit::fixtures::scope("todo42/production");
        Ok(if self.flaw == Flaw::KnowsEverybody { scope.or_else(|| Some(invented())) } else { scope })
    }

    async fn lease(&self, scope: &Scope, now: Timestamp) -> Result<Option<DeployLease>> {
        let lease = self.store.lease(&self.seen(scope), now).await?;
        let outside = |lease: DeployLease| DeployLease { fence: Fence::from_u64(1), ..lease };
        Ok(if self.flaw == Flaw::ForgetsFences { lease.map(outside) } else { lease })
    }

    async fn pending(&self, now: Timestamp, limit: NonZeroU32) -> Result<Vec<DeploymentSummary>> {
        let now = if self.flaw == Flaw::ListsBackwards { now.plus(std::time::Duration::from_hours(1)) } else { now };
        let mut pending = self.store.pending(now, limit).await?;
        if self.flaw == Flaw::ListsBackwards {
            pending.reverse();
        }
        if self.flaw == Flaw::GivesNoTurns {
            pending.sort_by_key(|summary| summary.id);
        }
        Ok(pending)
    }

    async fn list(
        &self,
        scope: &Scope,
        before: Option<DeploymentId>,
        limit: NonZeroU32,
    ) -> Result<Page<DeploymentSummary, DeploymentId>> {
        let mut page = self.store.list(&self.seen(scope), before, limit).await?;
        if self.flaw == Flaw::ListsBackwards {
            page.items.reverse();
        }
        Ok(page)
    }

    async fn standing(&self, id: DeploymentId, now: Timestamp) -> Result<Option<Standing>> {
        let standing = self.store.standing(id, now).await?;
        let alone = |standing| Standing { newest: id, ..standing };
        Ok(if self.flaw == Flaw::StandsAlone { standing.map(alone) } else { standing })
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

#[tokio::test]
async fn a_store_that_shares_environments() {
    broken(Flaw::SharesEnvironments, &["scopes_know_nothing_of_each_other", "a_deployment_stays_in_its_scope"]).await;
}

#[tokio::test]
async fn a_store_that_lists_backwards() {
    broken(
        Flaw::ListsBackwards,
        &[
            "a_scope_lists_its_deployments_newest_first",
            "pending_is_oldest_first_and_limited",
            "pending_is_what_nobody_drives",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_store_that_leases_for_too_long() {
    broken(Flaw::LeasesTooLong, &["a_free_scope_is_leased"]).await;
}

#[tokio::test]
async fn a_store_that_wants_a_lease_for_everything() {
    broken(Flaw::RefusesWithoutLease, &["a_commit_without_lease_needs_none"]).await;
}

#[tokio::test]
async fn a_store_that_adds_events() {
    broken(Flaw::AddsEvents, &["a_lease_changes_without_events"]).await;
}

#[tokio::test]
async fn a_store_that_knows_everybody() {
    broken(Flaw::KnowsEverybody, &["an_unknown_deployment_is_empty"]).await;
}

#[tokio::test]
async fn a_store_that_forgets_when_it_restarts() {
    broken(Flaw::ForgetsAtRestart, &["records_survive_a_restart"]).await;
}

#[tokio::test]
async fn a_store_that_ignores_whose_the_lease_is() {
    broken(Flaw::IgnoresWhoseTheLeaseIs, &["a_lease_is_its_deployments_alone"]).await;
}

#[tokio::test]
async fn a_store_that_forgets_what_is_due() {
    broken(Flaw::ForgetsWhatIsDue, &["what_is_due_later_is_pending_then"]).await;
}

#[tokio::test]
async fn a_store_that_does_not_see_what_is_newer() {
    broken(Flaw::StandsAlone, &["standing_says_all_of_it"]).await;
}

#[tokio::test]
async fn a_store_that_takes_what_is_older_than_its_newest() {
    broken(Flaw::TakesWhatIsOlder, &["ids_of_a_scope_only_grow"]).await;
}

#[tokio::test]
async fn a_store_that_lets_nobody_go_first() {
    broken(Flaw::GivesWayToNobody, &["what_came_in_between_goes_first"]).await;
}

#[tokio::test]
async fn a_store_that_gives_no_turns() {
    broken(Flaw::GivesNoTurns, &["pending_gives_every_scope_its_turn"]).await;
}

#[tokio::test]
async fn a_store_that_is_not_ready() {
    broken(Flaw::IsNotReady, &["it_is_ready"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_case_passes_whatever_it_is_given() {
    super::every_case_fails_once(&V1, &FLAWS, fixture).await;
}
