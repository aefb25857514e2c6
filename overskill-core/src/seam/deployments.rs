use crate::{
    Actor, BackendName, DeploymentId, Digest, Effect, EnvRevision, ErrorKind, Fence, Handle, Limits, Page, ParseError,
    Readiness, Result, Scope, Staged, StrategyConfig, StreamPosition, SubjectId, Timestamp, WorkerName,
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::{fmt, fmt::Debug, num::NonZeroU32, str::FromStr, time::Duration};

/// Something that happened in a deployment. Events are written before and after each side effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeploymentEvent {
    /// Somebody asked for it, and it was authorised.
    Requested {
        /// Who.
        actor: Actor,
        /// What to deploy.
        source: DeploymentSource,
        /// With which variables.
        env: EnvRevision,
        /// What the app may use.
        limits: Limits,
        /// The targets to try, in order.
        targets: Vec<BackendName>,
        /// Whose app it is: who waits in one line with it when there is a queue.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<SubjectId>,
        /// What is otherwise for this app than in the platform's strategy.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        strategy: Option<Box<StrategyConfig>>,
    },
    /// The build began.
    BuildStarted {
        /// Of the sources as they were at this position: the one asked for, or a newer one.
        position: StreamPosition,
    },
    /// The artifact is in the bundle store, held for this deployment.
    Built {
        /// The artifact.
        digest: Digest,
        /// Its size in bytes.
        bytes: u64,
        /// How many files it has.
        files: u64,
    },
    /// This deployment alone may change the scope from now on, under a fence above this one: it is written with the commit
    /// that takes the lease.
    Leased {
        /// The highest fence that was seen.
        above: Fence,
        /// Who drives it.
        holder: WorkerName,
    },
    /// A target is about to be asked to stage it.
    Staging {
        /// The target.
        target: BackendName,
        /// Which try at this target; the first is 1.
        attempt: u32,
    },
    /// It is staged.
    Staged {
        /// The target.
        target: BackendName,
        /// What proves it.
        staged: Staged,
    },
    /// A target is about to be asked to give it the traffic.
    Activating {
        /// The target.
        target: BackendName,
        /// Under which fence.
        fence: Fence,
    },
    /// The target gives it the traffic.
    Activated {
        /// The target.
        target: BackendName,
        /// What the target calls it.
        handle: Handle,
    },
    /// A call's outcome was unknown, so the target was asked what it runs.
    Observed {
        /// The target.
        target: BackendName,
        /// Whether it had landed and was adopted.
        adopted: bool,
    },
    /// A try at a target failed.
    AttemptFailed {
        /// The target.
        target: BackendName,
        /// What was tried.
        operation: String,
        /// How it ended.
        outcome: AttemptOutcome,
        /// What went wrong.
        failure: Failure,
    },
    /// It could not be found out whether a target runs it: something of it may still turn up there.
    Unsettled {
        /// The target.
        target: BackendName,
    },
    /// No target can take it now, for none is well or has budget left: it waits in a line.
    Waiting {
        /// Why.
        reason: String,
        /// When to look again at the latest.
        until: Timestamp,
    },
    /// A gate looked at it.
    Gated {
        /// The target.
        target: BackendName,
        /// `staged` or `live`.
        gate: String,
        /// Why it failed; `None` if it passed.
        failure: Option<String>,
    },
    /// It does badly, so the target is about to be asked to serve the one before again.
    RollingBack {
        /// The target.
        target: BackendName,
        /// What is to be live again.
        to: DeploymentId,
        /// Under which fence.
        fence: Fence,
    },
    /// A target served it, or could, though it is not live: it serves what is live again.
    GaveWay {
        /// The target.
        target: BackendName,
        /// What it serves.
        to: DeploymentId,
        /// Under which fence.
        fence: Fence,
    },
    /// The version before is live on another target, which may serve it until it is swept.
    Leaving {
        /// That target.
        target: BackendName,
    },
    /// The route is about to name it.
    Routing {
        /// The target.
        target: BackendName,
        /// Under which fence.
        fence: Fence,
    },
    /// A person has to decide.
    AwaitingOperator {
        /// What the question is about.
        about: Doubt,
        /// What the question is.
        question: String,
        /// The answers there are.
        choices: Vec<OperatorChoice>,
        /// What happens at that moment is an abort.
        deadline: Timestamp,
    },
    /// A person decided.
    OperatorAnswered {
        /// Who.
        actor: Actor,
        /// What.
        choice: OperatorChoice,
    },
    /// A target's provider was asked: how much that took, and what the provider calls its answer. Targets without a provider
    /// have no such events.
    Asked {
        /// The target.
        target: BackendName,
        /// What it was asked for.
        operation: String,
        /// How many requests that took.
        requests: u32,
        /// How long that took, in milliseconds.
        millis: u64,
        /// What the provider calls its last answer: its support wants to know.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trace: Option<String>,
    },
    /// Whoever drove it stopped; somebody else may go on.
    Released,
    /// It ended. Nothing comes after this but sweeps.
    Ended {
        /// How.
        end: DeploymentEnd,
    },
    /// A sweep removed what an ended deployment had left behind.
    Swept {
        /// The target.
        target: BackendName,
    },
}

