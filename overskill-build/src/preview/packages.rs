//! The packages of one state: what it wants of them, what is on its way, and what is there.

use super::{
    engine::Shared,
    files::Files,
    graph::{Finding, Graph, How, Sources},
    resolve::{Ask, Target},
    scan::{self, Sort},
    tailwind,
};
use crate::{
    Problem, ProblemKind,
    compiler::Query,
    packages::{PackageRequest, Prepared},
};
use bytes::Bytes;
use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared as SharedFuture},
};
use overskill_core::{Digest, FilePath, Progress};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// The packages of one state.
#[derive(Clone, Debug, Default)]
pub(super) struct Packages {
    pub(super) prepared: Option<Arc<Prepared>>,
    /// For pages that were loaded before the last change.
    pub(super) previous: Option<Arc<Prepared>>,
    /// What runs Tailwind in the page, if it is not among the app's own.
    pub(super) tailwind: Option<Arc<Prepared>>,
    /// What was asked for.
    pub(super) entries: Arc<BTreeSet<String>>,
    /// Whether [`tailwind`](Self::tailwind) was asked for.
    core: bool,
    /// Why nothing is there.
    pub(super) failure: Option<Arc<Problem>>,
}

/// What has to be prepared for a state.
pub(super) struct Wanted {
    shared: Arc<Shared>,
    entries: BTreeSet<String>,
    core: bool,
    manifest: Bytes,
    lock: Option<Bytes>,
    before: Packages,
    progress: Progress,
}

/// Packages on their way. The work is done by whoever waits for them, once for all, and dropped with the last.
#[derive(Clone, Debug)]
pub(super) struct Coming {
    work: SharedFuture<BoxFuture<'static, Packages>>,
    /// Who hears how it goes.
    progress: Progress,
}

impl Packages {
    /// What has to be prepared for `graph`; nothing where these have it all.
    ///
    /// `forget`: the manifest or the lock changed, so that nothing that was asked for before has to stay.
    pub(super) fn wanted(
        &self,
        shared: &Arc<Shared>,
        sources: Sources<'_>,
        graph: &Graph,
        forget: bool,
    ) -> Option<Wanted> {
        let mut entries = graph.entries();
        let tailwind = uses_tailwind(sources, graph);
        let own_tailwind = tailwind && tailwind_major(sources.files) == Some(4);
        if own_tailwind {
            entries.extend(tailwind::CORE_ENTRIES.map(str::to_owned));
        }
        let core = tailwind && !own_tailwind;
        if !forget {
            if entries.is_subset(&self.entries) && self.failure.is_none() && (!core || self.core) {
                return None;
            }
            entries.extend(self.entries.iter().cloned());
        }
        let contents = |name| sources.files.get(name).map(|(_, file)| file.contents().clone());
        let made = self.prepared.as_ref().filter(|_| !forget).and_then(|prepared| prepared.lock.clone());
        Some(Wanted {
            shared: shared.clone(),
            entries,
            core,
            manifest: contents("package.json").unwrap_or_else(|| "{}".into()),
            lock: contents("package-lock.json").or(made),
            before: self.clone(),
            progress: Progress::discard(),
        })
    }

    /// What tells these from others in a page.
    pub(super) fn digests(&self) -> (Option<Digest>, Option<Digest>) {
        (self.prepared.as_ref().map(|it| it.digest), self.tailwind.as_ref().map(|it| it.digest))
    }

    /// Why `name` cannot be had, if so.
    pub(super) fn problem(&self, name: &str) -> Option<Problem> {
        let known = self.prepared.as_ref().filter(|prepared| prepared.entries.contains_key(name));
        if known.is_some() {
            return None;
        }
        let failed = self.prepared.as_ref().and_then(|prepared| prepared.failed.get(name));
        Some(match (failed, &self.failure) {
            (Some(problem), _) => problem.clone(),
            (None, Some(failure)) => (**failure).clone(),
            (None, None) => Problem::new(ProblemKind::Package, format!("the package for `{name}` is not there"))
                .help("add it to `dependencies` in package.json"),
        })
    }
}

impl Wanted {
    /// Tells how it goes.
    pub(super) fn progress_to(self, progress: Progress) -> Self {
        Self { progress, ..self }
    }

    /// The packages as they are while these are on their way: asked for, and not there.
    pub(super) fn asked(&self) -> Packages {
        let entries = self.shared.pool.entries(self.entries.clone());
        Packages { entries, core: self.core || self.before.core, ..self.before.clone() }
    }

