//! A folder as an app's sources, and what changes in it.

mod scan;
mod settle;

pub use scan::{FolderContents, Skipped, read_folder};

use crate::disk::{self, blocking};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _, event::AccessKind};
use overskill_build::compiler::Compiler;
use overskill_core::{AppFile, Changes, Clock, Error, ErrorKind, FilePath, Result, SystemClock};
use scan::Tree;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::Notify;

/// How long files that do not fit together yet are waited for.
const SETTLE_WITHIN: Duration = Duration::from_millis(20);

/// How long an emptied file may take to be written again, as some editors do it: as long as Vite waits for it.
const WRITTEN_WITHIN: Duration = Duration::from_millis(100);

/// How often everything is looked through where the system does not tell.
const POLL_EVERY: Duration = Duration::from_millis(500);

/// Tells what changes in a folder, as [`Changes`] of an app's sources.
///
/// A change is told at once when what was changed fits together: it compiles, and what it imports by a relative path or by
/// `@/` is there. When it does not, or when a file is gone (half of a rename), somebody is probably writing several files, and
/// it waits up to 20 ms for the rest. What is told is never told again, and nothing is lost when a call is dropped.
///
/// It leaves out what [`read_folder`] leaves out. Where the system has no room for more watches (large trees on Linux), it
/// looks through the folder twice a second.
pub struct FolderWatcher {
    state: Arc<Mutex<State>>,
    dirty: Arc<Dirty>,
    compiler: Compiler,
    clock: Arc<dyn Clock>,
    polls: bool,
}

struct State {
    tree: Tree,
    /// `None` where the folder is looked through instead.
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    /// What was read and not told yet.
    pending: BTreeMap<FilePath, overskill_core::Change>,
}

/// What the system told of.
#[derive(Default)]
struct Dirty {
    paths: Mutex<Marked>,
    told: Notify,
}

#[derive(Default)]
struct Marked {
    paths: BTreeSet<PathBuf>,
    /// Everything has to be looked at.
    all: bool,
    /// Something was missed: everything has to be read, as a file's time and size may be those of before.
    missed: bool,
}

impl FolderWatcher {
    /// Reads the folder and watches it from then on. `compiler` says what fits together; it is the previews' own, so that
    /// what it has compiled need not be compiled again.
    pub async fn start(folder: impl Into<PathBuf>, compiler: Compiler) -> Result<(Self, FolderContents)> {
        Self::start_with(folder, compiler, Arc::new(SystemClock)).await
    }

    /// The same, with time from another clock.
    pub async fn start_with(
        folder: impl Into<PathBuf>,
        compiler: Compiler,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, FolderContents)> {
        let folder = folder.into();
        let dirty = Arc::new(Dirty::default());
        let marks = dirty.clone();
        let (state, contents) = blocking(move || {
            let tree = Tree::open(&folder)?;
            let watcher = notify::recommended_watcher(move |event| marks.mark(event)).ok();
            let mut state = State { tree, watcher, watched: BTreeSet::new(), pending: BTreeMap::new() };
            // Watched first, then read: what changes in between is read twice rather than missed.
            let folders = state.tree.folders()?;
            state.watch(&folders, &[]);
            state.tree.rescan()?;
            let contents = state.tree.contents();
            Ok((state, contents))
        })
        .await?;
        let polls = state.watcher.is_none();
        Ok((Self { state: Arc::new(Mutex::new(state)), dirty, compiler, clock, polls }, contents))
    }

    /// Waits for the next change.
    pub async fn next(&mut self) -> Result<Changes> {
        loop {
            if self.collect().await? {
                self.settle().await?;
                let mut state = self.state.lock().expect("nobody panics with this lock");
                let changes: Changes = std::mem::take(&mut state.pending).into_iter().collect();
                if !changes.is_empty() {
                    return Ok(changes);
                }
            }
            self.told().await;
        }
    }

