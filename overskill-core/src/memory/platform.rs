use super::{
    MemoryApps, MemoryAudit, MemoryBundles, MemoryDeployments, MemoryEnv, MemoryFiles, MemoryJobs, MemoryPreviews,
    MemoryProgress, MemoryRoutes, MemoryTarget, StaticBuilder,
};
use crate::{
    AccessToken, BackendName, Claims, Clock, DeploymentStrategy, Ids, LocalKeyProvider, PlatformBuilder, Readiness,
    Records, Refusal, Result, Sealer, StoreInfo, SystemClock, SystemIds, TenantId, TenantValidator, Timestamp,
};
use async_trait::async_trait;
use std::{num::NonZeroU32, sync::Arc};

/// Every backend in memory, with handles to look inside.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each field is the backend of its name")]
pub struct MemoryBackends {
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn Ids>,
    pub files: MemoryFiles,
    pub bundles: MemoryBundles,
    pub env: MemoryEnv,
    pub routes: MemoryRoutes,
    pub deployments: MemoryDeployments,
    pub audit: MemoryAudit,
    pub apps: MemoryApps,
    pub jobs: MemoryJobs,
    pub target: MemoryTarget,
    pub previews: MemoryPreviews,
    pub progress: MemoryProgress,
}

impl MemoryBackends {
    /// On the machine's clock and randomness.
    pub fn new() -> Self {
        Self::with(Arc::new(SystemClock), Arc::new(SystemIds))
    }

    /// On a clock and randomness of one's own: the same seed gives the same ids.
    pub fn with(clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        let sealer = Sealer::new(Arc::new(LocalKeyProvider::generate(&*ids)), ids.clone());
        let kept = |n| NonZeroU32::new(n).expect("not zero");
        Self {
            files: MemoryFiles::with(&*ids, StoreInfo::new("memory")),
            bundles: MemoryBundles::new(),
            env: MemoryEnv::with(&*ids, sealer),
            routes: MemoryRoutes::new(),
            deployments: MemoryDeployments::new(),
            audit: MemoryAudit::with(&*ids),
            apps: MemoryApps::new(),
            jobs: MemoryJobs::with(ids.clone()),
            target: MemoryTarget::new(BackendName::parse("memory").expect("a legal name")),
            previews: MemoryPreviews::new(),
            progress: MemoryProgress::with(ids.clone(), kept(1_000), kept(10_000)),
            clock,
            ids,
        }
    }

    /// The stores alone.
    pub fn records(&self) -> Records {
        Records {
            files: Arc::new(self.files.clone()),
            bundles: Arc::new(self.bundles.clone()),
            env: Arc::new(self.env.clone()),
            routes: Arc::new(self.routes.clone()),
            deployments: Arc::new(self.deployments.clone()),
            audit: Arc::new(self.audit.clone()),
            apps: Arc::new(self.apps.clone()),
            scheduler: Arc::new(self.jobs.clone()),
            runs: Arc::new(self.jobs.clone()),
        }
    }

    /// A platform of these backends, complete but for a validator: until one is set, [`RefuseTokens`] lets only the host's
    /// own code in.
    pub fn platform(&self) -> PlatformBuilder {
        PlatformBuilder::default()
            .records(self.records())
            .previews(self.previews.clone())
            .builder(StaticBuilder)
            .deploy_with(DeploymentStrategy::prefer(self.target.clone()))
            .tenants(RefuseTokens)
            .progress(self.progress.clone())
            .clock(self.clock.clone())
            .ids(self.ids.clone())
    }
}

impl Default for MemoryBackends {
    fn default() -> Self {
        Self::new()
    }
}

/// Refuses every token: only the host's own code gets in.
#[derive(Clone, Copy, Debug, Default)]
pub struct RefuseTokens;

#[async_trait]
impl TenantValidator for RefuseTokens {
    async fn check(&self) -> Result<Readiness> {
        Ok(Readiness::ready("refuses all tokens"))
    }

    async fn validate(&self, _: &AccessToken, _: &TenantId, _: Timestamp) -> Result<Claims, Refusal> {
        Err(Refusal::NotAuthentic("no validator is set"))
    }
}
