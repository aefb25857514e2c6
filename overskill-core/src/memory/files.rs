use super::{NAME, Shared};
use crate::{
    AppFile, AppliedChanges, CatchUp, Changes, Error, FileMeta, FilePath, FileStore, Ids, Incarnation, Page, Readiness,
    Result, Scope, Snapshot, StoreInfo, StreamPosition, SystemIds,
};
use async_trait::async_trait;
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    num::NonZeroU32,
    ops::Bound,
};

/// Sources in memory. Clones share them.
#[derive(Clone, Debug)]
pub struct MemoryFiles {
    info: StoreInfo,
    incarnation: Incarnation,
    apps: Shared<HashMap<Scope, Sources>>,
}

struct Sources {
    position: StreamPosition,
    files: BTreeMap<FilePath, AppFile>,
    history: VecDeque<AppliedChanges>,
}

impl MemoryFiles {
    /// An empty store with the limits of [`StoreInfo::new`].
    pub fn new() -> Self {
        Self::with(&SystemIds, StoreInfo::new(NAME))
    }

    /// An empty store that says `info` of itself and keeps to it: its limits, and a history of exactly that length.
    pub fn with(ids: &dyn Ids, info: StoreInfo) -> Self {
        Self { info, incarnation: Incarnation::generate(ids), apps: Shared::default() }
    }
}

impl Default for MemoryFiles {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl FileStore for MemoryFiles {
    fn info(&self) -> StoreInfo {
        self.info.clone()
    }

    async fn check(&self) -> Result<Readiness> {
        Ok(Readiness::ready(self.info.name.clone()))
    }

    async fn get(&self, scope: &Scope, path: &FilePath) -> Result<Option<AppFile>> {
        Ok(self.apps.lock().get(scope).and_then(|sources| sources.files.get(path)).cloned())
    }

    async fn snapshot(&self, scope: &Scope) -> Result<Snapshot> {
        let apps = self.apps.lock();
        Ok(match apps.get(scope) {
            Some(sources) => Snapshot::new(sources.position, sources.files.clone()),
            None => Snapshot::new(StreamPosition::start(self.incarnation), BTreeMap::new()),
        })
    }

    async fn apply(
        &self,
        scope: &Scope,
        changes: &Changes,
        expected: Option<StreamPosition>,
    ) -> Result<StreamPosition> {
        if changes.is_empty() {
            let e = Error::invalid("changes must touch at least one file, but are empty");
            return Err(e.at(self.info.name.clone(), "apply"));
        }
        self.info.admit(changes)?;
        let mut apps = self.apps.lock();
        let start = StreamPosition::start(self.incarnation);
        let position = apps.get(scope).map_or(start, |sources| sources.position);
        if expected.is_some_and(|expected| expected != position) {
            let e = Error::conflict("the sources stand at another position: read them again");
            return Err(e.at(self.info.name.clone(), "apply").with("scope", scope).with("position", position));
        }
        let sources = apps.entry(scope.clone()).or_insert_with(|| Sources {
            position: start,
            files: BTreeMap::new(),
            history: VecDeque::new(),
        });
        changes.apply_to(&mut sources.files);
        sources.position = position.next();
        sources.history.push_back(AppliedChanges { position: sources.position, changes: changes.clone() });
        while sources.history.len() > self.info.history as usize {
            sources.history.pop_front();
        }
        Ok(sources.position)
    }

    async fn changes_since(&self, scope: &Scope, position: StreamPosition) -> Result<CatchUp<AppliedChanges>> {
        let apps = self.apps.lock();
        let Some(sources) = apps.get(scope) else {
            let at_start = position == StreamPosition::start(self.incarnation);
            return Ok(if at_start { CatchUp::Entries(Vec::new()) } else { CatchUp::Gone });
        };
        let kept = sources.history.len();
        Ok(match position.behind(sources.position).and_then(|behind| usize::try_from(behind).ok()) {
            Some(behind) if behind <= kept => {
                CatchUp::Entries(sources.history.range(kept - behind..).cloned().collect())
            }
            _ => CatchUp::Gone,
        })
    }

    async fn list(
        &self,
        scope: &Scope,
        after: Option<FilePath>,
        limit: NonZeroU32,
    ) -> Result<Page<FileMeta, FilePath>> {
        let limit = limit.get() as usize;
        let apps = self.apps.lock();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let files =
            apps.get(scope).into_iter().flat_map(|sources| sources.files.range((from.clone(), Bound::Unbounded)));
        let meta = |(path, file): (&FilePath, &AppFile)| FileMeta {
            path: path.clone(),
            digest: file.digest(),
            size_bytes: file.size_bytes(),
        };
        let items = files.take(limit.saturating_add(1)).map(meta).collect();
        Ok(Page::cut(items, limit, |meta: &FileMeta| meta.path.clone()))
    }
}
