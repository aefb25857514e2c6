//! What deployed apps are served with; restarts and shutdowns.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use overskill_core::{
    Artifact, ArtifactConfig, DeploymentTarget as _, ErrorKind, Fence, FilePath, ObservedState, PageEnv, TargetStatus,
};
use overskill_local::{LocalBackends, LocalOptions};
use std::{io::Read as _, sync::Arc, time::Duration};
use support::{Running, deployment, engine, scope};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const PAGE: (&str, &str) = ("index.html", "<!doctype html><title>Todo</title>");

#[tokio::test]
async fn caching_follows_names_and_tags() {
    let server = Running::start().await;
    let script = ("assets/index-BqX3kJ2a.js", "console.log(1)");
    server.deploy("todo42/production", 1, &[PAGE, script], ArtifactConfig::single_page()).await;

    let page = server.page("todo42", "/").await;
    assert_eq!((page.status, page.text()), (200, PAGE.1));
    assert_eq!(page.header("cache-control"), Some("no-cache"));
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let tag = page.header("etag").unwrap();
    let again = server.ask("GET", "todo42", "/", &[("if-none-match", tag)], "").await;
    assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(tag)));

    let script = server.get("todo42", "/assets/index-BqX3kJ2a.js").await;
    assert_eq!(script.header("cache-control"), Some("public, max-age=31536000, immutable"));
    let head = server.ask("HEAD", "todo42", "/assets/index-BqX3kJ2a.js", &[], "").await;
    assert_eq!((head.status, head.body.len(), head.header("content-length")), (200, 0, Some("14")));
    let posted = server.ask("POST", "todo42", "/", &[], "x").await;
    assert_eq!((posted.status, posted.header("allow")), (405, Some("GET, HEAD")));
}

#[tokio::test]
async fn parts_of_a_file_are_answered_and_large_files_are_streamed() {
    let server = Running::start().await;
    let film = (0..60_000).fold(String::new(), |film, n| film + &format!("{n:05};"));
    let text = "words ".repeat(1000);
    let files = [PAGE, ("film.mp4", film.as_str()), ("a.txt", text.as_str())];
    server.deploy("todo42/production", 1, &files, ArtifactConfig::single_page()).await;
    let whole = server.get("todo42", "/film.mp4").await;
    assert!(whole.status == 200 && whole.text() == film, "{} bytes", whole.body.len());
    assert_eq!((whole.header("content-length"), whole.header("accept-ranges")), (Some("360000"), Some("bytes")));
    let get = async |path: &str, headers: &[(&str, &str)]| server.ask("GET", "todo42", path, headers, "").await;

    for (range, at) in
        [("bytes=0-", 0..360_000), ("bytes=100000-299999", 100_000..300_000), ("bytes=-6", 359_994..360_000)]
    {
        let part = get("/film.mp4", &[("range", range), ("accept-encoding", "gzip, br")]).await;
        assert!(part.status == 206 && part.text() == &film[at.clone()], "{range}: {} bytes", part.body.len());
        let told = format!("bytes {}-{}/360000", at.start, at.end - 1);
        assert_eq!((part.header("content-range"), part.header("content-encoding")), (Some(told.as_str()), None));
        assert_eq!(part.header("content-length"), Some((at.end - at.start).to_string().as_str()));
        assert_eq!((part.header("etag"), part.header("content-type")), (whole.header("etag"), Some("video/mp4")));
    }
    let small = get("/a.txt", &[("range", "bytes=6-10"), ("accept-encoding", "gzip")]).await;
    assert_eq!((small.status, small.text(), small.header("content-encoding")), (206, "words", None));
    let beyond = get("/a.txt", &[("range", "bytes=6000-")]).await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */6000")));
    let several = get("/a.txt", &[("range", "bytes=0-1,4-5")]).await;
    assert_eq!((several.status, several.body.len()), (200, 6000));
    let tag = whole.header("etag").unwrap();
    assert_eq!(get("/film.mp4", &[("range", "bytes=0-1"), ("if-range", tag)]).await.status, 200);
    assert_eq!(get("/film.mp4", &[("range", "bytes=0-1"), ("if-none-match", tag)]).await.status, 304);
    let head = server.ask("HEAD", "todo42", "/film.mp4", &[("range", "bytes=0-1")], "").await;
    assert_eq!((head.status, head.body.len(), head.header("content-length")), (200, 0, Some("360000")));
}

