//! The whole platform on one machine: previews, deploys and data behind one server, and all of it there after a restart.
#![cfg(feature = "local")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use overskill::{
    AppHandle, AppId, AppRecord, EnvChanges, EnvKey, EnvValue, Environment, Error, ErrorKind, Outcome, Overskill,
    Readiness, Result, Sources, SystemScopes, Timestamp,
    build::packages::{DependencyResolver, PackageRequest, Prepared},
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
        let server = LocalOptions::new().port(0);
        let platform = Overskill::local(folder).server(server).packages(NoPackages).await.unwrap();
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
        let address = self.platform.backends().unwrap().address();
        let host = if label.is_empty() { "localhost".to_owned() } else { format!("{label}.localhost") };
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET / HTTP/1.1\r\nhost: {host}:{}\r\naccept: text/html\r\nconnection: close\r\n\r\n",
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

#[tokio::test]
async fn a_folder_in_use_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let first = Overskill::local(folder.path()).server(LocalOptions::new().port(0)).packages(NoPackages).await.unwrap();
    let e = Overskill::local(folder.path()).packages(NoPackages).await.unwrap_err();
    assert!(e.public_message().contains("another process"), "{e}");
    drop(first);
}
