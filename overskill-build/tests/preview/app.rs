//! An app under test, with packages that are made up in memory.

use async_trait::async_trait;
use futures::FutureExt as _;
use overskill_build::{
    Problem, ProblemKind, Result,
    compiler::Compiler,
    packages::{DependencyResolver, PackageEntry, PackageFile, PackageRequest, Prepared},
    preview::{AppPreview, HotMessage, PageRequest, PageResponse, PreviewEngine},
};
use overskill_core::{
    AppFile, AppId, Changes, Digest, EnvKey, EnvRevision, EnvSnapshot, EnvValue, Environment, Error, ErrorKind,
    FilePath, Incarnation, Progress, Readiness, Scope, Snapshot, StreamPosition,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::oneshot;

/// Knows every package but those whose names begin with `unknown`; `react` and the like are `CommonJS`, names ending in
/// `.css` or `/css` are style sheets.
#[derive(Debug, Default)]
pub(crate) struct Packages {
    pub(crate) asked: Mutex<Vec<BTreeSet<String>>>,
    pub(crate) down: AtomicBool,
    /// What the next requests wait for, each for one.
    pub(crate) gates: Mutex<VecDeque<oneshot::Receiver<()>>>,
}

fn is_style(name: &str) -> bool {
    name.rsplit(['.', '/']).next() == Some("css")
}

#[derive(Clone, Debug, Default)]
pub(crate) struct SharedPackages(pub Arc<Packages>);

#[async_trait]
impl DependencyResolver for SharedPackages {
    async fn check(&self) -> Result<Readiness> {
        Ok(Readiness::ready("packages"))
    }

    async fn prepare(&self, request: &PackageRequest) -> Result<Arc<Prepared>> {
        self.0.asked.lock().unwrap().push(request.entries.clone());
        let gate = self.0.gates.lock().unwrap().pop_front();
        if let Some(gate) = gate {
            gate.await.unwrap();
        }
        if self.0.down.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "the registry does not answer"));
        }
        let names = request.entries.iter().map(String::as_bytes);
        let digest = Digest::of_parts(names.chain([request.manifest.as_ref()]));
        let mut prepared = Prepared::new(digest);
        for name in &request.entries {
            let file = format!("{}.{}", name.replace('/', "_"), if is_style(name) { "css" } else { "js" });
            if name.starts_with("unknown") {
                let problem = Problem::new(ProblemKind::Package, format!("there is no package `{name}`"));
                prepared.failed.insert(name.clone(), problem.help("mend its name"));
            } else if is_style(name) {
                prepared.files.insert(file.clone(), PackageFile::new("text/css", ".p { background: url(./x.png) }"));
                prepared.entries.insert(name.clone(), PackageEntry::Style { file });
            } else {
                let script = PackageFile::new("text/javascript", "import\"./chunk-a.js\";export default {};");
                prepared.files.insert(file.clone(), script.importing(vec!["chunk-a.js".to_owned()]));
                let chunk = PackageFile::new("text/javascript", "import{b}from\"./chunk-b.js\";");
                prepared.files.insert("chunk-a.js".to_owned(), chunk.importing(vec!["chunk-b.js".to_owned()]));
                prepared.files.insert("chunk-b.js".to_owned(), PackageFile::new("text/javascript", "export let b;"));
                prepared
                    .entries
                    .insert(name.clone(), PackageEntry::Module { file, common_js: name.starts_with("react") });
            }
        }
        Ok(Arc::new(prepared))
    }
}

impl SharedPackages {
    /// Holds the next request back that no other call of this does, until the test lets it go. It is closed once nobody
    /// waits for the request any more.
    pub(crate) fn hold(&self) -> oneshot::Sender<()> {
        let (open, gate) = oneshot::channel();
        self.0.gates.lock().unwrap().push_back(gate);
        open
    }
}

pub(crate) fn at(seq: u64) -> StreamPosition {
    StreamPosition::new(Incarnation::from_u64(7), seq)
}

pub(crate) fn path(text: &str) -> FilePath {
    FilePath::parse(text).unwrap()
}

pub(crate) fn snapshot(seq: u64, files: &[(&str, &str)]) -> Snapshot {
    let files = files.iter().map(|(name, text)| (path(name), AppFile::new((*text).to_owned())));
    Snapshot::new(at(seq), files.collect())
}

pub(crate) fn env(seq: u64, values: &[(&str, EnvValue)]) -> EnvSnapshot {
    let values = values.iter().map(|(key, value)| (EnvKey::parse(key).unwrap(), value.clone()));
    EnvSnapshot { revision: EnvRevision(at(seq)), values: values.collect() }
}

pub(crate) fn scope() -> Scope {
    Scope::new(AppId::parse("todo42").unwrap(), Environment::Development)
}

/// An open preview with what was told so far.
pub(crate) struct App {
    pub(crate) preview: AppPreview,
    pub(crate) packages: SharedPackages,
    pub(crate) engine: PreviewEngine,
}