#[tokio::test]
async fn a_single_page_app_answers_for_pages_and_for_nothing_else() {
    let server = Running::start().await;
    server.deploy("todo42/production", 1, &[PAGE], ArtifactConfig::single_page()).await;
    assert_eq!(server.page("todo42", "/lists/7").await.text(), PAGE.1);
    assert_eq!(server.get("todo42", "/assets/gone-BqX3kJ2a.js").await.status, 404);
    server.deploy("todo42/staging", 1, &[PAGE, ("404.html", "lost")], ArtifactConfig::default()).await;
    let lost = server.page("staging-todo42", "/lists/7").await;
    assert_eq!((lost.status, lost.text()), (404, "lost"));
}

#[tokio::test]
async fn text_is_compressed_for_who_takes_it() {
    let server = Running::start().await;
    let text = "body { color: red }\n".repeat(500);
    server.deploy("todo42/production", 1, &[PAGE, ("a.css", &text)], ArtifactConfig::default()).await;
    let plain = server.get("todo42", "/a.css").await;
    assert_eq!((plain.text(), plain.header("content-encoding")), (text.as_str(), None));
    let gzip = server.ask("GET", "todo42", "/a.css", &[("accept-encoding", "gzip")], "").await;
    assert_eq!(gzip.header("content-encoding"), Some("gzip"));
    let mut unpacked = String::new();
    flate2::read::GzDecoder::new(gzip.body.as_slice()).read_to_string(&mut unpacked).unwrap();
    assert_eq!(unpacked, text);
    let brotli = server.ask("GET", "todo42", "/a.css", &[("accept-encoding", "gzip, br")], "").await;
    assert_eq!(brotli.header("content-encoding"), Some("br"));
    assert!(brotli.body.len() < text.len() / 10, "{} bytes", brotli.body.len());
    assert!(brotli.header("vary").unwrap().contains("accept-encoding"), "{brotli:?}");
    // The tag says that it may come compressed or not.
    let tag = brotli.header("etag").unwrap();
    assert_eq!(server.ask("GET", "todo42", "/a.css", &[("if-none-match", tag)], "").await.status, 304);
}

#[tokio::test]
async fn a_restart_serves_what_was_served_and_knows_every_version() {
    let server = Running::start().await;
    let old = server.deploy("todo42/production", 3, &[PAGE, ("a.txt", "old")], ArtifactConfig::default()).await;
    let new = server.deploy("todo42/production", 4, &[PAGE, ("a.txt", "new")], ArtifactConfig::default()).await;
    let signing = server.backends.tokens().clone();
    let folder = server.stopped().await.unwrap();

    let server = Running::again(folder.path(), LocalOptions::new()).await;
    assert_eq!(server.get("todo42", "/a.txt").await.text(), "new");
    let target = server.backends.target();
    let todo = scope("todo42/production");
    assert!(matches!(target.status(&todo, new, Fence::from_u64(4)).await.unwrap(), TargetStatus::Landed(_)));
    assert_eq!(target.status(&todo, old, Fence::from_u64(3)).await.unwrap(), TargetStatus::Superseded);
    let seen = target.observe(&todo).await.unwrap();
    assert!(seen.iter().any(|o| o.id == Some(old) && o.state == ObservedState::Previous), "{seen:?}");
    // Tokens of before are good: the key was kept.
    assert_eq!(format!("{signing:?}"), format!("{:?}", server.backends.tokens()));
    // And fences: what was overtaken stays so.
    let late = deployment("todo42/production", &[PAGE], ArtifactConfig::default());
    let staged = target.stage(&late).await.unwrap();
    let refused = target.activate(&late, &staged, Fence::from_u64(2)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn several_versions_are_kept_and_no_more() {
    let server = Running::start().await;
    let mut ids = Vec::new();
    for n in 1..=6 {
        let text = n.to_string();
        ids.push(server.deploy("todo42/production", n, &[("n.txt", &text)], ArtifactConfig::default()).await);
    }
    let target = server.backends.target();
    let mut kept: Vec<_> =
        target.observe(&scope("todo42/production")).await.unwrap().into_iter().filter_map(|o| o.id).collect();
    kept.sort();
    assert_eq!(kept, ids[2..], "the live one and three before it");
    let packs = std::fs::read_dir(server.path().join("deployments/todo42.production")).unwrap();
    let packs = packs.filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|e| e == "pack")).count();
    assert_eq!(packs, 4, "artifacts on disk");
}

