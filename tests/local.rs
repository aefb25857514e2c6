//! The whole platform on one machine: previews, deploys and data behind one server, and all of it there after a restart.
#![cfg(feature = "local")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "local/examples.rs"]
mod examples;

use overskill::{
    AppHandle, AppId, AppRecord, EnvChanges, EnvKey, EnvValue, Environment, Error, ErrorKind, LocalPlatform, Outcome,
    Overskill, Readiness, Result, Sources, SystemScopes, Timestamp, To,
    build::packages::{DependencyResolver, NpmPackages, PackageRequest, Prepared},
    local::LocalOptions,
};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};

/// The app of this test imports no packages.
#[derive(Debug)]
struct NoPackages;

#[async_trait::async_trait]
impl DependencyResolver for NoPackages {
    async fn check(&self) -> Result<Readiness> {
        Ok(Readiness::ready("none"))
    }

    async fn prepare(&self, _: &PackageRequest) -> Result<Arc<Prepared>> {
        Err(Error::new(ErrorKind::Unavailable, "there are no packages here"))
    }
}

struct Process {
    platform: Overskill,
    app: AppHandle,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl Process {
    async fn start(folder: &Path) -> Self {
        Self::of(Overskill::local(folder).packages(NoPackages)).await
    }

    async fn of(local: LocalPlatform) -> Self {
        let platform = local.server(LocalOptions::new().port(0)).await.unwrap();
        let todo = AppId::parse("todo42").unwrap();
        let host = platform.gate().system("test", "starts", SystemScopes::All).await.unwrap();
        platform.put_app(&host, &AppRecord::new(todo.clone(), "Ada’s <todo>", Timestamp::EPOCH)).await.unwrap();
        let app = platform.open(host, todo).await.unwrap();
        let (stop, stopped) = oneshot::channel();
        let background = platform.clone();
        let running = tokio::spawn(async move { background.run(async { drop(stopped.await) }).await });
        Self { platform, app, stop, running }
    }

    async fn page(&self, label: &str) -> (u16, String) {
        self.get(label, "/").await
    }

    /// Status, and headers with body.
    async fn get(&self, label: &str, path: &str) -> (u16, String) {
        let address = self.platform.backends().unwrap().address();
        let host = if label.is_empty() { "localhost".to_owned() } else { format!("{label}.localhost") };
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {host}:{}\r\naccept: text/html\r\nconnection: close\r\n\r\n",
            address.port()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer)
    }

    async fn stop(self) {
        drop(self.stop);
        tokio::time::timeout(Duration::from_secs(20), self.running).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_folder_is_the_whole_platform() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path()).await;
    let page = "<!doctype html><html><head><title>Todo</title></head><body><h1>first</h1></body></html>";
    let files = Sources::files([("index.html", page)]).unwrap();
    let preview = process.app.preview().open(files).await.unwrap();
    assert!(preview.url.as_str().starts_with("http://preview-todo42.localhost:"), "{}", preview.url);
    let (status, shown) = process.page("preview-todo42").await;
    assert!(status == 200 && shown.contains("<h1>first</h1>"), "{shown}");
    process.app.write([("index.html", page.replace("first", "second"))]).await.unwrap();
    assert!(process.page("preview-todo42").await.1.contains("<h1>second</h1>"));

    let secret = EnvChanges::new().set(EnvKey::parse("API_TOKEN").unwrap(), EnvValue::sealed("hunter2"));
    process.app.env(Environment::Production).put(&secret, None).await.unwrap();
    let outcome = process.app.deploy(Environment::Production).await.unwrap().outcome().await.unwrap();
    assert!(matches!(outcome, Outcome::Active { .. }), "{outcome}");
    assert!(process.page("todo42").await.1.contains("<h1>second</h1>"));
    let (_, list) = process.page("").await;
    assert!(list.contains("Ada’s &lt;todo&gt;") && !list.contains("<todo>"), "{list}");
    process.stop().await;

    let process = Process::start(folder.path()).await;
    assert!(process.page("todo42").await.1.contains("<h1>second</h1>"), "what is deployed is served again");
    let again = process.app.deploy(Environment::Production).await.unwrap().outcome().await.unwrap();
    assert!(matches!(again, Outcome::Active { .. }), "secrets open with the key that was kept: {again}");
    // The preview was open: whoever looks at it brings it back.
    let (status, _) = process.page("preview-todo42").await;
    assert!(matches!(status, 200 | 503), "{status}");
    for _ in 0..200 {
        let (status, shown) = process.page("preview-todo42").await;
        if status == 200 {
            assert!(shown.contains("<h1>second</h1>"), "{shown}");
            return process.stop().await;
        }
        tokio::time::sleep(Duration::from_millis(25)).await; // the page itself tries again
    }
    panic!("the preview did not come back");
}

/// What a browser gets: the page, its modules, and their values.
async fn shown(process: &Process, label: &str) -> (String, String, String) {
    let (status, page) = process.page(label).await;
    assert_eq!(status, 200, "{page}");
    let (_, script) = page.split_once("src=\"").expect("the page has a script");
    let (script, _) = script.split_once('"').unwrap();
    let (status, code) = process.get(label, script).await;
    assert_eq!(status, 200, "{code}");
    let (status, env) = process.get(label, "/overskill-env.js").await;
    assert_eq!(status, 200, "{env}");
    let body = |answer: String| answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    (body(page), body(code), body(env))
}

