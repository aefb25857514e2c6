//! Workers KV, as a store of whole values.

use super::{Api, Envelope, code, done, enveloped, result};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use overskill_core::{Error, ErrorKind, IdsExt as _, Result};
use overskill_http::{Call, FairKey, Method};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

/// What is stored under one key.
#[derive(Clone, Debug)]
pub(crate) struct KvPair {
    pub(crate) key: String,
    pub(crate) value: Bytes,
    pub(crate) metadata: Option<Value>,
}

/// A pair as it goes over the wire.
#[derive(Debug, Serialize)]
pub(crate) struct KvValue<'a> {
    pub(crate) key: &'a str,
    pub(crate) value: String,
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) base64: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) metadata: Option<&'a Value>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// Largest value in bytes.
pub(crate) const MAX_VALUE_BYTES: usize = 25 * 1024 * 1024;
/// Longest key in bytes.
pub(crate) const MAX_KEY_BYTES: usize = 512;
/// Largest metadata in bytes.
pub(crate) const MAX_METADATA_BYTES: usize = 1_024;
/// Most pairs in one call.
pub(crate) const MAX_PAIRS: usize = 10_000;
/// Largest body of one call, with room for what surrounds the pairs.
pub(crate) const MAX_BODY_BYTES: usize = 100_000_000 - 1_024;
/// Most keys in one call that reads.
const MAX_READ: usize = 100;
/// How often keys that failed are tried again.
const TRIES: u32 = 6;
const CALL_TIMEOUT: Duration = Duration::from_mins(5);

#[derive(Debug, Deserialize)]
struct Written {
    #[serde(default)]
    unsuccessful_keys: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct NamespaceEntry {
    id: String,
    title: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct KeyEntry {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) metadata: Value,
}

#[derive(Debug, Deserialize)]
struct ReadMany {
    #[serde(default)]
    values: BTreeMap<String, Option<String>>,
}

impl<'a> KvValue<'a> {
    /// Text as it is; anything else as base64.
    pub(crate) fn of(pair: &'a KvPair) -> Self {
        let (value, base64) = match std::str::from_utf8(&pair.value) {
            Ok(text) => (text.to_owned(), false),
            Err(_) => (BASE64_STANDARD.encode(&pair.value), true),
        };
        Self { key: &pair.key, value, base64, metadata: pair.metadata.as_ref() }
    }
}

/// Refuses what the API would refuse; the error names field and limit.
pub(crate) fn admit(pair: &KvPair) -> Result<()> {
    let over = |what: &str, limit: usize, was: usize| {
        let message = format!("{what} must be at most {limit} bytes, but has {was}");
        Error::new(ErrorKind::LimitExceeded, message).with("key", shortened(&pair.key))
    };
    if pair.key.is_empty() || pair.key == "." || pair.key == ".." {
        return Err(Error::invalid("KV key must not be empty, . or .."));
    }
    if pair.key.len() > MAX_KEY_BYTES {
        return Err(over("KV key", MAX_KEY_BYTES, pair.key.len()));
    }
    if pair.value.len() > MAX_VALUE_BYTES {
        return Err(over("KV value", MAX_VALUE_BYTES, pair.value.len()));
    }
    let metadata = pair.metadata.as_ref().map_or(0, |m| m.to_string().len());
    if metadata > MAX_METADATA_BYTES {
        return Err(over("KV metadata", MAX_METADATA_BYTES, metadata));
    }
    Ok(())
}

/// The bodies of as few calls as the limits allow: at most 10,000 pairs and 100 MB each.
pub(crate) fn bodies(pairs: &[&KvPair], max_pairs: usize, max_bytes: usize) -> Result<Vec<Vec<u8>>> {
    let (mut bodies, mut body, mut held) = (Vec::new(), Vec::from(*b"["), 0);
    for pair in pairs {
        let item = serde_json::to_vec(&KvValue::of(pair))
            .map_err(|e| Error::invalid("KV pair cannot be JSON").caused_by(e))?;
        if held > 0 && (held == max_pairs || body.len() + item.len() + 2 > max_bytes) {
            body.push(b']');
            bodies.push(std::mem::replace(&mut body, Vec::from(*b"[")));
            held = 0;
        }
        if held > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&item);
        held += 1;
    }
    if held > 0 {
        body.push(b']');
        bodies.push(body);
    }
    Ok(bodies)
}

