//! A target that knows the platform's routes: what is live is what they name, and each version can be looked at before.

use super::{WfpTarget, names, site::Standing};
use crate::edge::Edge;
use async_trait::async_trait;
use overskill_core::{
    DeployRequest, DeploymentId, Digest, Fence, Handle, Health, HealthProbe, ProbeRequest, PublicUrl, Readiness,
    Result, RouteTable, Scope, Staged,
};
use std::sync::Arc;

impl WfpTarget {
    /// Takes what is live from the routes of the platform at `edge`, as [`routed_by`](Self::routed_by) says, and gives each
    /// version that is staged an address there: `https://v{proof}-{fence}-p{app}.{domain}`, which the dispatch Worker serves
    /// from that version alone. Whoever was not told it cannot guess it. So a staged gate asks what was staged.
    pub fn at(mut self, edge: &Edge) -> Self {
        self.edge = Some(edge.clone());
        self.routed_by(edge.routes())
    }

    /// Takes what is live from `routes`: the table that the platform sets, and that whoever dispatches goes by.
    ///
    /// Staging then uploads the version, and activating it is no call at all, as only the route gives it the traffic:
    /// [`status`](overskill_core::DeploymentTarget::status) and [`observe`](overskill_core::DeploymentTarget::observe) tell
    /// what the route names. Without routes the target can only call live what was uploaded last, so that it uploads when a
    /// version is activated, and nothing can be looked at before.
    pub fn routed_by(mut self, routes: impl RouteTable) -> Self {
        self.routes = Some(Arc::new(routes));
        self
    }

    /// Lets a gate look at the version that is being deployed, and not at what the route still names: `probe`, sent to the
    /// version's own [address](Self::at). For the gate after activation; the one before has that address anyway.
    ///
    /// ```
    /// use overskill_cloudflare::{Cloudflare, Edge};
    /// use overskill_core::{DeploymentStrategy, HealthGate};
    /// use overskill_http::{HttpProbe, TenantUrlClient};
    ///
    /// # fn example(cf: &Cloudflare, edge: &Edge) -> overskill_core::Result<DeploymentStrategy> {
    /// let target = cf.target().at(edge);
    /// let probe = HttpProbe::new(TenantUrlClient::builder().build()?);
    /// let live = HealthGate::new(target.probe(probe.clone()));
    /// # Ok(
    /// DeploymentStrategy::prefer(target).gate_staged(HealthGate::new(probe)).gate_live(live)
    /// # )
    /// # }
    /// ```
    pub fn probe<P: HealthProbe>(&self, probe: P) -> impl HealthProbe + use<P> {
        VersionProbe { target: self.clone(), probe }
    }

    /// Where a scope is served.
    pub(super) fn url(&self, scope: &Scope) -> Option<PublicUrl> {
        match &self.edge {
            Some(edge) => Some(edge.address(scope, false, "")),
            None => self.settings.url(scope),
        }
    }

    /// What the routes say, if they are known.
    pub(super) async fn standing(&self, scope: &Scope) -> Result<Option<Standing>> {
        let Some(routes) = &self.routes else { return Ok(None) };
        let (route, fence) = routes.standing(scope).await?;
        Ok(Some(Standing { route: route.filter(|route| route.target == self.settings.name), fence }))
    }

    /// What was staged as a script, with its own address if it runs under one.
    pub(super) fn staged(&self, scope: &Scope, id: DeploymentId, script: &str) -> Staged {
        let handle = Handle::new(script);
        let handle = match self.version_url(scope, script) {
            Some(url) => handle.served_at(url),
            None => handle,
        };
        Staged { id, handle }
    }

    fn version_url(&self, scope: &Scope, script: &str) -> Option<PublicUrl> {
        self.edge.as_ref()?.version_address(scope, script)
    }

    /// The address of the newest version of an artifact; asks only what was not seen a moment ago.
    async fn address_of(&self, scope: &Scope, digest: Digest) -> Result<Option<PublicUrl>> {
        let site = self.glance(scope).await.map_err(|e| self.settings.at(e, "probe").with("scope", scope))?;
        Ok(site.of_artifact(digest).and_then(|version| self.version_url(scope, &version.script)))
    }
}

/// A probe that looks at versions where they are before the route names them.
#[derive(Debug)]
struct VersionProbe<P> {
    target: WfpTarget,
    probe: P,
}

#[async_trait]
impl<P: HealthProbe> HealthProbe for VersionProbe<P> {
    async fn check(&self) -> Result<Readiness> {
        self.probe.check().await
    }

    async fn probe(&self, request: &ProbeRequest) -> Result<Health> {
        let Some(digest) = request.expect else { return self.probe.probe(request).await };
        // Another target's address, or a version's: it is looked at where it is.
        if self.target.url(&request.scope).as_ref() != Some(&request.url) {
            return self.probe.probe(request).await;
        }
        let Some(url) = self.target.address_of(&request.scope, digest).await? else {
            return self.probe.probe(request).await;
        };
        self.probe.probe(&ProbeRequest::new(request.scope.clone(), url).expect(digest)).await
    }
}

/// The name of the script that a version is staged as.
pub(super) fn staged_name(request: &DeployRequest) -> String {
    let (app, fence) = (&request.scope().app, request.fence());
    if fence == Fence::ZERO { names::of_unfenced(app, request.id()) } else { names::of_version(app, fence) }
}