/// The title of a page of that label once its modules ran, in a Chromium of its own.
async fn titled(process: &Process, label: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let program = std::env::var("OVERSKILL_CHROMIUM").unwrap_or_else(|_| "chromium".to_owned());
    let port = process.platform.backends().unwrap().address().port();
    let mut chromium = tokio::process::Command::new(&program);
    chromium.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-sync",
    ]);
    chromium.args(["--disable-background-networking", "--disable-component-update", "--virtual-time-budget=10000"]);
    chromium.arg(format!("--user-data-dir={}", profile.path().display()));
    chromium.args(["--dump-dom", &format!("http://{label}.localhost:{port}/")]).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_mins(2), chromium.output()).await.expect("Chromium ends");
    let output = output.unwrap_or_else(|e| panic!("{program}: {e}; `cargo xtask setup` installs it"));
    let page = String::from_utf8_lossy(&output.stdout);
    let title = page.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>"));
    title.unwrap_or_else(|| panic!("{page}\n{}", String::from_utf8_lossy(&output.stderr))).0.to_owned()
}

/// What xtask says, else what npm says.
fn registry() -> String {
    std::env::var("NPM_CONFIG_REGISTRY").unwrap_or_else(|_| {
        let npm = std::process::Command::new("npm").args(["config", "get", "registry"]).output();
        let said = npm.expect("set NPM_CONFIG_REGISTRY to an npm registry, or install npm, which knows one").stdout;
        String::from_utf8(said).unwrap().trim().to_owned()
    })
}

async fn live(process: &Process, deployment: overskill::Deployment) -> overskill::Digest {
    let outcome = deployment.outcome().await.unwrap();
    assert!(matches!(outcome, Outcome::Active { .. }), "{outcome}");
    process.app.deployment(deployment.id()).await.unwrap().digest().unwrap()
}

/// Needs an npm registry, since builds run on a pinned bundler, and Chromium, which sees what people see.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_promoted_is_the_same_bytes_and_a_rollback_shows_on_the_next_request() {
    let folder = tempfile::tempdir().unwrap();
    let packages = NpmPackages::builder(folder.path().join("packages")).registry(registry()).build().unwrap();
    let process = Process::of(Overskill::local(folder.path()).packages(packages)).await;
    let app = &process.app;
    let page = "<!doctype html><html><head><title>Todo</title></head><body><script type=\"module\" src=\"/src/main.ts\"></script></body></html>";
    let code = |version: &str| format!("document.title = `{version} in ${{import.meta.env.VITE_PLACE}}`;\n");
    for (environment, place) in
        [(Environment::Staging, "the staging area"), (Environment::Production, "the real world")]
    {
        let value = EnvChanges::new().set(EnvKey::parse("VITE_PLACE").unwrap(), EnvValue::plain(place));
        app.env(environment).put(&value, None).await.unwrap();
    }
    app.write([("index.html", page.to_owned()), ("src/main.ts", code("version one"))]).await.unwrap();
    let staged = live(&process, app.deploy(Environment::Staging).await.unwrap()).await;
    let promoted = live(&process, app.promote(Environment::Staging, Environment::Production).await.unwrap()).await;
    assert_eq!(promoted, staged, "byte for byte");
    let (staging, production) = (shown(&process, "staging-todo42").await, shown(&process, "todo42").await);
    assert_eq!((&staging.0, &staging.1), (&production.0, &production.1), "page and code");
    assert!(staging.1.contains("version one") && !staging.1.contains("the staging area"), "{}", staging.1);
    assert!(staging.2.contains("the staging area") && !staging.2.contains("the real world"), "{}", staging.2);
    assert!(production.2.contains("the real world") && !production.2.contains("the staging area"), "{}", production.2);

    assert_eq!(titled(&process, "staging-todo42").await, "version one in the staging area");
    assert_eq!(titled(&process, "todo42").await, "version one in the real world");

    app.write([("src/main.ts", code("version two"))]).await.unwrap();
    live(&process, app.deploy(Environment::Production).await.unwrap()).await;
    assert!(shown(&process, "todo42").await.1.contains("version two"));
    assert_eq!(titled(&process, "todo42").await, "version two in the real world");
    assert!(shown(&process, "staging-todo42").await.1.contains("version one"), "staging is left alone");
    let back = live(&process, app.rollback(Environment::Production, To::LastGood).await.unwrap()).await;
    assert_eq!((back, shown(&process, "todo42").await), (staged, production), "on the next request");
    assert_eq!(titled(&process, "todo42").await, "version one in the real world");
    process.stop().await;
}

#[tokio::test]
async fn a_folder_in_use_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let first = Overskill::local(folder.path()).server(LocalOptions::new().port(0)).packages(NoPackages).await.unwrap();
    let e = Overskill::local(folder.path()).packages(NoPackages).await.unwrap_err();
    assert!(e.public_message().contains("another process"), "{e}");
    drop(first);
}
