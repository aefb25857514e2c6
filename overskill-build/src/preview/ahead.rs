//! What a page is going to import, told in its head: a browser that finds out level by level asks as often as imports are deep.

use super::{
    glob,
    html::escaped,
    modules::{self, import_of},
    resolve::{Ask, Target},
    scan::{self, Sort},
    serve, tailwind,
    view::View,
};
use crate::compiler::{Import, ImportKind, Linked};
use overskill_core::FilePath;
use std::{collections::HashSet, fmt::Write as _};

/// Most modules of one page that are told.
const MOST: usize = 1000;

/// Links to all that the page's own script and `roots` import statically, each under the address that importers write: the
/// app's modules nearest first, and a package's or our own with all that it takes in. Packages that are on their way are left
/// out: the page does not wait for them.
pub(super) fn links(view: &View, roots: impl IntoIterator<Item = FilePath>) -> String {
    let mut ahead = Ahead { view, told: HashSet::new(), links: String::new() };
    ahead.tell_all(ahead.behind(serve::CLIENT));
    let (mut seen, mut open) = (HashSet::new(), Vec::new());
    open.extend(roots.into_iter().filter(|path| seen.insert(path.clone())));
    let mut done = 0;
    while done < open.len() && ahead.told.len() < MOST {
        let path = open[done].clone();
        done += 1;
        open.extend(ahead.of(&path).into_iter().filter(|to| seen.insert(to.clone())));
    }
    ahead.links
}

struct Ahead<'a> {
    view: &'a View,
    told: HashSet<String>,
    links: String,
}

impl Ahead<'_> {
    /// Tells what a module imports; which of them import others.
    fn of(&mut self, path: &FilePath) -> Vec<FilePath> {
        let view = self.view;
        if Sort::of(path.as_str()) == Sort::Style {
            if !scan::is_tailwind(view.sources(), path) || view.coming.is_some() {
                return Vec::new();
            }
            if let Ok(code) = modules::module(view, path, Ask::Plain) {
                self.tell_all(imports_of_own("/", &code));
            }
            return scan::tailwind_config(&view.files).cloned().into_iter().collect();
        }
        let Some(file) = scan::source(&view.files, path.as_str()) else { return Vec::new() };
        // What is broken says so itself.
        let Ok(module) = view.compiler.compile(path, &file, Ask::Plain.query()) else { return Vec::new() };
        if scan::tailwind_config(&view.files) == Some(path) && view.coming.is_none() {
            let required = tailwind::config_requires(view.files.text(path.as_str()).unwrap_or_default());
            let found = required.iter().filter_map(|it| modules::script_address(view, path, it).ok());
            self.tell_all(found.collect());
        }
        if module.refresh {
            self.tell("/@overskill/refresh.js");
        }
        if !module.env.is_empty() {
            self.tell("/@overskill/env.js");
        }
        let statics = module.imports.iter().filter(|import| is_static(import));
        let mut inner: Vec<_> = statics.filter_map(|import| self.import(path, import)).collect();
        for call in module.globs.iter().filter(|call| call.eager) {
            for found in glob::matches(view.sources(), path.as_str(), call).unwrap_or_default() {
                self.tell(&view.address(&found.path, found.ask, false));
                inner.extend(importer(found.path, found.ask));
            }
        }
        inner
    }

    fn import(&mut self, path: &FilePath, import: &Import) -> Option<FilePath> {
        let target = scan::import_target(self.view.sources(), path, import).ok()?;
        if matches!(target, Target::Package(..)) && self.view.coming.is_some() {
            return None;
        }
        let (Linked::Url(address) | Linked::CommonJs(address)) = import_of(self.view, path, import) else {
            return None;
        };
        self.tell(&address);
        match target {
            Target::File(to, ask) => importer(to, ask),
            _ => None,
        }
    }

    /// Tells an address of this server, and what is imported there if it is a package's file or one of our own.
    fn tell(&mut self, address: &str) {
        self.tell_all(vec![address.to_owned()]);
    }

    fn tell_all(&mut self, mut open: Vec<String>) {
        open.reverse();
        while let Some(address) = open.pop() {
            let elsewhere = !address.starts_with('/') || address.starts_with("//");
            if elsewhere || self.told.len() >= MOST || self.told.contains(&address) {
                continue;
            }
            write!(self.links, "<link rel=\"modulepreload\" href=\"{}\">", escaped(&address))
                .expect("a string takes all");
            open.extend(self.behind(&address).into_iter().rev());
            self.told.insert(address);
        }
    }

    /// What the file at an address imports, where no source of the app says it.
    fn behind(&self, address: &str) -> Vec<String> {
        if let Some((digest, name)) = address.strip_prefix("/@npm/").and_then(|rest| rest.split_once('/')) {
            let imports = self.view.package_file(digest, name).map_or(&[][..], |file| &file.imports);
            return imports.iter().map(|name| format!("/@npm/{digest}/{name}")).collect();
        }
        let own = address.strip_prefix("/@overskill/").and_then(|name| serve::own_code(self.view, name));
        own.map(|code| imports_of_own("/@overskill/", &code)).unwrap_or_default()
    }
}

/// What a module that we wrote imports: each import begins a line.
fn imports_of_own(folder: &str, code: &str) -> Vec<String> {
    let lines = code.lines().filter(|line| line.starts_with("import ") || line.starts_with("export {"));
    let specifiers = lines.filter_map(|line| {
        let (_, rest) = line.split_once('"')?;
        Some(rest.split_once('"')?.0)
    });
    specifiers.map(|it| it.strip_prefix("./").map_or_else(|| it.to_owned(), |name| format!("{folder}{name}"))).collect()
}

/// What may import others itself.
fn importer(path: FilePath, ask: Ask) -> Option<FilePath> {
    (ask == Ask::Plain && Sort::of(path.as_str()) != Sort::Asset).then_some(path)
}

fn is_static(import: &Import) -> bool {
    matches!(import.kind, ImportKind::Static(_) | ImportKind::ReExport(_) | ImportKind::ReExportAll(_))
}
