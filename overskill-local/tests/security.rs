//! What must not get in, and must not get out.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use overskill_core::{AppDirectory as _, AppId, AppRecord, ArtifactConfig, Timestamp, memory::MemoryApps};
use overskill_local::LocalOptions;
use support::Running;

const PAGE: (&str, &str) = ("index.html", "<!doctype html><title>Todo</title>");

async fn deployed() -> Running {
    let server = Running::start().await;
    let files = [PAGE, ("%2e%2e", "a file with a strange name"), ("a b/ü.txt", "text")];
    server.deploy("todo42/production", 1, &files, ArtifactConfig::default()).await;
    server.deploy("other/production", 1, &[PAGE, ("secret.txt", "theirs")], ArtifactConfig::default()).await;
    server
}

#[tokio::test]
async fn no_path_leaves_the_app() {
    let server = deployed().await;
    assert_eq!(server.get("todo42", "/a%20b/%C3%BC.txt").await.text(), "text");
    // Decoded once: twice would make `..` of it.
    assert_eq!(server.get("todo42", "/%252e%252e").await.text(), "a file with a strange name");
    for path in [
        "/../signing.key",
        "/..%2fsigning.key",
        "/%2e%2e/signing.key",
        "/%2e%2e%2f%2e%2e%2fsigning.key",
        "/%252e%252e/signing.key",
        "/..%252f..%252fsigning.key",
        "/....//signing.key",
        "/..;/signing.key",
        "/../other.production/versions.json",
        "/../todo42.production/versions.json",
        "/versions.json",
        "//etc/passwd",
        "/%2fetc/passwd",
        "/./index.html",
        "/file:///etc/passwd",
        "/secret.txt",
    ] {
        let answer = server.get("todo42", path).await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
    }
    for path in ["/%00", "/index.html%00.txt", "/..%5csigning.key", "/%ff", "/a%0d%0aset-cookie:x"] {
        let answer = server.get("todo42", path).await;
        assert_eq!(answer.status, 400, "{path}");
        assert_eq!(answer.header("set-cookie"), None, "{path}");
    }
}

#[tokio::test]
async fn foreign_hosts_are_refused() {
    let server = deployed().await;
    let port = server.port;
    let asked =
        async |host: &str| server.raw(&format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")).await;
    for host in ["evil.test", "localhost", "todo42.localhost", "todo42.localhost:1", "localhost.evil.test"] {
        let answer = asked(host).await;
        assert_eq!(answer.status, 421, "{host}");
        assert!(answer.text().contains(&format!("http://localhost:{port}/")), "{}", answer.text());
    }
    for host in
        [format!("evil.test:{port}"), format!("todo42.localhost.evil.test:{port}"), format!("169.254.1.1:{port}")]
    {
        assert_eq!(asked(&host).await.status, 421, "{host}");
    }
    let two = format!("GET / HTTP/1.1\r\nhost: {0}\r\nhost: {0}\r\nconnection: close\r\n\r\n", server.host("todo42"));
    assert_eq!(server.raw(&two).await.status, 400);
    assert_eq!(server.raw("GET / HTTP/1.0\r\n\r\n").await.status, 400);
    let contradiction = format!(
        "GET http://{}/ HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
        server.host("other"),
        server.host("todo42")
    );
    assert_eq!(server.raw(&contradiction).await.status, 400);
    assert_eq!(server.page("www", "/").await.status, 404);
    assert_eq!(server.page("nothere", "/").await.status, 404);
}

#[tokio::test]
async fn an_allowed_name_is_answered_and_named_in_addresses() {
    let options = LocalOptions::new().allow_host("box.lan").unwrap();
    let server = Running::with(options).await;
    let port = server.port;
    server.deploy("todo42/production", 1, &[PAGE], ArtifactConfig::default()).await;
    assert_eq!(server.backends.url().as_str(), format!("http://box.lan:{port}"));
    for host in ["todo42.box.lan", "todo42.localhost"] {
        let text = format!("GET / HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: close\r\n\r\n");
        assert_eq!(server.raw(&text).await.text(), PAGE.1, "{host}");
    }
}

#[tokio::test]
async fn other_origins_may_neither_write_nor_read_data() {
    let server = deployed().await;
    let own = format!("http://{}", server.host("todo42"));
    let json = ("content-type", "application/json");
    let post = async |more: (&str, &str)| {
        server.ask("POST", "todo42", "/api/entities/Todo", &[json, more], "{\"title\":\"x\"}").await.status
    };
    assert_eq!(post(("origin", &own)).await, 201);
    assert_eq!(post(("x-none", "1")).await, 201, "what no browser sent has no origin");
    for origin in ["null", "http://evil.test", &format!("http://{}", server.host("other")), "https://localhost"] {
        assert_eq!(post(("origin", origin)).await, 403, "{origin}");
    }
    assert_eq!(post(("sec-fetch-site", "cross-site")).await, 403);
    assert_eq!(post(("sec-fetch-site", "same-site")).await, 403);
    // Reading through a script tag of another page.
    let read = server.ask("GET", "todo42", "/api/entities/Todo", &[("sec-fetch-site", "same-site")], "").await;
    assert_eq!(read.status, 403);
    let read = server.get("todo42", "/api/entities/Todo").await;
    assert_eq!(read.json()["items"].as_array().unwrap().len(), 2);
    assert_eq!(read.header("cross-origin-resource-policy"), Some("same-origin"));
}

#[tokio::test]
async fn every_answer_has_its_guards() {
    let options = LocalOptions::new().embeddable_by("http://localhost:3000").unwrap();
    let server = Running::with(options).await;
    server.deploy("todo42/production", 1, &[PAGE], ArtifactConfig::default()).await;
    for (label, path) in [("", "/"), ("todo42", "/"), ("todo42", "/gone"), ("preview-todo42", "/"), ("www", "/")] {
        let answer = server.page(label, path).await;
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{label} {path}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("frame-ancestors 'self' http://localhost:3000"), "{label} {path}: {policy}");
    }
}

