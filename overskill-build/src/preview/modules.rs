//! What a page gets for a module: its code with addresses in it, and what ties it to the page's client.

use super::{
    glob,
    resolve::{Ask, Target},
    scan::{self, Sort},
    style, tailwind,
    view::View,
};
use crate::{
    Problem, ProblemKind,
    compiler::{Import, ImportKind, Linked, Module, Query, link},
    packages::PackageEntry,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use overskill_core::FilePath;
use serde_json::{Value, json};
use std::{fmt::Write as _, sync::Arc};

/// The module that a file is under `ask`.
pub(super) fn module(view: &View, path: &FilePath, ask: Ask) -> Result<String, Arc<Problem>> {
    let file = scan::source(&view.files, path.as_str()).ok_or_else(|| {
        let problem = Problem::new(ProblemKind::Entry, format!("{path} is not among the app's files"));
        Arc::new(problem.in_file(path.clone()))
    })?;
    let address = Value::from(view.address(path, Ask::Plain, true));
    match (ask, Sort::of(path.as_str())) {
        (Ask::Url, _) => Ok(format!("export default {address};\n")),
        (Ask::Init, _) => Ok(format!(
            "export default async (imports = {{}}) => (await WebAssembly.instantiateStreaming(fetch({address}), imports)).instance;\n"
        )),
        (Ask::Worker, _) => Ok(format!(
            "export default function WorkerWrapper(options) {{\n  return new Worker({address}, {{ type: \"module\", name: options?.name }});\n}}\n"
        )),
        (Ask::Plain, Sort::Asset) => {
            view.compiler.compile(path, &file, Query::None)?;
            Ok(format!("export default {address};\n"))
        }
        (Ask::Inline, Sort::Style) => {
            let css = style::text(view, path)?;
            Ok(format!("export default {};\n", Value::from(css)))
        }
        (Ask::Plain | Ask::Linked | Ask::Part, Sort::Style) => style::module(view, path),
        _ => {
            let module = view.compiler.compile(path, &file, ask.query())?;
            if ask == Ask::Plain && scan::tailwind_config(&view.files) == Some(path) && view.has_tailwind() {
                return Ok(tailwind_config(view, path, &module));
            }
            Ok(script(view, path, &module))
        }
    }
}

/// What makes `import.meta.hot`.
pub(super) fn hot_line(path: &FilePath) -> String {
    let id = Value::from(format!("/{path}"));
    format!(
        "import {{ createHotContext as __overskill_hot }} from \"/@overskill/client.js\"; import.meta.hot = __overskill_hot({id});"
    )
}

/// Where a package's file is.
pub(super) fn package_address(digest: overskill_core::Digest, file: &str) -> String {
    format!("/@npm/{digest}/{file}")
}

/// What a specifier of a package leads to, as an address or what is wrong.
pub(super) fn package(view: &View, name: &str, ask: Ask, as_file: bool) -> Linked {
    let packages = view.packages();
    if let Some(problem) = packages.problem(name) {
        return Linked::Failed(told(&problem));
    }
    let Some((prepared, entry)) =
        packages.prepared.as_ref().and_then(|prepared| Some((prepared, prepared.entries.get(name)?)))
    else {
        return Linked::Failed(format!("`{name}` is not prepared"));
    };
    let at = |file: &str, query: &str| Linked::Url(format!("{}{query}", package_address(prepared.digest, file)));
    match (entry, ask) {
        (PackageEntry::Module { file, common_js: true }, Ask::Plain) => {
            Linked::CommonJs(package_address(prepared.digest, file))
        }
        (PackageEntry::Module { file, .. }, Ask::Plain) => at(file, ""),
        (PackageEntry::Module { file, .. } | PackageEntry::Style { file } | PackageEntry::Asset { file }, ask) => {
            match ask.name() {
                _ if as_file => at(file, ""),
                Some(query) => at(file, &format!("?import&{query}")),
                None => at(file, "?import"),
            }
        }
    }
}

fn script(view: &View, path: &FilePath, module: &Module) -> String {
    let mut code = linked(view, path, module);
    let mut first = String::new();
    if module.hot.used || module.refresh {
        first.push_str(&hot_line(path));
    }
    if !module.env.is_empty() {
        first.push_str("import __overskill_env from \"/@overskill/env.js\"; import.meta.env = __overskill_env;");
    }
    if code.contains("$RefreshReg$(") || code.contains("$RefreshSig$(") {
        refresh(path, module.refresh, &mut code);
    }
    let shift = !first.is_empty();
    if shift {
        first.push('\n');
        code.insert_str(0, &first);
    }
    if let Some(map) = &module.source_map {
        // One more line before all others.
        let map = if shift { map.replacen("\"mappings\":\"", "\"mappings\":\";", 1) } else { map.to_string() };
        code.push_str("\n//# sourceMappingURL=data:application/json;base64,");
        STANDARD.encode_string(map, &mut code);
        code.push('\n');
    }
    code
}

fn linked(view: &View, path: &FilePath, module: &Module) -> String {
    let (mut tail, mut number) = (String::new(), 0);
    let mut code = link(module, &mut |import| import_of(view, path, import), &mut |call| {
        let found = glob::matches(view.sources(), path.as_str(), call).unwrap_or_default();
        let addresses: Vec<_> = found.into_iter().map(|it| (it.key, view.address(&it.path, it.ask, false))).collect();
        let (object, imports) = glob::object(call, number, &addresses);
        number += 1;
        tail.push_str(&imports);
        object
    });
    code.push_str(&tail);
    code
}

/// Where an import of a module leads, as its code says it.
pub(super) fn import_of(view: &View, path: &FilePath, import: &Import) -> Linked {
    let is_url = import.kind == ImportKind::Url;
    match scan::import_target(view.sources(), path, import) {
        // The name under which the client knows it: without a stamp.
        Ok(Target::File(to, ask)) if import.kind == ImportKind::Accept => Linked::Url(match ask.name() {
            Some(query) => format!("/{to}?{query}"),
            None => format!("/{to}"),
        }),
        Ok(Target::File(to, ask)) => Linked::Url(view.address(&to, ask, is_url)),
        Ok(Target::Public(to, ask)) => {
            let at = &to.as_str()["public".len()..];
            Linked::Url(match ask.name() {
                _ if is_url => at.to_owned(),
                Some(query) => format!("{at}?import&{query}"),
                None => format!("{at}?import"),
            })
        }
        Ok(Target::Package(name, ask)) => package(view, &name, ask, is_url),
        Ok(Target::Address(url)) => Linked::Url(url),
        Err(error) => Linked::Failed(match &error.help {
            Some(help) => format!("{path}: {} ({help})", error.message),
            None => format!("{path}: {}", error.message),
        }),
    }
}

/// What registers components, and accepts the module's updates if it only exports components: the page tells.
fn refresh(path: &FilePath, accepts: bool, code: &mut String) {
    let id = Value::from(format!("/{path}"));
    write!(
        code,
        "\nimport * as __overskill_refresh from \"/@overskill/refresh.js\";
function $RefreshReg$(type, id) {{ return __overskill_refresh.register(type, {id} + \" \" + id); }}
function $RefreshSig$() {{ return __overskill_refresh.createSignatureFunctionForTransform(); }}
"
    )
    .expect("a string takes all");
    if accepts {
        write!(
            code,
            "if (import.meta.hot) __overskill_refresh.__hmr_import(import.meta.url).then((current) => {{
  __overskill_refresh.registerExportsForReactRefresh({id}, current);
  import.meta.hot.accept((next) => {{
    if (!next) return;
    const message = __overskill_refresh.validateRefreshBoundaryAndEnqueueUpdate({id}, current, next);
    if (message) import.meta.hot.invalidate(message);
  }});
}});
"
        )
        .expect("a string takes all");
    }
}

fn tailwind_config(view: &View, path: &FilePath, module: &Module) -> String {
    let source = view.files.text(path.as_str()).unwrap_or_default();
    let requires: Vec<_> = tailwind::config_requires(source)
        .into_iter()
        .map(|specifier| {
            let address = script_address(view, path, &specifier);
            (specifier, address)
        })
        .collect();
    let code = linked(view, path, module);
    let code = tailwind::config_module(source, &code, &requires);
    if module.env.is_empty() {
        return code;
    }
    format!("import __overskill_env from \"/@overskill/env.js\"; import.meta.env = __overskill_env;\n{code}")
}

/// Where a script is that `path` names, or why not.
pub(super) fn script_address(view: &View, path: &FilePath, specifier: &str) -> Result<String, String> {
    match super::resolve::resolve(&view.files, &view.config, path.as_str(), specifier) {
        Ok(Target::File(to, ask)) => Ok(view.address(&to, ask, false)),
        Ok(Target::Public(to, _)) => Ok(to.as_str()["public".len()..].to_owned()),
        Ok(Target::Address(url)) => Ok(url),
        Ok(Target::Package(name, ask)) => match package(view, &name, ask, false) {
            Linked::Url(url) | Linked::CommonJs(url) => Ok(url),
            Linked::Failed(message) => Err(message),
        },
        Err(error) => Err(error.message),
    }
}

fn told(problem: &Problem) -> String {
    match &problem.help {
        Some(help) => format!("{} ({help})", problem.message),
        None => problem.message.clone(),
    }
}

/// A module whose only export is a text.
pub(super) fn default_export(value: &str) -> String {
    format!("export default {};\n", json!(value))
}
