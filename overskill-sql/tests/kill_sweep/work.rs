//! Writers that say what they are about to write and what was acknowledged, and what must hold after they were killed.

use overskill_core::{
    Actor, Artifact, AuditEntry, AuditLog, BackendName, BundleStore, Changes, ClaimRequest, Commit, DeploymentEnd,
    DeploymentEvent, DeploymentId, DeploymentSource, DeploymentStore, EnvChanges, EnvKey, EnvRevision, EnvStore,
    EnvValue, ErrorKind, Fence, FilePath, FileStore, FinishResult, FinishedRun, Handle, IdsExt as _, JobName, JobSpec,
    KeyId, LeaseChange, Limits, LocalKeyProvider, Overlap, Result, RootKey, Route, RouteTable, RunId, RunLease,
    RunOutcome, RunQueue, RunState, Schedule, Scheduler, Scope, Sealer, SeededIds, SystemIds, Timestamp, WorkerName,
};
use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc, time::Duration};

/// The stores that are written to.
#[derive(Clone)]
pub(crate) struct Stores {
    pub(crate) files: Arc<dyn FileStore>,
    pub(crate) audit: Arc<dyn AuditLog>,
    pub(crate) deployments: Arc<dyn DeploymentStore>,
    pub(crate) env: Arc<dyn EnvStore>,
    pub(crate) bundles: Arc<dyn BundleStore>,
    pub(crate) routes: Arc<dyn RouteTable>,
    pub(crate) scheduler: Arc<dyn Scheduler>,
    pub(crate) runs: Arc<dyn RunQueue>,
}

/// Always the same key: what one process sealed the next one opens.
pub(crate) fn sealer() -> Sealer {
    let keys = LocalKeyProvider::new(KeyId::parse("k1").expect("a key id"), RootKey::from_bytes([7; 32]));
    Sealer::new(Arc::new(keys), Arc::new(SystemIds))
}

const TTL: Duration = Duration::from_mins(1);

fn scope() -> Scope {
    "victim/production".parse().expect("a scope")
}

fn worker() -> WorkerName {
    WorkerName::parse("victim").expect("a worker's name")
}

fn job() -> JobName {
    JobName::parse("job").expect("a job's name")
}

fn id_of(kind: u64, n: u64, at: Timestamp) -> overskill_core::Result<RunId> {
    let ids = SeededIds::new(kind << 32 | n);
    RunId::generate(&ids, at).to_string().parse().map_err(Into::into)
}

fn deployment(n: u64, at: Timestamp) -> DeploymentId {
    DeploymentId::from_uuid(SeededIds::new(1 << 40 | n).uuid_v7(at))
}

fn run_id(n: u64, at: Timestamp) -> RunId {
    id_of(2, n, at).expect("an id that was just made")
}

/// Where a round of writing begins: nothing that an earlier round left holds any more.
#[derive(Clone, Copy)]
pub(crate) struct Round {
    /// Numbers of this round are above it.
    pub(crate) after: u64,
    /// The moment of the round, an hour and more after the one before.
    pub(crate) now: Timestamp,
}

impl Round {
    pub(crate) fn new(n: u64, base: Timestamp) -> Self {
        Self { after: n * 1_000_000, now: base.plus(Duration::from_secs(3_600 * n)) }
    }
}