pub(crate) const INDEX: (&str, &str) = (
    "index.html",
    "<!doctype html><html><head><title>%VITE_TITLE%</title></head><body><div id=root></div>\
     <script type=\"module\" src=\"/src/main.tsx\"></script></body></html>",
);
pub(crate) const MANIFEST: (&str, &str) =
    ("package.json", r#"{ "dependencies": { "react": "18", "react-dom": "18" } }"#);

/// A small React app, as create-vite makes it.
pub(crate) fn todo() -> Vec<(&'static str, &'static str)> {
    vec![
        INDEX,
        MANIFEST,
        ("tsconfig.json", r#"{ "compilerOptions": { "paths": { "@/*": ["./src/*"] } } }"#),
        (
            "src/main.tsx",
            "import { createRoot } from 'react-dom/client';\nimport App from './App';\nimport './index.css';\ncreateRoot(document.getElementById('root')!).render(<App />);\n",
        ),
        (
            "src/App.tsx",
            "import { useState } from 'react';\nimport { Label } from '@/Label';\nimport data from './d.json';\nimport styles from './a.module.css';\nimport logo from '/logo.svg';\nexport default function App() { const [n, set] = useState(0); return <div className={styles.box} onClick={() => set(n + 1)}><img src={logo} /><Label text={data.x + import.meta.env.VITE_TITLE} /></div>; }\n",
        ),
        (
            "src/Label.tsx",
            "import { loud } from './loud';\nexport function Label({ text }: { text: string }) { return <b>{loud(text)}</b>; }\n",
        ),
        ("src/loud.ts", "export const loud = (s: string) => s + '!';\n"),
        ("src/d.json", r#"{ "x": "hi" }"#),
        ("src/index.css", "body { margin: 0 }\n"),
        ("src/a.module.css", ".box { color: red }\n"),
        ("public/logo.svg", "<svg/>"),
    ]
}

impl App {
    pub(crate) async fn open(files: &[(&str, &str)]) -> Self {
        Self::open_with(files, SharedPackages::default()).await
    }

    pub(crate) async fn open_with(files: &[(&str, &str)], packages: SharedPackages) -> Self {
        let engine = PreviewEngine::new(Compiler::default(), packages.clone());
        let preview = engine.open(&scope(), &snapshot(1, files), &env(1, &[]), &Progress::discard()).await.unwrap();
        Self { preview, packages, engine }
    }

    pub(crate) fn respond(&self, request: &PageRequest) -> PageResponse {
        respond(&self.preview, request)
    }

    pub(crate) fn get(&self, address: &str) -> PageResponse {
        let (path, query) = address.split_once('?').map_or((address, None), |(path, query)| (path, Some(query)));
        let mut request = PageRequest::get(path);
        request.query = query.map(str::to_owned);
        self.respond(&request)
    }

    pub(crate) fn text(&self, address: &str) -> String {
        let response = self.get(address);
        assert_eq!(response.status, 200, "{address}: {}", String::from_utf8_lossy(&response.body));
        String::from_utf8(response.body.to_vec()).unwrap()
    }

    pub(crate) fn page(&self, address: &str) -> PageResponse {
        let (path, query) = address.split_once('?').map_or((address, None), |(path, query)| (path, Some(query)));
        let mut request = PageRequest::get(path);
        request.query = query.map(str::to_owned);
        request.accept = Some("text/html,*/*".to_owned());
        self.respond(&request)
    }

    /// Writes files together (`None` deletes), and shows the messages in a line each.
    pub(crate) async fn write(&self, files: &[(&str, Option<&str>)]) -> Vec<String> {
        let changes = files.iter().fold(Changes::new(), |changes, (name, text)| match text {
            Some(text) => changes.put(path(name), (*text).to_owned()),
            None => changes.delete(path(name)),
        });
        let base = self.preview.position();
        let sent = self.preview.apply(base, base.next(), &changes).await.unwrap().unwrap();
        if let Some(last) = sent.last() {
            assert_eq!(last.position, Some(base.next()), "{}", last.text);
        }
        shown(&sent)
    }

    pub(crate) async fn edit(&self, file: &str, text: &str) -> Vec<String> {
        self.write(&[(file, Some(text))]).await
    }
}

/// The files of one of `examples/apps`, as its generator writes them.
pub(crate) fn example(folder: &Path) -> BTreeMap<FilePath, AppFile> {
    let mut files = BTreeMap::new();
    read(folder, folder, &mut files);
    files
}

fn read(root: &Path, folder: &Path, files: &mut BTreeMap<FilePath, AppFile>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name();
        if name == "node_modules" || name == "dist" {
            continue;
        }
        if entry.path().is_dir() {
            read(root, &entry.path(), files);
        } else {
            let name = entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            files.insert(path(&name), AppFile::new(std::fs::read(entry.path()).unwrap()));
        }
    }
}

/// An answer that nothing is waited for.
pub(crate) fn respond(preview: &AppPreview, request: &PageRequest) -> PageResponse {
    preview.respond(request).now_or_never().expect("an answer at once")
}

/// `update js:/src/App.tsx<-/src/dep.ts …`, `full-reload *`, `prune …`, `error message`.
pub(crate) fn shown(messages: &[HotMessage]) -> Vec<String> {
    messages.iter().map(|message| show(&serde_json::from_str(&message.text).unwrap())).collect()
}

fn show(message: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    match message["type"].as_str().unwrap() {
        "update" => {
            let updates = message["updates"].as_array().unwrap().iter().map(|update| {
                let (path, accepted) = (text(&update["path"]), text(&update["acceptedPath"]));
                let kind = text(&update["type"]).replace("-update", "");
                let by = if path == accepted { String::new() } else { format!("<-{accepted}") };
                let circular = if update["isWithinCircularImport"] == true { "~" } else { "" };
                format!(" {kind}:{path}{by}{circular}")
            });
            format!("update{}", updates.collect::<String>())
        }
        "full-reload" => format!("full-reload {}", text(&message["path"])),
        "prune" => {
            format!("prune {}", message["paths"].as_array().unwrap().iter().map(text).collect::<Vec<_>>().join(" "))
        }
        "error" => format!("error {}", text(&message["err"]["message"])),
        other => other.to_owned(),
    }
}
