//! The protocol of workerd's R2 bindings: JSON beside the bytes, whose length a header field tells.

use super::{
    super::{
        r2::{Bucket, Object},
        state::State,
        wire::{Call, Reply, reply},
    },
    control::ascii,
};
use bytes::Bytes;
use http::HeaderValue;
use serde_json::{Map, Value, json};

const NOT_FOUND: u32 = 10_007;
const PRECONDITION: u32 = 10_031;
const BAD_RANGE: u32 = 10_039;

struct R2Error(u16, u32, &'static str);

pub(super) fn answer(state: &mut State, call: &Call<'_>) -> Reply {
    respond(state, call).unwrap_or_else(|R2Error(status, code, message)| {
        let mut answer = reply(status, "", "");
        let error = json!({ "version": 0, "v4code": code, "message": message });
        put(&mut answer, "cf-r2-error", &error.to_string());
        answer
    })
}

fn respond(state: &mut State, call: &Call<'_>) -> Result<Reply, R2Error> {
    let size = call.header("cf-r2-metadata-size").parse::<usize>().unwrap_or_default().min(call.body.len());
    let request = if call.method == "GET" { call.header("cf-r2-request").as_bytes() } else { &call.body[..size] };
    let request: Value =
        serde_json::from_slice(request).map_err(|_| R2Error(400, 10_001, "the request is not JSON"))?;
    let name = call.header("x-overskill-r2").to_owned();
    let no_bucket = || R2Error(404, 10_006, "The specified bucket does not exist.");
    let key = request["object"].as_str().unwrap_or_default();
    match request["method"].as_str().unwrap_or_default() {
        method @ ("get" | "head") => {
            let bucket = state.buckets.get(&name).ok_or_else(no_bucket)?;
            get(bucket, key, &request, method == "get")
        }
        "put" => {
            let mut object = Object::new(state, call.body.slice(size..), call.now);
            let bucket = state.buckets.get_mut(&name).ok_or_else(no_bucket)?;
            if !holds(&request["onlyIf"], bucket.objects.get(key)) {
                return Err(R2Error(412, PRECONDITION, "a condition did not hold"));
            }
            fill(&mut object, &request);
            let told = describe(key, &object, true);
            bucket.objects.insert(key.to_owned(), object);
            Ok(metadata(&told, &Bytes::new()))
        }
        "delete" => {
            let bucket = state.buckets.get_mut(&name).ok_or_else(no_bucket)?;
            let many = request["objects"].as_array().into_iter().flatten().filter_map(Value::as_str);
            for key in many.chain(request["object"].as_str()) {
                bucket.objects.remove(key);
            }
            Ok(metadata(&json!({}), &Bytes::new()))
        }
        "list" => Ok(list(state.buckets.get(&name).ok_or_else(no_bucket)?, &request)),
        _ => Err(R2Error(400, 10_001, "the emulator has not this method")),
    }
}

fn get(bucket: &Bucket, key: &str, request: &Value, with_body: bool) -> Result<Reply, R2Error> {
    let object = bucket.objects.get(key).ok_or(R2Error(404, NOT_FOUND, "The specified key does not exist."))?;
    let mut told = describe(key, object, true);
    if !with_body {
        return Ok(metadata(&told, &Bytes::new()));
    }
    if !holds(&request["onlyIf"], Some(object)) {
        let mut answer = metadata(&told, &Bytes::new());
        *answer.status_mut() = http::StatusCode::PRECONDITION_FAILED;
        let error = json!({ "version": 0, "v4code": PRECONDITION, "message": "a condition did not hold" });
        put(&mut answer, "cf-r2-error", &error.to_string());
        return Ok(answer);
    }
    let size = object.body.len();
    let range = &request["range"];
    let number = |field: &str| {
        let value = &range[field];
        let text = value.as_str().map(str::to_owned).or_else(|| value.as_u64().map(|it| it.to_string()))?;
        text.parse::<usize>().ok()
    };
    let (from, to) = match (number("suffix"), number("offset"), number("length")) {
        (Some(last), ..) => (size.saturating_sub(last), size),
        (None, offset, length) => {
            let from = offset.unwrap_or_default();
            (from, length.map_or(size, |it| from.saturating_add(it)).min(size))
        }
    };
    if from > to || (from == size && size > 0) {
        return Err(R2Error(416, BAD_RANGE, "the range is not of this object"));
    }
    if !range.is_null() {
        told["range"] = json!({ "offset": from.to_string(), "length": (to - from).to_string() });
    }
    Ok(metadata(&told, &object.body.slice(from..to)))
}

/// `onlyIf` of a request, as far as it is about `ETag`s.
fn holds(only_if: &Value, object: Option<&Object>) -> bool {
    let names = |field: &str| {
        let wanted = only_if[field].as_array().filter(|it| !it.is_empty())?;
        let is_it = |it: &Value| it["type"] == "wildcard" || object.is_some_and(|object| it["value"] == *object.etag);
        Some(object.is_some() && wanted.iter().any(is_it))
    };
    names("etagMatches").unwrap_or(true) && !names("etagDoesNotMatch").unwrap_or(false)
}

fn fill(object: &mut Object, request: &Value) {
    for (field, value) in request["httpFields"].as_object().into_iter().flatten() {
        let Some(value) = value.as_str().map(str::to_owned) else { continue };
        match field.as_str() {
            "contentType" => object.content_type = Some(value),
            "contentLanguage" => drop(object.fields.insert("content-language".into(), value)),
            "contentDisposition" => drop(object.fields.insert("content-disposition".into(), value)),
            "contentEncoding" => drop(object.fields.insert("content-encoding".into(), value)),
            "cacheControl" => drop(object.fields.insert("cache-control".into(), value)),
            _ => {}
        }
    }
    for field in request["customFields"].as_array().into_iter().flatten() {
        if let (Some(key), Some(value)) = (field["k"].as_str(), field["v"].as_str()) {
            object.custom.insert(key.to_owned(), value.to_owned());
        }
    }
}

fn list(bucket: &Bucket, request: &Value) -> Reply {
    let text = |field: &str| request[field].as_str().unwrap_or_default();
    let after = text("cursor").max(text("startAfter"));
    let limit = request["limit"].as_u64().and_then(|it| usize::try_from(it).ok()).unwrap_or(1000).clamp(1, 1000);
    let found = bucket.list(text("prefix"), text("delimiter"), after, limit);
    let with_fields = request["include"].as_array().is_some_and(|it| !it.is_empty());
    let objects: Vec<_> = found.objects.iter().map(|(key, it)| describe(key, it, with_fields)).collect();
    let mut told = json!({
        "objects": objects, "truncated": found.next.is_some(), "delimitedPrefixes": found.prefixes,
    });
    if let Some(next) = found.next {
        told["cursor"] = next.into();
    }
    metadata(&told, &Bytes::new())
}

fn describe(key: &str, object: &Object, with_fields: bool) -> Value {
    let mut told = json!({
        "name": key, "version": object.version, "size": object.body.len().to_string(), "etag": object.etag,
        "uploaded": object.modified.as_unix_millis().to_string(), "checksums": {},
    });
    if with_fields {
        let custom: Vec<_> = object.custom.iter().map(|(k, v)| json!({ "k": k, "v": v })).collect();
        let mut fields = Map::new();
        for (name, field) in [
            ("content-language", "contentLanguage"),
            ("content-disposition", "contentDisposition"),
            ("content-encoding", "contentEncoding"),
            ("cache-control", "cacheControl"),
        ] {
            if let Some(value) = object.fields.get(name) {
                fields.insert(field.to_owned(), value.clone().into());
            }
        }
        if let Some(content_type) = &object.content_type {
            fields.insert("contentType".to_owned(), content_type.clone().into());
        }
        told["customFields"] = custom.into();
        told["httpFields"] = fields.into();
    }
    told
}

/// The JSON, then the bytes.
fn metadata(told: &Value, body: &Bytes) -> Reply {
    let mut all = told.to_string().into_bytes();
    let size = all.len();
    all.extend_from_slice(body);
    let mut answer = reply(200, "", all);
    answer.headers_mut().insert("cf-r2-metadata-size", size.into());
    answer
}

fn put(answer: &mut Reply, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(&ascii(value)) {
        answer.headers_mut().insert(name, value);
    }
}
