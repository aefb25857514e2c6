//! What the emulated account holds.

use super::wire::Refusal;
use bytes::Bytes;
use overskill_core::{Error, Ids as _, SeededIds, Timestamp};
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

/// A token of the API.
#[derive(Clone, PartialEq)]
pub(super) struct Token {
    pub(super) id: String,
    pub(super) value: String,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) ids: SeededIds,
    pub(super) account: String,
    pub(super) tokens: Vec<Token>,
    pub(super) zones: BTreeMap<String, Zone>,
    pub(super) namespaces: BTreeMap<String, Namespace>,
    pub(super) scripts: BTreeMap<String, Script>,
    pub(super) sessions: HashMap<String, AssetSession>,
    /// By hash; the account shares them, as the provider's does.
    pub(super) assets: HashMap<String, Asset>,
    pub(super) kv: BTreeMap<String, KvNamespace>,
    pub(super) buckets: BTreeMap<String, super::r2::Bucket>,
    /// `custom domain → script`, of the account's Workers.
    pub(super) domains: BTreeMap<String, Domain>,
    pub(super) subdomain: Option<String>,
    pub(super) kv_staleness: Duration,
    pub(super) kv_same_key: Duration,
    pub(super) single_asset_uploads: bool,
    /// Changes whenever an account script, a bucket or anything else does that workerd's configuration depends on.
    pub(super) revision: u64,
    /// Changes whenever a URL may lead elsewhere.
    pub(super) routing: u64,
}

impl State {
    pub(super) fn new(seed: u64, account: String) -> Self {
        Self {
            ids: SeededIds::new(seed),
            account,
            tokens: Vec::new(),
            zones: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            scripts: BTreeMap::new(),
            sessions: HashMap::new(),
            assets: HashMap::new(),
            kv: BTreeMap::new(),
            buckets: BTreeMap::new(),
            domains: BTreeMap::new(),
            subdomain: None,
            kv_staleness: Duration::ZERO,
            kv_same_key: Duration::from_secs(1),
            single_asset_uploads: false,
            revision: 0,
            routing: 0,
        }
    }

    /// 32 hexadecimal digits, as most of the provider's ids are.
    pub(super) fn hex_id(&self) -> String {
        let mut bytes = [0; 16];
        self.ids.fill(&mut bytes);
        hex(&bytes)
    }

    pub(super) fn uuid(&self) -> String {
        let id = self.hex_id();
        format!("{}-{}-4{}-8{}-{}", &id[..8], &id[8..12], &id[13..16], &id[17..20], &id[20..])
    }

    pub(super) fn set_hostname(&mut self, host: &str, status: &str, certificate: &str) -> Result<(), Error> {
        let found = self.zones.values_mut().flat_map(|it| it.hostnames.values_mut()).find(|it| it.host == host);
        let found = found.ok_or_else(|| Error::not_found("there is no such custom hostname").with("hostname", host))?;
        status.clone_into(&mut found.status);
        certificate.clone_into(&mut found.ssl_status);
        self.routing += 1;
        Ok(())
    }

    pub(super) fn scripts_of(&self, scope: &Scope) -> Result<&BTreeMap<String, Script>, Refusal> {
        match scope {
            Scope::Account => Ok(&self.scripts),
            Scope::Dispatch(name) => self.namespaces.get(name).map(|it| &it.scripts).ok_or_else(no_namespace),
        }
    }

    pub(super) fn scripts_of_mut(&mut self, scope: &Scope) -> Result<&mut BTreeMap<String, Script>, Refusal> {
        match scope {
            Scope::Account => Ok(&mut self.scripts),
            Scope::Dispatch(name) => self.namespaces.get_mut(name).map(|it| &mut it.scripts).ok_or_else(no_namespace),
        }
    }
}

pub(super) fn no_namespace() -> Refusal {
    Refusal::new(404, 100_119, "workers.api.error.dispatch_namespace_not_found")
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Where a script lives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Scope {
    Account,
    Dispatch(String),
}

#[derive(Clone, Debug)]
pub(super) struct Namespace {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) trusted: bool,
    pub(super) created: Timestamp,
    pub(super) modified: Timestamp,
    pub(super) scripts: BTreeMap<String, Script>,
}