#[tokio::test]
async fn a_server_module_is_for_another_target() {
    let server = Running::start().await;
    let artifact = overskill_testkit::fixtures::artifact_with_server(2, 1);
    let request = deployment("todo42/production", &[PAGE], ArtifactConfig::default());
    let request = overskill_core::DeployRequest::new(
        request.id(),
        request.scope().clone(),
        Arc::<Artifact>::new(artifact),
        request.env().clone(),
    );
    let e = server.backends.target().stage(&request).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.message().contains("static assets only"), "{e}");
}

#[tokio::test]
async fn a_shutdown_lets_requests_end_and_takes_no_more() {
    let mut server = Running::start().await;
    server.deploy("todo42/production", 1, &[PAGE], ArtifactConfig::default()).await;
    let address = server.backends.address();
    // A call whose body is still on its way.
    let mut slow = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /api/entities/Todo HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: 13\r\n\r\n",
        server.host("todo42")
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    slow.write_all(b"{\"title\"").await.unwrap();
    // And one that is idle.
    let mut idle = TcpStream::connect(address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await; // until the server read what there is
    server.stop();
    let mut nothing = Vec::new();
    tokio::time::timeout(Duration::from_secs(5), idle.read_to_end(&mut nothing)).await.unwrap().unwrap();
    assert!(nothing.is_empty(), "an idle connection was just closed");
    assert!(TcpStream::connect(address).await.is_err(), "a new connection was taken");
    assert!(!server.ended.is_finished(), "a request is still under way");
    slow.write_all(b":\"a\"}").await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(Duration::from_secs(5), slow.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    tokio::time::timeout(Duration::from_secs(5), &mut server.ended).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_shutdown_waits_only_so_long() {
    let server = Running::with(LocalOptions::new().drain(Duration::from_millis(200))).await;
    server.deploy("todo42/production", 1, &[PAGE], ArtifactConfig::default()).await;
    let mut stuck = TcpStream::connect(server.backends.address()).await.unwrap();
    let head =
        format!("POST /api/entities/Todo HTTP/1.1\r\nhost: {}\r\ncontent-length: 9\r\n\r\n", server.host("todo42"));
    stuck.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await; // until the server read what there is
    server.stopped().await;
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let start = async |options| LocalBackends::start(folder.path(), engine(), options).await.map(drop).unwrap_err();
    let e = start(LocalOptions::new().port(port)).await;
    assert_eq!(e.kind(), ErrorKind::Conflict);
    assert!(e.public_message().contains(&port.to_string()) && e.public_message().contains("0 for any"), "{e}");
    let e = start(LocalOptions::new().bind("0.0.0.0".parse().unwrap())).await;
    assert!(e.public_message().contains("allow_host"), "{e}");
    let first = LocalBackends::start(folder.path(), engine(), LocalOptions::new().port(0)).await.unwrap();
    let e = start(LocalOptions::new().port(0)).await;
    assert!(e.public_message().contains("another process"), "{e}");
    first.serve(async {}).await.unwrap();
    assert_eq!(first.serve(async {}).await.unwrap_err().kind(), ErrorKind::Conflict);
    drop(first);
    std::fs::write(folder.path().join("signing.key"), "nonsense").unwrap();
    let e = start(LocalOptions::new().port(0)).await;
    assert!(e.public_message().contains("signing.key") && !format!("{e:?}").contains("nonsense"), "{e:?}");
}

#[tokio::test]
async fn a_part_of_the_visitors_gets_the_new_version_and_each_stays_where_they_are() {
    let server = Running::start().await;
    let (app, target) = (scope("todo42/production"), server.backends.target());
    let old = [("index.html", "old"), ("assets/old.js", "1")];
    let first = server.deploy("todo42/production", 1, &old, ArtifactConfig::default()).await;
    let alone = target.share(&app, first, Fence::from_u64(1), 50).await.unwrap_err();
    assert_eq!(alone.kind(), ErrorKind::NotFound, "there is no version before");
    let new = [("index.html", "new"), ("assets/new.js", "2")];
    let second = server.deploy("todo42/production", 2, &new, ArtifactConfig::default()).await;
    assert_eq!(server.page("todo42", "/").await.header("set-cookie"), None);

    let fence = Fence::from_u64(2);
    assert_eq!(target.share(&app, second, fence, 101).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(target.share(&app, first, fence, 50).await.unwrap_err().kind(), ErrorKind::Conflict);
    target.share(&app, second, fence, 30).await.unwrap();
    assert!(matches!(target.status(&app, second, fence).await.unwrap(), TargetStatus::Landed(_)));

    let as_visitor = async |number: u8| {
        let cookie = format!("a=b; overskill_visitor={number}");
        server.ask("GET", "todo42", "/", &[("cookie", &cookie), ("accept", "text/html")], "").await
    };
    for number in 0..100 {
        let page = as_visitor(number).await;
        assert_eq!(page.text(), if number < 30 { "new" } else { "old" }, "visitor {number}");
        assert_eq!((page.header("vary"), page.header("set-cookie")), (Some("cookie"), None));
    }
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..60 {
        let page = server.page("todo42", "/").await;
        let cookie = page.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        let again = server.ask("GET", "todo42", "/", &[("cookie", &cookie), ("accept", "text/html")], "").await;
        assert_eq!(again.text(), page.text(), "{cookie}");
        seen.insert(page.text().to_owned());
    }
    assert_eq!(seen.len(), 2, "of sixty visitors each version has some");
    // A module is loaded without cookies.
    for (path, text) in [("/assets/old.js", "1"), ("/assets/new.js", "2")] {
        assert_eq!(server.get("todo42", path).await.text(), text);
    }

    let server = server.restarted().await;
    let cookie = [("cookie", "overskill_visitor=99"), ("accept", "text/html")];
    assert_eq!(server.ask("GET", "todo42", "/", &cookie, "").await.text(), "old", "it is kept over a restart");
    server.deploy("todo42/production", 3, &[("index.html", "newest")], ArtifactConfig::default()).await;
    assert_eq!(server.ask("GET", "todo42", "/", &cookie, "").await.text(), "newest", "the next one has all of them");
}

#[tokio::test]
async fn one_artifact_has_the_values_of_each_environment() {
    let server = Running::start().await;
    let module = FilePath::parse("overskill-env.js").unwrap();
    let page_env = PageEnv { module: Some(module), ..PageEnv::default() };
    let mut config = ArtifactConfig::single_page();
    config.page_env = Some(page_env);
    let files = [PAGE, ("overskill-env.js", "export default {};\n")];
    for scope in ["todo42/production", "todo42/staging"] {
        server.deploy(scope, 1, &files, config.clone()).await;
    }
    let (production, staging) =
        (server.get("todo42", "/overskill-env.js").await, server.get("staging-todo42", "/overskill-env.js").await);
    assert!(production.text().contains("\"MODE\":\"production\""), "{}", production.text());
    assert!(staging.text().contains("\"MODE\":\"staging\""), "{}", staging.text());
    let tag = production.header("etag").unwrap();
    assert_ne!(staging.header("etag"), Some(tag));
    let again = server.ask("GET", "todo42", "/overskill-env.js", &[("if-none-match", tag)], "").await;
    assert_eq!((again.status, again.header("cache-control")), (304, Some("no-cache")));
}
