use super::EntityApiFixture as F;
use crate::{
    PassThrough, Stop, Verdict,
    suite::{ensure, ensure_eq},
};
use overskill_core::{
    AccessToken, ApiMethod, ApiRequest, ApiUpstream, Around, Claims, Environment, FilePath, Right, Rights, Scope,
    SubjectId, TenantId,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

/// Names and values.
type Query<'a> = &'a [(&'a str, &'a str)];

/// An app's calls.
struct App<'a> {
    f: &'a F,
    scope: Scope,
    token: AccessToken,
}

struct Answer {
    status: u16,
    body: Value,
    size_bytes: usize,
}

impl<'a> App<'a> {
    fn new(f: &'a F) -> Self {
        Self::of(f, f.names().scope_in(Environment::Production))
    }

    fn of(f: &'a F, scope: Scope) -> Self {
        let token = token(f, &scope, Rights::of([Right::Data]), 600);
        Self { f, scope, token }
    }

    async fn call(&self, method: ApiMethod, path: &str, query: Query<'_>, body: &Value) -> Result<Answer, Stop> {
        let mut request = ApiRequest::new(self.scope.clone(), self.token.clone(), method, FilePath::parse(path)?);
        for (name, value) in query {
            request = request.query(*name, *value);
        }
        if !body.is_null() {
            request = request.body("application/json; charset=utf-8", body.to_string());
        }
        let answer = self.f.store().call(&request).await?;
        let body = serde_json::from_slice(&answer.body).unwrap_or_default();
        Ok(Answer { status: answer.status, body, size_bytes: answer.body.len() })
    }

    async fn create(&self, fields: Value) -> Result<Value, Stop> {
        let answer = self.call(ApiMethod::Post, "entities/Todo", &[], &fields).await?;
        ensure_eq!(answer.status, 201, "creating a record: {}", answer.body);
        Ok(answer.body)
    }

    async fn at(&self, method: ApiMethod, id: &str, body: &Value) -> Result<Answer, Stop> {
        self.call(method, &format!("entities/Todo/{id}"), &[], body).await
    }

    async fn list(&self, query: Query<'_>) -> Result<Value, Stop> {
        let answer = self.call(ApiMethod::Get, "entities/Todo", query, &Value::Null).await?;
        ensure_eq!(answer.status, 200, "a list of {query:?}: {}", answer.body);
        Ok(answer.body)
    }

    async fn titles(&self, query: Query<'_>) -> Result<Vec<String>, Stop> {
        Ok(texts(&self.list(query).await?, "title"))
    }
}

fn token(f: &F, scope: &Scope, rights: Rights, seconds: i64) -> AccessToken {
    let subject = SubjectId::parse("ada").expect("a legal id");
    let end = f.names().start();
    let span = Duration::from_secs(seconds.unsigned_abs());
    let end = if seconds < 0 { end.minus(span) } else { end.plus(span) };
    let claims = Claims::new(subject, TenantId::of_app(scope.app.clone()), rights, end);
    (f.besides().mint)(&claims.in_environment(scope.environment))
}

fn text(record: &Value, field: &str) -> String {
    record[field].as_str().unwrap_or_default().to_owned()
}

fn texts(list: &Value, field: &str) -> Vec<String> {
    list["items"].as_array().into_iter().flatten().map(|item| text(item, field)).collect()
}