/// Writes to every store until it is killed; `say` gets `try kind n` and `ack kind n`.
pub(crate) async fn write(
    stores: &Stores,
    round: Round,
    say: impl Fn(&'static str, &'static str, u64) + Copy,
) -> Result<()> {
    let on_demand = JobSpec::new(scope(), job(), Schedule::OnDemand).overlap(Overlap::Allow);
    stores.scheduler.put(&on_demand, round.now).await?;
    let numbers = || (round.after + 1)..;
    let files = async {
        for n in numbers() {
            say("try", "files", n);
            stores.files.apply(&scope(), &batch(n), None).await?;
            say("ack", "files", n);
        }
        Ok(())
    };
    let audit = async {
        for n in numbers() {
            say("try", "audit", n);
            let entry = AuditEntry::new(round.now, Actor::System("victim".into()), "sweep").detail(n.to_string());
            stores.audit.append(&entry).await?;
            say("ack", "audit", n);
        }
        Ok(())
    };
    let deployments = async {
        for n in numbers() {
            deploy(stores, n, round.now, say).await?;
        }
        Ok(())
    };
    let env = async {
        for n in numbers() {
            say("try", "env", n);
            stores.env.put(&scope(), &variables(n), None).await?;
            say("ack", "env", n);
        }
        Ok(())
    };
    let bundles = async {
        for n in numbers() {
            let artifact = artifact(n)?;
            say("try", "bundle", n);
            let digest = stores.bundles.put(&artifact, round.now).await?;
            stores.bundles.hold(&scope(), digest, deployment(n, round.now)).await?;
            say("ack", "bundle", n);
        }
        Ok(())
    };
    let routes = async {
        for n in numbers() {
            say("try", "route", n);
            stores.routes.set(&scope(), &route(n, round.now)).await?;
            say("ack", "route", n);
        }
        Ok(())
    };
    let runs = async {
        for n in numbers() {
            say("try", "trigger", n);
            stores.scheduler.trigger(&scope(), &job(), run_id(n, round.now), round.now).await?;
            say("ack", "trigger", n);
            for lease in stores.runs.claim(&claim(round.now)).await? {
                say("ack", "claim", n);
                say("try", "done", n);
                stores.runs.finish(&[done(&lease)], round.now).await?;
                say("ack", "done", n);
            }
        }
        Ok(())
    };
    tokio::try_join!(files, audit, deployments, env, bundles, routes, runs).map(|_: ((), (), (), (), (), (), ())| ())
}

const PATHS: [&str; 4] = ["src/a.ts", "src/b.ts", "src/c.ts", "index.html"];

fn batch(n: u64) -> Changes {
    let path = |path| FilePath::parse(path).expect("a path");
    PATHS.into_iter().fold(Changes::new(), |changes, p| changes.put(path(p), n.to_string()))
}

fn variables(n: u64) -> EnvChanges {
    let key = |key| EnvKey::parse(key).expect("a key");
    EnvChanges::new()
        .set(key("PLAIN"), EnvValue::plain(n.to_string()))
        .set(key("SEALED"), EnvValue::sealed(n.to_string()))
}

/// Two blobs: one of its own, and one that all have.
fn artifact(n: u64) -> Result<Artifact> {
    let path = |path| FilePath::parse(path).expect("a path");
    Artifact::of_assets([(path("own"), n.to_string().into()), (path("shared"), "shared".into())])
}

fn route(n: u64, now: Timestamp) -> Route {
    Route::new(target(), deployment(n, now), Handle::new(n.to_string()), Fence::from_u64(n))
}

fn claim(now: Timestamp) -> ClaimRequest {
    ClaimRequest::new(worker(), NonZeroU32::new(10).expect("not zero"), now).lease(TTL)
}

fn done(lease: &RunLease) -> FinishedRun {
    FinishedRun { run: lease.run, fence: lease.fence, outcome: RunOutcome::Done }
}

fn target() -> BackendName {
    BackendName::parse("target").expect("a backend's name")
}

/// Three commits, of 2, 3 and 1 events.
fn commits(n: u64, now: Timestamp, fence: Fence) -> [Commit; 3] {
    use DeploymentEvent as E;
    let id = deployment(n, now);
    let commit = |seq, events: Vec<E>| Commit::new(id, scope(), seq, events, now);
    let position = overskill_core::StreamPosition::start(overskill_core::Incarnation::from_u64(1));
    let requested = E::Requested {
        actor: Actor::System("victim".into()),
        source: DeploymentSource::Sources(position),
        env: EnvRevision(position),
        limits: Limits::default(),
        targets: vec![target()],
        owner: None,
        strategy: None,
    };
    let staging = E::Staging { target: target(), attempt: 1 };
    let activating = E::Activating { target: target(), fence };
    let ended = E::Ended { end: DeploymentEnd::Failed { reason: "swept".into() } };
    let take = LeaseChange::Take { holder: worker(), ttl: TTL, above: Fence::ZERO };
    [
        commit(0, vec![requested, E::Released]).lease(take),
        commit(2, vec![staging, activating, E::Unsettled { target: target() }])
            .lease(LeaseChange::Keep { fence, ttl: TTL }),
        commit(5, vec![ended]).lease(LeaseChange::Release { fence }),
    ]
}

async fn deploy(
    stores: &Stores,
    n: u64,
    now: Timestamp,
    say: impl Fn(&'static str, &'static str, u64) + Copy,
) -> Result<()> {
    let store = &stores.deployments;
    say("try", "deploy", n);
    let taken = store.commit(&commits(n, now, Fence::ZERO)[0]).await?;
    let fence = taken.lease.expect("a commit that takes the lease has it").fence;
    say("ack", "deploy", n);
    say("ack", "fence", fence.as_u64());
    let [_, keep, release] = commits(n, now, fence);
    store.commit(&keep).await?;
    say("ack", "keep", n);
    store.commit(&release).await?;
    say("ack", "end", n);
    Ok(())
}

