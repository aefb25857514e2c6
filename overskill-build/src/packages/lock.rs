//! `package-lock.json`, read and written.

use super::{
    integrity::Integrity,
    manifest::{Manifest, elsewhere, wanted},
    names::{is_package_name, is_version},
    tree::{MODULES, Node, Tree, name_at},
};
use crate::{Problem, ProblemKind};
use overskill_core::FilePath;
use serde_json::{Map, Value, json};

/// Largest lock, in bytes.
const MAX_BYTES: usize = 32 << 20;
/// Most packages in a lock.
const MAX_PACKAGES: usize = 20_000;
/// Longest place, in bytes.
const MAX_PLACE_BYTES: usize = 2_000;

/// What to do about a lock that cannot be used.
const ANEW: &str = "run `npm install` with npm 7 or newer to write it anew, or delete it";

/// Reads a lock of version 2 or 3.
pub(crate) fn parse(text: &[u8]) -> Result<Tree, Problem> {
    let wrong = |message: String| {
        let file = FilePath::parse("package-lock.json").expect("it is a legal path");
        Problem::new(ProblemKind::Package, message).in_file(file)
    };
    if text.len() > MAX_BYTES {
        return Err(wrong(format!("package-lock.json must be at most {MAX_BYTES} bytes but has {}", text.len())));
    }
    let value: Value = serde_json::from_slice(text).map_err(|e| {
        let conflict = text.windows(7).any(|it| it == b"<<<<<<<");
        let why = if conflict { ": it holds the marks of a merge conflict" } else { "" };
        wrong(format!("package-lock.json is not JSON: {e}{why}")).help(ANEW)
    })?;
    match value.get("lockfileVersion").and_then(Value::as_u64) {
        Some(2 | 3) => {}
        Some(version) => {
            return Err(
                wrong(format!("package-lock.json has version {version}; versions 2 and 3 can be read")).help(ANEW)
            );
        }
        None => return Err(wrong("package-lock.json states no `lockfileVersion`".into()).help(ANEW)),
    }
    let Some(Value::Object(packages)) = value.get("packages") else {
        return Err(wrong("package-lock.json has no `packages`".into()).help(ANEW));
    };
    if packages.len() > MAX_PACKAGES {
        return Err(wrong(format!(
            "package-lock.json may name at most {MAX_PACKAGES} packages but names {}",
            packages.len()
        )));
    }
    let mut tree = Tree::default();
    for (place, value) in packages {
        // The app itself, and folders of a workspace, which links lead to.
        if !place.starts_with(MODULES) {
            continue;
        }
        let Value::Object(entry) = value else {
            return Err(wrong(format!("package-lock.json: `{}` is not an object", place.escape_debug())).help(ANEW));
        };
        if !is_place(place) {
            return Err(
                wrong(format!("package-lock.json names a place that cannot be: `{}`", place.escape_debug())).help(ANEW)
            );
        }
        tree.nodes.insert(place.clone(), node(place, entry));
    }
    Ok(tree)
}

