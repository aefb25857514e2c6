//! The dispatch Worker: who a request is for, what serves it, and what passes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use overskill_cloudflare::CloudflareRoutes;
use overskill_core::{
    AccessToken, AppId, BackendName, Clock as _, DeploymentId, Environment, Fence, Handle, LocalTokens,
    PreviewHost as _, PublicUrl, Right, Rights, Route, RouteTable as _, Scope, SubjectId, SystemClock, SystemIds,
    TenantId, TenantValidator as _,
};
use serde_json::json;
use std::time::Duration;
use support::{Options, Workers, at, env, http, scope, snapshot};

/// What it says of the request, and of how it was called.
const ECHO: &str = r#"export default { async fetch(request, env) {
  const url = new URL(request.url);
  if (url.pathname === "/throws") throw new Error("of the app's own");
  const headers = new Headers({ "x-app": env.NAME, "x-overskill-room": "closed", "alt-svc": "h3" });
  if (url.pathname === "/cookies") {
    headers.append("set-cookie", "own=1; Path=/; HttpOnly");
    headers.append("set-cookie", "wide=1; Domain=.LOCALHOST; Path=/");
    headers.append("set-cookie", "apps=1; domain=apps.test");
    headers.append("set-cookie", "other=1; Domain=elsewhere.test");
  }
  if (url.pathname === "/moves") return Response.redirect(url.origin + "/there", 302);
  const body = await request.text();
  return Response.json({ name: env.NAME, options: JSON.parse(env.OPTIONS), method: request.method, url: request.url,
    headers: Object.fromEntries(request.headers), body }, { headers });
} }"#;

fn route(target: &str, handle: Handle, fence: u64) -> Route {
    let deployment = DeploymentId::generate(&SystemIds, SystemClock.now());
    Route::new(BackendName::parse(target).unwrap(), deployment, handle, Fence::from_u64(fence))
}

async fn live(workers: &Workers, at: &str, script: &str, fence: u64) -> CloudflareRoutes {
    let scope = scope(at);
    workers.script(scope.environment, script, ECHO).await;
    let routes = workers.edge().routes();
    routes.set(&scope, &route("cloudflare", Handle::new(script), fence)).await.unwrap();
    routes
}

/// Longer than any isolate goes on with what it was told.
async fn outlast() {
    tokio::time::sleep(Duration::from_millis(1_100)).await;
}

#[tokio::test]
async fn each_environment_has_its_host_and_its_namespace() {
    let workers = Workers::start().await;
    for (environment, label) in [
        (Environment::Production, "todo42"),
        (Environment::Staging, "staging-todo42"),
        (Environment::Preview, "preview-todo42"),
        (Environment::Development, "dev-todo42"),
    ] {
        live(&workers, &format!("todo42/{environment}"), &format!("todo42-{environment}-1"), 1).await;
        let answer = workers.ask("POST", label, "/a/b?c=d", &[("cookie", "x=1"), ("x-mine", "yes")], "body").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let said = answer.json();
        assert_eq!(said["name"], format!("todo42-{environment}-1"));
        assert_eq!((said["method"].as_str(), said["body"].as_str()), (Some("POST"), Some("body")));
        assert_eq!(said["url"], format!("http://{}/a/b?c=d", workers.host(label)));
        assert_eq!(
            (said["headers"]["cookie"].as_str(), said["headers"]["x-mine"].as_str()),
            (Some("x=1"), Some("yes"))
        );
        // On the other domain too, and whatever the case.
        let host = format!("{}.APPS.test", label.to_uppercase());
        assert_eq!(http::ask(workers.port, "GET", &host, "/", &[], b"").await.status, 200);
    }
}

#[tokio::test]
async fn what_is_no_app_is_told_so() {
    let workers = Workers::start().await;
    live(&workers, "todo42/production", "todo42-1", 1).await;
    for (label, title) in [
        ("nobody", "No such app"),
        ("preview-nobody", "Not open"),
        ("staging-todo42", "No such app"),
        ("www", "No such app"),
        ("api", "No such app"),
        ("other-todo42", "No such app"),
        ("a.todo42", "No such app"),
        ("", "Not found"),
    ] {
        let page = workers.page(label, "/").await;
        assert_eq!(page.status, 404, "{label}");
        assert!(page.text().contains(&format!("<h1>{title}</h1>")), "{label}: {}", page.text());
        assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
        assert_eq!(workers.get(label, "/").await.header("content-type"), Some("text/plain; charset=utf-8"));
    }
    for host in ["evil.test", "todo42.evil.test", "localhost.evil.test", "notlocalhost", "127.0.0.1"] {
        assert_eq!(http::ask(workers.port, "GET", host, "/", &[], b"").await.status, 404, "{host}");
    }
    let markup = http::ask(workers.port, "GET", "<b>x.localhost", "/", &[("accept", "text/html")], b"").await;
    assert!(markup.status >= 400 && !markup.text().contains("<b>x"));
    assert_eq!(workers.get("todo42", "/").await.status, 200, "the control");
}

