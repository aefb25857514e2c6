//! The next state of an app, but for its packages.

use super::{
    app::problems,
    config::{Config, VITE_CONFIGS},
    engine::Shared,
    env::{FILES as ENV_FILES, PreviewEnv, Variables},
    files::Files,
    graph::{Before, Graph, Sources},
    packages::{Packages, Wanted},
    view::View,
};
use overskill_core::{FilePath, StreamPosition};
use std::{panic::resume_unwind, sync::Arc};

/// How many changed files are worked through on the spot, and how many bytes of them: handing them over takes as long.
const FEW_FILES: usize = 8;
const FEW_BYTES: u64 = 128 * 1024;

/// What the next state is made of.
pub(super) struct Next {
    pub(super) position: StreamPosition,
    pub(super) files: Files,
    pub(super) came_or_went: bool,
    pub(super) variables: Arc<Variables>,
    /// It follows from the present one; else every page has to be loaded anew.
    pub(super) follows: bool,
}

/// A state that still has the packages of the one before.
pub(super) struct Draft {
    pub(super) view: View,
    /// What has to be prepared for it, if anything.
    pub(super) wanted: Option<Wanted>,
    /// The paths that differ from the state before.
    pub(super) differing: Vec<FilePath>,
}

impl Draft {
    /// An app's first state.
    pub(super) async fn first(shared: Arc<Shared>, next: Next) -> Self {
        apart(move || {
            let config = shared.pool.config(Config::read(&next.files));
            let compiler = shared.compiler.with_options(config.compiler.clone());
            let env = Arc::new(PreviewEnv::of(&next.files, &next.variables));
            let sources = Sources { files: &next.files, config: &config, compiler: &compiler, pool: &shared.pool };
            let graph = Graph::build(sources, None);
            let packages = Packages::default();
            let wanted = packages.wanted(&shared, sources, &graph, false);
            let problems = problems(sources, &env);
            let view = View {
                position: next.position,
                findings: graph.findings.clone().into(),
                graph: Arc::new(graph),
                packages,
                coming: None,
                variables: next.variables,
                env,
                stamps: Arc::default(),
                epoch: 0,
                problems: problems.into(),
                compiler,
                config,
                files: next.files,
                looked: super::view::Looked::default(),
                shared,
            };
            Self { view, wanted, differing: Vec::new() }
        })
        .await
    }

    /// The state after `old`.
    pub(super) async fn after(old: &Arc<View>, next: Next) -> Self {
        let differing = next.files.differing(&old.files);
        if is_little(old, &next, &differing) {
            return Self::of(old, next, differing);
        }
        let old = old.clone();
        apart(move || Self::of(&old, next, differing)).await
    }

    fn of(old: &View, next: Next, differing: Vec<FilePath>) -> Self {
        let shared = &old.shared;
        let differs = |is: &dyn Fn(&str) -> bool| differing.iter().any(|path| is(path.as_str()));
        let manifest = differs(&|path| matches!(path, "package.json" | "package-lock.json"));
        let config = if differing.iter().any(|path| decides_config(old, path)) {
            shared.pool.config(Config::read(&next.files))
        } else {
            old.config.clone()
        };
        let same_compiler = config.compiler == old.config.compiler;
        let compiler =
            if same_compiler { old.compiler.clone() } else { shared.compiler.with_options(config.compiler.clone()) };
        let env = if next.variables != old.variables || differs(&|path| ENV_FILES.contains(&path)) {
            Arc::new(PreviewEnv::of(&next.files, &next.variables))
        } else {
            old.env.clone()
        };
        let sources = Sources { files: &next.files, config: &config, compiler: &compiler, pool: &shared.pool };
        let resolves_alike = !next.came_or_went && same_compiler && config.resolves_like(&old.config);
        let before = Before { graph: &old.graph, files: &old.files, resolves_alike };
        let graph = Graph::build(sources, Some(before));
        let wanted = old.packages.wanted(shared, sources, &graph, manifest);
        let problems = problems(sources, &env);
        let view = View {
            shared: shared.clone(),
            position: next.position,
            findings: graph.findings.clone().into(),
            graph: Arc::new(graph),
            packages: old.packages.clone(),
            coming: old.coming.clone(),
            variables: next.variables,
            env,
            stamps: old.stamps.clone(),
            epoch: old.epoch,
            problems: problems.into(),
            compiler,
            config,
            files: next.files,
            looked: super::view::Looked::default(),
        };
        Self { view, wanted, differing }
    }
}

/// Whether making the next state takes no longer than handing it over would.
fn is_little(old: &View, next: &Next, differing: &[FilePath]) -> bool {
    let bytes = |path: &FilePath| next.files.get(path.as_str()).map_or(0, |(_, file)| file.size_bytes());
    !next.came_or_went
        && differing.len() <= FEW_FILES
        && differing.iter().map(bytes).sum::<u64>() <= FEW_BYTES
        && !differing.iter().any(|path| decides_config(old, path))
}

/// Whether the config may be another with another version of this file.
fn decides_config(old: &View, path: &FilePath) -> bool {
    let name = path.as_str().rsplit('/').next().unwrap_or_default();
    let is_config = name.starts_with("tsconfig") || name.starts_with("jsconfig");
    is_config && path.extension() == Some("json")
        || path.as_str() == "package.json"
        || VITE_CONFIGS.contains(&path.as_str())
        || old.config.read.contains(path)
}

/// Works where nobody else is held up: on a thread for that if there is a runtime that has some, else here.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return work() };
    match runtime.spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) if e.is_panic() => resume_unwind(e.into_panic()),
        // The runtime ends, and whoever waits ends with it.
        Err(_) => std::future::pending().await,
    }
}
