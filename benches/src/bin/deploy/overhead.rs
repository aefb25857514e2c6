//! What the service adds to a deploy: on SQLite with every commit on disk, against the same commits through sqlx alone and
//! the same calls of the target.
//!
//! What the peer commits, the service has said before: a rehearsal with stores in memory writes it down.

use async_trait::async_trait;
use overskill_benches::{
    Bench, Figure, Goal, OneCore, Outcome, PreparedCommit, Reading, Turns, commit_on_sqlite,
    deploys::{deploy, parts, scope, wanted},
    interleave, nanos_each,
    statements::SET_ROUTE,
};
use overskill_core::{
    Artifact, Commit, Committed, DeployLease, DeployRequest, DeploymentId, DeploymentStore, DeploymentSummary,
    DeploymentTarget, Deployments, DeploymentsParts, EnvRevision, EnvSnapshot, Fence, FilePath, Incarnation, Page,
    Readiness, RecordedEvent, Result, Route, RouteTable, Scope, StreamPosition, Timestamp,
    memory::{MemoryBackends, MemoryDeployments, MemoryRoutes},
};
use overskill_sql::{SqliteOptions, SqliteStores};
use sqlx::{
    ConnectOptions as _, SqliteConnection, query,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};
use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

const CASE: &str = "SQLite, synchronous = FULL: a deploy without gates";
const TIME: Figure = Figure::shown(CASE, "time", "µs", "sqlx and the target").goal(Goal::AtMost(1.3));
const COMMITS: Figure = Figure::shown(CASE, "commits", "", "limit").goal(Goal::AtMost(1.0));
const ROUTES: Figure = Figure::shown(CASE, "routes set", "", "limit").goal(Goal::AtMost(1.0));

pub(crate) const FIGURES: [Figure; 3] = [TIME, COMMITS, ROUTES];

/// Several heats, each from new databases on. Service, target and peer share a core: which threads do is up to the scheduler
/// otherwise, and decides more than what is measured.
pub(crate) fn measure(bench: &mut Bench) -> Outcome<()> {
    let one_core = OneCore::keep();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut heats = Vec::new();
    let (mut commits, mut routes) = (0, 0);
    for _ in 0..bench.size(7, 1) {
        let turns;
        (turns, commits, routes) = runtime.block_on(heat(bench))?;
        heats.push(turns);
    }
    drop((runtime, one_core));
    bench.show(&TIME, Turns::of_heats(heats).compare(0, 1));
    bench.show(&COMMITS, Reading::limited(f64::from(u32::try_from(commits)?), 4.0));
    bench.show(&ROUTES, Reading::limited(f64::from(u32::try_from(routes)?), 1.0));
    Ok(())
}

/// The times of both, and how often a deploy commits and sets a route.
async fn heat(bench: &Bench) -> Outcome<(Turns<2>, usize, usize)> {
    let folder = tempfile::tempdir()?;
    let ours = SqliteStores::open(folder.path().join("ours.db"), SqliteOptions::new()).await?;
    let bare = folder.path().join("bare.db");
    SqliteStores::open(&bare, SqliteOptions::new()).await?.close().await?;
    let mut bare = bare_connection(&bare).await?;
    let next = AtomicU32::new(0);
    let times = bench.size(50_u32, 5);
    let (mut commits, mut routes) = (0, 0);
    let turns: Turns<2> = interleave(bench.size(12, 3), async |who| {
        let scopes = (0..times).map(|_| scope(next.fetch_add(1, Ordering::Relaxed)));
        let scopes = scopes.collect::<Outcome<Vec<_>>>()?;
        let memory = MemoryBackends::new();
        if who == 0 {
            return by_service(&memory, &ours, scopes).await;
        }
        let rehearsed = rehearse(&memory, scopes).await?;
        (commits, routes) = (rehearsed[0].commits.len(), rehearsed[0].routes.len());
        by_hand(&MemoryBackends::new(), &mut bare, rehearsed).await
    })
    .await?;
    Ok((turns, commits, routes))
}

async fn by_service(memory: &MemoryBackends, stores: &SqliteStores, scopes: Vec<Scope>) -> Outcome<f64> {
    let (store, routes) = (Arc::new(stores.deployments()), Arc::new(stores.routes()));
    let service = Deployments::new(DeploymentsParts { store, routes, ..parts(memory) });
    let (mut all, times) = (Vec::new(), u32::try_from(scopes.len())?);
    for scope in scopes {
        all.push(wanted(memory, scope).await?);
    }
    let start = Instant::now();
    for new in all {
        deploy(&service, new).await?;
    }
    Ok(nanos_each(start.elapsed(), times) / 1e3)
}

/// What the peer does for one deploy.
struct Rehearsed {
    commits: Vec<PreparedCommit>,
    routes: Vec<(Scope, Route)>,
    request: DeployRequest,
}

