//! Scripts of the account and of dispatch namespaces: reading, removing, secrets, tags, schedules.

use super::super::{
    state::{Scope, Script, State, no_namespace},
    wire::{Call, Outcome, Refusal, ok, reply},
};
use super::{assets, bindings, upload};
use serde_json::{Map, Value, json};

pub(super) fn answer(state: &mut State, call: &Call<'_>, scope: &Scope, name: &str, path: &[&str]) -> Outcome {
    if let Scope::Dispatch(namespace) = scope
        && !state.namespaces.contains_key(namespace)
    {
        return Err(no_namespace());
    }
    let account = *scope == Scope::Account;
    match (call.method.as_str(), path) {
        ("PUT", []) => upload::put(state, call, scope, name),
        ("GET", []) => read(state, scope, name),
        ("DELETE", []) => delete(state, scope, name),
        ("GET", ["content"] | ["content", "v2"]) => content(state, scope, name),
        ("PUT", ["content"]) => upload::put_content(state, call, scope, name),
        ("GET", ["bindings"]) => ok(bindings::told(find(state, scope, name)?)),
        ("GET", ["settings"]) => ok(settings(find(state, scope, name)?)),
        ("PATCH", ["settings"]) => upload::patch_settings(state, call, scope, name),
        ("GET", ["secrets"]) => ok(secrets(find(state, scope, name)?)),
        ("PUT", ["secrets"]) => put_secret(state, call, scope, name),
        ("PATCH", ["secrets-bulk"]) => patch_secrets(state, call, scope, name),
        ("GET", ["secrets", secret]) => {
            let secrets = secrets(find(state, scope, name)?);
            secrets.into_iter().find(|it| it["name"] == **secret).map_or_else(|| Err(no_secret(secret)), ok)
        }
        ("DELETE", ["secrets", secret]) => delete_secret(state, call, scope, name, secret),
        ("GET", ["tags"]) => ok(find(state, scope, name)?.tags.clone()),
        ("PUT", ["tags"]) => {
            let tags: Vec<String> = call.json(10_021)?;
            set_tags(state, scope, name, |_| tags)
        }
        ("PUT", ["tags", tag]) => {
            let tag = (*tag).to_owned();
            set_tags(state, scope, name, |tags| {
                let others = tags.iter().filter(|it| **it != tag).cloned();
                others.chain([tag.clone()]).collect()
            })
        }
        ("DELETE", ["tags", tag]) => {
            set_tags(state, scope, name, |tags| tags.iter().filter(|it| it != tag).cloned().collect())
        }
        ("POST", ["assets-upload-session"]) => assets::open_session(state, call, scope, name),
        ("GET", ["schedules"]) if account => ok(schedules(find(state, scope, name)?)),
        ("PUT", ["schedules"]) if account => put_schedules(state, call, name),
        ("GET", ["subdomain"]) if account => {
            let enabled = find(state, scope, name)?.workers_dev;
            ok(json!({ "enabled": enabled, "previews_enabled": false }))
        }
        ("POST", ["subdomain"]) if account => put_subdomain(state, call, name),
        _ => Err(Refusal::no_route(&format!("…/scripts/{name}/{}", path.join("/")))),
    }
}

pub(super) fn list_of_account(state: &State) -> Outcome {
    ok(state.scripts.values().map(|it| listed(it, None)).collect::<Vec<_>>())
}

/// `GET …/services/{script}`: the script with its only environment.
pub(super) fn service(state: &State, name: &str) -> Outcome {
    let script = find(state, &Scope::Account, name)
        .map_err(|_| Refusal::new(404, 10_090, "workers.api.error.service_not_found"))?;
    let environment = json!({ "environment": "production", "script": listed(script, None) });
    ok(json!({ "id": name, "default_environment": environment, "created_on": script.created.to_string() }))
}

/// The script, or the refusal of every endpoint but one.
pub(super) fn find<'a>(state: &'a State, scope: &Scope, name: &str) -> Result<&'a Script, Refusal> {
    let script = state.scripts_of(scope)?.get(name);
    script.ok_or_else(|| Refusal::new(404, 10_007, "workers.api.error.script_not_found"))
}

/// What an upload answers.
pub(super) fn result(script: &Script) -> Value {
    let mut told = listed(script, None);
    told["startup_time_ms"] = 1.into();
    told["deployment_id"] = script.version.replace('-', "").into();
    told
}

