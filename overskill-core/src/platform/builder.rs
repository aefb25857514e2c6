use super::{Parts, Platform};
use crate::{
    AppDirectory, AuditLog, Builder, BundleStore, Clock, Consistency, DeploymentStore, DeploymentStrategy, Deployments,
    DeploymentsParts, DiscardProgress, EnvStore, Error, FileStore, Ids, PreviewHost, Problem, ProgressSink, Readiness,
    Result, RouteTable, RunQueue, Scheduler, SystemClock, SystemIds, TenantGate, TenantValidator, timeout,
};
use futures::{
    FutureExt as _,
    future::{BoxFuture, join_all},
};
use std::{fmt, sync::Arc, time::Duration};

/// Puts a [`Platform`] together. It has no defaults for backends: the facade `overskill` fills those in.
///
/// Setters take any implementation of the seam, or an `Arc` or `Box` of one.
#[derive(Clone, Debug)]
pub struct PlatformBuilder {
    files: Option<Arc<dyn FileStore>>,
    bundles: Option<Arc<dyn BundleStore>>,
    env: Option<Arc<dyn EnvStore>>,
    routes: Option<Arc<dyn RouteTable>>,
    previews: Option<Arc<dyn PreviewHost>>,
    builder: Option<Arc<dyn Builder>>,
    strategy: Option<DeploymentStrategy>,
    deployments: Option<Arc<dyn DeploymentStore>>,
    audit: Option<Arc<dyn AuditLog>>,
    apps: Option<Arc<dyn AppDirectory>>,
    scheduler: Option<Arc<dyn Scheduler>>,
    runs: Option<Arc<dyn RunQueue>>,
    tenants: Option<Arc<dyn TenantValidator>>,
    progress: Arc<dyn ProgressSink>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    work_interval: Duration,
    build_timeout: Duration,
    bundle_age: Duration,
    run_age: Duration,
}

/// Where everything is kept that has to last. Stores that belong together give all of them at once.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each field is the seam of its name")]
pub struct Records {
    pub files: Arc<dyn FileStore>,
    pub bundles: Arc<dyn BundleStore>,
    pub env: Arc<dyn EnvStore>,
    pub routes: Arc<dyn RouteTable>,
    pub deployments: Arc<dyn DeploymentStore>,
    pub audit: Arc<dyn AuditLog>,
    pub apps: Arc<dyn AppDirectory>,
    pub scheduler: Arc<dyn Scheduler>,
    pub runs: Arc<dyn RunQueue>,
}

/// What every seam said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformReport {
    /// An entry for each seam.
    pub seams: Vec<SeamReport>,
    /// What is no problem, and should be known all the same.
    pub remarks: Vec<String>,
}

/// What one seam said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeamReport {
    /// The setter that the seam belongs to, such as `files`.
    pub seam: String,
    /// The backend that answered, if one was set.
    pub backend: Option<String>,
    /// What is missing, and what to do about it.
    pub problems: Vec<Problem>,
}

impl PlatformReport {
    /// Whether nothing is missing.
    pub fn is_ready(&self) -> bool {
        self.seams.iter().all(|seam| seam.problems.is_empty())
    }
}

/// One line for each thing that is missing.
impl fmt::Display for PlatformReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problems = self.seams.iter().flat_map(|s| s.problems.iter().map(move |p| (s, p)));
        for (n, (seam, problem)) in problems.enumerate() {
            if n > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{}", seam.seam)?;
            if let Some(backend) = &seam.backend {
                write!(f, " ({backend})")?;
            }
            write!(f, ": {}: {}", problem.what, problem.remedy)?;
        }
        Ok(())
    }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $Seam:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(mut self, $name: impl $Seam) -> Self {
            self.$name = Some(Arc::new($name));
            self
        }
    )*};
}

