//! A replica of apps' files in Workers KV.

use super::{
    AccountFiles,
    store::{Shelf, Store},
};
use crate::{
    api::{KvPair, code},
    cloudflare::Settings,
};
use async_trait::async_trait;
use bytes::Bytes;
use overskill_core::{
    AppFile, Consistency, Digest, Environment, Error, ErrorKind, FilePath, Incarnation, Readiness, Result, Scope,
    StoreInfo, StreamPosition,
};
use overskill_http::FairKey;
use serde_json::json;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

/// Keeps apps' files in Workers KV, one namespace for each environment (`{prefix}-{environment}`, made when it is first
/// needed). Made by [`Cloudflare::files`](crate::Cloudflare::files); clones share it.
///
/// It is a **replica** for the platform's own Workers: KV answers what was written a minute ago, and cannot refuse a write
/// that comes too late, so a scope must have **one writer at a time**. In this process writers take turns.
///
/// | key | value | metadata |
/// |---|---|---|
/// | `app_{app}_{path}` | the file, for Workers to read | `{"position":"1f:42","digest":"…","size":7}` |
/// | `app_{app}_/head` | position and files, as JSON | |
/// | `app_{app}_/blob/{batch}/{digest}` | contents; written once, never changed | `{"at":1794000000000}`, when, in ms |
///
/// No path begins with a slash, so the keys are told apart. The head is what counts: a change happens when it is written,
/// and a reader of any head finds the contents that it names. The files under their paths follow; where that was cut off,
/// the next change mends it. An `apply` is two calls (contents, head) and one or two more for the files under their paths.
///
/// It tells no history: [`changes_since`](overskill_core::FileStore::changes_since) answers for the current position alone.
pub type KvFiles = AccountFiles<KvShelf>;

/// Workers KV, for [`KvFiles`].
#[derive(Debug)]
pub struct KvShelf {
    settings: Arc<Settings>,
    /// Ids of the namespaces, by environment.
    namespaces: Mutex<HashMap<Environment, String>>,
}

impl KvFiles {
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        let info = StoreInfo::new(settings.name.to_string())
            .max_file_bytes(crate::api::MAX_VALUE_BYTES as u64)
            .consistency(Consistency::Eventual(settings.staleness))
            .history(0);
        let (clock, ids) = (settings.api.clock.clone(), settings.api.ids.clone());
        let (staleness, interval) = (settings.staleness, settings.write_interval);
        let shelf = KvShelf { settings, namespaces: Mutex::default() };
        Self(Store::new(shelf, info, clock, ids).eventual(staleness, interval))
    }

    /// Removes contents that were brought there for changes that never happened, and says how many. Each `apply` that is cut
    /// off before its end may leave some; nothing ever reads them. What is younger than an hour stays (than four
    /// times the staleness of reads, where that is more): the head that names it may not be read here yet.
    pub async fn sweep(&self, scope: &Scope) -> Result<usize> {
        let kv = &self.0.shelf;
        let (prefix, before) = (blob_key(scope, ""), self.0.clock.now().minus(self.0.kept).as_unix_millis());
        let sweep = self.0.unnamed(scope, async {
            let namespace = kv.namespace(scope.environment).await?;
            let mut blobs = kv.settings.api.kv_entries(&FairKey::from(&scope.app), &namespace, &prefix).await?;
            // What has no time was written before times were.
            blobs.retain(|blob| blob.metadata["at"].as_i64().is_none_or(|at| at < before));
            Ok(blobs.iter().filter_map(|blob| Some(blob.name.strip_prefix(&prefix)?.to_owned())).collect())
        });
        sweep.await.map_err(|e| self.at(e, "sweep", scope))
    }
}

impl KvShelf {
    fn known(&self, environment: Environment) -> Option<String> {
        self.namespaces.lock().expect("nobody panics with this lock").get(&environment).cloned()
    }

