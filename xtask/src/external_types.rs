//! Which other crates' types show in a public API.
//!
//! cargo-check-external-types asks the same, but each of its versions needs a nightly of its own. This reads what the
//! toolchain at hand prints: rustdoc's JSON, whose few fields used here have kept their shape for years.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;

use crate::process::{self, Failure};
use crate::steps::Outcome;
use crate::workspace::Workspace;

const ALLOW_LIST: &str = "xtask/external-types.toml";

/// Checks each crate of the allow-list.
pub(crate) fn check(workspace: &Workspace) -> Result<Outcome, Failure> {
    let text = fs::read_to_string(workspace.root().join(ALLOW_LIST))
        .map_err(|error| Failure::new(format!("{ALLOW_LIST}: {error}")))?;
    let mut refused = Vec::new();
    let mut unused = Vec::new();
    for (package, allowed) in parse_allow_list(&text)? {
        let shown = shown_crates(&document(workspace, &package)?)?;
        for (name, places) in &shown {
            if !allowed.contains(name) {
                refused.extend(places.iter().map(|place| format!("{package}: {place}")));
            }
        }
        let left = allowed.iter().filter(|name| !shown.contains_key(*name));
        unused.extend(left.map(|name| format!("{name} in {package}")));
    }
    if !refused.is_empty() {
        return Err(Failure::new(format!("not allowed in a public API by {ALLOW_LIST}:\n  {}", refused.join("\n  "))));
    }
    if unused.is_empty() {
        Ok(Outcome::Passed)
    } else {
        let unused = unused.join(", ");
        Ok(Outcome::Noted(format!("allowed but not shown: {unused}")))
    }
}

/// A crate's public API as rustdoc's JSON.
fn document(workspace: &Workspace, package: &str) -> Result<Value, Failure> {
    // A folder of its own: under `RUSTC_BOOTSTRAP`, build scripts take this toolchain for a nightly one.
    let target = workspace.target().join("external-types");
    let mut rustdoc = process::cargo(workspace.root());
    rustdoc
        .args(["rustdoc", "--quiet", "--lib", "--all-features", "--package"])
        .arg(package)
        .arg("--target-dir")
        .arg(&target)
        .args(["--", "-Z", "unstable-options", "--output-format", "json"])
        .env("RUSTC_BOOTSTRAP", "1");
    process::run(&mut rustdoc)?;

    let file = target.join(format!("doc/{}.json", package.replace('-', "_")));
    let text = fs::read_to_string(&file).map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
    serde_json::from_str(&text).map_err(|error| Failure::new(format!("{}: {error}", file.display())))
}

/// Package by package, the crates that may show.
fn parse_allow_list(text: &str) -> Result<BTreeMap<String, BTreeSet<String>>, Failure> {
    let table: toml::Table = text.parse().map_err(|error| Failure::new(format!("{ALLOW_LIST}: {error}")))?;
    let mut lists = BTreeMap::new();
    for (package, entries) in table {
        let entries =
            entries.as_table().ok_or_else(|| Failure::new(format!("{ALLOW_LIST}: `{package}` is not a table")))?;
        for (name, reason) in entries {
            if reason.as_str().is_none_or(str::is_empty) {
                return Err(Failure::new(format!("{ALLOW_LIST}: `{name}` in `{package}` gives no reason")));
            }
        }
        lists.insert(package, entries.keys().cloned().collect());
    }
    Ok(lists)
}

/// The crates that show, each with where it does and with what; neither std nor our own.
fn shown_crates(document: &Value) -> Result<BTreeMap<String, BTreeSet<String>>, Failure> {
    let part =
        |name: &str| document[name].as_object().ok_or_else(|| Failure::new(format!("rustdoc's JSON has no `{name}`")));
    let (index, paths, crates) = (part("index")?, part("paths")?, part("external_crates")?);

    // Impls that rustdoc wrote itself, `impl<T> Any for T` and `Send`: they say nothing about this crate's API.
    let is_rustdocs_own =
        |inner: &Value| inner["impl"]["is_synthetic"] == true || inner["impl"]["blanket_impl"].is_object();
    let mut shown = BTreeMap::<String, BTreeSet<String>>::new();
    for item in index.values() {
        if item["crate_id"] != 0 || is_rustdocs_own(&item["inner"]) {
            continue;
        }
        let mut ids = Vec::new();
        collect_ids(&item["inner"], &mut ids);
        for id in ids {
            let Some(path) = paths.get(&id.to_string()) else {
                continue;
            };
            // The crate itself, number 0, is not among the external ones.
            let Some(name) = crates.get(&path["crate_id"].to_string()).and_then(|external| external["name"].as_str())
            else {
                continue;
            };
            if !is_always_allowed(name) {
                let place = format!("{} shows {}", describe(item), join(&path["path"]));
                shown.entry(name.to_owned()).or_default().insert(place);
            }
        }
    }
    Ok(shown)
}

