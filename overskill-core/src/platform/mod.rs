//! The platform: every seam put together, and the use cases that hosts call.

mod app;
mod builder;
mod env;
mod jobs;
mod nudges;
mod previews;

pub use app::{AppHandle, Deployment, To, Variables};
pub use builder::{PlatformBuilder, PlatformReport, Records, SeamReport};
pub use env::AppEnv;
pub use jobs::{AppJobs, RunWorker};
pub use previews::{AppPreview, Pushed, Sources, Written};

use crate::{
    AccessToken, AppDirectory, AppId, AppRecord, AppState, AuditEntry, AuditLog, BundleStore, Clock, DeploymentId,
    Deployments, EnvStore, Error, FileStore, Grant, Ids, IdsExt, PreviewHost, Result, Right, RouteTable, RunQueue,
    Scheduler, Scope, SystemGrant, TenantGate, TenantId,
};
use futures::{StreamExt as _, stream::FuturesUnordered};
use std::{
    collections::HashSet,
    future::Future,
    num::NonZeroU32,
    pin::pin,
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
    /// Deployments that somebody says should be looked at now.
    pub(crate) nudges: nudges::Nudges,
    /// What it was built from: every seam, to be asked again how it is.
    pub(crate) built_from: PlatformBuilder,
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
/// How many [`Platform::run`] drives at the same time.
const DRIVEN_AT_ONCE: NonZeroU32 = NonZeroU32::new(32).expect("not zero");
/// How many that were nudged are driven at the same time.
const NUDGED_AT_ONCE: usize = 16;

impl Platform {
    /// Begins to put a platform together.
    pub fn builder() -> PlatformBuilder {
        PlatformBuilder::default()
    }

    /// Where grants are made.
    pub fn gate(&self) -> &TenantGate {
        &self.0.gate
    }

    /// Where time comes from: for hosts that measure or wait on behalf of this platform.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// Asks every seam again whether it can be used: what is not ready now, although it was when the platform was built.
    pub async fn report(&self) -> PlatformReport {
        self.0.built_from.report().await
    }

    /// Says that a deployment may be driven on now, for something it waits for has happened: [`run`](Self::run) looks at it
    /// at once and not in its next round. Hosts call it when a provider or a job tells them so.
    ///
    /// It changes nothing by itself: what has ended stays ended, a question stays a question, and what somebody drives is
    /// left to them. Where `run` runs in another process, that one comes to it in its own time.
    ///
    /// `NotFound` when there is no such deployment.
    pub async fn nudge(&self, id: DeploymentId) -> Result<()> {
        let record = self.0.deployments.record(id).await?;
        let record = record.ok_or_else(|| Error::not_found("no such deployment").with("deployment", id))?;
        if record.end().is_none() {
            self.0.nudges.add(id);
        }
        Ok(())
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

    /// Does what nobody waits for, until `shutdown` ends: drives deployments that nobody drives, at once those that were
    /// answered or [nudged](Self::nudge), and now and then removes artifacts that nobody holds and runs that were over long ago. The host spawns it; overskill never does.
    ///
    /// What fails is logged and tried again in the next round.
    pub async fn run(&self, shutdown: impl Future<Output = ()> + Send) {
        tokio::select! {
            biased;
            () = shutdown => {}
            () = self.drive_due() => {}
            () = self.drive_nudged() => {}
            () = self.tidy_now_and_then() => {}
        }
    }

    /// Round after round drives what is due. What takes long, as a build does, keeps no round waiting.
    async fn drive_due(&self) {
        let (mut drives, mut under_way) = (FuturesUnordered::new(), HashSet::new());
        loop {
            // Those that are under_way here may be among them.
            match self.0.deployments.due(DRIVEN_AT_ONCE).await {
                Ok(due) => {
                    for id in due {
                        if under_way.len() < DRIVEN_AT_ONCE.get() as usize && under_way.insert(id) {
                            drives.push(async move { (id, self.0.deployments.drive_now(id).await) });
                        }
                    }
                }
                Err(e) => tracing::warn!(error = %e, "what is due could not be looked up"),
            }
            let mut pause = pin!(self.pause());
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    Some((id, _)) = drives.next() => { under_way.remove(&id); }
                }
            }
        }
    }

    async fn tidy_now_and_then(&self) {
        loop {
            if let Err(e) = self.tidy().await {
                tracing::warn!(error = %e, "what nobody needs could not be removed");
            }
            self.pause().await;
        }
    }

    async fn pause(&self) {
        let pause = self.0.work_interval / 2 + self.0.ids.jitter(self.0.work_interval / 2);
        self.0.clock.sleep(pause).await;
    }

    /// Drives what was nudged, beside the rounds.
    async fn drive_nudged(&self) {
        let mut drives = FuturesUnordered::new();
        loop {
            tokio::select! {
                id = self.0.nudges.next(), if drives.len() < NUDGED_AT_ONCE => {
                    drives.push(async move { self.0.deployments.drive_now(id).await });
                }
                Some(_) = drives.next() => {}
            }
        }
    }

    /// One round of what [`run`](Self::run) does; returns how many deployments ended.
    pub async fn work(&self) -> Result<u32> {
        let ended = self.0.deployments.drive_pending(DEPLOYMENTS_A_ROUND).await?;
        self.tidy().await?;
        Ok(ended)
    }

    async fn tidy(&self) -> Result<()> {
        if self.0.tidying_is_due() {
            let now = self.0.clock.now();
            self.0.bundles.collect(now, self.0.bundle_age).await?;
            self.0.runs.prune(now.minus(self.0.run_age)).await?;
        }
        Ok(())
    }
}
