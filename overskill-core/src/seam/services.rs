//! Small seams: what a platform asks of others.

use crate::{
    AccessToken, Actor, Artifact, BackendName, DeploymentId, Digest, FilePath, OperatorChoice, Progress, PublicUrl,
    Readiness, Result, Scope, Snapshot, SubjectId, Timestamp,
};
use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

/// What a build is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BuildMode {
    /// Minified and hashed, without hot reload.
    #[default]
    Production,
    /// With names and line numbers that people can read; never deployed.
    Development,
}

/// Sources to build.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BuildRequest {
    /// Whose they are.
    pub scope: Scope,
    /// The sources.
    pub snapshot: Arc<Snapshot>,
    /// The lock file to build with, in place of the one among the sources.
    pub lock: Option<Bytes>,
    /// What it is for.
    pub mode: BuildMode,
    /// Where to tell how it goes.
    pub progress: Progress,
}

impl BuildRequest {
    /// Builds `snapshot` with the lock file among its sources.
    pub fn new(scope: Scope, snapshot: Arc<Snapshot>, mode: BuildMode) -> Self {
        Self { scope, snapshot, lock: None, mode, progress: Progress::discard() }
    }

    /// Sets the lock file.
    pub fn lock(mut self, lock: impl Into<Bytes>) -> Self {
        self.lock = Some(lock.into());
        self
    }

    /// Says where progress is told.
    pub fn progress_to(mut self, progress: Progress) -> Self {
        self.progress = progress;
        self
    }
}

/// Makes an artifact of sources. The artifact holds no environment's values.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Builder: Debug + Send + Sync + 'static {
    /// Whether it can be used.
    async fn check(&self) -> Result<Readiness>;

    /// Builds. `Invalid` when the sources are at fault: the public message says which file, and what to do.
    async fn build(&self, request: &BuildRequest) -> Result<Artifact>;
}

crate::seam::forward_seam!(Builder as "builder" [] {
    safe fn check(&self) -> Readiness;
    safe fn build(&self, request: &BuildRequest) -> Artifact;
});

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProbeRequest {
    /// Whose it is.
    pub scope: Scope,
    /// Where it is served.
    pub url: PublicUrl,
    /// What should be there, if that can be told.
    pub expect: Option<Digest>,
}

impl ProbeRequest {
    /// Looks at `url`.
    pub fn new(scope: Scope, url: PublicUrl) -> Self {
        Self { scope, url, expect: None }
    }

    /// Says what should be there.
    pub fn expect(mut self, digest: Digest) -> Self {
        self.expect = Some(digest);
        self
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answers as it should.
    Healthy,
    /// It does not.
    Unhealthy {
        /// What is wrong, for people.
        reason: String,
    },
}

/// Is it well? An error means that it could not be found out.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait HealthProbe: Debug + Send + Sync + 'static {
    /// Whether it can be used.
    async fn check(&self) -> Result<Readiness>;

    /// Looks once.
    async fn probe(&self, request: &ProbeRequest) -> Result<Health>;
}

crate::seam::forward_seam!(HealthProbe as "health" [] {
    safe fn check(&self) -> Readiness;
    safe fn probe(&self, request: &ProbeRequest) -> Health;
});

/// Something a person should know. As data, it is an event of Standard Webhooks: `{"type": …, "data": {…}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
#[non_exhaustive]
pub enum Notice {
    /// A deployment waits for an answer.
    #[serde(rename = "deployment.awaiting_operator")]
    AwaitingOperator {
        /// Which one.
        deployment: DeploymentId,
        /// Where.
        scope: Scope,
        /// The question.
        question: String,
        /// The answers there are.
        choices: Vec<OperatorChoice>,
        /// Until when.
        deadline: Timestamp,
    },
    /// A deployment failed.
    #[serde(rename = "deployment.failed")]
    DeploymentFailed {
        /// Which one.
        deployment: DeploymentId,
        /// Where.
        scope: Scope,
        /// Why.
        reason: String,
    },
    /// A deployment went to another target than the preferred one.
    #[serde(rename = "deployment.fell_back")]
    FellBack {
        /// Which one.
        deployment: DeploymentId,
        /// Where.
        scope: Scope,
        /// To which target.
        target: BackendName,
    },
    /// A backend is in trouble, or well again.
    #[serde(rename = "backend.changed")]
    Backend {
        /// Which one.
        name: String,
        /// What about it.
        message: String,
    },
}

