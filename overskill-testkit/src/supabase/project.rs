//! What a project remembers, and how it answers.

use super::{Answer, Call, auth::Auth, form};
use bytes::Bytes;
use overskill_core::{Digest, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(super) struct Project {
    functions: BTreeMap<String, Function>,
    pub(super) secrets: BTreeMap<String, String>,
    api_keys: Vec<ApiKey>,
    auth: Auth,
    pub(super) advice: BTreeMap<String, Value>,
    pub(super) types: String,
    /// The settings of its REST API.
    rest: Value,
    realtime: Value,
    next: u64,
}

struct Function {
    id: String,
    version: u64,
    metadata: Value,
    files: BTreeMap<String, Bytes>,
    at: i64,
}

struct ApiKey {
    id: String,
    kind: String,
    name: String,
    key: String,
}

/// Most functions and secrets of a project on the plan `Pro`.
const MAX_FUNCTIONS: usize = 500;
const MAX_SECRETS: usize = 100;

impl Project {
    pub(super) fn new() -> Self {
        let mut project = Self {
            functions: BTreeMap::new(),
            secrets: BTreeMap::new(),
            api_keys: Vec::new(),
            auth: Auth::default(),
            advice: BTreeMap::new(),
            types: "export type Database = {}\n".to_owned(),
            rest: json!({
                "db_schema": "public, graphql_public", "max_rows": 1000, "db_extra_search_path": "public, extensions",
                "db_pool": null, "jwt_secret": "emulated-secret-of-before",
            }),
            // Settings that nobody made are not shown.
            realtime: json!({}),
            next: 1,
        };
        for kind in ["publishable", "secret"] {
            project.add_key(kind, "default");
        }
        project
    }

    pub(super) fn files_of(&self, slug: &str) -> BTreeMap<String, Bytes> {
        self.functions.get(slug).map(|it| it.files.clone()).unwrap_or_default()
    }

    pub(super) fn jwks(&self) -> Value {
        self.auth.jwks()
    }

    pub(super) fn answer(&mut self, call: &Call, path: &str, now: Timestamp) -> Answer {
        let segments: Vec<_> = path.split('/').collect();
        match (call.method.as_str(), &segments[..]) {
            ("GET", ["functions"]) => {
                Answer::json(200, &self.functions.iter().map(|(slug, it)| it.shown(slug)).collect::<Value>())
            }
            ("POST", ["functions", "deploy"]) => self.deploy(call, now),
            ("DELETE", ["functions", slug]) => match self.functions.remove(*slug) {
                Some(_) => Answer::json(200, &Value::Null),
                None => Answer::refusal(404, "Function not found"),
            },
            ("GET", ["secrets"]) => {
                let shown = self.secrets.iter();
                let shown = shown.map(|(name, value)| json!({ "name": name, "value": digest([value.as_bytes()]) }));
                Answer::json(200, &shown.collect::<Value>())
            }
            ("POST", ["secrets"]) => self.set_secrets(&call.body),
            ("DELETE", ["secrets"]) => match serde_json::from_slice::<Vec<String>>(&call.body) {
                Ok(names) => {
                    self.secrets.retain(|name, _| !names.contains(name));
                    Answer::json(200, &Value::Null)
                }
                Err(_) => Answer::refusal(400, "Expected an array of names"),
            },
            ("GET", ["api-keys"]) => {
                let reveal = call.query.get("reveal").is_some_and(|it| it == "true");
                Answer::json(200, &self.api_keys.iter().map(|it| it.shown(reveal)).collect::<Value>())
            }
            ("POST", ["api-keys"]) => self.create_key(&call.body),
            ("DELETE", ["api-keys", id]) => match self.api_keys.iter().position(|it| it.id == *id) {
                Some(at) => Answer::json(200, &self.api_keys.remove(at).shown(false)),
                None => Answer::refusal(404, "API key not found"),
            },
            ("GET", ["advisors", of @ ("security" | "performance")]) => {
                Answer::json(200, &json!({ "lints": self.advice.get(*of).cloned().unwrap_or(json!([])) }))
            }
            ("GET", ["types", "typescript"]) => Answer::json(200, &json!({ "types": self.types })),
            ("GET", ["postgrest"]) => Answer::json(200, &self.rest),
            ("PATCH", ["postgrest"]) => self.set_rest(&call.body),
            ("GET", ["config", "realtime"]) => Answer::json(200, &self.realtime),
            ("PATCH", ["config", "realtime"]) => self.set_realtime(&call.body),
            (_, ["config", "auth", rest @ ..]) => self.auth.answer(call, rest, now),
            _ => Answer::refusal(404, format_args!("Cannot {} {}", call.method, call.path)),
        }
    }

    fn set_rest(&mut self, body: &Bytes) -> Answer {
        const SETTINGS: [&str; 4] = ["db_schema", "max_rows", "db_extra_search_path", "db_pool"];
        let Ok(Value::Object(changes)) = serde_json::from_slice(body) else {
            return Answer::refusal(400, "Expected an object");
        };
        if let Some(unknown) = changes.keys().find(|name| !SETTINGS.contains(&name.as_str())) {
            return Answer::refusal(400, format_args!("property {unknown} should not exist"));
        }
        for (name, value) in changes {
            self.rest[name] = value;
        }
        let mut shown = self.rest.clone();
        shown.as_object_mut().map(|it| it.remove("jwt_secret"));
        Answer::json(200, &shown)
    }

    fn set_realtime(&mut self, body: &Bytes) -> Answer {
        const NUMBERS: [&str; 6] = [
            "connection_pool",
            "max_concurrent_users",
            "max_events_per_second",
            "max_bytes_per_second",
            "max_channels_per_client",
            "max_joins_per_second",
        ];
        let Ok(Value::Object(changes)) = serde_json::from_slice(body) else {
            return Answer::refusal(400, "Expected an object");
        };
        for (name, value) in &changes {
            let known = if name == "private_only" {
                value.is_boolean()
            } else {
                NUMBERS.contains(&name.as_str()) && value.is_u64()
            };
            if !known {
                return Answer::refusal(400, format_args!("{name}: Invalid"));
            }
        }
        for (name, value) in changes {
            self.realtime[name] = value;
        }
        Answer::json(204, &Value::Null)
    }

    fn deploy(&mut self, call: &Call, now: Timestamp) -> Answer {
        let Some(slug) = call.query.get("slug").filter(|it| is_slug(it)) else {
            return Answer::refusal(400, "slug: Invalid");
        };
        let content_type = call.headers.get("content-type").map_or("", String::as_str);
        let Some(parts) = form::parts(content_type, &call.body) else {
            return Answer::refusal(400, "Expected multipart/form-data");
        };
        let metadata = parts.iter().find(|it| it.name == "metadata");
        let metadata = metadata.and_then(|it| serde_json::from_slice::<Value>(&it.contents).ok());
        let Some(metadata) = metadata.filter(|it| it["entrypoint_path"].is_string()) else {
            return Answer::refusal(400, "metadata: entrypoint_path is required");
        };
        let files = parts.into_iter().filter(|it| it.name == "file");
        let files: BTreeMap<_, _> = files.filter_map(|it| Some((it.file_name?, it.contents))).collect();
        if !metadata["entrypoint_path"].as_str().is_some_and(|entry| files.contains_key(entry)) {
            return Answer::refusal(400, "Entrypoint path does not exist");
        }
        if self.functions.len() >= MAX_FUNCTIONS && !self.functions.contains_key(slug) {
            return Answer::refusal(402, "Max number of functions reached for project");
        }
        let before = self.functions.get(slug).map(|it| (it.id.clone(), it.version));
        let (id, version) = before.unwrap_or_else(|| (self.new_id(), 0));
        let version = version + 1;
        let function = Function { id, version, metadata, files, at: now.as_unix_millis() };
        let shown = function.shown(slug);
        self.functions.insert(slug.clone(), function);
        Answer::json(201, &shown)
    }

    fn set_secrets(&mut self, body: &[u8]) -> Answer {
        let Ok(given) = serde_json::from_slice::<Vec<BTreeMap<String, String>>>(body) else {
            return Answer::refusal(400, "Expected an array of secrets");
        };
        let mut after = self.secrets.clone();
        for secret in given {
            let (Some(name), Some(value)) = (secret.get("name"), secret.get("value")) else {
                return Answer::refusal(400, "name and value are required");
            };
            if name.starts_with("SUPABASE_") || value.len() > 48 * 1024 {
                // As careless as an API may be: what it refuses, it repeats.
                return Answer::refusal(400, format_args!("Invalid secret {name}={value}"));
            }
            after.insert(name.clone(), value.clone());
        }
        if after.len() > MAX_SECRETS {
            return Answer::refusal(400, "Maximum number of secrets exceeded");
        }
        self.secrets = after;
        Answer::json(201, &Value::Null)
    }

    fn create_key(&mut self, body: &[u8]) -> Answer {
        let given: Value = serde_json::from_slice(body).unwrap_or_default();
        match (given["type"].as_str(), given["name"].as_str()) {
            (Some(kind @ ("publishable" | "secret")), Some(name)) => {
                if self.api_keys.iter().any(|it| it.kind == kind && it.name == name) {
                    return Answer::refusal(409, "API key with this name already exists");
                }
                let (kind, name) = (kind.to_owned(), name.to_owned());
                Answer::json(201, &self.add_key(&kind, &name).shown(true))
            }
            _ => Answer::refusal(400, "type and name are required"),
        }
    }

    fn add_key(&mut self, kind: &str, name: &str) -> &ApiKey {
        let id = self.new_id();
        let key = format!("sb_{kind}_{}", id.replace('-', ""));
        self.api_keys.push(ApiKey { id, kind: kind.to_owned(), name: name.to_owned(), key });
        self.api_keys.last().expect("one was just pushed")
    }

    fn new_id(&mut self) -> String {
        self.next += 1;
        format!("00000000-0000-4000-8000-{:012}", self.next)
    }
}

impl Function {
    fn shown(&self, slug: &str) -> Value {
        json!({
            "id": self.id, "slug": slug, "name": self.metadata["name"].as_str().unwrap_or(slug), "status": "ACTIVE",
            "version": self.version, "created_at": self.at, "updated_at": self.at,
            "verify_jwt": self.metadata["verify_jwt"].as_bool().unwrap_or(true),
            "entrypoint_path": self.metadata["entrypoint_path"],
            "ezbr_sha256": digest(self.files.values().map(|it| &it[..])),
        })
    }
}

impl ApiKey {
    fn shown(&self, reveal: bool) -> Value {
        let hidden = || format!("sb_{}_{}", self.kind, "·".repeat(12));
        let key = if reveal || self.kind == "publishable" { self.key.clone() } else { hidden() };
        json!({ "id": self.id, "type": self.kind, "name": self.name, "api_key": key })
    }
}

fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    Digest::of(&parts.into_iter().collect::<Vec<_>>().concat()).to_string()
}

fn is_slug(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.bytes().all(legal)
}
