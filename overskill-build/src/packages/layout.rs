//! A `node_modules` folder as esbuild wants it, made of links to the unpacked packages.

use super::{
    names::NODE_BUILTINS,
    tree::MODULES,
    trouble::{Trouble, local},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

/// Makes `folder/node_modules` anew: `places`, each with the folder that holds its files, and stand-ins for what is not
/// there. Blocks.
///
/// One link a package; where another one lies below it, a folder of links.
pub(crate) fn lay_out(
    folder: &Path,
    places: &BTreeMap<String, PathBuf>,
    absent: &BTreeSet<String>,
) -> Result<(), Trouble> {
    let make = || -> io::Result<()> {
        let modules = folder.join("node_modules");
        match fs::remove_dir_all(&modules) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => fs::create_dir(&modules)?,
        }
        for (place, files) in places {
            link(folder, place, files, places)?;
        }
        for name in NODE_BUILTINS {
            stand_in(&modules, name, &builtin(name))?;
        }
        for name in absent {
            stand_in(&modules, name, &missing(name))?;
        }
        Ok(())
    };
    make().map_err(local("lay out packages"))
}

/// Where a stand-in's code is, if a file is that.
pub(crate) fn stand_in_of(file: &str) -> Option<&str> {
    file.strip_prefix(MODULES)?.strip_suffix(STAND_IN)?.strip_suffix('/')
}

const STAND_IN: &str = "overskill-stand-in.cjs";

fn link(folder: &Path, place: &str, files: &Path, places: &BTreeMap<String, PathBuf>) -> io::Result<()> {
    let here = folder.join(place);
    if let Some(above) = here.parent() {
        fs::create_dir_all(above)?;
    }
    if !has_below(place, places) {
        return symlink(files, &here);
    }
    fs::create_dir_all(&here)?;
    for entry in fs::read_dir(files)? {
        let entry = entry?;
        if entry.file_name() != "node_modules" {
            symlink(&entry.path(), &here.join(entry.file_name()))?;
            continue;
        }
        // Packages inside the package's own tarball, beside those that are laid out.
        if !entry.path().is_dir() {
            continue;
        }
        for inner in fs::read_dir(entry.path())? {
            let inner = inner?;
            let Some(name) = inner.file_name().to_str().map(str::to_owned) else { continue };
            if !inner.path().is_dir() {
                continue;
            }
            if name.starts_with('@') {
                for scoped in fs::read_dir(inner.path())? {
                    let scoped = scoped?;
                    let Some(base) = scoped.file_name().to_str().map(str::to_owned) else { continue };
                    link_inner(folder, &format!("{place}/{MODULES}{name}/{base}"), &scoped.path(), places)?;
                }
            } else {
                link_inner(folder, &format!("{place}/{MODULES}{name}"), &inner.path(), places)?;
            }
        }
    }
    Ok(())
}

fn link_inner(folder: &Path, place: &str, files: &Path, places: &BTreeMap<String, PathBuf>) -> io::Result<()> {
    if places.contains_key(place) || !files.is_dir() {
        return Ok(());
    }
    link(folder, place, files, places)
}

fn has_below(place: &str, places: &BTreeMap<String, PathBuf>) -> bool {
    let below = format!("{place}/");
    places.range(below.clone()..).next().is_some_and(|(next, _)| next.starts_with(&below))
}

fn stand_in(modules: &Path, name: &str, code: &str) -> io::Result<()> {
    let here = modules.join(name);
    if here.symlink_metadata().is_ok() {
        return Ok(());
    }
    fs::create_dir_all(&here)?;
    let manifest = format!(r#"{{"exports": {{".": "./{STAND_IN}", "./*": "./{STAND_IN}"}}}}"#);
    fs::write(here.join("package.json"), manifest)?;
    fs::write(here.join(STAND_IN), code)
}

/// What Vite puts in the place of Node's own modules: empty, and it says so when it is used.
fn builtin(name: &str) -> String {
    format!(
        "module.exports = Object.create(new Proxy({{}}, {{ get(_, key) {{\n  \
         if (typeof key === \"string\" && ![\"__esModule\", \"__proto__\", \"constructor\", \"splice\", \"then\"].includes(key))\n    \
         console.warn(`\"{name}\" is a module of Node, which browsers do not have: \"{name}.${{key}}\" is undefined.`);\n}} }}));\n"
    )
}

fn missing(name: &str) -> String {
    format!("throw new Error('The package \"{name}\" is not installed: add it to package.json.');\n")
}

#[cfg(unix)]
fn symlink(from: &Path, to: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(from, to)
}

#[cfg(not(unix))]
fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_lie_within_packages_and_the_cache_is_not_written_to() {
        let root = tempfile::tempdir().unwrap();
        let cached = |name: &str, files: &[&str]| {
            let folder = root.path().join("cache").join(name);
            for file in files {
                fs::create_dir_all(folder.join(file).parent().unwrap()).unwrap();
                fs::write(folder.join(file), name).unwrap();
            }
            folder
        };
        let a = cached("a", &["index.js", "node_modules/inner/index.js", "node_modules/@s/t/index.js"]);
        let b = cached("b", &["index.js"]);
        let places = BTreeMap::from([
            ("node_modules/a".to_owned(), a.clone()),
            ("node_modules/a/node_modules/b".to_owned(), b.clone()),
            ("node_modules/a/node_modules/inner/node_modules/b".to_owned(), b),
        ]);
        let work = root.path().join("work");
        fs::create_dir(&work).unwrap();
        let absent = BTreeSet::from(["@x/y".to_owned()]);
        for _ in 0..2 {
            lay_out(&work, &places, &absent).unwrap();
        }
        let read = |path: &str| fs::read_to_string(work.join("node_modules").join(path)).unwrap();
        assert_eq!(read("a/index.js"), "a");
        assert_eq!(read("a/node_modules/b/index.js"), "b");
        assert_eq!(read("a/node_modules/inner/index.js"), "a");
        assert_eq!(read("a/node_modules/inner/node_modules/b/index.js"), "b");
        assert_eq!(read("a/node_modules/@s/t/index.js"), "a");
        assert!(read("@x/y/overskill-stand-in.cjs").contains("@x/y"));
        assert!(read("fs/overskill-stand-in.cjs").contains("fs"));
        assert!(!a.join("node_modules/b").exists() && !a.join("node_modules/inner/node_modules").exists());
        assert_eq!(stand_in_of("node_modules/@x/y/overskill-stand-in.cjs"), Some("@x/y"));
        assert_eq!(stand_in_of("node_modules/a/index.js"), None);
    }
}