#[tokio::test]
async fn a_new_route_is_live_within_a_second_and_a_cleared_one_is_gone() {
    let workers = Workers::start().await;
    let routes = live(&workers, "todo42/production", "todo42-1", 1).await;
    let todo = scope("todo42/production");
    assert_eq!(workers.get("todo42", "/").await.json()["name"], "todo42-1");
    workers.script(Environment::Production, "todo42-2", ECHO).await;
    routes.set(&todo, &route("cloudflare", Handle::new("todo42-2"), 2)).await.unwrap();
    assert_eq!(routes.staleness(), Duration::from_secs(1));
    outlast().await;
    assert_eq!(workers.get("todo42", "/").await.json()["name"], "todo42-2");
    routes.clear(&todo, Fence::from_u64(3)).await.unwrap();
    outlast().await;
    assert_eq!(workers.get("todo42", "/").await.status, 404);
    // A route to what is not there is our trouble, and passes.
    routes.set(&todo, &route("cloudflare", Handle::new("todo42-4"), 4)).await.unwrap();
    outlast().await;
    assert_eq!(workers.get("todo42", "/").await.status, 503);
}

#[tokio::test]
async fn an_isolate_asks_for_a_route_at_most_once_a_second() {
    let counted = "live(environment) {\n    console.log('asked for a route');";
    let options = Options::new().patched("routes.js", "live(environment) {", counted);
    let workers = Workers::with(options).await;
    live(&workers, "todo42/production", "todo42-1", 1).await;
    outlast().await;
    let begun = std::time::Instant::now();
    for _ in 0..50 {
        assert_eq!(workers.get("todo42", "/").await.status, 200);
    }
    let asked = workers.log().matches("asked for a route").count();
    let most = usize::try_from(begun.elapsed().as_secs()).unwrap() + 2;
    assert!((1..=most).contains(&asked), "{asked} times in {:?}", begun.elapsed());
}

#[tokio::test]
async fn an_app_is_called_with_the_limits_of_its_plan_and_the_outbound_worker_is_told_whose_it_is() {
    for outbound in [true, false] {
        let workers = Workers::with(Options::new().setting("outbound", json!(outbound))).await;
        let routes = live(&workers, "todo42/production", "todo42-1", 1).await;
        let options = async || workers.get("todo42", "/").await.json()["options"].clone();
        let standard = options().await;
        assert_eq!(standard["limits"], json!({ "cpuMs": 50, "subRequests": 50 }));
        let told = json!({ "scope": "todo42/production", "plan": "default" });
        assert_eq!(standard["outbound"], if outbound { told } else { json!(null) });
        routes.set_plan(&AppId::parse("todo42").unwrap(), Some("pro")).await.unwrap();
        outlast().await;
        assert_eq!(options().await["limits"], json!({ "cpuMs": 500 }));
        // A plan that nobody defined is the default one.
        routes.set_plan(&AppId::parse("todo42").unwrap(), Some("__proto__")).await.unwrap();
        outlast().await;
        assert_eq!(options().await["limits"]["cpuMs"], 50);
    }
}

#[tokio::test]
async fn headers_that_are_the_platforms_own_pass_in_neither_direction() {
    let workers = Workers::start().await;
    live(&workers, "todo42/production", "todo42-1", 1).await;
    let forged = [
        ("x-overskill-scope", "bank/production"),
        ("X-Overskill-Room", "1"),
        ("x-forwarded-host", "bank.localhost"),
        ("forwarded", "host=bank.localhost"),
        ("x-real-ip", "10.0.0.1"),
        ("true-client-ip", "10.0.0.2"),
        ("x-client-ip", "10.0.0.3"),
        ("x-original-url", "/admin"),
        ("x-rewrite-url", "/admin"),
        ("cf-worker", "bank"),
        ("authorization", "Bearer of-the-app"),
    ];
    let answer = workers.ask("GET", "todo42", "/", &forged, "").await;
    let headers = answer.json()["headers"].clone();
    for (name, _) in &forged[..forged.len() - 1] {
        assert_eq!(headers[name.to_lowercase()], json!(null), "{name}");
    }
    assert_eq!(headers["authorization"], "Bearer of-the-app", "an app's own affair");
    assert_eq!(
        (answer.header("x-app"), answer.header("x-overskill-room"), answer.header("alt-svc")),
        (Some("todo42-1"), None, None)
    );
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));

    let cookies = workers.get("todo42", "/cookies").await;
    let set: Vec<_> =
        cookies.headers.iter().filter(|(name, _)| name == "set-cookie").map(|(_, value)| value.as_str()).collect();
    assert_eq!(set, ["own=1; Path=/; HttpOnly", "wide=1; Path=/", "apps=1", "other=1; Domain=elsewhere.test"]);
    // A redirect is for the browser.
    let moves = workers.get("todo42", "/moves").await;
    assert_eq!(moves.status, 302);
    let broken = workers.page("todo42", "/throws").await;
    assert_eq!(broken.status, 500);
    assert!(!broken.text().contains("of the app's own"), "what it says is for its logs");
}

