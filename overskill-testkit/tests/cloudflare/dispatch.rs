//! User scripts behind a dispatch namespace, on workerd.

use crate::support::Api;
use futures::{SinkExt as _, StreamExt as _};
use overskill_testkit::cloudflare::{CloudflareEmulator, CloudflareOptions};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest as _};

/// Dispatches by the first label of the host, and by a header to a namespace.
const DISPATCHER: &str = r"
    export default { async fetch(request, env) {
        const name = new URL(request.url).hostname.split('.')[0];
        const namespace = env[request.headers.get('x-namespace') ?? 'APPS'];
        try {
            return await namespace.get(name, {}, { limits: { cpuMs: 50 }, outbound: { app: name } }).fetch(request);
        } catch (e) {
            return new Response(e.message, { status: e.message.startsWith('Worker not found') ? 404 : 500 });
        }
    } }";

fn script(name: &str) -> String {
    format!("/accounts/{{a}}/workers/dispatch/namespaces/apps/scripts/{name}")
}

async fn platform(options: CloudflareOptions) -> Api {
    let api = Api::with_edge(options).await;
    api.namespace("apps").await;
    api.namespace("other").await;
    let bindings = json!([
        { "name": "APPS", "type": "dispatch_namespace", "namespace": "apps" },
        { "name": "OTHER", "type": "dispatch_namespace", "namespace": "other" },
    ]);
    api.script("/accounts/{a}/workers/scripts/dispatch", DISPATCHER, bindings).await;
    api.route("*.example.com/*", "dispatch").await;
    api
}

fn says(text: &str) -> String {
    format!("export default {{ fetch(request, env) {{ return new Response('{text}' + (env.APP ?? '')) }} }}")
}

#[tokio::test]
async fn a_new_version_is_live_on_the_next_request() {
    let api = platform(CloudflareEmulator::options()).await;
    let visit = api.visit("one.example.com", "/").await;
    assert_eq!((visit.status, visit.body.as_str()), (404, "Worker not found."));
    for n in 0..20 {
        api.script(&script("one"), &says(&n.to_string()), json!([])).await;
        assert_eq!(api.text("one.example.com", "/").await, n.to_string());
    }
    api.ok("PUT", &format!("{}/secrets", script("one")), &json!({ "name": "APP", "text": "!" })).await;
    assert_eq!(api.text("one.example.com", "/").await, "19!");
    api.ok("DELETE", &script("one"), &Value::Null).await;
    assert_eq!(api.visit("one.example.com", "/").await.status, 404);
}

#[tokio::test]
async fn what_a_user_script_throws_reaches_the_dispatcher() {
    let api = platform(CloudflareEmulator::options()).await;
    api.script(&script("one"), "export default { fetch() { throw new Error('mine') } }", json!([])).await;
    let visit = api.visit("one.example.com", "/").await;
    assert_eq!((visit.status, visit.body.as_str()), (500, "mine"));
    let (status, _) =
        api.upload(&script("one"), &json!({ "main_module": "main.js" }), &[("main.js", "export default {")]).await;
    assert_eq!(status, 200);
    assert_eq!(api.visit("one.example.com", "/").await.status, 500, "it does not load");
    api.script(&script("one"), &says("well"), json!([])).await;
    assert_eq!(api.text("one.example.com", "/").await, "well");
}

#[tokio::test]
async fn namespaces_are_apart() {
    let api = platform(CloudflareEmulator::options()).await;
    api.script(&script("one"), &says("apps"), json!([])).await;
    let head = "GET / HTTP/1.1\r\nHost: one.example.com\r\nx-namespace: OTHER\r\n";
    assert_eq!(api.visit_with(head, "").await.status, 404);
    api.script(&script("one").replace("/apps/", "/other/"), &says("other"), json!([])).await;
    assert_eq!(api.visit_with(head, "").await.body, "other");
    assert_eq!(api.text("one.example.com", "/").await, "apps");
}

