//! Apps' files in R2.

mod connector;

use super::{
    AccountFiles,
    kv::incarnation,
    store::{Shelf, Store},
};
use crate::cloudflare::Settings;
use async_trait::async_trait;
use bytes::Bytes;
use connector::{Connector, Shown};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::{
    ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, RetryConfig, UpdateVersion,
    aws::{AmazonS3, AmazonS3Builder},
    path::Path,
};
use overskill_core::{
    AppFile, BackendName, Digest, Effect, Error, ErrorKind, FilePath, IdsExt as _, Readiness, Result, Scope, Secret,
    StoreInfo, StreamPosition, Timestamp,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::OnceCell;

/// What R2's S3 API is shown: an access key of the account.
#[derive(Clone, Debug)]
pub struct R2Keys {
    access_key_id: String,
    secret_access_key: Secret,
}

impl R2Keys {
    /// A pair of keys as the dashboard shows them.
    pub fn new(access_key_id: impl Into<String>, secret_access_key: impl Into<Secret>) -> Self {
        Self { access_key_id: access_key_id.into(), secret_access_key: secret_access_key.into() }
    }

    /// The keys of an API token: by Cloudflare's rule its id, and the SHA-256 of its value in hex digits.
    pub fn of_token(id: impl Into<String>, token: &Secret) -> Self {
        Self::new(id, Digest::of(token.expose().as_bytes()).to_string())
    }
}

/// Keeps apps' files in the R2 bucket `{prefix}-files`, where one file may have 300 MiB. Made by
/// [`Cloudflare::r2_files`](crate::Cloudflare::r2_files); clones share it. [`install`](crate::Cloudflare::install) makes the
/// bucket.
///
/// R2 answers what was written last and refuses a write over what the writer has not seen, so this store is strong and any
/// number of processes may write: it can be the truth as well as a replica. It speaks R2's S3 API, whose calls do not count
/// against the quota of the account's API.
///
/// Objects are `{environment}/{app}/head` (position, files and the last changes, as JSON) and
/// `{environment}/{app}/blob/{batch}/{digest}` (contents, written once).
pub type R2Files = AccountFiles<R2Shelf>;

/// An R2 bucket, for [`R2Files`].
#[derive(Debug)]
pub struct R2Shelf {
    bucket: AmazonS3,
    name: String,
    backend: BackendName,
    /// What tells this bucket from one of the same name that was there before.
    life: OnceCell<String>,
    first_life: String,
}

/// Blobs that are written or removed at the same time.
const AT_ONCE: usize = 16;

impl R2Files {
    /// Largest file in bytes.
    pub const MAX_FILE_BYTES: u64 = 300 * 1024 * 1024;
    /// How many changes the history reaches back.
    const HISTORY: u32 = 64;

    pub(crate) fn new(settings: &Arc<Settings>, keys: &R2Keys) -> Result<Self> {
        let info =
            StoreInfo::new(format!("{}-r2", settings.name)).max_file_bytes(Self::MAX_FILE_BYTES).history(Self::HISTORY);
        let first_life = format!("{:016x}", settings.api.ids.random_u64());
        let (name, bucket) = open(settings, keys).map_err(|e| settings.at(e, "r2_files"))?;
        let shelf = R2Shelf { bucket, name, backend: settings.name.clone(), life: OnceCell::new(), first_life };
        Ok(Self(Store::new(shelf, info, settings.api.clock.clone(), settings.api.ids.clone())))
    }

    /// Removes contents that were brought there for changes that never happened, and says how many. Each `apply` that is cut
    /// off before its end may leave some; nothing ever reads them. What is younger than an hour stays: another process may be
    /// about to name it.
    pub async fn sweep(&self, scope: &Scope) -> Result<usize> {
        let before = self.0.clock.now().minus(AT_WORK);
        let sweep = self.0.unnamed(scope, self.0.shelf.blobs_before(scope, before));
        sweep.await.map_err(|e| self.at(e, "sweep", scope))
    }
}

/// A change takes less: contents that are older than this and are named by no head never will be.
const AT_WORK: Duration = Duration::from_hours(1);

/// The account's bucket, by its name.
fn open(settings: &Settings, keys: &R2Keys) -> Result<(String, AmazonS3)> {
    let name = format!("{}-files", settings.prefix);
    // The client behind the connector tries again and waits; a second loop around it would multiply the tries.
    let retry = RetryConfig { max_retries: 0, retry_timeout: Duration::from_mins(2), ..RetryConfig::default() };
    let bucket = AmazonS3Builder::new()
        .with_bucket_name(&name)
        .with_region("auto")
        .with_endpoint(settings.r2_endpoint.clone())
        .with_allow_http(settings.r2_endpoint.starts_with("http://"))
        .with_access_key_id(keys.access_key_id.clone())
        .with_secret_access_key(keys.secret_access_key.expose())
        .with_disable_tagging(true)
        .with_retry(retry)
        .with_http_connector(Connector::new(settings)?)
        .build()
        .map_err(|e| Error::invalid("R2 endpoint or keys are malformed").caused_by(Shown::of(&e)))?;
    Ok((name, bucket))
}

/// Removes everything from the account's bucket.
pub(crate) async fn empty(settings: &Settings, keys: &R2Keys) -> Result<()> {
    let (_, bucket) = open(settings, keys)?;
    let all = bucket.list(None).map_ok(|object| object.location).boxed();
    bucket.delete_stream(all).try_for_each(async |_| Ok(())).await.map_err(failed)
}

impl R2Shelf {
    /// Read or made once: a bucket that was made again begins other streams.
    async fn life(&self) -> Result<&str> {
        let read = async || {
            let place = Path::from("life");
            for _ in 0..2 {
                match self.bucket.get(&place).await {
                    Ok(found) => return text(found.bytes().await.map_err(failed)?),
                    // Without the bucket the answer is the same; writing tells.
                    Err(object_store::Error::NotFound { .. }) => {}
                    Err(e) => return Err(failed(e)),
                }
                let mine = PutPayload::from(self.first_life.clone());
                match self.bucket.put_opts(&place, mine, PutMode::Create.into()).await {
                    Ok(_) => return Ok(self.first_life.clone()),
                    Err(object_store::Error::AlreadyExists { .. }) => {}
                    Err(e) => return Err(failed(e)),
                }
            }
            Err(Error::new(ErrorKind::Unavailable, "the bucket's mark comes and goes").effect_as(Effect::None))
        };
        self.life.get_or_try_init(read).await.map(String::as_str)
    }
}

impl R2Shelf {
    /// The blobs of a scope that were written before a time.
    async fn blobs_before(&self, scope: &Scope, time: Timestamp) -> Result<Vec<String>> {
        let folder = blob_place(scope, "");
        let old = |object: &ObjectMeta| object.last_modified.timestamp_millis() < time.as_unix_millis();
        let all: Vec<ObjectMeta> = self.bucket.list(Some(&folder)).try_collect().await.map_err(failed)?;
        let name = |object: ObjectMeta| {
            let below = object.location.prefix_match(&folder)?;
            Some(below.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/"))
        };
        Ok(all.into_iter().filter(old).filter_map(name).collect())
    }
}

fn text(bytes: Bytes) -> Result<String> {
    String::from_utf8(bytes.into()).map_err(|e| Error::unexpected("the bucket's mark is no text", e))
}

fn folder(scope: &Scope) -> String {
    format!("{}/{}", scope.environment, scope.app)
}

fn head_place(scope: &Scope) -> Path {
    Path::from(format!("{}/head", folder(scope)))
}

fn blob_place(scope: &Scope, blob: &str) -> Path {
    Path::from(format!("{}/blob/{blob}", folder(scope)))
}

#[async_trait]
impl Shelf for R2Shelf {
    type Tag = UpdateVersion;

    async fn check(&self, name: &str) -> Result<Readiness> {
        let ready = Readiness::ready(name.to_owned());
        match self.life().await {
            Ok(_) => Ok(ready),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let what = format!("the R2 bucket `{}` is missing", self.name);
                Ok(ready.lacks(what, "make it, or let `Cloudflare::install` make it"))
            }
            Err(e) if matches!(e.kind(), ErrorKind::Unauthenticated | ErrorKind::Denied) => {
                let remedy = "give an access key with *Object Read & Write* for the bucket";
                Ok(ready.lacks(format!("the R2 bucket `{}` cannot be used: {}", self.name, e.message()), remedy))
            }
            Err(e) => Err(e),
        }
    }

    fn refused(&self, e: Error, operation: &'static str) -> Error {
        e.at(self.backend.to_string(), operation).with("bucket", &self.name)
    }

    async fn start(&self, scope: &Scope) -> Result<StreamPosition> {
        Ok(StreamPosition::start(incarnation(self.life().await?, scope)))
    }

    async fn read_head(&self, scope: &Scope) -> Result<Option<(Bytes, UpdateVersion)>> {
        match self.bucket.get(&head_place(scope)).await {
            Ok(found) => {
                let tag = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
                Ok(Some((found.bytes().await.map_err(failed)?, tag)))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(failed(e)),
        }
    }

    async fn write_head(&self, scope: &Scope, head: Bytes, tag: Option<&UpdateVersion>) -> Result<UpdateVersion> {
        let mode = tag.map_or(PutMode::Create, |tag| PutMode::Update(tag.clone()));
        let place = head_place(scope);
        match self.bucket.put_opts(&place, head.clone().into(), PutOptions::from(mode)).await {
            Ok(put) => Ok(UpdateVersion { e_tag: put.e_tag, version: put.version }),
            Err(e) => {
                let e = failed(e);
                // A try whose answer was lost may be the one that this try met.
                if matches!(e.kind(), ErrorKind::Conflict) || e.effect() == Effect::Unknown {
                    match self.read_head(scope).await {
                        Ok(Some((there, tag))) if there == head => return Ok(tag),
                        // Something else is there: ours did not land.
                        Ok(_) if e.kind() == ErrorKind::Conflict => {}
                        Ok(_) | Err(_) => {}
                    }
                }
                Err(e)
            }
        }
    }

    async fn read_texts(&self, _: &Scope, _: Vec<String>) -> Result<BTreeMap<String, Bytes>> {
        Ok(BTreeMap::new()) // one by one is as cheap as it gets
    }

    async fn read_blob(&self, scope: &Scope, blob: &str) -> Result<Option<Bytes>> {
        match self.bucket.get(&blob_place(scope, blob)).await {
            Ok(found) => found.bytes().await.map(Some).map_err(failed),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(failed(e)),
        }
    }

    async fn write_blobs(&self, scope: &Scope, blobs: BTreeMap<String, Bytes>) -> Result<()> {
        let puts: Vec<_> = blobs
            .into_iter()
            .map(|(blob, contents)| async move {
                let put = self.bucket.put(&blob_place(scope, &blob), contents.into()).await;
                put.map(drop).map_err(failed)
            })
            .collect();
        stream::iter(puts).buffer_unordered(AT_ONCE).try_collect().await
    }

    async fn delete_blobs(&self, scope: &Scope, blobs: Vec<String>) -> Result<()> {
        let places: Vec<_> = blobs.iter().map(|blob| Ok(blob_place(scope, blob))).collect();
        self.bucket.delete_stream(stream::iter(places).boxed()).try_for_each(async |_| Ok(())).await.map_err(failed)
    }

    async fn publish(&self, _: &Scope, _: StreamPosition, _: &[(FilePath, Option<AppFile>)]) -> Result<()> {
        Ok(())
    }
}

/// What the store's own words mean. Its client has judged the status already, and tried again where that helps.
#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn failed(e: object_store::Error) -> Error {
    use object_store::Error as E;
    // The client's own error says whether it may have landed.
    if let Some(own) = connector::own(&e) {
        return own;
    }
    let (kind, message) = match &e {
        E::NotFound { .. } => (ErrorKind::NotFound, "the object or the bucket is missing"),
        E::AlreadyExists { .. } | E::Precondition { .. } | E::NotModified { .. } => {
            (ErrorKind::Conflict, "the object was changed in the meantime")
        }
        E::PermissionDenied { .. } => (ErrorKind::Denied, "the access key may not do this"),
        E::Unauthenticated { .. } => (ErrorKind::Unauthenticated, "the access key is wrong or expired"),
        E::InvalidPath { .. } | E::NotSupported { .. } | E::NotImplemented { .. } => {
            (ErrorKind::Invalid, "the request was refused")
        }
        _ => (ErrorKind::Unexpected, "R2 failed"),
    };
    Error::new(kind, message).caused_by(Shown::of(&e))
}
