//! Apps are apart at the edge: what app A, or whoever controls it, tries to get at B.
//!
//! Each attack uses a mechanism of its own. With each goes a control on which the same thing succeeds: the rightful owner does
//! it, or a defence was taken out of the Worker's code. So an attack that fails because of a slip in the test is noticed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use overskill_cloudflare::CloudflarePreviews;
use overskill_core::{
    AccessToken, AppId, BackendName, Clock as _, DeploymentId, Environment, Fence, Handle, LocalTokens,
    PreviewHost as _, Route, RouteTable as _, SystemClock, SystemIds, TenantId, TenantValidator as _,
};
use support::{
    Options, Workers, at, env, http, scope,
    signed::Signed,
    snapshot,
    socket::{Page, connect},
};

/// What only B may see: in its files, its module, its package, its script.
const SECRET: &str = "only for the bank";

/// A: the app that attacks. B: the one that holds something.
const A: &str = "preview-mallory";
const B: &str = "preview-bank7";

/// Where B's version would be if it took no proof.
const VERSION: &str = "v00000000000000-1-pbank7";

const SCRIPT: &str = "export default { async fetch(request, env) { return new Response(env.NAME + ' ' + \
    (env.NAME.startsWith('bank7') ? 'only for the bank' : 'of mallory') + ' ' + request.headers.get('x-overskill-scope')); } }";

struct World {
    workers: Workers,
    previews: CloudflarePreviews,
    /// Where B's package is.
    package: String,
    bank: Page,
    mallory: Page,
}

async fn world(options: Options) -> World {
    let workers = Workers::with(options).await;
    let previews = workers.previews();
    let main =
        |text: &str| format!("import {{ left }} from 'left';\nexport const what = {text:?};\nconsole.log(left);\n");
    for (app, text) in [("bank7", SECRET), ("mallory", "of mallory")] {
        let manifest = format!("{{\"name\":\"{app}\",\"dependencies\":{{\"left\":\"1.0.0\"}}}}");
        let dotenv = format!("VITE_NAME={app}\nKEY={text}\n");
        let files = [
            (
                "index.html",
                "<!doctype html><html><head></head><body><script type=\"module\" src=\"/src/main.ts\"></script></body></html>",
            ),
            ("package.json", manifest.as_str()),
            ("src/main.ts", &main(text)),
            ("public/note.txt", text),
            (".env", &dotenv),
            ("id.pem", text),
        ];
        previews.open(&scope(&format!("{app}/preview")), &snapshot(at(1), &files), &env(1)).await.unwrap();
        let production = scope(&format!("{app}/production"));
        let name = format!("{app}-1");
        workers.script(Environment::Production, &name, SCRIPT).await;
        let deployment = DeploymentId::generate(&SystemIds, SystemClock.now());
        let route =
            Route::new(BackendName::parse("cloudflare").unwrap(), deployment, Handle::new(name), Fence::from_u64(1));
        workers.edge().routes().set(&production, &route).await.unwrap();
    }
    let module = workers.get(B, "/src/main.ts").await;
    let package = module.text().split('"').find(|part| part.starts_with("/@npm/")).unwrap().to_owned();
    let (bank, mallory) = (Page::load(&workers, B).await, Page::load(&workers, A).await);
    workers.seen().await;
    World { workers, previews, package, bank, mallory }
}

impl World {
    async fn get(&self, host: &str, path: &str, headers: &[(&str, &str)]) -> http::Answer {
        http::ask(self.workers.port, "GET", &self.workers.host(host), path, headers, b"").await
    }

    /// Whether B's secret is in the answer.
    async fn leaks(&self, host: &str, path: &str, headers: &[(&str, &str)]) -> bool {
        String::from_utf8_lossy(&self.get(host, path, headers).await.body).contains(SECRET)
    }

    async fn raw_leaks(&self, request: String) -> bool {
        String::from_utf8_lossy(&http::raw(self.workers.port, request.as_bytes()).await.body).contains(SECRET)
    }

    /// Whether a socket of `host` is opened.
    async fn opens(&self, host: &str, query: &str, origin: Option<&str>) -> bool {
        connect(&self.workers, host, query, origin).await.is_ok()
    }

    /// The token that went upstream with the last call, and its address.
    async fn upstream(&self) -> Option<(String, String)> {
        let seen = self.workers.seen().await;
        let last = seen.last()?;
        let token = last["headers"]["authorization"].as_str()?.strip_prefix("Bearer ")?.to_owned();
        Some((token, last["url"].as_str()?.to_owned()))
    }

