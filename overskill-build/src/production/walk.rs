//! What a build takes in: every module that the pages or the server side reach, compiled, with where its imports lead.

use crate::{
    Location, Problem, ProblemKind,
    compiler::{Compiler, Import, ImportKind, Mode, Module, Query},
    preview::{
        config::Config,
        files::{Files, Pool},
        glob,
        graph::Sources,
        resolve::{Ask, Target},
        scan::{self, Sort},
        tailwind,
    },
};
use overskill_core::{AppFile, FilePath, Snapshot};
use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// An app's files, and how it wants them taken.
pub(super) struct Ground {
    pub(super) files: Files,
    pub(super) config: Config,
    pub(super) compiler: Compiler,
    pool: Pool,
}

impl Ground {
    pub(super) fn of(snapshot: &Snapshot, compiler: &Compiler) -> Self {
        let pool = Pool::default();
        let files = Files::of(snapshot, &pool);
        let config = Config::read(&files);
        let mut options = config.compiler.clone();
        (options.mode, options.refresh) = (Mode::Production, false);
        Self { files, config, compiler: compiler.with_options(options), pool }
    }

    pub(super) fn sources(&self) -> Sources<'_> {
        Sources { files: &self.files, config: &self.config, compiler: &self.compiler, pool: &self.pool }
    }

    pub(super) fn file(&self, path: &str) -> Option<Cow<'_, AppFile>> {
        scan::source(&self.files, path)
    }
}

/// Where the modules are to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// In a browser.
    Page,
    /// On a server.
    Server,
    /// In the child that runs configurations: of these only the packages count.
    Tool,
}

/// What was found.
pub(super) struct App {
    pub(super) side: Side,
    pub(super) units: Vec<Unit>,
    index: HashMap<(FilePath, Ask), usize>,
    /// So many of the units were looked at.
    filled: usize,
    /// Every bare specifier.
    pub(super) packages: BTreeSet<String>,
    pub(super) problems: Vec<Problem>,
}

/// One module.
pub(super) struct Unit {
    pub(super) path: FilePath,
    pub(super) ask: Ask,
    pub(super) made: Made,
}

/// What is made of a file.
pub(super) enum Made {
    /// Code.
    Code { module: Arc<Module>, imports: Vec<To>, globs: Vec<Vec<(String, usize)>> },
    /// A style sheet that comes along; its code, if it has any, are the names of its classes.
    Style { module: Arc<Module>, imports: Vec<To> },
    /// The text of a style sheet.
    StyleText,
    /// The address of a file.
    Address,
    /// A function that instantiates WebAssembly.
    Init,
    /// A constructor of a worker that runs a unit.
    Worker(usize),
    /// It could not be compiled: a problem says why.
    Nothing,
}

/// Where an import leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum To {
    Unit(usize),
    /// The address of the script that a worker runs.
    Worker(usize),
    /// The address of a file of the sources.
    File(FilePath),
    /// Something of a package, as its author wrote it.
    Package(String, Ask),
    /// What stays as it is.
    Address(String),
    /// `WebAssembly` that the server side imports.
    Wasm(FilePath),
    Nowhere,
}

impl App {
    pub(super) fn new(side: Side) -> Self {
        let (units, index, packages) = (Vec::new(), HashMap::new(), BTreeSet::new());
        Self { side, units, index, filled: 0, packages, problems: Vec::new() }
    }

    /// Takes in a module and all that it leads to; its place among the units.
    pub(super) fn take(&mut self, ground: &Ground, path: &FilePath, ask: Ask) -> usize {
        let root = self.unit(path, ask);
        while self.filled < self.units.len() {
            let unit = &self.units[self.filled];
            let (path, ask) = (unit.path.clone(), unit.ask);
            match self.made(ground, &path, ask) {
                Ok(made) => self.units[self.filled].made = made,
                Err(problem) => self.problems.push((*problem).clone()),
            }
            self.filled += 1;
        }
        root
    }

    fn unit(&mut self, path: &FilePath, ask: Ask) -> usize {
        let next = self.units.len();
        let place = *self.index.entry((path.clone(), ask)).or_insert(next);
        if place == next {
            self.units.push(Unit { path: path.clone(), ask, made: Made::Nothing });
        }
        place
    }

    fn made(&mut self, ground: &Ground, path: &FilePath, ask: Ask) -> Result<Made, Arc<Problem>> {
        let file = ground.file(path.as_str()).ok_or_else(|| {
            let problem = Problem::new(ProblemKind::Entry, format!("{path} is not among the app's files"));
            Arc::new(problem.in_file(path.clone()))
        })?;
        let compile = |query| ground.compiler.compile(path, &file, query);
        match (ask, Sort::of(path.as_str())) {
            (Ask::Url, _) => Ok(Made::Address),
            (Ask::Plain, Sort::Asset) => compile(Query::None).map(|_| Made::Address),
            (Ask::Init, _) => compile(Query::Init).map(|_| Made::Init),
            (Ask::Worker, _) => compile(Query::Worker).map(|_| Made::Worker(self.unit(path, Ask::Plain))),
            (Ask::Plain | Ask::Linked | Ask::Part | Ask::Inline, Sort::Style) => {
                let module = compile(Query::None)?;
                self.style(ground, path, ask)?;
                if ask == Ask::Inline {
                    return Ok(Made::StyleText);
                }
                let imports = module.imports.iter().map(|it| self.to(ground, path, &file, it)).collect();
                Ok(Made::Style { module, imports })
            }
            _ => {
                let module = compile(ask.query())?;
                Ok(self.code(ground, path, &file, module))
            }
        }
    }

