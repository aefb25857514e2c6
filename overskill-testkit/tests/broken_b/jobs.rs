use super::breaks;
use async_trait::async_trait;
use overskill_core::{
    ClaimRequest, FinishResult, FinishedRun, JobName, JobSpec, Page, Readiness, Result, RunId, RunLease, RunOutcome,
    RunQueue, RunRecord, Scheduler, SchedulerInfo, Scope, SystemIds, Timestamp, memory::MemoryJobs,
};
use overskill_testkit::{Jobs, JobsFixture, suites::jobs::V1};
use std::{
    collections::VecDeque,
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    TakesAStaleEnd,
    IsUnfair,
    RunsATickTwice,
    LeasesTwice,
    RetriesAtOnce,
    KeepsWhatWasRemoved,
    CountsTriggersTwice,
    DropsPayloads,
    ListsBackwards,
    TriggersAnything,
    IsEarly,
    RunsUnasked,
    ForgetsAtRestart,
    IsNotReady,
    QueueIsNotReady,
    ForgetsRunsOfRemovedJobs,
}

const FLAWS: [Flaw; 16] = [
    Flaw::TakesAStaleEnd,
    Flaw::IsUnfair,
    Flaw::RunsATickTwice,
    Flaw::LeasesTwice,
    Flaw::RetriesAtOnce,
    Flaw::KeepsWhatWasRemoved,
    Flaw::CountsTriggersTwice,
    Flaw::DropsPayloads,
    Flaw::ListsBackwards,
    Flaw::TriggersAnything,
    Flaw::IsEarly,
    Flaw::RunsUnasked,
    Flaw::ForgetsAtRestart,
    Flaw::IsNotReady,
    Flaw::QueueIsNotReady,
    Flaw::ForgetsRunsOfRemovedJobs,
];

#[derive(Debug)]
struct Broken {
    jobs: MemoryJobs,
    flaw: Flaw,
    held: Mutex<VecDeque<RunLease>>,
    removed: Mutex<Vec<(Scope, JobName)>>,
}

fn fixture(flaw: Flaw) -> JobsFixture {
    let open = move |jobs| {
        let (held, removed) = (Mutex::default(), Mutex::default());
        Arc::new(Jobs::new(Arc::new(Broken { jobs, flaw, held, removed })))
    };
    let jobs = MemoryJobs::new();
    let again = jobs.clone();
    JobsFixture::new(open(jobs)).reopen(move || {
        let again = open(if flaw == Flaw::ForgetsAtRestart { MemoryJobs::new() } else { again.clone() });
        async { again }
    })
}

async fn broken(flaw: Flaw, cases: &[&str]) {
    breaks(&V1, cases, async || fixture(flaw)).await;
}

#[async_trait]
impl Scheduler for Broken {
    fn info(&self) -> SchedulerInfo {
        self.jobs.info()
    }
    async fn check(&self) -> Result<Readiness> {
        let readiness = Scheduler::check(&self.jobs).await?;
        Ok(if self.flaw == Flaw::IsNotReady { readiness.lacks("a disk", "buy one") } else { readiness })
    }
    async fn put(&self, job: &JobSpec, now: Timestamp) -> Result<()> {
        let mut job = job.clone();
        if self.flaw == Flaw::DropsPayloads {
            job.payload = Vec::new().into();
        }
        self.jobs.put(&job, now).await?;
        if self.flaw == Flaw::RunsUnasked {
            self.jobs.trigger(&job.scope, &job.name, RunId::generate(&SystemIds, now), now).await?;
        }
        Ok(())
    }
    async fn remove(&self, scope: &Scope, name: &JobName) -> Result<()> {
        if self.flaw == Flaw::KeepsWhatWasRemoved {
            return Ok(());
        }
        self.removed.lock().unwrap().push((scope.clone(), name.clone()));
        self.jobs.remove(scope, name).await
    }
    async fn list(&self, scope: &Scope, after: Option<JobName>, limit: NonZeroU32) -> Result<Page<JobSpec, JobName>> {
        let mut page = self.jobs.list(scope, after, limit).await?;
        if self.flaw == Flaw::ListsBackwards {
            page.items.reverse();
        }
        Ok(page)
    }
    async fn trigger(&self, scope: &Scope, name: &JobName, run: RunId, now: Timestamp) -> Result<()> {
        let again = RunId::generate(&SystemIds, now);
        let run = if self.flaw == Flaw::CountsTriggersTwice { again } else { run };
        let triggered = self.jobs.trigger(scope, name, run, now).await;
        if self.flaw == Flaw::TriggersAnything { Ok(()) } else { triggered }
    }
}

#[async_trait]
impl RunQueue for Broken {
    async fn check(&self) -> Result<Readiness> {
        let readiness = Scheduler::check(self).await?;
        Ok(if self.flaw == Flaw::QueueIsNotReady { readiness.lacks("a worker", "start one") } else { readiness })
    }

