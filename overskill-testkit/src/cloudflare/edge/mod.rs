//! The edge: workerd, configured from what the account holds, and fed with user scripts while it runs.

mod config;
mod control;
mod r2;
mod workerd;

use super::{Inner, api::bindings, lock, server};
use bytes::Bytes;
use config::{Config, Surroundings};
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use overskill_core::{Error, ErrorKind, Result};
use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{
        Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{Mutex, MutexGuard},
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use workerd::{Log, Workerd, failed};

/// An answer of the emulator's own Worker comes at once, or workerd is not well.
const ASK_LIMIT: Duration = Duration::from_secs(30);

pub(super) struct EdgeOptions {
    pub(super) port: u16,
    pub(super) max_loaded: usize,
    pub(super) folder: Option<PathBuf>,
}

pub(super) struct Edge {
    program: PathBuf,
    newest_date: String,
    folder: PathBuf,
    objects: PathBuf,
    listener: TcpListener,
    max_loaded: usize,
    log: Log,
    control: JoinHandle<()>,
    running: Mutex<Option<Running>>,
}

/// What workerd runs with.
pub(super) struct Running {
    workerd: Workerd,
    config: Config,
    revision: u64,
    routing: u64,
}

impl Edge {
    /// Listens, and answers workerd; [`follow`](Self::follow) starts it.
    pub(super) async fn new(options: EdgeOptions, inner: Weak<Inner>) -> Result<Self> {
        let program = workerd::find()?;
        let newest_date = workerd::newest_date(&program).await?;
        let folder = new_folder().map_err(|e| failed("the edge's folder could not be made", e))?;
        let objects = options.folder.unwrap_or_else(|| folder.join("objects"));
        fs::create_dir_all(&objects).map_err(|e| failed("the folder of the Durable Objects could not be made", e))?;
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], options.port)))
            .and_then(|it| it.set_nonblocking(true).map(|()| it))
            .map_err(|e| failed("the edge could not listen on loopback", e))?;
        let socket = UnixListener::bind(folder.join("control.sock")).map_err(|e| failed("no socket for workerd", e))?;
        let date = newest_date.clone();
        let control = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((stream, _)) = socket.accept().await else { continue };
                let (inner, date) = (inner.clone(), date.clone());
                let answer = move |request| {
                    let (inner, date) = (inner.clone(), date.clone());
                    async move {
                        let request = server::read(request).await?;
                        let inner = inner.upgrade().ok_or_else(|| io::Error::other("the emulator has ended"))?;
                        Ok(control::answer(&inner, &date, &request).map(server::whole))
                    }
                };
                connections.spawn(server::serve(stream, answer));
                while connections.try_join_next().is_some() {}
            }
        });
        let (max_loaded, log, running) = (options.max_loaded.max(1), Log::default(), Mutex::new(None));
        Ok(Self { program, newest_date, folder, objects, listener, max_loaded, log, control, running })
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    pub(super) fn logs(&self) -> Vec<String> {
        self.log.lines()
    }

    /// Held by whoever changes what workerd runs with.
    pub(super) async fn hold(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().await
    }

    /// Makes workerd run with what the account holds now.
    ///
    /// # Errors
    /// `Invalid`, with workerd's log, when it does not start with that.
    pub(super) async fn follow(&self, inner: &Inner, running: &mut Option<Running>) -> Result<()> {
        let (revision, routing) = {
            let state = lock(&inner.state);
            (state.revision, state.routing)
        };
        let ended = running.as_mut().is_none_or(|it| it.workerd.has_ended());
        if ended || running.as_ref().is_none_or(|it| it.revision != revision) {
            let config = config::build(
                &lock(&inner.state),
                &Surroundings {
                    control_socket: &self.folder.join("control.sock"),
                    objects: &self.objects,
                    max_loaded: self.max_loaded,
                    newest_date: &self.newest_date,
                },
            );
            match running.as_mut().filter(|it| !ended && it.config == config) {
                Some(same) => same.revision = revision,
                None => return self.start(config, revision, routing, running).await,
            }
        }
        if let Some(running) = running.as_mut().filter(|it| it.routing != routing) {
            ask(&running.workerd.admin, "/routing").await?;
            running.routing = routing;
        }
        Ok(())
    }

    /// Starts workerd anew, with what it ran with.
    pub(super) async fn restart(&self, inner: &Inner) -> Result<()> {
        let mut running = self.hold().await;
        if let Some(old) = running.take() {
            old.workerd.stop().await;
        }
        self.follow(inner, &mut running).await
    }

    pub(super) async fn memory_bytes(&self) -> Option<u64> {
        self.hold().await.as_ref()?.workerd.memory_bytes()
    }

    /// Asks the emulator's own Worker.
    pub(super) async fn admin(&self, path: &str) -> Result<Bytes> {
        let admin = self.hold().await.as_ref().map(|it| it.workerd.admin.clone());
        let admin = admin.ok_or_else(|| Error::new(ErrorKind::Unavailable, "workerd does not run"))?;
        let (status, body) = ask(&admin, path).await?;
        if status != 200 {
            let body = String::from_utf8_lossy(&body).chars().take(500).collect::<String>();
            return Err(Error::new(ErrorKind::Unexpected, "workerd refused").with("status", status).with("body", body));
        }
        Ok(body)
    }

    async fn start(&self, config: Config, revision: u64, routing: u64, running: &mut Option<Running>) -> Result<()> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        if let Some(old) = running.take() {
            old.workerd.stop().await;
        }
        let write = |name: &str, body: &[u8]| fs::write(self.folder.join(name), body);
        let written = config.files.iter().try_for_each(|(name, body)| write(name, body));
        written
            .and_then(|()| write("config.capnp", config.text.as_bytes()))
            .map_err(|e| failed("no configuration", e))?;
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        let workerd = Workerd::start(&self.program, &self.folder, nth, &self.listener, &self.log).await?;
        *running = Some(Running { workerd, config, revision, routing });
        Ok(())
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.control.abort();
        *self.running.get_mut() = None; // its keeper ends workerd and removes the folder
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A folder that nobody else can look into; its name is short, for sockets lie in it.
fn new_folder() -> io::Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let name = format!("overskill-cf-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let folder = std::env::temp_dir().join(name);
    let _ = fs::remove_dir_all(&folder); // of a process that had our number
    fs::DirBuilder::new().mode(0o700).create(&folder)?;
    Ok(folder)
}

async fn ask(admin: &Path, path: &str) -> Result<(u16, Bytes)> {
    let asking = async {
        let stream = UnixStream::connect(admin).await.map_err(|e| failed("workerd could not be asked", e))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| failed("workerd could not be asked", io::Error::other(e)))?;
        let driver = tokio::spawn(connection);
        let request = Request::builder().uri(path).header("host", "admin").body(Empty::<Bytes>::new());
        let request = request.map_err(|e| Error::invalid("bad path for workerd").caused_by(e))?;
        let broken = |e: hyper::Error| failed("workerd did not answer", io::Error::other(e));
        let answer = sender.send_request(request).await.map_err(broken)?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.map_err(broken)?.to_bytes();
        driver.abort();
        Ok((status, body))
    };
    let late = |_| Error::new(ErrorKind::Timeout, "workerd did not answer in 30 s");
    timeout(ASK_LIMIT, asking).await.map_err(late)?
}
