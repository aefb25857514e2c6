//! Cases of claims: leases, fences, and how apps take turns.

use super::shared::{
    F, LEASE, claim, claim_none, claim_one, done, ended, history, limit, on_demand, queue, request, scheduler, scope,
    trigger, wait_in,
};
use crate::{
    Verdict, race,
    suite::{ensure, ensure_eq, ensure_err},
    suites::base::{base, secs},
};
use overskill_core::{ClaimRequest, Fence, RunLease, RunOutcome, RunState, Scope, Timestamp, WorkerName};
use std::collections::{BTreeMap, BTreeSet};

pub(super) async fn what_is_not_due_waits(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    let job = on_demand(&scope, "job");
    scheduler(f).put(&job, now).await?;
    trigger(f, &job, now.plus(secs(30))).await?;
    claim_none(f, now.plus(secs(29)), "before the run is due").await?;
    claim_one(f, now.plus(secs(30)), "when the run is due").await?;
    Ok(())
}

pub(super) async fn a_claim_has_its_limit(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    let job = on_demand(&scope, "job");
    scheduler(f).put(&job, now).await?;
    let mut runs = Vec::new();
    for n in 0..10 {
        runs.push(trigger(f, &job, now.plus(secs(n))).await?);
    }
    let mut got = Vec::new();
    for want in [1, 4, 5, 0] {
        let claimed = claim(f, want.max(1), now.plus(secs(20))).await?;
        ensure_eq!(claimed.len(), want as usize, "how many runs a claim of at most {} gives", want.max(1));
        let due: Vec<_> = claimed.iter().map(|l| l.due_at).collect();
        ensure!(due.is_sorted(), "runs of one app are not in the order they were due: {due:?}");
        got.extend(claimed.iter().map(|l| l.run));
    }
    ensure_eq!(got, runs, "runs in the order they were claimed");
    Ok(())
}

pub(super) async fn a_claimed_run_is_nobody_elses(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    wait_in(f, &scope, 1, now).await?;
    claim_one(f, now, "at first").await?;
    for later in [0, 1, 59] {
        claim_none(f, now.plus(secs(later)), "while the run is claimed").await?;
    }
    Ok(())
}

pub(super) async fn an_expired_run_is_claimed_again(f: &F) -> Verdict {
    let (scope, mut now) = (scope(f), base(f.names()));
    wait_in(f, &scope, 1, now).await?;
    let mut last = claim_one(f, now, "at first").await?;
    ensure!(last.fence > Fence::ZERO, "the fence of the first claim is zero");
    for attempt in 2..=4 {
        now = now.plus(secs(61));
        let lease = claim_one(f, now, "after the claim expired").await?;
        ensure_eq!((lease.run, lease.attempt.get()), (last.run, attempt), "the run, and which try it is");
        ensure!(lease.fence > last.fence, "the fence went from {} to {}", last.fence, lease.fence);
        ensure_eq!((lease.due_at, &lease.payload), (last.due_at, &last.payload), "when it was due, and its payload");
        ensure_eq!(lease.expires_at, now.plus(LEASE), "when the claim expires");
        last = lease;
    }
    Ok(())
}

pub(super) async fn a_run_that_never_ends_is_given_up(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    let job = on_demand(&scope, "job").max_attempts(limit(2));
    scheduler(f).put(&job, now).await?;
    trigger(f, &job, now).await?;
    claim_one(f, now, "at first").await?;
    claim_one(f, now.plus(secs(61)), "after the first try expired").await?;
    claim_none(f, now.plus(secs(122)), "after the last try expired").await?;
    claim_none(f, now.plus(secs(86_400)), "a day after the last try expired").await?;
    let states: Vec<_> = history(f, &scope, &job.name).await?.iter().map(|r| (r.state, r.attempts)).collect();
    ensure_eq!(states, vec![(RunState::Dead, 2)], "what became of the run, and how often it was tried");
    Ok(())
}

