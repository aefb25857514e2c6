//! The routes for a host's web server, on a real listener and asked by a real client.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use futures::StreamExt as _;
use overskill::{
    axum,
    http::{Client, Event, Method, Response},
    memory::MemoryBackends,
    *,
};
use overskill_testkit::faulty::{Calls, Fault, FaultPlan};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket},
};

struct World {
    clock: TestClock,
    memory: MemoryBackends,
    tokens: LocalTokens,
    platform: Platform,
    address: SocketAddr,
    client: Client,
    /// Faults of the store of deployments.
    plan: FaultPlan,
}

/// Two apps on a clock that stands still; what goes to production is asked for first.
async fn world(options: RouterOptions, plan: FaultPlan) -> World {
    let clock = TestClock::new();
    let memory = MemoryBackends::with(Arc::new(clock.clone()), Arc::new(SeededIds::new(1)));
    let tokens = LocalTokens::new(LocalKeys::generate(KeyId::parse("test").unwrap()).unwrap());
    let strategy = DeploymentStrategy::prefer(memory.target.clone()).permission_for(Environment::Production);
    let builder = memory.platform().tenants(tokens.validator()).deploy_with(strategy);
    let platform = builder.deployments(plan.around(memory.deployments.clone())).build().await.unwrap();
    let host = platform.gate().system("test", "adds apps", SystemScopes::All).await.unwrap();
    for app in ["todo42", "other7"] {
        let app = AppId::parse(app).unwrap();
        platform.put_app(&host, &AppRecord::new(app.clone(), "Test", clock.now())).await.unwrap();
        let app = platform.open(host.clone(), app).await.unwrap();
        app.write([("index.html", "<h1>hello</h1>")]).await.unwrap();
    }
    let web = axum::Router::new().nest("/overskill", router(&platform, options));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, web).await });
    let once = NonZeroU32::MIN;
    let client = Client::builder("overskill", &format!("http://{address}/overskill")).max_tries(once);
    let client = client.classify(|_: &_, _: &Response, _| None).build().unwrap();
    World { clock, memory, tokens, platform, address, client, plan }
}

async fn usual() -> World {
    world(RouterOptions::new(), FaultPlan::new()).await
}

impl World {
    fn token(&self, app: &str, rights: &str) -> String {
        let tenant = TenantId::of_app(AppId::parse(app).unwrap());
        let until = self.clock.now().plus(Duration::from_hours(1));
        let claims = Claims::new(SubjectId::parse("ada").unwrap(), tenant, rights.parse().unwrap(), until);
        let token = self.tokens.mint(&claims, self.clock.now()).unwrap();
        format!("Bearer {}", token.expose())
    }

    async fn app(&self, app: &str) -> AppHandle {
        let token = self.token(app, "data develop operate");
        let token = AccessToken::parse(token.strip_prefix("Bearer ").unwrap()).unwrap();
        self.platform.app(&token, app).await.unwrap()
    }

    fn call(&self, method: Method, path: &str, token: Option<&str>) -> overskill::http::Call {
        let call = self.client.call(method, path);
        match token {
            Some(token) => call.header("authorization", token),
            None => call,
        }
    }

    async fn get(&self, path: &str, token: &str) -> Response {
        self.call(Method::Get, path, Some(token)).send().await.unwrap()
    }

    /// The same for the right token, as JSON of a success.
    async fn read(&self, path: &str) -> Value {
        let answer = self.get(path, &self.token("todo42", "develop")).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json().unwrap()
    }

    async fn answer(&self, id: DeploymentId, body: &str) -> Response {
        let token = self.token("todo42", "develop operate");
        let call = self.call(Method::Post, &format!("apps/todo42/deployments/{id}/answer"), Some(&token));
        call.body("application/json", body.to_owned()).send().await.unwrap()
    }

    /// A deployment that asks whether it may go live.
    async fn asking(&self) -> DeploymentId {
        let deployment = self.app("todo42").await.deploy(Environment::Production).await.unwrap();
        assert!(matches!(deployment.outcome().await.unwrap(), Outcome::AwaitingOperator { .. }));
        deployment.id()
    }

    /// Runs the platform in the background; its rounds wait for a clock that stands still.
    async fn run(&self) {
        let platform = self.platform.clone();
        tokio::spawn(async move { platform.run(std::future::pending()).await });
        self.clock.next_sleeper().await;
    }

