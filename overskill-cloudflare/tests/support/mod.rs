//! The Workers on real workerd: an edge of its own for each test, and a client that sends what it is told to.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(clippy::format_collect, reason = "a test may take its time")]

pub mod http;
pub mod signed;
pub mod socket;
pub mod weather;

use async_trait::async_trait;
use http::Answer;
use overskill_build::{
    compiler::{Compiler, CompilerOptions},
    packages::{DependencyResolver, PackageEntry, PackageFile, PackageRequest, Prepared},
    preview::PreviewEngine,
};
use overskill_cloudflare::{CloudflarePreviews, Edge, IngestKey};
use overskill_core::{
    AppFile, Digest, EnvRevision, EnvSnapshot, Environment, FilePath, Incarnation, KeyId, LocalKeys, Readiness, Result,
    Scope, Snapshot, StreamPosition, SystemIds,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

/// Ends the child once our side of its standard input is gone, however we end.
const WATCHED: &str = "exec 4<&0; \"$0\" \"$@\" <&- 3>&1 1>&2 & child=$!; \
    { while read -r line; do :; done; kill -9 $child; } <&4 >&2 2>/dev/null & wait $child";

/// How long a busy machine may take.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Workers that run.
pub struct Workers {
    pub port: u16,
    pub control: u16,
    pub key: IngestKey,
    /// What apps' tokens are signed with.
    pub keys: LocalKeys,
    folder: Arc<tempfile::TempDir>,
    options: Options,
    child: Child,
}

/// How they are set up.
#[derive(Clone)]
pub struct Options {
    /// Added to the settings.
    pub settings: Value,
    /// Text to put in the place of another, in a module: the paired controls of attacks.
    pub patches: Vec<(&'static str, &'static str, String)>,
    pub key: IngestKey,
    /// The Workers' secret, if it is not that of the key alone.
    pub ingest_keys: Option<String>,
    keys: LocalKeys,
}

impl Options {
    pub fn new() -> Self {
        let keys = LocalKeys::generate(KeyId::parse("apps1").unwrap()).unwrap();
        let key = IngestKey::generate(KeyId::parse("k1").unwrap(), &SystemIds);
        Self { settings: json!({}), patches: Vec::new(), key, ingest_keys: None, keys }
    }

    pub fn setting(mut self, name: &str, value: Value) -> Self {
        self.settings[name] = value;
        self
    }

    /// Takes a defence away.
    pub fn patched(mut self, module: &'static str, text: &'static str, by: impl Into<String>) -> Self {
        self.patches.push((module, text, by.into()));
        self
    }
}

/// The program, which `cargo xtask setup` installs.
fn workerd() -> PathBuf {
    if let Some(program) = std::env::var_os("OVERSKILL_WORKERD") {
        return program.into();
    }
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/cloudflare/node_modules/@cloudflare");
    let known = ["workerd-linux-64", "workerd-linux-arm64", "workerd-darwin-64", "workerd-darwin-arm64"];
    let found = known.iter().map(|name| tools.join(name).join("bin/workerd")).find(|path| path.is_file());
    found.expect("workerd is not installed: run `cargo xtask setup`, or name it in OVERSKILL_WORKERD")
}

impl Workers {
    pub async fn start() -> Self {
        Self::with(Options::new()).await
    }

    pub async fn with(options: Options) -> Self {
        Self::begun(Arc::new(tempfile::tempdir().unwrap()), options, 0).await
    }

    /// Ends them and starts them again at the same address, with what they keep on disk.
    pub async fn restarted(mut self) -> Self {
        self.ended().await;
        Self::begun(self.folder.clone(), self.options.clone(), self.port).await
    }

    /// The same, after the Durable Objects of a class lost what they had.
    pub async fn restarted_without(mut self, class: &str) -> Self {
        self.ended().await;
        fs::remove_dir_all(self.folder.path().join("objects").join(class)).unwrap();
        Self::begun(self.folder.clone(), self.options.clone(), self.port).await
    }

    /// Its standard input ends, and so does it.
    async fn ended(&mut self) {
        drop(self.child.stdin.take());
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("workerd ends in time").unwrap();
    }

    async fn begun(folder: Arc<tempfile::TempDir>, options: Options, port: u16) -> Self {
        let place = folder.path();
        fs::create_dir_all(place.join("objects")).unwrap();
        let config = config(place, &options, port);
        fs::write(place.join("config.capnp"), config).unwrap();
        let log = fs::File::create(place.join("workerd.log")).unwrap();
        let mut child = Command::new("/bin/sh")
            .args(["-c", WATCHED])
            .arg(workerd())
            .args(["serve", "--experimental", "--control-fd=3"])
            .arg(place.join("config.capnp"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut ports = BTreeMap::new();
        while ports.len() < 2 {
            let line =
                tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("workerd starts in time").unwrap();
            let Some(line) = line else {
                panic!("workerd ended: {}", fs::read_to_string(place.join("workerd.log")).unwrap())
            };
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["event"] == "listen" {
                let port = u16::try_from(event["port"].as_u64().unwrap()).unwrap();
                ports.insert(event["socket"].as_str().unwrap().to_owned(), port);
            }
        }
        let (key, keys) = (options.key.clone(), options.keys.clone());
        Self { port: ports["http"], control: ports["control"], key, keys, folder, options, child }
    }

    /// What workerd said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("workerd.log")).unwrap()
    }

    pub fn base(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    pub fn edge(&self) -> Edge {
        Edge::builder(self.base(), self.key.clone()).build().unwrap()
    }

    pub fn previews(&self) -> CloudflarePreviews {
        self.edge().previews(engine())
    }

    /// The host of an app.
    pub fn host(&self, label: &str) -> String {
        if label.is_empty() { format!("localhost:{}", self.port) } else { format!("{label}.localhost:{}", self.port) }
    }

    /// `GET` as a browser asks for a page.
    pub async fn page(&self, label: &str, path: &str) -> Answer {
        self.ask("GET", label, path, &[("accept", "text/html,*/*;q=0.8")], "").await
    }

    /// `GET` as a script asks.
    pub async fn get(&self, label: &str, path: &str) -> Answer {
        self.ask("GET", label, path, &[("accept", "*/*")], "").await
    }

    pub async fn ask(&self, method: &str, label: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        http::ask(self.port, method, &self.host(label), path, headers, body.as_bytes()).await
    }

    /// Puts a script into a namespace.
    pub async fn script(&self, environment: Environment, name: &str, code: &str) {
        let body = json!({ "code": code, "env": { "NAME": name } }).to_string();
        let path = format!("/script/{environment}/{name}");
        let put = http::ask(self.control, "PUT", "control", &path, &[], body.as_bytes()).await;
        assert_eq!(put.status, 200);
    }

    /// What the world outside saw since this was asked last.
    pub async fn seen(&self) -> Vec<Value> {
        let seen = http::ask(self.control, "GET", "control", "/seen?take", &[], b"").await;
        seen.json().as_array().unwrap().clone()
    }
}

/// Of all modules as they are shipped, with the patches.
fn config(place: &Path, options: &Options, port: u16) -> String {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("workers");
    let mut modules = String::new();
    let mut names: Vec<_> =
        fs::read_dir(&source).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_by_key(|name| (name != "dispatch.js", name.clone()));
    for name in names {
        let mut text = fs::read_to_string(source.join(&name)).unwrap();
        for (_, from, to) in options.patches.iter().filter(|(module, ..)| *module == name) {
            assert!(text.contains(from), "{name} holds no {from}");
            text = text.replace(from, to);
        }
        fs::write(place.join(&name), text).unwrap();
        writeln!(modules, "    (name = \"{name}\", esModule = embed \"{name}\"),").unwrap();
    }
    let ours = [
        ("namespace.js", include_str!("namespace.js")),
        ("loader.js", include_str!("loader.js")),
        ("outside.js", include_str!("outside.js")),
    ];
    for (name, text) in ours {
        fs::write(place.join(name), text).unwrap();
    }
    let mut settings = json!({
        "domains": ["localhost", "apps.test"],
        "targets": ["cloudflare"],
        "upstream": "http://data.test/v1",
        "plans": { "default": { "cpuMs": 50, "subRequests": 50 }, "pro": { "cpuMs": 500 } },
    });
    for (name, value) in options.settings.as_object().unwrap() {
        settings[name] = value.clone();
    }
    let app_key = json!({ "kid": "apps1", "pkcs8": options.keys.to_pkcs8().expose() }).to_string();
    let text = |text: &str| Value::from(text).to_string();
    let namespaces: String = Environment::ALL
        .iter()
        .map(|environment| {
            let name = environment.as_str();
            format!(
                "    (name = \"{}\", wrapped = (moduleName = \"overskill:namespace\", innerBindings = [\n      \
                 (name = \"LOADER\", workerLoader = (id = \"{name}\")), (name = \"control\", service = \"outside\"),\n      \
                 (name = \"namespace\", text = \"{name}\")])),\n",
                name.to_uppercase()
            )
        })
        .collect();
    let objects = place.join("objects");
    let classes = ["RouteTable", "PreviewRoom", "PackageShelf", "PreviewLobby"];
    let classes: String = classes
        .iter()
        .map(|class| format!("    (className = \"{class}\", uniqueKey = \"{class}\", enableSql = true),\n"))
        .collect();
    format!(
        r#"using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "dispatch", worker = .dispatch),
    (name = "outside", worker = .outside),
    (name = "objects", disk = (path = {objects}, writable = true)),
  ],
  sockets = [
    (name = "http", address = "127.0.0.1:{port}", http = (), service = "dispatch"),
    (name = "control", address = "127.0.0.1:0", http = (), service = "outside"),
  ],
  extensions = [ (modules = [
    (name = "overskill:namespace", internal = true, esModule = embed "namespace.js"),
    (name = "overskill:loader", internal = true, esModule = embed "loader.js") ]) ],
);
const outside :Workerd.Worker = (
  modules = [ (name = "outside.js", esModule = embed "outside.js") ], compatibilityDate = "2026-10-01",
);
const dispatch :Workerd.Worker = (
  modules = [
{modules}  ],
  compatibilityDate = "2026-10-01",
  globalOutbound = "outside",
  durableObjectNamespaces = [
{classes}  ],
  durableObjectStorage = (localDisk = "objects"),
  bindings = [
    (name = "SETTINGS", json = {settings}),
    (name = "INGEST_KEYS", text = {ingest}),
    (name = "SOCKET_KEY", text = "a socket key of tests"),
    (name = "APP_TOKEN_KEY", text = {app_key}),
    (name = "ROUTES", durableObjectNamespace = "RouteTable"),
    (name = "ROOMS", durableObjectNamespace = "PreviewRoom"),
    (name = "SHELVES", durableObjectNamespace = "PackageShelf"),
    (name = "LOBBY", durableObjectNamespace = "PreviewLobby"),
    (name = "LOADER", wrapped = (moduleName = "overskill:loader", innerBindings = [
      (name = "LOADER", workerLoader = (id = "previews")), (name = "zone", service = "outside")])),
{namespaces}  ],
);
"#,
        objects = text(objects.to_str().unwrap()),
        settings = text(&settings.to_string()),
        ingest = text(options.ingest_keys.as_deref().unwrap_or(options.key.to_binding().expose())),
        app_key = text(&app_key),
    )
}

/// One package there is: `left`, which exports a number.
#[derive(Debug)]
pub struct OnePackage;

#[async_trait]
impl DependencyResolver for OnePackage {
    async fn check(&self) -> Result<Readiness> {
        Ok(Readiness::ready("one package"))
    }

    async fn prepare(&self, request: &PackageRequest) -> Result<Arc<Prepared>> {
        // The manifest tells one app's set from another's.
        let mut prepared = Prepared::new(Digest::of(&request.manifest));
        for entry in &request.entries {
            let (file, contents) =
                (format!("{}.js", entry.replace('/', "_")), "export const left = 7;\nexport default {};\n");
            let large = "// ".to_owned() + &"x".repeat(3 << 20);
            let text = if entry == "large" { format!("{contents}{large}") } else { contents.to_owned() };
            prepared.files.insert(file.clone(), PackageFile::new("text/javascript; charset=utf-8", text));
            prepared.entries.insert(entry.clone(), PackageEntry::Module { file, common_js: false });
        }
        Ok(Arc::new(prepared))
    }
}

pub fn engine() -> PreviewEngine {
    static ENGINE: OnceLock<PreviewEngine> = OnceLock::new();
    ENGINE.get_or_init(|| PreviewEngine::new(Compiler::new(CompilerOptions::development()), OnePackage)).clone()
}

pub fn at(seq: u64) -> StreamPosition {
    StreamPosition::new(Incarnation::from_u64(0xf1), seq)
}

pub fn env(revision: u64) -> EnvSnapshot {
    let revision = EnvRevision(StreamPosition::new(Incarnation::from_u64(0xe), revision));
    EnvSnapshot { revision, values: BTreeMap::new() }
}

pub fn scope(text: &str) -> Scope {
    text.parse().unwrap()
}

pub fn path(path: &str) -> FilePath {
    FilePath::parse(path).unwrap()
}

pub fn snapshot(position: StreamPosition, files: &[(&str, &str)]) -> Snapshot {
    Snapshot::new(position, files.iter().map(|(at, text)| (path(at), AppFile::new((*text).to_owned()))).collect())
}
