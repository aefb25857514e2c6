//! What imports what: found by compiling what the pages reach, kept without any code.

use super::{
    config::Config,
    files::{Files, Pool},
    resolve::{Ask, Target, Unresolved},
    scan::{self, Found, Scan},
};
use crate::{Problem, compiler::Compiler};
use overskill_core::FilePath;
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
};

/// The modules that the pages of one state of an app reach.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) nodes: Box<[Node]>,
    /// What is imported of packages.
    pub(super) packages: Box<[Box<str>]>,
    /// What is wrong, by module.
    pub(super) findings: Vec<Finding>,
}

/// A module.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub(super) struct Node {
    pub(super) path: FilePath,
    pub(super) ask: Ask,
    pub(super) accepts_self: bool,
    pub(super) style: bool,
    pub(super) refresh: bool,
    /// It was broken ever since it is there: no page runs it.
    pub(super) unseen: bool,
    /// Tells whether the same contents lead to the same modules.
    pub(super) signature: u64,
    pub(super) deps: Box<[Edge]>,
}

/// What a module leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Edge {
    /// A place in `nodes`, or in `packages`.
    pub(super) to: u32,
    pub(super) how: How,
}

/// How it leads there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum How {
    /// It loads it.
    Import,
    /// It accepts its updates.
    Accept,
    /// It loads something of a package.
    Package,
}

/// Something wrong with a module.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Finding {
    pub(super) path: FilePath,
    pub(super) problem: Problem,
    /// The module cannot run, or not wholly; else it is a warning.
    pub(super) blocking: bool,
}

/// Of what a graph is made.
#[derive(Clone, Copy)]
pub(crate) struct Sources<'a> {
    pub(crate) files: &'a Files,
    pub(crate) config: &'a Config,
    pub(crate) compiler: &'a Compiler,
    pub(crate) pool: &'a Pool,
}

/// A graph from which modules are taken over whose files are the same.
#[derive(Clone, Copy)]
pub(super) struct Before<'a> {
    pub(super) graph: &'a Graph,
    pub(crate) files: &'a Files,
    /// Imports lead where they led: no file came or went, and the config is the same.
    pub(super) resolves_alike: bool,
}

impl Graph {
    pub(super) fn build(sources: Sources<'_>, before: Option<Before<'_>>) -> Self {
        let mut builder = Builder::new(sources, before);
        for (path, ask) in scan::roots(sources) {
            builder.node(&path, ask);
        }
        let mut done = 0;
        while done < builder.nodes.len() {
            builder.fill(done);
            done += 1;
        }
        builder.finish()
    }

    pub(super) fn index(&self) -> HashMap<(&str, Ask), usize> {
        self.nodes.iter().enumerate().map(|(index, node)| ((node.path.as_str(), node.ask), index)).collect()
    }

    pub(super) fn has(&self, path: &str, ask: Ask) -> bool {
        self.nodes.iter().any(|node| node.ask == ask && node.path.as_str() == path)
    }

    pub(super) fn entries(&self) -> BTreeSet<String> {
        self.packages.iter().map(ToString::to_string).collect()
    }

    pub(super) fn refreshes(&self) -> bool {
        self.nodes.iter().any(|node| node.refresh)
    }

    pub(super) fn retained_bytes(&self) -> usize {
        let nodes = self.nodes.iter().map(|node| size_of_val(node) + size_of_val(&*node.deps) + 16).sum::<usize>();
        let packages = self.packages.iter().map(|name| name.len() + 32).sum::<usize>();
        let text = |p: &Problem| p.message.len() + p.frame.as_ref().map_or(0, String::len) + size_of::<Finding>();
        nodes + packages + self.findings.iter().map(|finding| text(&finding.problem)).sum::<usize>()
    }
}

impl Node {
    /// How updates name it.
    pub(super) fn address(&self) -> String {
        match self.ask.name() {
            Some(query) => format!("/{}?{query}", self.path),
            None => format!("/{}", self.path),
        }
    }
}

struct Builder<'a> {
    sources: Sources<'a>,
    before: Option<Before<'a>>,
    old: HashMap<(&'a str, Ask), usize>,
    troubled: HashSet<FilePath>,
    index: HashMap<(FilePath, Ask), u32>,
    nodes: Vec<Node>,
    packages: Vec<Box<str>>,
    package_index: HashMap<Box<str>, u32>,
    findings: Vec<Finding>,
}

impl<'a> Builder<'a> {
    fn new(sources: Sources<'a>, before: Option<Before<'a>>) -> Self {
        Self {
            sources,
            before,
            old: before.map(|before| before.graph.index()).unwrap_or_default(),
            troubled: before.into_iter().flat_map(|b| &b.graph.findings).map(|f| f.path.clone()).collect(),
            index: HashMap::new(),
            nodes: Vec::new(),
            packages: Vec::new(),
            package_index: HashMap::new(),
            findings: Vec::new(),
        }
    }