/// With nothing set but the machine's clock and randomness.
impl Default for PlatformBuilder {
    fn default() -> Self {
        Self {
            files: None,
            bundles: None,
            env: None,
            routes: None,
            previews: None,
            builder: None,
            strategy: None,
            deployments: None,
            audit: None,
            apps: None,
            scheduler: None,
            runs: None,
            tenants: None,
            progress: Arc::new(DiscardProgress),
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            work_interval: Duration::from_secs(5),
            build_timeout: Duration::from_mins(10),
            bundle_age: Duration::from_hours(24),
            run_age: Duration::from_hours(30 * 24),
        }
    }
}

impl PlatformBuilder {
    setters! {
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
        /// What decides whose tokens are good.
        tenants: TenantValidator;
    }

    /// Where everything is kept that has to last.
    pub fn records(mut self, records: impl Into<Records>) -> Self {
        let Records { files, bundles, env, routes, deployments, audit, apps, scheduler, runs } = records.into();
        (self.files, self.bundles, self.env) = (Some(files), Some(bundles), Some(env));
        (self.routes, self.deployments, self.audit) = (Some(routes), Some(deployments), Some(audit));
        (self.apps, self.scheduler, self.runs) = (Some(apps), Some(scheduler), Some(runs));
        self
    }

    /// Where to deploy.
    pub fn deploy_with(mut self, strategy: DeploymentStrategy) -> Self {
        self.strategy = Some(strategy);
        self
    }

    /// What keeps jobs and their runs: one backend that is both.
    pub fn jobs(mut self, jobs: impl Scheduler + RunQueue + Clone) -> Self {
        self.scheduler = Some(Arc::new(jobs.clone()));
        self.runs = Some(Arc::new(jobs));
        self
    }

    /// Where progress goes; nowhere otherwise.
    pub fn progress(mut self, sink: impl ProgressSink) -> Self {
        self.progress = Arc::new(sink);
        self
    }

    /// Where time comes from; the machine's clock otherwise.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Where randomness comes from; the operating system otherwise.
    pub fn ids(mut self, ids: impl Ids) -> Self {
        self.ids = Arc::new(ids);
        self
    }

    /// How often [`Platform::run`] looks for work; every 5 seconds otherwise.
    pub fn work_interval(mut self, interval: Duration) -> Self {
        self.work_interval = interval;
        self
    }

    /// How long artifacts are kept that nobody holds; a day otherwise. Longer than a deploy may last.
    pub fn keep_bundles(mut self, age: Duration) -> Self {
        self.bundle_age = age;
        self
    }

    /// How long a build may take; 10 minutes otherwise.
    pub fn build_timeout(mut self, limit: Duration) -> Self {
        self.build_timeout = limit;
        self
    }

    /// How long runs of jobs are remembered after they are over; 30 days otherwise.
    pub fn keep_runs(mut self, age: Duration) -> Self {
        self.run_age = age;
        self
    }

    /// Asks every seam whether it can be used, all at the same time; one that does not answer within 10 seconds cannot.
    pub async fn report(&self) -> PlatformReport {
        let clock = &*self.clock;
        let mut asked = vec![
            seam(clock, "files", self.files.as_ref().map(FileStore::check)),
            seam(clock, "bundles", self.bundles.as_ref().map(BundleStore::check)),
            seam(clock, "env", self.env.as_ref().map(EnvStore::check)),
            seam(clock, "routes", self.routes.as_ref().map(RouteTable::check)),
            seam(clock, "previews", self.previews.as_ref().map(PreviewHost::check)),
            seam(clock, "builder", self.builder.as_ref().map(Builder::check)),
            seam(clock, "deployments", self.deployments.as_ref().map(DeploymentStore::check)),
            seam(clock, "audit", self.audit.as_ref().map(AuditLog::check)),
            seam(clock, "apps", self.apps.as_ref().map(AppDirectory::check)),
            seam(clock, "jobs", self.scheduler.as_ref().map(Scheduler::check)),
            seam(clock, "jobs", self.runs.as_ref().map(RunQueue::check)),
            seam(clock, "progress", Some(self.progress.check())),
            seam(clock, "tenants", self.tenants.as_ref().map(TenantValidator::check)),
        ];
        match &self.strategy {
            None => asked.push(seam(clock, "deploy_with", None::<std::future::Ready<Result<Readiness>>>)),
            Some(strategy) => {
                for target in strategy.targets() {
                    let name = target.info().name.to_string();
                    let check = seam(clock, "deploy_with", Some(target.check()));
                    asked.push(check.map(|report| SeamReport { backend: Some(name), ..report }).boxed());
                }
                asked.extend(strategy.probes().map(|probe| seam(clock, "deploy_with", Some(probe.check()))));
                let notifier = strategy.notifier();
                asked.extend(notifier.map(|notifier| seam(clock, "deploy_with", Some(notifier.check()))));
            }
        }
        let mut seams = join_all(asked).await;
        if let Some(files) = &self.files
            && let Consistency::Eventual(staleness) = files.info().consistency
        {
            seams[0].problems.push(Problem {
                what: format!("reads may be {staleness:?} old"),
                remedy: "use a strongly consistent store as the truth; this one can be a replica".into(),
            });
        }
        if let Some(Err(e)) = self.strategy.as_ref().map(DeploymentStrategy::validate) {
            let problem = Problem { what: e.message().to_owned(), remedy: "rename one".into() };
            seams.push(SeamReport { seam: "deploy_with".into(), backend: None, problems: vec![problem] });
        }
        let remarks = self.strategy.iter().filter_map(DeploymentStrategy::dependence).collect();
        PlatformReport { seams, remarks }
    }

