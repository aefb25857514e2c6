//! What the strategy takes for one try at a target: the time between the calls of its seams.
//!
//! The service runs deployments whose seams are watched. From the moment that the lease was committed until the route is
//! set, whatever is not inside a call of a seam is the service's own. Next to it, the same calls with the same arguments
//! are written out by hand: events, commits, progress and all, but without anything to decide. The difference is the
//! strategy: which target, whether it takes the request, tries, timers, time limits, and what to do with the answer.

use crate::{LIMIT, service, under_limit};
use overskill_benches::{Bench, Figure, Outcome, Turns, deploys, interleave, nanos_each};
use overskill_core::{
    Actor, Around, Artifact, Commit, DeployRequest, DeploymentEvent, DeploymentId, DeploymentSource, DeploymentStore,
    DeploymentStrategy, DeploymentTarget, Deployments, DeploymentsParts, EnvStore, Fence, FilePath, Incarnation,
    LeaseChange, Limits, Operation, Policy, Progress, ProgressEvent, ProgressSink, Result, Route, RouteTable, Scope,
    StreamPosition, WorkerName,
    memory::{MemoryBackends, MemoryDeployments, MemoryEnv, MemoryProgress, MemoryRoutes, MemoryTarget},
};
use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

const ADDED: Figure = under_limit("strategy: a try that succeeds", "added to the same calls by hand");
const WHOLE: Figure = Figure::shown("service: a try that succeeds", "time outside of its seams", "ns", "by hand");

pub(crate) const FIGURES: [Figure; 2] = [ADDED, WHOLE];

pub(crate) async fn measure(bench: &mut Bench) -> Outcome<()> {
    // Few deployments to a turn, so that most turns are not interrupted by another program.
    let (turns, times) = bench.size((500, 4), (20, 4));
    let turns: Turns<2> = interleave(turns, async |who| {
        let watched = Watched::new();
        match who {
            0 => watched.by_service(times).await?,
            _ => watched.by_hand(times).await?,
        }
        let seen = watched.watch.seen();
        let gaps = f64::from(seen.gaps) / f64::from(times);
        Ok(nanos_each(seen.spent, times) - gaps * Watch::cost_of_a_gap())
    })
    .await?;
    bench.show(&ADDED, turns.added(0, 1, LIMIT));
    bench.show(&WHOLE, turns.compare(0, 1));
    Ok(())
}

/// Every seam that a try calls, under one watch.
struct Watched {
    memory: MemoryBackends,
    watch: Watch,
    store: Arc<Around<MemoryDeployments, Watch>>,
    routes: Arc<Around<MemoryRoutes, Watch>>,
    env: Arc<Around<MemoryEnv, Watch>>,
    progress: Arc<WatchedSink<MemoryProgress>>,
    target: Arc<Around<MemoryTarget, Watch>>,
}

impl Watched {
    fn new() -> Self {
        let (watch, memory) = (Watch::default(), MemoryBackends::new());
        Self {
            store: Arc::new(watch.around(memory.deployments.clone())),
            routes: Arc::new(watch.around(memory.routes.clone())),
            env: Arc::new(watch.around(memory.env.clone())),
            progress: Arc::new(WatchedSink { sink: memory.progress.clone(), watch: watch.clone() }),
            target: Arc::new(watch.around(memory.target.clone())),
            watch,
            memory,
        }
    }

    async fn by_service(&self, times: u32) -> Outcome<()> {
        let strategy = DeploymentStrategy::prefer(self.target.clone());
        let deployments = Deployments::new(DeploymentsParts {
            store: self.store.clone(),
            routes: self.routes.clone(),
            env: self.env.clone(),
            progress: self.progress.clone(),
            strategy,
            ..deploys::parts(&self.memory)
        });
        service::deploy(&self.memory, &deployments, times).await?;
        Ok(())
    }

    async fn by_hand(&self, times: u32) -> Outcome<()> {
        let artifact = Artifact::of_assets([(FilePath::parse("index.html")?, "hello".to_owned().into())])?;
        let (artifact, holder) = (Arc::new(artifact), WorkerName::parse("w-1")?);
        for n in 0..times {
            self.try_by_hand(deploys::scope(n)?, artifact.clone(), holder.clone()).await?;
        }
        Ok(())
    }

