use crate::Overskill;
use overskill_core::{
    AppDirectory, AuditLog, Builder, BundleStore, Clock, DeploymentStore, DeploymentStrategy, EnvStore, FileStore, Ids,
    KeyId, LocalKeys, LocalTokens, PlatformBuilder, PreviewHost, ProgressSink, Records, Result, RouteTable, RunQueue,
    Scheduler, TenantValidator, memory::MemoryBackends,
};
use std::time::Duration;

/// Puts an [`Overskill`] together. What is not set is embedded.
#[derive(Debug)]
pub struct OverskillBuilder {
    platform: PlatformBuilder,
    validator_set: bool,
    tokens: Option<LocalTokens>,
    #[cfg(feature = "local")]
    local: Option<overskill_local::LocalBackends>,
}

macro_rules! forward {
    ($($(#[$doc:meta])* $name:ident: $($Seam:ident)+;)*) => {$(
        $(#[$doc])*
        pub fn $name(mut self, $name: impl $($Seam +)+ 'static) -> Self {
            self.platform = self.platform.$name($name);
            self
        }
    )*};
}

impl OverskillBuilder {
    pub(crate) fn new() -> Self {
        Self {
            platform: MemoryBackends::new().platform(),
            validator_set: false,
            tokens: None,
            #[cfg(feature = "local")]
            local: None,
        }
    }

    /// Runs this server along, and takes the tokens of its folder.
    #[cfg(feature = "local")]
    pub(crate) fn served_by(mut self, local: overskill_local::LocalBackends) -> Self {
        self.tokens = Some(local.tokens().clone());
        self.local = Some(local);
        self
    }

    forward! {
        /// Where sources are kept. It must be strongly consistent: it is the truth.
        files: FileStore;
        /// Where artifacts are kept.
        bundles: BundleStore;
        /// Where environment variables and secrets are kept.
        env: EnvStore;
        /// What says which target serves.
        routes: RouteTable;
        /// Where live previews run.
        previews: PreviewHost;
        /// What makes artifacts of sources.
        builder: Builder;
        /// Where the record of deployments is kept.
        deployments: DeploymentStore;
        /// Where the audit log is kept.
        audit: AuditLog;
        /// Where the list of apps is kept.
        apps: AppDirectory;
        /// What keeps jobs and their runs.
        jobs: Scheduler RunQueue Clone;
        /// Where progress goes.
        progress: ProgressSink;
        /// Where time comes from.
        clock: Clock;
        /// Where randomness comes from.
        ids: Ids;
    }

    /// Where everything is kept that has to last: sources, bundles, variables, routes, deployments, audit, apps and jobs.
    pub fn records(mut self, records: impl Into<Records>) -> Self {
        self.platform = self.platform.records(records);
        self
    }

    /// What decides whose tokens are good; keys of this process otherwise.
    pub fn tenants(mut self, validator: impl TenantValidator) -> Self {
        self.platform = self.platform.tenants(validator);
        self.validator_set = true;
        self
    }

    /// Where to deploy.
    pub fn deploy_with(mut self, strategy: DeploymentStrategy) -> Self {
        self.platform = self.platform.deploy_with(strategy);
        self
    }

    /// How often [`Platform::run`](crate::Platform::run) looks for work; every 5 seconds otherwise.
    pub fn work_interval(mut self, interval: Duration) -> Self {
        self.platform = self.platform.work_interval(interval);
        self
    }

    /// How long artifacts are kept that nobody holds; a day otherwise.
    pub fn keep_bundles(mut self, age: Duration) -> Self {
        self.platform = self.platform.keep_bundles(age);
        self
    }

    /// Asks every seam whether it can be used, and puts it together. The error is one report of all that is missing.
    pub async fn build(self) -> Result<Overskill> {
        let tokens = match self.tokens {
            Some(tokens) => tokens,
            None => LocalTokens::new(LocalKeys::generate(KeyId::parse("embedded")?)?),
        };
        let platform = if self.validator_set { self.platform } else { self.platform.tenants(tokens.validator()) };
        Ok(Overskill {
            platform: platform.build().await?,
            tokens,
            #[cfg(feature = "local")]
            local: self.local,
        })
    }
}
