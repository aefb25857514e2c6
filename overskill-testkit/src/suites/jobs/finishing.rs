//! Cases of how runs end, and of what is remembered of them.

use super::shared::{
    F, claim, claim_none, claim_one, done, ended, failed, finish, history, limit, minutely, name, on_demand, queue,
    scheduler, scope, trigger, wait_in,
};
use crate::{
    Verdict,
    suite::{ensure, ensure_eq, ensure_err},
    suites::base::{base, secs},
};
use overskill_core::{Fence, FinishResult, FinishedRun, RunBackoff, RunId, RunOutcome, RunRecord, RunState};

pub(super) async fn a_done_run_is_over(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    let run = wait_in(f, &scope, 1, now).await?[0];
    let lease = claim_one(f, now.plus(secs(1)), "at first").await?;
    done(f, &lease, now.plus(secs(9))).await?;
    claim_none(f, now.plus(secs(10)), "after the run is done").await?;
    claim_none(f, now.plus(secs(86_400)), "a day after the run is done").await?;
    let ended_at = Some(now.plus(secs(9)));
    let want = RunRecord { run, due_at: now, state: RunState::Done, attempts: 1, failure: None, ended_at };
    ensure_eq!(history(f, &scope, &name("busy")).await?, vec![want], "the history");
    Ok(())
}

pub(super) async fn a_failed_run_is_tried_again(f: &F) -> Verdict {
    let (scope, mut now) = (scope(f), base(f.names()));
    let job = on_demand(&scope, "job").backoff(RunBackoff { first_ms: 10_000, max_ms: 30_000 });
    scheduler(f).put(&job, now).await?;
    let run = trigger(f, &job, now).await?;
    let mut last = claim_one(f, now, "at first").await?;
    for (attempt, bound) in [(2, 10), (3, 20), (4, 30), (5, 30)] {
        let reason = format!("try {} failed: ünïcode, 'quotes'", attempt - 1);
        ensure_eq!(finish(f, &last, failed(&reason, None), now).await?, FinishResult::Taken, "the answer to a failure");
        let records = history(f, &scope, &job.name).await?;
        ensure_eq!(records.len(), 1, "how many runs the history has");
        let want = (RunState::Waiting, attempt - 1, Some(reason.as_str()), None);
        let got = (records[0].state, records[0].attempts, records[0].failure.as_deref(), records[0].ended_at);
        ensure_eq!(got, want, "what the history says between two tries");
        now = now.plus(secs(bound));
        let lease = claim_one(f, now, &format!("{bound} s after a failure, its longest backoff,")).await?;
        ensure_eq!((lease.run, lease.attempt.get()), (run, attempt), "the run, and which try it is");
        ensure!(lease.fence > last.fence, "the fence went from {} to {}", last.fence, lease.fence);
        last = lease;
    }
    Ok(())
}

pub(super) async fn a_wait_that_was_asked_for_is_kept(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    let hour = RunBackoff { first_ms: 3_600_000, max_ms: 3_600_000 };
    let job = on_demand(&scope, "job").backoff(hour);
    scheduler(f).put(&job, now).await?;
    trigger(f, &job, now).await?;
    let lease = claim_one(f, now, "at first").await?;
    finish(f, &lease, failed("too busy", Some(600_000)), now).await?;
    claim_none(f, now.plus(secs(599)), "before the wait that was asked for is over").await?;
    let lease = claim_one(f, now.plus(secs(600)), "when the wait that was asked for is over").await?;
    // A wait below the job's backoff counts as well.
    finish(f, &lease, failed("almost", Some(1_000)), now.plus(secs(600))).await?;
    let lease = claim_one(f, now.plus(secs(601)), "a second after a wait of a second was asked for").await?;
    ensure_eq!(lease.attempt.get(), 3, "which try it is");
    Ok(())
}

pub(super) async fn a_run_is_dead_after_its_last_try(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    let job = on_demand(&scope, "job").max_attempts(limit(3));
    scheduler(f).put(&job, now).await?;
    let run = trigger(f, &job, now).await?;
    for attempt in 1..=3 {
        let at = now.plus(secs(attempt));
        let lease = claim_one(f, at, "while tries are left").await?;
        let result = finish(f, &lease, failed(&format!("failure {attempt}"), Some(0)), at).await?;
        ensure_eq!(result, FinishResult::Taken, "the answer to failure {attempt}");
    }
    claim_none(f, now.plus(secs(86_400)), "a day after the last try").await?;
    let (failure, ended_at) = (Some("failure 3".to_owned()), Some(now.plus(secs(3))));
    let want = RunRecord { run, due_at: now, state: RunState::Dead, attempts: 3, failure, ended_at };
    ensure_eq!(history(f, &scope, &job.name).await?, vec![want], "the history");
    Ok(())
}