    /// The platform, if nothing is missing. The error is one report of all that is.
    pub async fn build(self) -> Result<Platform> {
        let report = self.report().await;
        let incomplete = || Error::invalid(format!("platform cannot start: {report}")).at("platform", "build");
        if !report.is_ready() {
            return Err(incomplete());
        }
        report.remarks.iter().for_each(|remark| tracing::warn!("{remark}"));
        let built_from = self.clone();
        let all = || {
            let (files, bundles, env) = (self.files?, self.bundles?, self.env?);
            let (routes, previews, builder) = (self.routes?, self.previews?, self.builder?);
            let (store, audit, apps) = (self.deployments?, self.audit?, self.apps?);
            let (scheduler, runs, tenants, strategy) = (self.scheduler?, self.runs?, self.tenants?, self.strategy?);
            let deployments = Deployments::new(DeploymentsParts {
                strategy,
                store: store.clone(),
                routes: routes.clone(),
                files: files.clone(),
                bundles: bundles.clone(),
                env: env.clone(),
                builder,
                progress: self.progress,
                build_timeout: self.build_timeout,
                clock: self.clock.clone(),
                ids: self.ids.clone(),
            });
            Some(Parts {
                gate: TenantGate::new(tenants, audit.clone(), self.clock.clone()),
                files,
                bundles,
                env,
                routes,
                previews,
                deployments,
                deployment_store: store,
                audit,
                apps,
                scheduler,
                runs,
                clock: self.clock,
                ids: self.ids,
                work_interval: self.work_interval,
                bundle_age: self.bundle_age,
                run_age: self.run_age,
                nudges: super::nudges::Nudges::default(),
                built_from,
                tidied: std::sync::Mutex::default(),
            })
        };
        all().map(|parts| Platform(Arc::new(parts))).ok_or_else(incomplete)
    }
}

/// How long a seam may think about how it is.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

fn seam<'a>(
    clock: &'a dyn Clock,
    name: &'a str,
    check: Option<impl Future<Output = Result<Readiness>> + Send + 'a>,
) -> BoxFuture<'a, SeamReport> {
    let ask = async move {
        let problem = |what: String, remedy: String| vec![Problem { what, remedy }];
        let (backend, problems) = match check {
            None => (None, problem("is not set".into(), format!("call `.{name}(…)`"))),
            Some(check) => match timeout(clock, CHECK_TIMEOUT, check).await {
                Ok(readiness) => (Some(readiness.backend().to_owned()), readiness.problems().to_vec()),
                Err(e) => (None, problem(e.to_string(), "see that the backend can be reached".into())),
            },
        };
        SeamReport { seam: name.to_owned(), backend, problems }
    };
    ask.boxed()
}
