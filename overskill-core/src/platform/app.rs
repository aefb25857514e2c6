use super::{AppEnv, AppJobs, AppPreview, Parts};
use crate::{
    AppFile, AppId, AppRecord, AppState, AuditEntry, AuditRecord, Changes, DeploymentEnd, DeploymentId,
    DeploymentRecord, DeploymentSource, DeploymentSummary, Digest, EnvRevision, Environment, Error, ErrorKind,
    FilePath, Grant, Limits, NewDeployment, OperatorChoice, Outcome, Page, Reconciled, Result, Right, Route, Scope,
    Snapshot, StreamPosition, Written, instruments,
};
use std::{future::Future, num::NonZeroU32, sync::Arc};
use tracing::Instrument as _;

/// An app in the hands of somebody who may work with it. Cheap to clone.
///
/// Each method names the [`Right`] it needs and checks the grant again: one that has expired allows nothing.
#[derive(Clone, Debug)]
pub struct AppHandle {
    pub(super) parts: Arc<Parts>,
    pub(super) grant: Grant,
    record: Arc<AppRecord>,
}

/// Which version to go back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// The last one that was live and is not what is live now: other code, or the same with other variables, if those of
    /// then are taken.
    LastGood,
    /// One that was live once.
    Deployment(DeploymentId),
}

/// With which variables to go back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Variables {
    /// Those it had when it was live.
    #[default]
    OfThen,
    /// The newest.
    Newest,
    /// Those of a revision.
    Revision(EnvRevision),
}

impl AppHandle {
    pub(super) fn new(parts: Arc<Parts>, grant: Grant, record: AppRecord) -> Self {
        Self { parts, grant, record: Arc::new(record) }
    }

    /// The app.
    pub fn id(&self) -> &AppId {
        &self.record.app
    }

    /// What the directory said of it when this handle was made.
    pub fn record(&self) -> &AppRecord {
        &self.record
    }

    /// All its sources, at one position. Needs `Develop`.
    pub async fn sources(&self) -> Result<Snapshot> {
        let call = async {
            let scope = self.permit(Environment::Development, Right::Develop)?;
            self.parts.files.snapshot(&scope).await
        };
        self.measured("sources", call).await
    }

    /// One of its source files. Needs `Develop`.
    pub async fn read<P>(&self, path: P) -> Result<Option<AppFile>>
    where
        P: TryInto<FilePath>,
        Error: From<P::Error>,
    {
        let call = async {
            let scope = self.permit(Environment::Development, Right::Develop)?;
            self.parts.files.get(&scope, &path.try_into()?).await
        };
        self.measured("read", call).await
    }

    /// Writes source files, all or none: durable first, then pushed to the open preview. Needs `Develop`.
    pub async fn write<P, C>(&self, files: impl IntoIterator<Item = (P, C)> + Send) -> Result<Written>
    where
        P: TryInto<FilePath>,
        Error: From<P::Error>,
        C: Into<AppFile>,
    {
        let mut changes = Changes::new();
        for (path, contents) in files {
            changes = changes.put(path.try_into()?, contents);
        }
        self.apply(&changes, None).await
    }

    /// Changes source files, all or none; with `expected`, only if they stand at that position. Needs `Develop`.
    ///
    /// A push that fails does not undo the write: [`Written::pushed`] says what became of it.
    #[tracing::instrument(name = "overskill.files.apply", skip_all, fields(app = %self.id()))]
    pub async fn apply(&self, changes: &Changes, expected: Option<StreamPosition>) -> Result<Written> {
        let scope = self.permit_change(Environment::Development, Right::Develop).await?;
        self.preview().write(&scope, changes, expected).await
    }

