//! Apps' files in the account: a replica in Workers KV, or a store of their own in R2.
//!
//! Both keep a *head* for each scope, a small JSON value that names position and files, and contents in *blobs* that are
//! written once under a name that nobody used before. Writing the head is what makes changes happen; whoever reads an older
//! head reads the older files.

mod head;
mod kv;
#[cfg(feature = "r2")]
mod r2;
mod store;

pub use kv::{KvFiles, KvShelf};
#[cfg(feature = "r2")]
pub(crate) use r2::empty as empty_bucket;
#[cfg(feature = "r2")]
pub use r2::{R2Files, R2Keys, R2Shelf};

use async_trait::async_trait;
use overskill_core::{
    AppFile, AppliedChanges, CatchUp, Changes, Error, FileMeta, FilePath, FileStore, Page, Readiness, Result, Scope,
    Snapshot, StoreInfo, StreamPosition,
};
use std::num::NonZeroU32;
use store::{Shelf, Store};

/// Apps' files in a place of the account: [`KvFiles`], and `R2Files` with the feature `r2`. Clones share what they know.
#[derive(Debug)]
pub struct AccountFiles<S: Shelf>(Store<S>);

impl<S: Shelf> AccountFiles<S> {
    fn at(&self, e: Error, operation: &'static str, scope: &Scope) -> Error {
        self.0.shelf.refused(e, operation).with("scope", scope)
    }
}

impl<S: Shelf> Clone for AccountFiles<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[async_trait]
impl<S: Shelf> FileStore for AccountFiles<S> {
    fn info(&self) -> StoreInfo {
        self.0.info.clone()
    }

    async fn check(&self) -> Result<Readiness> {
        let place = &self.0.shelf;
        place.check(&self.0.info.name).await.map_err(|e| place.refused(e, "check"))
    }

    async fn get(&self, scope: &Scope, path: &FilePath) -> Result<Option<AppFile>> {
        self.0.get(scope, path).await.map_err(|e| self.at(e, "get", scope).with("path", path))
    }

    async fn snapshot(&self, scope: &Scope) -> Result<Snapshot> {
        self.0.snapshot(scope).await.map_err(|e| self.at(e, "snapshot", scope))
    }

    async fn apply(
        &self,
        scope: &Scope,
        changes: &Changes,
        expected: Option<StreamPosition>,
    ) -> Result<StreamPosition> {
        self.0.apply(scope, changes, expected).await.map_err(|e| self.at(e, "apply", scope))
    }

    async fn changes_since(&self, scope: &Scope, position: StreamPosition) -> Result<CatchUp<AppliedChanges>> {
        self.0.changes_since(scope, position).await.map_err(|e| self.at(e, "changes_since", scope))
    }

    async fn list(
        &self,
        scope: &Scope,
        after: Option<FilePath>,
        limit: NonZeroU32,
    ) -> Result<Page<FileMeta, FilePath>> {
        self.0.list(scope, after, limit).await.map_err(|e| self.at(e, "list", scope))
    }
}