    async fn namespace(&self, environment: Environment) -> Result<String> {
        if let Some(id) = self.known(environment) {
            return Ok(id);
        }
        let id = self.settings.api.ensure_kv_namespace(&self.settings.of(environment)).await?;
        self.namespaces.lock().expect("nobody panics with this lock").insert(environment, id.clone());
        Ok(id)
    }

    /// What was said failed because the namespace is not there any more: the next call looks for it anew.
    fn noticed(&self, e: Error, environment: Environment) -> Error {
        if code(&e) == Some(10_013) {
            self.namespaces.lock().expect("nobody panics with this lock").remove(&environment);
            return e.retry_as(overskill_core::Retry::Backoff);
        }
        e
    }

    async fn write(&self, scope: &Scope, pairs: &[KvPair]) -> Result<()> {
        let app = FairKey::from(&scope.app);
        for last in [false, true] {
            let namespace = self.namespace(scope.environment).await?;
            match self.settings.api.kv_put_all(&app, &namespace, pairs).await {
                Err(e) if code(&e) == Some(10_013) && !last => drop(self.noticed(e, scope.environment)),
                written => return written,
            }
        }
        unreachable!("the last try returns")
    }
}

fn head_key(scope: &Scope) -> String {
    format!("app_{}_/head", scope.app)
}

fn blob_key(scope: &Scope, blob: &str) -> String {
    format!("app_{}_/blob/{blob}", scope.app)
}

fn file_key(scope: &Scope, path: &FilePath) -> String {
    format!("app_{}_{path}", scope.app)
}

#[async_trait]
impl Shelf for KvShelf {
    type Tag = ();

    async fn check(&self, name: &str) -> Result<Readiness> {
        let ready = Readiness::ready(name.to_owned());
        match self.settings.api.kv_namespace(&self.settings.of(Environment::Development)).await {
            Ok(_) => Ok(ready),
            Err(e) if matches!(e.kind(), ErrorKind::Unauthenticated | ErrorKind::Denied | ErrorKind::Invalid) => {
                let remedy = "give the id of the account and a token of it with `Workers KV Storage: Edit`";
                Ok(ready.lacks(format!("the account cannot be used: {}", e.message()), remedy))
            }
            Err(e) => Err(e),
        }
    }

    fn refused(&self, e: Error, operation: &'static str) -> Error {
        self.settings.at(e, operation)
    }

    async fn start(&self, scope: &Scope) -> Result<StreamPosition> {
        // A namespace that was made again has another id, and its streams are others.
        let namespace = self.namespace(scope.environment).await?;
        Ok(StreamPosition::start(incarnation(&namespace, scope)))
    }

    async fn read_head(&self, scope: &Scope) -> Result<Option<(Bytes, ())>> {
        for last in [false, true] {
            let namespace = self.namespace(scope.environment).await?;
            let read = self.settings.api.kv_get(&FairKey::from(&scope.app), &namespace, &head_key(scope)).await;
            match read {
                Err(e) if code(&e) == Some(10_013) && !last => drop(self.noticed(e, scope.environment)),
                read => return Ok(read?.map(|bytes| (bytes, ()))),
            }
        }
        unreachable!("the last try returns")
    }

    async fn write_head(&self, scope: &Scope, head: Bytes, _: Option<&()>) -> Result<()> {
        let namespace = self.namespace(scope.environment).await?;
        if head.len() > crate::api::MAX_VALUE_BYTES {
            let message = format!(
                "the list of files must be at most {} bytes, but has {}",
                crate::api::MAX_VALUE_BYTES,
                head.len()
            );
            return Err(Error::new(ErrorKind::LimitExceeded, message));
        }
        let put = self.settings.api.kv_put(&FairKey::from(&scope.app), &namespace, &head_key(scope), head).await;
        put.map_err(|e| self.noticed(e, scope.environment))
    }