#[tokio::test]
async fn a_user_script_has_modules_kv_and_assets() {
    let api = platform(CloudflareEmulator::options()).await;
    let kv = api.ok("POST", "/accounts/{a}/storage/kv/namespaces", &json!({ "title": "t" })).await["id"].clone();
    let hash = "a".repeat(32);
    let jwt =
        api.assets(&script("one"), &[("/index.html", &hash, "<p>page"), ("/a b.txt", &"b".repeat(32), "b")]).await;
    let code = r"
        import { text } from './lib/text.js';
        export default { async fetch(request, env) {
            await env.KV.put('é/key', new TextEncoder().encode(text), { metadata: { m: 'ü' } });
            const { value, metadata } = await env.KV.getWithMetadata('é/key', 'arrayBuffer');
            const asset = await env.ASSETS.fetch('http://assets/');
            const list = await env.KV.list();
            return Response.json({
                kv: new TextDecoder().decode(value), m: metadata.m, none: await env.KV.get('none'), keys: list.keys.map((it) => it.name),
                json: env.JSON.deep, asset: await asset.text(), method: request.method, body: await request.text(), cf: request.cf?.country ?? null,
            });
        } }";
    let metadata = json!({
        "main_module": "src/main.js", "compatibility_date": "2026-10-01", "assets": { "jwt": jwt },
        "bindings": [
            { "name": "KV", "type": "kv_namespace", "namespace_id": kv }, { "name": "ASSETS", "type": "assets" },
            { "name": "JSON", "type": "json", "json": { "deep": 1 } },
        ],
    });
    let modules = [("src/main.js", code), ("src/lib/text.js", "export const text = 'from a module'")];
    let (status, answer) = api.upload(&script("one"), &metadata, &modules).await;
    assert_eq!(status, 200, "{answer}");
    let page = api.visit("one.example.com", "/").await;
    assert_eq!((page.body.as_str(), page.header("content-type")), ("<p>page", Some("text/html")));
    assert_eq!(api.text("one.example.com", "/a%20b.txt").await, "b");
    let visit = api.visit_with("POST /api HTTP/1.1\r\nHost: one.example.com\r\n", "sent").await;
    let told: Value = serde_json::from_str(&visit.body).unwrap_or_else(|_| panic!("{visit:?}"));
    let wanted = json!({
        "kv": "from a module", "m": "ü", "none": null, "keys": ["é/key"], "json": 1, "asset": "<p>page", "method": "POST",
        "body": "sent", "cf": null,
    });
    assert_eq!(told, wanted);
    assert_eq!(api.cloudflare.kv_value(kv.as_str().unwrap(), "é/key").unwrap(), "from a module");
}

const ROOM: &str = r"
    import { DurableObject } from 'cloudflare:workers';
    export class Room extends DurableObject {
        constructor(ctx, env) {
            super(ctx, env);
            ctx.storage.sql.exec('CREATE TABLE IF NOT EXISTS t (n)');
        }
        async fetch(request) {
            if (request.headers.get('upgrade') === 'websocket') {
                const [client, server] = Object.values(new WebSocketPair());
                this.ctx.acceptWebSocket(server);
                return new Response(null, { status: 101, webSocket: client });
            }
            this.ctx.storage.sql.exec('INSERT INTO t VALUES (1)');
            const n = this.ctx.storage.sql.exec('SELECT count(*) AS n FROM t').one().n;
            for (const socket of this.ctx.getWebSockets()) socket.send('rows ' + n);
            return new Response('VERSION' + n);
        }
        webSocketMessage(socket, message) {
            socket.send('echo ' + message);
        }
        add(a, b) {
            return a + b;
        }
    }
    export default { async fetch(request, env) {
        const room = env.ROOM.get(env.ROOM.idFromName('main'));
        if (new URL(request.url).pathname === '/add') return new Response(String(await room.add(1, 2)));
        if (new URL(request.url).pathname === '/id') return new Response(env.ROOM.idFromName('abc').toString());
        return room.fetch(request);
    } }";

