use crate::{
    Artifact, BackendName, DeploymentId, Digest, EnvRevision, EnvSnapshot, Error, ErrorKind, Fence, PlatformFacts,
    Progress, PublicUrl, Readiness, Result, Scope,
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::{
    fmt::Debug,
    num::{NonZeroU32, NonZeroU64},
    sync::Arc,
};

/// What a [`DeploymentTarget`] is and can do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[non_exhaustive]
pub struct TargetInfo {
    /// Its name, as the host gave it.
    pub name: BackendName,
    /// The platform that serves in the end. Two targets on one platform count as one: falling back from one to the other
    /// survives no outage of the platform.
    pub platform: String,
    /// Whether it refuses an old fence.
    pub fencing: Fencing,
    /// Whether staged code runs nowhere until it is activated. If not, `stage` only validates.
    pub stages_separately: bool,
    /// Largest artifact in bytes.
    pub max_artifact_bytes: u64,
    /// Most files in an artifact.
    pub max_artifact_files: u32,
    /// Whether the previous version is kept, so that going back needs no upload.
    pub keeps_previous: bool,
    /// Whether the live version can have a part of the visitors while the one before serves the others
    /// ([`share`](DeploymentTarget::share)).
    pub gradual: bool,
    /// How many deploys it takes in an hour, if that is limited.
    pub deploys_per_hour: Option<NonZeroU32>,
    /// Whether it runs a server module.
    pub runs_servers: bool,
    /// Whether it hands variables, sealed or not, to the app.
    pub honours_env: bool,
    /// Whether it enforces [`Limits`].
    pub honours_limits: bool,
    /// What its platform is good at and costs.
    pub facts: PlatformFacts,
}

/// Whether a target refuses an old fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fencing {
    /// An activation with a lower fence than the last is refused.
    Enforced,
    /// The platform takes any activation. An overtaken one shows in [`observe`](DeploymentTarget::observe), and is undone by
    /// activating the newest again.
    Observed,
}

impl TargetInfo {
    /// A target without limits that enforces fences, stages separately and honours everything; declare what it does not.
    pub fn new(name: BackendName, platform: impl Into<String>) -> Self {
        Self {
            name,
            platform: platform.into(),
            fencing: Fencing::Enforced,
            stages_separately: true,
            max_artifact_bytes: u64::MAX,
            max_artifact_files: u32::MAX,
            keeps_previous: false,
            gradual: false,
            deploys_per_hour: None,
            runs_servers: true,
            honours_env: true,
            honours_limits: true,
            facts: PlatformFacts::default(),
        }
    }

    /// Refuses what the target declares it cannot take; every target calls it before its first call.
    pub fn admit(&self, request: &DeployRequest) -> Result<()> {
        let artifact = request.artifact();
        let refuse = |kind, message| Err(Error::new(kind, message).at(self.name.to_string(), "stage"));
        if artifact.size_bytes() > self.max_artifact_bytes {
            let (limit, size) = (self.max_artifact_bytes, artifact.size_bytes());
            return refuse(ErrorKind::LimitExceeded, format!("artifact must be at most {limit} bytes, but has {size}"));
        }
        if artifact.files() > self.max_artifact_files as usize {
            let (limit, files) = (self.max_artifact_files, artifact.files());
            return refuse(
                ErrorKind::LimitExceeded,
                format!("artifact must have at most {limit} files, but has {files}"),
            );
        }
        if artifact.server().is_some() && !self.runs_servers {
            return refuse(ErrorKind::Unsupported, "target serves static assets only, but the app has a server".into());
        }
        Ok(())
    }
}

/// What an app may use while it serves one request. `None` leaves it to the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Limits {
    /// CPU time in milliseconds.
    pub cpu_ms: Option<NonZeroU32>,
    /// Memory in bytes.
    pub memory_bytes: Option<NonZeroU64>,
    /// Requests that it may make itself.
    pub subrequests: Option<NonZeroU32>,
}

