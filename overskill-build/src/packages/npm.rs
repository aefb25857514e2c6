//! [`NpmPackages`]: the resolver that takes packages from an npm registry.

use super::{
    builder::{NpmPackagesBuilder, Options},
    flight::Flights,
    kept::Kept,
    prepared::{DependencyResolver, PackageRequest, Prepared},
    registry::{Registries, not_set},
    settings::HOW,
    store::Store,
    trouble::{Trouble, blocking},
};
use crate::Result;
use async_trait::async_trait;
use bytes::Bytes;
use overskill_core::{Clock, Digest, Progress, Readiness};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::Semaphore;

/// Takes packages from an npm registry, and prepares them with esbuild. No Node, and no third party but the registry; once
/// cached, none at all. Clones share everything.
///
/// Versions are those of `package-lock.json`; what it lacks, or all without one, is chosen as npm does: the version tagged
/// `latest` if `package.json` allows it, else the newest that it allows. The choice is kept in the cache, so it stays until
/// `package.json` asks for something else. Only what is imported is loaded, with its dependencies: tools such as bundlers
/// and linters never are. Nothing that a package holds is run: install scripts are ignored, and esbuild only reads.
///
/// ```no_run
/// # async fn example(manifest: bytes::Bytes, lock: bytes::Bytes) -> overskill_build::Result<()> {
/// use overskill_build::packages::{DependencyResolver, NpmPackages, PackageRequest};
///
/// let packages = NpmPackages::builder("./data/packages").build()?; // the registry is the one that npm uses
/// let entries = ["react", "react-dom/client"].map(String::from).into();
/// let prepared = packages.prepare(&PackageRequest::new(manifest, Some(lock), entries)).await?;
/// for (name, problem) in &prepared.failed {
///     eprintln!("{name}: {problem}");
/// }
/// # Ok(()) }
/// ```
///
/// # Trust
///
/// Apps choose packages, so packages are not trusted: addresses in a lock count only where they are the registry's own,
/// tarballs are compared with their integrity, nothing in them can be written or read outside of their folders, and sizes
/// are bounded. All apps share the host's access to the registry: with a token in `.npmrc`, **every app can import what
/// that token can read**.
///
/// # Errors
///
/// `Invalid` without a registry and nothing cached; `Unavailable` when the cache's disk fails. All else is a
/// [`Problem`](crate::Problem) of the entries that it concerns, and the other entries are prepared.
#[derive(Clone)]
pub struct NpmPackages(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) registries: Registries,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: Options,
    pub(crate) kept: Kept,
    /// Unpacking keeps a processor busy.
    pub(crate) unpacking: Semaphore,
    /// So does bundling.
    pub(crate) bundling: Semaphore,
    pub(crate) requests: Flights<Result<Arc<Prepared>, Trouble>>,
    pub(crate) packs: Flights<Result<(Digest, Arc<super::pack::Pack>), Trouble>>,
    pub(crate) unpacking_now: Flights<Result<super::fetch::Files, Trouble>>,
    pub(crate) programs: Flights<Result<PathBuf, Trouble>>,
    pub(crate) pinned: Flights<Result<Bytes, Trouble>>,
}

/// A version of a package that whoever names it has checked: for what the platform itself brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedPackage {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What its tarball hashes to, as `npm view NAME@VERSION dist.integrity` says.
    pub integrity: String,
}

impl PinnedPackage {
    /// A version of a package.
    pub fn new(name: impl Into<String>, version: impl Into<String>, integrity: impl Into<String>) -> Self {
        Self { name: name.into(), version: version.into(), integrity: integrity.into() }
    }
}

impl NpmPackages {
    /// One that keeps what it loads and makes in `cache_dir`; see [`NpmPackagesBuilder`]. The folder may be shared by
    /// processes, and deleted while none runs.
    pub fn builder(cache_dir: impl Into<PathBuf>) -> NpmPackagesBuilder {
        NpmPackagesBuilder::new(cache_dir.into())
    }

    /// The folder with the files of a pinned package, loaded if it is not in the cache. Do not write to it. Source maps and
    /// type declarations are left out.
    pub async fn fetch_package(&self, package: &PinnedPackage) -> Result<PathBuf> {
        let node = package.node()?;
        Ok(self.0.files_of(&node).await.map_err(Trouble::into_error)?.folder)
    }

    /// Bundles `source`, the code of an ES module that imports from `packages` alone, into one minified ES module; what it
    /// exports is exported. Every package that is needed has to be among `packages`. Kept in the cache.
    ///
    /// ```no_run
    /// # async fn example(packages: overskill_build::packages::NpmPackages, sha512: String) -> overskill_build::Result<()> {
    /// use overskill_build::packages::PinnedPackage;
    /// let tailwind = PinnedPackage::new("tailwindcss", "4.1.18", sha512);
    /// let code = packages.bundle_pinned(&[tailwind], r#"export { compile } from "tailwindcss";"#).await?;
    /// # Ok(()) }
    /// ```
    pub async fn bundle_pinned(&self, packages: &[PinnedPackage], source: &str) -> Result<Bytes> {
        let inner = Arc::clone(&self.0);
        let (packages, source) = (packages.to_vec(), source.to_owned());
        let key = super::pinned::key_of_bundle(&packages, &source);
        let start = |_| async move { inner.bundle_pinned(key, &packages, source).await };
        self.0.pinned.join(key, &Progress::discard(), start).await.map_err(Trouble::into_error)
    }

    /// Where things are kept.
    pub fn cache_dir(&self) -> &Path {
        self.0.store.root()
    }
}

#[async_trait]
impl DependencyResolver for NpmPackages {
    async fn check(&self) -> Result<Readiness> {
        let mut readiness = Readiness::ready("npm");
        if !self.0.registries.is_known() {
            readiness = readiness.lacks("no npm registry is set", HOW);
        }
        let store = self.0.store.clone();
        if let Err(trouble) = blocking(move || store.check()).await {
            let path = self.0.store.root().display();
            readiness =
                readiness.lacks(format!("{path} cannot be written: {}", trouble.into_error()), "make it writable");
        }
        if let Err(trouble) = super::esbuild::tool() {
            readiness = readiness.lacks(trouble.into_error().to_string(), "set a dependency resolver of your own");
        }
        Ok(readiness)
    }

    fn npm(&self) -> Option<NpmPackages> {
        Some(self.clone())
    }

    async fn prepare(&self, request: &PackageRequest) -> Result<Arc<Prepared>> {
        let entries = request.entries.iter().map(String::as_bytes);
        let lock = request.lock.as_deref();
        let have_lock: &[u8] = if lock.is_some() { b"lock" } else { b"no lock" };
        let parts = [have_lock, &request.manifest, lock.unwrap_or_default()].into_iter().chain(entries);
        let key = Digest::of_parts(parts);
        if let Some(prepared) = self.0.kept.get(&key) {
            return Ok(prepared);
        }
        let (inner, asked) = (Arc::clone(&self.0), request.clone());
        let start = |audience| async move { inner.prepare(key, asked, audience).await };
        self.0.requests.join(key, &request.progress, start).await.map_err(|trouble| match trouble {
            Trouble::Fault(_) if !self.0.registries.is_known() => not_set(),
            other => other.into_error(),
        })
    }
}

impl fmt::Debug for NpmPackages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NpmPackages")
            .field("cache_dir", &self.0.store.root())
            .field("registries", &self.0.registries)
            .finish_non_exhaustive()
    }
}
