//! The Workers that are installed: JavaScript modules, and what they are bound to.

use crate::api::Module;
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

/// The day whose behaviour of the runtime our own Workers get.
const DATE: &str = "2026-10-01";
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
        "closed.js",
        "egress.js",
        "files.js",
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
        "versions.js",
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
        compatibility_date: DATE,
        compatibility_flags: &[],
        version,
    }
}

/// One app's script in the preview namespace: its modules, the main one first, and their compatibility date.
#[cfg(feature = "previews")]
pub(crate) fn viewer() -> (Vec<Module>, &'static str) {
    (modules!["viewer.js", "files.js"].into_iter().map(module).collect(), DATE)
}

/// The Worker that sees what apps' own code fetches.
pub(crate) fn outbound() -> (Vec<Module>, &'static str) {
    (modules!["outbound.js", "egress.js", "settings.js"].into_iter().map(module).collect(), DATE)
}

/// A module as it is uploaded.
pub(crate) fn module((name, content_type, text): (&str, &'static str, &'static str)) -> Module {
    Module { name: name.to_owned(), content_type, contents: text.as_bytes().into() }
}

/// The settings of the dispatch Worker that every platform has; whoever installs it may add `plans`, `upstream` and so on
/// (`workers/settings.js` names them all).
pub(crate) fn settings(domains: &[&str], targets: &[&str]) -> Value {
    json!({ "domains": domains, "targets": targets })
}

#[cfg(test)]
mod tests {
    use super::*;
    use overskill_core::{AppId, Environment};
    use std::{collections::BTreeSet, fs, path::Path};

    /// The main modules of scripts of their own.
    const OF_THEIR_OWN: [&str; 2] = ["outbound.js", "viewer.js"];

    #[test]
    fn every_module_is_uploaded_and_the_entry_is_the_first() {
        let bundle = dispatch();
        assert_eq!(bundle.modules[0].0, bundle.main_module);
        let uploaded: BTreeSet<_> = bundle.modules.iter().map(|(name, ..)| (*name).to_owned()).collect();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("workers");
        let there = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(uploaded, there.filter(|name| !OF_THEIR_OWN.contains(&name.as_str())).collect());
        for (name, _, text) in &bundle.modules {
            for from in text.split(" from \"./").skip(1) {
                let module = from.split('"').next().unwrap();
                assert!(uploaded.contains(module), "{name} imports {module}");
            }
        }
        for (_, class) in &bundle.durable_objects {
            assert!(bundle.modules[0].2.contains(&format!("export {{ {class} }}")), "{class} is not exported");
            assert!(
                bundle.migrations.iter().any(|step| step.new_sqlite_classes.contains(class)),
                "{class} has no step"
            );
        }
    }

    #[test]
    fn the_worker_knows_the_names_that_core_knows() {
        let settings = include_str!("../workers/settings.js");
        let reserved = settings.split("new Set(").nth(1).unwrap().split(").split").next().unwrap();
        let words = reserved.replace(['(', '"', '+'], " ");
        assert_eq!(words.split_whitespace().collect::<Vec<_>>(), AppId::RESERVED);
        for environment in Environment::ALL {
            let line = format!("{environment}: \"{}\"", environment.host_prefix());
            assert!(settings.contains(&line), "{line}");
        }
    }
}
