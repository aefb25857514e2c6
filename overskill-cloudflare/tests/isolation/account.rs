//! An account with apps of two authors in it: put there by the library, or by hand.
//!
//! By hand it is done as the library does it, but for one thing that somebody [`Careless`] would not do. Each attack runs three
//! times, each on two apps that nobody used before: on the library (it fails), on what is done by hand with nothing left out (it
//! fails), and without that one thing (it succeeds).

use crate::{attack::Attack, common::connect, support::scope, world::World};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use overskill_cloudflare::{Cloudflare, WfpTarget};
use overskill_core::{
    Artifact, ArtifactConfig, BackendName, Clock as _, DeployRequest, DeploymentId, DeploymentTarget as _, Digest,
    EnvKey, EnvRevision, EnvSnapshot, EnvValue, Error, Fence, FilePath, Handle, Incarnation, Result, Route,
    RouteTable as _, Scope, SeededIds, ServerModule, StreamPosition, SystemClock, SystemIds,
};
use overskill_http::{Method, Multipart};
use serde_json::{Value, json};
use std::{cell::Cell, collections::BTreeMap, rc::Rc, sync::Arc};

/// An attack on the account's side.
pub(crate) type AccountAttack = Attack<Account, Careless>;

/// What is not done by somebody who does all else as the library does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Careless {
    /// There is nothing that it does not do.
    Never,
    /// Assets are named by their contents.
    PlainHashes,
    /// By their contents and a salt of the platform's, not of the app's.
    OneSalt,
    /// By a salt that is made of what anybody knows.
    KnownSalt,
    /// `ASSETS` is the platform's own Worker, which serves what the address names.
    AssetsOfAll,
    /// Sealed variables are filled into pages like others.
    SealedInPages,
    /// Code is bound to the files of its environment.
    FilesBound,
    /// A class may be one of another script.
    ForeignClasses,
    /// Variables may have any name.
    AnyName,
    /// Whose a variable is, is read from the handle.
    AnyHandle,
    /// Whose a secret is, too.
    AnyHandleOfSecrets,
    /// The namespace is one for code that somebody vouches for.
    Trusted,
    /// Scripts that serve previews read every app's folder.
    OneFolder,
}

/// Where apps are deployed to: by the library, unless it says by hand.
pub(crate) struct Account {
    pub(crate) world: Rc<World>,
    careless: Option<Careless>,
    /// A's id.
    pub(crate) a: String,
    /// B's id.
    pub(crate) b: String,
    fences: Cell<u64>,
}

/// An app to deploy.
#[derive(Clone, Default)]
pub(crate) struct App<'a> {
    pub(crate) files: &'a [(&'a str, &'a str)],
    /// Its server's module.
    pub(crate) server: &'a str,
    /// The setting `durable_objects` of its artifact.
    pub(crate) objects: &'a str,
    pub(crate) variables: &'a [(&'a str, EnvValue)],
    /// The module that its pages import variables from.
    pub(crate) page_env: Option<&'a str>,
}

/// The namespace that they are in.
const NAMESPACE: &str = "overskill-production";

