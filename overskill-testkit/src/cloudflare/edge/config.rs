//! workerd's configuration for what the account holds: Cap'n Proto text, and the files that it embeds.

use super::super::state::{Module, Script, State};
use bytes::Bytes;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
};

/// Compatibility dates of scripts that have none, as the provider's.
pub(super) const OLDEST_DATE: &str = "2021-11-02";

/// What one start of workerd needs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Config {
    pub(super) text: String,
    /// `path in the folder → content`
    pub(super) files: BTreeMap<String, Bytes>,
}

/// What the configuration depends on besides the account.
pub(super) struct Surroundings<'a> {
    pub(super) control_socket: &'a Path,
    pub(super) objects: &'a Path,
    pub(super) max_loaded: usize,
    /// The newest compatibility date that this workerd knows.
    pub(super) newest_date: &'a str,
}

pub(super) fn build(state: &State, around: &Surroundings<'_>) -> Config {
    let mut files: BTreeMap<String, Bytes> = [
        ("emulator.js", include_str!("js/emulator.js")),
        ("assets.js", include_str!("js/assets.js")),
        ("cache.js", include_str!("js/cache.js")),
        ("routing.js", include_str!("js/routing.js")),
        ("kv.js", include_str!("js/kv.js")),
        ("caches.txt", include_str!("js/caches.js")),
        ("wrapper.txt", include_str!("js/wrapper.js")),
        ("namespace.js", include_str!("js/namespace.js")),
    ]
    .map(|(name, text)| (name.to_owned(), Bytes::from_static(text.as_bytes())))
    .into();
    let control = quote(&format!("unix:{}", around.control_socket.display()));
    let scripts: Vec<&Script> = state.scripts.values().filter(|it| has_code(it)).collect();
    let outbounds: BTreeSet<&str> = scripts
        .iter()
        .flat_map(|it| &it.bindings)
        .filter_map(|it| it["outbound"]["worker"]["service"].as_str())
        .collect();

    let mut services = String::new();
    let mut workers = String::new();
    let mut emulator_bindings = String::new();
    for (nth, script) in scripts.iter().enumerate() {
        let service = quote(&format!("script:{}", script.name));
        let _ = writeln!(services, "    (name = {service}, worker = .script{nth}),");
        let _ = writeln!(emulator_bindings, "    (name = {service}, service = {service}),");
        workers += &worker(state, script, nth, outbounds.contains(script.name.as_str()), around, &mut files);
    }
    for (kind, name) in stores(&scripts) {
        let (service, name) = (quote(&format!("{kind}:{name}")), quote(name));
        let header = format!("[(name = \"x-overskill-{kind}\", value = {name})]");
        let _ = writeln!(
            services,
            "    (name = {service}, external = (address = {control}, http = (injectRequestHeaders = {header}))),"
        );
    }
    let (objects, date, max) =
        (quote(&around.objects.display().to_string()), quote(around.newest_date), around.max_loaded);
    let text = format!(
        r#"using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "emulator", worker = .emulator),
    (name = "control", external = (address = {control}, http = ())),
    (name = "internet", network = (allow = ["public", "private"])),
    (name = "objects", disk = (path = {objects}, writable = true)),
{services}  ],
  sockets = [
    (name = "edge", http = (forwardedProtoHeader = "x-forwarded-proto", injectRequestHeaders = [
      (name = "cf-connecting-ip", value = "127.0.0.1"), (name = "cf-ray", value = "emulated"),
      (name = "x-overskill-params") ]), service = "emulator"),
    (name = "admin", http = (), service = (name = "emulator", entrypoint = "Admin")),
  ],
  extensions = [ (modules = [
    (name = "overskill:dispatch-namespace", internal = true, esModule = embed "namespace.js") ]) ],
);
const emulator :Workerd.Worker = (
  modules = [
    (name = "emulator.js", esModule = embed "emulator.js"),
    (name = "assets.js", esModule = embed "assets.js"),
    (name = "cache.js", esModule = embed "cache.js"),
    (name = "routing.js", esModule = embed "routing.js"),
    (name = "kv.js", esModule = embed "kv.js"),
    (name = "caches.txt", text = embed "caches.txt"),
    (name = "wrapper.txt", text = embed "wrapper.txt"),
  ],
  compatibilityDate = {date},
  compatibilityFlags = ["experimental", "enable_ctx_exports", "service_binding_extra_handlers"],
  durableObjectNamespaces = [ (className = "ObjectHost", uniqueKey = "overskill-objects", enableSql = true) ],
  durableObjectStorage = (localDisk = "objects"),
  bindings = [
    (name = "CONTROL", service = "control"),
    (name = "LOADER", workerLoader = (id = "user-scripts")),
    (name = "OBJECTS", durableObjectNamespace = "ObjectHost"),
    (name = "MAX_LOADED", json = "{max}"),
{emulator_bindings}  ],
);
{workers}"#
    );
    Config { text, files }
}

