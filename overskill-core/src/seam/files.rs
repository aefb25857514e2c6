use crate::{AppFile, Changes, Digest, FilePath, Page, Readiness, Result, Scope, Snapshot, StreamPosition};
use async_trait::async_trait;
use std::{borrow::Cow, fmt::Debug, num::NonZeroU32, time::Duration};

/// What a [`FileStore`] can do, and its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreInfo {
    /// The backend's name.
    pub name: Cow<'static, str>,
    /// Largest file in bytes.
    pub max_file_bytes: u64,
    /// Most files that one `apply` may touch.
    pub max_changes: NonZeroU32,
    /// How soon a read sees a write.
    pub consistency: Consistency,
    /// How many `apply` calls per scope [`changes_since`](FileStore::changes_since) reaches back at least; 0 for none.
    pub history: u32,
}

/// How soon a read sees a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// At once. Only such a store can be the truth.
    Strong,
    /// After at most this long. Such a store can only be a replica.
    Eventual(Duration),
}

impl StoreInfo {
    /// A strong store with limits of 25 MiB a file and 10,000 files a change, and a history of 256 changes.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self {
            name: name.into(),
            max_file_bytes: 25 * 1024 * 1024,
            max_changes: NonZeroU32::new(10_000).expect("not zero"),
            consistency: Consistency::Strong,
            history: 256,
        }
    }

    /// Sets the largest file.
    pub fn max_file_bytes(mut self, bytes: u64) -> Self {
        self.max_file_bytes = bytes;
        self
    }

    /// Sets the most files that one `apply` may touch.
    pub fn max_changes(mut self, changes: NonZeroU32) -> Self {
        self.max_changes = changes;
        self
    }

    /// Declares how soon a read sees a write.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.consistency = consistency;
        self
    }

    /// Declares how many changes the history reaches back at least.
    pub fn history(mut self, changes: u32) -> Self {
        self.history = changes;
        self
    }

    /// Refuses changes over the declared limits; every store calls it before it writes.
    pub fn admit(&self, changes: &Changes) -> Result<()> {
        use crate::{Change, Error, ErrorKind};
        if changes.len() > self.max_changes.get() as usize {
            let message = format!("changes must touch at most {} files, but touch {}", self.max_changes, changes.len());
            return Err(Error::new(ErrorKind::LimitExceeded, message).at(self.name.clone(), "apply"));
        }
        for (path, change) in changes.iter() {
            if let Change::Put(file) = change
                && file.size_bytes() > self.max_file_bytes
            {
                let message =
                    format!("file must be at most {} bytes, but has {}", self.max_file_bytes, file.size_bytes());
                let e = Error::new(ErrorKind::LimitExceeded, message).at(self.name.clone(), "apply");
                return Err(e.with("path", path));
            }
        }
        Ok(())
    }
}

/// A file without its contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileMeta {
    /// Where it is.
    pub path: FilePath,
    /// The digest of its contents.
    pub digest: Digest,
    /// Its size in bytes.
    pub size_bytes: u64,
}

/// Changes as they happened, with the position they led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedChanges {
    /// The position afterwards.
    pub position: StreamPosition,
    /// What changed.
    pub changes: Changes,
}

/// What happened since a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatchUp<T> {
    /// Everything after it, oldest first; empty when nothing happened.
    Entries(Vec<T>),
    /// It cannot be told any more (too long ago, or another incarnation): start again from a snapshot.
    Gone,
}

/// An app's sources. It alone assigns their positions.
///
/// A position names one state for ever. In a scope that nothing was written to, the position has `seq` 0 and there are no
/// files; each `apply` that succeeds adds exactly 1. `apply` is atomic: a reader sees all of it or nothing. Scopes know
/// nothing of each other.
///
/// Third-party stores prove themselves with `overskill_testkit::file_store_conformance!`.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait FileStore: Debug + Send + Sync + 'static {
    /// What it can do, and its limits.
    fn info(&self) -> StoreInfo;

    /// Whether it can be used.
    async fn check(&self) -> Result<Readiness>;

    /// One file, or `None`.
    async fn get(&self, scope: &Scope, path: &FilePath) -> Result<Option<AppFile>>;

    /// All files, at one position.
    async fn snapshot(&self, scope: &Scope) -> Result<Snapshot>;

    /// Makes `changes` happen together and returns the position they lead to, once they are durable.
    ///
    /// With `expected`, only if the scope stands at that position; otherwise `Conflict`, and nothing changed.
    /// `LimitExceeded` when a limit of [`info`](Self::info) is passed, `Invalid` for no changes at all.
    async fn apply(&self, scope: &Scope, changes: &Changes, expected: Option<StreamPosition>)
    -> Result<StreamPosition>;

    /// What happened after `position`, oldest first.
    async fn changes_since(&self, scope: &Scope, position: StreamPosition) -> Result<CatchUp<AppliedChanges>>;

    /// Files in path order, at most `limit`, after the path `after`.
    async fn list(&self, scope: &Scope, after: Option<FilePath>, limit: NonZeroU32)
    -> Result<Page<FileMeta, FilePath>>;
}

crate::seam::forward_seam!(FileStore as "files" [fn info(&self) -> StoreInfo;] {
    safe fn check(&self) -> Readiness;
    safe fn get(&self, scope: &Scope, path: &FilePath) -> Option<AppFile>;
    safe fn snapshot(&self, scope: &Scope) -> Snapshot;
    unsafe_to_repeat fn apply(&self, scope: &Scope, changes: &Changes, expected: Option<StreamPosition>) -> StreamPosition;
    safe fn changes_since(&self, scope: &Scope, position: StreamPosition) -> CatchUp<AppliedChanges>;
    safe fn list(&self, scope: &Scope, after: Option<FilePath>, limit: NonZeroU32) -> Page<FileMeta, FilePath>;
});