impl Api {
    /// The id of the KV namespace with this title.
    pub(crate) async fn kv_namespace(&self, title: &str) -> Result<Option<String>> {
        for page in 1.. {
            let call = self.kv(Method::Get, &[]).operation("list_kv").query("page", page).query("per_page", 100);
            let listed: Envelope<Vec<NamespaceEntry>> = enveloped(call).await?;
            let entries = listed.result.unwrap_or_default();
            let full = entries.len() >= 100;
            if let Some(found) = entries.into_iter().find(|entry| entry.title == title) {
                return Ok(Some(found.id));
            }
            let more = listed.result_info.and_then(|info| info.total_pages).map_or(full, |pages| page < pages);
            if !more {
                break;
            }
        }
        Ok(None)
    }

    /// The id of the KV namespace with this title, which is made if need be.
    pub(crate) async fn ensure_kv_namespace(&self, title: &str) -> Result<String> {
        if let Some(id) = self.kv_namespace(title).await? {
            return Ok(id);
        }
        let call = self.kv(Method::Post, &[]).operation("create_kv").json(&json!({ "title": title })).idempotent();
        match result::<NamespaceEntry>(call).await {
            Ok(made) => Ok(made.id),
            // Somebody else was faster, or an earlier try of ours.
            Err(e) if code(&e) == Some(10_014) => self.kv_namespace(title).await?.ok_or(e),
            Err(e) => Err(e),
        }
    }

    /// Removes a KV namespace with everything in it.
    pub(crate) async fn delete_kv_namespace(&self, id: &str) -> Result<()> {
        match done(self.kv(Method::Delete, &[id]).operation("delete_kv")).await {
            Err(e) if super::is_missing(&e) => Ok(()),
            answer => answer,
        }
    }