pub(super) fn has_code(script: &Script) -> bool {
    script.main_module.is_some() || script.body_part.is_some()
}

/// A date that this workerd takes.
pub(super) fn date<'a>(script: &'a Script, newest: &'a str) -> &'a str {
    script.compatibility_date.as_deref().unwrap_or(OLDEST_DATE).min(newest)
}

/// Which kind of module a content type is, by the name that loaders of Workers have for it.
pub(super) fn kind(module: &Module) -> Option<&'static str> {
    let content_type = module.content_type.split(';').next().unwrap_or_default().trim();
    Some(match content_type {
        "application/javascript+module" | "text/javascript+module" => "js",
        "application/javascript" | "text/javascript" => "cjs",
        "application/json" => "json",
        "application/wasm" => "wasm",
        "text/plain" => "text",
        "application/octet-stream" => "data",
        _ => return None, // source maps and what workerd has no use for
    })
}

/// The KV namespaces and the buckets that account scripts are bound to.
fn stores<'a>(scripts: &[&'a Script]) -> BTreeSet<(&'static str, &'a str)> {
    let bindings = scripts.iter().flat_map(|it| &it.bindings);
    let stores = bindings.filter_map(|it| match it["type"].as_str()? {
        "kv_namespace" => Some(("kv", it["namespace_id"].as_str()?)),
        "r2_bucket" => Some(("r2", it["bucket_name"].as_str()?)),
        _ => None,
    });
    stores.collect()
}

fn worker(
    state: &State,
    script: &Script,
    nth: usize,
    is_outbound: bool,
    around: &Surroundings<'_>,
    files: &mut BTreeMap<String, Bytes>,
) -> String {
    let mut bindings = String::new();
    for it in &script.bindings {
        if let Some(value) = binding(state, script, it) {
            let name = quote(it["name"].as_str().unwrap_or_default());
            let _ = writeln!(bindings, "    (name = {name}, {value}),");
        }
    }
    let mut classes = String::new();
    for (name, class) in &script.classes {
        let (name, key) = (quote(name), quote(&class.namespace_id));
        let sqlite = class.sqlite;
        let _ = writeln!(classes, "    (className = {name}, uniqueKey = {key}, enableSql = {sqlite}),");
    }
    let date = quote(date(script, around.newest_date));
    let flags = script.compatibility_flags.iter().map(|it| quote(it)).collect::<Vec<_>>().join(", ");
    let code = code(script, nth, is_outbound, files);
    let cache = quote(&json!({ "script": script.name }).to_string());
    format!(
        "const script{nth} :Workerd.Worker = (\n{code}  compatibilityDate = {date},\n  compatibilityFlags = [{flags}],\n  \
         cacheApiOutbound = (name = \"emulator\", entrypoint = \"Cache\", props = (json = {cache})),\n  \
         durableObjectNamespaces = [\n{classes}  ],\n  durableObjectStorage = (localDisk = \"objects\"),\n  \
         bindings = [\n{bindings}  ],\n);\n"
    )
}