#[tokio::test]
async fn an_app_of_another_platform_is_shown_at_its_own_address() {
    let workers = Workers::start().await;
    let routes = workers.edge().routes();
    let at = |url: &str| Handle::new("elsewhere").served_at(PublicUrl::parse(url).unwrap());
    let todo = scope("todo42/production");
    routes.set(&todo, &route("deno", at("http://elsewhere.test/base"), 1)).await.unwrap();
    let host = workers.host("todo42");
    let origin = format!("http://{host}");
    let answer =
        workers.ask("POST", "todo42", "/a%20b?c=d", &[("origin", &origin), ("x-overskill-x", "1")], "hello").await;
    assert_eq!(answer.text(), "elsewhere: POST /base/a%20b?c=d hello");
    assert_eq!((answer.header("set-cookie"), answer.header("alt-svc")), (Some("s=1; Path=/; HttpOnly"), None));
    let seen = workers.seen().await;
    let headers = &seen[0]["headers"];
    assert_eq!(
        (headers["x-forwarded-host"].as_str(), headers["x-forwarded-proto"].as_str()),
        (Some(host.as_str()), Some("http"))
    );
    assert_eq!((headers["origin"].as_str(), headers["x-overskill-x"].as_str()), (Some("http://elsewhere.test"), None));
    let moved = workers.get("todo42", "/moved").await;
    assert_eq!((moved.status, moved.header("location")), (302, Some(format!("{origin}/base/there?x=1").as_str())));

    for (fence, url, status) in
        [(2, "http://bank7.localhost/x", 508), (3, "http://localhost", 508), (4, "http://nobody.test", 502)]
    {
        routes.set(&todo, &route("deno", at(url), fence)).await.unwrap();
        outlast().await;
        assert_eq!(workers.get("todo42", "/").await.status, status, "{url}");
    }
    routes.set(&todo, &route("deno", Handle::new("nowhere"), 5)).await.unwrap();
    outlast().await;
    assert_eq!(workers.get("todo42", "/").await.status, 503);
}

#[tokio::test]
async fn a_host_name_of_somebody_elses_is_connected_with_an_app() {
    let workers = Workers::start().await;
    let routes = live(&workers, "todo42/production", "todo42-1", 1).await;
    let get = async |path: &str| http::ask(workers.port, "GET", "Todo.Example", path, &[], b"").await;
    assert_eq!(get("/").await.status, 404);
    routes.connect_host("TODO.example", Some(&scope("todo42/production"))).await.unwrap();
    outlast().await;
    assert_eq!(get("/").await.json()["name"], "todo42-1");
    assert_eq!(get("/.overskill/v1/check").await.status, 404, "the platform's own paths are not there");
    routes.connect_host("todo.example", None).await.unwrap();
    outlast().await;
    assert_eq!(get("/").await.status, 404);
    for bad in
        ["todo.example.", ".todo.example", "todo..example", "", "todo example", "tödo.example", "a/b", "host todo"]
    {
        assert!(routes.connect_host(bad, None).await.unwrap_err().message().contains("hostname must be"), "{bad}");
    }
}

