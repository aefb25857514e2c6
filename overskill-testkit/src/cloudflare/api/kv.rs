//! Workers KV over the REST API.

use super::super::{
    multipart,
    state::{KvEntry, KvNamespace, State},
    wire::{Call, Outcome, Refusal, json_reply, ok, ok_with, paged, reply},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use overskill_core::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

pub(in super::super) const MAX_KEY_BYTES: usize = 512;
pub(in super::super) const MAX_METADATA_BYTES: usize = 1024;
pub(in super::super) const MAX_VALUE_BYTES: usize = 25 << 20;
const MAX_NAMESPACES: usize = 1000;
const MAX_PAIRS: usize = 10_000;
const MAX_BULK_BYTES: usize = 100 << 20;
const MAX_BULK_GET: usize = 100;
const MIN_TTL_SECONDS: i64 = 60;

pub(super) fn answer(state: &mut State, call: &Call<'_>, path: &[&str]) -> Option<Outcome> {
    Some(match (call.method.as_str(), path) {
        ("GET", []) => paged(call, state.kv.values().map(told).collect()),
        ("POST", []) => create(state, call),
        ("GET", [id]) => namespace(state, id).and_then(|it| ok(told(it))),
        ("PUT", [id]) => rename(state, call, id),
        ("DELETE", [id]) => match state.kv.remove(*id) {
            Some(_) => ok(Value::Null),
            None => Err(no_namespace()),
        },
        ("GET", [id, "keys"]) => keys(state, call, id),
        ("GET", [id, "values", key]) => value(state, call, id, key),
        ("PUT", [id, "values", key]) => put(state, call, id, key),
        ("DELETE", [id, "values", key]) => delete(state, call, id, &[(*key).to_owned()]).and_then(|_| ok(Value::Null)),
        ("GET", [id, "metadata", key]) => {
            entry(state, call, id, key).and_then(|it| ok(it.metadata.clone().unwrap_or_default()))
        }
        ("PUT", [id, "bulk"]) => put_many(state, call, id),
        ("POST", [id, "bulk", "delete"]) | ("DELETE", [id, "bulk"]) => delete_many(state, call, id),
        ("POST", [id, "bulk", "get"]) => get_many(state, call, id),
        _ => return None,
    })
}

fn told(namespace: &KvNamespace) -> Value {
    json!({ "id": namespace.id, "title": namespace.title, "supports_url_encoding": true })
}

fn no_namespace() -> Refusal {
    Refusal::new(404, 10_013, "get namespace: 'namespace not found'")
}

fn namespace<'a>(state: &'a State, id: &str) -> Result<&'a KvNamespace, Refusal> {
    state.kv.get(id).ok_or_else(no_namespace)
}

fn title(state: &State, call: &Call<'_>) -> Result<String, Refusal> {
    let body: Value = call.json(10_012)?;
    let title = body["title"].as_str().unwrap_or_default();
    if title.is_empty() || title.len() > 512 {
        return Err(Refusal::new(400, 10_019, "malformed title: it must have 1 to 512 bytes"));
    }
    if state.kv.values().any(|it| it.title == title) {
        let message = format!("a namespace with this account ID and title already exists: {title:?}");
        return Err(Refusal::new(400, 10_014, message));
    }
    Ok(title.to_owned())
}

fn create(state: &mut State, call: &Call<'_>) -> Outcome {
    let title = title(state, call)?;
    if state.kv.len() >= MAX_NAMESPACES {
        return Err(Refusal::new(400, 10_030, format!("an account may have {MAX_NAMESPACES} namespaces")));
    }
    let namespace = KvNamespace::new(state.hex_id(), title);
    let answer = told(&namespace);
    state.kv.insert(namespace.id.clone(), namespace);
    ok(answer)
}

fn rename(state: &mut State, call: &Call<'_>, id: &str) -> Outcome {
    namespace(state, id)?;
    let title = title(state, call)?;
    state.kv.get_mut(id).expect("it was found above").title = title;
    ok(Value::Null)
}

fn keys(state: &State, call: &Call<'_>, id: &str) -> Outcome {
    let limit = call.number("limit", 1000, 10, 1000)?;
    let (keys, cursor) = list(state, id, call.query("prefix"), call.query("cursor"), limit, call.now)?;
    let info = json!({ "count": keys.len(), "cursor": cursor.unwrap_or_default() });
    ok_with(keys, info)
}