    /// The calls of `Deployments` for a try that succeeds, from the first look at the target on.
    async fn try_by_hand(&self, scope: Scope, artifact: Arc<Artifact>, holder: WorkerName) -> Outcome<()> {
        let Self { memory, .. } = self;
        let (store, routes): (&dyn DeploymentStore, &dyn RouteTable) = (&*self.store, &*self.routes);
        let (env, target): (&dyn EnvStore, &dyn DeploymentTarget) = (&*self.env, &*self.target);
        let (clock, id) = (&memory.clock, DeploymentId::generate(&*memory.ids, memory.clock.now()));
        let progress = Progress::of_deployment(self.progress.clone(), clock.clone(), &scope, id);
        let (name, ttl) = (target.info().name, Duration::from_mins(1));
        let revision = env.current(&scope).await?;
        let requested = DeploymentEvent::Requested {
            actor: Actor::system("bench"),
            source: DeploymentSource::Sources(StreamPosition::start(Incarnation::from_u64(1))),
            env: revision,
            limits: Limits::default(),
            targets: vec![name.clone()],
            owner: None,
            strategy: None,
        };
        let commit = |seq, events: Vec<DeploymentEvent>, lease| {
            Commit::new(id, scope.clone(), seq, events.iter().cloned(), clock.now()).lease(lease)
        };
        store.commit(&commit(0, vec![requested], LeaseChange::None)).await?;
        target.observe(&scope).await?;
        let take = LeaseChange::Take { holder: holder.clone(), ttl, above: Fence::ZERO };
        let taken = store.commit(&commit(1, vec![], take)).await?;

        let fence = taken.lease.ok_or("no lease")?.fence;
        let keep = || LeaseChange::Keep { fence, ttl };
        let leased = DeploymentEvent::Leased { above: fence, holder };
        let request = DeployRequest::new(id, scope.clone(), artifact, Arc::new(env.get(&scope, revision).await?))
            .progress_to(progress.clone());
        progress.at(40, "staging", "Uploading");
        let staging = DeploymentEvent::Staging { target: name.clone(), attempt: 1 };
        store.commit(&commit(1, vec![leased, staging], keep())).await?;
        let staged = target.stage(&request).await?;
        progress.at(60, "activating", format!("Activating on {name}"));
        let done = DeploymentEvent::Staged { target: name.clone(), staged: staged.clone() };
        let activating = DeploymentEvent::Activating { target: name.clone(), fence };
        store.commit(&commit(3, vec![done, activating], keep())).await?;
        let handle = target.activate(&request, &staged, fence).await?;
        let activated = DeploymentEvent::Activated { target: name.clone(), handle: handle.clone() };
        let routing = DeploymentEvent::Routing { target: name.clone(), fence };
        store.commit(&commit(5, vec![activated, routing], keep())).await?;
        let route = Route::new(name, id, handle, fence);
        Ok(routes.set(&scope, &route).await?)
    }
}

/// Adds up the time between the calls of what it is around. Clones share it.
#[derive(Clone, Debug, Default)]
struct Watch(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    /// The next commit is the one that takes the lease.
    asked_for_fences: bool,
    /// A try is on.
    on: bool,
    /// When the last call ended, if a try was on.
    left: Option<Instant>,
    spent: Duration,
    gaps: u32,
}

impl Watch {
    fn around<S>(&self, seam: S) -> Around<S, Self> {
        Around::with_policy(seam, self.clone())
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().expect("no holder of the watch panics")
    }

    /// A call begins: what came before it was the strategy.
    fn enter(&self) {
        let now = Instant::now();
        let mut seen = self.seen();
        if let Some(left) = seen.left.take() {
            seen.spent += now - left;
            seen.gaps += 1;
        }
    }

    /// A call of `operation` ended.
    fn leave(&self, operation: &str) {
        let mut seen = self.seen();
        let on = match operation {
            "observe" => {
                seen.asked_for_fences = true;
                false
            }
            "commit" => std::mem::take(&mut seen.asked_for_fences) || seen.on,
            "set" => false,
            _ => seen.on,
        };
        seen.on = on;
        seen.left = on.then(Instant::now);
    }

    /// What the watch shows for a gap in which nothing happens, in nanoseconds.
    fn cost_of_a_gap() -> f64 {
        const TIMES: u32 = 1_000;
        let watch = Self::default();
        watch.seen().on = true;
        for _ in 0..TIMES {
            watch.leave("stage");
            watch.enter();
        }
        let spent = watch.seen().spent;
        nanos_each(spent, TIMES)
    }
}

impl Policy for Watch {
    async fn run<'a, T, F, Fut>(&'a self, operation: Operation, mut call: F) -> Result<T>
    where
        T: Send + 'a,
        F: FnMut() -> Fut + Send + 'a,
        Fut: Future<Output = Result<T>> + Send + 'a,
    {
        self.enter();
        let done = call().await;
        self.leave(operation.name);
        done
    }
}

#[derive(Debug)]
struct WatchedSink<S> {
    sink: S,
    watch: Watch,
}

impl<S: ProgressSink> ProgressSink for WatchedSink<S> {
    fn emit(&self, event: ProgressEvent) {
        self.watch.enter();
        self.sink.emit(event);
        self.watch.leave("emit");
    }
}
