//! What a build makes and a target runs.

use crate::{AppFile, Digest, Error, FilePath, PageEnv, Result};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// An immutable build result: static assets, and at most one server module.
///
/// It holds no environment's values: those reach it as bindings when it runs, so the same digest can go from staging to
/// production. Equal contents have equal digests.
///
/// ```
/// use overskill_core::{Artifact, FilePath};
/// let page = FilePath::parse("index.html")?;
/// let artifact = Artifact::of_assets([(page, "<h1>hello</h1>".into())])?;
/// assert_eq!(artifact.size_bytes(), 14);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    assets: BTreeMap<FilePath, AppFile>,
    server: Option<ServerModule>,
    config: ArtifactConfig,
    digest: Digest,
}

/// An app's server side: one ES module with a default export that has `fetch`, and the Wasm that it imports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerModule {
    /// The ES module.
    pub module: AppFile,
    /// Wasm modules, by the path they are imported under.
    pub wasm: BTreeMap<FilePath, AppFile>,
}

/// What a target has to know of an artifact beyond its files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ArtifactConfig {
    /// Whether a page that does not exist is answered with `index.html` (a single-page app).
    #[serde(default)]
    pub single_page: bool,
    /// What of the assets depends on the environment, if anything does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page_env: Option<PageEnv>,
    /// Settings that only some backends read, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

impl ArtifactConfig {
    /// A single-page app: pages that do not exist are answered with `index.html`.
    pub fn single_page() -> Self {
        Self { single_page: true, ..Self::default() }
    }
}

/// An artifact without its bytes: what a store keeps beside the blobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Digest of each asset.
    pub assets: BTreeMap<FilePath, Digest>,
    /// Digest of the server module, and of each Wasm module.
    pub server: Option<(Digest, BTreeMap<FilePath, Digest>)>,
    /// The configuration.
    pub config: ArtifactConfig,
}

impl Manifest {
    /// Every blob that it names, once.
    pub fn blobs(&self) -> BTreeSet<Digest> {
        let server = self.server.iter().flat_map(|(module, wasm)| std::iter::once(module).chain(wasm.values()));
        self.assets.values().chain(server).copied().collect()
    }
}

impl Artifact {
    /// Puts an artifact together. It has to hold something that can be served.
    pub fn new(
        assets: BTreeMap<FilePath, AppFile>,
        server: Option<ServerModule>,
        config: ArtifactConfig,
    ) -> Result<Self> {
        if assets.is_empty() && server.is_none() {
            return Err(Error::invalid("artifact must have at least one asset or a server module, but has neither"));
        }
        let index = FilePath::parse("index.html")?;
        if config.single_page && !assets.contains_key(&index) {
            return Err(Error::invalid("artifact of a single-page app must have `index.html` among its assets"));
        }
        let digest = digest_of(&assets, server.as_ref(), &config);
        Ok(Self { assets, server, config, digest })
    }

    /// An artifact of static assets alone.
    pub fn of_assets(assets: impl IntoIterator<Item = (FilePath, AppFile)>) -> Result<Self> {
        Self::new(assets.into_iter().collect(), None, ArtifactConfig::default())
    }

    /// The static assets, by path.
    pub fn assets(&self) -> &BTreeMap<FilePath, AppFile> {
        &self.assets
    }

    /// The server side, if it has one.
    pub fn server(&self) -> Option<&ServerModule> {
        self.server.as_ref()
    }

    /// The configuration.
    pub fn config(&self) -> &ArtifactConfig {
        &self.config
    }

    /// What identifies it.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// How many files it has.
    pub fn files(&self) -> usize {
        self.blobs().count()
    }

    /// The sum of its files' sizes.
    pub fn size_bytes(&self) -> u64 {
        self.blobs().map(AppFile::size_bytes).sum()
    }

    /// Every file, in the order of the manifest; a blob may come twice.
    pub fn blobs(&self) -> impl Iterator<Item = &AppFile> {
        let server = self.server.iter().flat_map(|s| std::iter::once(&s.module).chain(s.wasm.values()));
        self.assets.values().chain(server)
    }

    /// What it is made of, without the bytes.
    pub fn manifest(&self) -> Manifest {
        let digests = |files: &BTreeMap<FilePath, AppFile>| {
            files.iter().map(|(path, file)| (path.clone(), file.digest())).collect()
        };
        Manifest {
            assets: digests(&self.assets),
            server: self.server.as_ref().map(|s| (s.module.digest(), digests(&s.wasm))),
            config: self.config.clone(),
        }
    }