    async fn read_texts(&self, scope: &Scope, blobs: Vec<String>) -> Result<BTreeMap<String, Bytes>> {
        // One key alone is read as it is.
        if blobs.len() < 2 {
            return Ok(BTreeMap::new());
        }
        let namespace = self.namespace(scope.environment).await?;
        let keys: Vec<String> = blobs.iter().map(|blob| blob_key(scope, blob)).collect();
        let mut texts = self.settings.api.kv_get_texts(&FairKey::from(&scope.app), &namespace, &keys).await?;
        let read = keys.into_iter().zip(blobs).filter_map(|(key, blob)| Some((blob, texts.remove(&key)?.into())));
        Ok(read.collect())
    }

    async fn read_blob(&self, scope: &Scope, blob: &str) -> Result<Option<Bytes>> {
        let namespace = self.namespace(scope.environment).await?;
        self.settings.api.kv_get(&FairKey::from(&scope.app), &namespace, &blob_key(scope, blob)).await
    }

    async fn write_blobs(&self, scope: &Scope, blobs: BTreeMap<String, Bytes>) -> Result<()> {
        let at = json!({ "at": self.settings.api.clock.now().as_unix_millis() });
        let pair = |(blob, value): (String, Bytes)| {
            let (key, metadata) = (blob_key(scope, &blob), Some(at.clone()));
            KvPair { key, value, metadata }
        };
        let pairs: Vec<KvPair> = blobs.into_iter().map(pair).collect();
        self.write(scope, &pairs).await
    }

    async fn delete_blobs(&self, scope: &Scope, blobs: Vec<String>) -> Result<()> {
        let namespace = self.namespace(scope.environment).await?;
        let keys: Vec<String> = blobs.iter().map(|blob| blob_key(scope, blob)).collect();
        self.settings.api.kv_delete_all(&FairKey::from(&scope.app), &namespace, &keys).await
    }

    async fn publish(
        &self,
        scope: &Scope,
        position: StreamPosition,
        files: &[(FilePath, Option<AppFile>)],
    ) -> Result<()> {
        let (mut pairs, mut gone) = (Vec::new(), Vec::new());
        for (path, file) in files {
            let key = file_key(scope, path);
            match file {
                None => gone.push(key),
                Some(file) => {
                    let metadata = json!({
                        "position": position.to_string(),
                        "digest": file.digest().to_string(),
                        "size": file.size_bytes(),
                    });
                    pairs.push(KvPair { key, value: file.contents().clone(), metadata: Some(metadata) });
                }
            }
        }
        if !pairs.is_empty() {
            self.write(scope, &pairs).await?;
        }
        if !gone.is_empty() {
            let namespace = self.namespace(scope.environment).await?;
            self.settings.api.kv_delete_all(&FairKey::from(&scope.app), &namespace, &gone).await?;
        }
        Ok(())
    }
}

/// The life of a scope's stream in a place.
pub(super) fn incarnation(place: &str, scope: &Scope) -> Incarnation {
    let digest = Digest::of_parts([b"overskill files".as_slice(), place.as_bytes(), scope.to_string().as_bytes()]);
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    Incarnation::from_u64(u64::from_le_bytes(first) >> 1) // fits an SQL bigint
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_path_of_the_longest_app_fits_a_key() {
        let scope: Scope = format!("{}/production", "a".repeat(32)).parse().unwrap();
        let path = FilePath::parse(&"x".repeat(FilePath::MAX_BYTES)).unwrap();
        assert_eq!(file_key(&scope, &path).len(), 512);
    }

    #[test]
    fn lives_differ_by_place_and_scope() {
        let (one, two) = ("a/production".parse().unwrap(), "a/staging".parse().unwrap());
        let all = [incarnation("x", &one), incarnation("x", &two), incarnation("y", &one)];
        assert!(all[0] != all[1] && all[0] != all[2] && all[1] != all[2]);
        assert_eq!(all[0], incarnation("x", &one));
    }
}
