//! Cases of jobs, and of the runs that their schedules make.

use super::shared::{
    F, claim, claim_none, claim_one, done, history, limit, minutely, name, on_demand, queue, scheduler, scope, trigger,
};
use crate::{
    Verdict, race,
    suite::{ensure, ensure_eq, ensure_err},
    suites::base::{base, secs},
};
use bytes::Bytes;
use overskill_core::{
    Around, ClaimRequest, JobSpec, Overlap, RunBackoff, RunId, RunOutcome, RunQueue, RunState, Schedule, Scheduler,
    Scope, Timestamp, WorkerName,
};
use std::sync::Arc;

/// The jobs of a scope, in one page.
async fn listed(f: &F, scope: &Scope) -> Result<Vec<JobSpec>, crate::Stop> {
    Ok(scheduler(f).list(scope, None, limit(1_000)).await?.items)
}

pub(super) async fn jobs_come_back_as_they_were(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    let expression = "30 2 * * MON-FRI".parse()?;
    let cron = Schedule::Cron { expression, zone: "Europe/Berlin".parse()? };
    let all = [
        JobSpec::new(scope.clone(), name("a.full_job-1"), cron)
            .payload(Bytes::from((0..=255).collect::<Vec<u8>>()))
            .max_attempts(limit(9))
            .backoff(RunBackoff { first_ms: 1, max_ms: 86_400_000 })
            .overlap(Overlap::Allow)
            .paused(true),
        JobSpec::new(scope.clone(), name("b"), Schedule::At(now.plus(secs(77)))),
        JobSpec::new(scope.clone(), name("c"), Schedule::OnDemand),
        minutely(&scope),
    ];
    for job in &all {
        scheduler(f).put(job, now).await?;
    }
    ensure_eq!(listed(f, &scope).await?, all, "the jobs");
    Ok(())
}

pub(super) async fn jobs_are_listed_by_name(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    let mut names = ["b", "a.1", "a-1", "a", "10", "9", "c_x"].map(name);
    for name in &names {
        scheduler(f).put(&on_demand(&scope, name.as_str()), now).await?;
    }
    names.sort();
    for page in [1, 2, 3, 7, 50] {
        let (mut got, mut after) = (Vec::new(), None);
        for _ in 0..=names.len() {
            let listed = scheduler(f).list(&scope, after, limit(page)).await?;
            ensure!(listed.items.len() <= page as usize, "a page of {page} has {} entries", listed.items.len());
            got.extend(listed.items.into_iter().map(|job| job.name));
            after = listed.next;
            if after.is_none() {
                break;
            }
        }
        ensure_eq!(got, names, "jobs in pages of {page}");
    }
    Ok(())
}

pub(super) async fn a_job_is_replaced(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    scheduler(f).put(&on_demand(&scope, "job").payload("old"), now).await?;
    let new = on_demand(&scope, "job").payload("new").max_attempts(limit(2)).overlap(Overlap::Allow);
    scheduler(f).put(&new, now).await?;
    ensure_eq!(listed(f, &scope).await?, vec![new.clone()], "the jobs after one was put again");
    trigger(f, &new, now).await?;
    let lease = claim_one(f, now, "after the trigger").await?;
    ensure_eq!(lease.payload, new.payload, "the payload after the job was put again");
    let newest = on_demand(&scope, "job").payload("newest");
    trigger(f, &newest, now).await?;
    scheduler(f).put(&newest, now).await?;
    let lease = claim_one(f, now, "after the job was put while a run waited").await?;
    ensure_eq!(lease.payload, newest.payload, "the payload of a run that waited while the job was put again");
    Ok(())
}

pub(super) async fn a_removed_job_is_gone(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    let (job, kept) = (minutely(&scope), on_demand(&scope, "kept"));
    scheduler(f).put(&job, now).await?;
    scheduler(f).put(&kept, now).await?;
    trigger(f, &job, now).await?;
    for _ in 0..2 {
        scheduler(f).remove(&scope, &job.name).await?;
    }
    ensure_eq!(listed(f, &scope).await?, vec![kept], "the jobs after one was removed");
    claim_none(f, now.plus(secs(600)), "after the job was removed with a waiting run").await?;
    let run = RunId::generate(f.names().ids(), now);
    let triggered = scheduler(f).trigger(&scope, &job.name, run, now).await;
    ensure_err!(triggered, NotFound, "a trigger of a removed job");
    Ok(())
}