async fn upload_room(api: &Api, name: &str, version: &str, migrations: Value) {
    let room = json!({ "name": "ROOM", "type": "durable_object_namespace", "class_name": "Room" });
    let metadata = json!({
        "main_module": "main.js", "bindings": [room], "migrations": migrations, "compatibility_date": "2026-10-01",
    });
    let (status, answer) =
        api.upload(&script(name), &metadata, &[("main.js", &ROOM.replace("VERSION", version))]).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn a_user_script_has_durable_objects_of_its_own() {
    let api = platform(CloudflareEmulator::options()).await;
    let migrations = json!({ "new_tag": "v1", "steps": [{ "new_sqlite_classes": ["Room"] }] });
    upload_room(&api, "one", "a", migrations.clone()).await;
    upload_room(&api, "two", "a", migrations.clone()).await;
    assert_eq!(api.text("one.example.com", "/").await, "a1");
    assert_eq!(api.text("one.example.com", "/").await, "a2");
    assert_eq!(api.text("two.example.com", "/").await, "a1", "each script has its own");
    assert_eq!(api.text("one.example.com", "/add").await, "3");
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; // SHA-256 of "abc"
    assert_eq!(api.text("one.example.com", "/id").await, digest);
    upload_room(&api, "one", "b", Value::Null).await;
    assert_eq!(api.text("one.example.com", "/").await, "b3");
    api.cloudflare.restart_edge().await.unwrap();
    assert_eq!(api.text("one.example.com", "/").await, "b4");
    api.ok("DELETE", &script("one"), &Value::Null).await;
    upload_room(&api, "one", "c", migrations).await;
    assert_eq!(api.text("one.example.com", "/").await, "c1");
}

#[tokio::test]
async fn sockets_reach_the_objects_of_user_scripts() {
    let api = platform(CloudflareEmulator::options()).await;
    let migrations = json!({ "new_tag": "v1", "steps": [{ "new_sqlite_classes": ["Room"] }] });
    upload_room(&api, "one", "a", migrations).await;
    let address = api.cloudflare.edge_address().unwrap();
    let mut request = format!("ws://{address}/").into_client_request().unwrap();
    request.headers_mut().insert("host", "one.example.com".parse().unwrap());
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    socket.send(Message::text("hi")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("echo hi"));
    assert_eq!(api.text("one.example.com", "/").await, "a1");
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("rows 1"));
}

#[tokio::test]
async fn an_outbound_worker_takes_what_user_scripts_fetch() {
    let api = platform(CloudflareEmulator::options()).await;
    let outbound = "export default { fetch(request, env) { return new Response('out ' + env.app + ' ' + new URL(request.url).hostname) } }";
    api.script("/accounts/{a}/workers/scripts/outbound", outbound, json!([])).await;
    let bindings = json!([{
        "name": "APPS", "type": "dispatch_namespace", "namespace": "apps",
        "outbound": { "worker": { "service": "outbound" }, "params": [{ "name": "app" }] },
    }]);
    api.script("/accounts/{a}/workers/scripts/dispatch", DISPATCHER, bindings).await;
    let code = "export default { fetch() { return fetch('http://elsewhere.test/x') } }";
    for name in ["one", "two"] {
        api.script(&script(name), code, json!([])).await;
    }
    assert_eq!(api.text("one.example.com", "/").await, "out one elsewhere.test");
    assert_eq!(api.text("two.example.com", "/").await, "out two elsewhere.test");
    api.route("out.example.com/*", "outbound").await;
    let forged = "GET / HTTP/1.1\r\nHost: out.example.com\r\nx-overskill-params: %7B%22app%22%3A%22forged%22%7D\r\n";
    assert_eq!(api.visit_with(forged, "").await.body, "out undefined out.example.com");
}

