//! The gateway on real deno, before `PostgREST`'s transaction on real Postgres: what it does, and who does not get through.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod attacks;
mod deno;
mod limits;
mod rest;
#[path = "../support/mod.rs"]
mod support;
mod twin;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use deno::{Deno, answered, sent};
use overskill_core::{
    AccessToken, AppId, AppTokens as _, Clock as _, Environment, Rights, Scope, SystemClock, SystemIds,
};
use overskill_supabase::{
    Access, ContextKeys, GrantedIssuer, Placement, Session, SigningKey, TenantTx, TokenIssuer, gateway_function,
};
use rest::{Behind, PUBLISHABLE, SECRET};
use serde_json::{Value, json};
use std::sync::Arc;
use support::{DATABASE, Way, World, places::acme};

const OURS: &str = "functions/gateway/index.ts";
const WEAK: &str = "tests/gateway/weak.ts";
const ISSUER: &str = "https://tokens.overskill.example";

/// Two apps, `todo` and `shop`, behind a gateway.
struct Field {
    world: World,
    key: SigningKey,
    issuer: TokenIssuer,
    url: String,
    behind: Arc<Behind>,
    ids: Value,
}

impl Field {
    async fn new() -> Self {
        Self::publishing([]).await
    }

    /// These keys beside the one that signs.
    async fn publishing(others: impl IntoIterator<Item = SigningKey>) -> Self {
        let world = World::new().await;
        let key = SigningKey::generate(&SystemIds, SystemClock.now()).unwrap();
        let issuer = TokenIssuer::new(ISSUER, key.clone(), world.keys.clone());
        let issuer = others.into_iter().fold(issuer, TokenIssuer::also_publish);
        let (url, behind) = rest::serve(world.cluster.tcp_url(DATABASE), &issuer.jwks()).await;
        let mut ids = json!({});
        // The first transaction of an app gives it its number.
        for app in ["todo", "shop"] {
            let grant = world.grant("ada", app).await;
            world.pool(Way::Direct).begin(&grant, &scope(app)).await.unwrap().rollback().await.unwrap();
            let raw = world.raw(Way::Direct, "postgres").await;
            let row = raw.query_one("SELECT app_id FROM overskill_guard.apps WHERE app = $1", &[&app]).await.unwrap();
            ids[app] = json!(row.get::<_, i64>(0));
        }
        Self { world, key, issuer, url, behind, ids }
    }

    async fn token(&self, app: &str, subject: &str) -> String {
        let subject = subject.parse().unwrap();
        self.tokens().issue(&scope(app), Some(subject), SystemClock.now()).await.unwrap().0.expose().to_owned()
    }

    /// One that `key` signed.
    async fn token_by(&self, key: &SigningKey) -> String {
        let issuer = TokenIssuer::new(ISSUER, key.clone(), self.world.keys.clone());
        let tokens = issuer.granted(&self.world.gate, &self.world.system);
        tokens.issue(&scope("todo"), None, SystemClock.now()).await.unwrap().0.expose().to_owned()
    }

    fn tokens(&self) -> GrantedIssuer {
        self.issuer.granted(&self.world.gate, &self.world.system)
    }

    /// A call of `PostgREST` by whoever has an app's token and the key that every browser has, as JSON.
    async fn rest(&self, method: &str, path: &str, token: &str, body: &Value) -> (u16, String) {
        let body = if method == "GET" { String::new() } else { body.to_string() };
        self.rest_raw(method, path, token, &body).await
    }

    /// The same with a body as it is.
    async fn rest_raw(&self, method: &str, path: &str, token: &str, body: &str) -> (u16, String) {
        let head = format!(
            "{method} /rest/v1/{path} HTTP/1.1\r\napikey: {PUBLISHABLE}\r\nauthorization: Bearer {token}\r\n\
             accept-profile: overskill_data\r\ncontent-profile: overskill_data\r\ncontent-type: application/json"
        );
        sent(self.url.strip_prefix("http://").unwrap(), &head, body).await
    }

