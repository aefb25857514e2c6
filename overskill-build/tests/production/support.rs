//! What these tests share.

use overskill_build::{packages::NpmPackages, production::ModuleBuilder};
use overskill_core::{
    AppFile, Artifact, BuildMode, BuildRequest, Builder as _, Error, FilePath, Incarnation, Snapshot, StreamPosition,
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

/// Where the registry is: what xtask says, else what npm says.
pub(crate) fn registry() -> String {
    if let Ok(url) = std::env::var("NPM_CONFIG_REGISTRY") {
        return url;
    }
    let npm = Command::new("npm").args(["config", "get", "registry"]).output();
    let said = npm.expect("set NPM_CONFIG_REGISTRY to an npm registry, or install npm, which knows one").stdout;
    String::from_utf8(said).unwrap().trim().to_owned()
}

/// What all tests load once: programs are large.
pub(crate) fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("production-packages")
}

pub(crate) fn packages_in(cache: &Path) -> NpmPackages {
    NpmPackages::builder(cache).registry(registry()).build().unwrap()
}

pub(crate) fn builder() -> ModuleBuilder {
    ModuleBuilder::new(packages_in(&cache()))
}

pub(crate) fn path(path: &str) -> FilePath {
    FilePath::parse(path).unwrap()
}

pub(crate) fn snapshot_of(files: BTreeMap<FilePath, AppFile>) -> Arc<Snapshot> {
    Arc::new(Snapshot::new(StreamPosition::start(Incarnation::from_u64(1)), files))
}

/// An app of a few files.
pub(crate) fn sources(files: &[(&str, &str)]) -> Arc<Snapshot> {
    snapshot_of(files.iter().map(|(at, text)| (path(at), AppFile::new((*text).to_owned()))).collect())
}

/// One of the examples.
pub(crate) fn example(name: &str) -> Arc<Snapshot> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/apps").join(name);
    let mut files = BTreeMap::new();
    collect(&root, &root, &mut files);
    assert!(!files.is_empty(), "{} holds an app", root.display());
    snapshot_of(files)
}

fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<FilePath, AppFile>) {
    for entry in fs::read_dir(folder).unwrap() {
        let at = entry.unwrap().path();
        let name = at.file_name().unwrap().to_string_lossy().into_owned();
        if at.is_dir() {
            if name != "node_modules" && name != "dist" {
                collect(root, &at, files);
            }
        } else {
            let inside = at.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            files.insert(path(&inside), AppFile::new(fs::read(&at).unwrap()));
        }
    }
}

pub(crate) fn request(sources: Arc<Snapshot>) -> BuildRequest {
    BuildRequest::new("todo42/production".parse().unwrap(), sources, BuildMode::Production)
}

pub(crate) async fn built(sources: Arc<Snapshot>) -> Result<Artifact, Error> {
    builder().build(&request(sources)).await
}

/// What the one asset holds whose path begins and ends so.
pub(crate) fn asset<'a>(artifact: &'a Artifact, begin: &str, end: &str) -> (&'a FilePath, &'a str) {
    let mut found =
        artifact.assets().iter().filter(|(at, _)| at.as_str().starts_with(begin) && at.as_str().ends_with(end));
    let (at, file) = found.next().unwrap_or_else(|| panic!("{begin}…{end} in {:?}", names(artifact)));
    assert_eq!(found.next().map(|(at, _)| at), None, "only one is {begin}…{end}");
    (at, std::str::from_utf8(file.contents()).unwrap())
}

pub(crate) fn names(artifact: &Artifact) -> Vec<&str> {
    artifact.assets().keys().map(FilePath::as_str).collect()
}