/// What a deployment deploys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeploymentSource {
    /// The app's sources, as they were at this position.
    Sources(StreamPosition),
    /// An artifact that is there already: a promotion or a rollback.
    Artifact {
        /// The artifact.
        digest: Digest,
        /// The deployment that it was built or last deployed for.
        of: DeploymentId,
    },
}

/// How a try at a target ended, if it did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// The request is wrong, for this target or for all.
    Rejected,
    /// It was not taken; nothing happened.
    Unavailable,
    /// It may have happened.
    Unknown,
}

/// A failure as it is stored: no secret, nothing that needs the backend to read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind of the error.
    pub kind: String,
    /// What the error said, for operators.
    pub message: String,
    /// Whether it may have happened anyway.
    pub effect_unknown: bool,
}

impl From<&crate::Error> for Failure {
    fn from(e: &crate::Error) -> Self {
        let kind: ErrorKind = e.kind();
        Self { kind: kind.to_string(), message: e.to_string(), effect_unknown: e.effect() == Effect::Unknown }
    }
}

/// What a person is asked about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Doubt {
    /// Whether it may go live at all. Approve: yes.
    Permission,
    /// Whether this target runs it could not be found out. Approve: go on with the next target all the same; retry: ask again.
    Unsettled(BackendName),
    /// No target took it. Retry: from the first on.
    NobodyTook,
    /// The version before could not be made live again. Retry: once more.
    NotRolledBack,
}

/// What a person may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorChoice {
    /// Go on.
    Approve,
    /// Try again from the first target.
    Retry,
    /// End it as failed.
    Abort,
}

impl OperatorChoice {
    /// Every answer there can be.
    pub const ALL: [Self; 3] = [Self::Approve, Self::Retry, Self::Abort];

    /// Its name: `approve`, `retry` or `abort`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Retry => "retry",
            Self::Abort => "abort",
        }
    }
}

impl fmt::Display for OperatorChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for OperatorChoice {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let known = Self::ALL.into_iter().find(|choice| choice.as_str() == s);
        known.ok_or_else(|| ParseError::new("choice", "must be approve, retry or abort", s))
    }
}

/// How a deployment ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "as", rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeploymentEnd {
    /// It is live.
    Active {
        /// Where.
        target: BackendName,
        /// What the target calls it.
        handle: Handle,
        /// Under which fence.
        fence: Fence,
    },
    /// It was live, did badly, and the one before is live again.
    RolledBack {
        /// What is live again.
        to: DeploymentId,
        /// Why.
        reason: String,
    },
    /// It is not live, and what was live before still is.
    Failed {
        /// Why.
        reason: String,
    },
    /// A newer one took its place.
    Superseded {
        /// The newer one.
        by: Option<DeploymentId>,
    },
}