    /// The nearest thing that B may do with a token: whether it is one for B.
    async fn is_for_bank(&self, token: &str) -> bool {
        let validator = LocalTokens::new(self.workers.keys.clone()).validator();
        let bank = TenantId::of_app(AppId::parse("bank7").unwrap());
        validator.validate(&AccessToken::parse(token).unwrap(), &bank, SystemClock.now()).await.is_ok()
    }
}

#[tokio::test]
async fn names_headers_and_paths_lead_to_no_other_app() {
    let w = world(Options::new()).await;
    let bank_host = w.workers.host(B);
    // 1 to 7: headers that other systems believe.
    for name in [
        "x-forwarded-host",
        "x-host",
        "x-original-host",
        "x-overskill-scope",
        "x-app",
        "x-original-url",
        "x-rewrite-url",
    ] {
        let value = if name.ends_with("url") { format!("http://{bank_host}/note.txt") } else { bank_host.clone() };
        assert!(!w.leaks(A, "/note.txt", &[(name, &value)]).await, "{name}");
        assert!(
            w.leaks(B, "/note.txt", &[(name, "preview-mallory.localhost")]).await,
            "control: {name} changes nothing for B"
        );
    }
    // 8: two hosts. 9: an address in the request line. 10: a folded host. 11: a host with a user. 12: with a port of its own.
    let two = format!(
        "GET /note.txt HTTP/1.1\r\nhost: {}\r\nhost: {bank_host}\r\nconnection: close\r\n\r\n",
        w.workers.host(A)
    );
    assert!(!w.raw_leaks(two).await, "two hosts");
    let one = format!("GET /note.txt HTTP/1.1\r\nhost: {bank_host}\r\nconnection: close\r\n\r\n");
    assert!(w.raw_leaks(one).await, "control: one host");
    let user =
        format!("GET /note.txt HTTP/1.1\r\nhost: {bank_host}@{}\r\nconnection: close\r\n\r\n", w.workers.host(A));
    assert!(!w.raw_leaks(user).await, "B as a user of A");
    let label = format!("GET /note.txt HTTP/1.1\r\nhost: {B}.{}\r\nconnection: close\r\n\r\n", w.workers.host(A));
    assert!(!w.raw_leaks(label).await, "B as a label under A");
    let control = format!("GET /note.txt HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", bank_host.to_uppercase());
    assert!(w.raw_leaks(control).await, "control: a host is not case-sensitive");
    // 13 to 20: paths that name another room, a folder above, a hidden file.
    for path in [
        "/../bank7/note.txt",
        "/%2e%2e/bank7/note.txt",
        "/..%2fbank7%2fpreview/note.txt",
        "/%252e%252e/bank7/note.txt",
        "//preview-bank7.localhost/note.txt",
        "/bank7/preview/note.txt",
        "/@npm/../../bank7/note.txt",
        "/note.txt?host=preview-bank7&scope=bank7/preview",
    ] {
        assert!(!w.leaks(A, path, &[]).await, "{path}");
        assert!(!w.leaks("mallory", path, &[]).await, "{path} of the deployed app");
    }
    assert!(w.leaks(B, "/x/../note.txt", &[]).await, "control: a path that leads up and down again is resolved");
    // 21, 22: what an app's own viewers may not read of it either.
    for path in ["/.env", "/id.pem", "/package.json", "/.env?raw", "/.env?import&raw", "/id.pem?url", "/%2eenv"] {
        let answer = w.get(B, path, &[]).await;
        assert!(!String::from_utf8_lossy(&answer.body).contains(SECRET), "{path}");
        assert_ne!(answer.status, 200, "{path}");
    }
    assert!(w.leaks(B, "/src/main.ts", &[]).await, "control: a module that pages run");
    // 23: another app's script by its name.
    for path in ["/bank7-1", "/?script=bank7-1", "/.overskill/script/production/bank7-1"] {
        assert!(!w.leaks("mallory", path, &[("x-script", "bank7-1")]).await, "{path}");
    }
    assert!(w.leaks("bank7", "/", &[]).await, "control: B's own script");
    // The address of a version, whose proof nobody has; with it taken away, it is one that anybody can name.
    assert!(!w.leaks(VERSION, "/", &[]).await);
    // 24: a header that an app would believe.
    let forged = w.get("mallory", "/", &[("x-overskill-scope", "bank7/production")]).await;
    assert!(forged.text().ends_with("null"), "{}", forged.text());
}

