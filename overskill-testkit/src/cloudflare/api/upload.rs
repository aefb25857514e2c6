//! The upload of a script: code, assets, bindings and settings in one call, which changes all of it or nothing.

use super::super::{
    multipart,
    state::{Assets, Class, Module, Scope, Script, State, hex},
    wire::{Call, Outcome, Refusal, ok},
};
use super::{
    assets,
    bindings::{self, Before},
    migrations, scripts,
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, io::Write as _};

const MAX_COMPRESSED_BYTES: usize = 10 << 20;
const MAX_TAGS: usize = 8;
/// What is stored with a script and has no effect here.
const SETTINGS: [&str; 8] = [
    "limits",
    "logpush",
    "observability",
    "placement",
    "tail_consumers",
    "usage_model",
    "annotations",
    "cache_options",
];

/// `PUT …/scripts/{name}`
pub(super) fn put(state: &mut State, call: &Call<'_>, scope: &Scope, name: &str) -> Outcome {
    let (metadata, modules) = read(call)?;
    check_name(scope, name)?;
    let before = state.scripts_of(scope)?.get(name).cloned();
    let strict = call.query("bindings_inherit") == Some("strict");
    let (classes, migration_tag) = migrations::apply(state, scope, before.as_ref(), &metadata["migrations"])?;
    let bindings = new_bindings(state, scope, name, before.as_ref(), &metadata, &classes, strict)?;

    let assets = new_assets(state, call, scope, name, before.as_ref(), &metadata)?;
    let (main_module, body_part) = mains(&metadata, &modules, assets.is_some())?;
    check_size(&modules)?;
    let mut script = Script {
        name: name.to_owned(),
        tag: before.as_ref().map_or_else(|| state.hex_id(), |it| it.tag.clone()),
        version: state.uuid(),
        etag: etag(&modules),
        created: before.as_ref().map_or(call.now, |it| it.created),
        modified: call.now,
        main_module,
        body_part,
        modules,
        bindings,
        compatibility_date: None,
        compatibility_flags: Vec::new(),
        tags: Vec::new(),
        settings: Map::new(),
        assets,
        migration_tag,
        classes,
        schedules: before.as_ref().map(|it| it.schedules.clone()).unwrap_or_default(),
        workers_dev: before.as_ref().is_some_and(|it| it.workers_dev),
    };
    set(&mut script, &metadata)?;
    let told = scripts::result(&script);
    store(state, scope, script)?;
    ok(told)
}

/// `PUT …/content`: another code, everything else as it is.
pub(super) fn put_content(state: &mut State, call: &Call<'_>, scope: &Scope, name: &str) -> Outcome {
    let (metadata, modules) = read(call)?;
    let mut script = scripts::find(state, scope, name)?.clone();
    (script.main_module, script.body_part) = mains(&metadata, &modules, false)?;
    check_size(&modules)?;
    script.etag = etag(&modules);
    script.modules = modules;
    changed(state, call, &mut script);
    let told = scripts::result(&script);
    store(state, scope, script)?;
    ok(told)
}

/// `PATCH …/settings`: everything but the code and the assets.
pub(super) fn patch_settings(state: &mut State, call: &Call<'_>, scope: &Scope, name: &str) -> Outcome {
    let mut script = scripts::find(state, scope, name)?.clone();
    let parts = multipart::parts(call.header("content-type"), call.body)?;
    let settings = parts.iter().find(|it| it.name == "settings");
    let settings = settings.ok_or_else(|| Refusal::new(400, 10_021, "the form has no part \"settings\""))?;
    let settings: Value = serde_json::from_slice(&settings.body)
        .map_err(|e| Refusal::new(400, 10_021, format!("part \"settings\" is not JSON: {e}")))?;
    let (classes, tag) = migrations::apply(state, scope, Some(&script), &settings["migrations"])?;
    if settings.get("bindings").is_some() {
        script.bindings = new_bindings(state, scope, name, Some(&script), &settings, &classes, false)?;
    }
    (script.classes, script.migration_tag) = (classes, tag);
    set(&mut script, &settings)?;
    changed(state, call, &mut script);
    let told = scripts::settings(&script);
    store(state, scope, script)?;
    ok(told)
}

/// Marks the script as another version.
pub(super) fn changed(state: &State, call: &Call<'_>, script: &mut Script) {
    script.version = state.uuid();
    script.modified = call.now;
}

pub(super) fn store(state: &mut State, scope: &Scope, script: Script) -> Result<(), Refusal> {
    state.scripts_of_mut(scope)?.insert(script.name.clone(), script);
    if *scope == Scope::Account {
        state.revision += 1;
        state.routing += 1;
    }
    Ok(())
}

pub(super) fn check_tags(tags: &[String]) -> Result<(), Refusal> {
    if tags.len() > MAX_TAGS {
        return Err(Refusal::new(400, 10_021, format!("a script may have {MAX_TAGS} tags, not {}", tags.len())));
    }
    match tags.iter().find(|it| it.is_empty() || it.contains([',', '&'])) {
        Some(tag) => Err(Refusal::new(400, 10_021, format!("tag {tag:?} must not be empty and not hold , or &"))),
        None => Ok(()),
    }
}