pub(super) async fn no_run_is_in_two_leases(f: &F) -> Verdict {
    let now = base(f.names());
    let mut waiting = BTreeSet::new();
    for _ in 0..4 {
        waiting.extend(wait_in(f, &scope(f), 25, now).await?);
    }
    let workers = (0..8).map(|n| {
        let queue = queue(f).clone();
        async move {
            let worker = WorkerName::parse(&format!("worker-{n}"))?;
            let mut mine: Vec<RunLease> = Vec::new();
            // A claim may find nothing while others hold what it looked at.
            let mut empty = 0;
            while empty < 3 {
                let claimed = queue.claim(&ClaimRequest::new(worker.clone(), limit(5), now)).await?;
                empty = if claimed.is_empty() { empty + 1 } else { 0 };
                mine.extend(claimed);
            }
            Ok::<_, overskill_core::Error>(mine)
        }
    });
    let mut claimed = Vec::new();
    for mine in race(workers).await? {
        claimed.extend(mine?);
    }
    claimed.extend(claim(f, 100, now).await?);
    let distinct: BTreeSet<_> = claimed.iter().map(|l| l.run).collect();
    ensure_eq!(claimed.len(), distinct.len(), "how many claims there are of {} runs", distinct.len());
    ensure!(distinct == waiting, "{} of {} runs were claimed", distinct.len(), waiting.len());
    Ok(())
}

pub(super) async fn renewing_extends_a_claim(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    wait_in(f, &scope, 1, now).await?;
    let lease = claim_one(f, now, "at first").await?;
    let renewed = queue(f).renew(&lease, secs(90), now.plus(secs(50))).await?;
    let want = RunLease { expires_at: now.plus(secs(140)), ..lease.clone() };
    ensure_eq!(renewed, want, "the renewed claim");
    claim_none(f, now.plus(secs(61)), "after the first expiry of a renewed claim").await?;
    claim_none(f, now.plus(secs(139)), "before a renewed claim expires").await?;
    let again = claim_one(f, now.plus(secs(141)), "after a renewed claim expired").await?;
    ensure!(again.fence > lease.fence, "the fence went from {} to {}", lease.fence, again.fence);
    Ok(())
}

pub(super) async fn a_lost_claim_is_not_renewed(f: &F) -> Verdict {
    let (scope, now) = (scope(f), base(f.names()));
    wait_in(f, &scope, 1, now).await?;
    let lost = claim_one(f, now, "at first").await?;
    let later = now.plus(secs(61));
    let lease = claim_one(f, later, "after the claim expired").await?;
    ensure_err!(queue(f).renew(&lost, secs(600), later).await, Conflict, "renewing a claim that was lost");
    let never = RunLease { fence: lease.fence.next(), ..lease.clone() };
    ensure_err!(queue(f).renew(&never, secs(600), later).await, Conflict, "renewing under a fence that never was");
    let again = claim_one(f, later.plus(secs(61)), "after the second claim expired too").await?;
    done(f, &again, later.plus(secs(62))).await?;
    let over = queue(f).renew(&again, secs(600), later.plus(secs(63))).await;
    ensure_err!(over, Conflict, "renewing a claim of a run that is over");
    Ok(())
}

pub(super) async fn an_app_does_not_wait_behind_another(f: &F) -> Verdict {
    let (busy, small, now) = (scope(f), scope(f), base(f.names()));
    wait_in(f, &busy, 200, now).await?;
    let first = claim(f, 10, now).await?;
    ensure_eq!(first.len(), 10, "how many runs of a single app are claimed");
    let run = wait_in(f, &small, 1, now.plus(secs(1))).await?[0];
    let next = claim(f, 10, now.plus(secs(1))).await?;
    ensure!(
        next.iter().any(|l| l.run == run),
        "the only run of an app is not in the next claim of 10 while 190 runs of another app wait: {:?}",
        by_app(&next)
    );
    ensure_eq!(next.len(), 10, "how many runs are claimed");
    Ok(())
}

