//! What an app asks of its packages, and what it gets.

use super::NpmPackages;
use crate::{Problem, Result};
use async_trait::async_trait;
use bytes::Bytes;
use overskill_core::{Digest, Progress, Readiness};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::Arc,
};

/// Brings an app's packages into a form that a browser loads.
///
/// An implementation of one's own can prepare them elsewhere, or take them from a store of its own.
#[async_trait]
pub trait DependencyResolver: Debug + Send + Sync + 'static {
    /// Whether it can be used.
    async fn check(&self) -> Result<Readiness>;

    /// Prepares what is imported. What of it cannot be had is in [`Prepared::failed`]; an error means that nothing could be
    /// told.
    async fn prepare(&self, request: &PackageRequest) -> Result<Arc<Prepared>>;

    /// Where the packages' own files can be had, if it is npm: for a [`ModuleBuilder`](crate::production::ModuleBuilder),
    /// which bundles an app as a whole.
    fn npm(&self) -> Option<NpmPackages> {
        None
    }
}

macro_rules! forward {
    ($($Pointer:ident),*) => {$(
        #[async_trait]
        impl<R: DependencyResolver + ?Sized> DependencyResolver for $Pointer<R> {
            async fn check(&self) -> Result<Readiness> {
                (**self).check().await
            }

            async fn prepare(&self, request: &PackageRequest) -> Result<Arc<Prepared>> {
                (**self).prepare(request).await
            }

            fn npm(&self) -> Option<NpmPackages> {
                (**self).npm()
            }
        }
    )*};
}
forward!(Arc, Box);

/// What an app imports from packages.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PackageRequest {
    /// `package.json`.
    pub manifest: Bytes,
    /// `package-lock.json`; without it the newest versions that the manifest allows.
    pub lock: Option<Bytes>,
    /// Every bare specifier that is imported (`react`, `react-dom/client`, `swiper/css`), without `?query`.
    pub entries: BTreeSet<String>,
    /// Where to tell how it goes.
    pub progress: Progress,
}

impl PackageRequest {
    /// Asks for `entries`.
    pub fn new(manifest: impl Into<Bytes>, lock: Option<Bytes>, entries: BTreeSet<String>) -> Self {
        Self { manifest: manifest.into(), lock, entries, progress: Progress::discard() }
    }

    /// Says where progress is told.
    pub fn progress_to(mut self, progress: Progress) -> Self {
        self.progress = progress;
        self
    }
}

/// Packages that are ready to be served; shared by all apps with the same versions and imports.
#[derive(Debug)]
#[non_exhaustive]
pub struct Prepared {
    /// What identifies it: the versions, the entries, and the preparer. Part of the address, so it can be cached for ever.
    pub digest: Digest,
    /// What each specifier leads to.
    pub entries: BTreeMap<String, PackageEntry>,
    /// What could not be had, and why.
    pub failed: BTreeMap<String, Problem>,
    /// The lock that was made, where there was none.
    pub lock: Option<Bytes>,
    /// The files, by the name under which entries and files name each other.
    pub files: BTreeMap<String, PackageFile>,
}

impl Prepared {
    /// Nothing yet, under `digest`: for implementations of [`DependencyResolver`], which fill in the rest.
    pub fn new(digest: Digest) -> Self {
        Self { digest, entries: BTreeMap::new(), failed: BTreeMap::new(), lock: None, files: BTreeMap::new() }
    }
}

/// What a specifier leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PackageEntry {
    /// An ES module: the name of its file.
    Module {
        /// Name among [`Prepared::files`].
        file: String,
        /// It comes from a `CommonJS` module: its one export is `default`, which is `module.exports`.
        common_js: bool,
    },
    /// A style sheet: the name of its file.
    Style {
        /// Name among [`Prepared::files`].
        file: String,
    },
    /// Something else (a font, a picture).
    Asset {
        /// Name among [`Prepared::files`].
        file: String,
    },
}

/// One ready file.
#[derive(Clone)]
#[non_exhaustive]
pub struct PackageFile {
    /// Its media type.
    pub content_type: String,
    /// Its bytes.
    pub contents: Bytes,
    /// Names of the files that a script imports before it runs: a page is told of them ahead.
    pub imports: Vec<String>,
}

impl PackageFile {
    /// A file that imports no other.
    pub fn new(content_type: impl Into<String>, contents: impl Into<Bytes>) -> Self {
        Self { content_type: content_type.into(), contents: contents.into(), imports: Vec::new() }
    }

    /// Says which files it imports.
    pub fn importing(self, imports: Vec<String>) -> Self {
        Self { imports, ..self }
    }
}

impl Debug for PackageFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackageFile({}, {} bytes)", self.content_type, self.contents.len())
    }
}
