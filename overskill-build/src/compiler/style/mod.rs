//! Style sheets: what they refer to, CSS modules, and mistakes in them.

mod scan;

use super::{Binding, Import, ImportKind, Module, Style, StyleReference, lines::Lines, link::quote};
use crate::{Location, Problem, ProblemKind};
use lightningcss::{
    css_modules::{Config, CssModuleExport, CssModuleExports, CssModuleReference, Pattern},
    error::ErrorLocation,
    printer::PrinterOptions,
    stylesheet::{ParserOptions, StyleSheet},
};
use scan::{Scan, scan};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::{Arc, RwLock},
};

/// The stack that the deepest style sheet needs: measured, a level takes up to 16 KiB.
pub(super) const STACK_BYTES: usize = scan::MAX_DEPTH * (32 << 10);

/// Compiles a style sheet. Its text stays as it is, but for that of a CSS module.
pub(super) fn compile(path: &str, source: &str) -> Result<Module, Problem> {
    let source = source.trim_start_matches('\u{feff}');
    let scanned = scan(source)
        .map_err(|(offset, message)| Problem::new(ProblemKind::Syntax, message).at_offset(source, offset))?;
    if path.rsplit('/').next().is_some_and(|name| name.contains(".module.")) {
        return css_module(path, source, &scanned);
    }
    let lines = Lines::of(source);
    let style = Style {
        css: source.to_owned(),
        references: references(&scanned, |reference| lines.at(reference.whole.start)),
        classes: None,
        tailwind: scanned.tailwind,
    };
    // Tailwind's own syntax is no CSS yet.
    let warnings = if scanned.tailwind { Vec::new() } else { warnings(source) };
    Ok(Module { style: Some(style), exports: Some(BTreeSet::new()), warnings, ..Module::default() })
}

fn references(scanned: &Scan, at: impl Fn(&scan::Reference) -> Location) -> Vec<StyleReference> {
    let place = |it: &scan::Reference| StyleReference {
        specifier: it.specifier.clone(),
        kind: it.kind.clone(),
        whole: it.whole.clone(),
        at: at(it),
    };
    scanned.references.iter().map(place).collect()
}

/// What browsers will skip.
fn warnings(source: &str) -> Vec<Problem> {
    const MOST: usize = 20;
    let found = Arc::new(RwLock::new(Vec::new()));
    let options = ParserOptions { error_recovery: true, warnings: Some(found.clone()), ..ParserOptions::default() };
    let parsed = StyleSheet::parse(source, options).err();
    let found = found.read().expect("nothing panics while it is held");
    let all = found.iter().chain(&parsed);
    all.take(MOST).map(|error| problem(source, error.kind.to_string(), error.loc.as_ref())).collect()
}

fn problem(source: &str, message: String, at: Option<&ErrorLocation>) -> Problem {
    let problem = Problem::new(ProblemKind::Syntax, message);
    let Some(at) = at else { return problem };
    let line_start: usize = source.split_inclusive('\n').take(at.line as usize).map(str::len).sum();
    let column = source[line_start..].encode_utf16().zip(1..).take_while(|(_, column)| *column < at.column);
    let before = String::from_utf16_lossy(&column.map(|(unit, _)| unit).collect::<Vec<_>>()).len();
    problem.at_offset(source, line_start + before)
}

fn css_module(path: &str, source: &str, scanned: &Scan) -> Result<Module, Problem> {
    let config = Config {
        pattern: Pattern::parse("_[local]_[hash]").expect("the pattern is well-formed"),
        grid: false,
        container: false,
        custom_idents: false,
        ..Config::default()
    };
    let options = ParserOptions { filename: path.to_owned(), css_modules: Some(config), ..ParserOptions::default() };
    let sheet = StyleSheet::parse(source, options)
        .map_err(|error| problem(source, error.kind.to_string(), error.loc.as_ref()))?;
    let printed = sheet
        .to_css(PrinterOptions::default())
        .map_err(|error| problem(source, error.kind.to_string(), error.loc.as_ref()))?;
    let exports = printed.exports.unwrap_or_default();
    let rescanned = scan(&printed.code).map_err(|(_, message)| Problem::new(ProblemKind::Syntax, message))?;
    let lines = Lines::of(source);
    let written: BTreeMap<&str, usize> =
        scanned.references.iter().rev().map(|it| (it.specifier.as_str(), it.whole.start)).collect();
    let references =
        references(&rescanned, |it| lines.at(written.get(it.specifier.as_str()).copied().unwrap_or_default()));
    let classes = classes(&exports);
    let mut module = exporting(&classes, source, &lines);
    module.style = Some(Style {
        references,
        classes: Some(classes.iter().map(|(name, class)| (name.clone(), class.own.clone())).collect()),
        tailwind: rescanned.tailwind,
        css: printed.code,
    });
    Ok(module)
}