#[tokio::test]
async fn a_defence_that_is_taken_away_lets_these_through() {
    // The controls for what no owner can do: with one line less, the attack succeeds.
    let w = world(Options::new().patched(
        "guard.js",
        "if (OURS.test(name) || NOT_TO_APPS.has(name)) headers.delete(name);",
        ";",
    ))
    .await;
    let forged = w.get("mallory", "/", &[("x-overskill-scope", "bank7/production")]).await;
    assert!(forged.text().ends_with("bank7/production"), "headers: {}", forged.text());

    let w = world(Options::new().patched("versions.js", "if (crypto.subtle.timingSafeEqual(mac, told)) ", "")).await;
    assert!(w.leaks(VERSION, "/", &[]).await, "the address of a version without its proof");

    let w = world(Options::new().patched("served.js", "shown.shelves.includes(set) && ", "")).await;
    assert_eq!(w.get(A, &w.package, &[]).await.status, 200, "packages by their digest");

    let w = world(Options::new().patched("room.js", "if (isFromElsewhere(request, url)) {", "if (false) {")).await;
    let evil = Some("http://evil.test");
    assert!(w.opens(B, &w.bank.query(), evil).await, "a socket of another origin");

    let token = "if (!same(query.get(\"token\") ?? \"\", await this.#socketToken(scope))) {";
    let w = world(Options::new().patched("room.js", token, "if (false) {")).await;
    assert!(w.opens(B, "token=x", None).await, "a socket without the token");

    let w = world(Options::new().patched("room.js", "preview socket 1\\0${scope}`", "preview socket 1\\0`")).await;
    assert!(w.opens(B, &w.mallory.query(), None).await, "a token that is not of a scope");

    let w = world(Options::new().patched("api.js", "if (isFromElsewhere(request, url)) {", "if (false) {")).await;
    let call = w.get(B, "/api/accounts", &[("origin", "http://preview-mallory.localhost")]).await;
    assert_eq!(call.status, 200, "an API for other origins");

    let w = world(Options::new().patched("api.js", "kept.get(scope.name)", "kept.get(scope.environment)").patched(
        "api.js",
        "kept.set(scope.name,",
        "kept.set(scope.environment,",
    ))
    .await;
    w.get(B, "/api/accounts", &[]).await;
    w.get(A, "/api/accounts", &[]).await;
    assert!(w.is_for_bank(&w.upstream().await.unwrap().0).await, "tokens kept by the environment");

    let w = world(Options::new().patched("routes.js", "lives.get(scope.name,", "lives.get(scope.environment,")).await;
    w.get("bank7", "/", &[]).await;
    assert!(w.leaks("mallory", "/", &[]).await, "routes kept by the environment");

    let cookie = "for (const cookie of cookies) answer.headers.append(\"set-cookie\", ownCookie(cookie, domains));";
    let plain = "for (const cookie of cookies) answer.headers.append(\"set-cookie\", cookie);";
    let w = world(Options::new().patched("guard.js", cookie, plain)).await;
    assert!(tossed(&w).await, "cookies for the whole domain");

    let w = world(
        Options::new()
            .patched(
                "dispatch.js",
                "if (url.pathname.startsWith(INGEST)) return ingest",
                "if (url.pathname) return ingest",
            )
            .patched("ingest.js", "if (!(await crypto.subtle.verify", "if (false && !(await crypto.subtle.verify"),
    )
    .await;
    let forged =
        Signed { secret: [0; 32], ..Signed::new(&w.workers, "DELETE", "/.overskill/v1/previews/bank7/preview", b"") };
    assert_eq!(forged.send(&w.workers).await.status, 200, "a signature that nobody checks");
}

/// Whether an answer of A's sets a cookie that B's host gets.
async fn tossed(w: &World) -> bool {
    let code = "export default { fetch() { return new Response('', { headers: { 'set-cookie': 'session=mine; Domain=localhost; Path=/' } }); } }";
    w.workers.script(Environment::Production, "mallory-1", code).await;
    let answer = w.get("mallory", "/", &[]).await;
    answer.header("set-cookie").is_some_and(|cookie| cookie.contains("Domain"))
}