/// Writes a lock of version 3, byte for byte the same for the same tree.
pub(crate) fn write(tree: &Tree, manifest: &Manifest) -> Vec<u8> {
    let mut packages = Map::new();
    let mut root = Map::new();
    let identity = [("name", &manifest.name), ("version", &manifest.version)];
    let texts = identity.into_iter().filter_map(|(key, text)| Some((key.to_owned(), Value::from(text.clone()?))));
    root.extend(texts);
    put(&mut root, "dependencies", &manifest.dependencies);
    put(&mut root, "devDependencies", &manifest.dev_dependencies);
    packages.insert(String::new(), root.clone().into());
    for (place, node) in &tree.nodes {
        let mut entry = Map::new();
        if node.name != name_at(place) {
            entry.insert("name".into(), json!(node.name));
        }
        entry.insert("version".into(), json!(node.version));
        if let Some(resolved) = &node.resolved {
            entry.insert("resolved".into(), json!(resolved));
        }
        if let Some(integrity) = &node.integrity {
            entry.insert("integrity".into(), json!(integrity.to_string()));
        }
        for (key, set) in [("dev", node.dev), ("inBundle", node.bundled)] {
            if set {
                entry.insert(key.into(), json!(true));
            }
        }
        put(&mut entry, "dependencies", &node.dependencies);
        put(&mut entry, "optionalDependencies", &node.optional_dependencies);
        put(&mut entry, "peerDependencies", &node.peers);
        if !node.optional_peers.is_empty() {
            let meta = node.optional_peers.iter().map(|name| (name.clone(), json!({ "optional": true })));
            entry.insert("peerDependenciesMeta".into(), Value::Object(meta.collect()));
        }
        packages.insert(place.clone(), entry.into());
    }
    let mut whole = Map::new();
    whole.insert("name".into(), json!(manifest.name.as_deref().unwrap_or("app")));
    if let Some(version) = &manifest.version {
        whole.insert("version".into(), json!(version));
    }
    whole.insert("lockfileVersion".into(), json!(3));
    whole.insert("requires".into(), json!(true));
    whole.insert("packages".into(), packages.into());
    let mut text = serde_json::to_vec_pretty(&Value::Object(whole)).expect("JSON of texts can be written");
    text.push(b'\n');
    text
}

fn put(into: &mut Map<String, Value>, key: &str, wanted: &super::manifest::Wanted) {
    if !wanted.is_empty() {
        into.insert(key.to_owned(), json!(wanted));
    }
}

fn node(place: &str, entry: &Map<String, Value>) -> Node {
    let text = |key: &str| entry.get(key).and_then(Value::as_str);
    let set = |key: &str| entry.get(key).and_then(Value::as_bool).unwrap_or_default();
    let name = text("name").unwrap_or(name_at(place));
    let version = text("version").unwrap_or_default();
    let elsewhere = if set("link") {
        Some("it is a link to a folder")
    } else if !is_package_name(name) || !is_version(version) {
        Some("its lock entry has no usable name and version")
    } else {
        // Addresses are looked at later: another registry's can be replaced by ours.
        text("resolved").and_then(|it| elsewhere(it).filter(|_| !it.starts_with("http:") && !it.starts_with("https:")))
    };
    let mut node = from_json(name, version, entry);
    node.resolved = text("resolved").map(str::to_owned);
    node.integrity = text("integrity").and_then(Integrity::parse);
    node.dev = set("dev") || set("devOptional");
    node.bundled = set("inBundle");
    node.elsewhere = elsewhere;
    node
}

/// What locks and registries say of a version in the same words.
pub(crate) fn from_json(name: &str, version: &str, entry: &Map<String, Value>) -> Node {
    let optional_dependencies = wanted(entry, "optionalDependencies");
    let mut dependencies = wanted(entry, "dependencies");
    // Registries list optional ones among the others too.
    dependencies.retain(|name, _| !optional_dependencies.contains_key(name));
    let mut peers = wanted(entry, "peerDependencies");
    let mut optional_peers = std::collections::BTreeSet::new();
    if let Some(Value::Object(meta)) = entry.get("peerDependenciesMeta") {
        for (name, meta) in meta {
            if meta.get("optional").and_then(Value::as_bool) == Some(true) && is_package_name(name) {
                optional_peers.insert(name.clone());
                peers.entry(name.clone()).or_insert_with(|| "*".to_owned());
            }
        }
    }
    let limited = |key: &str| entry.get(key).is_some_and(|it| it.as_array().is_none_or(|list| !list.is_empty()));
    Node {
        name: name.to_owned(),
        version: version.to_owned(),
        for_platform: limited("os") || limited("cpu") || limited("libc"),
        dependencies,
        optional_dependencies,
        peers,
        optional_peers,
        ..Node::default()
    }
}

