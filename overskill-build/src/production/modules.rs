//! Where a package's specifier leads among its files, as Node finds it; for what the bundler is not to take as code.

use crate::packages::{Installed, names::split_specifier};
use overskill_core::FilePath;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A file of a package.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PackageFile {
    /// Where it would be below the app: `node_modules/swiper/swiper.css`.
    pub(super) path: FilePath,
    /// The package's place.
    pub(super) place: String,
    pub(super) on_disk: PathBuf,
}

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    Script,
    Style,
}

const MOST_MANIFEST_BYTES: u64 = 4 << 20;

/// The file that `specifier` means to the package at `from` (empty: the app).
pub(super) fn find(installed: &Installed, from: &str, specifier: &str, wanted: For) -> Option<PackageFile> {
    let (name, rest) = split_specifier(specifier)?;
    let (place, folder) = installed.find(from, name)?;
    let manifest = manifest(folder);
    let sub = rest.trim_start_matches('/');
    let candidates = match manifest.get("exports").filter(|it| !it.is_null()) {
        Some(exports) => {
            let key = if sub.is_empty() { ".".to_owned() } else { format!("./{sub}") };
            exported(exports, &key, wanted).into_iter().collect()
        }
        None if sub.is_empty() => {
            let fields: &[&str] =
                if wanted == For::Style { &["style", "main"] } else { &["browser", "module", "main"] };
            let named = fields.iter().filter_map(|field| manifest.get(field)?.as_str()).map(str::to_owned);
            let index = if wanted == For::Style { "index.css" } else { "index.js" };
            named.chain([index.to_owned()]).collect::<Vec<_>>()
        }
        None => vec![sub.to_owned()],
    };
    let endings: &[&str] = if wanted == For::Style { &["", ".css"] } else { &["", ".js", ".mjs", ".cjs", "/index.js"] };
    candidates.iter().find_map(|candidate| {
        let inside = crate::preview::config::join("", candidate)?;
        endings.iter().find_map(|ending| file(place, folder, &format!("{inside}{ending}")))
    })
}

/// A file beside another one of its package.
pub(super) fn beside(file_there: &PackageFile, relative: &str) -> Option<PackageFile> {
    let inside = file_there.path.as_str().strip_prefix(&file_there.place)?.trim_start_matches('/');
    let folder = inside.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut root = file_there.on_disk.as_path();
    for _ in inside.split('/') {
        root = root.parent()?;
    }
    let to = crate::preview::config::join(folder, relative)?;
    file(&file_there.place, root, &to).or_else(|| file(&file_there.place, root, &format!("{to}.css")))
}

fn file(place: &str, folder: &Path, inside: &str) -> Option<PackageFile> {
    let on_disk = folder.join(inside);
    // Unpacking makes no links, so what lies there is the package's own.
    if inside.is_empty() || !on_disk.is_file() {
        return None;
    }
    let path = FilePath::parse(&format!("{place}/{inside}")).ok()?;
    Some(PackageFile { path, place: place.to_owned(), on_disk })
}

/// A package's `package.json`; null where it cannot be read.
pub(super) fn manifest(folder: &Path) -> Value {
    let path = folder.join("package.json");
    let small = std::fs::metadata(&path).is_ok_and(|it| it.len() <= MOST_MANIFEST_BYTES);
    let text = small.then(|| std::fs::read(&path).ok()).flatten().unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// What `exports` says of a subpath.
fn exported(exports: &Value, key: &str, wanted: For) -> Option<String> {
    let by_path = exports.as_object().filter(|it| it.keys().any(|key| key.starts_with('.')));
    let Some(paths) = by_path else {
        return (key == ".").then(|| condition(exports, wanted))?;
    };
    if let Some(exact) = paths.get(key) {
        return condition(exact, wanted);
    }
    // The longest pattern that matches is meant.
    let patterns = paths.iter().filter_map(|(pattern, target)| {
        let (before, after) = pattern.split_once('*')?;
        let star = key.strip_prefix(before)?.strip_suffix(after)?;
        Some((before.len(), star, target))
    });
    let (_, star, target) = patterns.max_by_key(|(length, ..)| *length)?;
    condition(target, wanted).map(|it| it.replace('*', star))
}

fn condition(target: &Value, wanted: For) -> Option<String> {
    match target {
        Value::String(path) => Some(path.clone()),
        Value::Array(any) => any.iter().find_map(|it| condition(it, wanted)),
        Value::Object(conditions) => {
            // By what they mean: the order in the file is lost, and nobody puts a general one before a special one.
            let style = (wanted == For::Style).then_some("style");
            let all = style.into_iter().chain(["browser", "production", "module", "import", "default"]);
            all.filter_map(|name| conditions.get(name)).find_map(|it| condition(it, wanted))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn exports_are_read_as_node_reads_them() {
        let exports = json!({
            ".": { "types": "./t.d.ts", "node": "./n.js", "import": { "production": "./p.mjs", "default": "./m.mjs" } },
            "./css": { "style": "./dist/all.css", "default": "./js/all.js" },
            "./css/*": "./dist/*.css", "./css/deep/*": "./deep/*.css", "./gone": null
        });
        let style = |key: &str| exported(&exports, key, For::Style);
        assert_eq!(exported(&exports, ".", For::Script).as_deref(), Some("./p.mjs"));
        assert_eq!(style("./css").as_deref(), Some("./dist/all.css"));
        assert_eq!(exported(&exports, "./css", For::Script).as_deref(), Some("./js/all.js"));
        assert_eq!(style("./css/a/b").as_deref(), Some("./dist/a/b.css"));
        assert_eq!(style("./css/deep/x").as_deref(), Some("./deep/x.css"));
        assert_eq!((style("./gone"), style("./nowhere")), (None, None));
        assert_eq!(exported(&json!("./only.js"), ".", For::Script).as_deref(), Some("./only.js"));
        assert_eq!(exported(&json!("./only.js"), "./x", For::Script), None);
    }
}