impl Namespace {
    pub(super) fn to_json(&self) -> Value {
        json!({
            "namespace_id": self.id, "namespace_name": self.name, "script_count": self.scripts.len(),
            "trusted_workers": self.trusted, "created_on": self.created.to_string(), "created_by": "emulator",
            "modified_on": self.modified.to_string(), "modified_by": "emulator",
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Module {
    pub(super) name: String,
    pub(super) content_type: String,
    pub(super) body: Bytes,
}

#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) name: String,
    /// Of the script, whatever its version.
    pub(super) tag: String,
    /// Of what runs: another one after every change.
    pub(super) version: String,
    /// Of the code alone.
    pub(super) etag: String,
    pub(super) created: Timestamp,
    pub(super) modified: Timestamp,
    pub(super) main_module: Option<String>,
    pub(super) body_part: Option<String>,
    pub(super) modules: Vec<Module>,
    pub(super) bindings: Vec<Value>,
    pub(super) compatibility_date: Option<String>,
    pub(super) compatibility_flags: Vec<String>,
    pub(super) tags: Vec<String>,
    /// What is kept and told, but has no effect here: limits, observability, placement and the like.
    pub(super) settings: Map<String, Value>,
    pub(super) assets: Option<Assets>,
    pub(super) migration_tag: Option<String>,
    pub(super) classes: BTreeMap<String, Class>,
    pub(super) schedules: Vec<String>,
    pub(super) workers_dev: bool,
}

/// A class of Durable Objects; its namespace keeps their data, under whatever name the class has.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Class {
    pub(super) namespace_id: String,
    pub(super) sqlite: bool,
}

/// The static assets of a script.
#[derive(Clone, Debug, Default)]
pub(super) struct Assets {
    /// `path → hash`.
    pub(super) manifest: BTreeMap<String, String>,
    pub(super) config: Value,
}

#[derive(Clone, Debug)]
pub(super) struct Asset {
    pub(super) content_type: String,
    pub(super) body: Bytes,
}

#[derive(Debug)]
pub(super) struct AssetSession {
    pub(super) scope: Scope,
    pub(super) script: String,
    pub(super) manifest: BTreeMap<String, (String, usize)>,
    pub(super) missing: BTreeSet<String>,
    /// A token to complete the upload of a script, and not for more files.
    pub(super) complete: bool,
    pub(super) expires: Timestamp,
}

/// A domain of the account.
#[derive(Debug)]
pub(super) struct Zone {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) routes: Vec<Route>,
    pub(super) hostnames: BTreeMap<String, Hostname>,
    pub(super) fallback_origin: Option<String>,
    pub(super) records: BTreeMap<String, Value>,
}

impl Zone {
    /// Whether custom hostnames lead anywhere: to a fallback origin with a proxied record.
    pub(super) fn serves_hostnames(&self) -> bool {
        let leads = |record: &Value| {
            let kind = record["type"].as_str().unwrap_or_default();
            record["proxied"] == true && ["A", "AAAA", "CNAME"].contains(&kind)
        };
        let Some(origin) = &self.fallback_origin else { return false };
        self.records.values().any(|record| record["name"] == *origin && leads(record))
    }
}

#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) id: String,
    pub(super) pattern: String,
    pub(super) script: Option<String>,
}

/// A custom hostname (Cloudflare for `SaaS`).
#[derive(Clone, Debug)]
pub(super) struct Hostname {
    pub(super) id: String,
    pub(super) host: String,
    pub(super) status: String,
    pub(super) ssl_status: String,
    pub(super) ssl: Map<String, Value>,
    pub(super) metadata: Option<Value>,
    pub(super) errors: Vec<String>,
    pub(super) created: Timestamp,
}

#[derive(Clone, Debug)]
pub(super) struct Domain {
    pub(super) id: String,
    pub(super) service: String,
    pub(super) zone: String,
}