/// A script in a list.
pub(super) fn listed(script: &Script, namespace: Option<&str>) -> Value {
    let mut told = json!({
        "id": script.name, "tag": script.tag, "etag": script.etag, "tags": script.tags, "handlers": ["fetch"],
        "has_assets": script.assets.is_some(), "has_modules": script.main_module.is_some(),
        "compatibility_date": script.compatibility_date, "compatibility_flags": script.compatibility_flags,
        "created_on": script.created.to_string(), "modified_on": script.modified.to_string(),
        "usage_model": "standard", "logpush": false, "last_deployed_from": "api",
    });
    if let Some(tag) = &script.migration_tag {
        told["migration_tag"] = tag.clone().into();
    }
    for (key, value) in &script.settings {
        told[key] = value.clone();
    }
    if let Some(namespace) = namespace {
        told["dispatch_namespace"] = namespace.into();
    }
    told
}

pub(super) fn settings(script: &Script) -> Value {
    let mut told = Value::Object(script.settings.clone());
    told["bindings"] = bindings::told(script).into();
    told["compatibility_date"] = json!(script.compatibility_date);
    told["compatibility_flags"] = json!(script.compatibility_flags);
    told["tags"] = json!(script.tags);
    told["migration_tag"] = json!(script.migration_tag);
    told
}

fn read(state: &State, scope: &Scope, name: &str) -> Outcome {
    let script = state.scripts_of(scope)?.get(name);
    match (script, scope) {
        // The one endpoint with a code of its own; clients rely on it.
        (None, Scope::Dispatch(_)) => Err(Refusal::new(404, 10_092, "workers.api.error.script_not_found")),
        (None, Scope::Account) => find(state, scope, name).map(|_| unreachable!("it is not there")),
        (Some(script), Scope::Dispatch(namespace)) => ok(json!({
            "script": listed(script, None), "dispatch_namespace": namespace,
            "created_on": script.created.to_string(), "modified_on": script.modified.to_string(),
        })),
        (Some(_), Scope::Account) => content(state, scope, name),
    }
}

fn delete(state: &mut State, scope: &Scope, name: &str) -> Outcome {
    find(state, scope, name)?;
    state.scripts_of_mut(scope)?.remove(name);
    if *scope == Scope::Account {
        for zone in state.zones.values_mut() {
            zone.routes.retain(|it| it.script.as_deref() != Some(name));
        }
        state.domains.retain(|_, it| it.service != name);
        state.revision += 1;
        state.routing += 1;
    }
    ok(Value::Null)
}