/// A page of keys and where the next one begins; for the API and for Workers.
pub(in super::super) fn list(
    state: &State,
    id: &str,
    prefix: Option<&str>,
    cursor: Option<&str>,
    limit: usize,
    now: Timestamp,
) -> Result<(Vec<Value>, Option<String>), Refusal> {
    let bad_cursor = || Refusal::new(400, 10_021, "invalid cursor");
    let after = match cursor.filter(|it| !it.is_empty()) {
        Some(cursor) => {
            let bytes = BASE64_STANDARD.decode(cursor).map_err(|_| bad_cursor())?;
            Some(String::from_utf8(bytes).map_err(|_| bad_cursor())?)
        }
        None => None,
    };
    let namespace = namespace(state, id)?;
    let mut found = namespace.list(prefix.unwrap_or_default(), after.as_deref(), now, state.kv_staleness);
    let page: Vec<_> = found.by_ref().take(limit).collect();
    let cursor = found.next().and(page.last()).map(|(key, _)| BASE64_STANDARD.encode(key));
    let keys = page.into_iter().map(|(name, entry)| {
        let mut key = json!({ "name": name });
        if let Some(expires) = entry.expires {
            key["expiration"] = (expires.as_unix_millis() / 1000).into();
        }
        if let Some(metadata) = &entry.metadata {
            key["metadata"] = metadata.clone();
        }
        key
    });
    Ok((keys.collect(), cursor))
}

fn entry<'a>(state: &'a State, call: &Call<'_>, id: &str, key: &str) -> Result<&'a KvEntry, Refusal> {
    let found = namespace(state, id)?.read(key, call.now, state.kv_staleness);
    found.ok_or_else(|| Refusal::new(404, 10_009, "get: 'key not found'"))
}

fn value(state: &State, call: &Call<'_>, id: &str, key: &str) -> Outcome {
    let entry = entry(state, call, id, key)?;
    let mut reply = reply(200, "application/octet-stream", entry.value.clone());
    if let Some(expires) = entry.expires {
        reply.headers_mut().insert("expiration", (expires.as_unix_millis() / 1000).into());
    }
    Ok(reply)
}

fn put(state: &mut State, call: &Call<'_>, id: &str, key: &str) -> Outcome {
    namespace(state, id)?;
    let content_type = call.header("content-type");
    let (value, metadata) = if content_type.starts_with("multipart/form-data") {
        let parts = multipart::parts(content_type, call.body)?;
        let value = parts.iter().find(|it| it.name == "value").map(|it| Bytes::copy_from_slice(&it.body));
        let metadata = parts.iter().find(|it| it.name == "metadata").map(|it| serde_json::from_slice(&it.body));
        let metadata =
            metadata.transpose().map_err(|e| Refusal::new(400, 10_012, format!("metadata is not JSON: {e}")))?;
        (value.ok_or_else(|| Refusal::new(400, 10_012, "the form has no part \"value\""))?, metadata)
    } else {
        (call.body.clone(), None)
    };
    let seconds = |name: &str| call.query(name).map(|it| it.parse::<i64>().map_err(|_| bad_ttl())).transpose();
    let expires = expires(seconds("expiration")?, seconds("expiration_ttl")?, call.now)?;
    let entry = KvEntry { value, metadata, expires };
    check(key, &entry)?;
    if !write(state, id, key, Some(entry), call.now)? {
        return Err(Refusal::new(429, 10_033, "put: 'too many writes to the same key: at most one a second'"));
    }
    ok(Value::Null)
}

/// Writes or removes; no when the key takes no write yet.
pub(in super::super) fn write(
    state: &mut State,
    id: &str,
    key: &str,
    entry: Option<KvEntry>,
    now: Timestamp,
) -> Result<bool, Refusal> {
    let (gap, keep) = (state.kv_same_key, state.kv_staleness);
    let namespace = state.kv.get_mut(id).ok_or_else(no_namespace)?;
    Ok(namespace.write(key, entry, now, gap, keep))
}

pub(in super::super) fn check(key: &str, entry: &KvEntry) -> Result<(), Refusal> {
    if key.is_empty() || key.len() > MAX_KEY_BYTES || key == "." || key == ".." {
        let message =
            format!("key must have 1 to {MAX_KEY_BYTES} bytes and not be . or .., but has {} bytes", key.len());
        return Err(Refusal::new(414, 10_025, message));
    }
    if entry.value.len() > MAX_VALUE_BYTES {
        let message = format!("value may have {MAX_VALUE_BYTES} bytes, not {}", entry.value.len());
        return Err(Refusal::new(413, 10_027, message));
    }
    let metadata = entry.metadata.as_ref().map_or(0, |it| it.to_string().len());
    if metadata > MAX_METADATA_BYTES {
        return Err(Refusal::new(413, 10_028, format!("metadata may have {MAX_METADATA_BYTES} bytes, not {metadata}")));
    }
    Ok(())
}

pub(in super::super) fn expires(
    at: Option<i64>,
    ttl: Option<i64>,
    now: Timestamp,
) -> Result<Option<Timestamp>, Refusal> {
    let now_seconds = now.as_unix_millis() / 1000;
    let Some(at) = at.or(ttl.map(|it| now_seconds.saturating_add(it))) else { return Ok(None) };
    if at < now_seconds + MIN_TTL_SECONDS {
        return Err(bad_ttl());
    }
    Ok(Some(Timestamp::from_unix_millis(at.saturating_mul(1000))))
}