/// What one name of a CSS module stands for.
#[derive(Default)]
struct Class {
    /// Its own class and those composed from this file and from everywhere.
    own: String,
    /// Names in other files, with those files.
    elsewhere: Vec<(String, String)>,
}

fn classes(exports: &CssModuleExports) -> BTreeMap<String, Class> {
    let by_class: BTreeMap<&str, &CssModuleExport> =
        exports.values().map(|export| (export.name.as_str(), export)).collect();
    let mut classes = BTreeMap::new();
    for (name, export) in exports {
        let mut class = Class { own: export.name.clone(), elsewhere: Vec::new() };
        let mut seen = BTreeSet::from([export.name.as_str()]);
        let mut todo: Vec<&CssModuleReference> = export.composes.iter().rev().collect();
        while let Some(reference) = todo.pop() {
            match reference {
                CssModuleReference::Local { name } | CssModuleReference::Global { name } => {
                    if seen.insert(name) {
                        write!(class.own, " {name}").expect("a string takes all");
                        todo.extend(by_class.get(name.as_str()).iter().flat_map(|it| it.composes.iter().rev()));
                    }
                }
                CssModuleReference::Dependency { name, specifier } => {
                    class.elsewhere.push((name.clone(), specifier.clone()));
                }
            }
        }
        classes.insert(name.clone(), class);
    }
    classes
}

/// The module's code: the names as exports, with imports of what they compose.
fn exporting(classes: &BTreeMap<String, Class>, source: &str, lines: &Lines<'_>) -> Module {
    let files: BTreeSet<&str> =
        classes.values().flat_map(|class| class.elsewhere.iter().map(|(_, file)| file.as_str())).collect();
    let files: BTreeMap<&str, usize> = files.into_iter().zip(0..).collect();
    let mut module = Module::default();
    for (file, n) in &files {
        let start = module.code.len();
        let local = format!("__overskill_composed{n}");
        let before = format!("import {local} from ");
        let literal = quote(file);
        writeln!(module.code, "{before}{literal};").expect("a string takes all");
        module.imports.push(Import {
            specifier: (*file).to_owned(),
            kind: ImportKind::Static(vec![Binding::Default(local)]),
            literal: start + before.len()..start + before.len() + literal.len(),
            whole: start..module.code.len() - 1,
            at: lines.at(source.find(file).unwrap_or_default()),
        });
    }
    module.code.push_str("const __overskill_classes = {");
    for (name, class) in classes {
        let mut value = quote(&class.own);
        for (there, file) in &class.elsewhere {
            write!(value, " + \" \" + __overskill_composed{}[{}]", files[file.as_str()], quote(there))
                .expect("a string takes all");
        }
        write!(module.code, "\n\t{}: {value},", quote(name)).expect("a string takes all");
    }
    module.code.push_str("\n};\nexport default __overskill_classes;\n");
    let mut exports = BTreeSet::from(["default".to_owned()]);
    for (n, name) in classes.keys().enumerate().filter(|(_, name)| *name != "default") {
        // `as` takes every identifier name, reserved or not.
        if super::script::is_identifier_name(name) {
            writeln!(
                module.code,
                "const __overskill_class{n} = __overskill_classes.{name}; export {{ __overskill_class{n} as {name} }};"
            )
            .expect("a string takes all");
            exports.insert(name.clone());
        }
    }
    module.exports = Some(exports);
    module
}

#[cfg(test)]
mod tests;