#[tokio::test]
async fn a_user_script_reaches_neither_the_account_nor_the_emulator() {
    let api = platform(CloudflareEmulator::options()).await;
    let code = r"
        export default { async fetch(request, env) {
            const ask = (url) => fetch(url).then(async (it) => it.status + ' ' + (await it.text()), (e) => 'none ' + e.message);
            const names = Object.keys(env).sort();
            return Response.json({ names, api: await ask(env.API), control: await ask('http://control/routing'), admin: await ask('http://admin/loaded') });
        } }";
    let accounts = format!("{}/accounts", api.cloudflare.api_url());
    api.script(&script("one"), code, json!([{ "name": "API", "type": "plain_text", "text": accounts }])).await;
    let told: Value = serde_json::from_str(&api.text("one.example.com", "/").await).unwrap();
    assert_eq!(told["names"], json!(["API"]));
    assert!(told["api"].as_str().unwrap().starts_with("400 "), "{told}");
    for place in ["control", "admin"] {
        assert!(told[place].as_str().unwrap().starts_with("none "), "{told}");
    }
}

#[tokio::test]
async fn scripts_that_rest_are_unloaded_and_memory_stays_bounded() {
    let api = platform(CloudflareEmulator::options().max_loaded_scripts(16)).await;
    let mut after_first = 0;
    for n in 0..400 {
        let name = format!("s{n}");
        api.script(&script(&name), &says(&name), json!([])).await;
        assert_eq!(api.text(&format!("{name}.example.com"), "/").await, name);
        if n == 99 {
            after_first = api.cloudflare.edge_memory_bytes().await.unwrap_or_default();
        }
    }
    assert!(api.cloudflare.loaded_scripts().await.unwrap() <= 40, "{:?}", api.cloudflare.loaded_scripts().await);
    if let Some(memory) = api.cloudflare.edge_memory_bytes().await {
        // Loaded ones take 2 MiB each: three hundred more would be 600.
        let more = memory.saturating_sub(after_first) >> 20;
        assert!(more < 150, "{more} MiB more than {} MiB after the first hundred", after_first >> 20);
    }
    assert_eq!(api.text("s0.example.com", "/").await, "s0", "what was unloaded is loaded again");
}

#[tokio::test]
async fn caches_of_user_scripts_are_their_own_unless_the_namespace_is_trusted() {
    let api = platform(CloudflareEmulator::options()).await;
    let code = r"
        const before = caches.default;
        export default { async fetch(request, env) {
            if (Object.keys(env).length > 0) return new Response('it sees ' + Object.keys(env));
            const { pathname, searchParams } = new URL(request.url);
            const cache = searchParams.has('named') ? await caches.open('pages') : before;
            const at = 'https://example.com/thing';
            try {
                if (pathname === '/put') await cache.put(at, new Response('kept ü', { headers: { 'x-of': 'the cache' } }));
                if (pathname === '/post') await cache.put(new Request(at, { method: 'POST' }), new Response('kept'));
                if (pathname === '/delete') return new Response(String(await cache.delete(at)));
                const found = await cache.match(at);
                return new Response(found ? `${found.status} ${found.headers.get('x-of')} ${await found.text()}` : 'nothing');
            } catch (e) { return new Response(e.message); }
        } }";
    let deploy = async || {
        for name in ["one", "two"] {
            api.script(&script(name), code, json!([])).await;
        }
    };
    let one = async |path: &str| api.text("one.example.com", path).await;
    let two = async |path: &str| api.text("two.example.com", path).await;
    deploy().await;
    assert_eq!(one("/put?named").await, "200 the cache kept ü");
    assert_eq!((one("/?named").await, two("/?named").await), ("200 the cache kept ü".into(), "nothing".into()));
    assert_eq!((two("/delete?named").await, one("/delete?named").await), ("false".into(), "true".into()));
    assert_eq!(one("/?named").await, "nothing");
    assert_eq!(one("/post?named").await, "Cannot cache response to non-GET request.");
    for path in ["/", "/put", "/delete"] {
        assert_eq!(one(path).await, "caches.default is disabled: the namespace is untrusted", "{path}");
    }
    let trust = json!({ "name": "apps", "trusted_workers": true });
    api.ok("PUT", "/accounts/{a}/workers/dispatch/namespaces/apps", &trust).await;
    deploy().await;
    for named in ["", "?named"] {
        assert_eq!((two(&format!("/{named}")).await, one(&format!("/put{named}")).await).0, "nothing");
        assert_eq!(two(&format!("/{named}")).await, "200 the cache kept ü");
    }
}