    async fn run(&self, script: &str, hole: &str) -> Deno {
        let (jwks, ids) = (self.issuer.jwks().to_string(), self.ids.to_string());
        let env = [
            ("SUPABASE_URL", self.url.as_str()),
            ("OVERSKILL_PUBLISHABLE_KEY", PUBLISHABLE),
            ("OVERSKILL_ISSUER", ISSUER),
            ("OVERSKILL_JWKS", &jwks),
            // As in every function of a project, wanted or not.
            ("SUPABASE_SERVICE_ROLE_KEY", SECRET),
            ("APP_IDS", &ids),
            ("HOLE", hole),
        ];
        Deno::run(script, &env).await
    }
}

fn scope(app: &str) -> Scope {
    Scope::new(AppId::parse(app).unwrap(), Environment::Production)
}

fn parsed(answer: &(u16, String)) -> Value {
    serde_json::from_str(&answer.1).unwrap_or_else(|_| panic!("{answer:?}"))
}

#[test]
fn deno_is_content_with_the_gateways_types_and_with_its_looks() {
    for arguments in [
        &["check", "--no-remote", OURS, WEAK][..],
        &["lint", "functions/gateway"],
        &["fmt", "--check", "--line-width", "120", "functions/gateway"],
    ] {
        deno::content(arguments).unwrap_or_else(|said| panic!("{arguments:?}: {said}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_made_read_changed_and_deleted() {
    let field = Field::new().await;
    let (gateway, ada) = (field.run(OURS, "").await, field.token("todo", "ada").await);
    let made =
        gateway.call("POST", "/gateway/api/entities/Task", &ada, r#"{"id":"t1","title":"it's","done":false}"#).await;
    assert_eq!(made.0, 201, "{made:?}");
    let again = gateway.call("POST", "/api/entities/Task", &ada, r#"{"id":"t1"}"#).await;
    assert_eq!((again.0, parsed(&again)["error"].as_str()), (409, Some("There is one with this id already.")));
    let read = gateway.call("GET", "/api/entities/Task/t1", &ada, "").await;
    assert_eq!((read.0, &parsed(&read)["title"], &parsed(&read)["done"]), (200, &json!("it's"), &json!(false)));
    let patched = gateway.call("PATCH", "/api/entities/Task/t1", &ada, r#"{"done":true,"title":null,"id":"t1"}"#).await;
    let other = gateway.call("PATCH", "/api/entities/Task/t1", &ada, r#"{"id":"t9"}"#).await;
    assert_eq!(other.0, 400, "{other:?}");
    assert_eq!(
        (&parsed(&patched)["done"], parsed(&patched).get("title"), &parsed(&patched)["id"]),
        (&json!(true), None, &json!("t1"))
    );
    let put = gateway.call("PUT", "/api/entities/Task/t1", &ada, r#"{"n":1}"#).await;
    assert_eq!((put.0, &parsed(&put)["n"], parsed(&put).get("done")), (200, &json!(1), None));
    assert_eq!(gateway.call("DELETE", "/api/entities/Task/t1", &ada, "").await.0, 204);
    for (method, body) in [("GET", ""), ("DELETE", ""), ("PUT", "{}"), ("PATCH", "{}")] {
        assert_eq!(gateway.call(method, "/api/entities/Task/t1", &ada, body).await.0, 404, "{method}");
    }
    // A user of another app, and the same user in another app: nothing.
    let shop = field.token("shop", "ada").await;
    gateway.call("POST", "/api/entities/Task", &ada, r#"{"id":"t2"}"#).await;
    assert_eq!(gateway.call("GET", "/api/entities/Task/t2", &shop, "").await.0, 404);
    assert_eq!(parsed(&gateway.call("GET", "/api/entities/Task", &shop, "").await)["items"], json!([]));
    // The project's secret key was at hand and was never shown.
    assert!(field.behind.shown.lock().unwrap().iter().all(|it| it.starts_with(PUBLISHABLE)));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_paged_filtered_and_sorted() {
    let field = Field::new().await;
    let (gateway, ada) = (field.run(OURS, "").await, field.token("todo", "ada").await);
    for n in 0..7 {
        let body = json!({ "id": format!("t{n}"), "odd": n % 2 == 1, "note": "a,b).or(x" }).to_string();
        assert_eq!(gateway.call("POST", "/api/entities/Task", &ada, &body).await.0, 201);
    }
    let (mut seen, mut path) = (Vec::new(), "/api/entities/Task?limit=3".to_owned());
    loop {
        let page = parsed(&gateway.call("GET", &path, &ada, "").await);
        seen.extend(page["items"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/entities/Task?limit=3&cursor={}", next.replace('+', "%2B"));
    }
    assert_eq!(seen, ["t0", "t1", "t2", "t3", "t4", "t5", "t6"]);
    let list = async |query: &str| gateway.call("GET", &format!("/api/entities/Task?{query}"), &ada, "").await;
    assert_eq!(parsed(&list("odd=true").await)["items"].as_array().unwrap().len(), 3);
    assert_eq!(parsed(&list("note=a,b).or(x&odd=false").await)["items"].as_array().unwrap().len(), 4);
    assert_eq!(parsed(&list("sort=-created_at&limit=1").await)["items"][0]["id"], "t6");
    for bad in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "sort=a;b",
        "offset=-1",
        "offset=1&cursor=rt1",
        "cursor=x",
        "a-b=1",
        "or=(app_id.gt.0)&select=*",
    ] {
        let answer = list(bad).await;
        // `or` and `select` are fields of the app's own here.
        let want = if bad.starts_with("or") { (200, 0) } else { (400, 0) };
        assert_eq!((answer.0, parsed(&answer)["items"].as_array().map_or(0, Vec::len)), want, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_goes_by_the_column_that_a_field_has() {
    let field = Field::new().await;
    let (gateway, ada) = (field.run(OURS, "").await, field.token("todo", "ada").await);
    for (id, n) in [("t1", json!(2)), ("t2", json!("2")), ("t3", json!(2.0)), ("t4", json!(3))] {
        let body = json!({ "id": id, "n": n, "word": id }).to_string();
        assert_eq!(gateway.call("POST", "/api/entities/Task", &ada, &body).await.0, 201);
    }
    let ids = async |query: &str| {
        let page = parsed(&gateway.call("GET", &format!("/api/entities/Task?{query}"), &ada, "").await);
        let items = page["items"].as_array().unwrap().clone();
        items.iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids("n=2").await, ["t1", "t2", "t3"]);
    let developer = field.world.grant_of("dev", "todo", Rights::ALL).await;
    let define = async |tx: &TenantTx| tx.define("Task", Access::Everybody, &[("n1", "n"), ("t1", "word")]).await;
    field.world.pool(Way::Direct).with_tenant(&developer, &scope("todo"), define).await.unwrap();
    // Text is not in a column for numbers: it is the column that was asked.
    assert_eq!(ids("n=2").await, ["t1", "t3"]);
    assert_eq!(ids("word=t2&n=2").await, [""; 0]);
    assert_eq!(ids("word=t2").await, ["t2"]);
    assert_eq!(ids("word=t2'").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_was_moved_is_told_to_be_elsewhere() {
    let field = Field::new().await;
    let (gateway, ada) = (field.run(OURS, "").await, field.token("todo", "ada").await);
    assert_eq!(gateway.call("POST", "/api/entities/Task", &ada, r#"{"id":"t1"}"#).await.0, 201);
    let paused = |paused: bool| {
        field.world.execute(&format!("UPDATE overskill_guard.apps SET writes_paused = {paused} WHERE app = 'todo'"));
    };
    paused(true);
    // Writes are told when to come again, and reads go on.
    for (method, path) in [("POST", "Task"), ("PUT", "Task/t1"), ("PATCH", "Task/t1"), ("DELETE", "Task/t1")] {
        let head = format!(
            "{method} /api/entities/{path} HTTP/1.1\r\nauthorization: Bearer {ada}\r\ncontent-type: application/json"
        );
        let waits = answered(&gateway.address(), &head, "{}").await.unwrap();
        assert_eq!((waits.status, waits.header("retry-after")), (503, Some("2")), "{method}: {waits:?}");
        assert_eq!(
            waits.json()["error"],
            "The app is being moved: writes have to wait; try again soon.",
            "{method}: {waits:?}"
        );
    }
    for path in ["Task", "Task/t1"] {
        let read = gateway.call("GET", &format!("/api/entities/{path}"), &ada, "").await;
        assert!(read.0 == 200 && read.1.contains("t1"), "{read:?}");
    }
    // Whoever found the tables just before they went elsewhere: they are found at the next call.
    field.world.execute(
        "ALTER FUNCTION overskill_data.served_from() RENAME TO were_served_from; \
        CREATE FUNCTION overskill_data.served_from() RETURNS text LANGUAGE sql AS $$ SELECT 'overskill_data' $$",
    );
    paused(false);
    let mover = field.world.mover(Way::Direct).projects(field.world.projects(Way::Direct).await);
    mover.relocate(&field.world.system, &scope("todo"), &Placement::Schema).await.unwrap();
    for (method, path) in [("POST", "Task"), ("GET", "Task"), ("GET", "Task/t1"), ("DELETE", "Task/t1")] {
        let head = format!(
            "{method} /api/entities/{path} HTTP/1.1\r\nauthorization: Bearer {ada}\r\ncontent-type: application/json"
        );
        let waits = answered(&gateway.address(), &head, "{}").await.unwrap();
        assert_eq!((waits.status, waits.header("retry-after")), (503, Some("2")), "{method}: {waits:?}");
    }
    field.world.execute(
        "DROP FUNCTION overskill_data.served_from(); \
        ALTER FUNCTION overskill_data.were_served_from() RENAME TO served_from",
    );
    assert_eq!(gateway.call("GET", "/api/entities/Task/t1", &ada, "").await.0, 200);
    // In another database nothing of it is here.
    mover.drop_old(&field.world.system, &scope("todo")).await.unwrap();
    mover.relocate(&field.world.system, &scope("todo"), &Placement::OwnProject(acme())).await.unwrap();
    for (method, path, body) in [
        ("GET", "Task", ""),
        ("POST", "Task", "{}"),
        ("GET", "Task/t1", ""),
        ("PUT", "Task/t1", "{}"),
        ("PATCH", "Task/t1", "{}"),
        ("DELETE", "Task/t1", ""),
    ] {
        let answer = gateway.call(method, &format!("/api/entities/{path}"), &ada, body).await;
        let error = "This app has its data elsewhere: call it at its own address.";
        assert_eq!((answer.0, &parsed(&answer)["error"]), (421, &json!(error)), "{method} {path}");
    }
    // Its files and channels are where they were.
    assert_eq!(gateway.call("PUT", "/api/storage/a.txt", &ada, "mine").await.0, 204);
    assert_eq!(gateway.call("GET", "/api/storage/a.txt", &ada, "").await, (200, "mine".to_owned()));
    assert_eq!(gateway.call("GET", "/api/realtime", &ada, "").await.0, 200);
    assert_eq!(joins(&field, &ada, "app:todo:production:room").await, (true, true));
    // Others are served.
    let shop = field.token("shop", "ada").await;
    assert_eq!(gateway.call("POST", "/api/entities/Task", &shop, "{}").await.0, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_realtime_are_of_the_tokens_app() {
    let field = Field::new().await;
    let (gateway, ada) = (field.run(OURS, "").await, field.token("todo", "ada").await);
    let put = gateway
        .raw(
            &format!(
                "PUT /api/storage/a%20b/c.html HTTP/1.1\r\nauthorization: Bearer {ada}\r\ncontent-type: text/html"
            ),
            "<script>",
        )
        .await;
    assert_eq!(put.0, 204, "{put:?}");
    let raw = field.world.raw(Way::Direct, "postgres").await;
    let kept = raw.query_one("SELECT bucket_id, name FROM storage.objects", &[]).await.unwrap();
    assert_eq!((kept.get(0), kept.get(1)), ("apps", "todo/production/a b/c.html"));
    let got = gateway.call("GET", "/api/storage/a%20b/c.html", &ada, "").await;
    assert_eq!(got, (200, "<script>".to_owned()));
    let shop = field.token("shop", "ada").await;
    assert_eq!(gateway.call("GET", "/api/storage/a%20b/c.html", &shop, "").await.0, 404);
    let again = format!("POST /api/storage/a%20b/c.html HTTP/1.1\r\nauthorization: Bearer {ada}");
    assert_eq!(gateway.raw(&again, "x").await.0, 409);
    assert_eq!(gateway.call("DELETE", "/api/storage/a%20b/c.html", &ada, "").await.0, 204);
    for method in ["GET", "DELETE"] {
        let gone = gateway.call(method, "/api/storage/a%20b/c.html", &ada, "").await;
        assert_eq!((gone.0, &parsed(&gone)["error"]), (404, &json!("There is no such thing.")), "{method}");
    }
    let realtime = gateway.call("GET", "/api/realtime", &ada, "").await;
    let told = parsed(&realtime);
    assert_eq!((&told["topic"], &told["apikey"]), (&json!("app:todo:production:"), &json!(PUBLISHABLE)));
    assert!(told["url"].as_str().unwrap().ends_with("/realtime/v1/websocket"));
    assert_eq!(told["config"], json!({ "private": true }));
    // What was told opens channels of this app, and to this app alone.
    let topic = format!("{}room", told["topic"].as_str().unwrap());
    assert_eq!((joins(&field, &ada, &topic).await, joins(&field, &shop, &topic).await), ((true, true), (false, false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_revoked_reaches_nothing_any_more() {
    let field = Field::new().await;
    let (gateway, leaked) = (field.run(OURS, "").await, field.token("todo", "ada").await);
    let (again, topic) = (field.token("todo", "ada").await, "app:todo:production:room");
    let file = |token: &str| format!("PUT /api/storage/a.txt HTTP/1.1\r\nauthorization: Bearer {token}");
    assert_eq!(gateway.call("POST", "/api/entities/Task", &leaked, r#"{"id":"t1"}"#).await.0, 201);
    assert_eq!(gateway.raw(&file(&leaked), "mine").await.0, 204);
    let records = async |token: &str| field.rest("GET", "entities?select=id", token, &json!({})).await;
    assert!(records(&leaked).await.1.contains("t1"));

    let session = Session::of_token(&AccessToken::parse(&leaked).unwrap()).unwrap();
    let until = SystemClock.now().plus(TokenIssuer::MAX_TTL);
    field.world.schema.revoke(&field.world.system, session, until).await.unwrap();
    assert_eq!(records(&leaked).await, (200, "[]".to_owned()));
    let make = json!({ "kind": "Task", "id": "t2", "fields": "{}" });
    assert!(field.rest("POST", "rpc/make_record", &leaked, &make).await.0 >= 400);
    for (method, body) in [("POST", "{}"), ("GET", "")] {
        let answer = gateway.call(method, "/api/entities/Task", &leaked, body).await;
        assert!(!answer.1.contains("t1") && (method == "GET" || answer.0 >= 400), "{method}: {answer:?}");
    }
    assert!(gateway.call("GET", "/api/storage/a.txt", &leaked, "").await.0 >= 400);
    assert!(gateway.raw(&file(&leaked), "theirs").await.0 >= 400);
    assert_eq!(joins(&field, &leaked, topic).await, (false, false));

    // The same user goes on in another.
    assert!(gateway.call("GET", "/api/entities/Task", &again, "").await.1.contains("t1"));
    assert_eq!(gateway.call("GET", "/api/storage/a.txt", &again, "").await, (200, "mine".to_owned()));
    assert_eq!(joins(&field, &again, topic).await, (true, true));
}

/// Whether Realtime lets the bearer of a token listen to a private channel, and speak in it: it asks as this does.
async fn joins(field: &Field, token: &str, topic: &str) -> (bool, bool) {
    const ASK: &str = "SELECT set_config('role', 'authenticated', true), set_config('realtime.topic', $1, true), \
        set_config('request.jwt.claims', $2, true)";
    const MESSAGE: &str = "INSERT INTO realtime.messages (topic, extension) VALUES ($1, 'broadcast')";
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims = String::from_utf8(claims).unwrap();
    let mut raw = field.world.raw(Way::Direct, "postgres").await;
    let asking = raw.transaction().await.unwrap();
    asking.execute(MESSAGE, &[&topic]).await.unwrap();
    asking.query(ASK, &[&topic, &claims]).await.unwrap();
    let listens = asking.query("SELECT id FROM realtime.messages WHERE topic = $1", &[&topic]).await.unwrap();
    (listens.len() == 1, asking.execute(MESSAGE, &[&topic]).await.is_ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_record_of_an_app_needs_no_pool() {
    let field = Field::new().await;
    let gateway = field.run(OURS, "").await;
    let token = field.token("fresh", "ada").await;
    assert_eq!(parsed(&gateway.call("GET", "/api/entities/Task", &token, "").await)["items"], json!([]));
    let made = gateway.call("POST", "/api/entities/Task", &token, r#"{"id":"t1","n":1}"#).await;
    assert_eq!((made.0, &parsed(&made)["n"]), (201, &json!(1)), "{made:?}");
    assert_eq!(gateway.call("GET", "/api/entities/Task/t1", &token, "").await.0, 200);
    // One that is suspended is not taken in again.
    field.world.schema.suspend(&field.world.system, &scope("fresh"), true).await.unwrap();
    assert_eq!(gateway.call("POST", "/api/entities/Task", &token, "{}").await.0, 403);
    assert_eq!(gateway.call("GET", "/api/entities/Task/t1", &token, "").await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_outlive_the_key_that_signed_them_as_long_as_it_is_published() {
    let key = || SigningKey::generate(&SystemIds, SystemClock.now()).unwrap();
    let (old, unknown) = (key(), key());
    let field = Field::publishing([old.clone()]).await;
    let gateway = field.run(OURS, "").await;
    for (key, status) in [(&old, 201), (&field.key, 201), (&unknown, 401)] {
        let token = field.token_by(key).await;
        assert_eq!(gateway.call("POST", "/api/entities/Task", &token, "{}").await.0, status, "{key:?}");
    }
    // A name is no key.
    let posing = SigningKey::from_pkcs8(old.kid(), &unknown.to_pkcs8()).unwrap();
    let token = field.token_by(&posing).await;
    assert_eq!(gateway.call("GET", "/api/entities/Task", &token, "").await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_that_is_down_opens_nothing_and_tells_nothing() {
    let mut field = Field::new().await;
    let ada = field.token("todo", "ada").await;
    // Nobody listens there any more.
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    field.url = format!("http://{gone}");
    let gateway = field.run(OURS, "").await;
    for (method, path, body) in CALLS {
        let answer = gateway.call(method, &format!("/api/{path}"), &ada, body).await;
        assert_eq!((answer.0, parsed(&answer)), (500, json!({ "error": "Something went wrong." })), "{method} {path}");
        let answer = gateway.call(method, &format!("/api/{path}"), "x.y.z", body).await;
        assert_eq!(answer.0, 401, "{method} {path}");
    }
}

/// Every call that a token opens.
const CALLS: [(&str, &str, &str); 10] = [
    ("GET", "entities/Task", ""),
    ("POST", "entities/Task", "{}"),
    ("GET", "entities/Task/t1", ""),
    ("PUT", "entities/Task/t1", "{}"),
    ("PATCH", "entities/Task/t1", "{}"),
    ("DELETE", "entities/Task/t1", ""),
    ("GET", "storage/a.txt", ""),
    ("PUT", "storage/a.txt", "x"),
    ("DELETE", "storage/a.txt", ""),
    ("GET", "realtime", ""),
];

#[tokio::test(flavor = "multi_thread")]
async fn who_lost_access_is_refused_and_not_told_that_there_is_nothing() {
    let field = Field::new().await;
    let (gateway, ada) = (field.run(OURS, "").await, field.token("todo", "ada").await);
    assert_eq!(gateway.call("POST", "/api/entities/Task", &ada, r#"{"id":"t1"}"#).await.0, 201);
    assert_eq!(gateway.call("PUT", "/api/storage/a.txt", &ada, "mine").await.0, 204);
    let (system, schema) = (&field.world.system, &field.world.schema);
    let refused = async |status: u16| {
        for (method, path, body) in CALLS {
            let answer = gateway.call(method, &format!("/api/{path}"), &ada, body).await;
            assert_eq!((answer.0, parsed(&answer)), (status, json!({ "error": "Access denied." })), "{method} {path}");
        }
    };
    schema.suspend(system, &scope("todo"), true).await.unwrap();
    refused(403).await;
    schema.suspend(system, &scope("todo"), false).await.unwrap();
    // The key that the token's context was signed under is not one any more.
    schema.keys(system, &ContextKeys::new(support::key("k2", 8))).await.unwrap();
    refused(401).await;
    schema.keys(system, &field.world.keys).await.unwrap();
    let session = Session::of_token(&AccessToken::parse(&ada).unwrap()).unwrap();
    schema.revoke(system, session, SystemClock.now().plus(TokenIssuer::MAX_TTL)).await.unwrap();
    refused(401).await;
    // Nothing of it was done.
    let again = field.token("todo", "ada").await;
    assert_eq!(gateway.call("GET", "/api/storage/a.txt", &again, "").await, (200, "mine".to_owned()));
    let items = parsed(&gateway.call("GET", "/api/entities/Task", &again, "").await)["items"].clone();
    assert_eq!((items.as_array().unwrap().len(), &items[0]["id"]), (1, &json!("t1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_one_sentence_and_nothing_of_what_is_behind() {
    let field = Field::new().await;
    let (gateway, ada) = (field.run(OURS, "").await, field.token("todo", "ada").await);
    let big = format!(r#"{{"x":"{}"}}"#, "x".repeat(256 * 1024));
    let calls = [
        ("GET", "/", "", 404),
        ("GET", "/api/", "", 404),
        ("GET", "/api/admin", "", 404),
        ("GET", "/api/entities", "", 404),
        ("GET", "/api/entities/a/b/c", "", 404),
        ("GET", "/api/entities/9a", "", 400),
        ("DELETE", "/api/entities/Task", "", 405),
        ("POST", "/api/realtime", "{}", 405),
        ("POST", "/api/entities/Task", "[]", 400),
        ("POST", "/api/entities/Task", "{", 400),
        ("POST", "/api/entities/Task", r#"{"a b":1}"#, 400),
        ("POST", "/api/entities/Task", r#"{"id":7}"#, 400),
        ("POST", "/api/entities/Task", r#"{"x":"\u0000"}"#, 400),
        ("POST", "/api/entities/Task", big.as_str(), 413),
    ];
    for (method, path, body, status) in calls {
        let answer = gateway.call(method, path, &ada, body).await;
        assert_eq!(answer.0, status, "{method} {path}: {}", answer.1);
    }
    let file = "x".repeat(rest::MAX_FILE + 1);
    let answer = gateway.call("PUT", "/api/storage/large.bin", &ada, &file).await;
    let error = "Too large: the project takes no files or requests of this size.";
    assert_eq!((answer.0, parsed(&answer)), (413, json!({ "error": error })));
    let expired = field
        .tokens()
        .issue(&scope("todo"), None, SystemClock.now().minus(std::time::Duration::from_hours(1)))
        .await
        .unwrap();
    for token in ["", "x", "x.y.z", expired.0.expose()] {
        let answer = gateway.call("GET", "/api/entities/Task", token, "").await;
        assert_eq!((answer.0, parsed(&answer)), (401, json!({ "error": "Access denied." })));
    }
    // The database is gone: one sentence, whatever its driver said.
    field.world.cluster.kill().unwrap();
    let answer = gateway.call("GET", "/api/entities/Task", &ada, "").await;
    assert_eq!((answer.0, parsed(&answer)), (500, json!({ "error": "Something went wrong." })));
}

#[test]
fn the_bundle_holds_every_file_of_the_function() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("functions/gateway");
    let bundle = gateway_function();
    for entry in folder.read_dir().unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(bundle.paths().any(|it| it == name), "{name}");
    }
    // It reads the settings that it names, and never the project's secret keys.
    let source = std::fs::read_to_string(folder.join("index.ts")).unwrap();
    assert!(!source.contains("SERVICE_ROLE") && !source.contains("SECRET_KEY") && !source.contains("DB_URL"));
}