    /// A value, or `None`.
    pub(crate) async fn kv_get(&self, app: &FairKey, namespace: &str, key: &str) -> Result<Option<Bytes>> {
        let call = self.kv(Method::Get, &[namespace, "values", key]).operation("get_value").for_app(app.clone());
        match call.max_body_bytes(MAX_VALUE_BYTES + 1).try_timeout(CALL_TIMEOUT).send().await {
            Ok(response) => Ok(Some(response.body)),
            Err(e) if code(&e) == Some(10_013) => Err(e),
            Err(e) if super::is_missing(&e) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Texts by their keys; what is missing is left out, and what is not text comes back damaged.
    pub(crate) async fn kv_get_texts(
        &self,
        app: &FairKey,
        namespace: &str,
        keys: &[String],
    ) -> Result<BTreeMap<String, String>> {
        let mut texts = BTreeMap::new();
        for keys in keys.chunks(MAX_READ) {
            let call = self.kv(Method::Post, &[namespace, "bulk", "get"]).operation("get_values").for_app(app.clone());
            let call = call.read_only().json(&json!({ "keys": keys, "type": "text" }));
            let read: ReadMany = result(call.max_body_bytes(usize::MAX).try_timeout(CALL_TIMEOUT)).await?;
            texts.extend(read.values.into_iter().filter_map(|(key, value)| Some((key, value?))));
        }
        Ok(texts)
    }

    /// Writes one value.
    pub(crate) async fn kv_put(&self, app: &FairKey, namespace: &str, key: &str, value: Bytes) -> Result<()> {
        let call = self.kv(Method::Put, &[namespace, "values", key]).operation("put_value").for_app(app.clone());
        done(call.try_timeout(CALL_TIMEOUT).body("application/octet-stream", value)).await
    }

    /// Writes all pairs; those that the API says failed are written again.
    ///
    /// # Errors
    /// `Unavailable` with unknown effect when some still fail: others were written.
    pub(crate) async fn kv_put_all(&self, app: &FairKey, namespace: &str, pairs: &[KvPair]) -> Result<()> {
        pairs.iter().try_for_each(admit)?;
        let mut left: Vec<&KvPair> = pairs.iter().collect();
        for tried in 1.. {
            let mut failed: Vec<String> = Vec::new();
            for body in bodies(&left, MAX_PAIRS, MAX_BODY_BYTES)? {
                let call = self.kv(Method::Put, &[namespace, "bulk"]).operation("put_values").for_app(app.clone());
                let call = call.try_timeout(CALL_TIMEOUT).body("application/json", body);
                let written: Envelope<Written> = enveloped(call).await?;
                failed.extend(written.result.map(|w| w.unsuccessful_keys).unwrap_or_default());
            }
            if failed.is_empty() {
                return Ok(());
            }
            if tried >= TRIES {
                let message = format!("{} of {} values could not be written", failed.len(), pairs.len());
                let e = Error::new(ErrorKind::Unavailable, message).at(self.client.backend().to_owned(), "put_values");
                return Err(e.with("key", shortened(&failed[0])));
            }
            tracing::debug!(failed = failed.len(), tried, "some values are written again");
            left.retain(|pair| failed.contains(&pair.key));
            self.clock.sleep(Duration::from_millis(250) + self.ids.jitter(Duration::from_secs(1) * tried)).await;
        }
        unreachable!("tries end")
    }

    /// Removes keys; fine if they are not there.
    pub(crate) async fn kv_delete_all(&self, app: &FairKey, namespace: &str, keys: &[String]) -> Result<()> {
        for keys in keys.chunks(MAX_PAIRS) {
            let call = self.kv(Method::Post, &[namespace, "bulk", "delete"]).operation("delete_values");
            done(call.for_app(app.clone()).idempotent().json(&keys)).await?;
        }
        Ok(())
    }

    /// Every key that begins so.
    pub(crate) async fn kv_keys(&self, app: &FairKey, namespace: &str, prefix: &str) -> Result<Vec<String>> {
        let entries = self.kv_entries(app, namespace, prefix).await?;
        Ok(entries.into_iter().map(|entry| entry.name).collect())
    }

    /// The same with their metadata.
    pub(crate) async fn kv_entries(&self, app: &FairKey, namespace: &str, prefix: &str) -> Result<Vec<KeyEntry>> {
        let (mut keys, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let mut call = self.kv(Method::Get, &[namespace, "keys"]).operation("list_keys").for_app(app.clone());
            call = call.query("prefix", prefix).query("limit", 1_000);
            if let Some(cursor) = &cursor {
                call = call.query("cursor", cursor);
            }
            let page: Envelope<Vec<KeyEntry>> = enveloped(call).await?;
            keys.extend(page.result.unwrap_or_default());
            match page.result_info.unwrap_or_default().next() {
                Some(next) if cursor.as_ref() != Some(&next) => cursor = Some(next),
                _ => return Ok(keys),
            }
        }
    }

    fn kv(&self, method: Method, below: &[&str]) -> Call {
        let mut path = vec!["storage", "kv", "namespaces"];
        path.extend_from_slice(below);
        self.account(method, &path)
    }
}

fn shortened(key: &str) -> String {
    let mut short: String = key.chars().take(60).collect();
    if short.len() < key.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &str, value: &[u8]) -> KvPair {
        KvPair { key: key.to_owned(), value: Bytes::copy_from_slice(value), metadata: None }
    }

    #[test]
    fn text_goes_as_it_is_and_anything_else_as_base64() {
        let pairs = [pair("a", "hé\"".as_bytes()), pair("b", &[0xff, 0])];
        let pairs: Vec<&KvPair> = pairs.iter().collect();
        let body = bodies(&pairs, 10, 1_000).unwrap().remove(0);
        let want = r#"[{"key":"a","value":"hé\""},{"key":"b","value":"/wA=","base64":true}]"#;
        assert_eq!(String::from_utf8(body).unwrap(), want);
    }

    #[test]
    fn calls_hold_as_much_as_they_may_and_no_more() {
        let pairs: Vec<KvPair> = (0..25).map(|n| pair(&format!("k{n:02}"), &[b'x'; 10])).collect();
        let pairs: Vec<&KvPair> = pairs.iter().collect();
        for (max_pairs, max_bytes) in [(10, 10_000), (100, 200), (100, 40), (3, 10_000)] {
            let made = bodies(&pairs, max_pairs, max_bytes).unwrap();
            let parsed: Vec<Vec<Value>> = made.iter().map(|body| serde_json::from_slice(body).unwrap()).collect();
            assert_eq!(parsed.iter().map(Vec::len).sum::<usize>(), 25);
            for (body, items) in made.iter().zip(&parsed) {
                assert!(items.len() <= max_pairs && (body.len() <= max_bytes || items.len() == 1));
            }
        }
        assert!(bodies(&[], 10, 10).unwrap().is_empty());
    }

    #[test]
    fn what_is_too_large_is_named_before_any_call() {
        let key = "k".repeat(MAX_KEY_BYTES + 1);
        let mut heavy = pair("a", b"");
        heavy.metadata = Some(json!({ "m": "x".repeat(MAX_METADATA_BYTES) }));
        let large = KvPair { key: "a".into(), value: vec![0; MAX_VALUE_BYTES + 1].into(), metadata: None };
        for (bad, field) in [(pair(&key, b""), "key"), (heavy, "metadata"), (large, "value")] {
            let e = admit(&bad).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::LimitExceeded);
            assert!(e.message().starts_with(&format!("KV {field} must be at most")), "{e}");
            assert!(e.to_string().len() < 300);
        }
        assert!(admit(&pair("..", b"")).is_err());
        assert!(admit(&pair(&key[1..], b"")).is_ok());
    }
}