/// What a writer said before it was killed: the highest number of each kind that was tried and acknowledged.
#[derive(Default, Debug)]
pub(crate) struct Said(BTreeMap<(String, String), u64>);

impl Said {
    /// Takes a line `try kind n` or `ack kind n`; others are left alone.
    pub(crate) fn hear(&mut self, line: &str) {
        let mut words = line.split(' ');
        if let (Some(what), Some(kind), Some(n), None) = (words.next(), words.next(), words.next(), words.next())
            && let Ok(n) = n.parse::<u64>()
        {
            let highest = self.0.entry((what.to_owned(), kind.to_owned())).or_default();
            *highest = n.max(*highest);
        }
    }

    fn highest(&self, what: &str, kind: &str) -> Option<u64> {
        self.0.get(&(what.to_owned(), kind.to_owned())).copied()
    }

    /// How many writes were acknowledged.
    pub(crate) fn acknowledged(&self, round: Round) -> u64 {
        let numbers = self.0.iter().filter(|((what, kind), _)| what == "ack" && kind != "fence" && kind != "claim");
        numbers.map(|(_, n)| n - round.after).sum()
    }

    /// Whether the last write of a kind that is there is one that may be there: at least the last acknowledged one, and
    /// one that was begun.
    fn allows(&self, kind: &str, round: Round, found: u64) {
        let acknowledged = self.highest("ack", kind).unwrap_or(0);
        assert!(found >= acknowledged, "{kind}: {acknowledged} was acknowledged, but the newest is {found}");
        let begun = self.highest("try", kind).unwrap_or(round.after);
        assert!(found <= begun, "{kind}: {found} is there, but only {begun} was begun");
    }
}