impl Notice {
    /// The deployment it is about, if it is about one.
    pub fn about(&self) -> Option<(DeploymentId, &Scope)> {
        match self {
            Self::AwaitingOperator { deployment, scope, .. }
            | Self::DeploymentFailed { deployment, scope, .. }
            | Self::FellBack { deployment, scope, .. } => Some((*deployment, scope)),
            Self::Backend { .. } => None,
        }
    }
}

/// Whom to tell. That it fails never changes what it tells of.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Notifier: Debug + Send + Sync + 'static {
    /// Whether it can be used.
    async fn check(&self) -> Result<Readiness>;

    /// Tells it.
    async fn notify(&self, notice: &Notice) -> Result<()>;
}

crate::seam::forward_seam!(Notifier as "notifier" [] {
    safe fn check(&self) -> Readiness;
    unsafe_to_repeat fn notify(&self, notice: &Notice) -> ();
});

/// The method of an app's API call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "their names are those of RFC 9110")]
pub enum ApiMethod {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

/// A call of an app to its own `/api/*`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ApiRequest {
    /// Whose app it is.
    pub scope: Scope,
    /// What proves who calls: a short-lived token with no right but `Data`.
    pub token: AccessToken,
    /// The method.
    pub method: ApiMethod,
    /// What stands behind `/api/`.
    pub path: FilePath,
    /// The query, name by name, decoded.
    pub query: Vec<(String, String)>,
    /// The media type of the body, if it has one.
    pub content_type: Option<String>,
    /// The body.
    pub body: Bytes,
}

impl ApiRequest {
    /// A call without query and body.
    pub fn new(scope: Scope, token: AccessToken, method: ApiMethod, path: FilePath) -> Self {
        Self { scope, token, method, path, query: Vec::new(), content_type: None, body: Bytes::new() }
    }

    /// Adds to the query.
    pub fn query(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.query.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    pub fn body(mut self, content_type: impl Into<String>, body: impl Into<Bytes>) -> Self {
        self.content_type = Some(content_type.into());
        self.body = body.into();
        self
    }
}

/// The answer to an app's API call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ApiResponse {
    /// The HTTP status.
    pub status: u16,
    /// Headers, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Bytes,
}

impl ApiResponse {
    /// An answer without headers.
    pub fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self { status, headers: BTreeMap::new(), body: body.into() }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.insert(name.to_ascii_lowercase(), value.into());
        self
    }
}

/// Where an app's `/api/*` goes. A refusal is a response (401, 403, 404); an error means that nobody answered.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait ApiUpstream: Debug + Send + Sync + 'static {
    /// Whether it can be used.
    async fn check(&self) -> Result<Readiness>;

    /// Passes a call on.
    async fn call(&self, request: &ApiRequest) -> Result<ApiResponse>;
}

crate::seam::forward_seam!(ApiUpstream as "api" [] {
    safe fn check(&self) -> Readiness;
    unsafe_to_repeat fn call(&self, request: &ApiRequest) -> ApiResponse;
});

/// Makes the short-lived tokens that apps carry to their `/api/*`. They never have a right but `Data`.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait AppTokens: Debug + Send + Sync + 'static {
    /// Whether it can be used.
    async fn check(&self) -> Result<Readiness>;

    /// A token for `subject`, or for [visitors](SubjectId::visitor) when there is none, that is good in `scope` alone; with
    /// the moment it expires.
    async fn issue(
        &self,
        scope: &Scope,
        subject: Option<SubjectId>,
        now: Timestamp,
    ) -> Result<(AccessToken, Timestamp)>;
}

crate::seam::forward_seam!(AppTokens as "app_tokens" [] {
    safe fn check(&self) -> Readiness;
    safe fn issue(&self, scope: &Scope, subject: Option<SubjectId>, now: Timestamp) -> (AccessToken, Timestamp);
});

/// Who answers for something the host's own code does; see [`Actor::System`].
impl Actor {
    /// The platform itself, when it takes an app back to the target that it prefers. No grant has this name.
    pub const FAILBACK: &str = "failback";

    /// The host's own code, by the name it gives itself.
    pub fn system(name: impl Into<String>) -> Self {
        Self::System(name.into())
    }
}