#[tokio::test]
async fn an_apps_api_goes_upstream_with_a_token_of_its_own_and_nothing_else() {
    let workers = Workers::start().await;
    assert_eq!(workers.get("todo42", "/api/tasks").await.status, 404, "nothing is live or open");
    live(&workers, "todo42/production", "todo42-1", 1).await;
    outlast().await;
    let sent = [
        ("content-type", "application/json"),
        ("authorization", "Bearer stolen"),
        ("cookie", "session=1"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-overskill-scope", "bank7/production"),
    ];
    let answer = workers.ask("POST", "todo42", "/api/tasks/a%20b?limit=2&q=%2F", &sent, "{\"a\":1}").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["url"], "http://data.test/v1/todo42/production/tasks/a%20b?limit=2&q=%2F");
    assert_eq!((answer.json()["method"].as_str(), answer.json()["body"].as_str()), (Some("POST"), Some("{\"a\":1}")));
    assert_eq!((answer.header("x-total"), answer.header("set-cookie")), (Some("7"), None));
    assert_eq!((answer.header("access-control-allow-origin"), answer.header("x-overskill-room")), (None, None));
    let seen = workers.seen().await;
    let headers = seen[0]["headers"].as_object().unwrap();
    for name in ["cookie", "x-forwarded-for", "x-overskill-scope"] {
        assert!(!headers.contains_key(name), "{name}");
    }
    // The token is good for this app in this environment, as a visitor, for data; and for nothing else.
    let token = headers["authorization"].as_str().unwrap().strip_prefix("Bearer ").unwrap();
    let token = AccessToken::parse(token).unwrap();
    let validator = LocalTokens::new(workers.keys.clone()).validator();
    let tenant = |app: &str| TenantId::of_app(AppId::parse(app).unwrap());
    let now = SystemClock.now();
    let claims = validator.validate(&token, &tenant("todo42"), now).await.unwrap();
    assert_eq!((claims.rights, claims.subject), (Rights::of([Right::Data]), SubjectId::visitor()));
    assert_eq!(claims.environment, Some(Environment::Production));
    let lasts = claims.expires_at.as_unix_millis() - now.as_unix_millis();
    assert!((100_000..=301_000).contains(&lasts), "{lasts} ms");
    assert!(validator.validate(&token, &tenant("bank7"), now).await.is_err());
    assert!(validator.validate(&token, &tenant("todo42"), now.plus(Duration::from_mins(6))).await.is_err());
}

#[tokio::test]
async fn an_api_is_for_the_apps_own_pages() {
    let workers = Workers::with(Options::new().setting("max_api_body_bytes", json!(1000))).await;
    let previews = workers.previews();
    let files = [("index.html", "<p>hello</p>")];
    previews.open(&scope("todo42/preview"), &snapshot(at(1), &files), &env(1)).await.unwrap();
    let label = "preview-todo42";
    let own = format!("http://{}", workers.host(label));
    let call = async |method: &str, path: &str, headers: &[(&str, &str)], body: &str| {
        workers.ask(method, label, path, headers, body).await.status
    };
    assert_eq!(call("GET", "/api/tasks", &[], "").await, 200, "a preview that is open has data");
    assert_eq!(call("GET", "/api/tasks", &[("origin", &own)], "").await, 200);
    assert_eq!(call("GET", "/api/tasks", &[("sec-fetch-site", "same-origin")], "").await, 200);
    let bank = format!("http://{}", workers.host("preview-bank7"));
    for origin in
        [bank.as_str(), "null", "http://evil.test", &own.replace("http:", "https:"), &format!("{own}.evil.test")]
    {
        assert_eq!(call("POST", "/api/tasks", &[("origin", origin)], "x").await, 403, "{origin}");
    }
    for site in ["same-site", "cross-site"] {
        assert_eq!(call("GET", "/api/tasks", &[("sec-fetch-site", site)], "").await, 403, "{site}");
    }
    assert_eq!(call("OPTIONS", "/api/tasks", &[], "").await, 405);
    for path in ["/api/", "/api//tasks", "/api/tasks/", "/api/a%5cb", "/api/%252e%252e/x", "/api/a%00b", "/api/%zz"] {
        assert_eq!(call("GET", path, &[], "").await, 400, "{path}");
    }
    assert_eq!(call("POST", "/api/tasks", &[], &"x".repeat(1000)).await, 200);
    assert_eq!(call("POST", "/api/tasks", &[], &"x".repeat(1001)).await, 413);
    let chunked = format!(
        "POST /api/tasks HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n7d0\r\n{}\r\n0\r\n\r\n",
        workers.host(label),
        "x".repeat(2000)
    );
    assert_eq!(http::raw(workers.port, chunked.as_bytes()).await.status, 413, "whatever length it says");
    // A path that leads up is resolved before it is looked at: it leaves the API, not the app.
    assert_eq!(call("GET", "/api/../../bank7/production/tasks", &[], "").await, 404);
    let seen = workers.seen().await;
    assert!(
        seen.iter().all(|it| it["url"].as_str().unwrap().starts_with("http://data.test/v1/todo42/preview/")),
        "{seen:?}"
    );
    previews.close(&Scope::new(AppId::parse("todo42").unwrap(), Environment::Preview)).await.unwrap();
    outlast().await;
    assert_eq!(call("GET", "/api/tasks", &[], "").await, 404);
}
