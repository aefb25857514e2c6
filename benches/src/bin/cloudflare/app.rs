//! todo-studio: its sources, and what was built of them before anything is measured.

use overskill::{
    Artifact, BuildMode, BuildRequest, Builder as _, EnvRevision, EnvSnapshot, EnvValue, Incarnation, Snapshot,
    StreamPosition,
    build::{
        compiler::{Compiler, CompilerOptions},
        packages::NpmPackages,
        preview::PreviewEngine,
        production::ModuleBuilder,
    },
    local::read_folder,
};
use overskill_benches::Outcome;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

pub(crate) struct App {
    ground: PathBuf,
    sources: Snapshot,
    artifact: Arc<Artifact>,
    engine: PreviewEngine,
}

impl App {
    pub(crate) async fn prepare() -> Outcome<Self> {
        let workspace = workspace()?;
        let ground = workspace.join("target/bench-cloudflare");
        let packages = NpmPackages::builder(ground.join("packages")).build()?;
        let files = read_folder(workspace.join("examples/apps/todo-studio")).await?.files;
        let sources = Snapshot::new(StreamPosition::start(Incarnation::from_u64(1)), files);
        let request = BuildRequest::new("bench/production".parse()?, Arc::new(sources.clone()), BuildMode::Production);
        let artifact = Arc::new(ModuleBuilder::new(packages.clone()).build(&request).await?);
        let engine = PreviewEngine::new(Compiler::new(CompilerOptions::development()), packages);
        Ok(Self { ground, sources, artifact, engine })
    }

    /// Where the benchmark keeps things.
    pub(crate) fn ground(&self) -> &Path {
        &self.ground
    }

    pub(crate) fn sources(&self) -> &Snapshot {
        &self.sources
    }

    pub(crate) fn artifact(&self) -> &Arc<Artifact> {
        &self.artifact
    }

    /// What compiles previews; clones share what they remember.
    pub(crate) fn engine(&self) -> PreviewEngine {
        self.engine.clone()
    }
}

pub(crate) fn workspace() -> Outcome<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?)
}

/// No variables.
pub(crate) fn no_env() -> EnvSnapshot {
    let revision = EnvRevision(StreamPosition::start(Incarnation::from_u64(2)));
    EnvSnapshot { revision, values: BTreeMap::new() }
}

/// One variable, as wrangler's project has.
pub(crate) fn one_variable() -> Outcome<EnvSnapshot> {
    let (name, value) = VARIABLE;
    let values = [(name.parse()?, EnvValue::plain(value))].into();
    Ok(EnvSnapshot { values, ..no_env() })
}

pub(crate) const VARIABLE: (&str, &str) = ("GREETING", "hello");
