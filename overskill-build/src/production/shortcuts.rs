//! Ways past modules that only hand on what others export: an app that takes three icons of two thousand makes the bundler
//! read three files.
//!
//! A package with `"sideEffects": false` says that none of its modules has to run for what it does, so nothing is lost when
//! the one in between is left out: the bundler would leave it out too, after it has read everything behind it.

use super::modules::{self, PackageFile};
use crate::{
    compiler::{Binding, Compiler, Import, ImportKind, Module, Query, quote},
    packages::Installed,
};
use overskill_core::AppFile;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
    fs,
    sync::Arc,
};

/// The largest module that is looked into, in bytes.
const MOST_BYTES: u64 = 4 << 20;

/// The shortcuts of one app.
pub(super) struct Shortcuts<'a> {
    installed: &'a Installed,
    compiler: &'a Compiler,
    /// With the specifiers of the modules that are left out.
    entries: Vec<(String, Option<Entry>)>,
}

/// A module that hands on.
struct Entry {
    file: PackageFile,
    module: Arc<Module>,
    /// What it hands on by name: the import's number, and the name there.
    named: HashMap<String, (usize, String)>,
    /// What is taken of it: where each name really is.
    taken: BTreeMap<String, (PackageFile, String)>,
    /// What was looked for in vain.
    in_vain: BTreeSet<String>,
}

impl<'a> Shortcuts<'a> {
    pub(super) fn new(installed: &'a Installed, compiler: &'a Compiler) -> Self {
        Self { installed, compiler, entries: Vec::new() }
    }

    /// What to import `bindings` of a package from instead: a file beside the importing one; `None` where there is nothing to
    /// gain.
    pub(super) fn instead(&mut self, specifier: &str, bindings: &[Binding]) -> Option<String> {
        let names: Option<Vec<&str>> = bindings
            .iter()
            .map(|binding| match binding {
                Binding::Named { imported, .. } if imported != "default" => Some(imported.as_str()),
                _ => None,
            })
            .collect();
        let names = names.filter(|names| !names.is_empty())?;
        let known = self.entries.iter().position(|(known, _)| known == specifier);
        let number = known.unwrap_or_else(|| {
            self.entries.push((specifier.to_owned(), Entry::read(self.installed, self.compiler, specifier)));
            self.entries.len() - 1
        });
        let entry = self.entries[number].1.as_mut()?;
        names.iter().all(|name| entry.take(self.compiler, name)).then(|| format!("./{}", file_name(number)))
    }

    /// The files to import from, with their code.
    pub(super) fn files(&self) -> Vec<(String, String)> {
        let mut files = Vec::new();
        for (number, (_, entry)) in self.entries.iter().enumerate() {
            let mut code = String::new();
            for (name, (file, there)) in entry.iter().flat_map(|entry| &entry.taken) {
                let _ = writeln!(code, "export {{ {there} as {name} }} from {};", quote(&format!("../{}", file.path)));
            }
            if !code.is_empty() {
                files.push((file_name(number), code));
            }
        }
        files
    }
}

fn file_name(number: usize) -> String {
    format!("past{number:03}.js")
}

impl Entry {
    fn read(installed: &Installed, compiler: &Compiler, specifier: &str) -> Option<Self> {
        let file = modules::find(installed, "", specifier, modules::For::Script)?;
        let manifest = modules::manifest(installed.places.get(&file.place)?);
        let free = manifest.get("sideEffects").is_some_and(|it| it == false);
        // A map of files for browsers may put another in the place of any.
        if !free || manifest.get("browser").is_some_and(serde_json::Value::is_object) {
            return None;
        }
        let module = compiled(compiler, &file)?;
        let mut named = HashMap::new();
        for (number, import) in module.imports.iter().enumerate() {
            let ImportKind::ReExport(pairs) = &import.kind else { continue };
            named.extend(pairs.iter().map(|(there, here)| (here.clone(), (number, there.clone()))));
        }
        Some(Self { file, module, named, taken: BTreeMap::new(), in_vain: BTreeSet::new() })
    }

    /// Finds where a name really is.
    fn take(&mut self, compiler: &Compiler, name: &str) -> bool {
        if self.taken.contains_key(name) || self.in_vain.contains(name) {
            return self.taken.contains_key(name);
        }
        let found = self.by_name(name).or_else(|| self.by_file(compiler, name));
        match found.filter(|(_, there)| is_identifier(name) && is_identifier(there)) {
            Some(found) => drop(self.taken.insert(name.to_owned(), found)),
            None => drop(self.in_vain.insert(name.to_owned())),
        }
        self.taken.contains_key(name)
    }

    /// `export { there as name } from './file.js'`.
    fn by_name(&self, name: &str) -> Option<(PackageFile, String)> {
        let (number, there) = self.named.get(name)?;
        Some((self.target(*number)?, there.clone()))
    }

