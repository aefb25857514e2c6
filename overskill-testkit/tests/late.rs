//! Backends that are right but late: what they declare to show after a while, they show after a while, and until then now
//! the new and now the old. They keep every rule. One that is later than it says does not.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use async_trait::async_trait;
use overskill_core::{
    AppFile, AppliedChanges, Artifact, BackendName, CatchUp, Changes, Consistency, DeployRequest, DeploymentId,
    DeploymentTarget, Fence, FileMeta, FilePath, FileStore, Handle, IdsExt, Observed, Page, Readiness, Removal, Result,
    Route, RouteTable, Scope, SeededIds, Snapshot, Staged, StoreInfo, StreamPosition, SystemIds, TargetInfo,
    TargetStatus,
    memory::{MemoryFiles, MemoryRoutes, MemoryTarget},
};
use overskill_testkit::{
    DeploymentTargetFixture, FileStoreFixture, RouteTableFixture, TargetOutside,
    report::{self, Outcome},
    suites,
};
use std::{
    collections::{BTreeMap, HashMap},
    fmt::Debug,
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

const LATE: Duration = Duration::from_millis(40);

/// What was true of each scope, and since when. A look sees what was true at some moment not longer ago than `late`.
#[derive(Debug)]
struct Past<T> {
    late: Duration,
    ids: SeededIds,
    states: Mutex<HashMap<Scope, Vec<(Instant, T)>>>,
    /// Held while something changes, so that the states come in the order of the changes.
    turn: tokio::sync::Mutex<()>,
}

impl<T: Clone> Past<T> {
    fn new(late: Duration) -> Self {
        Self { late, ids: SeededIds::new(1), states: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    fn now_is(&self, scope: &Scope, state: T) {
        self.states.lock().unwrap().entry(scope.clone()).or_default().push((Instant::now(), state));
    }

    /// Every state up to the moment that is looked at, oldest first.
    fn seen(&self, scope: &Scope) -> Vec<T> {
        let back = self.ids.jitter(self.late);
        let states = self.states.lock().unwrap();
        let known = states.get(scope).into_iter().flatten().take_while(|(since, _)| since.elapsed() >= back);
        known.map(|(_, state)| state.clone()).collect()
    }
}

#[derive(Debug)]
struct LateFiles {
    truth: MemoryFiles,
    declares: Duration,
    past: Past<AppliedChanges>,
}

impl LateFiles {
    fn new(declares: Duration, late: Duration) -> Self {
        let info = StoreInfo::new("late").max_file_bytes(1 << 16).max_changes(NonZeroU32::new(600).unwrap());
        Self { truth: MemoryFiles::with(&SystemIds, info.history(64)), declares, past: Past::new(late) }
    }

    async fn seen(&self, scope: &Scope) -> Result<(StreamPosition, BTreeMap<FilePath, AppFile>, Vec<AppliedChanges>)> {
        let entries = self.past.seen(scope);
        let start = StreamPosition::start(self.truth.snapshot(scope).await?.position.incarnation);
        let mut files = BTreeMap::new();
        for entry in &entries {
            entry.changes.apply_to(&mut files);
        }
        Ok((entries.last().map_or(start, |entry| entry.position), files, entries))
    }
}

#[async_trait]
impl FileStore for LateFiles {
    fn info(&self) -> StoreInfo {
        self.truth.info().consistency(Consistency::Eventual(self.declares))
    }

    async fn check(&self) -> Result<Readiness> {
        self.truth.check().await
    }

    async fn get(&self, scope: &Scope, path: &FilePath) -> Result<Option<AppFile>> {
        Ok(self.seen(scope).await?.1.remove(path))
    }

    async fn snapshot(&self, scope: &Scope) -> Result<Snapshot> {
        let (position, files, _) = self.seen(scope).await?;
        Ok(Snapshot::new(position, files))
    }

    async fn apply(
        &self,
        scope: &Scope,
        changes: &Changes,
        expected: Option<StreamPosition>,
    ) -> Result<StreamPosition> {
        let _turn = self.past.turn.lock().await;
        let position = self.truth.apply(scope, changes, expected).await?;
        self.past.now_is(scope, AppliedChanges { position, changes: changes.clone() });
        Ok(position)
    }

    async fn changes_since(&self, scope: &Scope, position: StreamPosition) -> Result<CatchUp<AppliedChanges>> {
        let (head, _, mut entries) = self.seen(scope).await?;
        let Some(behind) = position.behind(head) else { return Ok(CatchUp::Gone) };
        let first = entries.len() - usize::try_from(behind).unwrap();
        Ok(CatchUp::Entries(entries.split_off(first)))
    }

    async fn list(
        &self,
        scope: &Scope,
        after: Option<FilePath>,
        limit: NonZeroU32,
    ) -> Result<Page<FileMeta, FilePath>> {
        let limit = limit.get() as usize;
        let (_, files, _) = self.seen(scope).await?;
        let beyond = files.into_iter().filter(|(path, _)| after.as_ref().is_none_or(|after| path > after));
        let meta = |(path, file): (_, AppFile)| FileMeta { path, digest: file.digest(), size_bytes: file.size_bytes() };
        let items = beyond.take(limit.saturating_add(1)).map(meta).collect();
        Ok(Page::cut(items, limit, |meta: &FileMeta| meta.path.clone()))
    }
}

fn files(declares: Duration, late: Duration) -> FileStoreFixture {
    let files: Arc<dyn FileStore> = Arc::new(LateFiles::new(declares, late));
    let again = files.clone();
    FileStoreFixture::new(files).reopen(move || std::future::ready(again.clone()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_file_store_keeps_every_rule() {
    let report = report::run(&suites::files::V1, "late", &[], async || files(LATE, LATE)).await;
    assert!(report.conforms(), "{}", report.to_markdown());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_store_that_is_later_than_it_says_is_found() {
    let late = Duration::from_secs(3);
    let report = report::run(&suites::files::V1, "later", &[], async || files(LATE, late)).await;
    for case in ["a_put_replaces", "a_delete_removes", "changes_since_is_exact_and_in_order"] {
        let case = report.cases.iter().find(|c| c.name == case).unwrap();
        assert_eq!(case.outcome, Outcome::Failed, "{}", report.to_markdown());
    }
}

#[derive(Debug)]
struct LateRoutes {
    truth: MemoryRoutes,
    past: Past<Option<Route>>,
}

#[async_trait]
impl RouteTable for LateRoutes {
    fn staleness(&self) -> Duration {
        LATE
    }

    async fn check(&self) -> Result<Readiness> {
        self.truth.check().await
    }

    async fn get(&self, scope: &Scope) -> Result<Option<Route>> {
        Ok(self.past.seen(scope).pop().flatten())
    }

    async fn set(&self, scope: &Scope, route: &Route) -> Result<()> {
        let _turn = self.past.turn.lock().await;
        self.truth.set(scope, route).await?;
        self.past.now_is(scope, Some(route.clone()));
        Ok(())
    }

    async fn clear(&self, scope: &Scope, fence: Fence) -> Result<()> {
        let _turn = self.past.turn.lock().await;
        self.truth.clear(scope, fence).await?;
        self.past.now_is(scope, None);
        Ok(())
    }

    async fn fence(&self, scope: &Scope) -> Result<Fence> {
        self.truth.fence(scope).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_route_table_keeps_every_rule() {
    let fixture = async || {
        let routes: Arc<dyn RouteTable> = Arc::new(LateRoutes { truth: MemoryRoutes::new(), past: Past::new(LATE) });
        let again = routes.clone();
        RouteTableFixture::new(routes).reopen(move || std::future::ready(again.clone()))
    };
    let report = report::run(&suites::routes::V1, "late", &[], fixture).await;
    assert!(report.conforms(), "{}", report.to_markdown());
}

/// What a target had in a scope.
#[derive(Clone, Debug)]
struct Site {
    all: Vec<Observed>,
    live: Option<(DeploymentId, Fence, Handle, Arc<Artifact>)>,
}

/// Takes what it is told at once, and shows it late: as a provider does whose edge learns of it by and by.
#[derive(Debug)]
struct LateTarget {
    truth: MemoryTarget,
    past: Past<Site>,
}

impl LateTarget {
    async fn changed(&self, scope: &Scope) -> Result<()> {
        let all = self.truth.observe(scope).await?;
        let mut live = None;
        if let Some((id, fence, artifact)) = self.truth.serving(scope)
            && let TargetStatus::Landed(handle) = self.truth.status(scope, id, fence).await?
        {
            live = Some((id, fence, handle, artifact));
        }
        self.past.now_is(scope, Site { all, live });
        Ok(())
    }

    fn live(&self, scope: &Scope) -> Option<(DeploymentId, Fence, Handle, Arc<Artifact>)> {
        self.past.seen(scope).pop().and_then(|site| site.live)
    }
}

#[async_trait]
impl DeploymentTarget for LateTarget {
    fn info(&self) -> TargetInfo {
        self.truth.info()
    }

    async fn check(&self) -> Result<Readiness> {
        self.truth.check().await
    }

    async fn stage(&self, request: &DeployRequest) -> Result<Staged> {
        let _turn = self.past.turn.lock().await;
        let staged = self.truth.stage(request).await?;
        self.changed(request.scope()).await?;
        Ok(staged)
    }

    async fn activate(&self, request: &DeployRequest, staged: &Staged, fence: Fence) -> Result<Handle> {
        let _turn = self.past.turn.lock().await;
        let handle = self.truth.activate(request, staged, fence).await?;
        self.changed(request.scope()).await?;
        Ok(handle)
    }

    async fn status(&self, scope: &Scope, id: DeploymentId, fence: Fence) -> Result<TargetStatus> {
        Ok(match self.live(scope) {
            Some((live, under, handle, _)) if live == id && under == fence => TargetStatus::Landed(handle),
            Some((_, under, ..)) if under > fence => TargetStatus::Superseded,
            _ => TargetStatus::Absent,
        })
    }

    async fn observe(&self, scope: &Scope) -> Result<Vec<Observed>> {
        Ok(self.past.seen(scope).pop().map(|site| site.all).unwrap_or_default())
    }

    async fn remove(&self, scope: &Scope, removal: Removal) -> Result<()> {
        let _turn = self.past.turn.lock().await;
        self.truth.remove(scope, removal).await?;
        self.changed(scope).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_target_keeps_every_rule() {
    let fixture = async || {
        let truth = MemoryTarget::new(BackendName::parse("late").unwrap());
        let target = Arc::new(LateTarget { truth, past: Past::new(LATE) });
        let (seen, again) = (target.clone(), target.clone());
        let outside = TargetOutside::new().settles_within(LATE).serving(move |scope, path| {
            let asset = seen.live(&scope).and_then(|(.., artifact)| artifact.assets().get(&path).cloned());
            async move { Ok(asset.map(|file| file.contents().clone())) }
        });
        DeploymentTargetFixture::with(target, outside).reopen(move || {
            let again: Arc<dyn DeploymentTarget> = again.clone();
            async { again }
        })
    };
    let report = report::run(&suites::target::V1, "late", &[], fixture).await;
    assert!(report.conforms(), "{}", report.to_markdown());
}