pub(super) async fn a_claimed_run_outlives_its_job(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    let job = on_demand(&scope, "job");
    scheduler(f).put(&job, now).await?;
    trigger(f, &job, now).await?;
    let lease = claim_one(f, now, "at first").await?;
    scheduler(f).remove(&scope, &job.name).await?;
    let lease = queue(f).renew(&lease, secs(600), now.plus(secs(50))).await?;
    claim_none(f, now.plus(secs(61)), "while a run of a removed job is claimed").await?;
    done(f, &lease, now.plus(secs(62))).await?;
    claim_none(f, now.plus(secs(86_400)), "a day after the run of a removed job is done").await
}

pub(super) async fn payloads_have_a_limit(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    let largest = crate::fixtures::noise(JobSpec::MAX_PAYLOAD_BYTES, f.names().seed());
    let job = on_demand(&scope, "largest").payload(largest.clone());
    scheduler(f).put(&job, now).await?;
    trigger(f, &job, now).await?;
    let lease = claim_one(f, now, "after the trigger").await?;
    ensure!(lease.payload == largest, "the largest payload did not come back as it was");
    let over = on_demand(&scope, "over").payload(vec![0; JobSpec::MAX_PAYLOAD_BYTES + 1]);
    ensure_err!(scheduler(f).put(&over, now).await, LimitExceeded, "a payload of a byte more than the limit");
    ensure_eq!(listed(f, &scope).await?, vec![job], "the jobs after the refused one");
    Ok(())
}

pub(super) async fn a_trigger_makes_a_run(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    let job = on_demand(&scope, "job").payload(vec![0, 255, 10, 39]);
    scheduler(f).put(&job, now).await?;
    let run = trigger(f, &job, now.plus(secs(5))).await?;
    let lease = claim_one(f, now.plus(secs(7)), "after the trigger").await?;
    ensure_eq!((lease.run, &lease.scope, &lease.job), (run, &scope, &job.name), "the run, its scope and its job");
    ensure_eq!(lease.payload, job.payload, "the payload");
    ensure_eq!((lease.due_at, lease.attempt), (now.plus(secs(5)), limit(1)), "when it was due, and which try it is");
    ensure_eq!(lease.expires_at, now.plus(secs(7 + 60)), "when the claim expires");
    Ok(())
}

pub(super) async fn the_same_run_twice_is_one_run(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    let job = on_demand(&scope, "job");
    scheduler(f).put(&job, now).await?;
    let run = RunId::generate(f.names().ids(), now);
    let again = async || scheduler(f).trigger(&scope, &job.name, run, now).await;
    again().await?;
    again().await?;
    let lease = claim_one(f, now, "after two triggers of one run").await?;
    again().await?;
    claim_none(f, now, "after a trigger of a run that is claimed").await?;
    done(f, &lease, now).await?;
    again().await?;
    claim_none(f, now.plus(secs(600)), "after a trigger of a run that is over").await?;
    ensure_eq!(history(f, &scope, &job.name).await?.len(), 1, "how many runs the history has");
    Ok(())
}

pub(super) async fn triggering_no_job_is_not_found(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    scheduler(f).put(&on_demand(&scope, "job"), now).await?;
    let run = RunId::generate(f.names().ids(), now);
    ensure_err!(scheduler(f).trigger(&scope, &name("jo"), run, now).await, NotFound, "a trigger of no job");
    claim_none(f, now, "after the refused trigger").await
}