/// The ids of the types and traits that a part of an item names, and of what it re-exports.
fn collect_ids(part: &Value, ids: &mut Vec<u64>) {
    match part {
        Value::Array(parts) => parts.iter().for_each(|part| collect_ids(part, ids)),
        Value::Object(fields) => {
            let is_path = fields.contains_key("path") && fields.contains_key("args");
            let is_use = fields.contains_key("source") && fields.contains_key("is_glob");
            if is_path || is_use {
                ids.extend(fields.get("id").and_then(Value::as_u64));
            }
            fields.values().for_each(|part| collect_ids(part, ids));
        }
        _ => {}
    }
}

fn is_always_allowed(name: &str) -> bool {
    matches!(name, "std" | "core" | "alloc" | "proc_macro") || name.starts_with("overskill")
}

/// An item by its name, if it has one, and its place in the source.
fn describe(item: &Value) -> String {
    let name = item["name"].as_str().unwrap_or("an item");
    let file = item["span"]["filename"].as_str().unwrap_or("?");
    format!("{name} ({file}:{})", item["span"]["begin"][0])
}

fn join(path: &Value) -> String {
    let parts: Vec<_> = path.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    parts.join("::")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn item(name: &str, inner: &Value) -> Value {
        json!({
            "crate_id": 0,
            "name": name,
            "span": { "filename": "src/lib.rs", "begin": [7, 1], "end": [7, 9] },
            "inner": inner,
        })
    }

    fn path(id: u64, path: &str) -> Value {
        json!({ "id": id, "path": path, "args": null })
    }

    /// A crate with a function that takes a `jiff::Timestamp` and a `Vec` of its own type, a re-export of `uuid::Uuid`
    /// and a blanket impl of `tracing::Instrument`.
    fn fixture() -> Value {
        let function = json!({ "function": { "sig": {
            "inputs": [
                ["at", { "resolved_path": path(10, "Timestamp") }],
                ["all", { "resolved_path": {
                    "id": 11,
                    "path": "Vec",
                    "args": { "angle_bracketed": { "args": [
                        { "type": { "resolved_path": path(1, "Mine") } }
                    ] } },
                } }],
            ],
            "output": null,
        } } });
        let reexport = json!({ "use": {
            "source": "uuid::Uuid", "name": "Uuid", "id": 12, "is_glob": false
        } });
        let blanket = json!({ "impl": {
            "is_synthetic": false,
            "blanket_impl": { "generic": "T" },
            "trait": path(13, "Instrument"),
        } });
        json!({
            "index": {
                "1": item("Mine", &json!({ "struct": {} })),
                "2": item("run", &function),
                "3": item("Uuid", &reexport),
                "4": item("", &blanket),
            },
            "paths": {
                "1": { "crate_id": 0, "path": ["ours", "Mine"] },
                "10": { "crate_id": 20, "path": ["jiff", "Timestamp"] },
                "11": { "crate_id": 21, "path": ["alloc", "vec", "Vec"] },
                "12": { "crate_id": 22, "path": ["uuid", "Uuid"] },
                "13": { "crate_id": 23, "path": ["tracing", "Instrument"] },
            },
            "external_crates": {
                "20": { "name": "jiff" },
                "21": { "name": "alloc" },
                "22": { "name": "uuid" },
                "23": { "name": "tracing" },
            },
        })
    }

    #[test]
    fn what_is_named_or_reexported_shows_and_blanket_impls_do_not() {
        let shown = shown_crates(&fixture()).unwrap();
        assert_eq!(shown.keys().collect::<Vec<_>>(), ["jiff", "uuid"]);
        assert!(shown["jiff"].contains("run (src/lib.rs:7) shows jiff::Timestamp"));
    }

    #[test]
    fn another_documents_shape_is_an_error_not_a_pass() {
        assert!(shown_crates(&json!({ "index": {} })).is_err());
    }

    #[test]
    fn an_allowed_crate_needs_a_reason() {
        let lists = parse_allow_list("[ours]\nuuid = \"ids\"\n[theirs]\n").unwrap();
        assert!(lists["ours"].contains("uuid"));
        assert!(lists["theirs"].is_empty());
        assert!(parse_allow_list("[ours]\nuuid = \"\"\n").is_err());
        assert!(parse_allow_list("ours = 1\n").is_err());
    }

    #[test]
    fn the_allow_list_of_this_workspace_is_well_formed() {
        let text = include_str!("../external-types.toml");
        assert!(parse_allow_list(text).unwrap().contains_key("overskill-core"));
    }
}
