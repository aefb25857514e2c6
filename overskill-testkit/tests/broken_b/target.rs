use super::breaks;
use async_trait::async_trait;
use overskill_core::{
    BackendName, DeployRequest, DeploymentId, DeploymentTarget, ErrorKind, Fence, Fencing, Handle, Observed, Readiness,
    Removal, Result, Scope, Staged, TargetInfo, TargetStatus, memory::MemoryTarget,
};
use overskill_testkit::{DeploymentTargetFixture, TargetOutside, suites::target::V1};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    ActivatesOnStage,
    TakesAnOldFence,
    TakesAnotherArtifact,
    RemovesTooMuch,
    SaysItLanded,
    ActivatesNothing,
    RemovesNothing,
    WantsSomethingToRemove,
    ChangesItsHandles,
    SeesGhosts,
    StagesOnce,
    DeclaresWhatItIsNot,
    ConfusesWhatIsGone,
    IsNotReady,
    ForgetsAtRestart,
    ForgetsFencesWhenRemoved,
    ServesNothing,
}

const FLAWS: [Flaw; 17] = [
    Flaw::ActivatesOnStage,
    Flaw::TakesAnOldFence,
    Flaw::TakesAnotherArtifact,
    Flaw::RemovesTooMuch,
    Flaw::SaysItLanded,
    Flaw::ActivatesNothing,
    Flaw::RemovesNothing,
    Flaw::WantsSomethingToRemove,
    Flaw::ChangesItsHandles,
    Flaw::SeesGhosts,
    Flaw::StagesOnce,
    Flaw::DeclaresWhatItIsNot,
    Flaw::ConfusesWhatIsGone,
    Flaw::IsNotReady,
    Flaw::ForgetsAtRestart,
    Flaw::ForgetsFencesWhenRemoved,
    Flaw::ServesNothing,
];

#[derive(Debug)]
struct Broken {
    target: MemoryTarget,
    flaw: Flaw,
    calls: AtomicU32,
    removed: Mutex<Vec<Scope>>,
}

fn fixture(flaw: Flaw) -> DeploymentTargetFixture {
    let mut info = TargetInfo::new(BackendName::parse("broken").unwrap(), "memory");
    info.keeps_previous = true;
    if flaw == Flaw::TakesAnOldFence {
        info.fencing = Fencing::Observed;
    }
    let target = MemoryTarget::with(info.clone());
    let seen = target.clone();
    let outside = TargetOutside::new().serving(move |scope, path| {
        let contents = seen.asset(&scope, &path).map(|file| file.contents().clone());
        let contents = contents.filter(|_| flaw != Flaw::ServesNothing);
        async { Ok(contents) }
    });
    let open = move |target| -> Arc<dyn DeploymentTarget> {
        Arc::new(Broken { target, flaw, calls: AtomicU32::new(0), removed: Mutex::default() })
    };
    let again = target.clone();
    DeploymentTargetFixture::with(open(target), outside).reopen(move || {
        let forgot = flaw == Flaw::ForgetsAtRestart;
        let again = open(if forgot { MemoryTarget::with(info.clone()) } else { again.clone() });
        async { again }
    })
}

async fn broken(flaw: Flaw, cases: &[&str]) {
    breaks(&V1, cases, async || fixture(flaw)).await;
}

#[async_trait]
impl DeploymentTarget for Broken {
    fn info(&self) -> TargetInfo {
        let mut info = self.target.info();
        info.fencing = Fencing::Enforced;
        if self.flaw == Flaw::DeclaresWhatItIsNot {
            (info.max_artifact_bytes, info.max_artifact_files, info.runs_servers) = (1 << 20, 20, false);
        }
        info
    }

    async fn check(&self) -> Result<Readiness> {
        let readiness = self.target.check().await?;
        Ok(if self.flaw == Flaw::IsNotReady { readiness.lacks("an account", "open one") } else { readiness })
    }

    async fn stage(&self, request: &DeployRequest) -> Result<Staged> {
        if self.flaw == Flaw::StagesOnce {
            let seen = self.target.observe(request.scope()).await?;
            if seen.iter().any(|o| o.id == Some(request.id())) {
                return Err(overskill_core::Error::conflict("it is staged already"));
            }
        }
        match self.target.stage(request).await {
            Err(e) if self.flaw == Flaw::TakesAnotherArtifact && e.kind() == ErrorKind::Conflict => {
                Ok(Staged { id: request.id(), handle: Handle::new("taken") })
            }
            staged => {
                let staged = staged?;
                if self.flaw == Flaw::ActivatesOnStage {
                    drop(self.target.activate(request, &staged, Fence::ZERO).await);
                }
                Ok(staged)
            }
        }
    }

    async fn activate(&self, request: &DeployRequest, staged: &Staged, fence: Fence) -> Result<Handle> {
        if self.flaw == Flaw::ActivatesNothing {
            return Ok(Handle::new("live, I say"));
        }
        match self.target.activate(request, staged, fence).await {
            Ok(handle) if self.flaw == Flaw::ChangesItsHandles => {
                Ok(Handle::new(format!("{}-{}", handle.reference, self.calls.fetch_add(1, Ordering::SeqCst))))
            }
            Err(e) if self.flaw == Flaw::ConfusesWhatIsGone && e.kind() == ErrorKind::NotFound => {
                Err(overskill_core::Error::invalid("what was staged is unknown"))
            }
            Err(e)
                if self.flaw == Flaw::ForgetsFencesWhenRemoved
                    && e.kind() == ErrorKind::Conflict
                    && self.removed.lock().unwrap().contains(request.scope()) =>
            {
                Ok(Handle::new("nothing was here before"))
            }
            Err(e) if self.flaw == Flaw::SaysItLanded && e.kind() == ErrorKind::Conflict => Ok(Handle::new("landed")),
            done => done,
        }
    }