/// What to deploy, and where. Cheap to clone.
///
/// Its [`id`](Self::id) is the idempotency key: a target stores it, and the same id with another digest or another
/// revision of the variables is a `Conflict`.
#[derive(Clone, Debug)]
pub struct DeployRequest {
    id: DeploymentId,
    scope: Scope,
    artifact: Arc<Artifact>,
    env: Arc<EnvSnapshot>,
    fence: Fence,
    limits: Limits,
    progress: Progress,
}

impl DeployRequest {
    /// Deploys `artifact` with the variables of `env` to `scope`.
    pub fn new(id: DeploymentId, scope: Scope, artifact: Arc<Artifact>, env: Arc<EnvSnapshot>) -> Self {
        Self { id, scope, artifact, env, fence: Fence::ZERO, limits: Limits::default(), progress: Progress::discard() }
    }

    /// Names the fence it is to be activated under, for targets that give each version a name of its own.
    pub fn under(mut self, fence: Fence) -> Self {
        self.fence = fence;
        self
    }

    /// Sets what the app may use.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Says where progress is told.
    pub fn progress_to(mut self, progress: Progress) -> Self {
        self.progress = progress;
        self
    }

    /// The idempotency key.
    pub fn id(&self) -> DeploymentId {
        self.id
    }

    /// Where to.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// What to run.
    pub fn artifact(&self) -> &Arc<Artifact> {
        &self.artifact
    }

    /// The digest of what to run.
    pub fn digest(&self) -> Digest {
        self.artifact.digest()
    }

    /// The variables, opened.
    pub fn env(&self) -> &Arc<EnvSnapshot> {
        &self.env
    }

    /// Which state of the variables.
    pub fn env_revision(&self) -> EnvRevision {
        self.env.revision
    }

    /// The fence it is to be activated under. It may be staged under one and activated under a higher one: it is no part
    /// of what identifies the request.
    pub fn fence(&self) -> Fence {
        self.fence
    }

    /// What the app may use.
    pub fn allowed(&self) -> Limits {
        self.limits
    }

    /// Where to tell how it goes.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }
}

/// What a target calls something it runs: its own reference, and where it is served.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Handle {
    /// The target's own reference, such as a script name. Never a secret.
    pub reference: String,
    /// Where it is served, if it has an address of its own.
    pub url: Option<PublicUrl>,
}

impl Handle {
    /// A reference without an address.
    pub fn new(reference: impl Into<String>) -> Self {
        Self { reference: reference.into(), url: None }
    }

    /// Adds the address it is served under.
    pub fn served_at(mut self, url: PublicUrl) -> Self {
        self.url = Some(url);
        self
    }
}

/// Proof that a request was staged. It survives a restart as text, and a target that has forgotten it stages again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Staged {
    /// What was staged.
    pub id: DeploymentId,
    /// The target's own reference to it; its address serves the staged version alone, where there is such a thing.
    pub handle: Handle,
}

/// What became of an activation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetStatus {
    /// It is live under that fence.
    Landed(Handle),
    /// Something with a higher fence is live.
    Superseded,
    /// It is not live. It may be staged.
    Absent,
}

/// Something a target has in a scope, whoever put it there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Observed {
    /// The deployment, if it is one of ours.
    pub id: Option<DeploymentId>,
    /// What it runs, if the target knows.
    pub digest: Option<Digest>,
    /// The fence it was activated under, if the target knows.
    pub fence: Option<Fence>,
    /// What the target calls it, if that tells versions of one deployment apart.
    pub handle: Option<Handle>,
    /// What it is.
    pub state: ObservedState,
}

impl Observed {
    /// Something in that state, of which nothing else is known.
    pub const fn new(state: ObservedState) -> Self {
        Self { id: None, digest: None, fence: None, handle: None, state }
    }