/// An event with its time and place in the deployment's own stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedEvent {
    /// Its place; the first has 1.
    pub seq: u64,
    /// When it was written.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub event: DeploymentEvent,
}

/// What a commit does to the lease of its scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// Nothing; the scope need not be leased (a request, an operator's answer).
    None,
    /// Takes it, if it is free, expired, or held by this holder for this deployment. The fence given is greater than every
    /// fence of the scope before, and greater than `above`.
    Take {
        /// Who takes it.
        holder: WorkerName,
        /// For how long.
        ttl: Duration,
        /// The highest fence seen elsewhere: in the route, at the targets.
        above: Fence,
    },
    /// Requires that the lease is held under this fence, and renews it.
    Keep {
        /// The fence it was taken with.
        fence: Fence,
        /// For how much longer, from now.
        ttl: Duration,
    },
    /// Requires that the lease is held under this fence, and gives it back.
    Release {
        /// The fence it was taken with.
        fence: Fence,
    },
}

/// Events of one deployment and a change of its scope's lease, that happen together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Commit {
    /// The deployment.
    pub id: DeploymentId,
    /// Its scope.
    pub scope: Scope,
    /// How many events it must have so far; 0 creates it.
    pub expected_seq: u64,
    /// When this creates one: the scope must have none that is newer than this one, whatever the new one's id.
    pub after: Option<DeploymentId>,
    /// What happened, in order. May be empty for a change of the lease alone.
    pub events: Vec<DeploymentEvent>,
    /// What happens to the lease.
    pub lease: LeaseChange,
    /// When somebody should look at it next. `None`: at once while it has not ended, never again once it has.
    pub due: Option<Timestamp>,
    /// When. A store uses the later of this and its own clock, if it has one.
    pub now: Timestamp,
}

impl Commit {
    /// Adds `events` to a deployment that has `expected_seq` of them.
    pub fn new(
        id: DeploymentId,
        scope: Scope,
        expected_seq: u64,
        events: impl IntoIterator<Item = DeploymentEvent>,
        now: Timestamp,
    ) -> Self {
        let events = events.into_iter().collect();
        Self { id, scope, expected_seq, after: None, events, lease: LeaseChange::None, due: None, now }
    }

    /// Gives way to whatever was asked for since `newest` was the newest of the scope.
    pub fn after(mut self, newest: Option<DeploymentId>) -> Self {
        self.after = newest;
        self
    }

    /// Says when somebody should look at it next: a question has a deadline, a place in a line comes up, what may have been
    /// left behind is to be swept.
    pub fn due(mut self, due: Option<Timestamp>) -> Self {
        self.due = due;
        self
    }

    /// Says what happens to the lease.
    pub fn lease(mut self, lease: LeaseChange) -> Self {
        self.lease = lease;
        self
    }
}

/// The right of one deployment to change its scope, until it expires or a higher fence is given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeployLease {
    /// Its fence.
    pub fence: Fence,
    /// Whose it is.
    pub deployment: DeploymentId,
    /// Who drives it.
    pub holder: WorkerName,
    /// Until when.
    pub expires_at: Timestamp,
}

/// What a commit led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// How many events the deployment has now.
    pub seq: u64,
    /// The lease, if the commit took or kept it.
    pub lease: Option<DeployLease>,
}

/// One line about a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeploymentSummary {
    /// Which one.
    pub id: DeploymentId,
    /// Where to.
    pub scope: Scope,
    /// How many events it has.
    pub seq: u64,
    /// How it ended, if it did.
    pub end: Option<DeploymentEnd>,
}

/// What a store holds of one deployment, seen at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Where to.
    pub scope: Scope,
    /// Its events, oldest first.
    pub events: Vec<RecordedEvent>,
    /// Who may change the scope: this deployment or another.
    pub lease: Option<DeployLease>,
    /// The newest deployment of the scope.
    pub newest: DeploymentId,
}

