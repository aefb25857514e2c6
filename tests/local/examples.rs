//! The examples do what they say: their own programs, as `cargo test` builds them.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::Command,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_mins(2);

/// The program of an example. It lies beside the folder of this test's own.
fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let program: PathBuf = test.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    assert!(program.is_file(), "{name} is not built: run `cargo build --all-features --example {name}` first");
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    command
}

/// The story: a fallback, an operator who brings the app home, and an end without anything left.
#[tokio::test]
async fn fallback_story_is_told_to_its_end() {
    let told = timeout(PATIENCE, example("fallback_story").output()).await.unwrap().unwrap();
    let story = String::from_utf8(told.stdout).unwrap();
    assert!(told.status.success(), "{}: {story}", told.status);
    let mut rest = story.as_str();
    for part in [
        "A good day: live on edge",
        "The edge is down: live on servers",
        "edge: stage failed: 503 Service Unavailable",
        "servers: active as todo42-",
        "route to servers, fence 2",
        "LIVE on servers",
        "on servers, fence 2.",
        "an operator brings the app home",
        "Home again: live on edge",
        "system:story asked to deploy artifact ",
        "route to edge, fence 3",
        "on edge, fence 3.",
        "After the sweep:",
        "servers: nothing is left behind, and nothing comes late",
        "Reconciled { drift: InSync, strays: [], unknown: [] }",
    ] {
        let (_, after) = rest.split_once(part).unwrap_or_else(|| panic!("`{part}` comes next in {story}"));
        rest = after;
    }
    assert_eq!(rest.trim(), "");
}

/// An answer, as text: its head and its body.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

/// One request to a server on this machine under a name of its own; `form` makes it a POST.
async fn ask(host: &str, path: &str, cookie: &str, form: Option<&str>) -> Answer {
    let (_, port) = host.rsplit_once(':').unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port.parse::<u16>().unwrap())).await.unwrap();
    let method = if form.is_some() { "POST" } else { "GET" };
    let body = form.unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\naccept: text/html\r\ncookie: {cookie}\r\nconnection: close\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// What stands between two marks.
fn between<'t>(text: &'t str, before: &str, after: &str) -> &'t str {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("{before} is in {text}"));
    rest.split_once(after).unwrap_or_else(|| panic!("{after} is in {rest}")).0
}

/// A service with its own login: who signed in gets the editor with a live preview, and nobody else's.
#[tokio::test]
async fn embed_axum_serves_its_customers() {
    let folder = tempfile::tempdir().unwrap();
    let mut service = example("embed_axum").arg("0").arg(folder.path()).spawn().unwrap();
    let mut lines = BufReader::new(service.stdout.take().unwrap()).lines();
    let line = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().expect("it says where it is");
    let host = between(&line, "http://", " ").to_owned();

    let page = ask(&host, "/", "", None).await;
    assert!(page.status == 200 && page.body.contains("name=password"), "{}", page.body);
    let wrong = ask(&host, "/", "", Some("name=ada&password=guessed")).await;
    assert!(wrong.status == 403 && !wrong.head.contains("set-cookie"), "{}", wrong.head);
    assert_eq!(ask(&host, "/apps/adasnotes", "", None).await.status, 403, "nobody signed in");
    let signed_in = ask(&host, "/", "", Some("name=ada&password=open+sesame")).await;
    assert_eq!(signed_in.status, 303, "{}", signed_in.head);
    let cookie = between(&signed_in.head, "set-cookie: ", ";").to_owned();
    assert!(ask(&host, "/", &cookie, None).await.body.contains("/apps/adasnotes"));
    assert_eq!(ask(&host, "/apps/bobshop", &cookie, None).await.status, 403, "bob's app is not ada's");

    let editor = ask(&host, "/apps/adasnotes", &cookie, None).await;
    assert_eq!(editor.status, 200, "{}", editor.body);
    let preview = between(&editor.body, "<iframe src=\"http://", "\"").trim_end_matches('/').to_owned();
    assert!(preview.starts_with("preview-adasnotes.localhost:"), "{preview}");
    let shown = ask(&preview, "/", "", None).await;
    assert!(shown.status == 200 && shown.body.contains("<h1>A new app</h1>"), "{}", shown.body);
    assert!(shown.head.contains(&format!("http://{host}")), "this service may show it in a frame: {}", shown.head);

    let source = "source=%3C%21doctype+html%3E%3Ch1%3ENotes+of+Ada%3C%2Fh1%3E";
    assert_eq!(ask(&host, "/apps/adasnotes/page", "", Some(source)).await.status, 403, "nobody signed in");
    let saved = ask(&host, "/apps/adasnotes/page", &cookie, Some(source)).await;
    assert_eq!(saved.status, 303, "{}", saved.body);
    let shown = ask(&preview, "/", "", None).await;
    assert!(shown.body.contains("<h1>Notes of Ada</h1>"), "{}", shown.body);

    // Ctrl-C ends both servers.
    let id = service.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    assert!(timeout(PATIENCE, service.wait()).await.unwrap().unwrap().success());
    assert!(TcpStream::connect(host.replace("localhost", "127.0.0.1")).await.is_err());
}
