use super::{AppHandle, Parts};
use crate::{
    AppId, ClaimRequest, Environment, Error, ErrorKind, FinishResult, FinishedRun, Grant, JobName, JobSpec, Page,
    Result, Right, RunId, RunLease, RunRecord, Scope, SystemGrant, SystemScopes, instruments,
};
use std::{num::NonZeroU32, sync::Arc, time::Duration};

/// An app's scheduled jobs in one environment.
#[derive(Debug)]
pub struct AppJobs<'a> {
    app: &'a AppHandle,
    environment: Environment,
}

impl<'a> AppJobs<'a> {
    pub(super) fn new(app: &'a AppHandle, environment: Environment) -> Self {
        Self { app, environment }
    }

    /// Adds or replaces a job. Its scope must be this one. Audited. Needs `Operate`.
    pub async fn put(&self, job: &JobSpec) -> Result<()> {
        let call = async {
            let scope = self.app.permit_change(self.environment, Right::Operate).await?;
            if job.scope != scope {
                return Err(
                    Error::invalid("job must belong to the app and environment it is put to").with("job", &job.scope)
                );
            }
            job.admit()?;
            self.app.audited(&scope, "job.put", job.name.to_string()).await?;
            self.app.parts.scheduler.put(job, self.app.parts.clock.now()).await
        };
        self.app.measured("jobs.put", call).await
    }

    /// Removes a job. Audited. Needs `Operate`.
    pub async fn remove(&self, name: &JobName) -> Result<()> {
        let call = async {
            let scope = self.app.permit_change(self.environment, Right::Operate).await?;
            self.app.audited(&scope, "job.removed", name.to_string()).await?;
            self.app.parts.scheduler.remove(&scope, name).await
        };
        self.app.measured("jobs.remove", call).await
    }

    /// Its jobs in name order. Needs `Develop`.
    pub async fn list(&self, after: Option<JobName>, limit: NonZeroU32) -> Result<Page<JobSpec, JobName>> {
        let call = async {
            let scope = self.app.permit(self.environment, Right::Develop)?;
            self.app.parts.scheduler.list(&scope, after, limit).await
        };
        self.app.measured("jobs.list", call).await
    }

    /// Runs a job now, and returns the run. Needs `Develop`.
    pub async fn trigger(&self, name: &JobName) -> Result<RunId> {
        let call = async {
            let scope = self.app.permit_change(self.environment, Right::Develop).await?;
            let now = self.app.parts.clock.now();
            let run = RunId::generate(&*self.app.parts.ids, now);
            self.app.parts.scheduler.trigger(&scope, name, run, now).await?;
            Ok(run)
        };
        self.app.measured("jobs.trigger", call).await
    }

    /// A job's newest runs, newest first. Needs `Develop`.
    pub async fn history(&self, name: &JobName, limit: NonZeroU32) -> Result<Vec<RunRecord>> {
        let call = async {
            let scope = self.app.permit(self.environment, Right::Develop)?;
            self.app.parts.runs.history(&scope, name, limit).await
        };
        self.app.measured("jobs.history", call).await
    }
}

/// The workers' side of the jobs of all apps. For the host's own code.
#[derive(Clone, Debug)]
pub struct RunWorker {
    parts: Arc<Parts>,
    grant: Grant,
}

impl RunWorker {
    /// A queue does not tell apps apart, so only a grant for all of them opens it.
    pub(super) fn new(parts: Arc<Parts>, grant: &SystemGrant) -> Result<Self> {
        if *grant.scopes() != SystemScopes::All {
            return Err(Error::new(ErrorKind::Denied, "runs of all apps need a system grant for all apps"));
        }
        let worker = Self { parts, grant: Grant::System(grant.clone()) };
        worker.permit()?;
        Ok(worker)
    }

    /// A grant for all apps is one for any: this sees that it is of this platform's gate, and still good.
    fn permit(&self) -> Result<()> {
        self.parts.gate.permit(&self.grant, &Scope::sources(AppId::derive("")), Right::Operate)
    }

    /// Claims runs that are due.
    #[tracing::instrument(name = "overskill.runs.claim", skip_all)]
    pub async fn claim(&self, request: &ClaimRequest) -> Result<Vec<RunLease>> {
        self.permit()?;
        let timer = instruments::Timer::start(&self.parts.clock, instruments::CLAIM_SECONDS);
        let claimed = self.parts.runs.claim(request).await;
        timer.stop_with(&claimed);
        claimed
    }

    /// Makes a claim last longer.
    pub async fn renew(&self, lease: &RunLease, by: Duration) -> Result<RunLease> {
        self.permit()?;
        self.parts.runs.renew(lease, by, self.parts.clock.now()).await
    }

    /// Says how runs ended.
    pub async fn finish(&self, finished: &[FinishedRun]) -> Result<Vec<FinishResult>> {
        self.permit()?;
        self.parts.runs.finish(finished, self.parts.clock.now()).await
    }
}
