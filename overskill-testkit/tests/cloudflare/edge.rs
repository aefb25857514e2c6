//! Scripts of the account on workerd: where URLs lead, and what scripts are bound to.

use crate::support::Api;
use overskill_testkit::cloudflare::CloudflareEmulator;
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const FRONT: &str = "/accounts/{a}/workers/scripts/front";

async fn api() -> Api {
    Api::with_edge(CloudflareEmulator::options()).await
}

fn says(text: &str) -> String {
    format!("export default {{ fetch() {{ return new Response('{text}') }} }}")
}

#[tokio::test]
async fn a_url_leads_to_the_narrowest_route() {
    let api = api().await;
    assert_eq!(api.visit("example.com", "/").await.status, 530, "there is no route");
    for name in ["front", "shop", "docs"] {
        api.script(&FRONT.replace("front", name), &says(name), json!([])).await;
    }
    api.route("*.example.com/*", "front").await;
    api.route("shop.example.com/*", "shop").await;
    api.route("shop.example.com/docs/*", "docs").await;
    assert_eq!(api.text("a.b.example.com", "/x").await, "front");
    assert_eq!(api.text("shop.example.com:8080", "/").await, "shop");
    assert_eq!(api.text("shop.example.com", "/docs/a?b").await, "docs");
    assert_eq!(api.visit("example.com", "/").await.status, 530, "*. is not the domain itself");
    assert_eq!(api.visit("example.org", "/").await.status, 530);

    api.ok("PUT", "/accounts/{a}/workers/subdomain", &json!({ "subdomain": "team" })).await;
    assert_eq!(api.visit("shop.team.workers.dev", "/").await.status, 530);
    api.ok("POST", &format!("{}/subdomain", FRONT.replace("front", "shop")), &json!({ "enabled": true })).await;
    assert_eq!(api.text("shop.team.workers.dev", "/").await, "shop");
    let domain = json!({ "hostname": "www.example.com", "service": "docs", "zone_id": "" });
    api.ok("PUT", "/accounts/{a}/workers/domains", &domain).await;
    assert_eq!(api.text("www.example.com", "/").await, "docs");
    api.ok("DELETE", &FRONT.replace("front", "docs"), &Value::Null).await;
    assert_eq!(api.text("www.example.com", "/docs/").await, "front");
}

#[tokio::test]
async fn a_custom_hostname_serves_once_it_is_active() {
    let api = api().await;
    let code = "export default { fetch(request) { return new Response(new URL(request.url).origin + ' ' + request.headers.get('cf-connecting-ip')) } }";
    api.script(FRONT, code, json!([])).await;
    api.route("*/*", "front").await;
    let hostnames = format!("/zones/{}/custom_hostnames", api.cloudflare.zone_id("example.com").unwrap());
    api.ok("POST", &hostnames, &json!({ "hostname": "shop.customer.net" })).await;
    assert_eq!(api.visit("shop.customer.net", "/").await.status, 530);
    api.cloudflare.set_hostname("shop.customer.net", "active", "active").await.unwrap();
    assert_eq!(api.visit("shop.customer.net", "/").await.status, 530, "the zone has no fallback origin");
    let record = json!({ "type": "AAAA", "name": "all.example.com", "content": "100::", "proxied": true });
    api.ok("POST", &hostnames.replace("custom_hostnames", "dns_records"), &record).await;
    let fallback =
        api.ok("PUT", &format!("{hostnames}/fallback_origin"), &json!({ "origin": "all.example.com" })).await;
    assert_eq!(fallback["status"], "active");
    let head = "GET / HTTP/1.1\r\nHost: shop.customer.net\r\nCF-Connecting-IP: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n";
    assert_eq!(api.visit_with(head, "").await.body, "https://shop.customer.net 127.0.0.1", "nobody forges the address");
}