/// What must hold in the stores after the writer of `round` was killed. Cleans up after it, so that the next can begin.
pub(crate) async fn check(stores: &Stores, said: &Said, round: Round) -> Result<()> {
    let limit = NonZeroU32::new(1_000).expect("not zero");

    let snapshot = stores.files.snapshot(&scope()).await?;
    let contents: Vec<u64> = snapshot.files.values().map(|file| number(file.contents())).collect();
    if let Some(newest) = contents.first() {
        assert_eq!(contents, [*newest; PATHS.len()], "half a batch of files");
        said.allows("files", round, *newest);
    } else {
        assert_eq!(said.highest("ack", "files"), None, "acknowledged files are gone");
    }

    stores.audit.verify().await?;
    let mut after = None;
    let mut newest = 0;
    loop {
        let page = stores.audit.read(None, after, limit).await?;
        for record in &page.items {
            let n = number(record.entry.detail.as_bytes());
            assert!(n > newest, "audit: {n} after {newest}");
            assert!(n == newest + 1 || n % 1_000_000 == 1, "audit: a record is missing before {n}");
            newest = n;
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    said.allows("audit", round, newest);

    let revision = stores.env.current(&scope()).await?;
    let vars = stores.env.get(&scope(), revision).await?.values;
    let values: Vec<u64> = vars.values().map(|value| number(value.expose().as_bytes())).collect();
    if let Some(newest) = values.first() {
        assert_eq!(values, [*newest; 2], "half a revision");
        said.allows("env", round, *newest);
    } else {
        assert_eq!(said.highest("ack", "env"), None, "acknowledged variables are gone");
    }

    for n in round.after + 1..=said.highest("ack", "bundle").unwrap_or(round.after) {
        let artifact = artifact(n)?;
        let found = stores.bundles.get(&scope(), artifact.digest()).await?;
        assert_eq!(found.as_deref(), Some(&artifact), "artifact {n} was acknowledged");
    }
    let fence = stores.routes.fence(&scope()).await?;
    said.allows("route", round, fence.as_u64());
    let routed = stores.routes.get(&scope()).await?;
    if fence.as_u64() > round.after {
        assert_eq!(routed, Some(route(fence.as_u64(), round.now)), "half a route");
    }

    check_deployments(stores, said, round).await?;
    check_runs(stores, said, round).await
}

async fn check_deployments(stores: &Stores, said: &Said, round: Round) -> Result<()> {
    let store = &stores.deployments;
    let now = round.now;
    let begun = said.highest("try", "deploy").unwrap_or(round.after);
    let mut last = None;
    for n in round.after + 1..=begun {
        let events = store.events(deployment(n, now)).await?.len();
        assert!([0, 2, 5, 6].contains(&events), "deployment {n}: half a commit, {events} events");
        let acknowledged = [("deploy", 2), ("keep", 5), ("end", 6)]
            .into_iter()
            .filter_map(|(kind, events)| said.highest("ack", kind).filter(|acked| *acked >= n).map(|_| events));
        let promised = acknowledged.max().unwrap_or(0);
        assert!(events >= promised, "deployment {n}: {promised} events were acknowledged, but it has {events}");
        if events > 0 {
            last = Some((n, events));
        }
    }
    // Whoever was killed while it held the lease holds it until it expires, and then it is free under a higher fence.
    let lease = store.lease(&scope(), now).await?;
    if let Some((n, events)) = last {
        let holder = lease.as_ref().map(|lease| lease.deployment);
        let want = (events < 6).then(|| deployment(n, now));
        assert_eq!(holder, want, "deployment {n} has {events} events: who holds the lease");
    }
    let next = |at| {
        let take = LeaseChange::Take { holder: worker(), ttl: TTL, above: Fence::ZERO };
        Commit::new(deployment(round.after, at), scope(), 0, [], at).lease(take)
    };
    if lease.is_some() {
        let e = store.commit(&next(now)).await.expect_err("the lease is held");
        assert_eq!(e.kind(), ErrorKind::Conflict, "{e}");
    }
    let later = now.plus(TTL);
    let taken = store.commit(&next(later)).await?.lease.expect("a commit that takes the lease has it");
    let highest = said.highest("ack", "fence").unwrap_or(0).max(lease.map_or(0, |lease| lease.fence.as_u64()));
    assert!(taken.fence.as_u64() > highest, "fence {} after {highest}", taken.fence);
    let ended = DeploymentEvent::Ended { end: DeploymentEnd::Superseded { by: None } };
    let release = Commit::new(taken.deployment, scope(), 0, [ended], later);
    store.commit(&release.lease(LeaseChange::Release { fence: taken.fence })).await?;
    Ok(())
}

async fn check_runs(stores: &Stores, said: &Said, round: Round) -> Result<()> {
    let limit = NonZeroU32::new(100_000).expect("not zero");
    let records: BTreeMap<_, _> = match stores.runs.history(&scope(), &job(), limit).await {
        Ok(records) => records.into_iter().map(|record| (record.run, record)).collect(),
        Err(e) => return Err(e),
    };
    for n in round.after + 1..=said.highest("ack", "trigger").unwrap_or(round.after) {
        let state = records.get(&run_id(n, round.now)).map(|record| record.state);
        let is_done = said.highest("ack", "done").is_some_and(|done| done >= n);
        assert!(state.is_some(), "run {n} was acknowledged and is gone");
        assert!(!is_done || state == Some(RunState::Done), "run {n} was done and is {state:?}");
    }
    // What was claimed is nobody else's until the lease expires, and then it is another try under a higher fence.
    let open = records.values().filter(|record| matches!(record.state, RunState::Running | RunState::Waiting));
    let open: BTreeMap<_, _> = open.map(|record| (record.run, record.clone())).collect();
    for lease in stores.runs.claim(&claim(round.now)).await? {
        let state = open.get(&lease.run).map(|record| record.state);
        assert_eq!(state, Some(RunState::Waiting), "run {} was claimed by somebody else", lease.run);
    }
    let later = round.now.plus(TTL);
    let mut ended = 0;
    loop {
        let leases = stores.runs.claim(&claim(later)).await?;
        if leases.is_empty() {
            break;
        }
        for lease in &leases {
            let before = open.get(&lease.run).map_or(0, |record| u64::from(record.attempts));
            assert!(lease.fence.as_u64() > before, "run {}: fence {} after try {before}", lease.run, lease.fence);
        }
        let ends: Vec<_> = leases.iter().map(done).collect();
        let taken = stores.runs.finish(&ends, later).await?;
        assert!(taken.iter().all(|result| *result == FinishResult::Taken), "{taken:?}");
        ended += leases.len();
    }
    assert_eq!(ended, open.len(), "how many open runs there were to end");
    stores.runs.prune(later.plus(TTL)).await?;
    Ok(())
}

fn number(text: &[u8]) -> u64 {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).expect("a number that was written")
}
