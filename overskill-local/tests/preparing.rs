//! Previews whose packages are still on their way; and several that are filled again at once.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use futures::{SinkExt as _, StreamExt as _, poll};
use overskill_build::packages::{DependencyResolver, PackageRequest, Prepared};
use overskill_core::{
    AppFile, Changes, Error, ErrorKind, FilePath, Incarnation, PreviewHost as _, PreviewStatus, ProgressEvent,
    ProgressKind, ProgressSink, Readiness, Scope, Snapshot, StreamPosition, Update,
};
use overskill_local::LocalOptions;
use serde_json::Value;
use std::{
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use support::{Answer, Running, engine_with, env, scope};
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

const TODO: &str = "todo42/preview";
const LABEL: &str = "preview-todo42";

/// Packages that cannot be had, which is known once the test says so.
#[derive(Debug)]
struct Late {
    asked: AtomicUsize,
    waiting: watch::Sender<usize>,
    answers: watch::Sender<bool>,
}

/// One who waits, until it is dropped.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}

#[async_trait::async_trait]
impl DependencyResolver for Late {
    async fn check(&self) -> Result<Readiness, Error> {
        Ok(Readiness::ready("late"))
    }

    async fn prepare(&self, _: &PackageRequest) -> Result<Arc<Prepared>, Error> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.waiting.send_modify(|waiting| *waiting += 1);
        let _waiting = Waiting(&self.waiting);
        self.answers.subscribe().wait_for(|answers| *answers).await.unwrap();
        Err(Error::new(ErrorKind::Unavailable, "the registry cannot be reached"))
    }
}

/// Passes on how openings end.
#[derive(Debug)]
struct Endings(mpsc::UnboundedSender<ProgressKind>);

impl ProgressSink for Endings {
    fn emit(&self, event: ProgressEvent) {
        if event.kind.is_terminal() {
            self.0.send(event.kind).unwrap();
        }
    }
}

struct Held {
    server: Arc<Running>,
    late: Arc<Late>,
    endings: mpsc::UnboundedReceiver<ProgressKind>,
}

impl Held {
    async fn start() -> Self {
        let late =
            Late { asked: AtomicUsize::new(0), waiting: watch::Sender::new(0), answers: watch::Sender::new(false) };
        let (late, (sender, endings)) = (Arc::new(late), mpsc::unbounded_channel());
        let options = LocalOptions::new().progress(Endings(sender));
        let server = Running::with_engine(options, engine_with(late.clone())).await;
        Self { server: Arc::new(server), late, endings }
    }

    /// In a page of its own, as it may have to wait.
    fn get(&self, path: &'static str) -> JoinHandle<Answer> {
        let server = self.server.clone();
        tokio::spawn(async move { server.get(LABEL, path).await })
    }

    async fn open(&self) {
        self.server.backends.previews().open(&scope(TODO), &sources(at(1)), &env(1)).await.unwrap();
    }

    async fn edit(&self, n: u64, file: &str, text: &str) {
        let changes = Changes::new().put(path(file), text.to_owned());
        let update = self.server.backends.previews().apply(&scope(TODO), at(n), at(n + 1), &changes).await.unwrap();
        assert_eq!(update, Update::Applied);
    }

    async fn socket(&self) -> WebSocketStream<TcpStream> {
        let page = self.server.page(LABEL, "/").await;
        let config = page.text().split("id=\"overskill-preview\"").nth(1).unwrap();
        let config: Value = serde_json::from_str(config.split(['<', '>']).nth(1).unwrap()).unwrap();
        let token = config["token"].as_str().unwrap();
        let address = format!("ws://{}/@overskill/socket?token={token}", self.server.host(LABEL));
        let stream = TcpStream::connect(self.server.backends.address()).await.unwrap();
        let (mut socket, _) = client_async(address, stream).await.unwrap();
        assert_eq!(next(&mut socket).await["type"], "connected");
        socket
    }
}

