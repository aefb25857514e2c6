//! What workerd asks of the account while it serves: over a socket in the emulator's own folder, so that no Worker can.

use super::{
    super::{
        Inner,
        api::kv,
        state::{KvEntry, Scope, Script, State},
        wire::{Call, Refusal, Reply, json_reply, reply, segments},
    },
    bindings, config, r2,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Request};
use serde_json::{Map, Value, json};

/// The answer to workerd.
pub(super) fn answer(inner: &Inner, newest_date: &str, request: &Request<Bytes>) -> Reply {
    let mut state = inner.state();
    let call = Call::new(request, inner.clock.now());
    let path = request.uri().path();
    let answer = if !call.header("x-overskill-kv").is_empty() {
        of_kv(&mut state, &call, path)
    } else if !call.header("x-overskill-r2").is_empty() {
        return r2::answer(&mut state, &call);
    } else {
        of_edge(&state, path, newest_date)
    };
    answer.unwrap_or_else(|refusal| reply(refusal.status, "text/plain", refusal.message))
}

fn of_edge(state: &State, path: &str, newest_date: &str) -> Result<Reply, Refusal> {
    let segments = segments(path);
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let missing = || Refusal::new(404, 0, "there is no such thing");
    match segments.as_slice() {
        ["routing"] => Ok(json_reply(200, &routing(state, newest_date))),
        ["blob", hash] => {
            let asset = state.assets.get(*hash).ok_or_else(missing)?;
            Ok(reply(200, &asset.content_type, asset.body.clone()))
        }
        ["user", namespace, script, what] => {
            let scope = Scope::Dispatch((*namespace).to_owned());
            let script = state.scripts_of(&scope).ok().and_then(|it| it.get(*script)).ok_or_else(missing)?;
            let told = match *what {
                "version" => json!({
                    "version": script.version, "assets": script.assets.is_some(), "worker": config::has_code(script),
                }),
                "site" => site(script, newest_date),
                "code" => code(state, &scope, namespace, script, newest_date),
                _ => return Err(missing()),
            };
            Ok(json_reply(200, &told))
        }
        _ => Err(missing()),
    }
}

/// Where URLs lead.
fn routing(state: &State, newest_date: &str) -> Value {
    let (mut hosts, mut hostnames, mut zones, mut sites) = (Map::new(), Map::new(), Map::new(), Map::new());
    for (host, domain) in &state.domains {
        hosts.insert(host.clone(), domain.service.clone().into());
    }
    for script in state.scripts.values() {
        if let Some(subdomain) = state.subdomain.as_ref().filter(|_| script.workers_dev) {
            hosts.insert(format!("{}.{subdomain}.workers.dev", script.name), script.name.clone().into());
        }
        if script.assets.is_some() {
            sites.insert(script.name.clone(), site(script, newest_date));
        }
    }
    for zone in state.zones.values() {
        let route = |it: &super::super::state::Route| {
            let (host, path) = it.pattern.split_once('/').unwrap_or((&it.pattern, ""));
            json!({ "host": host, "path": format!("/{path}"), "script": it.script })
        };
        let routes: Vec<_> = zone.routes.iter().map(route).collect();
        zones.insert(zone.id.clone(), json!({ "name": zone.name, "routes": routes }));
        let is_served = |it: &&super::super::state::Hostname| it.status == "active" && zone.serves_hostnames();
        for hostname in zone.hostnames.values().filter(is_served) {
            hostnames.insert(hostname.host.clone(), zone.id.clone().into());
        }
    }
    json!({ "hosts": hosts, "zones": zones, "hostnames": hostnames, "sites": sites })
}

fn site(script: &Script, newest_date: &str) -> Value {
    let Some(assets) = &script.assets else { return Value::Null };
    let config = if assets.config.is_object() { assets.config.clone() } else { json!({}) };
    // The flag `assets_navigation_prefers_asset_serving`.
    let navigation = config::date(script, newest_date) >= "2025-04-01";
    json!({ "manifest": assets.manifest, "config": config, "navigation": navigation })
}

