//! The entity API, through the server and below it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use overskill_core::{
    AccessToken, ApiMethod, ApiRequest, ApiUpstream as _, AppTokens as _, ArtifactConfig, Claims, Clock as _, FilePath,
    KeyId, LocalKeys, LocalTokens, Right, Rights, SubjectId, SystemClock, TenantId,
};
use overskill_local::LocalOptions;
use serde_json::{Value, json};
use std::time::Duration;
use support::{Answer, Running, scope};

const PAGE: (&str, &str) = ("index.html", "<!doctype html><title>Todo</title>");
const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

async fn two_apps() -> Running {
    let server = Running::start().await;
    for app in ["todo42/production", "todo42/staging", "other/production"] {
        server.deploy(app, 1, &[PAGE], ArtifactConfig::default()).await;
    }
    server
}

async fn call(server: &Running, method: &str, label: &str, path: &str, body: &Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    server.ask(method, label, &format!("/api/{path}"), &[JSON], &body).await
}

async fn create(server: &Running, label: &str, body: Value) -> Value {
    let answer = call(server, "POST", label, "entities/Todo", &body).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()
}

async fn titles(server: &Running, query: &str) -> Vec<String> {
    let answer = server.get("todo42", &format!("/api/entities/Todo{query}")).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    let items = answer.json()["items"].as_array().unwrap().clone();
    items.iter().map(|item| item["title"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_record_is_made_read_changed_and_deleted() {
    let server = two_apps().await;
    let made = create(&server, "todo42", json!({ "title": "milk", "done": false, "n": 1, "created_at": "mine" })).await;
    let id = made["id"].as_str().unwrap().to_owned();
    assert!(made["created_at"].as_str().unwrap().ends_with('Z'), "{made}");
    let path = format!("entities/Todo/{id}");
    assert_eq!(call(&server, "GET", "todo42", &path, &Value::Null).await.json(), made);

    let patched = call(&server, "PATCH", "todo42", &path, &json!({ "done": true, "n": null })).await.json();
    assert_eq!((&patched["title"], &patched["done"], patched.get("n")), (&json!("milk"), &json!(true), None));
    // Sent back as it was read, with a change.
    let mut whole = patched.clone();
    whole["title"] = json!("oat milk");
    let put = call(&server, "PUT", "todo42", &path, &whole).await.json();
    assert_eq!((&put["title"], &put["created_at"]), (&json!("oat milk"), &made["created_at"]));
    let put = call(&server, "PUT", "todo42", &path, &json!({ "only": 1 })).await.json();
    assert_eq!((put.get("title"), &put["only"]), (None, &json!(1)));

    assert_eq!(call(&server, "DELETE", "todo42", &path, &Value::Null).await.status, 204);
    for method in ["GET", "PUT", "PATCH", "DELETE"] {
        let body = if method.starts_with('P') { json!({}) } else { Value::Null };
        assert_eq!(call(&server, method, "todo42", &path, &body).await.status, 404, "{method}");
    }
    assert_eq!(titles(&server, "").await, Vec::<String>::new());
    // Deleted, not gone: the id stays taken.
    let again = call(&server, "POST", "todo42", "entities/Todo", &json!({ "id": id })).await;
    assert_eq!(again.status, 409, "{}", again.text());
}

#[tokio::test]
async fn lists_are_filtered_sorted_and_paged() {
    let server = two_apps().await;
    for (title, n, done) in
        [("c", json!(2), true), ("a", json!(10), false), ("b", json!(2.0), false), ("d", json!("2"), true)]
    {
        create(&server, "todo42", json!({ "title": title, "n": n, "done": done, "list": { "id": 7 } })).await;
    }
    assert_eq!(titles(&server, "").await, ["c", "a", "b", "d"]);
    assert_eq!(titles(&server, "?done=true").await, ["c", "d"]);
    assert_eq!(titles(&server, "?n=2").await, ["c", "b", "d"], "as number and as text");
    assert_eq!(titles(&server, "?n=2&done=false").await, ["b"]);
    assert_eq!(titles(&server, "?nothing=null").await.len(), 4);
    assert_eq!(titles(&server, "?title=a%27%20OR%20%271%27=%271").await, Vec::<String>::new());
    assert_eq!(titles(&server, "?sort=title").await, ["a", "b", "c", "d"]);
    assert_eq!(titles(&server, "?sort=-title&limit=2").await, ["d", "c"]);
    assert_eq!(titles(&server, "?sort=-created_at").await, ["d", "b", "a", "c"]);
    assert_eq!(titles(&server, "?offset=1&limit=2").await, ["a", "b"]);
    for sort in ["", "&sort=title", "&sort=-created_at", "&sort=updated_at"] {
        let (mut seen, mut next) = (Vec::new(), String::new());
        for _ in 0..4 {
            let query = format!("/api/entities/Todo?limit=1{sort}{next}");
            let page = server.get("todo42", &query).await.json();
            seen.extend(page["items"].as_array().unwrap().iter().map(|i| i["title"].as_str().unwrap().to_owned()));
            next = page["next"].as_str().map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        }
        assert_eq!(next, "", "{sort}: four pages of one, and no fifth");
        seen.sort();
        assert_eq!(seen, ["a", "b", "c", "d"], "{sort}");
    }
}

#[tokio::test]
async fn a_list_has_a_hundred_records_unless_asked() {
    let server = two_apps().await;
    let api = server.backends.upstream();
    let (token, _) =
        server.backends.tokens().issue(&scope("todo42/production"), None, SystemClock.now()).await.unwrap();
    for n in 0..105 {
        let call = request("todo42/production", &token, ApiMethod::Post, "entities/Todo");
        let call = call.body("application/json", json!({ "title": n.to_string() }).to_string());
        assert_eq!(api.call(&call).await.unwrap().status, 201);
    }
    assert_eq!(titles(&server, "").await.len(), 100);
    assert_eq!(titles(&server, "?limit=1000").await.len(), 105);
}

#[tokio::test]
async fn bad_input_names_the_field_and_the_limit() {
    let server = two_apps().await;
    for (method, path, body, status, word) in [
        ("POST", "entities/To-do", json!({}), 400, "entity name"),
        ("POST", "entities/Todo", json!([1]), 400, "JSON object"),
        ("POST", "entities/Todo", json!({ "a b": 1 }), 400, "field name"),
        ("POST", "entities/Todo", json!({ "id": 7 }), 400, "id"),
        ("POST", "entities/Todo", json!({ "id": "../x" }), 400, "id"),
        ("POST", "entities/Todo", json!({ "t": "x".repeat(300_000) }), 413, "262144"),
        ("GET", "entities/Todo?limit=5000", Value::Null, 400, "1,000"),
        ("GET", "entities/Todo?sort=a%3Bb", Value::Null, 400, "sort"),
        ("GET", "entities/Todo?a%22b=1", Value::Null, 400, "filter"),
        ("DELETE", "entities/Todo", Value::Null, 405, "POST"),
        ("GET", "entities/Todo/a/b", Value::Null, 404, "path"),
        ("GET", "users", Value::Null, 404, "entities"),
        ("GET", "entities//x", Value::Null, 400, "slashes"),
    ] {
        let answer = call(&server, method, "todo42", path, &body).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(error.contains(word), "{method} {path}: {error}");
    }
    let text = server.ask("POST", "todo42", "/api/entities/Todo", &[("content-type", "text/plain")], "{}").await;
    assert_eq!(text.status, 415);
}

fn request(scope_text: &str, token: &AccessToken, method: ApiMethod, path: &str) -> ApiRequest {
    ApiRequest::new(scope(scope_text), token.clone(), method, FilePath::parse(path).unwrap())
}

#[tokio::test]
async fn one_app_never_sees_anothers_records() {
    let server = two_apps().await;
    let made = create(&server, "todo42", json!({ "title": "mine" })).await;
    let path = format!("entities/Todo/{}", made["id"].as_str().unwrap());
    for label in ["other", "staging-todo42"] {
        assert_eq!(call(&server, "GET", label, &path, &Value::Null).await.status, 404, "{label}");
        assert_eq!(call(&server, "DELETE", label, &path, &Value::Null).await.status, 404, "{label}");
        let list = call(&server, "GET", label, "entities/Todo", &Value::Null).await.json();
        assert_eq!(list["items"], json!([]), "{label}");
        // The same id is free there.
        create(&server, label, json!({ "id": made["id"], "title": label })).await;
    }
    assert_eq!(titles(&server, "").await, ["mine"]);
}

#[tokio::test]
async fn tokens_of_others_are_refused() {
    let server = two_apps().await;
    create(&server, "todo42", json!({ "title": "mine" })).await;
    let (api, now) = (server.backends.upstream(), SystemClock.now());
    let tokens = server.backends.tokens();
    let status = async |token: &AccessToken| {
        let call = request("todo42/production", token, ApiMethod::Get, "entities/Todo");
        api.call(&call).await.unwrap().status
    };
    let issued = async |of: &str| tokens.issue(&scope(of), None, now).await.unwrap().0;
    assert_eq!(status(&issued("todo42/production").await).await, 200);
    assert_eq!(status(&issued("other/production").await).await, 401, "another app's");
    assert_eq!(status(&issued("todo42/staging").await).await, 403, "another environment's");

    let app = scope("todo42/production").app;
    let claims =
        |rights, expires| Claims::new(SubjectId::parse("ada").unwrap(), TenantId::of_app(app.clone()), rights, expires);
    let soon = now.plus(Duration::from_mins(1));
    let mint = |claims: &Claims| tokens.mint(claims, now).unwrap();
    assert_eq!(status(&mint(&claims(Rights::of([Right::Develop, Right::Operate]), soon))).await, 403, "without Data");
    assert_eq!(status(&mint(&claims(Rights::ALL, now.minus(Duration::from_secs(5))))).await, 401, "expired");
    let forger = LocalTokens::new(LocalKeys::generate(KeyId::parse("local").unwrap()).unwrap());
    assert_eq!(status(&forger.mint(&claims(Rights::ALL, soon), now).unwrap()).await, 401, "signed by another key");
    let good = issued("todo42/production").await;
    let (head, rest) = good.expose().split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    let other = issued("other/production").await;
    let body = other.expose().split('.').nth(1).unwrap();
    let spliced = AccessToken::parse(&format!("{head}.{body}.{signature}")).unwrap();
    assert_eq!(status(&spliced).await, 401, "another's claims under this signature");
    assert_eq!(status(&AccessToken::parse("nonsense").unwrap()).await, 401);
}

#[tokio::test]
async fn records_are_there_after_a_restart() {
    let server = two_apps().await;
    create(&server, "todo42", json!({ "title": "kept" })).await;
    let folder = server.stopped().await.unwrap();
    let server = Running::again(folder.path(), LocalOptions::new()).await;
    assert_eq!(titles(&server, "").await, ["kept"]);
}

#[tokio::test]
async fn concurrent_changes_of_one_record_are_all_there() {
    let server = std::sync::Arc::new(two_apps().await);
    let made = create(&server, "todo42", json!({ "title": "x" })).await;
    let path = format!("entities/Todo/{}", made["id"].as_str().unwrap());
    let patches = (0..12).map(|n| {
        let (server, path) = (server.clone(), path.clone());
        tokio::spawn(async move {
            let change = json!({ (format!("f{n}")): n });
            call(&server, "PATCH", "todo42", &path, &change).await.status
        })
    });
    for status in futures::future::join_all(patches).await {
        assert_eq!(status.unwrap(), 200);
    }
    let record = call(&server, "GET", "todo42", &path, &Value::Null).await.json();
    assert!((0..12).all(|n| record[format!("f{n}")] == json!(n)), "{record}");
}

#[tokio::test]
async fn pages_neither_skip_nor_repeat_while_records_come_and_go() {
    let server = two_apps().await;
    for sort in ["title", "-title", "n", "-n", "id", "-id", "created_at", "-created_at", "updated_at", "-updated_at"] {
        let mut made = Vec::new();
        for n in 0..9 {
            // A third has no `n`, and two share each.
            let n = if n % 3 == 0 { Value::Null } else { json!(n / 2) };
            made.push(create(&server, "todo42", json!({ "title": made.len().to_string(), "n": n })).await);
        }
        let page = async |cursor: &str| {
            let path = format!("/api/entities/Todo?limit=3&sort={sort}{cursor}");
            let page = server.get("todo42", &path).await;
            assert_eq!(page.status, 200, "{sort}: {}", page.text());
            let page = page.json();
            let ids: Vec<_> =
                page["items"].as_array().unwrap().iter().map(|i| i["id"].as_str().unwrap().to_owned()).collect();
            (ids, page["next"].as_str().map(|cursor| format!("&cursor={cursor}")))
        };
        let (mut seen, mut next) = page("").await;
        // All that was shown is deleted, the anchor of the cursor too: none of the rest may be skipped.
        for id in &seen {
            assert_eq!(
                call(&server, "DELETE", "todo42", &format!("entities/Todo/{id}"), &Value::Null).await.status,
                204
            );
        }
        while let Some(cursor) = next {
            let (more, then) = page(&cursor).await;
            seen.extend(more);
            next = then;
        }
        let mut want: Vec<_> = made.iter().map(|record| record["id"].as_str().unwrap().to_owned()).collect();
        want.sort();
        let mut got = seen.clone();
        got.sort();
        assert_eq!(got, want, "sorted by {sort}");
        if sort.ends_with("id") {
            want.sort_by(|a, b| if sort == "id" { a.cmp(b) } else { b.cmp(a) });
            assert_eq!(seen, want, "sorted by {sort}");
        }
        for id in &seen[3..] {
            call(&server, "DELETE", "todo42", &format!("entities/Todo/{id}"), &Value::Null).await;
        }
    }
}

#[tokio::test]
async fn a_cursor_tells_nothing_of_others() {
    let server = two_apps().await;
    server.deploy("other/staging", 1, &[PAGE], ArtifactConfig::default()).await;
    create(&server, "other", json!({ "title": "m" })).await; // the first row
    for title in ["a", "z"] {
        create(&server, "todo42", json!({ "title": title })).await;
    }
    // Which of mine come after it would tell what theirs is.
    assert_eq!(titles(&server, "?sort=title&cursor=r1").await, Vec::<String>::new());
    assert_eq!(titles(&server, "?cursor=r1").await, Vec::<String>::new());
}

#[tokio::test]
async fn whole_numbers_are_found_exactly() {
    let server = two_apps().await;
    for (title, n) in [("one", 9_007_199_254_740_993_i64), ("two", 9_007_199_254_740_992), ("neg", i64::MIN)] {
        create(&server, "todo42", json!({ "title": title, "n": n })).await;
    }
    assert_eq!(titles(&server, "?n=9007199254740993").await, ["one"]);
    assert_eq!(titles(&server, "?n=9007199254740992").await, ["two"]);
    assert_eq!(titles(&server, "?n=-9223372036854775808").await, ["neg"]);
}

#[tokio::test]
async fn a_page_of_large_records_ends_early() {
    let server = two_apps().await;
    let large = "x".repeat(250_000);
    for n in 0..40 {
        create(&server, "todo42", json!({ "title": n.to_string(), "large": large })).await;
    }
    let first = server.get("todo42", "/api/entities/Todo?limit=1000").await;
    assert!(first.body.len() < 9 * 1024 * 1024, "{} bytes", first.body.len());
    let first = first.json();
    let count = first["items"].as_array().unwrap().len();
    let rest = titles(&server, &format!("?limit=1000&cursor={}", first["next"].as_str().unwrap())).await;
    assert_eq!(count + rest.len(), 40);
    assert_eq!(rest[0], count.to_string());
}
