//! Addresses put into a module.

use super::{Binding, Glob, Import, ImportKind, Module, Style, StyleReference};
use std::{fmt::Write as _, ops::Range};

/// What an import leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Linked {
    /// An ES module, or for [`ImportKind::Url`] a file, at this address.
    Url(String),
    /// A module at this address whose only export is `default`: the `module.exports` of a `CommonJS` module.
    CommonJs(String),
    /// Nothing: this message is thrown when the import is evaluated.
    Failed(String),
}

/// The module's code with addresses in place of specifiers, and what `glob` gives (an object literal) in place of calls of
/// `import.meta.glob`. Everything stays on its line, so the source map stays right.
///
/// A `CommonJS` module's exports are read as Vite reads them: the default import is `exports.default` where `__esModule` is
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
            Linked::CommonJs(url) => Some(common_js(this, &url, index)),
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
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    push_quoted(&mut quoted, text);
    quoted
}

/// The same, added to what is there.
pub(super) fn push_quoted(to: &mut String, text: &str) {
    if text.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
        to.push_str(&serde_json::Value::from(text).to_string());
    } else {
        to.push('"');
        to.push_str(text);
        to.push('"');
    }
}

pub(crate) fn splice(code: &str, mut edits: Vec<Edit>) -> String {
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

/// What takes a place.
pub(crate) type Edit = (Range<usize>, String);

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
        ImportKind::Static(bindings) if bindings.is_empty() => return (import.literal.clone(), url),
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
            return (import.literal.clone(), url);
        }
    }
    (import.whole.clone(), text)
}

