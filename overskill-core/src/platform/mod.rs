//! The platform: every seam put together, and the use cases that hosts call.

mod app;
mod builder;
mod env;
mod jobs;
mod previews;

pub use app::{AppHandle, Deployment, To};
pub use builder::{PlatformBuilder, PlatformReport, Records, SeamReport};
pub use env::AppEnv;
pub use jobs::{AppJobs, RunWorker};
pub use previews::{AppPreview, Pushed, Sources, Written};

use crate::{
    AccessToken, AppDirectory, AppId, AppRecord, AppState, AuditEntry, AuditLog, BundleStore, Clock, Deployments,
    EnvStore, Error, FileStore, Grant, Ids, IdsExt, PreviewHost, Result, Right, RouteTable, RunQueue, Scheduler, Scope,
    SystemGrant, TenantGate, TenantId,
};
use std::{
    future::Future,
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};

/// A control plane, ready to use. Cheap to clone. Made by a [`PlatformBuilder`].
///
/// Every use case takes a grant: a tenant's, which [`app`](Self::app) makes of a token, or the host's own, which
/// [`gate`](Self::gate)`().system(…)` makes once the audit log holds who acts and why.
#[derive(Clone, Debug)]
pub struct Platform(Arc<Parts>);

#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) gate: TenantGate,
    pub(crate) files: Arc<dyn FileStore>,
    pub(crate) bundles: Arc<dyn BundleStore>,
    pub(crate) env: Arc<dyn EnvStore>,
    pub(crate) routes: Arc<dyn RouteTable>,
    pub(crate) previews: Arc<dyn PreviewHost>,
    pub(crate) deployments: Deployments,
    pub(crate) deployment_store: Arc<dyn crate::DeploymentStore>,
    pub(crate) audit: Arc<dyn AuditLog>,
    pub(crate) apps: Arc<dyn AppDirectory>,
    pub(crate) scheduler: Arc<dyn Scheduler>,
    pub(crate) runs: Arc<dyn RunQueue>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn Ids>,
    pub(crate) work_interval: Duration,
    pub(crate) bundle_age: Duration,
    pub(crate) run_age: Duration,
    /// When it was tidied up last, on the monotonic clock.
    pub(crate) tidied: Mutex<Option<Duration>>,
}

/// How long between two times that what nobody needs is removed.
const TIDY_INTERVAL: Duration = Duration::from_mins(10);

impl Parts {
    fn tidying_is_due(&self) -> bool {
        let now = self.clock.monotonic();
        let mut tidied = self.tidied.lock().expect("nobody panics with this lock");
        let due = tidied.is_none_or(|last| now.saturating_sub(last) >= TIDY_INTERVAL);
        if due {
            *tidied = Some(now);
        }
        due
    }
}

/// How many deployments one round of [`Platform::work`] drives.
const DEPLOYMENTS_A_ROUND: NonZeroU32 = NonZeroU32::new(16).expect("not zero");

impl Platform {
    /// Begins to put a platform together.
    pub fn builder() -> PlatformBuilder {
        PlatformBuilder::default()
    }

    /// Where grants are made.
    pub fn gate(&self) -> &TenantGate {
        &self.0.gate
    }

    /// An app, for whoever `token` speaks for; or an audited refusal.
    ///
    /// `NotFound` when the app is not in the directory, or was removed.
    pub async fn app<A>(&self, token: &AccessToken, app: A) -> Result<AppHandle>
    where
        A: TryInto<AppId>,
        Error: From<A::Error>,
    {
        let app: AppId = app.try_into()?;
        let grant = self.0.gate.admit(token, &TenantId::of_app(app.clone())).await?;
        self.open(grant, app).await
    }

    /// An app, for whoever holds a grant of this platform's gate.
    pub async fn open(&self, grant: impl Into<Grant>, app: AppId) -> Result<AppHandle> {
        let grant = grant.into();
        self.0.gate.permit_somewhere(&grant, &app)?;
        match self.0.apps.get(&app).await? {
            None => Err(Error::not_found("no such app").with("app", &app)),
            Some(record) if record.state == AppState::Removed => {
                Err(Error::not_found("the app was removed").with("app", &app))
            }
            Some(record) => Ok(AppHandle::new(self.0.clone(), grant, record)),
        }
    }

    /// Adds an app, or changes its name, owner, state or strategy. For the host's own code.
    ///
    /// `Invalid` when its strategy names a target that the platform does not have.
    #[tracing::instrument(name = "overskill.apps.put", skip_all, fields(app = %record.app))]
    pub async fn put_app(&self, grant: &SystemGrant, record: &AppRecord) -> Result<()> {
        let grant = Grant::System(grant.clone());
        self.0.gate.permit_app(&grant, &record.app, Right::Operate)?;
        record.admit()?;
        self.0.deployments.admit(record.strategy.as_ref())?;
        let entry = AuditEntry::new(self.0.clock.now(), grant.actor(), "app.put")
            .in_scope(Scope::sources(record.app.clone()))
            .detail(format!("{} {}", record.state.as_str(), record.name));
        self.0.audit.append(&entry).await?;
        self.0.apps.put(record).await
    }

    /// The workers' side of the jobs of all apps that `grant` reaches. For the host's own code.
    pub fn runs(&self, grant: &SystemGrant) -> Result<RunWorker> {
        RunWorker::new(self.0.clone(), grant)
    }

    /// Does what nobody waits for, until `shutdown` ends: drives deployments that nobody drives, and now and then removes
    /// artifacts that nobody holds and runs that were over long ago. The host spawns it; overskill never does.
    ///
    /// What fails is logged and tried again in the next round.
    pub async fn run(&self, shutdown: impl Future<Output = ()> + Send) {
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let round = async {
                if let Err(e) = self.work().await {
                    tracing::warn!(error = %e, "a round of background work failed");
                }
                let pause = self.0.work_interval / 2 + self.0.ids.jitter(self.0.work_interval / 2);
                self.0.clock.sleep(pause).await;
            };
            tokio::select! {
                biased;
                () = &mut shutdown => return,
                () = round => {}
            }
        }
    }

    /// One round of what [`run`](Self::run) does; returns how many deployments ended.
    pub async fn work(&self) -> Result<u32> {
        let ended = self.0.deployments.drive_pending(DEPLOYMENTS_A_ROUND).await?;
        if self.0.tidying_is_due() {
            let now = self.0.clock.now();
            self.0.bundles.collect(now, self.0.bundle_age).await?;
            self.0.runs.prune(now.minus(self.0.run_age)).await?;
        }
        Ok(ended)
    }
}