    fn node(&mut self, path: &FilePath, ask: Ask) -> u32 {
        if let Some(index) = self.index.get(&(path.clone(), ask)) {
            return *index;
        }
        let index = u32::try_from(self.nodes.len()).expect("an app has fewer modules than that");
        let path = self.sources.pool.path(path);
        self.index.insert((path.clone(), ask), index);
        self.nodes.push(Node {
            path,
            ask,
            accepts_self: false,
            style: false,
            refresh: false,
            unseen: false,
            signature: 0,
            deps: Box::default(),
        });
        index
    }

    fn package(&mut self, name: &str) -> u32 {
        if let Some(index) = self.package_index.get(name) {
            return *index;
        }
        let index = u32::try_from(self.packages.len()).expect("an app imports fewer packages than that");
        self.packages.push(name.into());
        self.package_index.insert(name.into(), index);
        index
    }

    fn fill(&mut self, index: usize) {
        let (path, ask) = (self.nodes[index].path.clone(), self.nodes[index].ask);
        let old = self.old.get(&(path.as_str(), ask)).copied();
        if let (Some(before), Some(old)) = (self.before, old) {
            let same =
                before.files.digest(path.as_str()).is_some_and(|d| self.sources.files.digest(path.as_str()) == Some(d));
            if same && before.resolves_alike && !self.troubled.contains(&path) {
                return self.take_over(index, before.graph, old);
            }
        }
        let seen = self.before.zip(old).is_some_and(|(before, old)| !before.graph.nodes[old].unseen);
        match scan::scan(self.sources, &path, ask) {
            Ok(scan) => {
                self.nodes[index].unseen = !seen && scan.findings.iter().any(|(_, blocking)| *blocking);
                self.put(index, &path, scan);
            }
            Err(problem) => {
                self.nodes[index].unseen = !seen;
                self.findings.push(Finding { path, problem: (*problem).clone(), blocking: true });
                // The page still runs what it was before: what that leads to stays, and what it accepts.
                if let (Some(before), Some(old)) = (self.before, old) {
                    self.take_over(index, before.graph, old);
                }
            }
        }
    }

    fn take_over(&mut self, index: usize, graph: &'a Graph, old: usize) {
        let old = &graph.nodes[old];
        let mut deps = Vec::with_capacity(old.deps.len());
        for edge in &old.deps {
            let to = if edge.how == How::Package {
                self.package(&graph.packages[edge.to as usize])
            } else {
                let to = &graph.nodes[edge.to as usize];
                // A file that is gone leads nowhere, whoever still runs it.
                if !scan::exists(self.sources.files, &to.path) {
                    continue;
                }
                self.node(&to.path, to.ask)
            };
            deps.push(Edge { to, how: edge.how });
        }
        let node = &mut self.nodes[index];
        node.accepts_self = old.accepts_self;
        node.style = old.style;
        node.refresh = old.refresh;
        node.signature = old.signature;
        node.deps = deps.into();
    }

    fn put(&mut self, index: usize, path: &FilePath, scan: Scan) {
        let mut hasher = DefaultHasher::new();
        let mut deps: Vec<Edge> = Vec::with_capacity(scan.found.len());
        let mut known = HashSet::with_capacity(scan.found.len());
        for Found { target, how, .. } in &scan.found {
            let edge = match target {
                Ok(Target::File(to, ask)) => {
                    (to, ask, how).hash(&mut hasher);
                    Some(Edge { to: self.node(to, *ask), how: *how })
                }
                Ok(Target::Package(name, ask)) => {
                    (name, ask).hash(&mut hasher);
                    Some(Edge { to: self.package(name), how: How::Package })
                }
                Ok(Target::Public(to, ask)) => {
                    (to, ask).hash(&mut hasher);
                    None
                }
                Ok(Target::Address(url)) => {
                    url.hash(&mut hasher);
                    None
                }
                Err(Unresolved { message, .. }) => {
                    message.hash(&mut hasher);
                    None
                }
            };
            deps.extend(edge.filter(|edge| known.insert(*edge)));
        }
        self.findings.extend(scan.findings.into_iter().map(|(problem, blocking)| Finding {
            path: path.clone(),
            problem: problem.in_file(path.clone()),
            blocking,
        }));
        let node = &mut self.nodes[index];
        node.accepts_self = scan.accepts_self;
        node.style = scan.style;
        node.refresh = scan.refresh;
        node.signature = hasher.finish();
        node.deps = deps.into();
    }

    fn finish(self) -> Graph {
        Graph { nodes: self.nodes.into(), packages: self.packages.into(), findings: self.findings }
    }
}