pub(super) async fn a_record_is_made_read_changed_and_deleted(f: &F) -> Verdict {
    let app = App::new(f);
    let made = app.create(json!({ "title": "milk", "done": false, "n": 1, "created_at": "mine" })).await?;
    let id = text(&made, "id");
    ensure!(text(&made, "created_at").ends_with('Z'), "created_at is the server's: {made}");
    ensure_eq!(app.at(ApiMethod::Get, &id, &Value::Null).await?.body, made, "a record that was read");
    ensure_eq!(app.at(ApiMethod::Head, &id, &Value::Null).await?.status, 200, "a record that was asked for");

    let patched = app.at(ApiMethod::Patch, &id, &json!({ "done": true, "n": null })).await?.body;
    let seen = (&patched["title"], &patched["done"], patched.get("n"));
    ensure_eq!(seen, (&json!("milk"), &json!(true), None), "a record after a PATCH");
    // Sent back as it was read, with a change.
    let mut whole = patched.clone();
    whole["title"] = json!("oat milk");
    let put = app.at(ApiMethod::Put, &id, &whole).await?.body;
    ensure_eq!((&put["title"], &put["created_at"]), (&json!("oat milk"), &made["created_at"]), "a record after a PUT");
    let put = app.at(ApiMethod::Put, &id, &json!({ "only": 1 })).await?.body;
    ensure_eq!((put.get("title"), &put["only"]), (None, &json!(1)), "a record whose fields were replaced");
    ensure_eq!(app.at(ApiMethod::Get, &id, &Value::Null).await?.body, put, "a record that was read again");

    ensure_eq!(app.at(ApiMethod::Delete, &id, &Value::Null).await?.status, 204, "a DELETE");
    for method in [ApiMethod::Get, ApiMethod::Put, ApiMethod::Patch, ApiMethod::Delete] {
        let body = if matches!(method, ApiMethod::Put | ApiMethod::Patch) { json!({}) } else { Value::Null };
        ensure_eq!(app.at(method, &id, &body).await?.status, 404, "{method:?} of what was deleted");
    }
    ensure_eq!(app.titles(&[]).await?, Vec::<String>::new(), "a list without what was deleted");
    let again = app.call(ApiMethod::Post, "entities/Todo", &[], &json!({ "id": id })).await?;
    ensure_eq!(again.status, 409, "the id of what was deleted");
    Ok(())
}

pub(super) async fn values_come_back_as_they_were(f: &F) -> Verdict {
    let app = App::new(f);
    let fields = json!({
        "text": "ünï \" \\ \n ' ; -- ${x} \u{1F600}", "empty": "", "whole": i64::MAX, "least": i64::MIN, "half": 0.5,
        "tiny": 1e-300, "huge": 1e300, "yes": true, "nothing": null, "list": [1, "two", [3.25, {}], null], "map": { "a": { "b": [] } },
    });
    let made = app.create(fields.clone()).await?;
    let read = app.at(ApiMethod::Get, &text(&made, "id"), &Value::Null).await?.body;
    for (name, value) in fields.as_object().into_iter().flatten() {
        ensure_eq!(&read[name], value, "the field {name}");
    }
    Ok(())
}

