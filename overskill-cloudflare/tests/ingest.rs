//! The signed route: what is taken, and what is refused.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use overskill_cloudflare::{Edge, IngestKey};
use overskill_core::{ErrorKind, Fence, KeyId, PreviewHost as _, RouteTable as _, SystemIds, TestClock};
use std::{num::NonZeroU32, time::Duration};
use support::{Workers, at, env, http, scope, signed::Signed, snapshot};

const PLAN: &str = "/.overskill/v1/apps/todo42";

fn plan(workers: &Workers) -> Signed {
    Signed::new(workers, "PUT", PLAN, br#"{"plan":"pro"}"#)
}

/// What the Workers say why.
fn reason(answer: &http::Answer) -> String {
    answer.json()["error"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn what_was_taken_once_is_not_taken_again_not_even_after_a_restart() {
    let workers = Workers::start().await;
    let request = plan(&workers);
    assert_eq!(request.send(&workers).await.status, 200);
    for _ in 0..2 {
        let again = request.send(&workers).await;
        assert_eq!(again.status, 401);
        assert!(reason(&again).contains("nonce was used before"), "{}", reason(&again));
    }
    // Another time under the same nonce is another text; signed by who has the key, and refused.
    let later = Signed { time: request.time + 1, ..request.clone() };
    assert_eq!(later.send(&workers).await.status, 401);
    let workers = workers.restarted().await;
    assert_eq!(request.send(&workers).await.status, 401, "it was forgotten in a restart");
    assert_eq!(plan(&workers).send(&workers).await.status, 200, "a new nonce is new");
}

#[tokio::test]
async fn of_many_at_once_with_one_nonce_one_is_taken() {
    let workers = Workers::start().await;
    let request = plan(&workers);
    let sent = (0..12).map(|_| request.send(&workers));
    let statuses: Vec<_> = futures::future::join_all(sent).await.into_iter().map(|answer| answer.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 11, "{statuses:?}");
}

/// A call of the platform's about a preview, as it was overheard.
fn overheard(workers: &Workers, method: &'static str, of: &str, body: &[u8]) -> Signed {
    Signed::new(workers, method, &format!("/.overskill/v1/previews/{of}"), body)
}

/// Sends it once more, and waits until no isolate goes on with what it knew before.
async fn replayed(workers: &Workers, overheard: &Signed) {
    let again = overheard.send(workers).await;
    assert_eq!((again.status, reason(&again).contains("nonce was used before")), (401, true), "{}", again.text());
    tokio::time::sleep(Duration::from_millis(1_200)).await;
}

#[tokio::test]
async fn the_end_of_a_preview_that_is_sent_again_ends_no_other() {
    const DEV: &str = "todo42/development";
    let workers = Workers::start().await;
    let files = [("index.html", "<!doctype html><html><head></head><body>hi</body></html>")];
    let open = async || workers.previews().open(&scope(DEV), &snapshot(at(1), &files), &env(1)).await.unwrap();
    open().await;
    assert_eq!(workers.page("dev-todo42", "/").await.status, 200);
    let end = overheard(&workers, "DELETE", DEV, b"");
    assert_eq!(end.send(&workers).await.status, 200);
    assert_eq!(workers.page("dev-todo42", "/").await.status, 404, "the control");
    open().await;
    replayed(&workers, &end).await;
    assert_eq!(workers.page("dev-todo42", "/").await.status, 200);
}

#[tokio::test]
async fn the_beginning_of_a_preview_that_is_sent_again_begins_none() {
    const TODO: &str = "todo42/preview";
    let workers = Workers::start().await;
    let head = br#"{"push":"p1","after":null,"position":"f1:1","env":"","files":[],"removed":[],"shelves":[],
        "config":{},"messages":[],"problems":[]}"#;
    let commit = [&u32::try_from(head.len()).unwrap().to_be_bytes()[..], head].concat();
    for (what, body) in [("prepare", &b""[..]), ("commit", &commit)] {
        let begin = overheard(&workers, "POST", &format!("{TODO}/{what}"), body);
        let answer = begin.send(&workers).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        // An app has data once there is an app.
        assert_ne!(workers.get("preview-todo42", "/api/tasks").await.status, 404, "{what}: the control");
        assert_eq!(overheard(&workers, "DELETE", TODO, b"").send(&workers).await.status, 200);
        replayed(&workers, &begin).await;
        assert_eq!(workers.get("preview-todo42", "/api/tasks").await.status, 404, "{what}");
    }
}

/// Whoever began it was cut off before the app's routes knew of it, and never came back.
#[tokio::test]
async fn a_preview_whose_beginning_was_cut_off_is_found_after_the_next_call() {
    let known = "if (this.#fact(name) === value) return {};";
    let fails = format!("if (!globalThis.cut) {{ globalThis.cut = true; throw new Error('cut off'); }} {known}");
    let workers = Workers::with(support::Options::new().patched("routes.js", known, fails)).await;
    let once = Edge::builder(workers.base(), workers.key.clone()).max_tries(NonZeroU32::MIN).build().unwrap();
    let files = [("index.html", "<!doctype html><html><head></head><body>hi</body></html>")];
    let (dev, app) = (scope("todo42/development"), snapshot(at(7), &files));
    assert!(once.previews(support::engine()).open(&dev, &app, &env(1)).await.is_err());
    assert_eq!(workers.page("dev-todo42", "/").await.status, 404, "the control");
    workers.previews().open(&dev, &app, &env(1)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(workers.page("dev-todo42", "/").await.status, 200);
}

#[tokio::test]
async fn what_was_changed_on_its_way_is_refused() {
    let workers = Workers::start().await;
    let (body, other): (&[u8], &[u8]) = (br#"{"plan":"pro"}"#, br#"{"plan":"max"}"#);
    let sent = [
        ("method", "POST", PLAN, body),
        ("path", "PUT", "/.overskill/v1/apps/bank7", body),
        ("path's case", "PUT", "/.overskill/v1/apps/TODO42", body),
        ("a query", "PUT", "/.overskill/v1/apps/todo42?plan=max", body),
        ("an encoded path", "PUT", "/.overskill/v1/apps/todo4%32", body),
        ("body", "PUT", PLAN, other),
        ("no body", "PUT", PLAN, b""),
        ("more body", "PUT", PLAN, br#"{"plan":"pro"} "#),
    ];
    for (what, method, path, body) in sent {
        let request = plan(&workers);
        let answer = request.send_as(&workers, method, path, body).await;
        assert_eq!((answer.status, reason(&answer).as_str()), (401, "mac is not that of this request"), "{what}");
        // The control: the very same, unchanged. It was not used up by the attempt.
        assert_eq!(request.send(&workers).await.status, 200, "{what}");
    }
    // What the signature names is changed after it was made.
    let signed = plan(&workers).authorization();
    for (from, to) in
        [("time=1", "time=2"), ("nonce=", "nonce=0"), ("mac=", "mac=00"), ("key=k1", "key=k2"), ("Overskill-", "")]
    {
        let changed = signed.replacen(from, to, 1);
        assert_ne!(changed, signed);
        let host = workers.host("");
        let answer = http::ask(workers.port, "PUT", &host, PLAN, &[("authorization", &changed)], body).await;
        assert_eq!(answer.status, 401, "{changed}");
    }
    let other_nonce = signed.replace("nonce=", "nonce=\t");
    let answer =
        http::ask(workers.port, "PUT", &workers.host(""), PLAN, &[("authorization", &other_nonce)], body).await;
    assert_eq!(answer.status, 401);
    let host = workers.host("");
    let unsigned = http::ask(workers.port, "PUT", &host, PLAN, &[], body).await;
    assert_eq!(unsigned.status, 401);
    let as_signed = http::ask(workers.port, "PUT", &host, PLAN, &[("authorization", &signed)], body).await;
    assert_eq!(as_signed.status, 200, "the control");
}

#[tokio::test]
async fn what_was_signed_for_another_place_or_time_or_by_another_is_refused() {
    let workers = Workers::start().await;
    let request = plan(&workers);
    let minutes = |n: i64| n * 60_000;
    for (what, request) in [
        ("another host", Signed { host: "apps.test".into(), ..request.clone() }),
        ("another key", Signed { secret: [7; 32], ..request.clone() }),
        ("an unknown key", Signed { key_id: "k9".into(), ..request.clone() }),
        ("a name that every object has", Signed { key_id: "constructor".into(), ..request.clone() }),
        ("two minutes ago", Signed { time: request.time - minutes(2), ..request.clone() }),
        ("in two minutes", Signed { time: request.time + minutes(2), ..request.clone() }),
    ] {
        let answer = request.send(&workers).await;
        assert_eq!(answer.status, 401, "{what}: {}", reason(&answer));
    }
    for off in [-20_000, 20_000] {
        let near = Signed { time: request.time + off, ..plan(&workers) };
        assert_eq!(near.send(&workers).await.status, 200, "clocks differ a little: {off} ms");
    }
    // An app's host has no such route, whoever signs.
    let host = workers.host("todo42");
    let signed = Signed { host: host.clone(), ..plan(&workers) };
    let authorization = signed.authorization();
    let answer = http::ask(workers.port, "PUT", &host, PLAN, &[("authorization", &authorization)], &signed.body).await;
    assert_eq!(answer.status, 404);
    assert_eq!(request.send(&workers).await.status, 200, "the control");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_what_would() {
    let workers = Workers::start().await;
    let frame = |head: &str, rest: &[u8]| {
        let length = u32::try_from(head.len()).unwrap().to_be_bytes();
        [&length[..], head.as_bytes(), rest].concat()
    };
    let digest = "a".repeat(64);
    let blob = format!(r#"{{"blobs":[{{"digest":"{digest}","length":5}}]}}"#);
    let commit = "/.overskill/v1/previews/todo42/preview/commit";
    let route = "/.overskill/v1/routes/todo42/production";
    let cases: [(&str, &str, Vec<u8>, u16, &str); 15] = [
        ("PUT", "/.overskill/v1/apps/www", br#"{"plan":null}"#.to_vec(), 400, "app id"),
        ("PUT", "/.overskill/v1/apps/TODO", br#"{"plan":null}"#.to_vec(), 400, "app id"),
        ("PUT", PLAN, b"{".to_vec(), 400, "must be JSON"),
        ("PUT", PLAN, br#"{"plan":7}"#.to_vec(), 400, "plan must be"),
        ("PUT", "/.overskill/v1/hosts/todo.test", br#"{"scope":"todo42/prod"}"#.to_vec(), 400, "scope must be"),
        ("PUT", route, br#"{"fence":"x","route":null}"#.to_vec(), 400, "fence must be"),
        ("PUT", route, br#"{"fence":"1","route":{}}"#.to_vec(), 400, "must be a JSON object"),
        (
            "PUT",
            route,
            br#"{"fence":"1","route":{"target":"t","deployment":"d","handle":{"reference":"r","url":"javascript:1"}}}"#
                .to_vec(),
            400,
            "http or https",
        ),
        ("PUT", "/.overskill/v1/shelves/abc", frame("{}", b""), 400, "64 hex digits"),
        ("POST", commit, vec![0, 0], 400, "frame"),
        ("POST", commit, frame(&blob, b"abc"), 400, "frame"),
        ("POST", commit, frame(&blob, b"abcdefg"), 400, "frame"),
        ("POST", commit, frame("{}", b""), 400, "must be lists"),
        ("GET", "/.overskill/v1/secrets", Vec::new(), 404, "no such thing"),
        ("GET", "/.overskill/v1/routes/%ff/production", Vec::new(), 400, "percent-encoded"),
    ];
    for (method, path, body, status, text) in cases {
        let answer = Signed::new(&workers, method, path, &body).send(&workers).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        assert!(reason(&answer).contains(text), "{method} {path}: {}", reason(&answer));
    }
    let large = vec![b'x'; (24 << 20) + 1];
    let answer = Signed::new(&workers, "PUT", PLAN, &large).send(&workers).await;
    assert_eq!(answer.status, 413);
}

#[tokio::test]
async fn a_key_or_a_clock_that_is_wrong_is_named_and_no_secret_told() {
    let workers = Workers::start().await;
    let other = IngestKey::generate(KeyId::parse("k1").unwrap(), &SystemIds);
    let secret = other.to_binding();
    let edge = Edge::builder(workers.base(), other).build().unwrap();
    let readiness = edge.routes().check().await.unwrap();
    assert!(readiness.problems()[0].what.contains("mac is not that of this request"), "{readiness:?}");
    assert!(readiness.problems()[0].remedy.contains("INGEST_KEYS"));
    let e = edge.routes().get(&scope("todo42/production")).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unauthenticated);
    let hex = secret.expose().split('"').nth(3).unwrap().to_owned();
    assert!(!format!("{e:?} {e} {edge:?}").contains(&hex));

    // A clock of another year.
    let edge = Edge::builder(workers.base(), workers.key.clone()).clock(TestClock::new()).build().unwrap();
    let e = edge.routes().clear(&scope("todo42/production"), Fence::from_u64(1)).await.unwrap_err();
    assert!(e.message().contains("set the clock"), "{e}");
    assert!(workers.edge().routes().check().await.unwrap().is_ready(), "the control");
}

#[tokio::test]
async fn keys_are_rotated_without_a_gap() {
    let next = IngestKey::generate(KeyId::parse("k2").unwrap(), &SystemIds);
    let mut options = support::Options::new();
    let mut both: serde_json::Value = serde_json::from_str(options.key.to_binding().expose()).unwrap();
    let new: serde_json::Value = serde_json::from_str(next.to_binding().expose()).unwrap();
    both["k2"] = new["k2"].clone();
    options.ingest_keys = Some(both.to_string());
    let workers = Workers::with(options).await;
    for key in [workers.key.clone(), next] {
        let edge = Edge::builder(workers.base(), key).build().unwrap();
        assert!(edge.routes().check().await.unwrap().is_ready());
    }
}

#[tokio::test]
async fn only_a_domain_over_https_is_taken_as_the_way_there() {
    let key = || IngestKey::generate(KeyId::parse("k1").unwrap(), &SystemIds);
    for bad in ["http://overskill.app", "https://overskill.app/api", "ftp://overskill.app", "overskill.app"] {
        let e = Edge::builder(bad, key()).build().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Invalid, "{bad}");
    }
    for good in ["https://overskill.app", "https://overskill.app/", "http://localhost:8787", "http://127.0.0.1:1"] {
        assert!(Edge::builder(good, key()).build().is_ok(), "{good}");
    }
    assert!(
        IngestKey::parse(KeyId::parse("k1").unwrap(), "hunter2").unwrap_err().to_string().contains("64 hex digits")
    );
}
