use super::Shared;
use crate::{
    AppFile, Artifact, BackendName, DeployRequest, DeploymentId, DeploymentTarget, EnvSnapshot, Error, Fence, Fencing,
    FilePath, Handle, Observed, ObservedState, PublicUrl, Readiness, Removal, Result, Scope, Staged, TargetInfo,
    TargetStatus,
};
use async_trait::async_trait;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// A target that runs nothing but remembers what it would. Clones share it.
///
/// It does what its [`TargetInfo`] says: whether it refuses old fences, stages separately, keeps the previous version, and
/// what it takes. Its addresses are under `.test`, where nobody answers (RFC 2606).
#[derive(Clone, Debug)]
pub struct MemoryTarget {
    info: TargetInfo,
    scopes: Shared<HashMap<Scope, Site>>,
}

#[derive(Default)]
struct Site {
    versions: BTreeMap<DeploymentId, Version>,
    active: Option<DeploymentId>,
    /// The highest activation there ever was, and whose it was.
    highest: Option<(Fence, DeploymentId)>,
}

struct Version {
    artifact: Arc<Artifact>,
    env: Arc<EnvSnapshot>,
    fence: Option<Fence>,
    state: ObservedState,
}

impl MemoryTarget {
    /// A target without limits that enforces fences, stages separately and keeps the previous version.
    pub fn new(name: BackendName) -> Self {
        let mut info = TargetInfo::new(name, "memory");
        info.keeps_previous = true;
        Self::with(info)
    }

    /// A target that is as `info` says. How many deploys it takes in an hour is declared, not counted.
    pub fn with(info: TargetInfo) -> Self {
        Self { info, scopes: Shared::default() }
    }

    /// What serves a scope.
    pub fn serving(&self, scope: &Scope) -> Option<(DeploymentId, Fence, Arc<Artifact>)> {
        self.live(scope, |id, version| Some((id, version.fence?, version.artifact.clone())))
    }

    /// The asset that a scope serves under `path`.
    pub fn asset(&self, scope: &Scope, path: &FilePath) -> Option<AppFile> {
        self.live(scope, |_, version| version.artifact.assets().get(path).cloned())
    }

    /// The variables that the app of a scope sees; `None` as well if the target hands out none.
    pub fn env(&self, scope: &Scope) -> Option<Arc<EnvSnapshot>> {
        self.live(scope, |_, version| Some(version.env.clone())).filter(|_| self.info.honours_env)
    }

    fn live<T>(&self, scope: &Scope, read: impl FnOnce(DeploymentId, &Version) -> Option<T>) -> Option<T> {
        let scopes = self.scopes.lock();
        let site = scopes.get(scope)?;
        let id = site.active?;
        read(id, site.versions.get(&id)?)
    }

    fn handle(&self, scope: &Scope, id: DeploymentId, live: bool) -> Handle {
        let (label, name) = (scope.host_label(), &self.info.name);
        let host = if live { format!("{label}.{name}.test") } else { format!("{id}.{label}.{name}.test") };
        let url = PublicUrl::parse(&format!("https://{host}")).ok();
        Handle { reference: format!("{label}-{id}"), url }
    }

    fn refused(&self, e: Error, operation: &'static str, request: &DeployRequest) -> Error {
        e.at(self.info.name.to_string(), operation).with("scope", request.scope()).with("deployment", request.id())
    }
}

#[async_trait]
impl DeploymentTarget for MemoryTarget {
    fn info(&self) -> TargetInfo {
        self.info.clone()
    }

    async fn check(&self) -> Result<Readiness> {
        Ok(Readiness::ready(self.info.name.to_string()))
    }

    async fn stage(&self, request: &DeployRequest) -> Result<Staged> {
        self.info.admit(request)?;
        let mut scopes = self.scopes.lock();
        let site = scopes.entry(request.scope().clone()).or_default();
        site.admit(request).map_err(|e| self.refused(e, "stage", request))?;
        if self.info.stages_separately {
            site.versions.entry(request.id()).or_insert_with(|| Version::of(request));
        }
        Ok(Staged { id: request.id(), handle: self.handle(request.scope(), request.id(), false) })
    }