fn bad_ttl() -> Refusal {
    Refusal::new(400, 10_034, format!("expiration must be at least {MIN_TTL_SECONDS} seconds ahead"))
}

#[derive(Deserialize)]
struct Pair {
    key: String,
    value: String,
    #[serde(default)]
    base64: bool,
    metadata: Option<Value>,
    expiration: Option<i64>,
    expiration_ttl: Option<i64>,
}

fn put_many(state: &mut State, call: &Call<'_>, id: &str) -> Outcome {
    namespace(state, id)?;
    if call.body.len() > MAX_BULK_BYTES {
        let message = format!("a bulk write may have {MAX_BULK_BYTES} bytes, not {}", call.body.len());
        return Err(Refusal::new(413, 10_027, message));
    }
    let pairs: Vec<Pair> = call.json(10_012)?;
    check_count(pairs.len(), MAX_PAIRS)?;
    let mut entries = Vec::with_capacity(pairs.len());
    for pair in pairs {
        let value = if pair.base64 {
            let decoded = BASE64_STANDARD.decode(&pair.value);
            decoded.map_err(|e| Refusal::new(400, 10_012, format!("value of {:?} is not base64: {e}", pair.key)))?
        } else {
            pair.value.into_bytes()
        };
        let expires = expires(pair.expiration, pair.expiration_ttl, call.now)?;
        let entry = KvEntry { value: value.into(), metadata: pair.metadata, expires };
        check(&pair.key, &entry)?;
        entries.push((pair.key, entry));
    }
    let mut refused = Vec::new();
    let count = entries.len();
    let refuse = call.headers.get(super::super::faults::REFUSE_KEYS).is_some();
    for (nth, (key, entry)) in entries.into_iter().enumerate() {
        if (refuse && nth.is_multiple_of(2)) || !write(state, id, &key, Some(entry), call.now)? {
            refused.push(key);
        }
    }
    ok(json!({ "successful_key_count": count - refused.len(), "unsuccessful_keys": refused }))
}

fn check_count(count: usize, max: usize) -> Result<(), Refusal> {
    match count {
        0 => Err(Refusal::new(400, 10_029, "a bulk request must hold at least one key")),
        _ if count > max => {
            let message = format!("received {count} key/value pairs, but max allowed per request is: {max}");
            Err(Refusal::new(400, 10_012, message))
        }
        _ => Ok(()),
    }
}

fn delete_many(state: &mut State, call: &Call<'_>, id: &str) -> Outcome {
    let keys: Vec<Value> = call.json(10_012)?;
    check_count(keys.len(), MAX_PAIRS)?;
    let name = |it: &Value| it.as_str().or(it["name"].as_str()).map(str::to_owned);
    let keys: Vec<String> = keys.iter().filter_map(name).collect();
    let count = delete(state, call, id, &keys)?;
    ok(json!({ "successful_key_count": count, "unsuccessful_keys": [] }))
}

fn delete(state: &mut State, call: &Call<'_>, id: &str, keys: &[String]) -> Result<usize, Refusal> {
    for key in keys {
        write(state, id, key, None, call.now)?;
    }
    namespace(state, id)?;
    Ok(keys.len())
}

fn get_many(state: &State, call: &Call<'_>, id: &str) -> Outcome {
    let values = values(state, call, id)?;
    ok(json!({ "values": values }))
}

/// The same for a Worker: without the envelope.
pub(in super::super) fn get_for_worker(state: &State, call: &Call<'_>, id: &str) -> Outcome {
    let values = values(state, call, id)?;
    Ok(json_reply(200, &values.into()))
}

fn values(state: &State, call: &Call<'_>, id: &str) -> Result<serde_json::Map<String, Value>, Refusal> {
    let body: Value = call.json(10_012)?;
    let keys = super::upload::strings(&body["keys"]);
    check_count(keys.len(), MAX_BULK_GET)?;
    let namespace = namespace(state, id)?;
    let (as_json, with_metadata) = (body["type"] == "json", body["withMetadata"] == true);
    let mut values = serde_json::Map::new();
    for key in keys {
        let value = match namespace.read(&key, call.now, state.kv_staleness) {
            None => Value::Null,
            Some(entry) => {
                let text = std::str::from_utf8(&entry.value).map_err(|_| {
                    Refusal::new(400, 10_012, format!("value of {key:?} is no text; read it by itself"))
                })?;
                let value = if as_json { serde_json::from_str(text).unwrap_or_default() } else { Value::from(text) };
                if with_metadata { json!({ "value": value, "metadata": entry.metadata }) } else { value }
            }
        };
        values.insert(key, value);
    }
    Ok(values)
}
