//! What the cases have in common.

use super::DeploymentTargetFixture as F;
use crate::{
    Broken, Stop, Verdict, fixtures, settle,
    suite::{ensure, ensure_eq},
};
use overskill_core::{
    Artifact, DeployRequest, DeploymentId, DeploymentTarget, Digest, EnvRevision, EnvSnapshot, EnvValue, Environment,
    Error, Fence, Handle, Incarnation, Observed, ObservedState, Removal, Scope, Staged, StreamPosition, TargetStatus,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// A scope of one case, on the target of its fixture.
pub(super) struct Site<'a> {
    pub(super) f: &'a F,
    pub(super) scope: Scope,
    /// The fixture's, or the same opened again.
    pub(super) target: Arc<dyn DeploymentTarget>,
}

impl<'a> Site<'a> {
    pub(super) fn new(f: &'a F) -> Self {
        Self::of(f, f.names().scope_in(Environment::Production))
    }

    pub(super) fn of(f: &'a F, scope: Scope) -> Self {
        Self { f, scope, target: f.store().clone() }
    }

    /// The same scope on the target, opened again.
    pub(super) async fn reopened(&self) -> Result<Self, Stop> {
        Ok(Self { f: self.f, scope: self.scope.clone(), target: self.f.reopened().await? })
    }

    /// A new deployment of three assets that depend on `seed`, with the first revision of the variables.
    pub(super) fn request(&self, seed: u64) -> DeployRequest {
        self.request_of(fixtures::artifact(3, seed), 1)
    }

    /// A new deployment.
    pub(super) fn request_of(&self, artifact: Artifact, revision: u64) -> DeployRequest {
        request(self.f.names().deployment(), &self.scope, artifact, revision)
    }

    /// Stages a request and activates it.
    pub(super) async fn deploy(&self, request: &DeployRequest, fence: u64) -> Result<(Staged, Handle), Error> {
        let staged = self.target.stage(request).await?;
        let handle = self.activate(request, &staged, fence).await?;
        Ok((staged, handle))
    }

    pub(super) async fn activate(&self, request: &DeployRequest, staged: &Staged, fence: u64) -> Result<Handle, Error> {
        self.target.activate(request, staged, Fence::from_u64(fence)).await
    }

    pub(super) async fn status(&self, request: &DeployRequest, fence: u64) -> Result<TargetStatus, Error> {
        self.target.status(&self.scope, request.id(), Fence::from_u64(fence)).await
    }

    /// Breaks the rule unless the status is `want`, once it had the time to show.
    pub(super) async fn ensure_status(
        &self,
        request: &DeployRequest,
        fence: u64,
        want: TargetStatus,
        what: &str,
    ) -> Verdict {
        let read = async || Ok(self.status(request, fence).await?);
        let status = settle(self.settles(), read, |got| *got == want).await?;
        ensure_eq!(status, want, "{what}");
        Ok(())
    }

    /// The handle of an activation that landed, once it had the time to show.
    pub(super) async fn landed(&self, request: &DeployRequest, fence: u64) -> Result<Handle, Stop> {
        let landed = |s: &TargetStatus| matches!(s, TargetStatus::Landed(_));
        match settle(self.settles(), async || Ok(self.status(request, fence).await?), landed).await? {
            TargetStatus::Landed(handle) => Ok(handle),
            other => Err(Broken::new(format!("wanted an activation that landed, but status is {other:?}")).into()),
        }
    }

    /// What is there, in the order of the ids, once it had the time to show: `holds`, if the rule does.
    pub(super) async fn observe(&self, holds: impl Fn(&[Observed]) -> bool) -> Result<Vec<Observed>, Stop> {
        let read = async || {
            let mut all = self.target.observe(&self.scope).await?;
            all.sort_by_key(|o| o.id);
            Ok(all)
        };
        settle(self.settles(), read, |got| holds(got)).await
    }

    /// Breaks the rule unless `request` is live under `fence`, and nothing else.
    pub(super) async fn ensure_live(&self, request: &DeployRequest, fence: u64, when: &str) -> Verdict {
        let landed = |s: &TargetStatus| matches!(s, TargetStatus::Landed(_));
        let status = settle(self.settles(), async || Ok(self.status(request, fence).await?), landed).await?;
        ensure!(landed(&status), "{when}: status of the deployment that should be live is {status:?}");
        let active = |all: &[Observed]| -> Vec<_> {
            let active = all.iter().filter(|o| o.state == ObservedState::Active);
            active.map(|o| (o.id, o.digest.is_none_or(|d| d == request.digest()), o.fence)).collect()
        };
        let known = |got: &[(Option<DeploymentId>, bool, Option<Fence>)]| {
            let [(id, digest, under)] = got else { return false };
            *id == Some(request.id()) && *digest && under.is_none_or(|f| f == Fence::from_u64(fence))
        };
        let seen = self.observe(|all| known(&active(all))).await?;
        ensure!(
            known(&active(&seen)),
            "{when}: observed {seen:?}, wanted {} active under fence {fence} and nothing else",
            request.id()
        );
        self.ensure_serves(Some(request.artifact()), when).await
    }

    /// Breaks the rule if anything is live.
    pub(super) async fn ensure_nothing_live(&self, when: &str) -> Verdict {
        let idle = |all: &[Observed]| all.iter().all(|o| o.state != ObservedState::Active);
        let seen = self.observe(idle).await?;
        ensure!(idle(&seen), "{when}: something is live: {seen:?}");
        self.ensure_serves(None, when).await
    }

    /// Breaks the rule unless the outside sees the pages of `artifact`, or none; if there is an outside.
    pub(super) async fn ensure_serves(&self, artifact: Option<&Arc<Artifact>>, when: &str) -> Verdict {
        let Some(serving) = &self.f.besides().serving else { return Ok(()) };
        for path in [fixtures::path("index.html"), fixtures::path("assets/2.js")] {
            let want = artifact.and_then(|a| a.assets().get(&path)).map(|file| file.contents().clone());
            let read = async || Ok(serving(self.scope.clone(), path.clone()).await?);
            let got = settle(self.settles(), read, |got| *got == want).await?;
            let digests = |b: &Option<bytes::Bytes>| b.as_ref().map(|b| Digest::of(b));
            ensure_eq!(digests(&got), digests(&want), "{when}: digest of {path} as it is served");
        }
        Ok(())
    }

    pub(super) fn settles(&self) -> Duration {
        self.f.besides().settles_within
    }

    /// Removes what the case put there.
    pub(super) async fn tidy(self) -> Verdict {
        self.target.remove(&self.scope, Removal::All).await?;
        Ok(())
    }
}

pub(super) fn request(id: DeploymentId, scope: &Scope, artifact: Artifact, revision: u64) -> DeployRequest {
    let revision = EnvRevision(StreamPosition::new(Incarnation::from_u64(0xe), revision));
    let values = [
        ("GREETING", EnvValue::plain("hello, 'wörld'")),
        ("API_TOKEN", EnvValue::sealed("a value that no message may show")),
    ];
    let values: BTreeMap<_, _> =
        values.into_iter().map(|(key, value)| (key.parse().expect("a legal name"), value)).collect();
    DeployRequest::new(id, scope.clone(), Arc::new(artifact), Arc::new(EnvSnapshot { revision, values }))
}
