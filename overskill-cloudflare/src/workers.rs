//! The Workers that are installed: JavaScript modules, and what they are bound to.

use serde_json::{Value, json};

/// A Worker as it is uploaded.
#[derive(Clone, Debug)]
pub(crate) struct WorkerBundle {
    /// The name of the module that is its entry.
    pub(crate) main_module: &'static str,
    /// Name, media type and text.
    pub(crate) modules: Vec<(&'static str, &'static str, &'static str)>,
    /// The classes of its Durable Objects, each with the name that it is bound under.
    pub(crate) durable_objects: Vec<(&'static str, &'static str)>,
    /// The steps that brought the classes about, oldest first.
    pub(crate) migrations: Vec<Migration>,
    pub(crate) compatibility_date: &'static str,
    pub(crate) compatibility_flags: &'static [&'static str],
    /// Tells this version from others: a digest of all of it.
    pub(crate) version: String,
}

/// A step of a Worker's Durable Objects.
#[derive(Clone, Debug)]
pub(crate) struct Migration {
    pub(crate) tag: &'static str,
    pub(crate) new_sqlite_classes: &'static [&'static str],
}

/// The settings, as JSON.
pub(crate) const SETTINGS: &str = "SETTINGS";
/// A secret: what ingest requests are signed with, as JSON ([`IngestKey::to_binding`](crate::IngestKey::to_binding)).
pub(crate) const INGEST_KEYS: &str = "INGEST_KEYS";
/// A secret: what the tokens of previews' sockets are made of.
pub(crate) const SOCKET_KEY: &str = "SOCKET_KEY";
/// A secret: what apps' tokens are signed with: `{"kid": …, "pkcs8": …}`.
pub(crate) const APP_TOKEN_KEY: &str = "APP_TOKEN_KEY";
/// The dispatch namespaces, by environment.
pub(crate) const NAMESPACES: [(&str, overskill_core::Environment); 4] = [
    ("PRODUCTION", overskill_core::Environment::Production),
    ("STAGING", overskill_core::Environment::Staging),
    ("PREVIEW", overskill_core::Environment::Preview),
    ("DEVELOPMENT", overskill_core::Environment::Development),
];

const MODULE: &str = "application/javascript+module";

macro_rules! modules {
    ($($name:literal),* $(,)?) => {
        vec![$(($name, MODULE, include_str!(concat!("../workers/", $name)))),*]
    };
}

/// The dispatch Worker, with the main module first.
pub(crate) fn dispatch() -> WorkerBundle {
    let modules = modules![
        "dispatch.js",
        "api.js",
        "blobs.js",
        "guard.js",
        "history.js",
        "ingest.js",
        "lobby.js",
        "nonces.js",
        "pages.js",
        "room.js",
        "routes.js",
        "served.js",
        "settings.js",
        "shelf.js",
    ];
    let durable_objects = vec![
        ("ROUTES", "RouteTable"),
        ("ROOMS", "PreviewRoom"),
        ("SHELVES", "PackageShelf"),
        ("LOBBY", "PreviewLobby"),
    ];
    let first =
        Migration { tag: "v1", new_sqlite_classes: &["RouteTable", "PreviewRoom", "PackageShelf", "PreviewLobby"] };
    let parts = modules.iter().flat_map(|(name, _, text)| [name.as_bytes(), text.as_bytes()]);
    let version = overskill_core::Digest::of_parts(parts).to_string()[..16].to_owned();
    WorkerBundle {
        main_module: "dispatch.js",
        modules,
        durable_objects,
        migrations: vec![first],
        compatibility_date: "2026-10-01",
        compatibility_flags: &[],
        version,
    }
}

/// The settings of the dispatch Worker that every platform has; whoever installs it may add `plans`, `upstream` and so on
/// (`workers/settings.js` names them all).
pub(crate) fn settings(domains: &[&str], targets: &[&str]) -> Value {
    json!({ "domains": domains, "targets": targets })
}
