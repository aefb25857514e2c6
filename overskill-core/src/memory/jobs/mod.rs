mod queue;
mod ticks;

use super::{NAME, Shared};
use crate::{
    ClaimRequest, Delivery, FinishResult, FinishedRun, Ids, JobName, JobSpec, Page, Readiness, Result, RunId, RunLease,
    RunQueue, RunRecord, Scheduler, SchedulerInfo, Scope, SystemIds, Timestamp,
};
use async_trait::async_trait;
use queue::Queue;
use std::{num::NonZeroU32, sync::Arc, time::Duration};

/// Jobs and their runs in memory: a [`Scheduler`] and its [`RunQueue`]. Clones share them.
///
/// - Runs that are due come in the order of apps' turns, and within an app by when they became due. Each claimed run costs
///   its app one turn; an app that had nothing waiting joins at the turn the others have reached.
/// - A tick is made up for by the first claim after it. Payload, tries and backoff of a run are the job's own at that time.
/// - A claim that expired is still its worker's to renew and to finish, until somebody else claims the run. After the last
///   try it is dead instead.
/// - [`Overlap::Skip`](crate::Overlap::Skip) holds for runs that were triggered as well.
#[derive(Clone, Debug)]
pub struct MemoryJobs {
    ids: Arc<dyn Ids>,
    queue: Shared<Queue>,
}

impl MemoryJobs {
    /// No jobs yet.
    pub fn new() -> Self {
        Self::with(Arc::new(SystemIds))
    }

    /// No jobs yet; ids of runs and jitter come from `ids`.
    pub fn with(ids: Arc<dyn Ids>) -> Self {
        Self { ids, queue: Shared::default() }
    }
}

impl Default for MemoryJobs {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Scheduler for MemoryJobs {
    fn info(&self) -> SchedulerInfo {
        SchedulerInfo::new(NAME, Delivery::Pull)
    }

    async fn check(&self) -> Result<Readiness> {
        Ok(Readiness::ready(NAME))
    }

    async fn put(&self, job: &JobSpec, now: Timestamp) -> Result<()> {
        job.admit()?;
        self.queue.lock().put(job, now);
        Ok(())
    }

    async fn remove(&self, scope: &Scope, name: &JobName) -> Result<()> {
        self.queue.lock().remove(&(scope.clone(), name.clone()));
        Ok(())
    }

    async fn list(&self, scope: &Scope, after: Option<JobName>, limit: NonZeroU32) -> Result<Page<JobSpec, JobName>> {
        let limit = limit.get() as usize;
        let items = self.queue.lock().list(scope, after, limit.saturating_add(1));
        Ok(Page::cut(items, limit, |job: &JobSpec| job.name.clone()))
    }

    async fn trigger(&self, scope: &Scope, name: &JobName, run: RunId, now: Timestamp) -> Result<()> {
        let refused = |e: crate::Error| e.at(NAME, "trigger").with("scope", scope).with("job", name);
        self.queue.lock().trigger((scope.clone(), name.clone()), run, now).map_err(refused)
    }
}

#[async_trait]
impl RunQueue for MemoryJobs {
    async fn check(&self) -> Result<Readiness> {
        Scheduler::check(self).await
    }

    async fn claim(&self, request: &ClaimRequest) -> Result<Vec<RunLease>> {
        Ok(self.queue.lock().claim(request, &*self.ids))
    }

    async fn renew(&self, lease: &RunLease, by: Duration, now: Timestamp) -> Result<RunLease> {
        let refused = |e: crate::Error| e.at(NAME, "renew").with("run", lease.run).with("fence", lease.fence);
        self.queue.lock().renew(lease, now.plus(by)).map_err(refused)
    }

    async fn finish(&self, finished: &[FinishedRun], now: Timestamp) -> Result<Vec<FinishResult>> {
        let mut queue = self.queue.lock();
        Ok(finished.iter().map(|run| queue.finish(run, now, &*self.ids)).collect())
    }

