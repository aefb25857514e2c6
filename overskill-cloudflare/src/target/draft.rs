//! A request as it is going to be uploaded: everything that can be refused is refused here, before any call.

use super::{
    metadata::{self, Assets, AssetsConfig, Binding, Metadata, Migrations, WorkerLimits},
    names,
};
use crate::{
    api::{Asset, AssetToken, Module},
    cloudflare::Settings,
    runtime,
};
use overskill_core::{AppFile, Artifact, DeployRequest, Digest, Error, ErrorKind, Fence, FilePath, Result};

/// Largest asset in bytes.
pub(super) const MAX_ASSET_BYTES: u64 = 25 * 1024 * 1024;
/// Largest module in bytes, not compressed: the provider's limit of 10 MB is for what is compressed, and checked there.
const MAX_MODULE_BYTES: u64 = 64 * 1024 * 1024;
/// The module of an app that has no server: it hands requests to the assets.
const STATIC_MODULE: &str =
    "export default {\n  fetch(request, env) {\n    return env.ASSETS.fetch(request);\n  },\n};\n";
const ES_MODULE: &str = "application/javascript+module";
/// The setting of an artifact that names its Durable Objects: `ROOMS=Room,COUNTERS=Counter`.
const DURABLE_OBJECTS: &str = "durable_objects";

/// A Durable Object class of an app, and the binding under which its code finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DurableClass {
    pub(crate) binding: String,
    pub(crate) class: String,
}

/// What is uploaded for a request, but for the token of its assets.
#[derive(Debug)]
pub(super) struct Draft {
    main_module: String,
    pub(super) modules: Vec<Module>,
    pub(super) assets: Vec<Asset>,
    pub(super) classes: Vec<DurableClass>,
    bindings: Vec<Binding>,
    limits: Option<WorkerLimits>,
    config: AssetsConfig,
    flags: Vec<String>,
}

impl Draft {
    pub(super) fn of(request: &DeployRequest, settings: &Settings) -> Result<Self> {
        let artifact = request.artifact();
        let classes = durable_classes(artifact)?;
        if !classes.is_empty() && artifact.server().is_none() {
            return Err(Error::invalid("artifact with Durable Objects must have a server module, but has none"));
        }
        let (main_module, modules) = modules(artifact)?;
        let label = names::Label::of(request, Fence::from_u64(u64::MAX));
        names::check_tags(&label.tags(&settings.tags))?;
        names::check_name(&names::of_version(&label.app, label.fence))?;
        let not_found_handling = match (artifact.config().single_page, artifact.server().is_some()) {
            (true, _) => "single-page-application",
            (false, true) => "none",
            (false, false) => "404-page",
        };
        Ok(Self {
            main_module,
            modules,
            assets: assets(request, settings)?,
            bindings: metadata::bindings(request, &classes)?,
            limits: metadata::limits(request)?,
            config: AssetsConfig { html_handling: "auto-trailing-slash", not_found_handling },
            flags: runtime::flags(artifact),
            classes,
        })
    }

    /// The metadata of the upload under a fence.
    pub(super) fn metadata(
        &self,
        request: &DeployRequest,
        settings: &Settings,
        fence: Fence,
        assets: Option<AssetToken>,
        migrations: Option<Migrations>,
    ) -> Metadata {
        Metadata {
            main_module: self.main_module.clone(),
            compatibility_date: settings.compatibility_date.clone(),
            compatibility_flags: self.flags.clone(),
            bindings: self.bindings.clone(),
            tags: names::Label::of(request, fence).tags(&settings.tags),
            limits: self.limits,
            assets: assets.map(|jwt| Assets { jwt, config: self.config }),
            migrations,
        }
    }
}

/// The main module's name, and all modules.
fn modules(artifact: &Artifact) -> Result<(String, Vec<Module>)> {
    let Some(server) = artifact.server() else {
        let name = "overskill.js".to_owned();
        let contents = STATIC_MODULE.as_bytes().into();
        return Ok((name.clone(), vec![Module { name, content_type: ES_MODULE, contents }]));
    };
    if server.module.contents().is_empty() {
        return Err(Error::invalid(
            "server module must have a default export with `fetch`, but the main module is empty",
        ));
    }
    let mut main = "index.js".to_owned();
    while server.wasm.keys().any(|path| path.as_str() == main) {
        main.insert(0, '_');
    }
    let mut modules = vec![module(&main, ES_MODULE, &server.module)?];
    for (path, wasm) in &server.wasm {
        modules.push(module(path.as_str(), "application/wasm", wasm)?);
    }
    Ok((main, modules))
}

fn module(name: &str, content_type: &'static str, file: &AppFile) -> Result<Module> {
    if file.size_bytes() > MAX_MODULE_BYTES {
        let message = format!("module must be at most {MAX_MODULE_BYTES} bytes, but has {}", file.size_bytes());
        return Err(Error::new(ErrorKind::LimitExceeded, message).with("module", name));
    }
    Ok(Module { name: name.to_owned(), content_type, contents: file.contents().clone() })
}