fn failed(import: &Import, message: &str, index: usize) -> Option<Edit> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compiler::{Compiler, Query};
    use overskill_core::{AppFile, FilePath};
    use proptest::prelude::*;

    fn linked(source: &str, to: &Linked) -> String {
        let path = FilePath::parse("src/a.js").unwrap();
        let module = Compiler::default().compile(&path, &AppFile::new(source.to_owned()), Query::None).unwrap();
        link(&module, &mut |_| to.clone(), &mut |_| unreachable!())
    }

    #[test]
    fn esm() {
        let to = Linked::Url("/x.js?t=\"1\"".into());
        for (source, code) in [
            ("import 'm';", "import \"/x.js?t=\\\"1\\\"\";\n"),
            ("import a, { b as c } from 'm';", "import a, { b as c } from \"/x.js?t=\\\"1\\\"\";\n"),
            ("import d from './d.json' with { type: 'json' };", "import d from \"/x.js?t=\\\"1\\\"\";\n"),
            ("export * from 'm';", "export * from \"/x.js?t=\\\"1\\\"\";\n"),
            ("import('m');", "import(\"/x.js?t=\\\"1\\\"\");\n"),
        ] {
            assert_eq!(linked(source, &to), code);
        }
    }

    #[test]
    fn common_js_as_vite_reads_it() {
        let to = Linked::CommonJs("/r.js".into());
        let m = "import __overskill_cjs0 from \"/r.js\";";
        let default = "__overskill_cjs0?.__esModule ? __overskill_cjs0.default : __overskill_cjs0";
        for (source, code) in [
            ("import 'r';", "import \"/r.js\";\n".to_owned()),
            ("import React from 'r';", format!("{m} const React = {default};\n")),
            (
                "import React, { useState, memo as m } from 'r';",
                format!(
                    "{m} const React = {default}; const useState = __overskill_cjs0[\"useState\"]; const m = __overskill_cjs0[\"memo\"];\n"
                ),
            ),
            ("import { default as R } from 'r';", format!("{m} const R = {default};\n")),
            ("import * as R from 'r';", format!("{m} const R = {NAMESPACE}(__overskill_cjs0);\n")),
            (
                "export { a, default as b, c as default } from 'r';",
                format!(
                    "{m} const __overskill_cjs0_0 = __overskill_cjs0[\"a\"]; export {{ __overskill_cjs0_0 as a }}; \
                     const __overskill_cjs0_1 = {default}; export {{ __overskill_cjs0_1 as b }}; \
                     const __overskill_cjs0_2 = __overskill_cjs0[\"c\"]; export {{ __overskill_cjs0_2 as default }};\n"
                ),
            ),
            (
                "export * as ns from 'r';",
                format!(
                    "{m} const __overskill_cjs0_all = {NAMESPACE}(__overskill_cjs0); export {{ __overskill_cjs0_all as ns }};\n"
                ),
            ),
            ("export * from 'r';", "export * from \"/r.js\";\n".to_owned()),
            (
                "import('r').then(f);",
                format!("import(\"/r.js\").then(({{ default: m }}) => {NAMESPACE}(m)).then(f);\n"),
            ),
        ] {
            assert_eq!(linked(source, &to), code);
        }
    }

    #[test]
    fn what_leads_nowhere_says_so_when_it_is_evaluated() {
        let to = Linked::Failed("no \"x\"".into());
        let error = "new Error(\"no \\\"x\\\"\")";
        for (source, code) in [
            ("import 'x';", format!("throw {error};\n")),
            ("import a, { b } from 'x';", format!("let a, b; throw {error};\n")),
            (
                "export { a as default } from 'x';",
                format!("let __overskill_none0_0; export {{ __overskill_none0_0 as default }}; throw {error};\n"),
            ),
            ("export * from 'x';", format!("throw {error};\n")),
            ("f(import('x'));", format!("f(Promise.reject({error}));\n")),
            ("f(new URL('x', import.meta.url));", format!("f((() => {{ throw {error}; }})());\n")),
            ("import.meta.hot.accept('x', f);", "import.meta.hot.accept(\"x\", f);\n".to_owned()),
        ] {
            assert_eq!(linked(source, &to), code);
        }
    }

    fn statement() -> impl Strategy<Value = String> {
        let name = "[a-z]{3,6}";
        prop_oneof![
            (name, "[a-z@/.é'-]{1,8}").prop_map(|(n, s)| format!("import {n} from {};", quote(&s))),
            (name, name, "[a-z./]{1,8}").prop_map(|(n, m, s)| format!("import {{ {n} as {m}x }} from '{s}';")),
            "[a-z./]{1,8}".prop_map(|s| format!("import '{s}'")),
            ("[a-z./]{1,8}", name).prop_map(|(s, n)| format!(
                "const {n}q = () => [import('{s}'), 'import \"{s}\"', new URL('{s}', import.meta.url).href]"
            )),
            name.prop_map(|n| format!("/* import '{n}' */ function {n}f() {{ return `from '${{1}}'` }}")),
            name.prop_map(|n| format!("export * as {n} from './{n}'")),
            name.prop_map(|n| format!("import.meta.hot?.accept(['./{n}', './b'], () => {{ }})")),
        ]
    }

    proptest! {
        #[test]
        fn places_name_what_they_say_and_the_same_addresses_give_the_same_code(
            statements in proptest::collection::vec(statement(), 0..12),
        ) {
            let source = statements.join("\n");
            let path = FilePath::parse("src/a.js").unwrap();
            // Names that are declared twice are refused, which is not the point here.
            if let Ok(module) = Compiler::default().compile_now(&path, &AppFile::new(source), Query::None) {
                for import in &module.imports {
                    prop_assert_eq!(&module.code[import.literal.clone()], quote(&import.specifier));
                    prop_assert!(import.whole.start <= import.literal.start && import.literal.end <= import.whole.end);
                }
                let same = link(&module, &mut |it| Linked::Url(it.specifier.clone()), &mut |_| String::new());
                prop_assert_eq!(&same, &module.code);
                for to in [Linked::CommonJs("/m.js".into()), Linked::Failed("no".into())] {
                    let other = link(&module, &mut |_| to.clone(), &mut |_| String::new());
                    prop_assert_eq!(other.lines().count(), module.code.lines().count());
                    let again = Compiler::default().compile_now(&path, &AppFile::new(other.clone()), Query::None);
                    prop_assert!(again.is_ok(), "{:?}\n{}", again, other);
                }
            }
        }

        #[test]
        fn no_text_makes_it_panic(source in "(import|export|default|from|const|class|=>|[a-z]|<[a-z]>|</|[{}()\\[\\];:,.'\"`@/*<>=!?&|+$#\\\\ \né-]){0,60}") {
            for name in ["src/a.ts", "src/a.tsx", "src/a.js", "src/a.json", "src/a.css"] {
                let path = FilePath::parse(name).unwrap();
                let compiled = Compiler::default().compile_now(&path, &AppFile::new(source.clone()), Query::None);
                if let Err(problem) = compiled {
                    prop_assert!(!problem.message.contains("defect"), "{}", problem);
                }
            }
        }
    }
}