    async fn history(&self, scope: &Scope, name: &JobName, limit: NonZeroU32) -> Result<Vec<RunRecord>> {
        Ok(self.queue.lock().history(&(scope.clone(), name.clone()), limit.get() as usize))
    }

    async fn prune(&self, before: Timestamp) -> Result<u64> {
        Ok(self.queue.lock().prune(before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FinishedRun, Overlap, RunBackoff, RunOutcome, RunState, Schedule, SeededIds, WorkerName};

    const MINUTE: Duration = Duration::from_mins(1);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix_millis(1_767_225_600_000).plus(Duration::from_secs(seconds))
    }

    fn jobs() -> MemoryJobs {
        MemoryJobs::with(Arc::new(SeededIds::new(1)))
    }

    fn scope(app: &str) -> Scope {
        Scope::new(app.try_into().unwrap(), crate::Environment::Production)
    }

    fn name() -> JobName {
        JobName::parse("job").unwrap()
    }

    fn job(app: &str, schedule: Schedule) -> JobSpec {
        JobSpec::new(scope(app), name(), schedule)
    }

    fn minutely() -> Schedule {
        Schedule::Cron { expression: "* * * * *".parse().unwrap(), zone: "UTC".parse().unwrap() }
    }

    fn request(max: u32, now: Timestamp) -> ClaimRequest {
        ClaimRequest::new(WorkerName::parse("w").unwrap(), NonZeroU32::new(max).unwrap(), now)
    }

    async fn claim(jobs: &MemoryJobs, max: u32, now: Timestamp) -> Vec<RunLease> {
        jobs.claim(&request(max, now)).await.unwrap()
    }

    async fn trigger(jobs: &MemoryJobs, app: &str, n: u128, now: Timestamp) {
        let run = RunId::from_uuid(uuid::Uuid::from_u128(n));
        jobs.trigger(&scope(app), &name(), run, now).await.unwrap();
    }

    async fn finish(jobs: &MemoryJobs, lease: &RunLease, outcome: RunOutcome, now: Timestamp) -> FinishResult {
        let finished = FinishedRun { run: lease.run, fence: lease.fence, outcome };
        jobs.finish(&[finished], now).await.unwrap()[0]
    }

    fn failed() -> RunOutcome {
        RunOutcome::Failed { reason: "boom".into(), retry_after_ms: None }
    }

    #[tokio::test]
    async fn apps_take_turns_and_nobody_saves_turns_up() {
        let jobs = jobs();
        for app in ["busy", "late"] {
            jobs.put(&job(app, Schedule::OnDemand).overlap(Overlap::Allow), at(0)).await.unwrap();
        }
        for n in 0..20 {
            trigger(&jobs, "busy", n, at(0)).await;
        }
        assert_eq!(claim(&jobs, 10, at(1)).await.len(), 10);
        // Ten turns later the other app joins: its first run is among the next two, but it does not get ten at once.
        for n in 20..30 {
            trigger(&jobs, "late", n, at(2)).await;
        }
        let next: Vec<_> = claim(&jobs, 6, at(3)).await.iter().map(|l| l.scope.app.to_string()).collect();
        assert_eq!(next.iter().filter(|app| *app == "late").count(), 3, "{next:?}");
        assert!(next[..2].contains(&"late".to_owned()), "{next:?}");
    }

    #[tokio::test]
    async fn an_app_at_its_limit_steps_aside() {
        let jobs = jobs();
        for app in ["a1", "b1"] {
            jobs.put(&job(app, Schedule::OnDemand).overlap(Overlap::Allow), at(0)).await.unwrap();
        }
        for n in 0..5 {
            trigger(&jobs, "a1", n, at(0)).await;
        }
        trigger(&jobs, "b1", 9, at(0)).await;
        let two = |now| request(10, now).max_running_per_app(NonZeroU32::new(2).unwrap());
        let first = jobs.claim(&two(at(1))).await.unwrap();
        assert_eq!(first.iter().filter(|l| l.scope.app.as_str() == "a1").count(), 2);
        assert_eq!(first.len(), 3);
        assert_eq!(jobs.claim(&two(at(2))).await.unwrap(), []);
        finish(&jobs, &first[0], RunOutcome::Done, at(3)).await;
        assert_eq!(jobs.claim(&two(at(3))).await.unwrap().len(), usize::from(first[0].scope.app.as_str() == "a1"));
    }

    #[tokio::test]
    async fn after_an_outage_only_the_newest_tick_is_made_up_for() {
        let jobs = jobs();
        jobs.put(&job("a1", minutely()), at(0)).await.unwrap();
        let runs = claim(&jobs, 10, at(3_600 * 24 * 400 + 30)).await;
        assert_eq!(runs.iter().map(|r| r.due_at).collect::<Vec<_>>(), [at(3_600 * 24 * 400)]);
        assert_eq!(claim(&jobs, 10, at(3_600 * 24 * 400 + 59)).await, []);
    }

    #[tokio::test]
    async fn a_run_that_overlaps_is_left_out_and_the_history_says_so() {
        let jobs = jobs();
        jobs.put(&job("a1", minutely()), at(0)).await.unwrap();
        let first = jobs.claim(&request(10, at(60)).lease(10 * MINUTE)).await.unwrap().remove(0);
        assert_eq!(claim(&jobs, 10, at(120)).await, []);
        let limit = NonZeroU32::new(10).unwrap();
        let states = async || {
            let history = jobs.history(&scope("a1"), &name(), limit).await.unwrap();
            history.iter().map(|r| (r.due_at, r.state)).collect::<Vec<_>>()
        };
        assert_eq!(states().await, [(at(120), RunState::Skipped), (at(60), RunState::Running)]);
        finish(&jobs, &first, RunOutcome::Done, at(121)).await;
        assert_eq!(claim(&jobs, 10, at(180)).await.len(), 1);
        assert_eq!(jobs.prune(at(121)).await.unwrap(), 1, "the one that was left out at 120");
        assert_eq!(states().await, [(at(180), RunState::Running), (at(60), RunState::Done)]);
    }

    #[tokio::test]
    async fn an_expired_claim_is_its_workers_until_somebody_else_has_it() {
        let jobs = jobs();
        jobs.put(&job("a1", Schedule::OnDemand).max_attempts(NonZeroU32::new(3).unwrap()), at(0)).await.unwrap();
        trigger(&jobs, "a1", 1, at(0)).await;
        let first = claim(&jobs, 1, at(0)).await.remove(0);
        // A claim of another app's worker finds it expired, but does not take it.
        let none = request(1, at(61)).max_running_per_app(NonZeroU32::new(1).unwrap());
        let second = jobs.renew(&first, MINUTE, at(60)).await.unwrap();
        assert_eq!(second.expires_at, at(120));
        assert_eq!(jobs.claim(&none).await.unwrap(), []);
        let taken = claim(&jobs, 1, at(120)).await.remove(0);
        assert_eq!(taken.attempt.get(), 2);
        assert!(taken.fence > first.fence);
        assert_eq!(finish(&jobs, &first, RunOutcome::Done, at(121)).await, FinishResult::Stale);
        assert_eq!(jobs.renew(&first, MINUTE, at(121)).await.unwrap_err().kind(), crate::ErrorKind::Conflict);
        // The last try expires: it is dead, and nobody's.
        let last = claim(&jobs, 1, at(200)).await.remove(0);
        assert_eq!(claim(&jobs, 1, at(300)).await, []);
        assert_eq!(finish(&jobs, &last, RunOutcome::Done, at(301)).await, FinishResult::Stale);
        let history = jobs.history(&scope("a1"), &name(), NonZeroU32::MIN).await.unwrap();
        assert_eq!((history[0].state, history[0].attempts), (RunState::Dead, 3));
    }

    #[tokio::test]
    async fn an_expired_claim_that_nobody_took_can_still_be_finished() {
        let jobs = jobs();
        for app in ["a1", "b1"] {
            jobs.put(&job(app, Schedule::OnDemand), at(0)).await.unwrap();
        }
        trigger(&jobs, "a1", 1, at(0)).await;
        trigger(&jobs, "b1", 2, at(0)).await;
        let both = claim(&jobs, 2, at(0)).await;
        // Both expired; one is claimed again, the other waits.
        let again = claim(&jobs, 1, at(100)).await;
        let (taken, waiting): (Vec<_>, Vec<_>) = both.iter().partition(|l| l.run == again[0].run);
        assert_eq!(finish(&jobs, taken[0], RunOutcome::Done, at(101)).await, FinishResult::Stale);
        let renewed = jobs.renew(waiting[0], MINUTE, at(101)).await.unwrap();
        assert_eq!(claim(&jobs, 2, at(102)).await, []);
        assert_eq!(finish(&jobs, &renewed, RunOutcome::Done, at(103)).await, FinishResult::Taken);
        assert_eq!(finish(&jobs, &renewed, RunOutcome::Done, at(103)).await, FinishResult::Stale);
    }

    #[tokio::test]
    async fn waits_are_jittered_below_a_bound_that_doubles() {
        let jobs = jobs();
        let backoff = RunBackoff { first_ms: 1_000, max_ms: 3_000 };
        let spec = job("a1", Schedule::OnDemand).backoff(backoff).overlap(Overlap::Allow);
        jobs.put(&spec.max_attempts(NonZeroU32::new(4).unwrap()), at(0)).await.unwrap();
        for n in 0..100 {
            trigger(&jobs, "a1", n, at(0)).await;
        }
        for (attempt, bound) in [(1, 1), (2, 2), (3, 3)] {
            let now = at(attempt * 100);
            let claimed = claim(&jobs, 1_000, now).await;
            assert_eq!(claimed.len(), 100);
            for lease in &claimed {
                assert_eq!(finish(&jobs, lease, failed(), now).await, FinishResult::Taken);
            }
            let ready_by = |then| jobs.queue.lock().waiting().filter(|ready_at| *ready_at <= then).count();
            let half = now.plus(Duration::from_millis(bound * 500));
            let early = ready_by(half);
            assert!((20..80).contains(&early), "{early} of 100 within half the bound");
            assert_eq!(ready_by(now.plus(Duration::from_secs(bound))), 100);
        }
        for lease in claim(&jobs, 1_000, at(500)).await {
            finish(&jobs, &lease, failed(), at(500)).await;
        }
        assert_eq!(claim(&jobs, 1_000, at(100_000)).await, []);
        let history = jobs.history(&scope("a1"), &name(), NonZeroU32::MIN).await.unwrap();
        assert_eq!((history[0].state, history[0].failure.as_deref()), (RunState::Dead, Some("boom")));
    }

    #[tokio::test]
    async fn a_removed_job_is_not_tried_again() {
        let jobs = jobs();
        jobs.put(&job("a1", Schedule::OnDemand).overlap(Overlap::Allow), at(0)).await.unwrap();
        trigger(&jobs, "a1", 1, at(0)).await;
        trigger(&jobs, "a1", 2, at(0)).await;
        let lease = claim(&jobs, 1, at(0)).await.remove(0);
        jobs.remove(&scope("a1"), &name()).await.unwrap();
        assert_eq!(claim(&jobs, 10, at(1)).await, []);
        assert_eq!(finish(&jobs, &lease, failed(), at(2)).await, FinishResult::Taken);
        assert_eq!(claim(&jobs, 10, at(100_000)).await, []);
        let history = jobs.history(&scope("a1"), &name(), NonZeroU32::MAX).await.unwrap();
        assert_eq!(history.iter().map(|r| r.state).collect::<Vec<_>>(), [RunState::Dead]);
    }
}
