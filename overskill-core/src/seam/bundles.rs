use crate::{Artifact, DeploymentId, Digest, Readiness, Result, Scope, Timestamp};
use async_trait::async_trait;
use std::{collections::BTreeSet, fmt::Debug, sync::Arc, time::Duration};

/// What a collection removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Artifacts that nobody held.
    pub artifacts: u64,
    /// Bytes that were freed.
    pub bytes: u64,
}

/// Immutable artifacts by digest, kept as long as a deployment holds them.
///
/// Contents are shared between apps, so nothing may tell one app what another has: `put` answers alike whether or not
/// the artifact was there, and `get` answers only in a scope that holds it.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait BundleStore: Debug + Send + Sync + 'static {
    /// Whether it can be used.
    async fn check(&self) -> Result<Readiness>;

    /// Keeps an artifact and returns its digest once it is durable. It counts as new again, even if it was there.
    async fn put(&self, artifact: &Artifact, now: Timestamp) -> Result<Digest>;

    /// `deployment` needs the artifact in `scope`. Once or more, it is one hold. `NotFound` if it was never put, or was
    /// collected.
    async fn hold(&self, scope: &Scope, digest: Digest, deployment: DeploymentId) -> Result<()>;

    /// `deployment` needs nothing any more; what it held counts as released at `now`. Fine if it held nothing.
    async fn release(&self, deployment: DeploymentId, now: Timestamp) -> Result<()>;

    /// Which of `deployments` hold something, in whatever scope.
    async fn holding(&self, deployments: &[DeploymentId]) -> Result<BTreeSet<DeploymentId>>;

    /// The artifact, if something in `scope` holds it.
    async fn get(&self, scope: &Scope, digest: Digest) -> Result<Option<Arc<Artifact>>>;

    /// Removes artifacts that nobody holds and that were last put or released longer ago than `min_age`, which has to
    /// be longer than a deploy may last.
    async fn collect(&self, now: Timestamp, min_age: Duration) -> Result<Collected>;
}

crate::seam::forward_seam!(BundleStore as "bundles" [] {
    safe fn check(&self) -> Readiness;
    safe fn put(&self, artifact: &Artifact, now: Timestamp) -> Digest;
    safe fn hold(&self, scope: &Scope, digest: Digest, deployment: DeploymentId) -> ();
    safe fn release(&self, deployment: DeploymentId, now: Timestamp) -> ();
    safe fn holding(&self, deployments: &[DeploymentId]) -> BTreeSet<DeploymentId>;
    safe fn get(&self, scope: &Scope, digest: Digest) -> Option<Arc<Artifact>>;
    safe fn collect(&self, now: Timestamp, min_age: Duration) -> Collected;
});