    async fn activate(&self, request: &DeployRequest, staged: &Staged, fence: Fence) -> Result<Handle> {
        let (scope, id) = (request.scope(), request.id());
        let refuse = |e: Error| self.refused(e, "activate", request);
        if staged.id != id {
            return Err(refuse(Error::invalid(
                "what was staged must be of the deployment to activate, but is another's",
            )));
        }
        self.info.admit(request)?;
        let mut scopes = self.scopes.lock();
        let site = scopes.entry(scope.clone()).or_default();
        if self.info.fencing == Fencing::Enforced {
            site.fence_off(fence, id).map_err(refuse)?;
        }
        site.admit(request).map_err(refuse)?;
        if !self.info.stages_separately {
            site.versions.entry(id).or_insert_with(|| Version::of(request));
        } else if !site.versions.contains_key(&id) {
            return Err(refuse(Error::not_found("the staged version is gone: stage it again")));
        }
        site.activate(id, fence, self.info.keeps_previous);
        Ok(self.handle(scope, id, true))
    }

    async fn status(&self, scope: &Scope, id: DeploymentId, fence: Fence) -> Result<TargetStatus> {
        let live = self.live(scope, |live, version| Some((live, version.fence?)));
        Ok(match live {
            Some((live, under)) if live == id && under == fence => TargetStatus::Landed(self.handle(scope, id, true)),
            Some((_, under)) if under > fence => TargetStatus::Superseded,
            _ => TargetStatus::Absent,
        })
    }

    async fn observe(&self, scope: &Scope) -> Result<Vec<Observed>> {
        let scopes = self.scopes.lock();
        let versions = scopes.get(scope).into_iter().flat_map(|site| &site.versions);
        let observed = |(id, version): (&DeploymentId, &Version)| {
            Observed::new(version.state).id(*id).digest(version.artifact.digest()).fence(version.fence)
        };
        Ok(versions.map(observed).collect())
    }

    async fn remove(&self, scope: &Scope, removal: Removal) -> Result<()> {
        if let Some(site) = self.scopes.lock().get_mut(scope) {
            // The highest fence stays: what was overtaken must not come back to life.
            match removal {
                Removal::All => site.versions.clear(),
                Removal::Only(id) => drop(site.versions.remove(&id)),
            }
            site.active = site.active.filter(|id| site.versions.contains_key(id));
        }
        Ok(())
    }
}

impl Site {
    /// The same id with something else is a conflict.
    fn admit(&self, request: &DeployRequest) -> Result<()> {
        match self.versions.get(&request.id()) {
            Some(known) if known.artifact.digest() != request.digest() => {
                Err(Error::conflict("the deployment is here with another artifact"))
            }
            Some(known) if known.env.revision != request.env_revision() => {
                Err(Error::conflict("the deployment is here with another revision of the variables"))
            }
            _ => Ok(()),
        }
    }

    fn fence_off(&self, fence: Fence, id: DeploymentId) -> Result<()> {
        match self.highest {
            Some((highest, whose)) if fence < highest || (fence == highest && whose != id) => {
                let message = format!("fence must be above {highest}, but was {fence}: take the lease again");
                Err(Error::conflict(message))
            }
            _ => Ok(()),
        }
    }

    fn activate(&mut self, id: DeploymentId, fence: Fence, keep_previous: bool) {
        if self.active != Some(id) {
            self.versions.retain(|other, version| *other == id || version.state != ObservedState::Previous);
            if let Some(before) = self.active.and_then(|before| self.versions.get_mut(&before)) {
                before.state = ObservedState::Previous;
            }
            if !keep_previous {
                self.versions.retain(|other, version| *other == id || version.state != ObservedState::Previous);
            }
        }
        if let Some(version) = self.versions.get_mut(&id) {
            version.fence = Some(fence);
            version.state = ObservedState::Active;
        }
        self.active = Some(id);
        // Where old fences are taken, the highest is still the highest.
        if self.highest.is_none_or(|(highest, _)| fence >= highest) {
            self.highest = Some((fence, id));
        }
    }
}

impl Version {
    fn of(request: &DeployRequest) -> Self {
        let (artifact, env) = (request.artifact().clone(), request.env().clone());
        Self { artifact, env, fence: None, state: ObservedState::Staged }
    }
}