    /// Lets time go by, much faster than it does.
    fn flow(&self) {
        let clock = self.clock.clone();
        tokio::spawn(async move {
            loop {
                clock.advance(Duration::from_millis(20));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    }

    /// Adds to a record as whoever drives it would.
    async fn add(&self, id: DeploymentId, events: impl IntoIterator<Item = DeploymentEvent>) {
        let scope = "todo42/staging".parse().unwrap();
        let seq = self.memory.deployments.events(id).await.unwrap().len() as u64;
        let commit = Commit::new(id, scope, seq, events, self.clock.now());
        self.memory.deployments.commit(&commit).await.unwrap();
    }

    async fn requested(&self) -> DeploymentId {
        self.app("todo42").await.deploy(Environment::Staging).await.unwrap().id()
    }

    async fn events(&self, id: DeploymentId, after: Option<&str>) -> Response<overskill::http::Body> {
        let token = self.token("todo42", "develop");
        let call = self.call(Method::Get, &format!("apps/todo42/deployments/{id}/events"), Some(&token));
        let call = after.into_iter().fold(call, |call, id| call.header("last-event-id", id));
        call.stream().await.unwrap()
    }
}

fn waits(reason: impl Into<String>) -> DeploymentEvent {
    DeploymentEvent::Waiting { reason: reason.into(), until: Timestamp::EPOCH }
}

fn failed() -> DeploymentEvent {
    DeploymentEvent::Ended { end: DeploymentEnd::Failed { reason: "no target took it".into() } }
}

/// Whether it becomes true soon.
async fn soon<F: Future<Output = bool>>(what: &str, test: impl Fn() -> F) {
    for _ in 0..500 {
        if test().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what} did not come about within 10 s");
}

fn assert_problem(answer: &Response, status: u16) -> Value {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let problem: Value = answer.json().unwrap();
    assert_eq!((problem["status"].as_u64(), problem["type"].as_str()), (Some(status.into()), Some("about:blank")));
    problem
}

#[tokio::test]
async fn every_route_answers_to_the_right_token_alone() {
    let world = usual().await;
    let id = world.asking().await;
    let expired = world.token("todo42", "data develop operate");
    world.clock.advance(Duration::from_hours(1));
    let other = world.token("other7", "data develop operate");
    for (method, path, right) in [
        (Method::Get, "deployments?environment=production".to_owned(), "develop"),
        (Method::Get, format!("deployments/{id}"), "develop"),
        (Method::Get, format!("deployments/{id}/timeline"), "develop"),
        (Method::Get, format!("deployments/{id}/events"), "develop"),
        (Method::Get, "route?environment=production".into(), "develop"),
        (Method::Get, "reconcile?environment=production".into(), "develop"),
        (Method::Post, format!("deployments/{id}/answer"), "operate"),
    ] {
        let ask = async |app: &str, token: Option<&str>| {
            let call = world.call(method, &format!("apps/{app}/{path}"), token);
            let call = if method == Method::Post { call.json(&json!({ "choice": "approve" })) } else { call };
            let answer = call.stream().await.unwrap();
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
            assert!(answer.header("cache-control").unwrap().contains("no-store"), "{path}");
            assert!(!answer.headers.contains("access-control-allow-origin"), "{path}");
            if answer.status == 200 && path.ends_with("events") {
                Response::new(200, "")
            } else {
                answer.collect(1 << 20).await.unwrap()
            }
        };
        let none = ask("todo42", None).await;
        assert_problem(&none, 401);
        assert_eq!(none.header("www-authenticate"), Some(r#"Bearer realm="overskill""#));
        for bad in [expired.as_str(), "Bearer hunter2", "Basic aHVudGVyMg==", "Bearer", "Bearer a b", ""] {
            let refused = ask("todo42", Some(bad)).await;
            assert_eq!(assert_problem(&refused, 401)["detail"], "Access denied.", "{bad}");
            assert!(refused.header("www-authenticate").unwrap().contains("invalid_token"));
        }
        // Somebody else's app, one that is not there and one that cannot be there are alike.
        let theirs = assert_problem(&ask("todo42", Some(&other)).await, 404);
        assert_eq!(theirs, assert_problem(&ask("nobodys", Some(&other)).await, 404), "{path}");
        assert_eq!(theirs, assert_problem(&ask("No-Body", Some(&other)).await, 404), "{path}");
        let without = ["data", "develop", "operate"].into_iter().filter(|r| *r != right).collect::<Vec<_>>().join(" ");
        assert_problem(&ask("todo42", Some(&world.token("todo42", &without))).await, 403);
        let allowed = if right == "operate" { "develop operate" } else { right };
        let status = ask("todo42", Some(&world.token("todo42", allowed))).await.status;
        assert!(status == 200 || status == 202, "{path}: {status}");
    }
    assert_problem(&world.get(&format!("apps/other7/deployments/{id}"), &other).await, 404);
}

#[tokio::test]
async fn what_is_told_of_deployments() {
    let world = usual().await;
    let live = world.requested().await;
    world.platform.work().await.unwrap();
    let asks = world.asking().await;
    let again = world.requested().await;

    let one = world.read(&format!("apps/todo42/deployments/{live}")).await;
    assert_eq!(
        (&one["state"], &one["outcome"]["as"], &one["environment"]),
        (&json!("ended"), &json!("active"), &json!("staging"))
    );
    assert_eq!(one["requested_by"], json!({ "subject": "ada" }));
    assert_eq!((&one["cost"]["target_calls"], &one["question"]), (&json!(2), &Value::Null));
    assert!(one["url"].as_str().unwrap().starts_with("https://"), "{one}");

    let one = world.read(&format!("apps/todo42/deployments/{asks}")).await;
    assert_eq!((&one["state"], &one["outcome"]), (&json!("awaiting_operator"), &Value::Null));
    assert_eq!(one["question"]["choices"], json!(["approve", "abort"]));
    let deadline = one["question"]["deadline"].as_i64().unwrap();
    assert_eq!(deadline, world.clock.now().plus(Duration::from_hours(24)).as_unix_millis());

    let page = world.read("apps/todo42/deployments?environment=staging&limit=1").await;
    assert_eq!((&page["deployments"][0]["id"], &page["deployments"][0]["outcome"]), (&json!(again), &Value::Null));
    let next = page["next"].as_str().unwrap();
    let page = world.read(&format!("apps/todo42/deployments?environment=staging&before={next}")).await;
    assert_eq!((&page["deployments"][0]["id"], page["deployments"].as_array().unwrap().len()), (&json!(live), 1));
    assert_eq!(page["next"], Value::Null);

    let story = world.get(&format!("apps/todo42/deployments/{live}/timeline"), &world.token("todo42", "develop")).await;
    assert_eq!(story.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(story.text().contains("LIVE on memory"), "{}", story.text());

    let route = world.read("apps/todo42/route?environment=staging").await;
    assert_eq!((&route["route"]["deployment"], &route["route"]["target"]), (&json!(live), &json!("memory")));
    assert_eq!(world.read("apps/todo42/route?environment=production").await["route"], Value::Null);
    let found = world.read("apps/todo42/reconcile?environment=staging").await;
    assert_eq!(found, json!({ "drift": { "is": "in_sync" }, "strays": [], "unknown": [] }));
    let scope = "todo42/staging".parse().unwrap();
    world.memory.target.remove(&scope, Removal::All).await.unwrap();
    let found = world.read("apps/todo42/reconcile?environment=staging").await;
    assert_eq!(found["drift"], json!({ "is": "missing", "wanted": live }));
}

#[tokio::test]
async fn malformed_requests_are_told_what_is_wrong_with_which_field() {
    let world = usual().await;
    let (id, token) = (world.asking().await, world.token("todo42", "develop operate"));
    for (path, field) in [
        ("apps/todo42/deployments", None),
        ("apps/todo42/deployments?environment=moon", Some("environment")),
        ("apps/todo42/deployments?environment=staging&limit=0", Some("limit")),
        ("apps/todo42/deployments?environment=staging&limit=101", Some("limit")),
        ("apps/todo42/deployments?environment=staging&limit=x", Some("limit")),
        ("apps/todo42/deployments?environment=staging&before=x", Some("before")),
        ("apps/todo42/deployments?environment=staging&page=2", None),
        ("apps/todo42/deployments?environment=staging&environment=production", None),
        ("apps/todo42/route?environment=", Some("environment")),
        ("apps/todo42/reconcile?environment=staging&a=b", None),
    ] {
        let problem = assert_problem(&world.get(path, &token).await, 400);
        assert_eq!((problem["field"].as_str(), &problem["kind"]), (field, &json!("invalid")), "{path}: {problem}");
    }
    let unknown = assert_problem(&world.get("apps/todo42/route?environment=staging&page=2", &token).await, 400);
    assert!(unknown["detail"].as_str().unwrap().contains("`page`"), "{unknown}");

    for (body, status, field) in [
        (r#"{"choice": "maybe"}"#, 422, Some("choice")),
        (r#"{"choice": "retry"}"#, 422, None), // is none of this question's choices
        (r#"{"choice": "approve", "why": "x"}"#, 422, None),
        (r#"{"choice": 1}"#, 422, None),
        ("{}", 422, None),
        (r#"{"choice": "approve""#, 400, None),
        ("", 400, None),
    ] {
        let problem = assert_problem(&world.answer(id, body).await, status);
        assert_eq!(problem["field"].as_str(), field, "{body}: {problem}");
    }
    let path = format!("apps/todo42/deployments/{id}/answer");
    let long = world.answer(id, &format!(r#"{{"choice": "{}"}}"#, "x".repeat(20_000))).await;
    assert_problem(&long, 413);
    let form = world.call(Method::Post, &path, Some(&token)).body("text/plain", r#"{"choice": "approve"}"#);
    assert_problem(&form.send().await.unwrap(), 415);
    assert_eq!(world.read(&format!("apps/todo42/deployments/{id}")).await["state"], "awaiting_operator");

    let put = world.call(Method::Put, &path, Some(&token)).json(&json!({})).send().await.unwrap();
    assert_problem(&put, 405);
    assert_eq!(put.header("allow"), Some("POST"));
    for none in ["apps", "apps/todo42", "apps/todo42/deployments/x", "apps/todo42/deployments/x/events", "notify", ""] {
        assert_problem(&world.get(none, &token).await, 404);
    }
}

/// Its clock stands still, so nothing but the answer can have woken it.
#[tokio::test]
async fn an_answer_wakes_what_waits_for_it() {
    let world = usual().await;
    let (yes, no) = (world.asking().await, world.asking().await);
    world.run().await;
    let path = format!("apps/todo42/deployments/{no}");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(world.read(&path).await["state"], "awaiting_operator");
    let answer = world.answer(no, r#"{"choice": "abort"}"#).await;
    assert_eq!((answer.status, &answer.json::<Value>().unwrap()["question"]), (202, &Value::Null));
    soon("the end", async || world.read(&path).await["outcome"]["as"] == "failed").await;
    assert_problem(&world.answer(no, r#"{"choice": "abort"}"#).await, 409);

    assert_eq!(world.answer(yes, r#"{"choice": "approve"}"#).await.status, 202);
    let path = format!("apps/todo42/deployments/{yes}");
    soon("the end", async || world.read(&path).await["outcome"]["as"] == "active").await;
    assert_eq!(world.read("apps/todo42/route?environment=production").await["route"]["deployment"], json!(yes));
    let story = world.get(&format!("{path}/timeline"), &world.token("todo42", "develop")).await.text();
    assert!(story.contains("ada answered"), "{story}");
}

fn seq(event: &Event) -> u64 {
    let data: Value = serde_json::from_str(&event.data).unwrap();
    assert_eq!((data["seq"].to_string(), data["event"].as_str()), (event.id.clone(), Some(event.name.as_str())));
    data["seq"].as_u64().unwrap()
}

/// However often a reader is cut off while the record grows, it gets each event once.
#[tokio::test]
async fn a_reader_that_comes_back_misses_nothing_and_gets_nothing_twice() {
    const EVENTS: u64 = 300;
    let world = usual().await;
    let id = world.requested().await;
    world.flow();
    let write = async {
        for n in 2..EVENTS {
            world.add(id, [waits(format!("{n}"))]).await;
            if n % 7 == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        world.add(id, [failed()]).await;
    };
    let read = async {
        let (mut got, mut connections) = (Vec::new(), 0);
        loop {
            let last = got.last().map(u64::to_string);
            let answer = world.events(id, last.as_deref()).await;
            if answer.status == 204 {
                return (got, connections);
            }
            assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/event-stream")));
            connections += 1;
            // Cut after a few, in the middle of what is under way.
            let mut events = Box::pin(answer.body.events(1 << 16).take(1 + connections % 40));
            while let Some(event) = events.next().await {
                got.push(seq(&event.unwrap()));
            }
        }
    };
    let ((), read) = tokio::join!(write, tokio::time::timeout(Duration::from_mins(1), read));
    let (got, connections) = read.unwrap();
    assert_eq!(got, (1..=EVENTS).collect::<Vec<_>>());
    assert!(connections > 10, "{connections}");
}

#[tokio::test]
async fn a_stream_ends_with_the_deployment_with_the_token_and_not_before() {
    let world = world(RouterOptions::new().max_streams(NonZeroUsize::MIN), FaultPlan::new()).await;
    let id = world.requested().await;
    let answer = world.events(id, None).await;
    let mut events = Box::pin(answer.body.events(1 << 16));
    assert_eq!(events.next().await.unwrap().unwrap().name, "requested");
    assert_problem(&world.events(id, None).await.collect(1 << 16).await.unwrap(), 503);
    world.add(id, [failed()]).await;
    world.flow();
    assert_eq!(events.next().await.unwrap().unwrap().name, "ended");
    assert!(events.next().await.is_none());
    // Its place is free again, and nothing is left to be told.
    assert_eq!(world.events(id, Some("2")).await.status, 204);
    assert_problem(&world.events(id, Some("3")).await.collect(1 << 16).await.unwrap(), 409);
    assert_problem(&world.events(id, Some("x")).await.collect(1 << 16).await.unwrap(), 400);

    let id = world.requested().await;
    let answer = world.events(id, None).await;
    assert_eq!(answer.status, 200);
    let mut events = Box::pin(answer.body.events(1 << 16));
    assert_eq!(events.next().await.unwrap().unwrap().name, "requested");
    world.clock.advance(Duration::from_hours(1));
    assert!(events.next().await.is_none(), "the token has expired");
}

#[tokio::test]
async fn a_silent_stream_says_that_it_is_there_and_outlives_a_store_that_fails() {
    let plan = FaultPlan::new().always(Calls::of("deployments", "events"), Fault::before());
    plan.pause();
    let world = world(RouterOptions::new().keep_alive(Duration::from_secs(15)), plan).await;
    let id = world.requested().await;
    let mut body = world.events(id, None).await.body;
    let mut text = String::new();
    while !text.ends_with("\n\n") || !text.contains("id: 1\n") {
        text.push_str(&String::from_utf8_lossy(&body.next().await.unwrap().unwrap()));
    }
    assert!(text.starts_with("retry: 2000\n\nid: 1\nevent: requested\ndata: {"), "{text}");
    world.plan.resume();
    for _ in 0..3 {
        world.clock.next_sleeper().await;
        world.clock.advance_to_next_sleeper();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.plan.pause();
    world.flow();
    let comment = body.next().await.unwrap().unwrap();
    assert_eq!(&comment[..], b": still here\n\n");
    assert!(world.plan.hits().total() >= 2, "{:?}", world.plan.hits());
}

/// What a reader does not take is not even read from the store.
#[tokio::test]
async fn a_slow_reader_holds_no_memory() {
    const EVENTS: usize = 4_000;
    let world = usual().await;
    let id = world.requested().await;
    world.add(id, (2..EVENTS).map(|_| waits("x".repeat(4096))).chain([failed()])).await;

    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 * 1024).unwrap();
    let mut connection = socket.connect(world.address).await.unwrap();
    let token = world.token("todo42", "develop");
    let request = format!(
        "GET /overskill/apps/todo42/deployments/{id}/events HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         authorization: {token}\r\n\r\n"
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    let looks = || world.plan.calls(&Calls::of("deployments", "events"));
    let mut before = u64::MAX;
    while looks() != before || looks() == 0 {
        before = looks();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let (stalled, whole) = (before, EVENTS as u64 / 128);
    assert!(stalled < whole / 2 + 4, "{stalled} looks of {whole}, although nobody reads");

    let mut text = String::new();
    connection.read_to_string(&mut text).await.unwrap();
    let ids: Vec<usize> = text.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).collect();
    assert_eq!(ids, (1..=EVENTS).collect::<Vec<_>>());
    assert!(looks() > whole, "{} looks", looks());
}

#[tokio::test]
async fn health_names_what_is_not_ready_and_nothing_else_and_is_asked_once_a_second() {
    let plan = FaultPlan::new().always(Calls::of("deployments", "check"), Fault::before());
    plan.pause();
    let world = world(RouterOptions::new(), plan).await;
    let ask = async || world.call(Method::Get, "health", None).send().await.unwrap();
    let asked = || world.plan.calls(&Calls::of("deployments", "check"));
    let before = asked();
    let answer = ask().await;
    assert_eq!((answer.status, answer.text()), (200, r#"{"status":"ok"}"#.into()));
    world.plan.resume();
    for _ in 0..20 {
        assert_eq!(ask().await.status, 200, "kept");
    }
    assert_eq!(asked() - before, 1);
    world.clock.advance(Duration::from_secs(1));
    let answers = futures::future::join_all((0..20).map(|_| ask())).await;
    for answer in answers {
        assert_eq!((answer.status, answer.text()), (503, r#"{"seams":["deployments"],"status":"not ready"}"#.into()));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    assert_eq!(asked() - before, 2, "one asks for all");
}

#[tokio::test]
async fn a_signed_notice_has_a_deployment_driven_on() {
    let [current, old, stranger] = [1, 2, 3].map(|seed| WebhookSecret::generate(&SeededIds::new(seed)));
    let options = RouterOptions::new().notified_by(WebhookSecrets::new(current.clone()).and(old.clone()));
    let world = world(options, FaultPlan::new()).await;
    world.run().await;
    let id = world.requested().await;
    let post = async |signed: Option<&WebhookSignature>, body: &str| {
        let mut call = world.call(Method::Post, "notify", None).body("application/json", body.to_owned());
        if let Some(WebhookSignature { id, timestamp, signature }) = signed {
            call = call.header("webhook-id", id).header("webhook-timestamp", timestamp);
            call = call.header("webhook-signature", signature);
        }
        call.send().await.unwrap()
    };
    let now = world.clock.now();
    let (ours, old) = (WebhookSecrets::new(current), WebhookSecrets::new(old));
    let body = json!({ "deployment": id }).to_string();
    let signed = ours.sign("msg_1", now, body.as_bytes()).unwrap();

    // Nobody is believed who does not have the secret, and nothing comes of it.
    assert_problem(&post(None, &body).await, 401);
    let theirs = WebhookSecrets::new(stranger).sign("msg_1", now, body.as_bytes()).unwrap();
    let refused = post(Some(&theirs), &body).await;
    let problem = assert_problem(&refused, 401);
    assert!(refused.header("www-authenticate").is_some());
    assert_eq!(problem, assert_problem(&post(Some(&signed), &format!("{body} ")).await, 401), "tampered");
    for change in [-301, 301] {
        let at = Timestamp::from_unix_millis(now.as_unix_millis() + change * 1000);
        let skewed = ours.sign("msg_1", at, body.as_bytes()).unwrap();
        let problem = assert_problem(&post(Some(&skewed), &body).await, 401);
        assert!(problem["detail"].as_str().unwrap().contains("5 minutes"), "{problem}");
        let moved = WebhookSignature { timestamp: signed.timestamp.clone(), ..skewed };
        assert_problem(&post(Some(&moved), &body).await, 401);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(world.read(&format!("apps/todo42/deployments/{id}")).await["state"], "requested");

    let taken = post(Some(&signed), &body).await;
    assert_eq!((taken.status, taken.text()), (202, String::new()));
    let path = format!("apps/todo42/deployments/{id}");
    soon("the end", async || world.read(&path).await["outcome"]["as"] == "active").await;

    // The same again is a replay; sent anew it is not, and changes nothing of what has ended.
    assert_problem(&post(Some(&signed), &body).await, 409);
    world.clock.advance(Duration::from_secs(1));
    for secrets in [&ours, &old] {
        world.clock.advance(Duration::from_secs(1));
        let anew = secrets.sign("msg_1", world.clock.now(), body.as_bytes()).unwrap();
        assert_eq!(post(Some(&anew), &body).await.status, 202);
    }
    world.clock.advance(Duration::from_mins(5) - Duration::from_secs(3));
    assert_problem(&post(Some(&signed), &body).await, 409);
    world.clock.advance(Duration::from_secs(1));
    assert_problem(&post(Some(&signed), &body).await, 401);

    let sign = |body: &str| ours.sign("msg_2", world.clock.now(), body.as_bytes()).unwrap();
    let nobody = json!({ "deployment": DeploymentId::generate(&SeededIds::new(9), now) }).to_string();
    for _ in 0..2 {
        assert_problem(&post(Some(&sign(&nobody)), &nobody).await, 404); // and may come again once it is there
    }
    for (bad, status) in [
        (r#"{"deployment": "x"}"#.to_owned(), 422),
        (body.replace('}', r#", "a": 1}"#), 422),
        ("{".to_owned(), 400),
        (format!("\"{}\"", "x".repeat(20_000)), 413),
    ] {
        assert_problem(&post(Some(&sign(&bad)), &bad).await, status);
    }
}

#[tokio::test]
async fn without_a_secret_nothing_takes_notices() {
    let world = usual().await;
    let answer = world.call(Method::Post, "notify", None).json(&json!({})).send().await.unwrap();
    assert_problem(&answer, 404);
}
