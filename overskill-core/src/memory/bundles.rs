use super::{NAME, Shared};
use crate::{Artifact, BundleStore, Collected, DeploymentId, Digest, Error, Readiness, Result, Scope, Timestamp};
use async_trait::async_trait;
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

/// Artifacts in memory. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryBundles(Shared<Bundles>);

#[derive(Default)]
struct Bundles {
    kept: HashMap<Digest, Kept>,
    /// The same holds from the other side, for `release`.
    held: HashMap<DeploymentId, HashSet<(Scope, Digest)>>,
}

struct Kept {
    artifact: Arc<Artifact>,
    holders: HashMap<Scope, HashSet<DeploymentId>>,
    /// When it was last put or released.
    since: Timestamp,
}

impl MemoryBundles {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl BundleStore for MemoryBundles {
    async fn check(&self) -> Result<Readiness> {
        Ok(Readiness::ready(NAME))
    }

    async fn put(&self, artifact: &Artifact, now: Timestamp) -> Result<Digest> {
        let digest = artifact.digest();
        let mut bundles = self.0.lock();
        let kept = bundles.kept.entry(digest).or_insert_with(|| Kept {
            artifact: Arc::new(artifact.clone()),
            holders: HashMap::new(),
            since: now,
        });
        kept.since = kept.since.max(now);
        Ok(digest)
    }

    async fn hold(&self, scope: &Scope, digest: Digest, deployment: DeploymentId) -> Result<()> {
        let mut bundles = self.0.lock();
        let Some(kept) = bundles.kept.get_mut(&digest) else {
            let e = Error::not_found("the artifact is not in the store: put it first").at(NAME, "hold");
            return Err(e.with("digest", digest));
        };
        kept.holders.entry(scope.clone()).or_default().insert(deployment);
        bundles.held.entry(deployment).or_default().insert((scope.clone(), digest));
        Ok(())
    }

    async fn release(&self, deployment: DeploymentId, now: Timestamp) -> Result<()> {
        let mut bundles = self.0.lock();
        for (scope, digest) in bundles.held.remove(&deployment).unwrap_or_default() {
            let Some(kept) = bundles.kept.get_mut(&digest) else { continue };
            kept.since = kept.since.max(now);
            if let Some(deployments) = kept.holders.get_mut(&scope) {
                deployments.remove(&deployment);
                if deployments.is_empty() {
                    kept.holders.remove(&scope);
                }
            }
        }
        Ok(())
    }

    async fn holding(&self, deployments: &[DeploymentId]) -> Result<BTreeSet<DeploymentId>> {
        let bundles = self.0.lock();
        Ok(deployments.iter().copied().filter(|id| bundles.held.contains_key(id)).collect())
    }

    async fn get(&self, scope: &Scope, digest: Digest) -> Result<Option<Arc<Artifact>>> {
        let bundles = self.0.lock();
        let held = bundles.kept.get(&digest).filter(|kept| kept.holders.contains_key(scope));
        Ok(held.map(|kept| kept.artifact.clone()))
    }

    async fn collect(&self, now: Timestamp, min_age: Duration) -> Result<Collected> {
        let mut collected = Collected::default();
        self.0.lock().kept.retain(|_, kept| {
            let stays = !kept.holders.is_empty() || now.since(kept.since) <= min_age;
            if !stays {
                collected.artifacts += 1;
                collected.bytes += kept.artifact.size_bytes();
            }
            stays
        });
        Ok(collected)
    }
}