#[tokio::test]
async fn a_script_has_what_it_is_bound_to() {
    let api = Api::with_edge(CloudflareEmulator::options().kv_same_key_interval(Duration::ZERO)).await;
    let kv = api.ok("POST", "/accounts/{a}/storage/kv/namespaces", &json!({ "title": "t" })).await["id"].clone();
    api.ok("POST", "/accounts/{a}/r2/buckets", &json!({ "name": "files" })).await;
    let values = format!("/accounts/{{a}}/storage/kv/namespaces/{}", kv.as_str().unwrap());
    let pairs = json!([{ "key": "from/api", "value": "ü", "metadata": { "n": "é" } }]);
    api.ok("PUT", &format!("{values}/bulk"), &pairs).await;
    api.script(&FRONT.replace("front", "back"), &says("service"), json!([])).await;
    let code = r"
        export default { async fetch(request, env) {
            const found = await env.KV.getWithMetadata('from/api');
            await env.KV.put('from/worker', 'w', { metadata: { by: 'worker' } });
            const names = (await env.KV.list({ prefix: 'from/' })).keys.map((it) => it.name);
            await env.BUCKET.put('a/1', 'one', { httpMetadata: { contentType: 'text/x' }, customMetadata: { k: 'v' } });
            await env.BUCKET.put('a/2', 'two');
            const object = await env.BUCKET.get('a/1', { range: { offset: 1, length: 2 } });
            const head = await env.BUCKET.head('a/1');
            const refused = await env.BUCKET.put('a/1', 'other', { onlyIf: { etagDoesNotMatch: head.etag } });
            const listed = await env.BUCKET.list({ prefix: 'a/' });
            await env.BUCKET.delete('a/2');
            return Response.json({
                text: env.TEXT, secret: env.SECRET, json: env.JSON, kv: found, names,
                r2: [await object.text(), head.size, head.httpMetadata.contentType, head.customMetadata.k, refused],
                objects: listed.objects.map((it) => it.key), none: await env.BUCKET.get('none'),
                service: await (await env.SERVICE.fetch('http://x/')).text(),
            });
        } }";
    let bindings = json!([
        { "name": "TEXT", "type": "plain_text", "text": "a \"b\" \\ \n é" },
        { "name": "SECRET", "type": "secret_text", "text": "s" },
        { "name": "JSON", "type": "json", "json": { "a": [1] } },
        { "name": "KV", "type": "kv_namespace", "namespace_id": kv },
        { "name": "BUCKET", "type": "r2_bucket", "bucket_name": "files" },
        { "name": "SERVICE", "type": "service", "service": "back" },
    ]);
    api.script(FRONT, code, bindings).await;
    api.route("example.com/*", "front").await;
    let body = api.text("example.com", "/").await;
    let told: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{body} {:?}", api.cloudflare.logs()));
    assert_eq!(
        (&told["text"], &told["secret"], &told["json"]),
        (&json!("a \"b\" \\ \n é"), &json!("s"), &json!({ "a": [1] }))
    );
    assert_eq!((&told["kv"]["value"], &told["kv"]["metadata"]["n"]), (&json!("ü"), &json!("é")));
    assert_eq!(told["names"], json!(["from/api", "from/worker"]));
    assert_eq!(told["r2"], json!(["ne", 3, "text/x", "v", null]));
    assert_eq!((&told["objects"], &told["none"]), (&json!(["a/1", "a/2"]), &Value::Null));
    assert_eq!(told["service"], "service");
    assert_eq!(api.cloudflare.kv_value(kv.as_str().unwrap(), "from/worker").unwrap(), "w");
    assert_eq!(api.cloudflare.state().buckets["files"], ["a/1"]);

    api.ok("PUT", &format!("{FRONT}/secrets"), &json!({ "name": "SECRET", "text": "new" })).await;
    let told: Value = serde_json::from_str(&api.text("example.com", "/").await).unwrap();
    assert_eq!(told["secret"], "new");
}