    async fn status(&self, scope: &Scope, id: DeploymentId, fence: Fence) -> Result<TargetStatus> {
        self.target.status(scope, id, fence).await
    }

    async fn observe(&self, scope: &Scope) -> Result<Vec<Observed>> {
        let mut seen = self.target.observe(scope).await?;
        if self.flaw == Flaw::SeesGhosts {
            seen.push(Observed::new(overskill_core::ObservedState::Active));
        }
        Ok(seen)
    }

    async fn remove(&self, scope: &Scope, removal: Removal) -> Result<()> {
        let removal = if self.flaw == Flaw::RemovesTooMuch { Removal::All } else { removal };
        if removal == Removal::All {
            self.removed.lock().unwrap().push(scope.clone());
        }
        match self.flaw {
            Flaw::RemovesNothing => Ok(()),
            Flaw::WantsSomethingToRemove if self.target.observe(scope).await?.is_empty() => {
                Err(overskill_core::Error::not_found("nothing is there"))
            }
            _ => self.target.remove(scope, removal).await,
        }
    }
}

#[tokio::test]
async fn a_target_that_activates_when_it_stages() {
    broken(Flaw::ActivatesOnStage, &["staging_gives_no_traffic"]).await;
}

#[tokio::test]
async fn a_target_that_takes_an_old_fence() {
    broken(Flaw::TakesAnOldFence, &["a_lower_fence_is_refused", "one_fence_is_for_one_deployment"]).await;
}

#[tokio::test]
async fn a_target_that_takes_another_artifact_under_an_id() {
    let cases = ["an_id_names_one_artifact", "an_id_names_one_revision_of_the_variables"];
    broken(Flaw::TakesAnotherArtifact, &cases).await;
}

#[tokio::test]
async fn a_target_that_removes_too_much() {
    broken(Flaw::RemovesTooMuch, &["removing_one_leaves_the_others"]).await;
}

#[tokio::test]
async fn a_target_that_says_what_was_refused_landed() {
    broken(Flaw::SaysItLanded, &["a_lower_fence_is_refused", "an_id_names_one_artifact"]).await;
}

#[tokio::test]
async fn a_target_that_activates_nothing() {
    broken(
        Flaw::ActivatesNothing,
        &[
            "activation_lands",
            "a_higher_fence_takes_over",
            "one_artifact_may_be_deployed_again",
            "a_removed_scope_can_be_deployed_to",
            "staging_leaves_what_is_live",
            "an_overtaken_activation_is_told",
            "what_was_overtaken_is_restored_by_activating_again",
            "the_previous_version_is_kept",
            "scopes_know_nothing_of_each_other",
            "a_dropped_call_leaves_all_or_nothing",
            "pointers_and_wrappers_answer_alike",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_target_that_removes_nothing() {
    broken(Flaw::RemovesNothing, &["removing_the_live_one_ends_it", "removing_all_leaves_nothing"]).await;
}

#[tokio::test]
async fn a_target_that_wants_something_to_remove() {
    broken(Flaw::WantsSomethingToRemove, &["removing_nothing_is_fine"]).await;
}

#[tokio::test]
async fn a_target_that_changes_its_handles() {
    broken(Flaw::ChangesItsHandles, &["activation_is_safe_to_repeat"]).await;
}

#[tokio::test]
async fn a_target_that_sees_ghosts() {
    broken(Flaw::SeesGhosts, &["an_untouched_scope_has_nothing"]).await;
}

#[tokio::test]
async fn a_target_that_stages_once() {
    broken(Flaw::StagesOnce, &["staging_is_safe_to_repeat"]).await;
}

#[tokio::test]
async fn a_target_that_declares_what_it_is_not() {
    broken(Flaw::DeclaresWhatItIsNot, &["what_is_too_large_is_refused_at_once", "servers_run_as_declared"]).await;
}

#[tokio::test]
async fn a_target_that_confuses_what_is_gone() {
    broken(Flaw::ConfusesWhatIsGone, &["a_version_that_is_gone_is_staged_again"]).await;
}

#[tokio::test]
async fn a_target_that_forgets_when_it_restarts() {
    broken(Flaw::ForgetsAtRestart, &["what_is_there_survives_a_restart"]).await;
}

#[tokio::test]
async fn a_target_that_forgets_fences_when_all_is_removed() {
    broken(Flaw::ForgetsFencesWhenRemoved, &["a_removed_scope_remembers_its_fence"]).await;
}

#[tokio::test]
async fn a_target_that_serves_nothing() {
    broken(Flaw::ServesNothing, &["it_can_be_seen_from_outside", "activation_lands"]).await;
}

#[tokio::test]
async fn a_target_that_is_not_ready() {
    broken(Flaw::IsNotReady, &["it_is_ready"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_case_passes_whatever_it_is_given() {
    super::every_case_fails_once(&V1, &FLAWS, fixture).await;
}
