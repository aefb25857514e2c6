//! What the cases have in common.

use super::JobsFixture;
use crate::{Stop, Verdict, suite::ensure_eq};
use overskill_core::{
    ClaimRequest, Environment, FinishResult, FinishedRun, JobName, JobSpec, Overlap, RunId, RunLease, RunOutcome,
    RunQueue, RunRecord, Schedule, Scheduler, Scope, TimeZoneName, Timestamp, WorkerName,
};
use std::{num::NonZeroU32, sync::Arc, time::Duration};

pub(super) type F = JobsFixture;

pub(super) fn scheduler(f: &F) -> &Arc<dyn Scheduler> {
    &f.store().scheduler
}

pub(super) fn queue(f: &F) -> &Arc<dyn RunQueue> {
    &f.store().queue
}

pub(super) fn scope(f: &F) -> Scope {
    f.names().scope_in(Environment::Production)
}

pub(super) fn limit(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).expect("not zero")
}

pub(super) fn name(name: &str) -> JobName {
    JobName::parse(name).expect("a legal name")
}

/// A job that runs every minute.
pub(super) fn minutely(scope: &Scope) -> JobSpec {
    let expression = "* * * * *".parse().expect("a legal expression");
    JobSpec::new(scope.clone(), name("minutely"), Schedule::Cron { expression, zone: TimeZoneName::default() })
}

/// A job on demand whose runs may overlap.
pub(super) fn on_demand(scope: &Scope, job: &str) -> JobSpec {
    JobSpec::new(scope.clone(), name(job), Schedule::OnDemand).overlap(Overlap::Allow)
}

/// How long a claim of a case lasts.
pub(super) const LEASE: Duration = Duration::from_mins(1);

pub(super) fn request(runs: u32, now: Timestamp) -> ClaimRequest {
    ClaimRequest::new(WorkerName::parse("worker-1").expect("a legal name"), limit(runs), now).lease(LEASE)
}

pub(super) async fn claim(f: &F, runs: u32, now: Timestamp) -> Result<Vec<RunLease>, Stop> {
    Ok(queue(f).claim(&request(runs, now)).await?)
}

/// Breaks the rule unless exactly one run is claimed.
pub(super) async fn claim_one(f: &F, now: Timestamp, when: &str) -> Result<RunLease, Stop> {
    let mut claimed = claim(f, 10, now).await?;
    ensure_eq!(claimed.len(), 1, "how many runs are claimed {when}");
    Ok(claimed.remove(0))
}

/// Breaks the rule if anything is claimed.
pub(super) async fn claim_none(f: &F, now: Timestamp, when: &str) -> Verdict {
    ensure_eq!(claim(f, 10, now).await?, vec![], "what is claimed {when}");
    Ok(())
}

/// Triggers a job once and gives the run.
pub(super) async fn trigger(f: &F, job: &JobSpec, now: Timestamp) -> Result<RunId, Stop> {
    let run = RunId::generate(f.names().ids(), now);
    scheduler(f).trigger(&job.scope, &job.name, run, now).await?;
    Ok(run)
}

/// Puts a job on demand and triggers it so often, in one app.
pub(super) async fn wait_in(f: &F, scope: &Scope, runs: usize, now: Timestamp) -> Result<Vec<RunId>, Stop> {
    let job = on_demand(scope, "busy");
    scheduler(f).put(&job, now).await?;
    let mut waiting = Vec::new();
    for _ in 0..runs {
        waiting.push(trigger(f, &job, now).await?);
    }
    Ok(waiting)
}

pub(super) fn ended(lease: &RunLease, outcome: RunOutcome) -> FinishedRun {
    FinishedRun { run: lease.run, fence: lease.fence, outcome }
}

pub(super) fn failed(reason: &str, retry_after_ms: Option<u64>) -> RunOutcome {
    RunOutcome::Failed { reason: reason.into(), retry_after_ms }
}

/// Ends one try and gives the answer.
pub(super) async fn finish(f: &F, lease: &RunLease, outcome: RunOutcome, now: Timestamp) -> Result<FinishResult, Stop> {
    let mut results = queue(f).finish(&[ended(lease, outcome)], now).await?;
    ensure_eq!(results.len(), 1, "how many answers there are for one run");
    Ok(results.remove(0))
}

/// Ends one try well; breaks the rule unless that is taken.
pub(super) async fn done(f: &F, lease: &RunLease, now: Timestamp) -> Verdict {
    ensure_eq!(finish(f, lease, RunOutcome::Done, now).await?, FinishResult::Taken, "the answer to a run that is done");
    Ok(())
}

pub(super) async fn history(f: &F, scope: &Scope, job: &JobName) -> Result<Vec<RunRecord>, Stop> {
    Ok(queue(f).history(scope, job, limit(100)).await?)
}