    /// Puts a stored artifact together again; `blob` gives the bytes of a digest.
    ///
    /// `Unexpected` when a blob is missing or its bytes are not those that were stored.
    pub fn from_manifest(manifest: &Manifest, mut blob: impl FnMut(Digest) -> Option<Bytes>) -> Result<Self> {
        let mut fetch = |digest: Digest| {
            let file = blob(digest).map(AppFile::new).ok_or_else(|| damaged("a blob is missing", digest))?;
            if file.digest() == digest { Ok(file) } else { Err(damaged("a blob was altered", digest)) }
        };
        let mut files = |digests: &BTreeMap<FilePath, Digest>| {
            digests.iter().map(|(path, d)| Ok((path.clone(), fetch(*d)?))).collect::<Result<BTreeMap<_, _>>>()
        };
        let assets = files(&manifest.assets)?;
        let server = match &manifest.server {
            None => None,
            Some((module, wasm)) => {
                let wasm = files(wasm)?;
                Some(ServerModule { module: fetch(*module)?, wasm })
            }
        };
        Self::new(assets, server, manifest.config.clone())
    }
}

fn damaged(what: &'static str, digest: Digest) -> Error {
    Error::new(crate::ErrorKind::Unexpected, what).with("digest", digest).effect_as(crate::Effect::None)
}

fn digest_of(assets: &BTreeMap<FilePath, AppFile>, server: Option<&ServerModule>, config: &ArtifactConfig) -> Digest {
    let mut parts: Vec<Vec<u8>> = vec![b"overskill artifact 1".to_vec()];
    let mut section = |name: &str, files: &BTreeMap<FilePath, AppFile>| {
        parts.push(name.as_bytes().to_vec());
        for (path, file) in files {
            parts.push(path.as_str().as_bytes().to_vec());
            parts.push(file.digest().as_bytes().to_vec());
        }
    };
    section("/assets", assets);
    if let Some(server) = server {
        section("/wasm", &server.wasm);
        parts.push(b"/server".to_vec());
        parts.push(server.module.digest().as_bytes().to_vec());
    }
    parts.push(b"/config".to_vec());
    parts.push(vec![u8::from(config.single_page)]);
    if let Some(page_env) = &config.page_env {
        parts.push(b"/page-env".to_vec());
        parts.push(serde_json::to_vec(page_env).expect("its keys are texts"));
    }
    for (name, value) in &config.settings {
        parts.push(name.clone().into_bytes());
        parts.push(value.clone().into_bytes());
    }
    Digest::of_parts(parts.iter().map(Vec::as_slice))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(s: &str) -> FilePath {
        FilePath::parse(s).unwrap()
    }

    fn full() -> Artifact {
        let server =
            ServerModule { module: "export default {}".into(), wasm: [(path("a.wasm"), AppFile::new("\0asm"))].into() };
        let mut config = ArtifactConfig::single_page();
        config.settings.insert("region".into(), "eu".into());
        Artifact::new([(path("index.html"), "hi".into())].into(), Some(server), config).unwrap()
    }

    #[test]
    fn empty_artifacts_are_refused() {
        let e = Artifact::of_assets([]).unwrap_err();
        assert!(e.to_string().contains("at least one asset"), "{e}");
        let no_index = Artifact::new([(path("a.js"), "".into())].into(), None, ArtifactConfig::single_page());
        assert!(no_index.unwrap_err().to_string().contains("index.html"));
    }

    #[test]
    fn a_manifest_and_its_blobs_are_the_artifact() {
        let artifact = full();
        let manifest = artifact.manifest();
        let json = serde_json::to_string(&manifest).unwrap();
        let manifest: Manifest = serde_json::from_str(&json).unwrap();
        let find = |d| artifact.blobs().find(|f| f.digest() == d).map(|f| f.contents().clone());
        assert_eq!(Artifact::from_manifest(&manifest, find).unwrap(), artifact);
        assert_eq!(manifest.blobs().len(), artifact.files());
    }

    #[test]
    fn missing_and_altered_blobs_are_found() {
        let manifest = full().manifest();
        assert!(Artifact::from_manifest(&manifest, |_| None).unwrap_err().to_string().contains("missing"));
        let other = |_| Some(Bytes::from_static(b"other"));
        assert!(Artifact::from_manifest(&manifest, other).unwrap_err().to_string().contains("altered"));
    }

    #[test]
    fn everything_counts_in_the_digest() {
        let one = |name: &str, text: &'static str| Artifact::of_assets([(path(name), text.into())]).unwrap();
        assert_eq!(one("a", "x").digest(), one("a", "x").digest());
        assert_ne!(one("a", "x").digest(), one("b", "x").digest());
        assert_ne!(one("a", "x").digest(), one("a", "y").digest());
        let files: BTreeMap<_, _> = [(path("index.html"), AppFile::new("x"))].into();
        let plain = Artifact::new(files.clone(), None, ArtifactConfig::default()).unwrap();
        let spa = Artifact::new(files, None, ArtifactConfig::single_page()).unwrap();
        assert_ne!(plain.digest(), spa.digest());
        assert_ne!(plain.digest(), full().digest());
    }
}