pub(super) async fn every_tick_makes_one_run(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    let job = minutely(&scope).payload("tick");
    scheduler(f).put(&job, now).await?;
    for tick in 1..=4 {
        let due = now.plus(secs(60 * tick));
        claim_none(f, due.minus(std::time::Duration::from_millis(1)), "before the tick").await?;
        let lease = claim_one(f, due, "at the tick").await?;
        ensure_eq!((lease.due_at, lease.attempt), (due, limit(1)), "when it was due, and which try it is");
        ensure_eq!((&lease.scope, &lease.job, &lease.payload), (&scope, &job.name, &job.payload), "whose run it is");
        done(f, &lease, due.plus(secs(1))).await?;
        claim_none(f, due.plus(secs(30)), "after the run of the tick is over").await?;
    }
    Ok(())
}

pub(super) async fn every_node_together_makes_one_run(f: &F) -> Verdict {
    let now = base(f.names());
    let scopes: Vec<_> = (0..5).map(|_| scope(f)).collect();
    for scope in &scopes {
        scheduler(f).put(&minutely(scope), now).await?;
    }
    for tick in 1..=3 {
        let at = now.plus(secs(60 * tick));
        let claims = (0..8).map(|n| {
            let queue = queue(f).clone();
            async move {
                let worker = WorkerName::parse(&format!("node-{n}"))?;
                queue.claim(&ClaimRequest::new(worker, limit(3), at)).await
            }
        });
        let mut claimed = Vec::new();
        for leases in race(claims).await? {
            claimed.extend(leases?);
        }
        // A claim may find nothing while the others hold all; what is left is claimed now.
        claimed.extend(claim(f, 100, at).await?);
        let mut of: Vec<_> = claimed.iter().map(|lease| lease.scope.clone()).collect();
        of.sort();
        let mut want = scopes.clone();
        want.sort();
        ensure_eq!(of, want, "the apps whose runs were claimed at tick {tick}, each as often as it was");
        for lease in &claimed {
            ensure_eq!(lease.due_at, at, "when a run of tick {tick} was due");
            done(f, lease, at).await?;
        }
    }
    Ok(())
}

pub(super) async fn a_new_job_has_missed_nothing(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    scheduler(f).put(&minutely(&scope), now).await?;
    claim_none(f, now, "at the moment the job was put").await?;
    claim_none(f, now.plus(secs(59)), "before its first tick").await?;
    let lease = claim_one(f, now.plus(secs(60)), "at its first tick").await?;
    ensure_eq!(lease.due_at, now.plus(secs(60)), "when it was due");
    Ok(())
}

pub(super) async fn only_the_newest_missed_tick_is_made_up_for(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    let job = minutely(&scope);
    scheduler(f).put(&job, now).await?;
    let late = now.plus(secs(60 * 10 + 30));
    let lease = claim_one(f, late, "after an outage of ten ticks").await?;
    ensure_eq!(lease.due_at, now.plus(secs(600)), "which tick was made up for");
    done(f, &lease, late).await?;
    claim_none(f, late, "after the newest missed tick was made up for").await?;
    let next = claim_one(f, now.plus(secs(660)), "at the next tick").await?;
    ensure_eq!(next.due_at, now.plus(secs(660)), "when the next run was due");
    ensure_eq!(history(f, &scope, &job.name).await?.len(), 2, "how many runs the history has");
    Ok(())
}

pub(super) async fn a_moment_comes_once(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    let at = now.plus(secs(90));
    scheduler(f).put(&JobSpec::new(scope.clone(), name("once"), Schedule::At(at)), now).await?;
    scheduler(f).put(&JobSpec::new(scope.clone(), name("over"), Schedule::At(now.minus(secs(1)))), now).await?;
    claim_none(f, now.plus(secs(89)), "before the moment").await?;
    let lease = claim_one(f, at, "at the moment").await?;
    ensure_eq!((lease.job.as_str(), lease.due_at), ("once", at), "which job ran, and when it was due");
    done(f, &lease, at).await?;
    claim_none(f, at.plus(secs(86_400)), "a day after the moment").await
}

pub(super) async fn a_job_on_demand_waits_for_a_trigger(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    let job = on_demand(&scope, "job");
    scheduler(f).put(&job, now).await?;
    claim_none(f, now.plus(secs(86_400)), "a day after the job was put").await?;
    trigger(f, &job, now.plus(secs(86_400))).await?;
    claim_one(f, now.plus(secs(86_400)), "after the trigger").await?;
    Ok(())
}