    /// Waits for the rest of what is being written: most often a file that was just emptied, whose text is already on its way.
    async fn settle(&self) -> Result<()> {
        if self.is_settled() {
            return Ok(());
        }
        let mut over = self.clock.sleep(self.patience());
        loop {
            tokio::select! {
                () = &mut over => return self.collect().await.map(drop),
                () = self.dirty.told.notified() => {
                    self.collect().await?;
                    if self.is_settled() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// The files as they were told last.
    pub fn files(&self) -> BTreeMap<FilePath, AppFile> {
        self.state.lock().expect("nobody panics with this lock").tree.contents().files
    }

    /// Waits until something was told of that was not read yet.
    async fn told(&mut self) {
        let polls = self.polls || self.state.lock().expect("nobody panics with this lock").watcher.is_none();
        if polls {
            tokio::select! {
                () = self.dirty.told.notified() => {}
                () = self.clock.sleep(POLL_EVERY) => {
                    self.dirty.paths.lock().expect("nobody panics with this lock").all = true;
                }
            }
        } else {
            self.dirty.told.notified().await;
        }
    }

    /// Reads what was told of; whether anything is there to be told on.
    async fn collect(&self) -> Result<bool> {
        let (state, dirty) = (self.state.clone(), self.dirty.clone());
        blocking(move || {
            let mut state = state.lock().expect("nobody panics with this lock");
            let marked = std::mem::take(&mut *dirty.paths.lock().expect("nobody panics with this lock"));
            let root = state.tree.root().to_owned();
            let told = marked.paths.iter().filter(|path| path.is_dir()).map(PathBuf::as_path);
            let again: Vec<_> = if marked.missed { vec![root.as_path()] } else { told.collect() };
            if marked.missed {
                state.found(&root)?;
            } else if marked.all {
                let found = state.tree.rescan()?;
                state.pending.extend(found);
            } else {
                for path in &marked.paths {
                    state.found(path)?;
                }
            }
            if marked.all || !again.is_empty() {
                let folders = state.tree.folders()?;
                // Written while the folder was not watched yet; read after what is above, so that the newer counts.
                for folder in state.watch(&folders, &again) {
                    state.found(&folder)?;
                }
            }
            Ok(!state.pending.is_empty())
        })
        .await
    }

    /// How long to wait at most for the rest of what is pending.
    fn patience(&self) -> Duration {
        let state = self.state.lock().expect("nobody panics with this lock");
        if settle::is_emptied(&state.pending) { WRITTEN_WITHIN } else { SETTLE_WITHIN }
    }

    fn is_settled(&self) -> bool {
        let state = self.state.lock().expect("nobody panics with this lock");
        settle::is_settled(&self.compiler, state.tree.files(), &state.pending)
    }
}

impl State {
    /// Reads what is at or under a path, for the next to be told.
    fn found(&mut self, path: &Path) -> Result<()> {
        let found = self.tree.look(path)?;
        self.pending.extend(found);
        Ok(())
    }

    /// Watches these folders and no others, and says which are new. What is at or under `again` may be another folder than
    /// the one that was watched under its name: it was removed and made anew.
    fn watch(&mut self, folders: &BTreeSet<PathBuf>, again: &[&Path]) -> Vec<PathBuf> {
        let Some(watcher) = &mut self.watcher else { return Vec::new() };
        let mut fresh = Vec::new();
        for folder in folders {
            if self.watched.contains(folder) && !again.iter().any(|at| folder.starts_with(at)) {
                continue;
            }
            match watcher.watch(folder, RecursiveMode::NonRecursive) {
                Ok(()) => fresh.push(folder.clone()),
                // Gone again already; its parent tells.
                Err(_) if !folder.exists() => {}
                Err(e) => {
                    tracing::warn!(error = %e, "no more folders can be watched: the tree is looked through instead");
                    self.watcher = None;
                    return Vec::new();
                }
            }
        }
        self.watched.retain(|folder| folders.contains(folder)); // the system forgets what is gone
        self.watched.extend(fresh.iter().cloned());
        fresh
    }
}

impl Dirty {
    fn mark(&self, event: notify::Result<notify::Event>) {
        let mut marked = self.paths.lock().expect("nobody panics with this lock");
        match event {
            // Reading is no change; the end of a write is.
            Ok(event) if matches!(event.kind, EventKind::Access(kind) if !matches!(kind, AccessKind::Close(notify::event::AccessMode::Write))) =>
            {
                return;
            }
            Ok(event) if event.need_rescan() => marked.missed = true,
            Ok(event) => marked.paths.extend(event.paths),
            Err(e) => {
                tracing::debug!(error = %e, "the system missed changes");
                marked.missed = true;
            }
        }
        drop(marked);
        self.told.notify_one();
    }
}

impl fmt::Debug for FolderWatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock().expect("nobody panics with this lock");
        f.debug_struct("FolderWatcher").field("folder", &state.tree.root()).finish_non_exhaustive()
    }
}

/// A folder that cannot be an app's.
fn refused(folder: &Path, why: &str) -> Error {
    let message = format!("folder of an app must be one that can be read, but `{}` {why}", folder.display());
    Error::new(ErrorKind::Invalid, message).at(disk::BACKEND, "read")
}
