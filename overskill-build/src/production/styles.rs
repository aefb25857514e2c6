//! Which style sheets go into which file: what the same pages and parts of pages need is together, and is loaded once.

use super::{
    emit::Emitted,
    modules::PackageFile,
    walk::{App, Made, To},
};
use crate::compiler::ImportKind;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A sheet that a module brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Brought {
    /// A unit of the app.
    Unit(usize),
    /// A package's: the import that names it.
    Import((usize, usize)),
}

/// Style sheets that are one file.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) sheets: Vec<Brought>,
}

/// All groups, and which of them each root needs, in the order in which they are to be loaded.
#[derive(Debug, Default)]
pub(super) struct Groups {
    pub(super) groups: Vec<Group>,
    pub(super) of_root: BTreeMap<Root, Vec<usize>>,
}

/// Where loading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Root {
    /// All scripts of a page, by the page's number.
    Page(usize),
    /// A unit that is imported when it is needed.
    Unit(usize),
}

/// Puts sheets together that the same roots need. `pages` are the units that each page's scripts begin with.
pub(super) fn groups(app: &App, emitted: &Emitted, pages: &[Vec<usize>]) -> Groups {
    let mut roots: Vec<(Root, Vec<usize>)> =
        pages.iter().enumerate().map(|(page, units)| (Root::Page(page), units.clone())).collect();
    roots.extend(emitted.dynamic.iter().map(|unit| (Root::Unit(*unit), vec![*unit])));

    // Sheets by what tells them apart: two imports of one sheet of a package are one.
    let mut known: Vec<(Brought, BTreeSet<usize>)> = Vec::new();
    let mut index: HashMap<Key<'_>, usize> = HashMap::new();
    let mut of_root: Vec<Vec<usize>> = Vec::new();
    for (number, (_, units)) in roots.iter().enumerate() {
        let mut sheets = Vec::new();
        for brought in in_order(app, emitted, units) {
            let key = match &brought {
                Brought::Unit(unit) => Key::Unit(*unit),
                Brought::Import(place) => Key::Package(&emitted.package_styles[place]),
            };
            let next = known.len();
            let sheet = *index.entry(key).or_insert(next);
            if sheet == next {
                known.push((brought, BTreeSet::new()));
            }
            known[sheet].1.insert(number);
            if !sheets.contains(&sheet) {
                sheets.push(sheet);
            }
        }
        of_root.push(sheets);
    }
    let mut all = Groups::default();
    let mut group_of: HashMap<&BTreeSet<usize>, usize> = HashMap::new();
    for (brought, needed_by) in &known {
        let next = all.groups.len();
        let group = *group_of.entry(needed_by).or_insert(next);
        if group == next {
            all.groups.push(Group::default());
        }
        all.groups[group].sheets.push(brought.clone());
    }
    for ((root, _), sheets) in roots.iter().zip(&of_root) {
        let mut needed = Vec::new();
        for sheet in sheets {
            let group = group_of[&known[*sheet].1];
            if !needed.contains(&group) {
                needed.push(group);
            }
        }
        all.of_root.insert(*root, needed);
    }
    all
}

#[derive(PartialEq, Eq, Hash)]
enum Key<'a> {
    Unit(usize),
    Package(&'a PackageFile),
}

/// The sheets that come along with these units, in the order in which modules run.
///
/// Without recursion: a chain of imports may be as long as its author likes.
fn in_order(app: &App, emitted: &Emitted, roots: &[usize]) -> Vec<Brought> {
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    for root in roots {
        let mut stack = vec![(*root, 0)];
        seen.insert(*root);
        while let Some((unit, next)) = stack.last_mut() {
            let unit = *unit;
            match step(app, emitted, unit, *next) {
                Step::Unit(to) => {
                    *next += 1;
                    if seen.insert(to) {
                        stack.push((to, 0));
                    }
                }
                Step::Sheet(sheet) => {
                    *next += 1;
                    found.push(sheet);
                }
                Step::Nothing => *next += 1,
                Step::End => {
                    stack.pop();
                    if matches!(app.units[unit].made, Made::Style { .. }) {
                        found.push(Brought::Unit(unit));
                    }
                }
            }
        }
    }
    found
}

enum Step {
    Unit(usize),
    Sheet(Brought),
    Nothing,
    End,
}

/// What the `next`-th import of a unit brings; calls of `import.meta.glob` come after its imports.
fn step(app: &App, emitted: &Emitted, unit: usize, next: usize) -> Step {
    let (module, imports, globs): (_, _, &[Vec<(String, usize)>]) = match &app.units[unit].made {
        Made::Code { module, imports, globs } => (module, imports, globs),
        Made::Style { module, imports } => (module, imports, &[]),
        _ => return Step::End,
    };
    if let Some(to) = imports.get(next) {
        let now = matches!(
            module.imports[next].kind,
            ImportKind::Static(_) | ImportKind::ReExport(_) | ImportKind::ReExportAll(_)
        );
        return match to {
            To::Unit(to) if now => Step::Unit(*to),
            To::Package(..) if emitted.package_styles.contains_key(&(unit, next)) => {
                Step::Sheet(Brought::Import((unit, next)))
            }
            _ => Step::Nothing,
        };
    }
    let mut eager = module.globs.iter().zip(globs).filter(|(call, _)| call.eager).flat_map(|(_, found)| found);
    eager.nth(next - imports.len()).map_or(Step::End, |(_, to)| Step::Unit(*to))
}