/// Tries each of them, on both platforms.
pub(crate) async fn withstands(attacks: &[AccountAttack]) {
    let world = Rc::new(World::start().await);
    let mut wrong = Vec::new();
    for (n, attack) in attacks.iter().enumerate() {
        let account = |careless, n: usize| Account {
            world: world.clone(),
            careless,
            a: format!("mallory{n:03}"),
            b: format!("bank{n:03}"),
            fences: Cell::new(0),
        };
        if (attack.run)(&account(None, 3 * n)).await {
            wrong.push(format!("{}: it succeeds", attack.name));
        }
        if (attack.run)(&account(Some(Careless::Never), 3 * n + 1)).await {
            wrong.push(format!("{}: it succeeds where nothing is careless", attack.name));
        }
        if !(attack.run)(&account(Some(attack.weak), 3 * n + 2)).await {
            wrong.push(format!("{}: it fails without {}", attack.name, attack.without));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}\n{:#?}", world.emulator.logs());
}

impl Account {
    /// Where the library deploys.
    pub(crate) async fn of_the_library() -> Self {
        let (a, b) = ("mallory".to_owned(), "bank7".to_owned());
        Self { world: Rc::new(World::start().await), careless: None, a, b, fences: Cell::new(0) }
    }

    /// What only B may see.
    pub(crate) fn secret(&self) -> String {
        format!("only for {}", self.b)
    }

    pub(crate) fn is(&self, careless: Careless) -> bool {
        self.careless == Some(careless)
    }

    /// The account as the platform uses it.
    pub(crate) fn cf(&self) -> Cloudflare {
        if !self.is(Careless::KnownSalt) {
            return self.world.cf.clone();
        }
        connect(&self.world.emulator).asset_salt(self.known_salt()).build().unwrap()
    }

    /// The library's salt without what is secret in it.
    pub(crate) fn known_salt(&self) -> String {
        let account = self.world.emulator.account();
        Digest::of_parts(["overskill asset salt 1", &account, "overskill"].map(str::as_bytes)).to_string()
    }

    pub(crate) fn target(&self) -> WfpTarget {
        self.cf().target().at(&self.world.edge)
    }

    /// Deploys an app and gives it the traffic.
    pub(crate) async fn deploy(&self, app: &str, what: &App<'_>) -> Result<()> {
        self.fences.set(self.fences.get() + 1);
        let (scope, fence) = (scope(&format!("{app}/production")), Fence::from_u64(self.fences.get()));
        let id = DeploymentId::generate(&SystemIds, SystemClock.now());
        let handle = match self.careless {
            None | Some(Careless::KnownSalt) => self.by_the_library(id, &scope, fence, what).await?,
            Some(careless) => self.by_hand(careless, app, fence, what).await?,
        };
        let route = Route::new(BackendName::parse("cloudflare").unwrap(), id, handle, fence);
        self.world.edge.routes().set(&scope, &route).await.map(drop)
    }

    async fn by_the_library(&self, id: DeploymentId, scope: &Scope, fence: Fence, what: &App<'_>) -> Result<Handle> {
        let path = |path: &str| FilePath::parse(path).unwrap();
        let files = what.files.iter().map(|(at, text)| (path(at), (*text).to_owned().into())).collect();
        let server = ServerModule { module: what.server.to_owned().into(), wasm: BTreeMap::new() };
        let mut config = ArtifactConfig::default();
        if !what.objects.is_empty() {
            config.settings.insert("durable_objects".into(), what.objects.into());
        }
        if let Some(module) = what.page_env {
            config.page_env = Some(overskill_core::PageEnv { module: Some(path(module)), ..Default::default() });
        }
        let artifact = Artifact::new(files, Some(server).filter(|_| !what.server.is_empty()), config)?;
        let values: Result<_> =
            what.variables.iter().map(|(name, value)| Ok((EnvKey::parse(name)?, value.clone()))).collect();
        let revision = EnvRevision(StreamPosition::new(Incarnation::from_u64(1), fence.as_u64()));
        let env = EnvSnapshot { revision, values: values? };
        let request = DeployRequest::new(id, scope.clone(), Arc::new(artifact), Arc::new(env)).under(fence);
        let target = self.target();
        let staged = target.stage(&request).await?;
        target.activate(&request, &staged, fence).await
    }

    async fn by_hand(&self, careless: Careless, app: &str, fence: Fence, what: &App<'_>) -> Result<Handle> {
        let script = if what.objects.is_empty() { format!("{app}-{fence}") } else { app.to_owned() };
        let text = |value: &EnvValue| value.expose().to_owned();
        let mut files: Vec<(String, String)> =
            what.files.iter().map(|(path, text)| (format!("/{path}"), (*text).to_owned())).collect();
        if let Some(module) = what.page_env {
            let shown = |value: &EnvValue| careless == Careless::SealedInPages || !value.is_sealed();
            let values: BTreeMap<_, _> =
                what.variables.iter().filter(|it| shown(&it.1)).map(|(name, value)| (*name, text(value))).collect();
            files.retain(|(path, _)| path.strip_prefix('/') != Some(module));
            files.push((format!("/{module}"), format!("export default {};", json!(values))));
        }
        let mut bindings = vec![json!({"type": "plain_text", "name": "OVERSKILL_APP", "text": app})];
        for (name, value) in what.variables {
            if careless != Careless::AnyName {
                EnvKey::parse(name)?;
            }
            bindings.retain(|binding| binding["name"] != *name);
            bindings.push(json!({"type": "secret_text", "name": name, "text": text(value)}));
        }
        if careless == Careless::FilesBound {
            let id = self.kv();
            bindings.push(json!({"type": "kv_namespace", "name": "FILES", "namespace_id": id}));
        }
        let mut classes = Vec::new();
        for (binding, class) in what.objects.split(',').filter_map(|object| object.split_once('=')) {
            let mut object = json!({"type": "durable_object_namespace", "name": binding});
            match class.split_once('@') {
                Some(_) if careless != Careless::ForeignClasses => return Err(Error::invalid("no such class")),
                Some((class, script)) => (object["class_name"], object["script_name"]) = (class.into(), script.into()),
                None => {
                    object["class_name"] = class.into();
                    classes.push(class);
                }
            }
            bindings.push(object);
        }
        let mut metadata = json!({"main_module": "main.js", "compatibility_date": "2026-10-01"});
        if !files.is_empty() {
            let hash = |path: &str, text: &str| match careless {
                Careless::PlainHashes => Digest::of(text.as_bytes()),
                Careless::OneSalt => Digest::of_parts([b"a salt".as_slice(), text.as_bytes()]),
                _ => Digest::of_parts([script.as_bytes(), path.as_bytes(), text.as_bytes()]),
            };
            let assets: Vec<_> =
                files.iter().map(|(path, text)| (path.as_str(), short(hash(path, text)), text.as_bytes())).collect();
            metadata["assets"] = json!({"jwt": self.upload(&script, &assets).await, "config": {}});
            bindings.push(match careless {
                // B's lead to its own, or it would ask itself for ever.
                Careless::AssetsOfAll if app == self.a => {
                    json!({"type": "service", "name": "ASSETS", "service": "overskill-dispatch"})
                }
                _ => json!({"type": "assets", "name": "ASSETS"}),
            });
        }
        if !classes.is_empty() {
            metadata["migrations"] = json!({"new_tag": "v1", "steps": [{"new_sqlite_classes": classes}]});
        }
        metadata["bindings"] = bindings.into();
        self.put(NAMESPACE, &script, &metadata, &[("main.js", what.server)]).await;
        Ok(Handle::new(script))
    }

    /// The id of the KV namespace with the files of production.
    pub(crate) fn kv(&self) -> String {
        self.world.emulator.state().kv[NAMESPACE].0.clone()
    }

    /// A session for these assets: its token, and whether some have to be uploaded.
    pub(crate) async fn session(&self, script: &str, assets: &[(&str, String, &[u8])]) -> (String, bool) {
        let manifest: serde_json::Map<_, _> = assets
            .iter()
            .map(|(path, hash, bytes)| ((*path).to_owned(), json!({"hash": hash, "size": bytes.len()})))
            .collect();
        let at = format!("workers/dispatch/namespaces/{NAMESPACE}/scripts/{script}/assets-upload-session");
        let session = self.json("POST", &at, &json!({ "manifest": manifest })).await;
        let token = session["result"]["jwt"].as_str().unwrap().to_owned();
        (token, !session["result"]["buckets"].as_array().unwrap().is_empty())
    }

    /// Uploads assets, but those that are there: the token for a script's metadata.
    pub(crate) async fn upload(&self, script: &str, assets: &[(&str, String, &[u8])]) -> String {
        let (token, is_new) = self.session(script, assets).await;
        if !is_new {
            return token;
        }
        let form = assets.iter().fold(Multipart::new(&SeededIds::new(1)), |form, (_, hash, bytes)| {
            form.file(hash, hash, "text/plain", BASE64_STANDARD.encode(bytes)).unwrap()
        });
        let to = "workers/assets/upload?base64=true";
        let answer = self.call("POST", to, &token, &form.content_type(), form.into_body()).await;
        answer["result"]["jwt"].as_str().unwrap().to_owned()
    }

    /// Puts a script there, or an account's own where the namespace has no name.
    pub(crate) async fn put(&self, namespace: &str, script: &str, metadata: &Value, modules: &[(&str, &str)]) {
        let answer = self.try_put(namespace, script, metadata, modules).await;
        assert_eq!(answer["success"], true, "{answer}");
    }

    /// The same, if it is taken.
    pub(crate) async fn try_put(
        &self,
        namespace: &str,
        script: &str,
        metadata: &Value,
        modules: &[(&str, &str)],
    ) -> Value {
        let form = Multipart::new(&SeededIds::new(1)).text("metadata", "application/json", metadata.to_string());
        let form = modules.iter().fold(form.unwrap(), |form, (name, code)| {
            form.file(name, name, "application/javascript+module", code).unwrap()
        });
        let at = match namespace {
            "" => format!("workers/scripts/{script}"),
            namespace => format!("workers/dispatch/namespaces/{namespace}/scripts/{script}"),
        };
        let token = self.world.emulator.token();
        self.call("PUT", &at, &token, &form.content_type(), form.into_body()).await
    }

    pub(crate) async fn json(&self, method: &str, at: &str, body: &Value) -> Value {
        let token = self.world.emulator.token();
        self.call(method, at, &token, "application/json", body.to_string().into()).await
    }

    /// A call of the account's API.
    pub(crate) async fn call(&self, method: &str, at: &str, token: &str, content_type: &str, body: Bytes) -> Value {
        let emulator = &self.world.emulator;
        let at = if at.starts_with('/') { at.to_owned() } else { format!("/accounts/{}/{at}", emulator.account()) };
        let call = http::Request::builder().method(method).uri(format!("{}{at}", emulator.api_url()));
        let call = call.header("authorization", format!("Bearer {token}")).header("content-type", content_type);
        let answer = emulator.call(call.body(body).unwrap()).await.unwrap();
        serde_json::from_slice(answer.body()).unwrap_or_default()
    }

    /// Sets the route of an app.
    pub(crate) async fn route(&self, app: &str, script: &str) {
        let id = DeploymentId::generate(&SystemIds, SystemClock.now());
        let fence = Fence::from_u64(1_000);
        let route = Route::new(BackendName::parse("cloudflare").unwrap(), id, Handle::new(script), fence);
        self.world.edge.routes().set(&scope(&format!("{app}/production")), &route).await.unwrap();
    }

    pub(crate) async fn get(&self, label: &str, path: &str) -> String {
        let url = format!("{}{path}", self.world.at(label));
        self.world.ask(Method::Get, &url, &[], "").await.text()
    }

    /// Whether B's secret is in what is served there.
    pub(crate) async fn leaks(&self, label: &str, path: &str) -> bool {
        self.get(label, path).await.contains(&self.secret())
    }
}

/// As much of a digest as names an asset.
pub(crate) fn short(digest: Digest) -> String {
    let mut hash = digest.to_string();
    hash.truncate(32);
    hash
}