    /// Its live preview.
    pub fn preview(&self) -> AppPreview<'_> {
        AppPreview::new(self)
    }

    /// Its environment variables and secrets in `environment`.
    pub fn env(&self, environment: Environment) -> AppEnv<'_> {
        AppEnv::new(self, environment)
    }

    /// Its scheduled jobs in `environment`.
    pub fn jobs(&self, environment: Environment) -> AppJobs<'_> {
        AppJobs::new(self, environment)
    }

    /// Asks for a deployment of the newest sources with the current variables. Needs `Operate`.
    ///
    /// It is recorded when this returns, and goes on whether or not anybody waits for its outcome.
    pub async fn deploy(&self, environment: Environment) -> Result<Deployment> {
        let call = async {
            let scope = self.permit_change(environment, Right::Operate).await?;
            let sources = self.parts.files.snapshot(&Scope::sources(self.id().clone())).await?;
            if sources.files.is_empty() {
                return Err(Error::invalid("app must have at least one source file to be deployed, but has none")
                    .with("app", self.id()));
            }
            self.request(scope, DeploymentSource::Sources(sources.position), None).await
        };
        self.measured("deploy", call).await
    }

    /// Brings what is live in `from` to `to`, byte for byte, with the variables of `to`. Needs `Operate`.
    pub async fn promote(&self, from: Environment, to: Environment) -> Result<Deployment> {
        let call = async {
            let from = self.permit(from, Right::Operate)?;
            let scope = self.permit_change(to, Right::Operate).await?;
            let route = self.parts.routes.get(&from).await?;
            let route =
                route.ok_or_else(|| Error::not_found("nothing is live there to be promoted").with("scope", &from))?;
            let source = self.source_of(route.deployment).await?;
            self.request(scope, source, None).await
        };
        self.measured("promote", call).await
    }

    /// Goes back to a version that was live before, with the variables it had. Needs `Operate`.
    pub async fn rollback(&self, environment: Environment, to: To) -> Result<Deployment> {
        self.rollback_with(environment, to, Variables::OfThen).await
    }

    /// The same with the variables that are named. `NotFound` for a revision that does not exist. Needs `Operate`.
    ///
    /// A secret that was rotated since is a reason not to take the variables of then.
    pub async fn rollback_with(&self, environment: Environment, to: To, env: Variables) -> Result<Deployment> {
        let call = async {
            let scope = self.permit_change(environment, Right::Operate).await?;
            let of = self.rollback_target(&scope, to, env).await?;
            let env = match env {
                Variables::OfThen => self.record_of(of).await?.env(),
                Variables::Newest => None,
                Variables::Revision(revision) => {
                    self.parts.env.entries(&scope, revision).await?;
                    Some(revision)
                }
            };
            let source = self.source_of(of).await?;
            self.request(scope, source, env).await
        };
        self.measured("rollback", call).await
    }

    /// Takes up a deployment that was asked for, by whichever process: its [`outcome`](Deployment::outcome) goes on from
    /// what the stores and the targets know. `NotFound` for another app's. Needs `Operate`.
    pub async fn resume(&self, id: DeploymentId) -> Result<Deployment> {
        let call = async {
            let scope = self.record_of(id).await?.scope().clone();
            self.permit_change(scope.environment, Right::Operate).await?;
            Ok(Deployment { app: self.clone(), id, scope })
        };
        self.measured("resume", call).await
    }

    /// Answers the question of one of its deployments, which then goes on. Needs `Operate`.
    pub async fn answer(&self, id: DeploymentId, choice: OperatorChoice) -> Result<()> {
        let call = async {
            let record = self.record_of(id).await?;
            let scope = self.permit_change(record.scope().environment, Right::Operate).await?;
            self.audited(&scope, "deploy.answered", format!("{choice:?} to {id}")).await?;
            self.parts.deployments.answer(id, self.grant.actor(), choice).await?;
            self.parts.nudges.add(id);
            Ok(())
        };
        self.measured("answer", call).await
    }

    /// Whether what the targets serve is what the route names. Changes nothing. Needs `Develop`.
    pub async fn reconcile(&self, environment: Environment) -> Result<Reconciled> {
        let call = async {
            let scope = self.permit(environment, Right::Develop)?;
            self.parts.deployments.reconcile(&scope).await
        };
        self.measured("reconcile", call).await
    }

    /// Makes the target that the route names serve what the route names, where [`reconcile`](Self::reconcile) found that
    /// it does not. Needs `Operate`.
    pub async fn restore(&self, environment: Environment) -> Result<()> {
        let call = async {
            let scope = self.permit_change(environment, Right::Operate).await?;
            self.audited(&scope, "deploy.restored", "as the route says".into()).await?;
            self.parts.deployments.restore(&scope).await
        };
        self.measured("restore", call).await
    }

    /// Gives what is live in `environment` so many of a hundred visitors, and the version before the others, until the next
    /// deployment. `Unsupported` on a target that cannot. Needs `Operate`.
    pub async fn share(&self, environment: Environment, percent: u8) -> Result<()> {
        let call = async {
            let scope = self.permit_change(environment, Right::Operate).await?;
            self.audited(&scope, "deploy.shared", format!("{percent} % of the visitors")).await?;
            self.parts.deployments.share(&scope, percent).await
        };
        self.measured("share", call).await
    }

    /// What is live in `environment`, or `None`. Needs `Develop`.
    pub async fn route(&self, environment: Environment) -> Result<Option<Route>> {
        let call = async {
            let scope = self.permit(environment, Right::Develop)?;
            self.parts.routes.get(&scope).await
        };
        self.measured("route", call).await
    }

    /// Its deployments to `environment`, newest first. Needs `Develop`.
    pub async fn deployments(
        &self,
        environment: Environment,
        before: Option<DeploymentId>,
        limit: NonZeroU32,
    ) -> Result<Page<DeploymentSummary, DeploymentId>> {
        let call = async {
            let scope = self.permit(environment, Right::Develop)?;
            self.parts.deployment_store.list(&scope, before, limit).await
        };
        self.measured("deployments", call).await
    }

    /// The record of one of its deployments. `NotFound` for another app's. Needs `Develop`.
    pub async fn deployment(&self, id: DeploymentId) -> Result<DeploymentRecord> {
        let call = async {
            let record = self.record_of(id).await?;
            self.permit(record.scope().environment, Right::Develop)?;
            Ok(record)
        };
        self.measured("deployment", call).await
    }

    /// What the audit log says of the app in `environment`, oldest first. Needs `Operate`.
    pub async fn audit(
        &self,
        environment: Environment,
        after: Option<StreamPosition>,
        limit: NonZeroU32,
    ) -> Result<Page<AuditRecord, StreamPosition>> {
        let call = async {
            let scope = self.permit(environment, Right::Operate)?;
            self.parts.audit.read(Some(scope), after, limit).await
        };
        self.measured("audit", call).await
    }

    /// The scope of `environment`, if the grant allows `right` there.
    pub(super) fn permit(&self, environment: Environment, right: Right) -> Result<Scope> {
        let scope = Scope::new(self.id().clone(), environment);
        self.parts.gate.permit(&self.grant, &scope, right)?;
        Ok(scope)
    }

    /// The same for what changes something: a suspended app stays as it is.
    pub(super) async fn permit_change(&self, environment: Environment, right: Right) -> Result<Scope> {
        let scope = self.permit(environment, right)?;
        // Asked each time: a handle may be older than the suspension.
        if self.parts.apps.get(self.id()).await?.is_some_and(|record| record.state == AppState::Active) {
            return Ok(scope);
        }
        let e = Error::new(ErrorKind::Denied, "the app is suspended").public("This app is suspended.");
        Err(e.with("app", self.id()))
    }

    /// Makes a span and a measurement of a use case.
    pub(super) async fn measured<T>(&self, use_case: &'static str, call: impl Future<Output = Result<T>>) -> Result<T> {
        let span = tracing::debug_span!("overskill.apps.use_case", use_case, app = %self.id());
        let start = self.parts.clock.monotonic();
        let result = call.instrument(span).await;
        let took = self.parts.clock.monotonic().saturating_sub(start);
        let outcome = result.as_ref().map_or_else(|e| e.kind().as_str(), |_| "ok");
        metrics::histogram!(instruments::USE_CASE_SECONDS, "use_case" => use_case, "outcome" => outcome)
            .record(took.as_secs_f64());
        result
    }

    /// Writes down what is about to be done.
    pub(super) async fn audited(&self, scope: &Scope, action: &str, detail: String) -> Result<()> {
        let entry = AuditEntry::new(self.parts.clock.now(), self.grant.actor(), action);
        self.parts.audit.append(&entry.in_scope(scope.clone()).detail(detail)).await?;
        Ok(())
    }

    async fn request(&self, scope: Scope, source: DeploymentSource, env: Option<EnvRevision>) -> Result<Deployment> {
        let what = match &source {
            DeploymentSource::Sources(position) => format!("sources at {position}"),
            DeploymentSource::Artifact { digest, of } => format!("artifact {digest} of {of}"),
        };
        let what = env.map_or_else(|| what.clone(), |env| format!("{what} with the variables at {env}"));
        self.audited(&scope, "deploy.requested", what).await?;
        // As the directory has it now: this handle may be older.
        let record = self.parts.apps.get(self.id()).await?.unwrap_or_else(|| (*self.record).clone());
        let new = NewDeployment {
            actor: self.grant.actor(),
            scope: scope.clone(),
            source,
            env,
            limits: Limits::default(),
            owner: record.owner,
            strategy: record.strategy,
        };
        let id = self.parts.deployments.request(new).await?;
        Ok(Deployment { app: self.clone(), id, scope })
    }

    async fn record_of(&self, id: DeploymentId) -> Result<DeploymentRecord> {
        let record = self.parts.deployments.record(id).await?;
        record
            .filter(|r| r.scope().app == *self.id())
            .ok_or_else(|| Error::not_found("no such deployment of this app").with("deployment", id))
    }

    async fn source_of(&self, of: DeploymentId) -> Result<DeploymentSource> {
        let digest: Option<Digest> = self.record_of(of).await?.digest();
        let digest =
            digest.ok_or_else(|| Error::not_found("that deployment has no artifact").with("deployment", of))?;
        Ok(DeploymentSource::Artifact { digest, of })
    }

    async fn rollback_target(&self, scope: &Scope, to: To, env: Variables) -> Result<DeploymentId> {
        let was_live = |s: &DeploymentSummary| matches!(s.end, Some(DeploymentEnd::Active { .. }));
        match to {
            To::Deployment(id) => {
                let record = self.record_of(id).await?;
                let live = matches!(record.end(), Some(DeploymentEnd::Active { .. })) && record.scope() == scope;
                if live {
                    Ok(id)
                } else {
                    Err(Error::invalid("that deployment was never live here").with("deployment", id))
                }
            }
            To::LastGood => {
                let live = self.parts.routes.get(scope).await?.map(|route| route.deployment);
                let live = live.ok_or_else(|| Error::not_found("nothing is live here").with("scope", scope))?;
                let now = self.record_of(live).await?;
                let mut before = Some(live);
                loop {
                    let limit = NonZeroU32::new(32).expect("not zero");
                    let page = self.parts.deployment_store.list(scope, before, limit).await?;
                    for good in page.items.iter().filter(|s| was_live(s)) {
                        // What is live may have been there before, on another target.
                        let then = self.record_of(good.id).await?;
                        if then.digest() != now.digest() || env == Variables::OfThen && then.env() != now.env() {
                            return Ok(good.id);
                        }
                    }
                    before = page.next;
                    if before.is_none() {
                        return Err(Error::not_found("nothing was live here before").with("scope", scope));
                    }
                }
            }
        }
    }
}

/// A deployment that was asked for. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Deployment {
    app: AppHandle,
    id: DeploymentId,
    scope: Scope,
}

impl Deployment {
    /// Its id.
    pub fn id(&self) -> DeploymentId {
        self.id
    }

    /// Where to.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Drives it until there is something to know. It was authorised when it was asked for.
    pub async fn outcome(&self) -> Result<Outcome> {
        self.app.parts.deployments.outcome(self.id).await
    }

    /// What is known of it. Needs `Develop`.
    pub async fn record(&self) -> Result<DeploymentRecord> {
        self.app.deployment(self.id).await
    }
}
