//! One state of an app: everything that answers are made of.

use super::{
    config::Config,
    engine::Shared,
    env::{PageEnv, Variables},
    files::Files,
    graph::{Finding, Graph, How, Sources},
    resolve::{Ask, Target},
    scan::{self, Sort},
    tailwind,
};
use crate::{
    Problem, ProblemKind,
    compiler::{Compiler, Query},
    packages::{PackageFile, PackageRequest, Prepared},
};
use overskill_core::{FilePath, Progress, StreamPosition};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

/// One state of an app; it never changes.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) shared: Arc<Shared>,
    pub(super) position: StreamPosition,
    pub(super) files: Files,
    pub(super) config: Arc<Config>,
    /// The engine's compiler, with the options that the app's config asks for.
    pub(super) compiler: Compiler,
    pub(super) graph: Arc<Graph>,
    pub(super) packages: Packages,
    pub(super) variables: Arc<Variables>,
    pub(super) env: Arc<PageEnv>,
    /// Which update last renewed a module: part of its address, so that each version has one instance in a page.
    pub(super) stamps: Arc<HashMap<FilePath, u64>>,
    /// What is wrong with modules, packages among them.
    pub(super) findings: Arc<[Finding]>,
    /// What is wrong with the app otherwise.
    pub(super) problems: Arc<[Problem]>,
}

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
    /// Why nothing is there.
    pub(super) failure: Option<Arc<Problem>>,
}

impl View {
    pub(super) fn sources(&self) -> Sources<'_> {
        Sources { files: &self.files, config: &self.config, compiler: &self.compiler, pool: &self.shared.pool }
    }

    /// Whether Tailwind runs in the page.
    pub(super) fn has_tailwind(&self) -> bool {
        uses_tailwind(self.sources(), &self.graph)
    }

    /// Where a module is loaded from. `file` is for what loads the file itself, not a module made of it.
    pub(super) fn address(&self, path: &FilePath, ask: Ask, file: bool) -> String {
        let explicit = !file && ask != Ask::Linked && !scan::is_plain_import(path.as_str());
        let stamp = self.stamps.get(path).map(|stamp| format!("t={stamp}"));
        let query = ask.name().filter(|_| !file).map(str::to_owned);
        // The order is the one in which the page's client puts them: another would be another module.
        let parts: Vec<String> = explicit.then(|| "import".to_owned()).into_iter().chain(stamp).chain(query).collect();
        let mut address = format!("/{path}");
        if !parts.is_empty() {
            // An inline script of a page has a query already.
            address.push(if address.contains('?') { '&' } else { '?' });
            address.push_str(&parts.join("&"));
        }
        address
    }

    /// A file of a package, of this state or of the one before.
    pub(super) fn package_file(&self, digest: &str, name: &str) -> Option<&PackageFile> {
        let all = [&self.packages.prepared, &self.packages.previous, &self.packages.tailwind];
        let of = all.into_iter().flatten().find(|prepared| prepared.digest.to_string() == digest)?;
        of.files.get(name)
    }

    /// Paths of modules that cannot run now.
    pub(super) fn broken(&self) -> HashSet<&str> {
        self.findings.iter().filter(|finding| finding.blocking).map(|finding| finding.path.as_str()).collect()
    }

    pub(super) fn blocking(&self) -> Vec<&Problem> {
        self.findings.iter().filter(|finding| finding.blocking).map(|finding| &finding.problem).collect()
    }

    /// About how much it holds that no other app shares.
    pub(super) fn retained_bytes(&self) -> usize {
        let findings: usize = self.findings.iter().map(|it| size_of_val(it) + it.problem.message.len()).sum();
        let entries: usize = self.packages.entries.iter().map(|name| name.len() + 40).sum();
        size_of::<Self>()
            + self.files.retained_bytes()
            + self.graph.retained_bytes()
            + self.env.retained_bytes()
            + self.stamps.len() * 48
            + findings
            + entries
    }
}

pub(crate) fn tailwind_major(files: &Files) -> Option<u32> {
    let contents = |name| files.get(name).map(|(_, file)| file.contents().as_ref());
    tailwind::app_major(contents("package.json").unwrap_or_default(), contents("package-lock.json"))
}

pub(super) fn uses_tailwind(sources: Sources<'_>, graph: &Graph) -> bool {
    let mut sheets = graph.nodes.iter().filter(|node| node.style && node.ask == Ask::Plain);
    sheets.any(|node| scan::is_tailwind(sources, &node.path))
}

impl Packages {
    /// The packages for `graph`, taken over from `before` where that has them.
    ///
    /// `forget`: the manifest or the lock changed, so that nothing that was asked for before has to stay.
    pub(super) async fn prepare(
        shared: &Shared,
        sources: Sources<'_>,
        graph: &Graph,
        before: Option<&Self>,
        forget: bool,
        progress: &Progress,
    ) -> Self {
        let mut entries = graph.entries();
        let tailwind = uses_tailwind(sources, graph);
        let own_tailwind = tailwind && tailwind_major(sources.files) == Some(4);
        if own_tailwind {
            entries.extend(tailwind::CORE_ENTRIES.map(str::to_owned));
        }
        if let Some(before) = before.filter(|_| !forget) {
            let enough = entries.is_subset(&before.entries) && before.failure.is_none();
            if enough && (!tailwind || own_tailwind || before.tailwind.is_some()) {
                return before.clone();
            }
            entries.extend(before.entries.iter().cloned());
        }
        let mut packages = Self {
            previous: before.and_then(|before| before.prepared.clone()),
            tailwind: before.and_then(|before| before.tailwind.clone()),
            ..Self::default()
        };
        if !entries.is_empty() {
            let contents = |name| sources.files.get(name).map(|(_, file)| file.contents().clone());
            let made = before.filter(|_| !forget).and_then(|before| before.prepared.as_ref()?.lock.clone());
            let manifest = contents("package.json").unwrap_or_else(|| "{}".into());
            let lock = contents("package-lock.json").or(made);
            let request = PackageRequest::new(manifest, lock, entries.clone()).progress_to(progress.clone());
            match shared.dependencies.prepare(&request).await {
                Ok(prepared) => packages.prepared = Some(prepared),
                Err(error) => {
                    packages.failure = Some(Arc::new(unprepared(&error)));
                    packages.prepared.clone_from(&packages.previous);
                }
            }
        }
        if tailwind && !own_tailwind && packages.tailwind.is_none() {
            match shared.dependencies.prepare(&tailwind::core_request()).await {
                Ok(prepared) => packages.tailwind = Some(prepared),
                Err(error) => packages.failure = Some(Arc::new(unprepared(&error))),
            }
        }
        packages.entries = shared.pool.entries(entries);
        packages
    }

    /// What tells these from others in a page.
    pub(super) fn digests(&self) -> (Option<overskill_core::Digest>, Option<overskill_core::Digest>) {
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

fn unprepared(error: &crate::Error) -> Problem {
    Problem::new(ProblemKind::Package, format!("the app's packages could not be prepared: {}", error.message()))
        .help("the next change of the app tries again")
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
