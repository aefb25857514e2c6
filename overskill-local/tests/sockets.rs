//! Previews through their sockets: who is let in, what arrives, what comes after a cut.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use futures::{SinkExt as _, StreamExt as _};
use overskill_core::{
    AppFile, Changes, EnvKey, EnvValue, FilePath, Incarnation, PreviewHost as _, PreviewStatus, Snapshot,
    StreamPosition, Update,
};
use overskill_local::LocalOptions;
use serde_json::Value;
use std::{collections::BTreeMap, time::Duration};
use support::{Running, env, scope};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error as WsError, Message, client::IntoClientRequest as _, protocol::frame::coding::CloseCode},
};

type Socket = WebSocketStream<TcpStream>;

const TODO: &str = "todo42/preview";

fn at(seq: u64) -> StreamPosition {
    StreamPosition::new(Incarnation::from_u64(0xf1), seq)
}

fn path(path: &str) -> FilePath {
    FilePath::parse(path).unwrap()
}

fn sources(position: StreamPosition) -> Snapshot {
    let files: BTreeMap<_, _> = [
        ("index.html", "<!doctype html><html><head><title>Todo</title></head><body><script type=\"module\" src=\"/src/main.ts\"></script></body></html>"),
        ("src/main.ts", "import { n } from './n';\ndocument.title = String(n);\nimport.meta.hot?.accept('./n', () => {});\n"),
        ("src/n.ts", "export const n: number = 0;\n"),
        ("public/note.txt", "a note"),
    ]
    .into_iter()
    .map(|(at, text)| (path(at), AppFile::new(text)))
    .collect();
    Snapshot::new(position, files)
}

async fn opened(server: &Running) {
    server.backends.previews().open(&scope(TODO), &sources(at(1)), &env(1)).await.unwrap();
}

async fn edit(server: &Running, n: u64) {
    let changes = Changes::new().put(path("src/n.ts"), format!("export const n: number = {n};\n"));
    let update = server.backends.previews().apply(&scope(TODO), at(n), at(n + 1), &changes).await.unwrap();
    assert_eq!(update, Update::Applied);
}

/// What the page was told about its socket.
async fn config(server: &Running) -> Value {
    let page = server.page("preview-todo42", "/").await;
    assert_eq!(page.status, 200, "{}", page.text());
    let config = page.text().split("id=\"overskill-preview\"").nth(1).unwrap();
    let config = config.split_once('>').unwrap().1.split('<').next().unwrap();
    serde_json::from_str(config).unwrap()
}