#[tokio::test]
async fn durable_objects_keep_their_data_over_versions_and_restarts() {
    let api = api().await;
    let code = r"
        import { DurableObject } from 'cloudflare:workers';
        export class Counter extends DurableObject {
            next() {
                this.ctx.storage.sql.exec('CREATE TABLE IF NOT EXISTS t (n)');
                this.ctx.storage.sql.exec('INSERT INTO t VALUES (1)');
                return this.ctx.storage.sql.exec('SELECT count(*) AS n FROM t').one().n;
            }
        }
        export default { async fetch(request, env) {
            return new Response('VERSION' + await env.COUNTER.getByName(new URL(request.url).pathname).next());
        } }";
    let upload = async |version: &str, migrations: Value| {
        let counter = json!({ "name": "COUNTER", "type": "durable_object_namespace", "class_name": "Counter" });
        let metadata = json!({
            "main_module": "main.js", "bindings": [counter], "migrations": migrations, "compatibility_date": "2026-10-01",
        });
        let (status, answer) = api.upload(FRONT, &metadata, &[("main.js", &code.replace("VERSION", version))]).await;
        assert_eq!(status, 200, "{answer}");
    };
    let migrations = json!({ "new_tag": "v1", "steps": [{ "new_sqlite_classes": ["Counter"] }] });
    upload("a", migrations.clone()).await;
    api.route("example.com/*", "front").await;
    assert_eq!(api.text("example.com", "/one").await, "a1");
    assert_eq!(api.text("example.com", "/one").await, "a2");
    upload("b", Value::Null).await;
    assert_eq!(api.text("example.com", "/one").await, "b3");
    api.cloudflare.restart_edge().await.unwrap();
    assert_eq!(api.text("example.com", "/one").await, "b4");
    assert_eq!(api.text("example.com", "/two").await, "b1");
    api.ok("DELETE", FRONT, &Value::Null).await;
    upload("c", migrations).await;
    api.route("example.com/*", "front").await;
    assert_eq!(api.text("example.com", "/one").await, "c1", "a script that was deleted leaves nothing");
}

#[tokio::test]
async fn a_script_that_does_not_start_is_refused_and_the_old_one_serves() {
    let api = api().await;
    api.script(FRONT, &says("good"), json!([])).await;
    api.route("example.com/*", "front").await;
    let metadata = json!({ "main_module": "main.js" });
    for broken in ["export default {", "throw new Error('at startup')", "import './nowhere.js'"] {
        let (status, answer) = api.upload(FRONT, &metadata, &[("main.js", broken)]).await;
        assert_eq!((status, &answer["errors"][0]["code"]), (400, &json!(10_021)), "{broken}: {answer}");
        assert_eq!(api.text("example.com", "/").await, "good");
    }
}