#[derive(Debug)]
pub(super) struct KvNamespace {
    pub(super) id: String,
    pub(super) title: String,
    keys: BTreeMap<String, Vec<(Timestamp, Option<KvEntry>)>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct KvEntry {
    pub(super) value: Bytes,
    pub(super) metadata: Option<Value>,
    pub(super) expires: Option<Timestamp>,
}

impl KvNamespace {
    pub(super) fn new(id: String, title: String) -> Self {
        Self { id, title, keys: BTreeMap::new() }
    }

    /// What a reader sees who is behind by `staleness`.
    pub(super) fn read(&self, key: &str, now: Timestamp, staleness: Duration) -> Option<&KvEntry> {
        seen(self.keys.get(key)?, now, staleness)
    }

    /// The names that a reader sees who is behind by `staleness`, from `after` on.
    pub(super) fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&str>,
        now: Timestamp,
        staleness: Duration,
    ) -> impl Iterator<Item = (&'a str, &'a KvEntry)> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let from = after.map_or(Included(prefix), Excluded);
        self.keys
            .range::<str, _>((from, Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .filter_map(move |(key, versions)| Some((key.as_str(), seen(versions, now, staleness)?)))
    }

    /// Writes, or removes; no when the key was written less than `gap` ago.
    pub(super) fn write(
        &mut self,
        key: &str,
        entry: Option<KvEntry>,
        now: Timestamp,
        gap: Duration,
        keep: Duration,
    ) -> bool {
        if entry.is_none() && keep.is_zero() {
            self.keys.remove(key);
            return true;
        }
        let versions = self.keys.entry(key.to_owned()).or_default();
        if entry.is_some() && versions.last().is_some_and(|(at, last)| last.is_some() && now.since(*at) < gap) {
            return false;
        }
        versions.push((now, entry));
        // What nobody can see any more goes.
        let visible = versions.iter().rposition(|(at, _)| now.since(*at) >= keep).unwrap_or(0);
        versions.drain(..visible);
        true
    }

    pub(super) fn len(&self, now: Timestamp) -> usize {
        self.list("", None, now, Duration::ZERO).count()
    }
}

fn seen(versions: &[(Timestamp, Option<KvEntry>)], now: Timestamp, staleness: Duration) -> Option<&KvEntry> {
    let (_, entry) = versions.iter().rev().find(|(at, _)| staleness.is_zero() || now.since(*at) >= staleness)?;
    entry.as_ref().filter(|it| it.expires.is_none_or(|at| at > now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> KvEntry {
        KvEntry { value: Bytes::from(text.to_owned()), metadata: None, expires: None }
    }

    #[test]
    fn a_reader_who_is_behind_sees_what_was() {
        let (late, gap) = (Duration::from_mins(1), Duration::ZERO);
        let at = |seconds: i64| Timestamp::from_unix_millis(seconds * 1000);
        let mut kv = KvNamespace::new("1".into(), "t".into());
        assert!(kv.write("k", Some(entry("one")), at(100), gap, late));
        assert_eq!(kv.read("k", at(101), late), None, "it is not there yet");
        assert_eq!(kv.read("k", at(101), Duration::ZERO), Some(&entry("one")));
        assert!(kv.write("k", Some(entry("two")), at(130), gap, late));
        assert_eq!(kv.read("k", at(160), late), Some(&entry("one")));
        assert_eq!(kv.read("k", at(190), late), Some(&entry("two")));
        assert!(kv.write("k", None, at(200), gap, late));
        assert_eq!(kv.list("", None, at(201), late).count(), 1);
        assert_eq!(kv.list("", None, at(260), late).count(), 0);
    }

    #[test]
    fn a_key_takes_one_write_a_second() {
        let mut kv = KvNamespace::new("1".into(), "t".into());
        let (gap, now) = (Duration::from_secs(1), Timestamp::from_unix_millis(5000));
        assert!(kv.write("k", Some(entry("one")), now, gap, Duration::ZERO));
        assert!(!kv.write("k", Some(entry("two")), now.plus(Duration::from_millis(999)), gap, Duration::ZERO));
        assert!(kv.write("k", Some(entry("two")), now.plus(gap), gap, Duration::ZERO));
    }
}