#[tokio::test]
async fn names_with_markup_do_nothing_in_the_list() {
    let (todo, apps) = (AppId::parse("todo42").unwrap(), MemoryApps::new());
    let evil = "<script>alert(1)</script>\"><img src=x onerror=alert(2)>";
    apps.put(&AppRecord::new(todo, evil, Timestamp::EPOCH)).await.unwrap();
    let server = Running::with(LocalOptions::new().directory(apps)).await;
    server.deploy("todo42/production", 1, &[PAGE], ArtifactConfig::default()).await;
    let list = server.page("", "/").await;
    assert_eq!(list.status, 200);
    assert!(list.text().contains("&lt;script&gt;alert(1)"), "{}", list.text());
    assert!(!list.text().contains("<script") && !list.text().contains("<img"), "{}", list.text());
    assert!(list.text().contains(&format!("href=\"http://todo42.localhost:{}\"", server.port)), "{}", list.text());
    assert!(list.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    // What a path says is not repeated as markup either.
    let nowhere = server.page("", "/<script>alert(3)</script>").await;
    assert!(!nowhere.text().contains("<script"), "{}", nowhere.text());
}

#[tokio::test]
async fn large_bodies_and_apps_that_do_not_exist_are_refused() {
    let server = Running::with(LocalOptions::new().max_body_bytes(1_000)).await;
    server.deploy("todo42/production", 1, &[PAGE], ArtifactConfig::default()).await;
    let json = [("content-type", "application/json")];
    let large = format!("{{\"t\":\"{}\"}}", "x".repeat(2_000));
    let answer = server.ask("POST", "todo42", "/api/entities/Todo", &json, &large).await;
    assert_eq!(answer.status, 413);
    assert!(answer.json()["error"].as_str().unwrap().contains("1000"), "{answer:?}");
    let chunked = format!(
        "POST /api/entities/Todo HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         transfer-encoding: chunked\r\n\r\n800\r\n{}\r\n0\r\n\r\n",
        server.host("todo42"),
        "x".repeat(0x800)
    );
    assert_eq!(server.raw(&chunked).await.status, 413);
    assert_eq!(server.ask("POST", "nothere", "/api/entities/Todo", &json, "{}").await.status, 404);
    assert_eq!(server.ask("POST", "staging-todo42", "/api/entities/Todo", &json, "{}").await.status, 404);
}

#[test]
fn a_socket_token_is_not_shown() {
    let mut page = overskill_build::preview::PageRequest::get("/");
    page.socket_token = Some("hunter2".into());
    assert!(!format!("{page:?}").contains("hunter2"), "{page:?}");
}