/// The metadata and the modules.
fn read(call: &Call<'_>) -> Result<(Value, Vec<Module>), Refusal> {
    let parts = multipart::parts(call.header("content-type"), call.body)?;
    let metadata = parts.iter().find(|it| it.name == "metadata");
    let metadata = metadata.ok_or_else(|| Refusal::new(400, 10_021, "the form has no part \"metadata\""))?;
    let metadata: Value = serde_json::from_slice(&metadata.body)
        .map_err(|e| Refusal::new(400, 10_021, format!("part \"metadata\" is not JSON: {e}")))?;
    let modules = parts.into_iter().filter(|it| it.name != "metadata");
    let modules = modules.map(|it| Module {
        name: it.file_name.unwrap_or(it.name),
        content_type: it.content_type,
        body: Bytes::copy_from_slice(&it.body), // or it would keep the whole upload
    });
    Ok((metadata, modules.collect()))
}

fn check_name(scope: &Scope, name: &str) -> Result<(), Refusal> {
    let max = if *scope == Scope::Account { 63 } else { 255 };
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    if name.is_empty() || name.len() > max || !name.bytes().all(legal) || name.starts_with('-') {
        let message = format!("script name must be 1 to {max} of a-z, 0-9, - and _, but was {name:?}");
        return Err(Refusal::new(400, 10_016, message));
    }
    Ok(())
}

fn mains(metadata: &Value, modules: &[Module], has_assets: bool) -> Result<(Option<String>, Option<String>), Refusal> {
    let main = |field: &str| metadata[field].as_str().map(str::to_owned);
    let (module, body) = (main("main_module"), main("body_part"));
    let Some(name) = module.as_ref().or(body.as_ref()) else {
        if has_assets {
            return Ok((None, None));
        }
        return Err(Refusal::new(400, 10_021, "metadata must name main_module, body_part or assets"));
    };
    if !modules.iter().any(|it| it.name == *name) {
        let message = format!("No such module \"{name}\": metadata names it and no part holds it");
        return Err(Refusal::new(400, 10_021, message));
    }
    Ok((module, body))
}

fn check_size(modules: &[Module]) -> Result<(), Refusal> {
    let size: usize = modules.iter().map(|it| it.body.len()).sum();
    if size <= MAX_COMPRESSED_BYTES {
        return Ok(());
    }
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    let packed = modules.iter().try_for_each(|it| gzip.write_all(&it.body)).and_then(|()| gzip.finish());
    let packed = packed.expect("writing to memory does not fail").len();
    if packed > MAX_COMPRESSED_BYTES {
        let message =
            format!("Your Worker exceeded the size limit of {MAX_COMPRESSED_BYTES} bytes after compression: {packed}");
        return Err(Refusal::new(413, 10_027, message));
    }
    Ok(())
}

fn etag(modules: &[Module]) -> String {
    let mut digest = Sha256::new();
    for module in modules {
        digest.update(module.name.as_bytes());
        digest.update([0]);
        digest.update(&module.body);
    }
    hex(&digest.finalize())
}

fn new_bindings(
    state: &State,
    scope: &Scope,
    name: &str,
    before: Option<&Script>,
    metadata: &Value,
    classes: &BTreeMap<String, Class>,
    strict: bool,
) -> Result<Vec<Value>, Refusal> {
    let wanted = metadata["bindings"].as_array().cloned().unwrap_or_default();
    let keep = strings(&metadata["keep_bindings"]);
    let bindings = bindings::resolve(wanted, &Before { script: before, keep, strict })?;
    bindings::check(state, scope, name, &bindings, classes)?;
    Ok(bindings)
}

fn new_assets(
    state: &mut State,
    call: &Call<'_>,
    scope: &Scope,
    name: &str,
    before: Option<&Script>,
    metadata: &Value,
) -> Result<Option<Assets>, Refusal> {
    let wanted = &metadata["assets"];
    let old = before.and_then(|it| it.assets.clone()).filter(|_| metadata["keep_assets"] == true);
    let Some(jwt) = wanted["jwt"].as_str() else { return Ok(old) };
    let manifest = assets::complete(state, call.now, scope, name, jwt)?;
    Ok(Some(Assets { manifest, config: wanted["config"].clone() }))
}

/// What an upload and a change of settings have in common.
fn set(script: &mut Script, metadata: &Value) -> Result<(), Refusal> {
    if let Some(date) = metadata["compatibility_date"].as_str() {
        script.compatibility_date = Some(date.to_owned());
    }
    if metadata.get("compatibility_flags").is_some() {
        script.compatibility_flags = strings(&metadata["compatibility_flags"]);
    }
    if metadata.get("tags").is_some() {
        script.tags = strings(&metadata["tags"]);
        check_tags(&script.tags)?;
    }
    for field in SETTINGS {
        if let Some(value) = metadata.get(field) {
            script.settings.insert(field.to_owned(), value.clone());
        }
    }
    Ok(())
}

pub(super) fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|it| it.as_str().map(str::to_owned)).collect()
}
