//! What tests may look at: the account, and the calls it got.

use super::{
    Fault,
    state::{Script, State},
};
use bytes::Bytes;
use overskill_core::Timestamp;
use serde::Serialize;
use serde_json::Value;
use std::{collections::BTreeMap, fmt, time::Duration};

/// The account at one moment.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// `namespace → script name → script`.
    pub namespaces: BTreeMap<String, BTreeMap<String, ScriptSnapshot>>,
    /// The account's own scripts.
    pub scripts: BTreeMap<String, ScriptSnapshot>,
    /// `title → (id, number of keys)`.
    pub kv: BTreeMap<String, (String, usize)>,
    /// `bucket → keys`.
    pub buckets: BTreeMap<String, Vec<String>>,
    /// `pattern → script`, of all zones.
    pub routes: BTreeMap<String, Option<String>>,
    /// `name → DNS records`, of all zones.
    pub records: BTreeMap<String, Vec<Value>>,
    /// `zone → fallback origin` of its custom hostnames.
    pub fallback_origins: BTreeMap<String, String>,
    /// `custom hostname → (status, status of its certificate)`.
    pub hostnames: BTreeMap<String, (String, String)>,
    /// Files that are stored, each once.
    pub assets: usize,
}

/// A script at one moment.
#[derive(Clone, Serialize)]
#[non_exhaustive]
pub struct ScriptSnapshot {
    /// Another one after every change.
    pub version: String,
    /// Of the code alone.
    pub etag: String,
    /// The tags.
    pub tags: Vec<String>,
    /// The names of the modules, the main one first.
    pub modules: Vec<String>,
    /// The bindings as they were sent, with the texts of secrets.
    pub bindings: Vec<Value>,
    /// `path → hash` of the static assets.
    pub assets: BTreeMap<String, String>,
    /// The migration tag.
    pub migration_tag: Option<String>,
    /// The classes of Durable Objects.
    pub classes: Vec<String>,
    /// The cron triggers.
    pub schedules: Vec<String>,
    /// Limits, observability and the like, and the compatibility date and flags.
    pub settings: Value,
    /// When it was last changed.
    pub modified: Timestamp,
}

impl ScriptSnapshot {
    /// The text of a `plain_text` or `secret_text` binding.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.bindings.iter().find(|it| it["name"] == name)?["text"].as_str()
    }
}

impl fmt::Debug for ScriptSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.bindings.iter().map(|it| it["name"].as_str().unwrap_or_default()).collect();
        f.debug_struct("ScriptSnapshot")
            .field("version", &self.version)
            .field("tags", &self.tags)
            .field("modules", &self.modules)
            .field("bindings", &names)
            .field("assets", &self.assets.len())
            .finish_non_exhaustive()
    }
}

/// One call that the emulator got.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RecordedCall {
    /// When it came.
    pub at: Timestamp,
    /// The method.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The content type of the body.
    pub content_type: String,
    /// How long the body was.
    pub body_bytes: usize,
    /// The body, when [bodies are recorded](super::CloudflareOptions::record_bodies).
    pub body: Option<Bytes>,
    /// The status of the answer; none while there is no answer, or when it was cut off.
    pub status: Option<u16>,
    /// How long its answer took, injected latency included; none while there is no answer.
    pub took: Option<Duration>,
    /// What was made to go wrong.
    pub fault: Option<Fault>,
}

impl Snapshot {
    pub(super) fn of(state: &State, now: Timestamp) -> Self {
        let scripts =
            |scripts: &BTreeMap<String, Script>| scripts.iter().map(|(k, v)| (k.clone(), script(v))).collect();
        let zones = || state.zones.values();
        Self {
            namespaces: state.namespaces.iter().map(|(k, v)| (k.clone(), scripts(&v.scripts))).collect(),
            scripts: scripts(&state.scripts),
            kv: state.kv.values().map(|it| (it.title.clone(), (it.id.clone(), it.len(now)))).collect(),
            buckets: state.buckets.iter().map(|(k, v)| (k.clone(), v.objects.keys().cloned().collect())).collect(),
            routes: zones().flat_map(|it| &it.routes).map(|it| (it.pattern.clone(), it.script.clone())).collect(),
            records: zones().flat_map(|it| it.records.values()).fold(BTreeMap::new(), |mut by_name, record| {
                let name = record["name"].as_str().unwrap_or_default().to_owned();
                by_name.entry(name).or_insert_with(Vec::new).push(record.clone());
                by_name
            }),
            fallback_origins: zones().filter_map(|it| Some((it.name.clone(), it.fallback_origin.clone()?))).collect(),
            hostnames: zones()
                .flat_map(|it| it.hostnames.values())
                .map(|it| (it.host.clone(), (it.status.clone(), it.ssl_status.clone())))
                .collect(),
            assets: state.assets.len(),
        }
    }
}

fn script(script: &Script) -> ScriptSnapshot {
    let main = script.main_module.as_ref().or(script.body_part.as_ref());
    let mut modules: Vec<_> = script.modules.iter().map(|it| it.name.clone()).collect();
    modules.sort_by_key(|name| Some(name) != main);
    let mut settings = Value::Object(script.settings.clone());
    settings["compatibility_date"] = script.compatibility_date.clone().into();
    settings["compatibility_flags"] = script.compatibility_flags.clone().into();
    ScriptSnapshot {
        version: script.version.clone(),
        etag: script.etag.clone(),
        tags: script.tags.clone(),
        modules,
        bindings: script.bindings.clone(),
        assets: script.assets.as_ref().map(|it| it.manifest.clone()).unwrap_or_default(),
        migration_tag: script.migration_tag.clone(),
        classes: script.classes.keys().cloned().collect(),
        schedules: script.schedules.clone(),
        settings,
        modified: script.modified,
    }
}
