//! The bindings of a script: which are legal, what is inherited, and what is told of them.

use super::super::{
    state::{Class, Scope, Script, State, no_namespace},
    wire::Refusal,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const MAX_BINDINGS: usize = 128;
const MAX_TEXT_BYTES: usize = 5 * 1024;

/// Where the bindings of an upload come from besides the upload.
pub(super) struct Before<'a> {
    pub(super) script: Option<&'a Script>,
    /// Types of bindings that stay although the upload does not name them.
    pub(super) keep: Vec<String>,
    /// Refuse an `inherit` of what is not there instead of dropping it.
    pub(super) strict: bool,
}

/// The bindings as they will be: inherited ones replaced by what they inherit, kept ones added.
pub(super) fn resolve(wanted: Vec<Value>, before: &Before<'_>) -> Result<Vec<Value>, Refusal> {
    let old = before.script.map_or(&[][..], |it| &it.bindings);
    let mut resolved = Vec::with_capacity(wanted.len());
    for binding in wanted {
        if binding["type"] != "inherit" {
            resolved.push(binding);
            continue;
        }
        let name = text(&binding, "name")?;
        let old_name = binding["old_name"].as_str().unwrap_or(name);
        match old.iter().find(|it| it["name"] == old_name) {
            Some(found) => {
                let mut found = found.clone();
                found["name"] = name.into();
                resolved.push(found);
            }
            None if before.strict => {
                let message = format!("binding {name:?} cannot be inherited: the script has no binding {old_name:?}");
                return Err(Refusal::new(400, 10_057, message));
            }
            None => {}
        }
    }
    let named: BTreeSet<String> = resolved.iter().filter_map(|it| it["name"].as_str().map(str::to_owned)).collect();
    let kept = old.iter().filter(|it| {
        let kind = it["type"].as_str().unwrap_or_default();
        before.keep.iter().any(|keep| keep == kind) && !named.contains(it["name"].as_str().unwrap_or_default())
    });
    resolved.extend(kept.cloned());
    Ok(resolved)
}

/// Refuses what the provider refuses.
pub(super) fn check(
    state: &State,
    scope: &Scope,
    script: &str,
    bindings: &[Value],
    classes: &BTreeMap<String, Class>,
) -> Result<(), Refusal> {
    if bindings.len() > MAX_BINDINGS {
        let message = format!("a script may have {MAX_BINDINGS} bindings, not {}", bindings.len());
        return Err(Refusal::new(400, 10_021, message));
    }
    let mut names = BTreeSet::new();
    for binding in bindings {
        let name = text(binding, "name")?;
        if name.is_empty() || !names.insert(name) {
            return Err(Refusal::new(400, 10_021, format!("binding name {name:?} is empty or used twice")));
        }
        let missing = |code: u32, what: &str| Err(Refusal::new(400, code, format!("binding {name}: {what} not found")));
        match text(binding, "type")? {
            kind @ ("plain_text" | "secret_text") => {
                let length = text(binding, "text")?.len();
                if length > MAX_TEXT_BYTES {
                    let message = format!("binding {name} ({kind}) may have {MAX_TEXT_BYTES} bytes, but has {length}");
                    return Err(Refusal::new(400, 10_021, message));
                }
            }
            "json" if binding.get("json").is_none() => return missing(10_021, "property json"),
            "json" | "assets" | "ai" | "analytics_engine" | "browser" | "images" | "ratelimit" | "send_email"
            | "version_metadata" | "worker_loader" | "data_blob" | "text_blob" | "wasm_module" => {}
            "kv_namespace" => {
                if !state.kv.contains_key(text(binding, "namespace_id")?) {
                    return missing(10_041, "KV namespace");
                }
            }
            "r2_bucket" => {
                if !state.buckets.contains_key(text(binding, "bucket_name")?) {
                    return missing(10_085, "R2 bucket");
                }
            }
            "durable_object_namespace" => {
                if class_of(state, scope, script, binding, classes).is_none() {
                    return missing(10_061, "Durable Object class");
                }
            }
            "service" => {
                let service = text(binding, "service")?;
                if service != script && !state.scripts.contains_key(service) {
                    return missing(10_144, "service");
                }
            }
            "dispatch_namespace" => {
                if !state.namespaces.contains_key(text(binding, "namespace")?) {
                    return Err(no_namespace());
                }
                if let Some(outbound) = binding["outbound"]["worker"]["service"].as_str()
                    && !state.scripts.contains_key(outbound)
                {
                    return missing(10_144, "outbound service");
                }
            }
            "d1" => return missing(10_181, "D1 database"),
            "queue" => return missing(11_000, "queue"),
            "hyperdrive" => return missing(10_157, "Hyperdrive configuration"),
            "vectorize" => return missing(10_159, "Vectorize index"),
            "secrets_store_secret" => return missing(10_182, "secret"),
            "mtls_certificate" => return missing(100_143, "certificate"),
            other => return Err(Refusal::new(400, 10_021, format!("binding {name} has the unknown type {other:?}"))),
        }
    }
    Ok(())
}

/// The class behind a Durable Object binding, here or in the script that the binding names.
pub(in super::super) fn class_of<'a>(
    state: &'a State,
    scope: &Scope,
    script: &str,
    binding: &Value,
    classes: &'a BTreeMap<String, Class>,
) -> Option<&'a Class> {
    let class = binding["class_name"].as_str();
    let other = binding["script_name"].as_str().filter(|it| *it != script);
    let namespace = binding["dispatch_namespace"].as_str().map(|it| Scope::Dispatch(it.to_owned()));
    let classes = match other {
        Some(other) => &state.scripts_of(namespace.as_ref().unwrap_or(scope)).ok()?.get(other)?.classes,
        None => classes,
    };
    match (class, binding["namespace_id"].as_str()) {
        (Some(class), _) => classes.get(class),
        (None, Some(id)) => classes.values().find(|it| it.namespace_id == id),
        (None, None) => None,
    }
}

/// The bindings as the API tells them: without the secrets' texts.
pub(super) fn told(script: &Script) -> Vec<Value> {
    let tell = |binding: &Value| {
        let mut told = binding.clone();
        if told["type"] == "secret_text"
            && let Some(fields) = told.as_object_mut()
        {
            fields.remove("text");
        }
        if let Some(class) = told["class_name"].as_str().and_then(|it| script.classes.get(it)) {
            told["namespace_id"] = class.namespace_id.clone().into();
        }
        told
    };
    script.bindings.iter().map(tell).collect()
}

pub(super) fn text<'a>(binding: &'a Value, field: &str) -> Result<&'a str, Refusal> {
    binding[field].as_str().ok_or_else(|| {
        let name = binding["name"].as_str().unwrap_or("without a name");
        Refusal::new(400, 10_021, format!("binding {name}: {field} must be a string"))
    })
}