pub(super) async fn a_paused_job_misses_what_is_due(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    let job = minutely(&scope);
    scheduler(f).put(&job.clone().paused(true), now).await?;
    claim_none(f, now.plus(secs(600)), "while the job is paused").await?;
    let run = trigger(f, &job, now.plus(secs(600))).await?;
    let lease = claim_one(f, now.plus(secs(600)), "after a paused job was triggered").await?;
    ensure_eq!(lease.run, run, "the run of a paused job");
    done(f, &lease, now.plus(secs(601))).await?;
    scheduler(f).put(&job, now.plus(secs(630))).await?;
    claim_none(f, now.plus(secs(631)), "after the job went on").await?;
    let lease = claim_one(f, now.plus(secs(660)), "at the first tick after the job went on").await?;
    ensure_eq!(lease.due_at, now.plus(secs(660)), "when it was due");
    Ok(())
}

pub(super) async fn a_changed_schedule_counts_from_now(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    let job = minutely(&scope);
    scheduler(f).put(&job, now).await?;
    let at = now.plus(secs(1_200));
    let changed = JobSpec::new(scope.clone(), job.name.clone(), Schedule::At(at));
    scheduler(f).put(&changed, now.plus(secs(601))).await?;
    claim_none(f, now.plus(secs(602)), "after a schedule with missed ticks was changed").await?;
    claim_none(f, at.minus(secs(1)), "before the new schedule's moment").await?;
    let lease = claim_one(f, at, "at the new schedule's moment").await?;
    ensure_eq!(lease.due_at, at, "when it was due");
    done(f, &lease, at).await?;
    scheduler(f).put(&job, at.plus(secs(1))).await?;
    claim_none(f, at.plus(secs(59)), "before the first tick after the schedule was changed back").await?;
    claim_one(f, at.plus(secs(60)), "at the first tick after the schedule was changed back").await?;
    Ok(())
}

pub(super) async fn an_unchanged_schedule_keeps_its_place(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    let job = minutely(&scope);
    scheduler(f).put(&job, now).await?;
    scheduler(f).put(&job.payload("new"), now.plus(secs(61))).await?;
    let lease = claim_one(f, now.plus(secs(62)), "after a job was put again between its tick and the claim").await?;
    ensure_eq!(lease.due_at, now.plus(secs(60)), "when it was due");
    Ok(())
}

/// What the history says of the runs of a job: when each was due, and what became of it.
async fn states(f: &F, job: &JobSpec) -> Result<Vec<(Timestamp, RunState)>, crate::Stop> {
    Ok(history(f, &job.scope, &job.name).await?.iter().map(|r| (r.due_at, r.state)).collect())
}

pub(super) async fn an_overlapping_run_is_left_out(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    let job = minutely(&scope);
    scheduler(f).put(&job, now).await?;
    let first = claim_one(f, now.plus(secs(60)), "at the first tick").await?;
    queue(f).renew(&first, secs(600), now.plus(secs(61))).await?;
    claim_none(f, now.plus(secs(120)), "at the second tick, while the first run has not ended").await?;
    let want = vec![(now.plus(secs(120)), RunState::Skipped), (now.plus(secs(60)), RunState::Running)];
    ensure_eq!(states(f, &job).await?, want, "the history after the second tick");
    done(f, &first, now.plus(secs(130))).await?;
    claim_none(f, now.plus(secs(131)), "after the first run ended: what was left out stays out").await?;
    claim_one(f, now.plus(secs(180)), "at the third tick").await?;
    Ok(())
}

