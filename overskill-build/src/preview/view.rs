//! One state of an app: everything that answers are made of.

use super::{
    config::Config,
    engine::Shared,
    env::{PreviewEnv, Variables},
    files::Files,
    graph::{Finding, Graph, Sources},
    packages::{Coming, Packages, uses_tailwind},
    resolve::Ask,
    scan,
};
use crate::{Problem, compiler::Compiler, packages::PackageFile};
use overskill_core::{FilePath, StreamPosition};
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
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
    /// What is there of them; answers read it through [`packages`](Self::packages).
    pub(super) packages: Packages,
    /// The others.
    pub(super) coming: Option<Coming>,
    pub(super) variables: Arc<Variables>,
    pub(super) env: Arc<PreviewEnv>,
    /// Which update last renewed a module: part of its address, so that each version has one instance in a page.
    pub(super) stamps: Arc<HashMap<FilePath, u64>>,
    /// How often pages had to be loaded anew without a new position.
    pub(super) epoch: u64,
    /// What is wrong with modules, packages among them.
    pub(super) findings: Arc<[Finding]>,
    /// What is wrong with the app otherwise.
    pub(super) problems: Arc<[Problem]>,
    pub(super) looked: Looked,
}

/// Whether somebody looked at packages that are on their way.
#[derive(Debug, Default)]
pub(super) struct Looked(AtomicBool);

/// Who has another copy has not looked.
impl Clone for Looked {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl View {
    pub(super) fn sources(&self) -> Sources<'_> {
        Sources { files: &self.files, config: &self.config, compiler: &self.compiler, pool: &self.shared.pool }
    }

    /// The packages, for an answer that depends on them.
    pub(super) fn packages(&self) -> &Packages {
        if self.coming.is_some() {
            self.looked.0.store(true, Ordering::Relaxed);
        }
        &self.packages
    }

    /// Whether what was made of it since it was copied depends on packages that are on their way.
    pub(super) fn has_to_wait(&self) -> bool {
        self.looked.0.load(Ordering::Relaxed)
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
        let packages = self.packages();
        let all = [&packages.prepared, &packages.previous, &packages.tailwind];
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