pub(super) async fn a_run_may_be_given_up_at_once(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    let run = wait_in(f, &scope, 1, now).await?[0];
    let lease = claim_one(f, now, "at first").await?;
    let result = finish(f, &lease, RunOutcome::Dead { reason: "no such user".into() }, now).await?;
    ensure_eq!(result, FinishResult::Taken, "the answer");
    claim_none(f, now.plus(secs(86_400)), "a day after the run was given up").await?;
    let failure = Some("no such user".to_owned());
    let want = RunRecord { run, due_at: now, state: RunState::Dead, attempts: 1, failure, ended_at: Some(now) };
    ensure_eq!(history(f, &scope, &name("busy")).await?, vec![want], "the history");
    Ok(())
}

pub(super) async fn a_stale_end_changes_nothing(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    wait_in(f, &scope, 1, now).await?;
    let stale = claim_one(f, now, "at first").await?;
    let later = now.plus(secs(61));
    let lease = claim_one(f, later, "after the claim expired").await?;
    let outcomes = [RunOutcome::Done, failed("late", None), RunOutcome::Dead { reason: "late".into() }];
    for outcome in outcomes.clone() {
        let result = finish(f, &stale, outcome.clone(), later).await?;
        ensure_eq!(result, FinishResult::Stale, "the answer to {outcome:?} of a try that was overtaken");
        let records = history(f, &scope, &name("busy")).await?;
        let got: Vec<_> = records.iter().map(|r| (r.state, r.attempts, r.failure.as_deref())).collect();
        ensure_eq!(got, vec![(RunState::Running, 2, None)], "the history after a stale end");
    }
    queue(f).renew(&lease, secs(60), later).await?;
    done(f, &lease, later).await?;
    let records = history(f, &scope, &name("busy")).await?;
    for outcome in outcomes {
        let result = finish(f, &lease, outcome.clone(), later.plus(secs(1))).await?;
        ensure_eq!(result, FinishResult::Stale, "the answer to {outcome:?} of a run that is over");
    }
    ensure_eq!(history(f, &scope, &name("busy")).await?, records, "the history after stale ends");
    let run = RunId::generate(f.names().ids(), now);
    let unknown = FinishedRun { run, fence: Fence::from_u64(1), outcome: RunOutcome::Done };
    ensure_eq!(queue(f).finish(&[unknown], now).await?, vec![FinishResult::Stale], "the answer for an unknown run");
    Ok(())
}

pub(super) async fn an_expired_claim_may_end_its_run(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    wait_in(f, &scope, 1, now).await?;
    let lease = claim_one(f, now, "at first").await?;
    let late = now.plus(secs(61));
    done(f, &lease, late).await?;
    claim_none(f, late, "after a run ended late").await?;
    let states: Vec<_> = history(f, &scope, &name("busy")).await?.iter().map(|r| r.state).collect();
    ensure_eq!(states, vec![RunState::Done], "what became of the run");
    Ok(())
}

pub(super) async fn ends_are_answered_in_order(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    let job = on_demand(&scope, "busy").max_attempts(limit(2));
    let runs = wait_in(f, &scope, 5, now).await?;
    scheduler(f).put(&job, now).await?;
    let leases = claim(f, 10, now).await?;
    ensure_eq!(leases.len(), runs.len(), "how many runs are claimed");
    let end = |n: usize, outcome| ended(&leases[n], outcome);
    let wrong = FinishedRun { fence: leases[2].fence.next(), ..end(2, RunOutcome::Done) };
    let unknown = FinishedRun { run: RunId::generate(f.names().ids(), now), ..end(2, RunOutcome::Done) };
    let ends = [
        end(0, RunOutcome::Done),
        wrong,
        end(1, failed("again", Some(0))),
        unknown,
        end(3, RunOutcome::Dead { reason: "no".into() }),
        end(0, RunOutcome::Dead { reason: "a second end of one run".into() }),
        end(4, RunOutcome::Done),
    ];
    let results = queue(f).finish(&ends, now).await?;
    let (taken, stale) = (FinishResult::Taken, FinishResult::Stale);
    ensure_eq!(results, vec![taken, stale, taken, stale, taken, stale, taken], "the answers");
    let records = history(f, &scope, &job.name).await?;
    let became = |n: usize| records.iter().find(|r| r.run == leases[n].run).map(|r| r.state);
    let states: Vec<_> = (0..5).map(became).collect();
    let want = [RunState::Done, RunState::Waiting, RunState::Running, RunState::Dead, RunState::Done].map(Some);
    ensure_eq!(states, want, "what became of the runs");
    ensure_eq!(queue(f).finish(&[], now).await?, vec![], "the answers to no ends");
    Ok(())
}