/// A user script as the loader takes it; see `code` in `emulator.js`.
fn code(state: &State, scope: &Scope, namespace: &str, script: &Script, newest_date: &str) -> Value {
    let modules: Vec<_> = script
        .modules
        .iter()
        .filter_map(|module| {
            let kind = config::kind(module)?;
            let mut told = json!({ "name": module.name, "kind": kind });
            match std::str::from_utf8(&module.body) {
                Ok(text) if !["wasm", "data"].contains(&kind) => told["text"] = text.into(),
                _ => told["base64"] = BASE64_STANDARD.encode(&module.body).into(),
            }
            Some(told)
        })
        .collect();
    let (mut values, mut kv, mut services, mut objects) = (Map::new(), Map::new(), Map::new(), Map::new());
    let mut assets = Vec::new();
    for it in &script.bindings {
        let name = it["name"].as_str().unwrap_or_default().to_owned();
        match it["type"].as_str().unwrap_or_default() {
            "plain_text" | "secret_text" => drop(values.insert(name, it["text"].clone())),
            "json" => drop(values.insert(name, it["json"].clone())),
            "version_metadata" => {
                let metadata = json!({ "id": script.version, "tag": "", "timestamp": script.modified.to_string() });
                values.insert(name, metadata);
            }
            "kv_namespace" => drop(kv.insert(name, it["namespace_id"].clone())),
            "service" => drop(services.insert(name, json!({ "service": it["service"] }))),
            "assets" => assets.push(name),
            "durable_object_namespace" => {
                if let Some(class) = bindings::class_of(state, scope, &script.name, it, &script.classes) {
                    let owner = it["script_name"].as_str().unwrap_or(&script.name);
                    let told = json!({
                        "id": class.namespace_id, "namespace": namespace, "script": owner, "class": it["class_name"],
                    });
                    objects.insert(name, told);
                }
            }
            _ => {} // what workerd has not
        }
    }
    json!({
        "main": script.main_module, "modules": modules, "values": values, "kv": kv, "services": services,
        "assets": assets, "objects": objects, "date": config::date(script, newest_date),
        "flags": script.compatibility_flags,
        "trusted": state.namespaces.get(namespace).is_some_and(|it| it.trusted),
    })
}

/// The protocol of workerd's KV bindings.
fn of_kv(state: &mut State, call: &Call<'_>, path: &str) -> Result<Reply, Refusal> {
    let id = call.header("x-overskill-kv").to_owned();
    let key = segments(path).pop().unwrap_or_default();
    let number = |name: &str| call.query(name).and_then(|it| it.parse::<i64>().ok());
    match (call.method.as_str(), key.as_str()) {
        ("GET", "") => {
            let limit = call.number("key_count_limit", 1000, 1, 1000)?;
            let (keys, cursor) = kv::list(state, &id, call.query("prefix"), call.query("cursor"), limit, call.now)?;
            let mut told = json!({ "keys": keys, "list_complete": cursor.is_none() });
            if let Some(cursor) = cursor {
                told["cursor"] = cursor.into();
            }
            Ok(json_reply(200, &told))
        }
        ("POST", "get") if path == "/bulk/get" => kv::get_for_worker(state, call, &id),
        ("GET", key) => {
            let staleness = state.kv_staleness;
            let entry = state.kv.get(&id).and_then(|it| it.read(key, call.now, staleness));
            let entry = entry.ok_or_else(|| Refusal::new(404, 0, "key not found"))?;
            let mut answer = reply(200, "", entry.value.clone());
            if let Some(metadata) = &entry.metadata
                && let Ok(value) = HeaderValue::from_str(&ascii(&metadata.to_string()))
            {
                answer.headers_mut().insert("cf-kv-metadata", value);
            }
            Ok(answer)
        }
        ("PUT", key) => {
            let metadata = call.headers.get("cf-kv-metadata").map(|it| serde_json::from_slice(it.as_bytes()));
            let metadata = metadata.transpose().map_err(|e| Refusal::new(400, 0, e.to_string()))?;
            let expires = kv::expires(number("expiration"), number("expiration_ttl"), call.now)?;
            let entry = KvEntry { value: call.body.clone(), metadata, expires };
            kv::check(key, &entry)?;
            if !kv::write(state, &id, key, Some(entry), call.now)? {
                return Err(Refusal::new(429, 0, "Too Many Requests"));
            }
            Ok(reply(200, "", ""))
        }
        ("DELETE", key) => {
            kv::write(state, &id, key, None, call.now)?;
            Ok(reply(200, "", ""))
        }
        _ => Err(Refusal::new(405, 0, "not of this protocol")),
    }
}

/// JSON whose every character is ASCII, for a header field.
pub(super) fn ascii(json: &str) -> String {
    use std::fmt::Write as _;
    json.chars().fold(String::with_capacity(json.len()), |mut text, c| {
        if c.is_ascii() {
            text.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
        text
    })
}