fn by_app(leases: &[RunLease]) -> BTreeMap<&Scope, usize> {
    let mut counts = BTreeMap::new();
    for lease in leases {
        *counts.entry(&lease.scope).or_default() += 1;
    }
    counts
}

pub(super) async fn apps_take_turns(f: &F) -> Verdict {
    let now = base(f.names());
    // One after the other, so that age alone would give the first app everything.
    for (n, runs) in [(0, 120), (1, 80), (2, 60)] {
        wait_in(f, &scope(f), runs, now.plus(secs(n))).await?;
    }
    for round in 1..=3 {
        let claimed = claim(f, 30, now.plus(secs(10))).await?;
        ensure_eq!(claimed.len(), 30, "how many runs are claimed");
        let counts = by_app(&claimed);
        let fair = counts.len() == 3 && counts.values().all(|n| (8..=12).contains(n));
        ensure!(fair, "claim {round} of 30 runs has of three apps that wait: {counts:?}");
    }
    Ok(())
}

pub(super) async fn running_runs_of_an_app_are_limited(f: &F) -> Verdict {
    let (busy, other, now) = (scope(f), scope(f), base(f.names()));
    wait_in(f, &busy, 6, now).await?;
    let claim = async |worker: &str, at: Timestamp| {
        let request = ClaimRequest { worker: WorkerName::parse(worker)?, ..request(10, at) };
        queue(f).claim(&request.max_running_per_app(limit(2))).await
    };
    let first = claim("worker-1", now).await?;
    ensure_eq!(first.len(), 2, "how many runs of one app are claimed where 2 may run");
    ensure_eq!(claim("worker-2", now).await?, vec![], "what another worker claims while 2 run");
    wait_in(f, &other, 3, now).await?;
    let others = claim("worker-2", now).await?;
    ensure_eq!(by_app(&others), BTreeMap::from([(&other, 2)]), "what is claimed of another app");
    done(f, &first[0], now).await?;
    let next = claim("worker-2", now).await?;
    ensure_eq!(by_app(&next), BTreeMap::from([(&busy, 1)]), "what is claimed after one run ended");
    // Claims that expired do not run: two of each app are claimed, whichever.
    let later = claim("worker-3", now.plus(secs(61))).await?;
    ensure_eq!(by_app(&later), BTreeMap::from([(&busy, 2), (&other, 2)]), "what is claimed after all claims expired");
    Ok(())
}

pub(super) async fn a_dropped_claim_loses_nothing(f: &F) -> Verdict {
    let scope = scope(f);
    for polls in 0..5 {
        let now = base(f.names()).plus(secs(1_000 * polls));
        let polls = usize::try_from(polls).unwrap_or(0);
        let waiting: BTreeSet<_> = wait_in(f, &scope, 6, now).await?.into_iter().collect();
        crate::poll_times(polls, queue(f).claim(&request(3, now))).await;
        let mut claimed = claim(f, 10, now.plus(secs(61))).await?;
        // A server may still be at work on a claim that nobody waits for: what it took has expired by then.
        for _ in 0..400 {
            if claimed.len() >= waiting.len() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
            claimed.extend(claim(f, 10, now.plus(secs(61))).await?);
        }
        let runs: BTreeSet<_> = claimed.iter().map(|l| l.run).collect();
        ensure!(runs == waiting, "after a dropped claim {} of {} runs are claimed", runs.len(), waiting.len());
        let ends: Vec<_> = claimed.iter().map(|l| ended(l, RunOutcome::Done)).collect();
        crate::poll_times(polls, queue(f).finish(&ends, now.plus(secs(62)))).await;
        // The ends that were dropped were taken or not; after these all are.
        queue(f).finish(&ends, now.plus(secs(62))).await?;
        claim_none(f, now.plus(secs(600)), "after every run ended").await?;
    }
    Ok(())
}