fn at(seq: u64) -> StreamPosition {
    StreamPosition::new(Incarnation::from_u64(0xf1), seq)
}

fn path(path: &str) -> FilePath {
    FilePath::parse(path).unwrap()
}

fn sources(position: StreamPosition) -> Snapshot {
    let files = [
        (
            "index.html",
            "<!doctype html><html><head></head><body><script type=\"module\" src=\"/src/main.ts\"></script></body></html>",
        ),
        ("package.json", "{\"dependencies\":{\"left-pad\":\"1.3.0\"}}"),
        (
            "src/main.ts",
            "import pad from 'left-pad';\nimport { n } from './n';\nconsole.log(pad, n);\nimport.meta.hot?.accept('./n', () => {});\n",
        ),
        ("src/n.ts", "export const n: number = 0;\n"),
        ("public/note.txt", "a note"),
    ];
    Snapshot::new(position, files.into_iter().map(|(at, text)| (path(at), AppFile::new(text))).collect())
}

async fn next(socket: &mut WebSocketStream<TcpStream>) -> Value {
    let message = in_time(socket.next()).await;
    serde_json::from_str(message.unwrap().unwrap().to_text().unwrap()).unwrap()
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("an end in time")
}

#[tokio::test]
async fn a_page_is_there_before_its_packages_and_hears_that_they_cannot_be_had() {
    let mut held = Held::start().await;
    held.open().await;
    let previews = held.server.backends.previews();
    let mut ready = pin!(async { previews.ready(&scope(TODO)).await });
    assert!(poll!(&mut ready).is_pending());
    let (mut one, mut two) = (held.socket().await, held.socket().await);
    let waits = [held.get("/src/main.ts"), held.get("/src/main.ts")];
    for (path, part) in [("/", "/src/main.ts"), ("/src/n.ts", "n = 0"), ("/note.txt", "a note")] {
        let answer = held.server.page(LABEL, path).await;
        assert!(answer.status == 200 && answer.text().contains(part), "{path}: {answer:?}");
    }
    assert!(matches!(previews.status(&scope(TODO)).await.unwrap(), PreviewStatus::Open { viewers: 2, .. }));
    held.edit(1, "src/n.ts", "export const n: number = 1;\n").await;
    for socket in [&mut one, &mut two] {
        assert_eq!(next(socket).await["type"], "update");
    }
    assert!(waits.iter().all(|wait| !wait.is_finished()) && held.endings.try_recv().is_err());
    assert_eq!(previews.problems(&scope(TODO)), Some(Vec::new()), "none is known yet");

    held.late.answers.send_replace(true);
    assert!(in_time(&mut ready).await);
    for wait in waits {
        let answer = in_time(wait).await.unwrap();
        assert!(answer.status == 200 && answer.text().contains("the registry cannot be reached"), "{answer:?}");
    }
    assert_eq!(in_time(held.endings.recv()).await, Some(ProgressKind::Completed));
    for socket in [&mut one, &mut two] {
        let told = next(socket).await;
        assert_eq!(told["type"], "error", "{told}");
        socket.send(Message::text("{\"type\":\"ping\"}")).await.unwrap();
        assert_eq!(next(socket).await["type"], "pong", "it is told once");
    }
    assert_eq!(next(&mut held.socket().await).await["type"], "error", "and who comes later hears it, too");
    assert_eq!(held.late.asked.load(Ordering::SeqCst), 1);
    held.open().await;
    assert_eq!(held.late.asked.load(Ordering::SeqCst), 2, "packages that could not be had are tried again");
}