/// The static assets, with the values of the environment in them.
fn assets(request: &DeployRequest, settings: &Settings) -> Result<Vec<Asset>> {
    let artifact = request.artifact();
    let mut filled = artifact.page_assets(request.scope().environment, request.env());
    artifact
        .assets()
        .iter()
        .map(|(path, file)| {
            let file = filled.remove(path).unwrap_or_else(|| file.clone());
            if file.size_bytes() > MAX_ASSET_BYTES {
                let message = format!("asset must be at most {MAX_ASSET_BYTES} bytes, but has {}", file.size_bytes());
                return Err(Error::new(ErrorKind::LimitExceeded, message).with("path", path));
            }
            let content_type = content_type(path);
            let hash = asset_hash(settings, request, &content_type, &file);
            let path = format!("/{path}");
            Ok(Asset { path, hash, content_type, contents: file.contents().clone() })
        })
        .collect()
}

/// 32 hex digits that depend on the app too: the provider keeps equal hashes once, and who could name the hash of another
/// app's asset would be served it.
fn asset_hash(settings: &Settings, request: &DeployRequest, content_type: &str, file: &AppFile) -> String {
    let digest = Digest::of_parts([
        b"overskill asset 1".as_slice(),
        settings.asset_salt.expose().as_bytes(),
        request.scope().app.as_str().as_bytes(),
        content_type.as_bytes(),
        file.digest().as_bytes(),
    ]);
    let mut hash = digest.to_string();
    hash.truncate(32);
    hash
}

fn content_type(path: &FilePath) -> String {
    let text = match path.extension().unwrap_or_default() {
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "html" | "htm" => "text/html; charset=utf-8",
        "txt" | "md" => "text/plain; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        ext => return mime_guess::from_ext(ext).first_raw().unwrap_or("application/octet-stream").to_owned(),
    };
    text.to_owned()
}