/// The record of every deployment, and the lease that makes sure only one changes a scope at a time.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait DeploymentStore: Debug + Send + Sync + 'static {
    /// Whether it can be used.
    async fn check(&self) -> Result<Readiness>;

    /// Makes a commit happen and returns once it is durable.
    ///
    /// `Conflict`, and nothing happens, when the deployment has another number of events than expected or is of another
    /// scope, when it is new and its scope has one with a greater id (ids of a scope are in the order of its requests,
    /// whatever the clocks of those who ask) or than the one it is to come [after](Commit::after), when it has ended (nothing
    /// but `Swept` may follow), when the lease is held by another deployment or another holder, or when it is not held under
    /// the named fence any more.
    async fn commit(&self, commit: &Commit) -> Result<Committed>;

    /// The events of a deployment, oldest first; empty for one that does not exist.
    async fn events(&self, id: DeploymentId) -> Result<Vec<RecordedEvent>>;

    /// The scope of a deployment, or `None` for one that does not exist.
    async fn scope_of(&self, id: DeploymentId) -> Result<Option<Scope>>;

    /// Who may change the scope at `now`; `None` when nobody holds it.
    async fn lease(&self, scope: &Scope, now: Timestamp) -> Result<Option<DeployLease>>;

    /// Deployments that somebody should look at, of scopes that nobody has leased at `now`, at most `limit`: one of each
    /// scope before a second of any, and among those the one first that has been due longest. So a scope with many keeps no
    /// other waiting. A store with a great many due at once may give turns to the thousands that have been due longest alone.
    ///
    /// Due is what its last commit [said](Commit::due). Without a word of it, a deployment that has ended is not due; one that
    /// has not is, since that commit or, if it was due already, since then.
    async fn pending(&self, now: Timestamp, limit: NonZeroU32) -> Result<Vec<DeploymentSummary>>;

    /// Deployments of a scope, newest first, at most `limit`, older than `before`.
    async fn list(
        &self,
        scope: &Scope,
        before: Option<DeploymentId>,
        limit: NonZeroU32,
    ) -> Result<Page<DeploymentSummary, DeploymentId>>;

    /// What is there to know before a deployment is driven on at `now`: [`scope_of`](Self::scope_of),
    /// [`events`](Self::events), [`lease`](Self::lease) and the first of [`list`](Self::list); `None` for one that does not
    /// exist. A store that can say it in one answer does; this asks one after the other.
    async fn standing(&self, id: DeploymentId, now: Timestamp) -> Result<Option<Standing>> {
        let Some(scope) = self.scope_of(id).await? else { return Ok(None) };
        let events = self.events(id).await?;
        let lease = self.lease(&scope, now).await?;
        let newest = self.list(&scope, None, NonZeroU32::MIN).await?.items.first().map_or(id, |newest| newest.id);
        Ok(Some(Standing { scope, events, lease, newest }))
    }
}

crate::seam::forward_seam!(DeploymentStore as "deployments" [] {
    safe fn check(&self) -> Readiness;
    unsafe_to_repeat fn commit(&self, commit: &Commit) -> Committed;
    safe fn events(&self, id: DeploymentId) -> Vec<RecordedEvent>;
    safe fn scope_of(&self, id: DeploymentId) -> Option<Scope>;
    safe fn lease(&self, scope: &Scope, now: Timestamp) -> Option<DeployLease>;
    safe fn pending(&self, now: Timestamp, limit: NonZeroU32) -> Vec<DeploymentSummary>;
    safe fn list(&self, scope: &Scope, before: Option<DeploymentId>, limit: NonZeroU32) -> Page<DeploymentSummary, DeploymentId>;
    safe fn standing(&self, id: DeploymentId, now: Timestamp) -> Option<Standing>;
});
