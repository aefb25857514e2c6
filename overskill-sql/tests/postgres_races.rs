//! Many nodes on one Postgres: no run is in two live leases, fences grow, and of racing commits one wins.
#![cfg(feature = "postgres")]
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use overskill_core::{
    Actor, ClaimRequest, Commit, DeploymentEvent, DeploymentId, DeploymentSource, DeploymentStore, EnvRevision,
    ErrorKind, Fence, FinishResult, FinishedRun, Incarnation, JobName, JobSpec, LeaseChange, Limits, Overlap, RunId,
    RunOutcome, RunQueue, RunState, Schedule, Scheduler, Scope, StreamPosition, SystemIds, Timestamp, WorkerName,
};
use overskill_sql::{PostgresOptions, PostgresStores};
use overskill_testkit::postgres::PostgresCluster;
use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

const WORKERS: usize = 20;
/// A claim: its fence, from when, until when.
type Held = (Fence, Timestamp, Timestamp);

const LEASE: Duration = Duration::from_mins(1);

/// Ahead of the server's clock.
fn base() -> Timestamp {
    Timestamp::from_unix_millis(4_102_444_800_000) // 2100-01-01
}

fn limit(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

fn worker(n: usize) -> WorkerName {
    WorkerName::parse(&format!("worker-{n}")).unwrap()
}

async fn stores() -> PostgresStores {
    let url = PostgresCluster::shared().unwrap().fresh_database().unwrap();
    let options = PostgresOptions::new().max_connections(limit(10));
    PostgresStores::connect(url, options).await.unwrap()
}

/// Some workers lose every third lease and come back too late; the clock they share runs on, so that leases expire while
/// others claim.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_workers_share_a_queue() {
    const RUNS: usize = 400;
    let jobs = stores().await.jobs();
    let name = JobName::parse("job").unwrap();
    for n in 0..RUNS {
        let scope: Scope = format!("app{}/production", n % 7).parse().unwrap();
        let job = JobSpec::new(scope.clone(), name.clone(), Schedule::OnDemand).overlap(Overlap::Allow);
        if n < 7 {
            jobs.put(&job.max_attempts(limit(1_000)), base()).await.unwrap();
        }
        jobs.trigger(&scope, &name, RunId::generate(&SystemIds, base()), base()).await.unwrap();
    }

    // Every lease of each run, as the workers were told: fence, from when, until when.
    let held: Arc<Mutex<BTreeMap<RunId, Vec<Held>>>> = Arc::default();
    let ended: Arc<Mutex<BTreeSet<RunId>>> = Arc::default();
    let clock = Arc::new(AtomicI64::new(base().as_unix_millis()));
    let workers = (0..WORKERS).map(|w| {
        let (jobs, held, ended, clock) = (jobs.clone(), held.clone(), ended.clone(), clock.clone());
        tokio::spawn(async move {
            let mut lost = Vec::new();
            for turn in 0.. {
                if ended.lock().unwrap().len() == RUNS {
                    break;
                }
                assert!(turn < 2_000, "{} of {RUNS} runs ended", ended.lock().unwrap().len());
                let now = Timestamp::from_unix_millis(clock.fetch_add(1_000, Ordering::Relaxed));
                let request = ClaimRequest::new(worker(w), limit(5), now).lease(LEASE);
                let request = if w % 2 == 0 { request } else { request.max_running_per_app(limit(30)) };
                let mut leases = jobs.claim(&request).await.unwrap();
                for lease in &leases {
                    held.lock().unwrap().entry(lease.run).or_default().push((lease.fence, now, lease.expires_at));
                }
                if turn % 3 == 0 {
                    lost.append(&mut leases);
                    continue;
                }
                let done = |run, fence| FinishedRun { run, fence, outcome: RunOutcome::Done };
                let mut ends: Vec<_> = leases.iter().map(|lease| done(lease.run, lease.fence)).collect();
                ends.extend(lost.drain(..lost.len() / 2).map(|lease| done(lease.run, lease.fence)));
                let results = jobs.finish(&ends, now).await.unwrap();
                let mut ended = ended.lock().unwrap();
                for (end, result) in ends.iter().zip(results) {
                    if result == FinishResult::Taken {
                        assert!(ended.insert(end.run), "run {} ended twice", end.run);
                    }
                }
            }
        })
    });
    for worker in futures::future::join_all(workers).await {
        worker.unwrap();
    }
    for (run, mut leases) in std::mem::take(&mut *held.lock().unwrap()) {
        leases.sort();
        for pair in leases.windows(2) {
            let [(fence, _, until), (next, from, _)] = pair else { unreachable!("windows of two") };
            assert!(next > fence, "run {run}: fence {next} twice");
            assert!(from >= until, "run {run} was leased until {until}, and to somebody else from {from}");
        }
    }
    let mut records = Vec::new();
    for app in 0..7 {
        let scope: Scope = format!("app{app}/production").parse().unwrap();
        records.extend(jobs.history(&scope, &name, limit(1_000)).await.unwrap());
    }
    assert_eq!(records.len(), RUNS);
    assert!(records.iter().all(|record| record.state == RunState::Done));
    let again = records.iter().filter(|record| record.attempts > 1).count();
    assert!(again > 0, "no lease expired, so nothing was shown about those that do");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_id_that_is_triggered_for_two_jobs_is_a_run_of_one() {
    let jobs = stores().await.jobs();
    let scope: Scope = "todo42/production".parse().unwrap();
    let names = ["one", "two"].map(|name| JobName::parse(name).unwrap());
    for name in &names {
        let job = JobSpec::new(scope.clone(), name.clone(), Schedule::OnDemand).overlap(Overlap::Allow);
        jobs.put(&job, base()).await.unwrap();
    }
    for _ in 0..40 {
        let run = RunId::generate(&SystemIds, base());
        let racing = names.clone().map(|name| {
            let (jobs, scope) = (jobs.clone(), scope.clone());
            tokio::spawn(async move { jobs.trigger(&scope, &name, run, base()).await })
        });
        let mut won = 0;
        for raced in racing {
            match raced.await.unwrap() {
                Ok(()) => won += 1,
                Err(e) => assert_eq!(e.kind(), ErrorKind::Conflict, "{e}"),
            }
        }
        assert_eq!(won, 1, "both were told that their run is made");
    }
}

/// A tick and a trigger of a job whose runs may not overlap.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_tick_and_a_trigger_at_once_are_one_run() {
    let jobs = stores().await.jobs();
    let name = JobName::parse("job").unwrap();
    let mut ticked = 0;
    for round in 0..60 {
        let scope: Scope = format!("app{round}/production").parse().unwrap();
        let at = base().plus(Duration::from_mins(1) * (round + 1));
        let job = JobSpec::new(scope.clone(), name.clone(), Schedule::At(at)).overlap(Overlap::Skip);
        jobs.put(&job, base()).await.unwrap();
        let trigger = {
            let (jobs, scope, name) = (jobs.clone(), scope.clone(), name.clone());
            tokio::spawn(async move { jobs.trigger(&scope, &name, RunId::generate(&SystemIds, at), at).await })
        };
        let claim = {
            let (jobs, request) = (jobs.clone(), ClaimRequest::new(worker(0), limit(100), at).lease(LEASE));
            tokio::spawn(async move { jobs.claim(&request).await })
        };
        trigger.await.unwrap().unwrap();
        claim.await.unwrap().unwrap();
        jobs.claim(&ClaimRequest::new(worker(0), limit(100), at).lease(LEASE)).await.unwrap();
        let records = jobs.history(&scope, &name, limit(10)).await.unwrap();
        let running = records.iter().filter(|record| record.state == RunState::Running).count();
        assert_eq!((records.len(), running), (2, 1), "round {round}: {records:?}");
        ticked += usize::from(records.iter().any(|r| r.state == RunState::Skipped));
    }
    assert_eq!(ticked, 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_racing_commits_exactly_one_wins() {
    let store = stores().await.deployments();
    let scope: Scope = "todo42/production".parse().unwrap();
    let position = StreamPosition::start(Incarnation::from_u64(1));
    let requested = DeploymentEvent::Requested {
        actor: Actor::System("race".into()),
        source: DeploymentSource::Sources(position),
        env: EnvRevision(position),
        limits: Limits::default(),
        targets: Vec::new(),
        owner: None,
        strategy: None,
    };
    let mut last = Fence::ZERO;
    for round in 0..10 {
        let now = base().plus(2 * LEASE * round);
        let racing = (0..WORKERS).map(|n| {
            let (store, scope, requested) = (store.clone(), scope.clone(), requested.clone());
            tokio::spawn(async move {
                let id = DeploymentId::generate(&SystemIds, now);
                let take = LeaseChange::Take { holder: worker(n), ttl: LEASE, above: Fence::ZERO };
                let commit = Commit::new(id, scope, 0, [requested], now).lease(take);
                (id, store.commit(&commit).await)
            })
        });
        let mut winner = None;
        for raced in futures::future::join_all(racing).await {
            match raced.unwrap() {
                (id, Ok(committed)) => assert!(winner.replace((id, committed)).is_none(), "two won"),
                (id, Err(e)) => {
                    assert_eq!(e.kind(), ErrorKind::Conflict, "{e}");
                    assert_eq!(store.events(id).await.unwrap(), [], "a refused commit left its events");
                }
            }
        }
        let (id, committed) = winner.expect("one wins");
        let lease = committed.lease.expect("a commit that takes the lease has it");
        assert!(lease.fence > last, "fence {} after {last}", lease.fence);
        last = lease.fence;

        // Now of commits to the same deployment, each of which expects the same number of events.
        let racing = (0..WORKERS).map(|_| {
            let (store, scope) = (store.clone(), scope.clone());
            tokio::spawn(
                async move { store.commit(&Commit::new(id, scope, 1, [DeploymentEvent::Released], now)).await },
            )
        });
        let results = futures::future::join_all(racing).await;
        assert_eq!(results.into_iter().filter(|result| matches!(result, Ok(Ok(_)))).count(), 1);
        assert_eq!(store.events(id).await.unwrap().len(), 2);
    }
}
