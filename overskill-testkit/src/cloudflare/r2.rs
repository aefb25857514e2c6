//! R2: what its buckets hold, and their REST API. The S3 API is in `s3`, what Workers see in `edge`.

use super::{
    state::{State, hex},
    wire::{Call, Outcome, Refusal, ok, ok_with},
};
use bytes::Bytes;
use overskill_core::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) name: String,
    pub(super) created: Timestamp,
    pub(super) objects: BTreeMap<String, Object>,
    pub(super) uploads: BTreeMap<String, PartialObject>,
}

#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) body: Bytes,
    pub(super) etag: String,
    pub(super) version: String,
    pub(super) modified: Timestamp,
    pub(super) content_type: Option<String>,
    /// Further header fields that come back with the object, in lower case.
    pub(super) fields: BTreeMap<String, String>,
    pub(super) custom: BTreeMap<String, String>,
}

/// An upload in parts that is not complete.
#[derive(Debug)]
pub(super) struct PartialObject {
    pub(super) key: String,
    pub(super) content_type: Option<String>,
    pub(super) custom: BTreeMap<String, String>,
    pub(super) parts: BTreeMap<u32, Bytes>,
}

impl Object {
    pub(super) fn new(state: &State, body: Bytes, now: Timestamp) -> Self {
        let etag = hex(&Sha256::digest(&body)[..16]);
        let (version, fields, custom) = (state.hex_id(), BTreeMap::new(), BTreeMap::new());
        Self { body, etag, version, modified: now, content_type: None, fields, custom }
    }
}

/// A page of a listing.
#[derive(Debug, Default)]
pub(super) struct Listing<'a> {
    pub(super) objects: Vec<(&'a str, &'a Object)>,
    /// What stands before the delimiter, each once.
    pub(super) prefixes: Vec<String>,
    /// Where the next page begins: after this name.
    pub(super) next: Option<String>,
}

impl Bucket {
    pub(super) fn list(&self, prefix: &str, delimiter: &str, after: &str, limit: usize) -> Listing<'_> {
        let mut listing = Listing::default();
        for (key, object) in self.objects.range(prefix.to_owned()..) {
            if !key.starts_with(prefix) {
                break;
            }
            let end = (!delimiter.is_empty()).then(|| key[prefix.len()..].find(delimiter)).flatten();
            let common = end.map(|at| &key[..prefix.len() + at + delimiter.len()]);
            let name = common.unwrap_or(key);
            if name <= after || common.is_some_and(|it| listing.prefixes.last().is_some_and(|last| last == it)) {
                continue;
            }
            if listing.objects.len() + listing.prefixes.len() == limit {
                let object = listing.objects.last().map(|(key, _)| *key);
                let prefix = listing.prefixes.last().map(String::as_str);
                listing.next = object.max(prefix).map(str::to_owned);
                break;
            }
            match common {
                Some(common) => listing.prefixes.push(common.to_owned()),
                None => listing.objects.push((key, object)),
            }
        }
        listing
    }
}

pub(super) fn no_bucket() -> Refusal {
    Refusal::new(404, 10_006, "The specified bucket does not exist.")
}

/// `…/r2/buckets`
pub(super) fn api(state: &mut State, call: &Call<'_>, path: &[&str]) -> Option<Outcome> {
    Some(match (call.method.as_str(), path) {
        ("GET", []) => {
            let buckets: Vec<_> = state.buckets.values().map(told).collect();
            ok_with(json!({ "buckets": buckets }), json!({ "cursor": "", "per_page": 1000 }))
        }
        ("POST", []) => create(state, call),
        ("GET", [name]) => state.buckets.get(*name).ok_or_else(no_bucket).and_then(|it| ok(told(it))),
        ("DELETE", [name]) => delete(state, name),
        _ => return None,
    })
}

fn told(bucket: &Bucket) -> Value {
    json!({ "name": bucket.name, "creation_date": bucket.created.to_string(), "location": "WEUR", "storage_class": "Standard" })
}

fn create(state: &mut State, call: &Call<'_>) -> Outcome {
    let body: Value = call.json(10_001)?;
    let name = body["name"].as_str().unwrap_or_default();
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !(3..=63).contains(&name.len()) || !name.bytes().all(legal) || name.starts_with('-') || name.ends_with('-') {
        let message = format!("The specified bucket name is not valid: 3 to 63 of a-z, 0-9 and -, not {name:?}.");
        return Err(Refusal::new(400, 10_005, message));
    }
    if state.buckets.contains_key(name) {
        return Err(Refusal::new(409, 10_004, "The bucket you tried to create already exists, and you own it."));
    }
    let (objects, uploads) = (BTreeMap::new(), BTreeMap::new());
    let bucket = Bucket { name: name.to_owned(), created: call.now, objects, uploads };
    let answer = told(&bucket);
    state.buckets.insert(name.to_owned(), bucket);
    state.revision += 1;
    ok(answer)
}

fn delete(state: &mut State, name: &str) -> Outcome {
    let bucket = state.buckets.get(name).ok_or_else(no_bucket)?;
    if !bucket.objects.is_empty() {
        return Err(Refusal::new(409, 10_008, "The bucket you tried to delete is not empty."));
    }
    state.buckets.remove(name);
    state.revision += 1;
    ok(Value::Null)
}