fn code(script: &Script, nth: usize, is_outbound: bool, files: &mut BTreeMap<String, Bytes>) -> String {
    let file_of = |at: usize| format!("script{nth}-{at}");
    for (at, module) in script.modules.iter().enumerate() {
        files.insert(file_of(at), module.body.clone());
    }
    if let Some(body) = &script.body_part {
        let at = script.modules.iter().position(|it| it.name == *body).unwrap_or_default();
        return format!("  serviceWorkerScript = embed \"{}\",\n", file_of(at));
    }
    let main = script.main_module.as_deref().unwrap_or_default();
    let mut list = String::new();
    if is_outbound {
        let wrapper = include_str!("js/outbound.js").replace("./MAIN", &format!("./{main}"));
        files.insert(file_of(script.modules.len()), wrapper.into());
        let _ = writeln!(
            list,
            "    (name = \"overskill-outbound.js\", esModule = embed \"{}\"),",
            file_of(script.modules.len())
        );
    }
    // The main module comes first.
    let mut modules: Vec<_> = script.modules.iter().enumerate().collect();
    modules.sort_by_key(|(_, it)| it.name != main);
    for (at, module) in modules {
        let kind = match kind(module) {
            Some("js") => "esModule",
            Some("cjs") => "commonJsModule",
            Some(other) => other,
            None => continue,
        };
        let _ = writeln!(list, "    (name = {}, {kind} = embed \"{}\"),", quote(&module.name), file_of(at));
    }
    format!("  modules = [\n{list}  ],\n")
}

/// The value of a binding; nothing for what workerd has not.
fn binding(state: &State, script: &Script, it: &Value) -> Option<String> {
    let text = |field: &str| it[field].as_str();
    Some(match text("type")? {
        "plain_text" | "secret_text" => format!("text = {}", quote(text("text")?)),
        "json" => format!("json = {}", quote(&it["json"].to_string())),
        "version_metadata" => {
            let metadata = json!({ "id": script.version, "tag": "", "timestamp": script.modified.to_string() });
            format!("json = {}", quote(&metadata.to_string()))
        }
        "kv_namespace" => format!("kvNamespace = {}", quote(&format!("kv:{}", text("namespace_id")?))),
        "r2_bucket" => format!("r2Bucket = {}", quote(&format!("r2:{}", text("bucket_name")?))),
        "worker_loader" => format!("workerLoader = (id = {})", quote(&format!("{}/{}", script.name, text("name")?))),
        "assets" => {
            let props = quote(&json!({ "script": script.name }).to_string());
            format!("service = (name = \"emulator\", entrypoint = \"Assets\", props = (json = {props}))")
        }
        "service" => {
            let target = text("service")?;
            state.scripts.get(target).filter(|it| has_code(it))?;
            let name = quote(&format!("script:{target}"));
            match text("entrypoint") {
                Some(entrypoint) => format!("service = (name = {name}, entrypoint = {})", quote(entrypoint)),
                None => format!("service = {name}"),
            }
        }
        "durable_object_namespace" => {
            let class = quote(text("class_name")?);
            match text("script_name").filter(|it| *it != script.name) {
                Some(other) => {
                    state.scripts.get(other).filter(|it| has_code(it))?;
                    let service = quote(&format!("script:{other}"));
                    format!("durableObjectNamespace = (className = {class}, serviceName = {service})")
                }
                None => format!("durableObjectNamespace = {class}"),
            }
        }
        "dispatch_namespace" => {
            let outbound = &it["outbound"]["worker"]["service"];
            let props = json!({ "namespace": text("namespace")?, "outbound": outbound }).to_string();
            let props = quote(&props);
            format!(
                "wrapped = (moduleName = \"overskill:dispatch-namespace\", innerBindings = [(name = \"run\", \
                 service = (name = \"emulator\", entrypoint = \"Namespace\", props = (json = {props})))])"
            )
        }
        _ => return None,
    })
}

/// A text literal of Cap'n Proto.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            c if c.is_ascii_control() => {
                let _ = write!(quoted, "\\x{:02x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_literal_early() {
        assert_eq!(quote("a\"b\\c\nd\u{1}é"), "\"a\\\"b\\\\c\\nd\\x01é\"");
    }
}