/// `node_modules/a/node_modules/@b/c`, with names that are folders and nothing more.
fn is_place(place: &str) -> bool {
    place.len() <= MAX_PLACE_BYTES
        && place.strip_prefix(MODULES).is_some_and(|rest| {
            let names = rest.split("/node_modules/");
            names.clone().count() <= 32 && names.into_iter().all(is_package_name)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn other_versions_and_other_things_are_refused_with_what_to_do() {
        for (text, says) in [
            (&b"{\"lockfileVersion\": 1, \"dependencies\": {}}"[..], "version 1"),
            (b"{\"lockfileVersion\": 9}", "version 9"),
            (b"{}", "no `lockfileVersion`"),
            (b"{\"lockfileVersion\": 3}", "no `packages`"),
            (b"lockfileVersion: '9.0'", "not JSON"),
            (b"{\n<<<<<<< HEAD\n}", "merge conflict"),
            (b"{\"lockfileVersion\": 3, \"packages\": {\"node_modules/../x\": {}}}", "cannot be"),
            (b"{\"lockfileVersion\": 3, \"packages\": {\"node_modules/a/b\": {}}}", "cannot be"),
            (b"{\"lockfileVersion\": 3, \"packages\": {\"node_modules/a\": 1}}", "not an object"),
        ] {
            let problem = parse(text).unwrap_err();
            assert!(problem.message.contains(says), "{problem}");
            assert!(problem.help.as_deref().is_some_and(|it| it.contains("npm install")), "{problem}");
        }
    }

    #[test]
    fn what_no_registry_has_is_known_as_such() {
        let text = br#"{"lockfileVersion": 3, "packages": {"": {}, "packages/x": {},
            "node_modules/x": {"resolved": "packages/x", "link": true},
            "node_modules/g": {"version": "1.0.0", "resolved": "git+ssh://git@host/g.git#abc"},
            "node_modules/n": {"version": "../../x"},
            "node_modules/alias": {"name": "@real/name", "version": "1.0.0"},
            "node_modules/ok": {"version": "1.0.0", "resolved": "https://elsewhere.example/ok.tgz", "os": ["linux"]}}}"#;
        let tree = parse(text).unwrap();
        let elsewhere = |name: &str| tree.nodes[&format!("node_modules/{name}")].elsewhere;
        assert!(elsewhere("x").is_some() && elsewhere("g").is_some() && elsewhere("n").is_some());
        assert!(elsewhere("ok").is_none() && tree.nodes["node_modules/ok"].for_platform);
        assert_eq!(tree.nodes["node_modules/alias"].name, "@real/name");
        assert_eq!(tree.nodes.len(), 5);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = br#"{"lockfileVersion": 2, "packages": {"node_modules/a": {"version": "1.0.0", "dev": true,
            "integrity": "sha1-qZk+NkcGgWq6PiVxeFDCbJzQ2J0=", "dependencies": {"b": "^1"}, "optionalDependencies": {"c": "1"},
            "peerDependencies": {"d": "1"}, "peerDependenciesMeta": {"d": {"optional": true}}},
            "node_modules/z": {"name": "real", "version": "2.0.0", "inBundle": true}}}"#;
        let manifest = Manifest::parse(br#"{"name": "x", "dependencies": {"a": "1"}}"#).unwrap();
        let tree = parse(text).unwrap();
        let written = write(&tree, &manifest);
        let again = parse(&written).unwrap();
        assert_eq!(write(&again, &manifest), written);
        assert_eq!(format!("{:?}", again.nodes), format!("{:?}", tree.nodes));
    }

    proptest! {
        #[test]
        fn no_place_leads_out(place in "(node_modules/|\\.\\./|a|@|/|\\.|\\\\|%2e){0,8}") {
            if is_place(&place) {
                prop_assert!(place.starts_with(MODULES) && !place.split('/').any(|it| matches!(it, "" | "." | "..")));
                prop_assert!(!place.contains('\\') && !place.contains('%'));
            }
        }
    }
}
