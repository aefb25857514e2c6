//! What workerd has besides bindings: alarms, entrypoints with names, a cache.

use crate::support::Api;
use overskill_testkit::cloudflare::CloudflareEmulator;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const FRONT: &str = "/accounts/{a}/workers/scripts/front";
const BACK: &str = "/accounts/{a}/workers/scripts/back";

async fn api() -> Api {
    Api::with_edge(CloudflareEmulator::options()).await
}

#[tokio::test]
async fn an_alarm_of_an_account_script_rings() {
    let api = api().await;
    let code = r"
        import { DurableObject } from 'cloudflare:workers';
        export class Bell extends DurableObject {
            async set() { await this.ctx.storage.setAlarm(Date.now() + 50); }
            async rung() { return (await this.ctx.storage.get('rung')) ?? 0; }
            async alarm() { await this.ctx.storage.put('rung', (await this.rung()) + 1); }
        }
        export default { async fetch(request, env) {
            const bell = env.BELL.getByName('one');
            if (new URL(request.url).pathname === '/set') await bell.set();
            return new Response(String(await bell.rung()));
        } }";
    let metadata = json!({
        "main_module": "main.js", "compatibility_date": "2026-10-01",
        "bindings": [{ "name": "BELL", "type": "durable_object_namespace", "class_name": "Bell" }],
        "migrations": { "new_tag": "v1", "steps": [{ "new_sqlite_classes": ["Bell"] }] },
    });
    let (status, answer) = api.upload(FRONT, &metadata, &[("main.js", code)]).await;
    assert_eq!(status, 200, "{answer}");
    api.route("example.com/*", "front").await;
    assert_eq!(api.text("example.com", "/set").await, "0");
    let since = Instant::now();
    while api.text("example.com", "/").await != "1" {
        assert!(since.elapsed() < Duration::from_secs(30), "{:?}", api.cloudflare.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_entrypoint_with_a_name_answers_calls() {
    let api = api().await;
    let back = r"
        import { WorkerEntrypoint } from 'cloudflare:workers';
        export class Sums extends WorkerEntrypoint {
            add(a, b) { return a + b; }
            fetch() { return new Response('sums'); }
        }
        export default { fetch() { return new Response('default'); } }";
    api.script(BACK, back, json!([])).await;
    let front = r"
        export default { async fetch(request, env) {
            const text = async (service) => (await service.fetch('http://x/')).text();
            return Response.json([await env.SUMS.add(2, 3), await text(env.SUMS), await text(env.BACK)]);
        } }";
    let bindings = json!([
        { "name": "SUMS", "type": "service", "service": "back", "entrypoint": "Sums" },
        { "name": "BACK", "type": "service", "service": "back" },
    ]);
    api.script(FRONT, front, bindings).await;
    api.route("example.com/*", "front").await;
    let body = api.text("example.com", "/").await;
    let told: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{body} {:?}", api.cloudflare.logs()));
    assert_eq!(told, json!([5, "sums", "default"]));
}

#[tokio::test]
async fn a_cache_keeps_what_it_may_and_is_a_scripts_own() {
    let api = api().await;
    let code = r"
        export default { async fetch(request) {
            const url = new URL(request.url);
            const cache = url.searchParams.has('named') ? await caches.open('named') : caches.default;
            const at = 'https://example.com/thing';
            if (url.pathname === '/put') {
                const headers = JSON.parse(url.searchParams.get('headers') ?? '{}');
                await cache.put(at, new Response('kept ü', { headers: { 'x-of': 'the cache', ...headers } }));
            }
            if (url.pathname === '/delete') return new Response(String(await cache.delete(at)));
            const found = await cache.match(at);
            return new Response(found ? `${found.status} ${found.headers.get('x-of')} ${await found.text()}` : 'nothing');
        } }";
    api.script(FRONT, code, json!([])).await;
    api.script(BACK, code, json!([])).await;
    api.route("example.com/*", "front").await;
    api.route("back.example.com/*", "back").await;
    let ask = async |path: &str| api.text("example.com", path).await;
    assert_eq!(ask("/").await, "nothing");
    assert_eq!(ask("/put").await, "200 the cache kept ü");
    assert_eq!(ask("/").await, "200 the cache kept ü");
    assert_eq!(ask("/?named").await, "nothing", "another cache");
    assert_eq!(api.text("back.example.com", "/").await, "nothing", "another script");
    assert_eq!((ask("/delete").await, ask("/delete").await), ("true".into(), "false".into()));
    for headers in ["cache-control%22:%22no-store", "set-cookie%22:%22a=b", "cache-control%22:%22max-age=0"] {
        assert_eq!(ask(&format!("/put?headers={{%22{headers}%22}}")).await, "nothing", "{headers}");
    }
    ask("/put?headers={%22cache-control%22:%22max-age=1%22}").await;
    let since = Instant::now();
    while ask("/").await != "nothing" {
        assert!(since.elapsed() < Duration::from_secs(30), "it is kept for longer than it may");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