    /// Prepares them.
    pub(super) async fn prepare(self) -> Packages {
        let Self { shared, entries, core, manifest, lock, before, progress } = self;
        let own = async {
            if entries.is_empty() {
                return None;
            }
            let request = PackageRequest::new(manifest, lock, entries.clone()).progress_to(progress);
            Some(shared.dependencies.prepare(&request).await)
        };
        let tailwind = async {
            match &before.tailwind {
                None if core => Some(shared.dependencies.prepare(&tailwind::core_request()).await),
                _ => None,
            }
        };
        let (own, tailwind) = futures::join!(own, tailwind);
        let mut packages = Packages {
            prepared: None,
            previous: before.prepared,
            tailwind: before.tailwind,
            entries: shared.pool.entries(entries),
            core: core || before.core,
            failure: None,
        };
        match own {
            Some(Ok(prepared)) => packages.prepared = Some(prepared),
            Some(Err(error)) => {
                packages.failure = Some(Arc::new(unprepared(&error)));
                packages.prepared.clone_from(&packages.previous);
            }
            None => {}
        }
        match tailwind {
            Some(Ok(prepared)) => packages.tailwind = Some(prepared),
            Some(Err(error)) => packages.failure = Some(Arc::new(unprepared(&error))),
            None => {}
        }
        packages
    }
}

impl Coming {
    pub(super) fn of(wanted: Wanted) -> Self {
        Self { progress: wanted.progress.clone(), work: wanted.prepare().boxed().shared() }
    }

    /// These in the place of those before.
    pub(super) fn instead(&self, wanted: Wanted) -> Self {
        Self::of(Wanted { progress: self.progress.clone(), ..wanted })
    }

    pub(super) async fn packages(&self) -> Packages {
        self.work.clone().await
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        self.work.ptr_eq(&other.work)
    }
}

fn unprepared(error: &crate::Error) -> Problem {
    Problem::new(ProblemKind::Package, format!("the app's packages could not be prepared: {}", error.message()))
        .help("the next change of the app tries again")
}

pub(crate) fn tailwind_major(files: &Files) -> Option<u32> {
    let contents = |name| files.get(name).map(|(_, file)| file.contents().as_ref());
    tailwind::app_major(contents("package.json").unwrap_or_default(), contents("package-lock.json"))
}

pub(super) fn uses_tailwind(sources: Sources<'_>, graph: &Graph) -> bool {
    let mut sheets = graph.nodes.iter().filter(|node| node.style && node.ask == Ask::Plain);
    sheets.any(|node| scan::is_tailwind(sources, &node.path))
}

/// How many packages that cannot be had are told of one module: to find the place of each, all its imports are resolved.
const MOST_TOLD: usize = 20;

/// What is wrong with the modules of `graph`: what it found itself, and packages that cannot be had.
pub(super) fn findings(sources: Sources<'_>, graph: &Graph, packages: &Packages) -> Vec<Finding> {
    let mut findings = graph.findings.clone();
    let failed: HashMap<u32, Problem> =
        (0..).zip(&graph.packages).filter_map(|(index, name)| Some((index, packages.problem(name)?))).collect();
    for node in graph.nodes.iter().filter(|_| !failed.is_empty()) {
        let mut of_node: Vec<_> = node.deps.iter().filter(|edge| edge.how == How::Package).collect();
        of_node.sort_by_key(|edge| edge.to);
        of_node.dedup_by_key(|edge| edge.to);
        let of_node = of_node.into_iter().filter_map(|edge| Some((edge, failed.get(&edge.to)?)));
        for (edge, problem) in of_node.take(MOST_TOLD) {
            let name = &graph.packages[edge.to as usize];
            let problem = placed(sources, &node.path, node.ask, name, problem.clone());
            findings.push(Finding { path: node.path.clone(), problem, blocking: true });
        }
    }
    findings
}

/// Puts the place of the import of `name` into a problem.
fn placed(sources: Sources<'_>, path: &FilePath, ask: Ask, name: &str, problem: Problem) -> Problem {
    let problem = problem.in_file(path.clone());
    let (Some(file), Sort::Script) = (scan::source(sources.files, path.as_str()), Sort::of(path.as_str())) else {
        return problem;
    };
    let Ok(module) = sources.compiler.compile(path, &file, if ask == Ask::Raw { Query::Raw } else { Query::None })
    else {
        return problem;
    };
    let is_it = |target: Target| matches!(target, Target::Package(other, _) if other == name);
    let import = module.imports.iter().find(|import| scan::import_target(sources, path, import).is_ok_and(is_it));
    match (import, str::from_utf8(file.contents())) {
        (Some(import), Ok(text)) => problem.at(text, import.at),
        _ => problem,
    }
}