#[tokio::test]
async fn a_cron_trigger_fires_when_told() {
    let api = api().await;
    let code = "export default { async scheduled(event) { console.log('fired ' + event.cron); if (event.cron === '0 0 * * *') throw new Error('no') } }";
    api.script(FRONT, code, json!([])).await;
    let crons = json!([{ "cron": "*/5 * * * *" }, { "cron": "0 0 * * *" }]);
    api.ok("PUT", &format!("{FRONT}/schedules"), &crons).await;
    api.cloudflare.scheduled("front", "*/5 * * * *").await.unwrap();
    assert!(api.cloudflare.scheduled("front", "0 0 * * *").await.is_err());
    assert!(api.cloudflare.scheduled("front", "1 1 * * *").await.is_err());
    let since = Instant::now();
    while !api.cloudflare.logs().iter().any(|it| it.contains("fired */5 * * * *")) {
        assert!(since.elapsed() < Duration::from_secs(20), "{:?}", api.cloudflare.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn assets_are_served_as_configured() {
    let api = api().await;
    let hash = |c: char| c.to_string().repeat(32);
    let (a, b, c, d) = (hash('a'), hash('b'), hash('c'), hash('d'));
    let files = [
        ("/index.html", a.as_str(), "home"),
        ("/about.html", b.as_str(), "about"),
        ("/docs/index.html", c.as_str(), "docs"),
        ("/app.txt", d.as_str(), "text"),
    ];
    let upload = async |config: Value, worker: bool| {
        let jwt = api.assets(FRONT, &files).await;
        let assets = json!({ "jwt": jwt, "config": config });
        let binding = json!([{ "name": "ASSETS", "type": "assets" }]);
        let code = "export default { async fetch(request, env) { return new Response('worker ' + (await env.ASSETS.fetch(new URL('/app.txt', request.url)).then((it) => it.text()))) } }";
        let (metadata, modules): (Value, &[_]) = if worker {
            (json!({ "main_module": "main.js", "assets": assets, "bindings": binding }), &[("main.js", code)])
        } else {
            (json!({ "assets": assets }), &[])
        };
        let (status, answer) = api.upload(FRONT, &metadata, modules).await;
        assert_eq!(status, 200, "{answer}");
    };
    let headers = "/*\n  X-Frame-Options: DENY\n/app.txt\n  X-App: yes";
    upload(json!({ "_headers": headers, "_redirects": "/old/* /docs/:splat 301" }), false).await;
    api.route("example.com/*", "front").await;
    let place = async |path: &str| {
        let visit = api.visit("example.com", path).await;
        (visit.status, visit.header("location").map_or(visit.body.clone(), str::to_owned))
    };
    for (path, status, told) in [
        ("/", 200, "home"),
        ("/about", 200, "about"),
        ("/about.html", 307, "/about"),
        ("/about/", 307, "/about"),
        ("/docs", 307, "/docs/"),
        ("/docs/?q=1", 200, "docs"),
        ("/docs/index.html?q=1", 307, "/docs/?q=1"),
        ("/app.txt", 200, "text"),
        ("/nowhere", 404, ""),
        ("/old/x", 301, "/docs/x"),
    ] {
        assert_eq!(place(path).await, (status, told.to_owned()), "{path}");
    }
    let visit = api.visit("example.com", "/app.txt").await;
    assert_eq!((visit.header("x-frame-options"), visit.header("x-app")), (Some("DENY"), Some("yes")));
    let etag = visit.header("etag").unwrap();
    let head = format!("GET /app.txt HTTP/1.1\r\nHost: example.com\r\nIf-None-Match: {etag}\r\n");
    assert_eq!(api.visit_with(&head, "").await.status, 304);

    upload(json!({ "not_found_handling": "single-page-application" }), false).await;
    assert_eq!(place("/any/where").await, (200, "home".to_owned()));
    upload(json!({}), true).await;
    assert_eq!(place("/nowhere").await, (200, "worker text".to_owned()));
    assert_eq!(place("/about").await, (200, "about".to_owned()));
    upload(json!({ "run_worker_first": ["/about*"] }), true).await;
    assert_eq!(place("/about").await, (200, "worker text".to_owned()));
    assert_eq!(place("/docs/").await, (200, "docs".to_owned()));
}

#[test]
fn workerd_ends_with_its_owner_and_leaves_nothing() {
    let mut owner = Command::new(env!("CARGO_BIN_EXE_overskill-emulator")).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(owner.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let told: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}"));
    let edge = told["edge"].as_str().unwrap().to_owned();
    let folder = format!("{}/overskill-cf-{}-1", std::env::temp_dir().display(), owner.id());
    assert!(Path::new(&folder).exists() && std::net::TcpStream::connect(&edge).is_ok());
    owner.kill().unwrap();
    owner.wait().unwrap();
    let since = Instant::now();
    while Path::new(&folder).exists() || std::net::TcpStream::connect(&edge).is_ok() {
        assert!(since.elapsed() < Duration::from_secs(20), "{folder} or {edge} is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
}