    /// It is one of ours.
    pub fn id(mut self, id: DeploymentId) -> Self {
        self.id = Some(id);
        self
    }

    /// It runs that artifact.
    pub fn digest(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// It was activated under that fence, if it was.
    pub fn fence(mut self, fence: Option<Fence>) -> Self {
        self.fence = fence;
        self
    }

    /// The target calls it that.
    pub fn handle(mut self, handle: Handle) -> Self {
        self.handle = Some(handle);
        self
    }
}

/// What something on a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ObservedState {
    /// Uploaded, without traffic.
    Staged,
    /// It serves.
    Active,
    /// It served before and is kept.
    Previous,
}

/// What to remove from a scope. A target answers `Unsupported` to what it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Removal {
    /// Everything.
    All,
    /// One deployment, staged, live or kept.
    Only(DeploymentId),
}

/// Somewhere an artifact can run.
///
/// `stage` brings the code there without traffic and is safe to repeat; `activate` gives it the traffic and is safe to
/// repeat under the same fence. After [`Effect::Unknown`](crate::Effect::Unknown) the caller asks
/// [`status`](Self::status) before it does anything else.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait DeploymentTarget: Debug + Send + Sync + 'static {
    /// What it is and can do.
    fn info(&self) -> TargetInfo;

    /// Whether it can be used.
    async fn check(&self) -> Result<Readiness>;

    /// Brings the artifact there, without traffic; or, where the platform cannot, only checks that it could.
    ///
    /// `Conflict` when the id was staged with another digest or other variables; `LimitExceeded` or `Unsupported` when
    /// another target may take it.
    async fn stage(&self, request: &DeployRequest) -> Result<Staged>;

    /// Gives the traffic of the scope to what was staged. `Conflict` when a higher fence was activated, or this one for
    /// another deployment; `NotFound` when the staged version is gone: stage again.
    async fn activate(&self, request: &DeployRequest, staged: &Staged, fence: Fence) -> Result<Handle>;

    /// What became of the activation of `id` under `fence`.
    async fn status(&self, scope: &Scope, id: DeploymentId, fence: Fence) -> Result<TargetStatus>;

    /// Everything the target has in `scope`, in no order.
    async fn observe(&self, scope: &Scope) -> Result<Vec<Observed>>;

    /// Removes it, once that is certain. Fine if there is nothing. `Unsupported` when a deployment that is named runs in
    /// something that holds data of the app and goes only with [everything](Removal::All).
    async fn remove(&self, scope: &Scope, removal: Removal) -> Result<()>;

    /// Gives `percent` of the visitors to `id`, which is live under `fence`, and the others to the version before; each
    /// visitor stays where they are. The next activation has all of them.
    ///
    /// `Unsupported` unless the target is [`gradual`](TargetInfo::gradual); `Invalid` over 100; `Conflict` when another is
    /// live; `NotFound` when no version before is kept.
    async fn share(&self, scope: &Scope, id: DeploymentId, fence: Fence, percent: u8) -> Result<()> {
        let _ = (id, fence, percent);
        let message = "this target gives all visitors to the live version at once";
        Err(Error::new(ErrorKind::Unsupported, message).with("scope", scope))
    }
}

crate::seam::forward_seam!(DeploymentTarget as "target" [fn info(&self) -> TargetInfo;] {
    safe fn check(&self) -> Readiness;
    safe fn stage(&self, request: &DeployRequest) -> Staged;
    unsafe_to_repeat fn activate(&self, request: &DeployRequest, staged: &Staged, fence: Fence) -> Handle;
    safe fn status(&self, scope: &Scope, id: DeploymentId, fence: Fence) -> TargetStatus;
    safe fn observe(&self, scope: &Scope) -> Vec<Observed>;
    safe fn remove(&self, scope: &Scope, removal: Removal) -> ();
    safe fn share(&self, scope: &Scope, id: DeploymentId, fence: Fence, percent: u8) -> ();
});