#[tokio::test]
async fn a_preview_that_is_closed_meanwhile_prepares_nothing_any_more() {
    let mut held = Held::start().await;
    held.open().await;
    let wait = held.get("/src/main.ts");
    in_time(held.late.waiting.subscribe().wait_for(|waiting| *waiting == 1)).await.unwrap();
    held.server.backends.previews().close(&scope(TODO)).await.unwrap();
    assert_eq!(in_time(wait).await.unwrap().status, 404);
    in_time(held.late.waiting.subscribe().wait_for(|waiting| *waiting == 0)).await.unwrap();
    assert_eq!(in_time(held.endings.recv()).await, Some(ProgressKind::Cancelled));
    assert!(!held.server.backends.previews().ready(&scope(TODO)).await);
    // Opened again, it begins anew.
    held.open().await;
    in_time(held.late.waiting.subscribe().wait_for(|waiting| *waiting == 1)).await.unwrap();
    assert_eq!(held.server.page(LABEL, "/").await.status, 200);
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_packages() {
    let held = Held::start().await;
    held.open().await;
    let wait = held.get("/src/main.ts");
    for _ in 0..3 {
        assert_eq!(held.server.page(LABEL, "/").await.status, 200, "until its request was surely read");
    }
    let Held { server, late, .. } = held;
    server.stop();
    let answer = in_time(wait).await;
    assert!(answer.is_ok_and(|answer| answer.status == 503));
    in_time(Arc::into_inner(server).unwrap().stopped()).await;
    in_time(late.waiting.subscribe().wait_for(|waiting| *waiting == 0)).await.unwrap();
}

#[tokio::test]
async fn an_opening_that_was_given_up_leaves_no_preview() {
    let held = Held::start().await;
    let previews = held.server.backends.previews();
    let (todo, snapshot, env) = (scope(TODO), sources(at(1)), env(1));
    {
        let mut opening = pin!(previews.open(&todo, &snapshot, &env));
        assert!(poll!(&mut opening).is_pending());
        assert_eq!(held.server.page(LABEL, "/").await.status, 503, "it is being opened");
    }
    assert_eq!(held.server.page(LABEL, "/").await.status, 404, "it is not being opened any more");
    let json = [("content-type", "application/json")];
    assert_eq!(held.server.ask("POST", LABEL, "/api/entities/Todo", &json, "{}").await.status, 404);
    assert_eq!(previews.status(&todo).await.unwrap(), PreviewStatus::Closed);
    previews.open(&todo, &snapshot, &env).await.unwrap();
    assert_eq!(held.server.page(LABEL, "/").await.status, 200);
}

#[tokio::test]
async fn lost_previews_are_filled_again_several_at_once_and_each_once() {
    let server = Running::start().await;
    let names = ["one", "two", "three", "four", "five"];
    for name in names {
        let scope = scope(&format!("{name}/preview"));
        server.backends.previews().open(&scope, &sources(at(1)), &env(1)).await.unwrap();
    }
    let server = server.restarted().await;
    let previews = server.backends.previews();
    // The first hangs, the second cannot be had: the others do not wait for them.
    let look = async |name: &str| server.page(&format!("preview-{name}"), "/").await.status;
    let asked = Mutex::new(Vec::new());
    let refill = |scope: Scope| {
        asked.lock().unwrap().push(scope.app.to_string());
        let previews = previews.clone();
        async move {
            match scope.app.as_str() {
                "one" => std::future::pending().await,
                "two" => {}
                _ => drop(previews.open(&scope, &sources(at(1)), &env(1)).await.unwrap()),
            }
        }
    };
    let looking = async {
        for name in names.iter().cycle() {
            look(name).await;
            if look("three").await == 200 && look("four").await == 200 && look("five").await == 200 {
                break;
            }
        }
        for _ in 0..3 {
            assert_eq!((look("one").await, look("two").await), (503, 503));
        }
    };
    tokio::select! {
        () = previews.refill_each(refill) => panic!("it never ends"),
        () = in_time(looking) => {}
    }
    let asked = asked.into_inner().unwrap();
    let times = |name: &str| asked.iter().filter(|it| *it == name).count();
    assert_eq!(["one", "three", "four", "five"].map(times), [1; 4], "{asked:?}");
    assert!(times("two") > 1, "who could not be filled is tried again: {asked:?}");
}