/// The modules, as a form.
fn content(state: &State, scope: &Scope, name: &str) -> Outcome {
    let script = find(state, scope, name)?;
    let boundary = format!("emulator-{}", script.version);
    let mut body = Vec::new();
    for module in &script.modules {
        let (file, kind) = (&module.name, &module.content_type);
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{file}\"; filename=\"{file}\"\r\nContent-Type: {kind}\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(&module.body);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    let mut reply = reply(200, &format!("multipart/form-data; boundary={boundary}"), body);
    if let Some(main) = script.main_module.as_ref().or(script.body_part.as_ref())
        && let Ok(main) = main.parse()
    {
        reply.headers_mut().insert("cf-entrypoint", main);
    }
    Ok(reply)
}

fn secrets(script: &Script) -> Vec<Value> {
    let secrets = script.bindings.iter().filter(|it| it["type"] == "secret_text");
    secrets.map(|it| json!({ "name": it["name"], "type": "secret_text" })).collect()
}

fn no_secret(name: &str) -> Refusal {
    Refusal::new(404, 10_056, format!("Binding {name:?} not found"))
}

fn put_secret(state: &mut State, call: &Call<'_>, scope: &Scope, name: &str) -> Outcome {
    let mut secret: Value = call.json(10_021)?;
    secret["type"] = "secret_text".into();
    let told = json!({ "name": secret["name"], "type": "secret_text" });
    change_secrets(state, call, scope, name, vec![secret], &[])?;
    ok(told)
}

/// A merge patch: a secret is set, `null` removes it.
fn patch_secrets(state: &mut State, call: &Call<'_>, scope: &Scope, name: &str) -> Outcome {
    let body: Value = call.json(10_021)?;
    let empty = Map::new();
    let wanted = body["secrets"].as_object().unwrap_or(&empty);
    if wanted.is_empty() {
        return Err(Refusal::new(400, 10_021, "secrets must be an object with at least one secret"));
    }
    let (mut set, mut gone) = (Vec::new(), Vec::new());
    for (secret, value) in wanted {
        if value.is_null() {
            gone.push(secret.clone());
        } else {
            let mut value = value.clone();
            (value["name"], value["type"]) = (secret.clone().into(), "secret_text".into());
            set.push(value);
        }
    }
    change_secrets(state, call, scope, name, set, &gone)?;
    ok(secrets(find(state, scope, name)?))
}

fn delete_secret(state: &mut State, call: &Call<'_>, scope: &Scope, name: &str, secret: &str) -> Outcome {
    let there = secrets(find(state, scope, name)?).iter().any(|it| it["name"] == secret);
    if !there {
        return Err(no_secret(secret));
    }
    change_secrets(state, call, scope, name, Vec::new(), &[secret.to_owned()])?;
    ok(Value::Null)
}

/// One new version, whatever the number of secrets.
fn change_secrets(
    state: &mut State,
    call: &Call<'_>,
    scope: &Scope,
    name: &str,
    set: Vec<Value>,
    gone: &[String],
) -> Result<(), Refusal> {
    let mut script = find(state, scope, name)?.clone();
    for secret in &set {
        let taken = script.bindings.iter().find(|it| it["name"] == secret["name"] && it["type"] != "secret_text");
        if taken.is_some() {
            return Err(Refusal::new(400, 10_053, format!("Binding name {} already in use", secret["name"])));
        }
    }
    script.bindings.retain(|it| {
        let is_gone = it["type"] == "secret_text" && gone.iter().any(|name| it["name"] == **name);
        !is_gone && !set.iter().any(|new| new["name"] == it["name"])
    });
    script.bindings.extend(set);
    bindings::check(state, scope, name, &script.bindings, &script.classes)?;
    upload::changed(state, call, &mut script);
    upload::store(state, scope, script)
}

/// Tags are no part of a version.
fn set_tags(state: &mut State, scope: &Scope, name: &str, change: impl FnOnce(&[String]) -> Vec<String>) -> Outcome {
    let mut script = find(state, scope, name)?.clone();
    script.tags = change(&script.tags);
    upload::check_tags(&script.tags)?;
    let told = script.tags.clone();
    state.scripts_of_mut(scope)?.insert(name.to_owned(), script);
    ok(told)
}

fn schedules(script: &Script) -> Value {
    json!({ "schedules": script.schedules.iter().map(|it| json!({ "cron": it })).collect::<Vec<_>>() })
}

fn put_schedules(state: &mut State, call: &Call<'_>, name: &str) -> Outcome {
    const MAX_SCHEDULES: usize = 250;
    let wanted: Vec<Value> = call.json(10_021)?;
    let wanted: Vec<String> = wanted.iter().filter_map(|it| it["cron"].as_str().map(str::to_owned)).collect();
    find(state, &Scope::Account, name)?;
    let others: usize = state.scripts.values().filter(|it| it.name != name).map(|it| it.schedules.len()).sum();
    if others + wanted.len() > MAX_SCHEDULES {
        let message = format!("an account may have {MAX_SCHEDULES} cron triggers, not {}", others + wanted.len());
        return Err(Refusal::new(400, 10_072, message));
    }
    if let Some(bad) = wanted.iter().find(|it| it.split_whitespace().count() != 5) {
        return Err(Refusal::new(400, 10_100, format!("invalid cron string {bad:?}: it must have five fields")));
    }
    let script = state.scripts.get_mut(name).expect("it was found above");
    script.schedules = wanted;
    ok(schedules(script))
}

fn put_subdomain(state: &mut State, call: &Call<'_>, name: &str) -> Outcome {
    let body: Value = call.json(10_021)?;
    let enabled = body["enabled"].as_bool().unwrap_or_default();
    find(state, &Scope::Account, name)?;
    if enabled && state.subdomain.is_none() {
        return Err(Refusal::new(404, 10_063, "You need a workers.dev subdomain in order to proceed"));
    }
    state.scripts.get_mut(name).expect("it was found above").workers_dev = enabled;
    state.routing += 1;
    ok(json!({ "enabled": enabled, "previews_enabled": false }))
}