async fn connect(server: &Running, query: &str, headers: &[(&'static str, String)]) -> Result<Socket, u16> {
    let address = format!("ws://{}/@overskill/socket?{query}", server.host("preview-todo42"));
    let mut request = address.into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let stream = TcpStream::connect(server.backends.address()).await.unwrap();
    match client_async(request, stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(WsError::Http(answer)) => Err(answer.status().as_u16()),
        Err(e) => panic!("{e}"),
    }
}

async fn next(socket: &mut Socket) -> Value {
    let message = tokio::time::timeout(Duration::from_secs(10), socket.next()).await.expect("a message in time");
    serde_json::from_str(message.unwrap().unwrap().to_text().unwrap()).unwrap()
}

/// Connected, and told so.
async fn joined(server: &Running, query: &str) -> Socket {
    let mut socket = connect(server, query, &[]).await.unwrap();
    assert_eq!(next(&mut socket).await["type"], "connected");
    socket
}

async fn token(server: &Running) -> String {
    format!("token={}", config(server).await["token"].as_str().unwrap())
}

#[tokio::test]
async fn only_the_previews_own_page_may_connect() {
    let server = Running::start().await;
    opened(&server).await;
    let token = token(&server).await;
    let own = format!("http://{}", server.host("preview-todo42"));
    assert_eq!(connect(&server, "", &[]).await.err(), Some(403), "without a token");
    assert_eq!(connect(&server, "token=", &[]).await.err(), Some(403));
    assert_eq!(connect(&server, &format!("{token}0"), &[]).await.err(), Some(403), "with another token");
    for origin in ["http://evil.test", "null", &format!("http://{}", server.host("other"))] {
        let refused = connect(&server, &token, &[("origin", origin.to_owned())]).await.err();
        assert_eq!(refused, Some(403), "from {origin}");
    }
    assert_eq!(connect(&server, &format!("{token}&incarnation=x&seq=1"), &[]).await.err(), Some(400));
    assert_eq!(connect(&server, &format!("{token}&seq=1"), &[]).await.err(), Some(400));
    let mut socket = connect(&server, &token, &[("origin", own)]).await.unwrap();
    assert_eq!(next(&mut socket).await["type"], "connected");
    // Another preview's token opens nothing here.
    server.backends.previews().open(&scope("other/preview"), &sources(at(1)), &env(1)).await.unwrap();
    let theirs = server.page("preview-other", "/").await;
    assert!(!theirs.text().contains(token.strip_prefix("token=").unwrap()), "two previews have one token");
    let plain = server.get("preview-todo42", &format!("/@overskill/socket?{token}")).await;
    assert_eq!(plain.status, 426);
}

#[tokio::test]
async fn updates_arrive_in_order_and_pings_are_answered() {
    let server = Running::start().await;
    opened(&server).await;
    let query = token(&server).await;
    let (mut one, mut two) = (joined(&server, &query).await, joined(&server, &query).await);
    for n in 1..=20 {
        edit(&server, n).await;
    }
    for socket in [&mut one, &mut two] {
        for n in 1..=20 {
            let message = next(socket).await;
            assert_eq!((&message["type"], seq(&message)), (&"update".into(), Some(n + 1)), "{message}");
        }
    }
    one.send(Message::text("{\"type\":\"ping\"}")).await.unwrap();
    assert_eq!(next(&mut one).await["type"], "pong");
    let status = server.backends.previews().status(&scope(TODO)).await.unwrap();
    assert!(matches!(status, PreviewStatus::Open { viewers: 2, .. }), "{status:?}");
    drop(one);
    two.close(None).await.unwrap();
    for _ in 0..100 {
        let status = server.backends.previews().status(&scope(TODO)).await.unwrap();
        if matches!(status, PreviewStatus::Open { viewers: 0, .. }) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await; // until the server has read that they left
    }
    panic!("viewers who left are still counted");
}

/// The position of a message, in either form that the client takes.
fn seq(message: &Value) -> Option<u64> {
    let position = &message["position"];
    position["seq"].as_u64().or_else(|| position.as_str()?.rsplit(':').next()?.parse().ok())
}

#[tokio::test]
async fn after_a_cut_what_was_missed_arrives_in_order() {
    let server = Running::start().await;
    opened(&server).await;
    let query = token(&server).await;
    let mut socket = joined(&server, &query).await;
    edit(&server, 1).await;
    assert_eq!(seq(&next(&mut socket).await), Some(2));
    drop(socket);
    for n in 2..=21 {
        edit(&server, n).await;
    }
    let mut socket = joined(&server, &format!("{query}&incarnation=f1&seq=2")).await;
    for n in 2..=21 {
        let message = next(&mut socket).await;
        assert_eq!((&message["type"], seq(&message)), (&"update".into(), Some(n + 1)), "{message}");
    }
    edit(&server, 22).await;
    assert_eq!(seq(&next(&mut socket).await), Some(23), "what comes later comes once");
    // Of another life there is nothing to catch up from.
    let mut socket = joined(&server, &format!("{query}&incarnation=abc&seq=2")).await;
    assert_eq!(next(&mut socket).await["type"], "full-reload");
}

#[tokio::test]
async fn a_restart_keeps_open_pages_and_says_that_it_is_empty() {
    let server = Running::start().await;
    opened(&server).await;
    let query = token(&server).await;
    let mut socket = joined(&server, &query).await;
    let folder = server.stopped().await.unwrap();
    let goodbye = socket.next().await.unwrap().unwrap();
    assert!(matches!(&goodbye, Message::Close(Some(frame)) if frame.code == CloseCode::Away), "{goodbye:?}");

    let server = Running::again(folder.path(), LocalOptions::new()).await;
    let previews = server.backends.previews();
    assert_eq!(previews.status(&scope(TODO)).await.unwrap(), PreviewStatus::Closed, "nobody looks");
    assert_eq!(connect(&server, &query, &[]).await.err(), Some(503));
    let page = server.page("preview-todo42", "/").await;
    assert_eq!((page.status, page.header("retry-after")), (503, Some("1")));
    assert!(page.text().contains("http-equiv=\"refresh\""), "{}", page.text());
    assert_eq!(previews.status(&scope(TODO)).await.unwrap(), PreviewStatus::Empty);
    assert_eq!(previews.next_empty().await, scope(TODO));
    previews.open(&scope(TODO), &sources(at(1)), &env(1)).await.unwrap();
    joined(&server, &format!("{query}&incarnation=f1&seq=1")).await; // with the token of before
    assert_eq!(server.page("preview-never", "/").await.status, 404);
    assert_eq!(previews.status(&scope("never/preview")).await.unwrap(), PreviewStatus::Closed);
}

#[tokio::test]
async fn a_viewer_who_takes_nothing_is_cut_and_the_others_are_not() {
    let server = Running::start().await;
    // A long name makes large messages, which fill the system's buffers sooner.
    let name = format!("{}/n", "d".repeat(400));
    let mut snapshot = sources(at(1));
    let main =
        format!("import {{ n }} from './{name}';\nimport.meta.hot?.accept('./{name}', () => {{}});\nconsole.log(n);\n");
    snapshot.files.insert(path("src/main.ts"), AppFile::new(main));
    snapshot.files.insert(path(&format!("src/{name}.ts")), AppFile::new("export const n = 0;\n"));
    let previews = server.backends.previews();
    previews.open(&scope(TODO), &snapshot, &env(1)).await.unwrap();
    let query = token(&server).await;
    let mut quick = joined(&server, &query).await;
    let narrow = tokio::net::TcpSocket::new_v4().unwrap();
    narrow.set_recv_buffer_size(4096).unwrap();
    let stream = narrow.connect(server.backends.address()).await.unwrap();
    let address = format!("ws://{}/@overskill/socket?{query}", server.host("preview-todo42"));
    let (slow, _) = client_async(address, stream).await.unwrap(); // never read from
    let mut cut_after = None;
    for n in 1..20_000 {
        let changes = Changes::new().put(path(&format!("src/{name}.ts")), format!("export const n = {n};\n"));
        assert_eq!(previews.apply(&scope(TODO), at(n), at(n + 1), &changes).await.unwrap(), Update::Applied);
        let message = next(&mut quick).await;
        assert_eq!(seq(&message), Some(n + 1), "the other viewer gets each message, in order");
        if matches!(previews.status(&scope(TODO)).await.unwrap(), PreviewStatus::Open { viewers: 1, .. }) {
            cut_after = Some(n);
            break;
        }
    }
    assert!(cut_after.is_some_and(|n| n > 256), "cut after {cut_after:?} messages, of which 256 may wait");
    drop(slow);
}

#[tokio::test]
async fn a_closed_preview_lets_its_viewers_go() {
    let server = Running::start().await;
    opened(&server).await;
    let mut socket = joined(&server, &token(&server).await).await;
    assert_eq!(server.get("preview-todo42", "/note.txt").await.text(), "a note");
    server.backends.previews().close(&scope(TODO)).await.unwrap();
    let goodbye = tokio::time::timeout(Duration::from_secs(5), socket.next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(&goodbye, Message::Close(Some(frame)) if frame.reason.contains("closed")), "{goodbye:?}");
    assert_eq!(server.page("preview-todo42", "/").await.status, 404);
}

#[tokio::test]
async fn a_preview_has_its_apps_data_and_no_path_leaves_it() {
    let server = Running::start().await;
    opened(&server).await;
    let made = server
        .ask("POST", "preview-todo42", "/api/entities/Todo", &[("content-type", "application/json")], "{\"t\":1}")
        .await;
    assert_eq!(made.status, 201, "{}", made.text());
    for path in
        ["/../socket.key", "/%2e%2e/socket.key", "/%252e%252e/socket.key", "/..%2f..%2fsocket.key", "//socket.key"]
    {
        let answer = server.get("preview-todo42", path).await;
        assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.status);
    }
    let page = server.page("preview-todo42", "/").await;
    assert_eq!(page.header("cross-origin-resource-policy"), Some("same-origin"));
    assert_eq!(server.ask("POST", "preview-todo42", "/", &[], "x").await.status, 405);
}

#[tokio::test]
async fn a_server_that_is_dropped_takes_its_sockets_along() {
    let server = Running::start().await;
    opened(&server).await;
    let mut socket = joined(&server, &token(&server).await).await;
    server.ended.abort();
    let goodbye = tokio::time::timeout(Duration::from_secs(5), socket.next()).await.expect("an end in time");
    assert!(!matches!(goodbye, Some(Ok(Message::Text(_)))), "{goodbye:?}");
}

#[tokio::test]
async fn a_page_that_missed_a_reload_without_a_new_position_is_told_when_it_comes_back() {
    let server = Running::start().await;
    opened(&server).await;
    let before = config(&server).await;
    let (token, standing) = (token(&server).await, "incarnation=f1&seq=1");
    let mut there = joined(&server, &token).await;
    let mut other = env(2);
    other.values.insert(EnvKey::parse("VITE_TITLE").unwrap(), EnvValue::plain("Other"));
    server.backends.previews().open(&scope(TODO), &sources(at(1)), &other).await.unwrap();
    let told = next(&mut there).await;
    assert_eq!((&told["type"], seq(&told)), (&"full-reload".into(), None), "{told}");
    let after = config(&server).await;
    assert_eq!(before["position"], after["position"]);

    let mut cut = joined(&server, &format!("{token}&{standing}&epoch={}", before["epoch"])).await;
    let told = next(&mut cut).await;
    assert_eq!((&told["type"], seq(&told)), (&"full-reload".into(), None), "{told}");
    let mut loaded = joined(&server, &format!("{token}&{standing}&epoch={}", after["epoch"])).await;
    loaded.send(Message::text("{\"type\":\"ping\"}")).await.unwrap();
    assert_eq!(next(&mut loaded).await["type"], "pong", "nothing before");
    assert_eq!(connect(&server, &format!("{token}&{standing}&epoch=x"), &[]).await.err(), Some(400));
}
