//! What is tried beside the attacks, where no defence could be taken away: there is nothing in the Workers that would lead from
//! one app to another. The control of each is the owner's own way.

use crate::{
    attack::Pair,
    support::{at, http, path, scope, signed::Signed, socket},
};
use overskill_core::{Changes, PreviewHost as _};

#[tokio::test]
async fn paths_lead_to_no_other_app_and_no_hidden_file() {
    let p = Pair::alone().await;
    let (a, b) = (p.a_preview(), p.b_preview());
    let (dotenv, secret) = (format!("VITE_NAME=x\nKEY={}\n", p.secret()), p.secret());
    p.open(&p.b, &[(".env", &dotenv), ("id.pem", &secret)], None).await;
    p.open(&p.a, &[], None).await;
    for at in [
        "/../bank7/note.txt",
        "/%2e%2e/bank7/note.txt",
        "/..%2fbank7%2fpreview/note.txt",
        "/%252e%252e/bank7/note.txt",
        "//preview-bank7.localhost/note.txt",
        "/bank7/preview/note.txt",
        "/@npm/../../bank7/note.txt",
        "/note.txt?host=preview-bank7&scope=bank7/preview",
    ] {
        assert!(!p.leaks(&a, at, &[]).await, "{at}");
        assert!(!p.leaks(&p.a, at, &[]).await, "{at} of the deployed app");
    }
    assert!(p.leaks(&b, "/x/../note.txt", &[]).await, "control: a path that leads up and down again is resolved");
    // What an app's own viewers may not read of it either.
    for at in ["/.env", "/id.pem", "/package.json", "/.env?raw", "/.env?import&raw", "/id.pem?url", "/%2eenv"] {
        let answer = p.get(&b, at, &[]).await;
        assert!(!p.has_secret(&answer) && answer.status != 200, "{at}");
    }
    assert!(p.leaks(&b, "/src/main.ts", &[]).await, "control: a module that pages run");
    // Two hosts are none.
    let hosts = [p.workers.host(&a), p.workers.host(&b)];
    assert!(!p.leaks_at(&hosts, "/note.txt").await);
    assert!(p.leaks_at(&[hosts[1].to_uppercase()], "/note.txt").await, "control: a host is not case-sensitive");
    // That B has something is not told by an answer of 304 either.
    let tag = p.get(&b, "/note.txt", &[]).await.header("etag").unwrap().to_owned();
    assert_eq!(p.get(&a, "/note.txt", &[("if-none-match", &tag)]).await.status, 200);
    assert_eq!(p.get(&b, "/note.txt", &[("if-none-match", &tag)]).await.status, 304, "control");
}

#[tokio::test]
async fn rooms_tell_their_own_viewers_alone() {
    let p = Pair::alone().await;
    p.opened().await;
    let (bank, mallory) = (p.page(&p.b_preview()).await, p.page(&p.a_preview()).await);
    let token = bank.token();
    for query in [
        format!("token={}", &token[..31]),
        format!("token={token}0"),
        format!("token={}", token.to_uppercase()),
        format!("token={}&token={token}", mallory.token()),
    ] {
        assert!(!p.opens(&query, None).await, "{query}");
    }
    let own = format!("http://{}", p.workers.host(&p.b_preview()));
    assert!(p.opens(&bank.query(), Some(&own)).await, "control: B's page");
    // B's token at A's room shows nothing of B's.
    assert!(socket::connect(&p.workers, &p.a_preview(), &bank.query(), None).await.is_err());
    // A position of another life makes a room tell nothing but to load anew.
    let odd = format!("token={}&incarnation=ffffffffffffffff&seq=0&epoch=0", mallory.token());
    let told = socket::connect(&p.workers, &p.a_preview(), &odd, None).await.ok().unwrap().so_far().await;
    assert_eq!((told.len(), told[0]["type"].as_str()), (1, Some("full-reload")));
    // What A's page says wrongly, and an edit of A's, are told to nobody of B's.
    let mut viewer = bank.connect(&p.workers, &p.b_preview()).await;
    let mut own = mallory.connect(&p.workers, &p.a_preview()).await;
    own.say("{").await;
    own.say(&"x".repeat(70_000)).await;
    let change = Changes::new().put(path("public/note.txt"), "changed".to_owned());
    p.previews.apply(&scope("mallory/preview"), at(1), at(2), &change).await.unwrap();
    assert!(!own.so_far().await.is_empty(), "control: A's own viewers are");
    assert!(viewer.so_far().await.is_empty());
    assert!(p.leaks(&p.b_preview(), "/note.txt", &[]).await);
}

#[tokio::test]
async fn only_the_platform_closes_a_preview() {
    let p = Pair::alone().await;
    p.opened().await;
    let close = "/.overskill/v1/previews/bank7/preview";
    for label in ["", &p.a_preview(), &p.b_preview(), "mallory"] {
        let answer = http::ask(p.workers.port, "DELETE", &p.workers.host(label), close, &[], b"").await;
        assert!(matches!(answer.status, 401 | 404), "{label}: {}", answer.status);
    }
    // Scopes that are none, or two, even where the platform says so.
    for path in [
        "/.overskill/v1/previews/bank7%2fpreview",
        "/.overskill/v1/previews/bank7/preview%2f",
        "/.overskill/v1/previews/mallory%20/preview",
        "/.overskill/v1/previews/host%20x/preview",
    ] {
        let answer = Signed::new(&p.workers, "DELETE", path, b"").send(&p.workers).await;
        assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.status);
    }
    assert!(p.leaks(&p.b_preview(), "/note.txt", &[]).await);
    assert_eq!(Signed::new(&p.workers, "DELETE", close, b"").send(&p.workers).await.status, 200, "control");
    assert!(!p.leaks(&p.b_preview(), "/note.txt", &[]).await);
}
