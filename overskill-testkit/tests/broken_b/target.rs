use super::breaks;
use async_trait::async_trait;
use overskill_core::{
    BackendName, DeployRequest, DeploymentId, DeploymentTarget, ErrorKind, Fence, Fencing, Handle, Observed, Readiness,
    Removal, Result, Scope, Staged, TargetInfo, TargetStatus, memory::MemoryTarget,
};
use overskill_testkit::{DeploymentTargetFixture, TargetOutside, suites::target::V1};
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    ActivatesOnStage,
    TakesAnOldFence,
    TakesAnotherArtifact,
    RemovesTooMuch,
    SaysItLanded,
}

#[derive(Debug)]
struct Broken {
    target: MemoryTarget,
    flaw: Flaw,
}

async fn broken(flaw: Flaw, cases: &[&str]) {
    breaks(&V1, cases, async || {
        let mut info = TargetInfo::new(BackendName::parse("broken").unwrap(), "memory");
        info.keeps_previous = true;
        if flaw == Flaw::TakesAnOldFence {
            info.fencing = Fencing::Observed;
        }
        let target = MemoryTarget::with(info);
        let seen = target.clone();
        let outside = TargetOutside::new().serving(move |scope, path| {
            let contents = seen.asset(&scope, &path).map(|file| file.contents().clone());
            async { Ok(contents) }
        });
        DeploymentTargetFixture::with(Arc::new(Broken { target, flaw }), outside)
    })
    .await;
}

#[async_trait]
impl DeploymentTarget for Broken {
    fn info(&self) -> TargetInfo {
        let mut info = self.target.info();
        info.fencing = Fencing::Enforced;
        info
    }

    async fn check(&self) -> Result<Readiness> {
        self.target.check().await
    }

    async fn stage(&self, request: &DeployRequest) -> Result<Staged> {
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
        match self.target.activate(request, staged, fence).await {
            Err(e) if self.flaw == Flaw::SaysItLanded && e.kind() == ErrorKind::Conflict => Ok(Handle::new("landed")),
            done => done,
        }
    }

    async fn status(&self, scope: &Scope, id: DeploymentId, fence: Fence) -> Result<TargetStatus> {
        self.target.status(scope, id, fence).await
    }

    async fn observe(&self, scope: &Scope) -> Result<Vec<Observed>> {
        self.target.observe(scope).await
    }

    async fn remove(&self, scope: &Scope, removal: Removal) -> Result<()> {
        let removal = if self.flaw == Flaw::RemovesTooMuch { Removal::All } else { removal };
        self.target.remove(scope, removal).await
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