async fn rehearse(memory: &MemoryBackends, scopes: Vec<Scope>) -> Outcome<Vec<Rehearsed>> {
    let heard = Heard::default();
    let store = Arc::new(Rehearsal { inner: memory.deployments.clone(), heard: heard.clone() });
    let routes = Arc::new(RoutesRehearsal { inner: memory.routes.clone(), heard: heard.clone() });
    let service = Deployments::new(DeploymentsParts { store, routes, ..parts(memory) });
    let artifact = Arc::new(Artifact::of_assets([(FilePath::parse("index.html")?, "hello".to_owned().into())])?);
    let revision = EnvRevision(StreamPosition::start(Incarnation::from_u64(1)));
    let env = Arc::new(EnvSnapshot { revision, values: BTreeMap::new() });
    let mut all = Vec::new();
    for scope in scopes {
        let id = deploy(&service, wanted(memory, scope.clone()).await?).await?;
        let commits = std::mem::take(&mut *heard.commits.lock().expect("nobody panics with it"));
        let routes = std::mem::take(&mut *heard.routes.lock().expect("nobody panics with it"));
        let commits = commits.into_iter().map(PreparedCommit::of).collect::<Outcome<_>>()?;
        let request = DeployRequest::new(id, scope, artifact.clone(), env.clone());
        all.push(Rehearsed { commits, routes, request });
    }
    Ok(all)
}

async fn by_hand(memory: &MemoryBackends, on: &mut SqliteConnection, all: Vec<Rehearsed>) -> Outcome<f64> {
    let times = u32::try_from(all.len())?;
    let start = Instant::now();
    for it in &all {
        let staged = memory.target.stage(&it.request).await?;
        memory.target.activate(&it.request, &staged, Fence::from_u64(1)).await?;
        for commit in &it.commits {
            commit_on_sqlite(on, commit).await?;
        }
        for (scope, route) in &it.routes {
            let set = query(SET_ROUTE)
                .bind(scope.app.as_str())
                .bind(scope.environment.as_str())
                .bind(route.target.as_str())
                .bind(route.deployment.to_string())
                .bind(&route.handle.reference)
                .bind(route.handle.url.as_ref().map(ToString::to_string))
                .bind(i64::try_from(route.fence.as_u64())?);
            set.execute(&mut *on).await?;
        }
    }
    Ok(nanos_each(start.elapsed(), times) / 1e3)
}

async fn bare_connection(path: &std::path::Path) -> Outcome<SqliteConnection> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(5))
        .statement_cache_capacity(200)
        .disable_statement_logging();
    Ok(options.connect().await?)
}

/// What the service said to its stores.
#[derive(Clone, Debug, Default)]
struct Heard {
    commits: Arc<Mutex<Vec<Commit>>>,
    routes: Arc<Mutex<Vec<(Scope, Route)>>>,
}

#[derive(Debug)]
struct Rehearsal {
    inner: MemoryDeployments,
    heard: Heard,
}

#[async_trait]
impl DeploymentStore for Rehearsal {
    async fn check(&self) -> Result<Readiness> {
        self.inner.check().await
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed> {
        self.heard.commits.lock().expect("nobody panics with it").push(commit.clone());
        self.inner.commit(commit).await
    }

    async fn events(&self, id: DeploymentId) -> Result<Vec<RecordedEvent>> {
        self.inner.events(id).await
    }

    async fn scope_of(&self, id: DeploymentId) -> Result<Option<Scope>> {
        self.inner.scope_of(id).await
    }

    async fn lease(&self, scope: &Scope, now: Timestamp) -> Result<Option<DeployLease>> {
        self.inner.lease(scope, now).await
    }

    async fn pending(&self, now: Timestamp, limit: NonZeroU32) -> Result<Vec<DeploymentSummary>> {
        self.inner.pending(now, limit).await
    }

    async fn list(
        &self,
        scope: &Scope,
        before: Option<DeploymentId>,
        limit: NonZeroU32,
    ) -> Result<Page<DeploymentSummary, DeploymentId>> {
        self.inner.list(scope, before, limit).await
    }
}

#[derive(Debug)]
struct RoutesRehearsal {
    inner: MemoryRoutes,
    heard: Heard,
}

#[async_trait]
impl RouteTable for RoutesRehearsal {
    fn staleness(&self) -> Duration {
        self.inner.staleness()
    }

    async fn check(&self) -> Result<Readiness> {
        self.inner.check().await
    }

    async fn get(&self, scope: &Scope) -> Result<Option<Route>> {
        self.inner.get(scope).await
    }

    async fn set(&self, scope: &Scope, route: &Route) -> Result<()> {
        self.heard.routes.lock().expect("nobody panics with it").push((scope.clone(), route.clone()));
        self.inner.set(scope, route).await
    }

    async fn clear(&self, scope: &Scope, fence: Fence) -> Result<()> {
        self.inner.clear(scope, fence).await
    }

    async fn fence(&self, scope: &Scope) -> Result<Fence> {
        self.inner.fence(scope).await
    }
}