fn durable_classes(artifact: &Artifact) -> Result<Vec<DurableClass>> {
    let Some(listed) = artifact.config().settings.get(DURABLE_OBJECTS) else { return Ok(Vec::new()) };
    let name = |s: &str| {
        let first = s.as_bytes().first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_');
        first && s.len() <= 64 && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    listed
        .split(',')
        .map(|entry| match entry.trim().split_once('=') {
            Some((binding, class)) if name(binding) && name(class) => {
                Ok(DurableClass { binding: binding.to_owned(), class: class.to_owned() })
            }
            _ => {
                let shown: String = entry.chars().take(60).collect();
                let rule = "setting `durable_objects` must be like ROOMS=Room,COUNTERS=Counter";
                Err(Error::invalid(format!("{rule}, but holds {shown:?}")))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cloudflare;
    use overskill_core::{
        ArtifactConfig, DeploymentId, EnvKey, EnvRevision, EnvSnapshot, EnvValue, Incarnation, SeededIds, ServerModule,
        StreamPosition, Timestamp,
    };
    use std::{collections::BTreeMap, sync::Arc};

    fn settings(salt: &str) -> Arc<Settings> {
        let builder = Cloudflare::connect("0123456789abcdef", "token").asset_salt(salt).tags(["mine"]);
        builder.build().unwrap().0
    }

    fn file(path: &str, contents: &str) -> (FilePath, AppFile) {
        (FilePath::parse(path).unwrap(), contents.to_owned().into())
    }

    fn request(app: &str, artifact: Artifact, values: &[(&str, EnvValue)]) -> DeployRequest {
        let values = values.iter().map(|(key, value)| (EnvKey::parse(key).unwrap(), value.clone())).collect();
        let revision = EnvRevision(StreamPosition::start(Incarnation::from_u64(1)));
        let id = DeploymentId::generate(&SeededIds::new(1), Timestamp::from_unix_millis(1_794_000_000_000));
        let scope = format!("{app}/production").parse().unwrap();
        DeployRequest::new(id, scope, Arc::new(artifact), Arc::new(EnvSnapshot { revision, values }))
    }

    fn page() -> Artifact {
        Artifact::of_assets([file("index.html", "<h1>hi</h1>"), file("a.js", "1")]).unwrap()
    }

    fn server(module: &str, config: ArtifactConfig) -> Artifact {
        let wasm = BTreeMap::from([file("math.wasm", "\0asm")]);
        let server = ServerModule { module: module.to_owned().into(), wasm };
        Artifact::new(BTreeMap::new(), Some(server), config).unwrap()
    }

    fn refusal(request: &DeployRequest) -> String {
        Draft::of(request, &settings("s")).unwrap_err().to_string()
    }

    #[test]
    fn a_static_app_is_a_script_over_its_assets() {
        let request = request("todo42", page(), &[("GREETING", EnvValue::plain("hi")), ("KEY", EnvValue::sealed("k"))]);
        let (settings, fence) = (settings("s"), Fence::from_u64(7));
        let draft = Draft::of(&request, &settings).unwrap();
        let metadata = draft.metadata(&request, &settings, fence, Some("jwt".into()), None);
        let id = request.id();
        let digest = request.digest();
        let want = serde_json::json!({
            "main_module": "overskill.js",
            "compatibility_date": "2026-11-01",
            "bindings": [
                {"type": "plain_text", "name": "GREETING", "text": "hi"},
                {"type": "secret_text", "name": "KEY", "text": "k"},
                {"type": "plain_text", "name": "OVERSKILL_APP", "text": "todo42"},
                {"type": "plain_text", "name": "OVERSKILL_DEPLOYMENT", "text": id.to_string()},
                {"type": "plain_text", "name": "OVERSKILL_ENVIRONMENT", "text": "production"},
                {"type": "assets", "name": "ASSETS"},
            ],
            "tags": [
                "app-todo42", format!("deployment-{id}"), format!("digest-{digest}"), "env-1.0", "fence-7", "mine",
            ],
            "assets": {
                "jwt": "jwt",
                "config": {"html_handling": "auto-trailing-slash", "not_found_handling": "404-page"},
            },
        });
        assert_eq!(serde_json::to_value(&metadata).unwrap(), want);
        let paths: Vec<_> = draft.assets.iter().map(|a| (a.path.as_str(), a.content_type.as_str())).collect();
        assert_eq!(paths, [("/a.js", "text/javascript; charset=utf-8"), ("/index.html", "text/html; charset=utf-8")]);
    }

    #[test]
    fn equal_assets_of_two_apps_have_two_names() {
        let hashes = |app: &str, salt: &str| {
            let draft = Draft::of(&request(app, page(), &[]), &settings(salt)).unwrap();
            draft.assets.into_iter().map(|asset| asset.hash).collect::<Vec<_>>()
        };
        let one = hashes("one", "s");
        assert_eq!(one, hashes("one", "s"));
        assert!(one.iter().all(|hash| hash.len() == 32 && hash.bytes().all(|b| b.is_ascii_hexdigit())));
        for other in [hashes("two", "s"), hashes("one", "t")] {
            assert!(one.iter().all(|hash| !other.contains(hash)));
        }
    }

    #[test]
    fn a_server_brings_its_modules_and_durable_objects() {
        let mut config = ArtifactConfig::default();
        config.settings.insert("durable_objects".into(), "ROOMS=Room, COUNTERS=Counter".into());
        let draft = Draft::of(&request("a", server("export default {}", config), &[]), &settings("s")).unwrap();
        let modules: Vec<_> = draft.modules.iter().map(|m| (m.name.as_str(), m.content_type)).collect();
        assert_eq!(modules, [("index.js", ES_MODULE), ("math.wasm", "application/wasm")]);
        let classes: Vec<_> = draft.classes.iter().map(|c| (c.binding.as_str(), c.class.as_str())).collect();
        assert_eq!(classes, [("ROOMS", "Room"), ("COUNTERS", "Counter")]);
    }

    #[test]
    fn what_the_api_would_refuse_is_named_before_any_call() {
        let empty = refusal(&request("a", server("", ArtifactConfig::default()), &[]));
        assert!(empty.contains("main module is empty"), "{empty}");
        let big = AppFile::new(vec![0; 26 * 1024 * 1024]);
        let big = Artifact::of_assets([(FilePath::parse("big.bin").unwrap(), big)]).unwrap();
        let big = refusal(&request("a", big, &[]));
        assert!(big.contains("at most 26214400 bytes, but has 27262976") && big.contains("path=big.bin"), "{big}");
        let reserved = refusal(&request("a", page(), &[("ASSETS", EnvValue::plain("x"))]));
        assert!(reserved.contains("\"ASSETS\": rename it"), "{reserved}");
        let long = refusal(&request("a", page(), &[("LONG", EnvValue::sealed("hunter2".repeat(800)))]));
        assert!(
            long.contains("at most 5120 bytes") && long.contains("key=LONG") && !long.contains("hunter2"),
            "{long}"
        );
        let many: Vec<String> = (0..129).map(|n| format!("V{n}")).collect();
        let many: Vec<_> = many.iter().map(|name| (name.as_str(), EnvValue::plain(""))).collect();
        let many = refusal(&request("a", page(), &many));
        assert!(many.contains("at most 128 variables here, but has 129"), "{many}");
        let mut config = ArtifactConfig::default();
        config.settings.insert("durable_objects".into(), "Room".into());
        let bad = refusal(&request("a", server("x", config), &[]));
        assert!(bad.contains("ROOMS=Room"), "{bad}");
    }
}
