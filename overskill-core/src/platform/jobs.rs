use super::{AppHandle, Parts};
use crate::{
    ClaimRequest, Environment, Error, ErrorKind, FinishResult, FinishedRun, Grant, JobName, JobSpec, Page, Result,
    Right, RunId, RunLease, RunRecord, Scope, SystemGrant, SystemScopes, instruments,
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
        let scope = self.app.permit_change(self.environment, Right::Operate)?;
        if job.scope != scope {
            return Err(
                Error::invalid("job must belong to the app and environment it is put to").with("job", &job.scope)
            );
        }
        job.admit()?;
        self.app.audited(&scope, "job.put", job.name.to_string()).await?;
        self.app.parts.scheduler.put(job, self.app.parts.clock.now()).await
    }

    /// Removes a job. Audited. Needs `Operate`.
    pub async fn remove(&self, name: &JobName) -> Result<()> {
        let scope = self.app.permit_change(self.environment, Right::Operate)?;
        self.app.audited(&scope, "job.removed", name.to_string()).await?;
        self.app.parts.scheduler.remove(&scope, name).await
    }

    /// Its jobs in name order. Needs `Develop`.
    pub async fn list(&self, after: Option<JobName>, limit: NonZeroU32) -> Result<Page<JobSpec, JobName>> {
        let scope = self.app.permit(self.environment, Right::Develop)?;
        self.app.parts.scheduler.list(&scope, after, limit).await
    }

    /// Runs a job now, and returns the run. Needs `Develop`.
    pub async fn trigger(&self, name: &JobName) -> Result<RunId> {
        let scope = self.app.permit_change(self.environment, Right::Develop)?;
        let now = self.app.parts.clock.now();
        let run = RunId::generate(&*self.app.parts.ids, now);
        self.app.parts.scheduler.trigger(&scope, name, run, now).await?;
        Ok(run)
    }

    /// A job's newest runs, newest first. Needs `Develop`.
    pub async fn history(&self, name: &JobName, limit: NonZeroU32) -> Result<Vec<RunRecord>> {
        let scope = self.app.permit(self.environment, Right::Develop)?;
        self.app.parts.runs.history(&scope, name, limit).await
    }
}

/// The workers' side of the jobs of all apps. For the host's own code.
#[derive(Clone, Debug)]
pub struct RunWorker {
    parts: Arc<Parts>,
}

impl RunWorker {
    /// A queue does not tell apps apart, so only a grant for all of them opens it.
    pub(super) fn new(parts: Arc<Parts>, grant: &SystemGrant) -> Result<Self> {
        if *grant.scopes() != SystemScopes::All {
            return Err(Error::new(ErrorKind::Denied, "runs of all apps need a system grant for all apps"));
        }
        // Any scope will do to see that the grant is this gate's.
        let any = Scope::sources(crate::AppId::derive(""));
        parts.gate.permit(&Grant::System(grant.clone()), &any, Right::Operate)?;
        Ok(Self { parts })
    }

    /// Claims runs that are due.
    #[tracing::instrument(name = "overskill.runs.claim", skip_all)]
    pub async fn claim(&self, request: &ClaimRequest) -> Result<Vec<RunLease>> {
        let timer = instruments::Timer::start(&self.parts.clock, instruments::CLAIM_SECONDS);
        let claimed = self.parts.runs.claim(request).await;
        timer.stop_with(&claimed);
        claimed
    }

    /// Makes a claim last longer.
    pub async fn renew(&self, lease: &RunLease, by: Duration) -> Result<RunLease> {
        self.parts.runs.renew(lease, by, self.parts.clock.now()).await
    }

    /// Says how runs ended.
    pub async fn finish(&self, finished: &[FinishedRun]) -> Result<Vec<FinishResult>> {
        self.parts.runs.finish(finished, self.parts.clock.now()).await
    }
}