    async fn claim(&self, request: &ClaimRequest) -> Result<Vec<RunLease>> {
        if self.flaw == Flaw::IsUnfair {
            // First come, first served: all that is due is lined up by age.
            let all = ClaimRequest { max_runs: NonZeroU32::MAX, ..request.clone() };
            let claimed = self.jobs.claim(&all).await?;
            let mut held = self.held.lock().unwrap();
            held.extend(claimed);
            held.make_contiguous().sort_by_key(|l| l.due_at);
            let n = held.len().min(request.max_runs.get() as usize);
            return Ok(held.drain(..n).collect());
        }
        let early = if self.flaw == Flaw::IsEarly { Duration::from_secs(50) } else { Duration::ZERO };
        let request = &ClaimRequest { now: request.now.plus(early), ..request.clone() };
        let mut claimed = self.jobs.claim(request).await?;
        match self.flaw {
            Flaw::RunsATickTwice => {
                let ticks = claimed.iter().filter(|l| l.job.as_str() == "minutely");
                let again = |l: &RunLease| RunLease { run: RunId::generate(&SystemIds, request.now), ..l.clone() };
                let twice: Vec<_> = ticks.map(again).collect();
                claimed.extend(twice);
            }
            Flaw::LeasesTwice => {
                let mut held = self.held.lock().unwrap();
                let fresh = claimed.clone();
                claimed.extend(held.drain(..));
                held.extend(fresh);
            }
            _ => {}
        }
        Ok(claimed)
    }

    async fn renew(&self, lease: &RunLease, by: Duration, now: Timestamp) -> Result<RunLease> {
        let removed = self.removed.lock().unwrap().contains(&(lease.scope.clone(), lease.job.clone()));
        if self.flaw == Flaw::ForgetsRunsOfRemovedJobs && removed {
            return Err(overskill_core::Error::conflict("there is no such run"));
        }
        self.jobs.renew(lease, by, now).await
    }

    async fn finish(&self, finished: &[FinishedRun], now: Timestamp) -> Result<Vec<FinishResult>> {
        let mut finished = finished.to_vec();
        if self.flaw == Flaw::RetriesAtOnce {
            for end in &mut finished {
                if let RunOutcome::Failed { retry_after_ms, .. } = &mut end.outcome {
                    *retry_after_ms = Some(0);
                }
            }
        }
        let mut results = self.jobs.finish(&finished, now).await?;
        if self.flaw == Flaw::TakesAStaleEnd {
            results.fill(FinishResult::Taken);
        }
        Ok(results)
    }

    async fn history(&self, scope: &Scope, name: &JobName, limit: NonZeroU32) -> Result<Vec<RunRecord>> {
        self.jobs.history(scope, name, limit).await
    }

    async fn prune(&self, before: Timestamp) -> Result<u64> {
        self.jobs.prune(before).await
    }
}

#[tokio::test]
async fn a_queue_that_takes_a_stale_end() {
    broken(Flaw::TakesAStaleEnd, &["a_stale_end_changes_nothing", "ends_are_answered_in_order"]).await;
}

#[tokio::test]
async fn a_queue_that_is_unfair() {
    broken(Flaw::IsUnfair, &["an_app_does_not_wait_behind_another", "apps_take_turns"]).await;
}

#[tokio::test]
async fn a_queue_that_runs_a_tick_twice() {
    broken(Flaw::RunsATickTwice, &["every_tick_makes_one_run", "every_node_together_makes_one_run"]).await;
}

#[tokio::test]
async fn a_queue_that_gives_a_run_twice() {
    broken(Flaw::LeasesTwice, &["a_claimed_run_is_nobody_elses", "no_run_is_in_two_leases"]).await;
}

#[tokio::test]
async fn a_queue_that_tries_again_at_once() {
    broken(Flaw::RetriesAtOnce, &["a_wait_that_was_asked_for_is_kept"]).await;
}

#[tokio::test]
async fn a_scheduler_that_keeps_what_was_removed() {
    broken(Flaw::KeepsWhatWasRemoved, &["a_removed_job_is_gone"]).await;
}

#[tokio::test]
async fn a_scheduler_that_counts_a_trigger_twice() {
    broken(Flaw::CountsTriggersTwice, &["the_same_run_twice_is_one_run"]).await;
}

#[tokio::test]
async fn a_scheduler_that_drops_payloads() {
    broken(Flaw::DropsPayloads, &["jobs_come_back_as_they_were", "a_job_is_replaced", "payloads_have_a_limit"]).await;
}

#[tokio::test]
async fn a_scheduler_that_lists_backwards() {
    broken(Flaw::ListsBackwards, &["jobs_are_listed_by_name"]).await;
}

#[tokio::test]
async fn a_scheduler_that_triggers_anything() {
    broken(Flaw::TriggersAnything, &["triggering_no_job_is_not_found"]).await;
}

#[tokio::test]
async fn a_queue_that_is_early() {
    broken(Flaw::IsEarly, &["what_is_not_due_waits", "a_new_job_has_missed_nothing"]).await;
}

#[tokio::test]
async fn a_scheduler_that_runs_unasked() {
    broken(Flaw::RunsUnasked, &["a_job_on_demand_waits_for_a_trigger"]).await;
}

#[tokio::test]
async fn a_scheduler_that_forgets_when_it_restarts() {
    broken(Flaw::ForgetsAtRestart, &["jobs_survive_a_restart"]).await;
}

#[tokio::test]
async fn a_scheduler_that_forgets_claimed_runs_of_a_removed_job() {
    broken(Flaw::ForgetsRunsOfRemovedJobs, &["a_claimed_run_outlives_its_job"]).await;
}

#[tokio::test]
async fn a_queue_that_is_not_ready() {
    broken(Flaw::QueueIsNotReady, &["it_is_ready"]).await;
}

#[tokio::test]
async fn a_scheduler_that_is_not_ready() {
    broken(Flaw::IsNotReady, &["it_is_ready"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_case_passes_whatever_it_is_given() {
    super::every_case_fails_once(&V1, &FLAWS, fixture).await;
}