pub(super) async fn lists_are_filtered(f: &F) -> Verdict {
    let app = App::new(f);
    for (title, n, done) in
        [("c", json!(2), true), ("a", json!(10), false), ("b", json!(2.0), false), ("d", json!("2"), true)]
    {
        app.create(json!({ "title": title, "n": n, "done": done, "gone": null, "list": { "id": 7 } })).await?;
    }
    let cases: [(Query<'_>, &[&str]); 12] = [
        (&[], &["c", "a", "b", "d"]),
        (&[("done", "true")], &["c", "d"]),
        (&[("n", "2")], &["c", "b", "d"]),
        (&[("n", "2.0")], &["c", "b"]),
        (&[("n", "2"), ("done", "false")], &["b"]),
        (&[("nothing", "null")], &["c", "a", "b", "d"]),
        (&[("gone", "null")], &["c", "a", "b", "d"]),
        (&[("title", "null")], &[]),
        (&[("title", "a' OR '1'='1")], &[]),
        (&[("title", "a"), ("n", "10")], &["a"]),
        (&[("n", "NaN")], &[]),
        (&[("list", "7")], &[]),
    ];
    for (query, want) in cases {
        ensure_eq!(app.titles(query).await?, want, "a list of {query:?}");
    }
    let id = text(&app.list(&[("title", "b")]).await?["items"][0], "id");
    ensure_eq!(app.titles(&[("id", &id)]).await?, ["b"], "a list of one id");
    Ok(())
}

pub(super) async fn lists_are_sorted_and_paged(f: &F) -> Verdict {
    let app = App::new(f);
    for title in ["c", "a", "b", "d"] {
        app.create(json!({ "title": title })).await?;
    }
    let cases: [(Query<'_>, &[&str]); 5] = [
        (&[("sort", "title")], &["a", "b", "c", "d"]),
        (&[("sort", "-title"), ("limit", "2")], &["d", "c"]),
        (&[("sort", "-created_at")], &["d", "b", "a", "c"]),
        (&[("offset", "1"), ("limit", "2")], &["a", "b"]),
        (&[("offset", "9")], &[]),
    ];
    for (query, want) in cases {
        ensure_eq!(app.titles(query).await?, want, "a list of {query:?}");
    }
    for sort in ["created_at", "title", "-created_at", "updated_at", "-id"] {
        let (mut seen, mut cursor) = (Vec::new(), None::<String>);
        for _ in 0..4 {
            let mut query = vec![("limit", "1"), ("sort", sort)];
            query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let page = app.list(&query).await?;
            seen.extend(texts(&page, "title"));
            cursor = page["next"].as_str().map(str::to_owned);
        }
        ensure_eq!(cursor, None, "the cursor after the last page, sorted by {sort}");
        seen.sort();
        ensure_eq!(seen, ["a", "b", "c", "d"], "pages of one, sorted by {sort}");
    }
    Ok(())
}

pub(super) async fn text_numbers_and_nothing_are_sorted_alike(f: &F) -> Verdict {
    let app = App::new(f);
    let values = [json!("b"), json!(10), Value::Null, json!("B"), json!(-1.5), json!("é"), json!(2), json!("a")];
    for (n, value) in values.into_iter().enumerate() {
        app.create(json!({ "title": n.to_string(), "x": value })).await?;
    }
    let want = ["2", "4", "6", "1", "3", "7", "0", "5"];
    ensure_eq!(app.titles(&[("sort", "x")]).await?, want, "sorted by a field of all kinds");
    let down: Vec<_> = want.into_iter().rev().collect();
    ensure_eq!(app.titles(&[("sort", "-x")]).await?, down, "the other way round");
    Ok(())
}

pub(super) async fn a_list_has_a_hundred_records_unless_asked(f: &F) -> Verdict {
    let app = App::new(f);
    for n in 0..105 {
        app.create(json!({ "title": n.to_string() })).await?;
    }
    ensure_eq!(app.titles(&[]).await?.len(), 100, "records of a list without a limit");
    ensure_eq!(app.titles(&[("limit", "1000")]).await?.len(), 105, "records of a list with a large limit");
    Ok(())
}

pub(super) async fn bad_input_names_the_field_and_the_limit(f: &F) -> Verdict {
    let app = App::new(f);
    let (post, get) = (ApiMethod::Post, ApiMethod::Get);
    let large = json!({ "t": "x".repeat(300_000) });
    let cases: [(ApiMethod, &str, Query<'_>, Value, u16, &str); 14] = [
        (post, "entities/To-do", &[], json!({}), 400, "entity name"),
        (post, "entities/Todo", &[], json!([1]), 400, "JSON object"),
        (post, "entities/Todo", &[], json!({ "a b": 1 }), 400, "field name"),
        (post, "entities/Todo", &[], json!({ "id": 7 }), 400, "id"),
        (post, "entities/Todo", &[], json!({ "id": "../x" }), 400, "id"),
        (post, "entities/Todo", &[], large, 413, "262144"),
        (get, "entities/Todo", &[("limit", "5000")], Value::Null, 400, "1,000"),
        (get, "entities/Todo", &[("sort", "a;b")], Value::Null, 400, "sort"),
        (get, "entities/Todo", &[("a\"b", "1")], Value::Null, 400, "filter"),
        (get, "entities/Todo", &[("cursor", "x")], Value::Null, 400, "cursor"),
        (get, "entities/Todo", &[("cursor", "r1"), ("sort", "updated_at")], Value::Null, 400, "cursor"),
        (ApiMethod::Delete, "entities/Todo", &[], Value::Null, 405, "POST"),
        (get, "entities/Todo/a/b", &[], Value::Null, 404, "path"),
        (get, "users", &[], Value::Null, 404, "entities"),
    ];
    for (method, path, query, body, status, word) in cases {
        let answer = app.call(method, path, query, &body).await?;
        let error = text(&answer.body, "error");
        ensure!(
            answer.status == status && error.contains(word),
            "{method:?} {path} {query:?} must be {status} and name {word}, but was {}: {error}",
            answer.status
        );
    }
    let request = ApiRequest::new(app.scope.clone(), app.token.clone(), post, FilePath::parse("entities/Todo")?);
    let answer = f.store().call(&request.body("text/plain", "{}")).await?;
    ensure_eq!(answer.status, 415, "a body that is not JSON");
    Ok(())
}

pub(super) async fn one_app_never_sees_anothers_records(f: &F) -> Verdict {
    let app = App::new(f);
    let made = app.create(json!({ "title": "mine" })).await?;
    let id = text(&made, "id");
    for scope in f.names().beside(&app.scope) {
        let other = App::of(f, scope);
        for (method, body) in [
            (ApiMethod::Get, Value::Null),
            (ApiMethod::Put, json!({ "title": "theirs" })),
            (ApiMethod::Patch, json!({ "title": "theirs" })),
            (ApiMethod::Delete, Value::Null),
        ] {
            ensure_eq!(other.at(method, &id, &body).await?.status, 404, "{method:?} from {}", other.scope);
        }
        ensure_eq!(other.list(&[]).await?["items"], json!([]), "a list from {}", other.scope);
        ensure_eq!(other.list(&[("id", &id)]).await?["items"], json!([]), "a list by id from {}", other.scope);
        // The same id is free there.
        other.create(json!({ "id": id, "title": "theirs" })).await?;
    }
    ensure_eq!(app.titles(&[]).await?, ["mine"], "what is left of it");
    Ok(())
}

pub(super) async fn tokens_of_others_are_refused(f: &F) -> Verdict {
    let app = App::new(f);
    app.create(json!({ "title": "mine" })).await?;
    let data = Rights::of([Right::Data]);
    let staging = Scope::new(app.scope.app.clone(), Environment::Staging);
    let other = f.names().scope_in(Environment::Production);
    for (token, want, what) in [
        (token(f, &app.scope, data, 600), 200, "its own"),
        (token(f, &other, data, 600), 401, "another app's"),
        (token(f, &staging, data, 600), 403, "another environment's"),
        (token(f, &app.scope, Rights::of([Right::Develop, Right::Operate]), 600), 403, "one without Data"),
        (token(f, &app.scope, data, -5), 401, "an expired one"),
        (AccessToken::parse("nonsense")?, 401, "no token at all"),
    ] {
        for method in [ApiMethod::Get, ApiMethod::Post] {
            let caller = App { f, scope: app.scope.clone(), token: token.clone() };
            let body = if method == ApiMethod::Post { json!({ "title": "x" }) } else { Value::Null };
            let status = caller.call(method, "entities/Todo", &[], &body).await?.status;
            let want = if (want, method) == (200, ApiMethod::Post) { 201 } else { want };
            ensure_eq!(status, want, "{method:?} with {what}");
        }
    }
    ensure_eq!(app.titles(&[]).await?, ["mine", "x"], "what is there afterwards");
    Ok(())
}

pub(super) async fn records_survive_a_restart(f: &F) -> Verdict {
    let app = App::new(f);
    let made = app.create(json!({ "title": "kept" })).await?;
    let again = f.reopened().await?;
    let path = FilePath::parse(&format!("entities/Todo/{}", text(&made, "id")))?;
    let request = ApiRequest::new(app.scope.clone(), app.token.clone(), ApiMethod::Get, path);
    let read: Value = serde_json::from_slice(&again.call(&request).await?.body).unwrap_or_default();
    ensure_eq!(read, made, "a record after a restart");
    Ok(())
}

pub(super) async fn concurrent_changes_are_all_there(f: &F) -> Verdict {
    let app = App::new(f);
    let id = text(&app.create(json!({ "title": "x" })).await?, "id");
    let patches = (0..12).map(|n| {
        let (app, id) = (&app, &id);
        async move { app.at(ApiMethod::Patch, id, &json!({ (format!("f{n}")): n })).await }
    });
    for answer in futures::future::join_all(patches).await {
        ensure_eq!(answer?.status, 200, "a PATCH among others");
    }
    let record = app.at(ApiMethod::Get, &id, &Value::Null).await?.body;
    ensure!((0..12).all(|n| record[format!("f{n}")] == json!(n)), "a change was lost: {record}");
    Ok(())
}

pub(super) async fn pages_neither_skip_nor_repeat(f: &F) -> Verdict {
    let app = App::new(f);
    for sort in ["title", "-title", "n", "-n", "id", "-id", "created_at", "-created_at", "updated_at", "-updated_at"] {
        let mut made = Vec::new();
        for n in 0..9 {
            // A third has no `n`, and two share each.
            let n = if n % 3 == 0 { Value::Null } else { json!(n / 2) };
            made.push(text(&app.create(json!({ "title": made.len().to_string(), "n": n })).await?, "id"));
        }
        let (mut seen, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let mut query = vec![("limit", "3"), ("sort", sort)];
            query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let page = app.list(&query).await?;
            let ids = texts(&page, "id");
            // All that was shown is deleted, the anchor of the cursor too: none of the rest may be skipped.
            for id in &ids {
                ensure_eq!(
                    app.at(ApiMethod::Delete, id, &Value::Null).await?.status,
                    204,
                    "a DELETE between two pages"
                );
            }
            seen.extend(ids);
            cursor = page["next"].as_str().map(str::to_owned);
            if cursor.is_none() {
                break;
            }
        }
        if sort.ends_with("id") {
            made.sort_by(|a, b| if sort == "id" { a.cmp(b) } else { b.cmp(a) });
        } else {
            made.sort();
            seen.sort();
        }
        ensure_eq!(seen, made, "all pages, sorted by {sort}");
    }
    Ok(())
}

pub(super) async fn a_cursor_tells_nothing_of_others(f: &F) -> Verdict {
    let (app, other) = (App::new(f), App::new(f));
    for title in ["m", "n"] {
        other.create(json!({ "title": title })).await?;
    }
    for title in ["a", "z"] {
        app.create(json!({ "title": title })).await?;
    }
    let page = other.list(&[("limit", "1"), ("sort", "title")]).await?;
    let cursor = text(&page, "next");
    ensure!(!cursor.is_empty(), "a page of one of two has a next one");
    // Which of mine come after it would tell what theirs is.
    for sort in ["title", "created_at"] {
        let seen = app.titles(&[("sort", sort), ("cursor", &cursor)]).await?;
        ensure_eq!(seen, Vec::<String>::new(), "a list from another's cursor, by {sort}");
    }
    Ok(())
}

pub(super) async fn whole_numbers_are_found_exactly(f: &F) -> Verdict {
    let app = App::new(f);
    for (title, n) in [("one", 9_007_199_254_740_993_i64), ("two", 9_007_199_254_740_992), ("neg", i64::MIN)] {
        app.create(json!({ "title": title, "n": n })).await?;
    }
    for (n, title) in [("9007199254740993", "one"), ("9007199254740992", "two"), ("-9223372036854775808", "neg")] {
        ensure_eq!(app.titles(&[("n", n)]).await?, [title], "records whose n is {n}");
    }
    Ok(())
}

pub(super) async fn a_page_of_large_records_ends_early(f: &F) -> Verdict {
    let app = App::new(f);
    let large = "x".repeat(250_000);
    for n in 0..40 {
        app.create(json!({ "title": n.to_string(), "large": large })).await?;
    }
    let first = app.call(ApiMethod::Get, "entities/Todo", &[("limit", "1000")], &Value::Null).await?;
    ensure!(first.size_bytes < 9 * 1024 * 1024, "the page has {} bytes", first.size_bytes);
    let seen = texts(&first.body, "title");
    let rest = app.titles(&[("limit", "1000"), ("cursor", &text(&first.body, "next"))]).await?;
    ensure_eq!(seen.len() + rest.len(), 40, "records of both pages");
    ensure_eq!(rest.first(), Some(&seen.len().to_string()), "where the second page begins");
    Ok(())
}

pub(super) async fn pointers_and_wrappers_answer_alike(f: &F) -> Verdict {
    let app = App::new(f);
    let made = app.create(json!({ "title": "wrapped" })).await?;
    let boxed: Box<dyn ApiUpstream> = Box::new(f.store().clone());
    let wrapped: Arc<dyn ApiUpstream> = Arc::new(Around::with_policy(boxed, PassThrough));
    let path = FilePath::parse(&format!("entities/Todo/{}", text(&made, "id")))?;
    let request = ApiRequest::new(app.scope.clone(), app.token.clone(), ApiMethod::Get, path);
    ensure_eq!(wrapped.call(&request).await?, f.store().call(&request).await?, "an answer through a wrapper");
    Ok(())
}

pub(super) async fn it_is_ready(f: &F) -> Verdict {
    let readiness = f.store().check().await?;
    ensure!(readiness.is_ready(), "it lacks {:?}", readiness.problems());
    ensure!(!readiness.backend().is_empty(), "the backend has no name");
    Ok(())
}