#[tokio::test]
async fn tokens_origins_and_ids_open_no_other_room() {
    let w = world(Options::new()).await;
    let bank = w.workers.host(B);
    // 25: A's token at B's room. 26: none. 27: B's, shortened. 28: B's, longer. 29: B's in other letters. 30: twice, A's first.
    let token = w.bank.token();
    for query in [
        w.mallory.query(),
        "incarnation=f1&seq=1&epoch=0".to_owned(),
        format!("token={}", &token[..31]),
        format!("token={token}0"),
        format!("token={}", token.to_uppercase()),
        format!("token={}&token={token}", w.mallory.token()),
        "token=".to_owned(),
        "token[]=x".to_owned(),
    ] {
        assert!(!w.opens(B, &query, None).await, "{query}");
    }
    assert!(w.opens(B, &w.bank.query(), None).await, "control: B's page");
    // 31: B's token at B's room, from a page of another origin that came by it.
    for origin in [
        format!("http://{}", w.workers.host(A)),
        "null".into(),
        format!("http://{bank}.evil.test"),
        format!("https://{bank}"),
    ] {
        assert!(!w.opens(B, &w.bank.query(), Some(&origin)).await, "{origin}");
    }
    assert!(w.opens(B, &w.bank.query(), Some(&format!("http://{bank}"))).await, "control: B's origin");
    // 32: B's token at A's room shows A's updates alone.
    assert!(!w.opens(A, &w.bank.query(), None).await);
    // 33: a position of another life makes a room tell nothing but to load anew.
    let odd = format!("token={}&incarnation=ffffffffffffffff&seq=0&epoch=0", w.mallory.token());
    let told = connect(&w.workers, A, &odd, None).await.ok().unwrap().so_far().await;
    assert_eq!((told.len(), told[0]["type"].as_str()), (1, Some("full-reload")));
    // 34: what A's page says is heard by A's room alone: nobody of B's loads anew.
    let mut bank = w.bank.connect(&w.workers, B).await;
    let mut mallory = w.mallory.connect(&w.workers, A).await;
    let invalidate =
        r#"{"type":"custom","event":"vite:invalidate","data":{"path":"/src/main.ts"},"scope":"bank7/preview"}"#;
    mallory.say(invalidate).await;
    assert_eq!(mallory.next().await["type"], "full-reload", "control: A's own pages do");
    mallory.say("{").await;
    mallory.say(&"x".repeat(70_000)).await;
    assert!(bank.so_far().await.is_empty());
    // 35: an edit of A's is told to A's viewers alone.
    let change = overskill_core::Changes::new().put(support::path("public/note.txt"), "changed".to_owned());
    w.previews.apply(&scope("mallory/preview"), at(1), at(2), &change).await.unwrap();
    assert!(bank.so_far().await.is_empty());
    assert!(w.leaks(B, "/note.txt", &[]).await);
}

#[tokio::test]
async fn packages_caches_and_apis_are_an_apps_own() {
    let w = world(Options::new()).await;
    // 36: B's package by its exact address. 37: from the deployed app's host. 38: with a query that no shelf has.
    assert_ne!(w.mallory.text, w.bank.text);
    for (host, path) in [
        (A, w.package.clone()),
        ("mallory", w.package.clone()),
        (A, format!("{}?import", w.package)),
        (A, format!("{}?raw", w.package)),
    ] {
        let answer = w.get(host, &path, &[]).await;
        assert!(!String::from_utf8_lossy(&answer.body).contains("left = 7"), "{host}{path}");
    }
    assert_eq!(w.get(B, &w.package, &[]).await.status, 200, "control: B's own");
    // 39: that B has something is not told by an answer of 304 either.
    let tag = w.get(B, &w.package, &[]).await.header("etag").unwrap().to_owned();
    assert_eq!(w.get(A, &w.package, &[("if-none-match", &tag)]).await.status, 404);
    assert_eq!(w.get(B, &w.package, &[("if-none-match", &tag)]).await.status, 304, "control");
    let tag = w.get(B, "/note.txt", &[]).await.header("etag").unwrap().to_owned();
    assert_eq!(w.get(A, "/note.txt", &[("if-none-match", &tag)]).await.status, 200);
    // 40: what an isolate remembers of B is not A's: one after the other, in both orders.
    for _ in 0..2 {
        assert!(w.leaks("bank7", "/", &[]).await, "control");
        assert!(!w.leaks("mallory", "/", &[]).await);
    }
    // 41: a token of A's is for A, whichever was made before. 42: no header chooses it. 43: no query does.
    for (host, is_bank) in [(B, true), (A, false), (B, true), (A, false)] {
        let forged = [("x-overskill-scope", "bank7/preview"), ("authorization", "Bearer x")];
        assert_eq!(w.get(host, "/api/accounts?app=bank7&scope=bank7/preview", &forged).await.status, 200);
        let (token, url) = w.upstream().await.unwrap();
        assert_eq!(w.is_for_bank(&token).await, is_bank, "{host}");
        assert_eq!(url.contains("/v1/bank7/preview/"), is_bank, "{url}");
    }
    // 44: no path of an API leads to B's. What does not reach the upstream is refused.
    for path in [
        "/api/../../bank7/preview/x",
        "/api/..%2f..%2fbank7/x",
        "/api/%2e%2e/%2e%2e/bank7/preview/x",
        "/api//bank7",
        "/api/\\bank7",
        "/api/%5cbank7",
    ] {
        w.get(A, path, &[]).await;
        if let Some((_, url)) = w.upstream().await {
            assert!(url.starts_with("http://data.test/v1/mallory/preview/"), "{path}: {url}");
        }
    }
    // 45: a page of A's calls B's API with the viewer's browser.
    let origin = format!("http://{}", w.workers.host(A));
    for headers in [[("origin", origin.as_str())], [("sec-fetch-site", "same-site")]] {
        assert_eq!(w.get(B, "/api/accounts", &headers).await.status, 403);
    }
    assert_eq!(w.get(B, "/api/accounts", &[("sec-fetch-site", "same-origin")]).await.status, 200, "control");
    // 46: a page of A's shows B's sources in an element: the browser is told to refuse it.
    for path in ["/", "/src/main.ts", "/note.txt"] {
        assert_eq!(w.get(B, path, &[]).await.header("cross-origin-resource-policy"), Some("same-origin"), "{path}");
        assert!(w.get(B, path, &[]).await.header("access-control-allow-origin").is_none());
    }
    assert_eq!(w.get(B, "/", &[]).await.header("content-security-policy"), Some("frame-ancestors 'self'"));
    // 47: a cookie of A's for the whole domain.
    assert!(!tossed(&w).await);
}