    /// `export * from './name.js'`, where that file exports it: two that do would take it from everybody.
    fn by_file(&self, compiler: &Compiler, name: &str) -> Option<(PackageFile, String)> {
        let stem = |specifier: &str| -> Option<String> {
            let last = specifier.rsplit('/').next()?;
            Some(last.rsplit_once('.').map_or(last, |(stem, _)| stem).to_owned())
        };
        let alike = |import: &Import| {
            matches!(import.kind, ImportKind::ReExportAll(None)) && stem(&import.specifier).as_deref() == Some(name)
        };
        // What the module declares itself comes before what it hands on.
        let number = self.module.imports.iter().position(alike)?;
        let file = self.target(number)?;
        let exports = compiled(compiler, &file)?.exports.clone()?;
        (exports.contains(name) && !declares(&self.module, name)).then(|| (file, name.to_owned()))
    }

    fn target(&self, number: usize) -> Option<PackageFile> {
        let specifier = &self.module.imports[number].specifier;
        specifier.starts_with('.').then(|| modules::beside(&self.file, specifier))?
    }
}

/// Whether a module may export a name of its own: what it says besides its imports holds the word.
fn declares(module: &Module, name: &str) -> bool {
    let mut rest = module.code.as_str();
    let mut at = 0;
    let mut found = false;
    for import in &module.imports {
        if import.whole.start >= at {
            found |= rest[..import.whole.start - at].contains(name);
            rest = &module.code[import.whole.end..];
            at = import.whole.end;
        }
    }
    found || rest.contains(name)
}

fn compiled(compiler: &Compiler, file: &PackageFile) -> Option<Arc<Module>> {
    let script = matches!(file.path.extension(), Some("js" | "mjs"));
    let small = fs::metadata(&file.on_disk).is_ok_and(|it| it.len() <= MOST_BYTES);
    let contents = (script && small).then(|| fs::read(&file.on_disk).ok())??;
    compiler.compile(&file.path, &AppFile::new(contents), Query::None).ok()
}

fn is_identifier(name: &str) -> bool {
    let mut characters = name.chars();
    characters.next().is_some_and(|it| it.is_ascii_alphabetic() || matches!(it, '_' | '$'))
        && characters.all(|it| it.is_ascii_alphanumeric() || matches!(it, '_' | '$'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        compiler::CompilerOptions,
        packages::tree::{Node, Tree},
    };

    const ENTRY: &str = "import * as all from './all.js'; export { all };
        export { default as Plus, default as PlusIcon } from './icons/plus.js';
        export { gone } from './gone.js';
        export * from './add.js'; export * from './own.js'; export * from './other.js';
        export function own() {}";

    /// What the code of the shortcut is, after each of `imports` was asked for; and which had one.
    fn shortcut(manifest: &str, imports: &[&[&str]]) -> (Vec<bool>, String) {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let at = folder.path().join(name);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            fs::write(at, text).unwrap();
        };
        write("package.json", manifest);
        write("index.js", ENTRY);
        write("all.js", "export const x = 1;");
        write("icons/plus.js", "export default 1;");
        write("add.js", "export function add() {}");
        write("own.js", "export function own() {}");
        write("other.js", "export const add2 = 1;");
        let mut tree = Tree::default();
        tree.nodes.insert("node_modules/pack".to_owned(), Node::default());
        let places = [("node_modules/pack".to_owned(), folder.path().to_owned())].into();
        let installed = Installed { tree: Arc::new(tree), places, failed: BTreeMap::new() };
        let compiler = Compiler::new(CompilerOptions::production());
        let mut shortcuts = Shortcuts::new(&installed, &compiler);
        let named = |name: &&str| Binding::Named { imported: (*name).to_owned(), local: "here".to_owned() };
        let had = imports.iter().map(|names| names.iter().map(named).collect::<Vec<_>>());
        let had = had.map(|bindings| shortcuts.instead("pack", &bindings).is_some()).collect();
        (had, shortcuts.files().into_iter().map(|(_, code)| code).collect())
    }

    #[test]
    fn what_is_only_handed_on_is_taken_from_where_it_is() {
        let free = r#"{"sideEffects": false}"#;
        let (had, code) = shortcut(free, &[&["Plus"], &["PlusIcon", "add"]]);
        assert_eq!(had, [true, true]);
        let plus = |name| format!("export {{ default as {name} }} from \"../node_modules/pack/icons/plus.js\";\n");
        let add = "export { add as add } from \"../node_modules/pack/add.js\";\n";
        assert_eq!(code, format!("{}{}{add}", plus("Plus"), plus("PlusIcon")));
    }

    #[test]
    fn what_is_not_certain_stays() {
        let free = r#"{"sideEffects": false}"#;
        // A namespace, a file that is not there, a name of the module's own, one that a file of another name exports.
        for name in ["all", "gone", "own", "add2", "nothing", "default"] {
            assert_eq!(shortcut(free, &[&[name]]), (vec![false], String::new()), "{name}");
        }
        assert_eq!(shortcut(free, &[&[]]).0, [false], "an import for what it does");
        for manifest in ["{}", r#"{"sideEffects": ["*.css"]}"#, r#"{"sideEffects": false, "browser": {"./a": "./b"}}"#]
        {
            assert_eq!(shortcut(manifest, &[&["Plus"]]).0, [false], "{manifest}");
        }
    }
}