pub(super) async fn history_is_newest_first(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    let job = on_demand(&scope, "job");
    scheduler(f).put(&job, now).await?;
    ensure_eq!(history(f, &scope, &job.name).await?, vec![], "the history of a job that never ran");
    let mut runs = Vec::new();
    for n in 0..4 {
        runs.insert(0, trigger(f, &job, now.plus(secs(n))).await?);
    }
    // The oldest is done, the next dead, the third running, the newest waits.
    let at = now.plus(secs(2));
    let leases = claim(f, 3, at).await?;
    ensure_eq!(leases.len(), 3, "how many runs are claimed");
    done(f, &leases[0], at).await?;
    finish(f, &leases[1], RunOutcome::Dead { reason: "no".into() }, at).await?;
    let records = history(f, &scope, &job.name).await?;
    let got: Vec<_> = records.iter().map(|r| (r.run, r.due_at, r.state, r.attempts, r.ended_at)).collect();
    let want = vec![
        (runs[0], now.plus(secs(3)), RunState::Waiting, 0, None),
        (runs[1], now.plus(secs(2)), RunState::Running, 1, None),
        (runs[2], now.plus(secs(1)), RunState::Dead, 1, Some(at)),
        (runs[3], now, RunState::Done, 1, Some(at)),
    ];
    ensure_eq!(got, want, "the history");
    for n in 1..=4_usize {
        let limited = queue(f).history(&scope, &job.name, limit(u32::try_from(n).unwrap_or(1))).await?;
        ensure_eq!(limited, records[..n].to_vec(), "the newest {n} runs");
    }
    Ok(())
}

pub(super) async fn pruning_forgets_what_is_over(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    wait_in(f, &scope, 5, now).await?;
    let leases = claim(f, 4, now).await?;
    ensure_eq!(leases.len(), 4, "how many runs are claimed");
    done(f, &leases[0], now.plus(secs(10))).await?;
    finish(f, &leases[1], RunOutcome::Dead { reason: "no".into() }, now.plus(secs(20))).await?;
    done(f, &leases[2], now.plus(secs(30))).await?;
    ensure_eq!(queue(f).prune(now.plus(secs(5))).await?, 0, "how many runs were over before any was");
    ensure_eq!(queue(f).prune(now.plus(secs(25))).await?, 2, "how many runs were over before the third");
    let left = history(f, &scope, &name("busy")).await?;
    ensure_eq!(left.len(), 3, "how many runs are left");
    ensure!(left.iter().all(|r| r.run != leases[0].run && r.run != leases[1].run), "what was over is still there");
    ensure_eq!(queue(f).prune(now.plus(secs(25))).await?, 0, "how many runs are pruned a second time");
    ensure_eq!(queue(f).prune(now.plus(secs(86_400))).await?, 1, "how many runs are over at last");
    let states: Vec<_> = history(f, &scope, &name("busy")).await?.iter().map(|r| r.state).collect();
    ensure!(
        states.len() == 2 && states.contains(&RunState::Waiting) && states.contains(&RunState::Running),
        "of a run that waits and one that runs, there are left {states:?}"
    );
    done(f, &leases[3], now.plus(secs(40))).await
}

pub(super) async fn jobs_survive_a_restart(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    let (tick, job) = (minutely(&scope).payload("tick"), on_demand(&scope, "job").payload("run"));
    scheduler(f).put(&tick, now).await?;
    scheduler(f).put(&job, now).await?;
    trigger(f, &job, now).await?;
    let over = claim_one(f, now, "before the restart").await?;
    done(f, &over, now).await?;
    let first = trigger(f, &job, now).await?;
    let lease = claim_one(f, now, "before the restart, after the run that is done").await?;
    let second = trigger(f, &job, now.plus(secs(1))).await?;
    let records = history(f, &scope, &job.name).await?;

    let again = f.reopened().await?;
    let listed = again.scheduler.list(&scope, None, limit(9)).await?.items;
    ensure_eq!(listed, vec![job.clone(), tick.clone()], "the jobs after a restart");
    let seen = again.queue.history(&scope, &job.name, limit(100)).await?;
    ensure_eq!(seen, records, "the history after a restart");
    let claimed = again.queue.claim(&super::shared::request(10, now.plus(secs(1)))).await?;
    let runs: Vec<_> = claimed.iter().map(|l| l.run).collect();
    ensure_eq!(runs, vec![second], "runs that are claimed after a restart, while the first is claimed");
    let claimed = again.queue.claim(&super::shared::request(10, now.plus(secs(62)))).await?;
    let retried = claimed.iter().find(|l| l.run == first);
    let higher = retried.is_some_and(|l| l.fence > lease.fence && l.attempt.get() == 2);
    ensure!(higher, "after a restart and the expiry of fence {}, claimed {claimed:?}", lease.fence);
    let ticked = claimed.iter().find(|l| l.job == tick.name).map(|l| (l.due_at, l.payload.clone()));
    ensure_eq!(ticked, Some((now.plus(secs(60)), tick.payload)), "the run of a tick after a restart");
    let late = again.queue.renew(&lease, secs(60), now.plus(secs(62))).await;
    ensure_err!(late, Conflict, "renewing a claim that was lost, after a restart");
    Ok(())
}