#[tokio::test]
async fn nobody_but_the_platform_tells_the_workers_anything() {
    let w = world(Options::new()).await;
    let close = "/.overskill/v1/previews/bank7/preview";
    let is_open = async || w.workers.get(B, "/note.txt").await.status == 200;
    // 48: A's script, or anybody, without a signature; on the platform's host and on its own.
    for host in ["", A, B, "mallory"] {
        let answer = http::ask(w.workers.port, "DELETE", &w.workers.host(host), close, &[], b"").await;
        assert!(matches!(answer.status, 401 | 404), "{host}: {}", answer.status);
    }
    // 49: signed for A's room, sent to B's.
    let own = Signed::new(&w.workers, "DELETE", "/.overskill/v1/previews/mallory/preview", b"");
    assert_eq!(own.send_as(&w.workers, "DELETE", close, b"").await.status, 401);
    // 50: the same with a path that leads there.
    let path = "/.overskill/v1/previews/mallory/preview/../../bank7/preview";
    let sneaky = Signed { path: path.into(), ..own.clone() };
    assert_eq!(sneaky.send(&w.workers).await.status, 401, "what is signed is what is asked for");
    // 51: scopes that are none, or two.
    for path in [
        "/.overskill/v1/previews/bank7%2fpreview",
        "/.overskill/v1/previews/bank7/preview%2f",
        "/.overskill/v1/previews/mallory%20/preview",
        "/.overskill/v1/previews/host%20x/preview",
    ] {
        let answer =
            Signed { path: path.into(), ..Signed::new(&w.workers, "DELETE", path, b"") }.send(&w.workers).await;
        assert!(matches!(answer.status, 400 | 401 | 404), "{path}: {}", answer.status);
    }
    assert!(is_open().await);
    // 52: another platform's key.
    let forged = Signed { secret: [0; 32], ..Signed::new(&w.workers, "DELETE", close, b"") };
    assert_eq!(forged.send(&w.workers).await.status, 401);
    assert!(is_open().await);
    // 53: a host name that was connected with A is not B's, and none of the platform's is to be had.
    w.workers.edge().routes().connect_host("bank.example", Some(&scope("mallory/preview"))).await.unwrap();
    let answer = http::ask(w.workers.port, "GET", "bank.example", "/note.txt", &[], b"").await;
    assert_eq!(answer.text(), "of mallory");
    w.workers.edge().routes().connect_host(&format!("{B}.localhost"), Some(&scope("mallory/preview"))).await.unwrap();
    assert!(is_open().await && w.leaks(B, "/note.txt", &[]).await);
    // The control: the platform itself.
    assert_eq!(Signed::new(&w.workers, "DELETE", close, b"").send(&w.workers).await.status, 200);
    assert!(!is_open().await);
}
