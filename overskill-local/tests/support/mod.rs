//! A server of its own for each test, and a client that sends what it is told to.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use async_trait::async_trait;
use overskill_build::{
    compiler::{Compiler, CompilerOptions},
    packages::{DependencyResolver, PackageRequest, Prepared},
    preview::PreviewEngine,
};
use overskill_core::{
    AppFile, Artifact, ArtifactConfig, DeployRequest, DeploymentId, DeploymentTarget as _, EnvRevision, EnvSnapshot,
    Error, ErrorKind, Fence, FilePath, Incarnation, Readiness, Result, Scope, StreamPosition, SystemClock, SystemIds,
};
use overskill_local::{LocalBackends, LocalOptions};
pub use overskill_testkit::RawAnswer as Answer;
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};

/// There are no packages: apps of these tests import none.
#[derive(Debug)]
pub struct NoPackages;

#[async_trait]
impl DependencyResolver for NoPackages {
    async fn check(&self) -> Result<Readiness> {
        Ok(Readiness::ready("none"))
    }

    async fn prepare(&self, _: &PackageRequest) -> Result<Arc<Prepared>> {
        Err(Error::new(ErrorKind::Unavailable, "there are no packages here"))
    }
}

pub fn engine() -> PreviewEngine {
    static ENGINE: OnceLock<PreviewEngine> = OnceLock::new();
    ENGINE.get_or_init(|| PreviewEngine::new(Compiler::new(CompilerOptions::development()), NoPackages)).clone()
}

/// With other packages.
pub fn engine_with(packages: impl DependencyResolver) -> PreviewEngine {
    PreviewEngine::new(Compiler::new(CompilerOptions::development()), packages)
}

/// A server that runs.
pub struct Running {
    pub backends: LocalBackends,
    pub port: u16,
    stop: std::sync::Mutex<Option<oneshot::Sender<()>>>,
    pub ended: JoinHandle<Result<()>>,
    folder: Option<tempfile::TempDir>,
}

impl Running {
    /// In a folder of its own.
    pub async fn start() -> Self {
        Self::with(LocalOptions::new()).await
    }

    pub async fn with(options: LocalOptions) -> Self {
        Self::with_engine(options, engine()).await
    }

    pub async fn with_engine(options: LocalOptions, engine: PreviewEngine) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut running = Self::begun(folder.path(), options.port(0), engine).await;
        running.folder = Some(folder);
        running
    }

    /// In a folder that may have been used before.
    pub async fn again(folder: &Path, options: LocalOptions) -> Self {
        Self::begun(folder, options.port(0), engine()).await
    }

    /// Stops, and starts again at the same address.
    pub async fn restarted(self) -> Self {
        let port = self.port;
        let folder = self.stopped().await.unwrap();
        let mut running = Self::begun(folder.path(), LocalOptions::new().port(port), engine()).await;
        running.folder = Some(folder);
        running
    }

    async fn begun(folder: &Path, options: LocalOptions, engine: PreviewEngine) -> Self {
        let backends = LocalBackends::start(folder, engine, options).await.unwrap();
        let (stop, stopped) = oneshot::channel();
        let server = backends.clone();
        let ended = tokio::spawn(async move {
            let shutdown = async { drop(stopped.await) };
            server.serve(shutdown).await
        });
        let port = backends.address().port();
        Self { backends, port, stop: std::sync::Mutex::new(Some(stop)), ended, folder: None }
    }

    pub fn path(&self) -> &Path {
        self.folder.as_ref().unwrap().path()
    }

    /// Begins the shutdown.
    pub fn stop(&self) {
        drop(self.stop.lock().unwrap().take());
    }

    /// Stops and waits, and gives back the folder.
    pub async fn stopped(mut self) -> Option<tempfile::TempDir> {
        self.stop();
        tokio::time::timeout(Duration::from_secs(20), &mut self.ended).await.unwrap().unwrap().unwrap();
        self.folder.take()
    }

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
        let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.host(label));
        for (name, value) in headers {
            write!(text, "{name}: {value}\r\n").unwrap();
        }
        if !body.is_empty() || method == "POST" {
            write!(text, "content-length: {}\r\n", body.len()).unwrap();
        }
        text.push_str("\r\n");
        text.push_str(body);
        self.raw(&text).await
    }

    /// Sends bytes as they are, and reads all that comes.
    pub async fn raw(&self, text: &str) -> Answer {
        let mut stream = TcpStream::connect(self.backends.address()).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        let read = stream.read_to_end(&mut bytes);
        let _ = tokio::time::timeout(Duration::from_secs(20), read).await.expect("an answer in time");
        Answer::read(&bytes, text.starts_with("HEAD")).expect("a whole answer")
    }

    /// Deploys these files.
    pub async fn deploy(
        &self,
        scope: &str,
        fence: u64,
        files: &[(&str, &str)],
        config: ArtifactConfig,
    ) -> DeploymentId {
        let request = deployment(scope, files, config);
        let target = self.backends.target();
        let staged = target.stage(&request).await.unwrap();
        target.activate(&request, &staged, Fence::from_u64(fence)).await.unwrap();
        request.id()
    }
}

pub fn deployment(scope: &str, files: &[(&str, &str)], config: ArtifactConfig) -> DeployRequest {
    let files: BTreeMap<_, _> =
        files.iter().map(|(path, text)| (FilePath::parse(path).unwrap(), AppFile::new((*text).to_owned()))).collect();
    let artifact = Arc::new(Artifact::new(files, None, config).unwrap());
    let id = DeploymentId::generate(&SystemIds, overskill_core::Clock::now(&SystemClock));
    DeployRequest::new(id, scope.parse().unwrap(), artifact, Arc::new(env(1)))
}

pub fn env(revision: u64) -> EnvSnapshot {
    let revision = EnvRevision(StreamPosition::new(Incarnation::from_u64(0xe), revision));
    EnvSnapshot { revision, values: BTreeMap::new() }
}

pub fn scope(text: &str) -> Scope {
    text.parse().unwrap()
}
