//! What a page is going to import, told in its head: a browser that finds out level by level asks as often as imports are deep.

use super::{
    html::escaped,
    modules::import_of,
    resolve::{Ask, Target},
    scan::{self, Sort},
    tailwind::{CANDIDATES_FILE, CORE_FILE},
    view::View,
};
use crate::compiler::{Import, ImportKind, Linked};
use overskill_core::FilePath;
use std::{collections::HashSet, fmt::Write as _};

/// Most modules of one page that are told.
const MOST: usize = 1000;

/// Links to all that `roots` import statically, nearest first, each under the address that importers write. Packages that
/// are on their way are left out: the page does not wait for them.
pub(super) fn links(view: &View, roots: impl IntoIterator<Item = FilePath>) -> String {
    let mut ahead = Ahead { view, told: HashSet::new(), links: String::new() };
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
            if scan::is_tailwind(view.sources(), path) && view.coming.is_none() {
                self.tell(&format!("/@overskill/{CORE_FILE}"));
                self.tell(&format!("/@overskill/{CANDIDATES_FILE}"));
            }
            return Vec::new();
        }
        let Some(file) = scan::source(&view.files, path.as_str()) else { return Vec::new() };
        // What is broken says so itself.
        let Ok(module) = view.compiler.compile(path, &file, Ask::Plain.query()) else { return Vec::new() };
        if module.refresh {
            self.tell("/@overskill/refresh.js");
        }
        if !module.env.is_empty() {
            self.tell("/@overskill/env.js");
        }
        module
            .imports
            .iter()
            .filter(|import| is_static(import))
            .filter_map(|import| self.import(path, import))
            .collect()
    }

    fn import(&mut self, path: &FilePath, import: &Import) -> Option<FilePath> {
        let target = scan::import_target(self.view.sources(), path, import).ok()?;
        if matches!(target, Target::Package(..)) && self.view.coming.is_some() {
            return None;
        }
        let (Linked::Url(address) | Linked::CommonJs(address)) = import_of(self.view, path, import) else {
            return None;
        };
        // Not what lies elsewhere.
        if address.starts_with('/') && !address.starts_with("//") {
            self.tell(&address);
        }
        match target {
            Target::File(to, Ask::Plain) if Sort::of(to.as_str()) != Sort::Asset => Some(to),
            _ => None,
        }
    }

    fn tell(&mut self, address: &str) {
        if self.told.len() < MOST && self.told.insert(address.to_owned()) {
            write!(self.links, "<link rel=\"modulepreload\" href=\"{}\">", escaped(address))
                .expect("a string takes all");
        }
    }
}

fn is_static(import: &Import) -> bool {
    matches!(import.kind, ImportKind::Static(_) | ImportKind::ReExport(_) | ImportKind::ReExportAll(_))
}