pub(super) async fn an_overlapping_run_may_be_allowed(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    let job = minutely(&scope).overlap(Overlap::Allow);
    scheduler(f).put(&job, now).await?;
    let first = claim_one(f, now.plus(secs(60)), "at the first tick").await?;
    queue(f).renew(&first, secs(600), now.plus(secs(61))).await?;
    let second = claim_one(f, now.plus(secs(120)), "at the second tick, while the first run has not ended").await?;
    ensure!(second.run != first.run, "the first run was claimed again");
    let want = vec![(now.plus(secs(120)), RunState::Running), (now.plus(secs(60)), RunState::Running)];
    ensure_eq!(states(f, &job).await?, want, "the history after the second tick");
    Ok(())
}

pub(super) async fn scopes_know_nothing_of_each_other(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    let job = on_demand(&scope, "job").payload("mine");
    scheduler(f).put(&job, now).await?;
    for other in f.names().beside(&scope) {
        ensure_eq!(listed(f, &other).await?, vec![], "jobs of {other}");
        let run = RunId::generate(f.names().ids(), now);
        let triggered = scheduler(f).trigger(&other, &job.name, run, now).await;
        ensure_err!(triggered, NotFound, "a trigger in {other}");
        scheduler(f).remove(&other, &job.name).await?;
        let theirs = on_demand(&other, "job").payload("theirs");
        scheduler(f).put(&theirs, now).await?;
        let run = trigger(f, &theirs, now).await?;
        let lease = claim_one(f, now, "after a trigger in another scope").await?;
        ensure_eq!((lease.run, &lease.scope, &lease.payload), (run, &other, &theirs.payload), "the run");
        done(f, &lease, now).await?;
        ensure_eq!(history(f, &other, &job.name).await?.len(), 1, "how many runs there were in {other}");
    }
    ensure_eq!(history(f, &scope, &job.name).await?, vec![], "the history after runs in other scopes");
    ensure_eq!(listed(f, &scope).await?, vec![job], "the jobs after changes in other scopes");
    Ok(())
}

pub(super) async fn pointers_and_wrappers_answer_alike(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    let boxed: Box<dyn Scheduler> = Box::new(scheduler(f).clone());
    let jobs: Arc<dyn Scheduler> = Arc::new(Around::with_policy(boxed, crate::PassThrough));
    let boxed: Box<dyn RunQueue> = Box::new(queue(f).clone());
    let runs: Arc<dyn RunQueue> = Arc::new(Around::with_policy(boxed, crate::PassThrough));
    ensure_eq!(jobs.info(), scheduler(f).info(), "info through a wrapper");
    let job = on_demand(&scope, "job");
    jobs.put(&job, now).await?;
    ensure_eq!(jobs.list(&scope, None, limit(9)).await?.items, vec![job.clone()], "jobs through a wrapper");
    let run = RunId::generate(f.names().ids(), now);
    jobs.trigger(&scope, &job.name, run, now).await?;
    let request = ClaimRequest::new(WorkerName::parse("worker-1")?, limit(9), now);
    let claimed = runs.claim(&request).await?;
    ensure_eq!(claimed.iter().map(|l| l.run).collect::<Vec<_>>(), vec![run], "runs that are claimed through a wrapper");
    let lease = runs.renew(&claimed[0], secs(90), now).await?;
    let end = super::shared::ended(&lease, RunOutcome::Done);
    runs.finish(&[end], now).await?;
    let seen = history(f, &scope, &job.name).await?;
    ensure_eq!(runs.history(&scope, &job.name, limit(9)).await?, seen, "the history through a wrapper");
    ensure_eq!(runs.prune(now.plus(secs(1))).await?, 1, "how many runs are pruned through a wrapper");
    jobs.remove(&scope, &job.name).await?;
    ensure_eq!(listed(f, &scope).await?, vec![], "the jobs after one was removed through a wrapper");
    Ok(())
}

pub(super) async fn it_is_ready(f: &F) -> Verdict {
    for (which, readiness) in [("scheduler", scheduler(f).check().await?), ("queue", queue(f).check().await?)] {
        ensure!(readiness.is_ready(), "the {which} lacks {:?}", readiness.problems());
        ensure!(!readiness.backend().is_empty(), "the backend of the {which} has no name");
    }
    ensure!(!scheduler(f).info().name.is_empty(), "the scheduler has no name");
    Ok(())
}
