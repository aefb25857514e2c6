//! Addresses put into a module.

use super::{Binding, Glob, Import, ImportKind, Module, Style, StyleReference};
use std::fmt::Write as _;

/// What an import leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Linked {
    /// An ES module, or for [`ImportKind::Url`] a file, at this address.
    Url(String),
    /// A module at this address whose only export is `default`: the `module.exports` of a CommonJS module.
    CommonJs(String),
    /// Nothing: this message is thrown when the import is evaluated.
    Failed(String),
}

/// The module's code with addresses in place of specifiers, and what `glob` gives (an object literal) in place of calls of
/// `import.meta.glob`. Everything stays on its line, so the source map stays right.
///
/// A CommonJS module's exports are read as Vite reads them: the default import is `exports.default` where `__esModule` is
/// set and `module.exports` otherwise; names are properties; a namespace has them all and `default`.
pub fn link(
    module: &Module,
    import: &mut dyn FnMut(&Import) -> Linked,
    glob: &mut dyn FnMut(&Glob) -> String,
) -> String {
    let mut edits = Vec::with_capacity(module.imports.len() + module.globs.len());
    for (index, this) in module.imports.iter().enumerate() {
        let linked = match import(this) {
            Linked::Url(url) => Some((this.literal.clone(), quote(&url))),
            Linked::CommonJs(url) => common_js(this, &url, index),
            Linked::Failed(message) => failed(this, &message, index),
        };
        edits.extend(linked);
    }
    edits.extend(module.globs.iter().map(|this| (this.whole.clone(), format!("({})", glob(this)))));
    splice(&module.code, edits)
}

/// The style sheet with what `replace` gives in place of each reference (an `@import` rule with its `;`, or a `url(…)`).
pub fn link_style(style: &Style, replace: &mut dyn FnMut(&StyleReference) -> String) -> String {
    let edits = style.references.iter().map(|this| (this.whole.clone(), replace(this))).collect();
    splice(&style.css, edits)
}

/// A string as a JavaScript literal.
pub(super) fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn splice(code: &str, mut edits: Vec<(std::ops::Range<usize>, String)>) -> String {
    edits.sort_by_key(|(range, _)| range.start);
    let mut linked = String::with_capacity(code.len() + edits.iter().map(|(_, text)| text.len()).sum::<usize>());
    let mut done = 0;
    for (range, text) in edits {
        linked.push_str(&code[done..range.start]);
        linked.push_str(&text);
        done = range.end;
    }
    linked.push_str(&code[done..]);
    linked
}

type Edit = Option<(std::ops::Range<usize>, String)>;

const NAMESPACE: &str = "((m) => m?.__esModule ? m : { \
    ...(typeof m === \"object\" && !Array.isArray(m)) || typeof m === \"function\" ? m : {}, default: m })";

fn common_js(import: &Import, url: &str, index: usize) -> Edit {
    let (url, module) = (quote(url), format!("__overskill_cjs{index}"));
    let default = format!("{module}?.__esModule ? {module}.default : {module}");
    let property = |name: &str| match name {
        "default" => default.clone(),
        name => format!("{module}[{}]", quote(name)),
    };
    let mut text = format!("import {module} from {url};");
    match &import.kind {
        ImportKind::Static(bindings) if bindings.is_empty() => return Some((import.literal.clone(), url)),
        ImportKind::Static(bindings) => {
            for binding in bindings {
                let (local, value) = match binding {
                    Binding::Default(local) => (local, default.clone()),
                    Binding::Namespace(local) => (local, format!("{NAMESPACE}({module})")),
                    Binding::Named { imported, local } => (local, property(imported)),
                };
                write!(text, " const {local} = {value};").expect("a string takes all");
            }
        }
        ImportKind::ReExport(names) => {
            for (n, (there, here)) in names.iter().enumerate() {
                let here = export_name(here);
                write!(text, " const {module}_{n} = {}; export {{ {module}_{n} as {here} }};", property(there))
                    .expect("a string takes all");
            }
        }
        ImportKind::ReExportAll(Some(name)) => {
            let name = export_name(name);
            write!(text, " const {module}_all = {NAMESPACE}({module}); export {{ {module}_all as {name} }};")
                .expect("a string takes all");
        }
        ImportKind::Dynamic => {
            text = format!("import({url}).then(({{ default: m }}) => {NAMESPACE}(m))");
        }
        // `export *` of names that nobody can tell; an address; a dependency that is accepted.
        ImportKind::ReExportAll(None) | ImportKind::Url | ImportKind::Accept => {
            return Some((import.literal.clone(), url));
        }
    }
    Some((import.whole.clone(), text))
}

fn failed(import: &Import, message: &str, index: usize) -> Edit {
    let error = format!("new Error({})", quote(message));
    // Names are declared all the same: without them, modules that import them fail first, with a worse message.
    let text = match &import.kind {
        ImportKind::Static(bindings) => {
            let locals: Vec<&str> = bindings
                .iter()
                .map(|binding| match binding {
                    Binding::Default(local) | Binding::Namespace(local) | Binding::Named { local, .. } => &**local,
                })
                .collect();
            let declared = if locals.is_empty() { String::new() } else { format!("let {}; ", locals.join(", ")) };
            format!("{declared}throw {error};")
        }
        ImportKind::ReExport(names) => {
            let mut text = String::new();
            for (n, (_, here)) in names.iter().enumerate() {
                let here = export_name(here);
                write!(text, "let __overskill_none{index}_{n}; export {{ __overskill_none{index}_{n} as {here} }}; ")
                    .expect("a string takes all");
            }
            format!("{text}throw {error};")
        }
        ImportKind::ReExportAll(Some(name)) => {
            let name = export_name(name);
            format!("let __overskill_none{index}; export {{ __overskill_none{index} as {name} }}; throw {error};")
        }
        ImportKind::ReExportAll(None) => format!("throw {error};"),
        ImportKind::Dynamic => format!("Promise.reject({error})"),
        ImportKind::Url => format!("(() => {{ throw {error}; }})()"),
        ImportKind::Accept => return None,
    };
    Some((import.whole.clone(), text))
}

/// A name as it stands after `as`: quoted unless it is an identifier.
pub(super) fn export_name(name: &str) -> String {
    if super::script::is_identifier_name(name) { name.to_owned() } else { quote(name) }
}