    fn code(&mut self, ground: &Ground, path: &FilePath, file: &AppFile, module: Arc<Module>) -> Made {
        let text = std::str::from_utf8(file.contents()).unwrap_or_default();
        if self.side == Side::Tool {
            self.packages.extend(tailwind::config_requires(text).into_iter().filter(|it| !it.starts_with(['.', '/'])));
        }
        let imports = module.imports.iter().map(|it| self.to(ground, path, file, it)).collect();
        let mut globs = Vec::with_capacity(module.globs.len());
        for call in &module.globs {
            let found = glob::matches(ground.sources(), path.as_str(), call).unwrap_or_else(|error| {
                self.problems.push(scan::unresolved(&error, text, call.at).in_file(path.clone()));
                Vec::new()
            });
            globs.push(found.into_iter().map(|it| (it.key, self.unit(&it.path, it.ask))).collect());
        }
        Made::Code { module, imports, globs }
    }

    /// What a sheet takes in is put into it later; here it is only made sure that it is there.
    fn style(&mut self, ground: &Ground, path: &FilePath, ask: Ask) -> Result<(), Arc<Problem>> {
        let scan = scan::scan(ground.sources(), path, ask)?;
        let blocking = scan.findings.into_iter().filter(|(_, blocking)| *blocking);
        self.problems.extend(blocking.map(|(problem, _)| problem.in_file(path.clone())));
        for found in scan.found {
            match found.target {
                Ok(Target::Package(name, _)) => drop(self.packages.insert(name)),
                // Sheets that it takes in may name packages, too.
                Ok(Target::File(to, Ask::Part)) => drop(self.unit(&to, Ask::Part)),
                _ => {}
            }
        }
        Ok(())
    }

    fn to(&mut self, ground: &Ground, path: &FilePath, file: &AppFile, import: &Import) -> To {
        let specifier = import.specifier.as_str();
        if self.side == Side::Server && ["node:", "cloudflare:"].iter().any(|it| specifier.starts_with(it)) {
            return To::Address(specifier.to_owned());
        }
        match scan::import_target(ground.sources(), path, import) {
            Ok(Target::File(to, Ask::Plain)) if import.kind == ImportKind::Url => {
                To::Worker(self.unit(&to, Ask::Plain))
            }
            Ok(Target::File(to, _)) if import.kind == ImportKind::Url => To::File(to),
            Ok(Target::File(to, Ask::Plain)) if self.side == Side::Server && to.extension() == Some("wasm") => {
                To::Wasm(to)
            }
            Ok(Target::File(to, ask)) => To::Unit(self.unit(&to, ask)),
            Ok(Target::Public(to, ask)) => match ask {
                // What lies in `public/` has its address and nothing else.
                Ask::Plain | Ask::Url => public(&to, import),
                _ => To::Unit(self.unit(&to, ask)),
            },
            Ok(Target::Package(name, ask)) => {
                self.packages.insert(name.clone());
                To::Package(name, ask)
            }
            Ok(Target::Address(address)) => To::Address(address),
            Err(_) if self.side == Side::Tool || import.kind == ImportKind::Accept => To::Nowhere,
            Err(error) => {
                let text = std::str::from_utf8(file.contents()).unwrap_or_default();
                self.problems.push(scan::unresolved(&error, text, import.at).in_file(path.clone()));
                To::Nowhere
            }
        }
    }
}

fn public(to: &FilePath, import: &Import) -> To {
    let is_address = import.kind == ImportKind::Url || Sort::of(to.as_str()) == Sort::Asset;
    let address = to.as_str()["public".len()..].to_owned();
    if is_address || import.specifier.ends_with("?url") { To::File(to.clone()) } else { To::Address(address) }
}

/// The place of an import of `name` in one of the units.
pub(super) fn place_of<'a>(app: &'a App, name: &str) -> Option<(&'a FilePath, Option<Location>)> {
    app.units.iter().find_map(|unit| {
        let (Made::Code { module, imports, .. } | Made::Style { module, imports }) = &unit.made else { return None };
        let mut pairs = module.imports.iter().zip(imports);
        let found = pairs.find(|(_, to)| matches!(to, To::Package(other, _) if other == name))?;
        Some((&unit.path, Some(found.0.at)))
    })
}
