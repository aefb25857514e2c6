//! Whether what was changed fits together.

use overskill_build::compiler::{Compiler, Query};
use overskill_core::{AppFile, Change, FilePath};
use std::collections::BTreeMap;

/// What a specifier without an ending may lead to, in Vite's order.
const ENDINGS: [&str; 7] = [".mjs", ".js", ".mts", ".ts", ".jsx", ".tsx", ".json"];

/// Whether nothing more is to be expected. It may be wrong either way: it decides about 20 ms.
pub(super) fn is_settled(
    compiler: &Compiler,
    files: &BTreeMap<FilePath, AppFile>,
    pending: &BTreeMap<FilePath, Change>,
) -> bool {
    pending.iter().all(|(path, change)| match change {
        // Half of a rename, or of "write anew, then replace".
        Change::Delete => false,
        Change::Put(file) if file.size_bytes() == 0 => false,
        Change::Put(file) => fits(compiler, files, path, file),
    })
}

/// Whether a file was emptied: most likely before it is written.
pub(super) fn is_emptied(pending: &BTreeMap<FilePath, Change>) -> bool {
    pending.values().any(|change| matches!(change, Change::Put(file) if file.size_bytes() == 0))
}

fn fits(compiler: &Compiler, files: &BTreeMap<FilePath, AppFile>, path: &FilePath, file: &AppFile) -> bool {
    let is_script = matches!(path.extension(), Some("js" | "jsx" | "ts" | "tsx" | "mjs" | "mts"));
    if !is_script {
        return true;
    }
    let Ok(module) = compiler.compile(path, file, Query::None) else { return false };
    module.imports.iter().all(|import| {
        let specifier = import.specifier.split(['?', '#']).next().unwrap_or_default();
        match target(path.as_str(), specifier) {
            Some(target) => is_there(files, &target),
            None => true,
        }
    })
}

/// The path that a relative specifier, or one of the usual alias, names; `None` for packages and the like.
fn target(importer: &str, specifier: &str) -> Option<String> {
    let (mut segments, rest): (Vec<&str>, &str) = match specifier.strip_prefix("@/") {
        Some(rest) => (vec!["src"], rest),
        None if specifier.starts_with("./") || specifier.starts_with("../") => {
            let mut folder: Vec<_> = importer.split('/').collect();
            folder.pop();
            (folder, specifier)
        }
        None => return None,
    };
    for segment in rest.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            name => segments.push(name),
        }
    }
    Some(segments.join("/"))
}

fn is_there(files: &BTreeMap<FilePath, AppFile>, target: &str) -> bool {
    let has = |path: &str| FilePath::parse(path).is_ok_and(|path| files.contains_key(&path));
    has(target)
        || ENDINGS.iter().any(|ending| has(&format!("{target}{ending}")) || has(&format!("{target}/index{ending}")))
        // `./a.js` may be written for `a.ts`.
        || target.strip_suffix(".js").is_some_and(|stem| has(&format!("{stem}.ts")) || has(&format!("{stem}.tsx")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use overskill_build::compiler::CompilerOptions;

    fn settled(there: &[&str], changed: &[(&str, Option<&str>)]) -> bool {
        let path = |p: &str| FilePath::parse(p).unwrap();
        let mut files: BTreeMap<_, _> = there.iter().map(|p| (path(p), AppFile::new("x"))).collect();
        let mut pending = BTreeMap::new();
        for (at, text) in changed {
            let change = match text {
                Some(text) => {
                    files.insert(path(at), AppFile::new((*text).to_owned()));
                    Change::Put(AppFile::new((*text).to_owned()))
                }
                None => Change::Delete,
            };
            pending.insert(path(at), change);
        }
        is_settled(&Compiler::new(CompilerOptions::development()), &files, &pending)
    }

    #[test]
    fn what_imports_what_is_there_is_settled() {
        let there = ["src/b.tsx", "src/ui/index.ts", "src/lib/c.ts", "src/d.ts"];
        let source = "import './b'; import './ui'; import c from '@/lib/c'; import './d.js'; import 'react'; c();";
        assert!(settled(&there, &[("src/a.ts", Some(source))]));
        assert!(settled(&there, &[("src/a.css", Some("a { color: red }"))]));
    }

    #[test]
    fn what_lacks_something_is_waited_for() {
        assert!(!settled(&[], &[("src/a.ts", Some("import './b';"))]));
        assert!(settled(&[], &[("src/a.ts", Some("import './b';")), ("src/b.ts", Some("export {}"))]));
        assert!(!settled(&[], &[("src/a.ts", Some("import '@/lib/c';"))]));
        assert!(!settled(&[], &[("src/a.tsx", Some("export default () => <div"))]), "half written");
        assert!(!settled(&[], &[("src/a.ts", Some(""))]), "emptied");
        assert!(!settled(&[], &[("src/a.ts", None)]), "gone");
    }
}
