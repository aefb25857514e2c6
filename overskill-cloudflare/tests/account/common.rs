//! What the cases have in common: an emulated account, and the way to it.

use bytes::Bytes;
use overskill_cloudflare::{Cloudflare, CloudflareBuilder};
use overskill_core::{
    Artifact, DeployRequest, DeploymentId, EnvRevision, EnvSnapshot, EnvValue, Environment, Fence, Incarnation, Scope,
    SeededIds, StreamPosition, Timestamp,
};
use overskill_http::{Body, Multipart, Quota, Request, Response, Transport, cut_off, transport_fn};
use overskill_testkit::{
    RawAnswer,
    cloudflare::{CloudflareEmulator, CloudflareOptions, Lost},
    fixtures,
};
use std::{num::NonZeroU32, sync::Arc, time::Duration};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A way to the emulator within this process.
pub(crate) fn transport(emulator: &CloudflareEmulator) -> impl Transport + use<> {
    let emulator = emulator.clone();
    transport_fn(move |request: Request| {
        let emulator = emulator.clone();
        async move { send(&emulator, request).await }
    })
}

pub(crate) async fn send(emulator: &CloudflareEmulator, request: Request) -> overskill_core::Result<Response<Body>> {
    let mut call = http::Request::builder().method(request.method.as_str()).uri(request.url.expose());
    for (name, value) in request.headers.iter() {
        call = call.header(name, value);
    }
    let host = request.url.host().to_owned();
    match emulator.call(call.header("host", host).body(request.body).unwrap()).await {
        Ok(answer) => {
            let (status, headers, body) = taken(answer);
            let mut response = Response::new(status, body);
            for (name, value) in &headers {
                response = response.with_header(name.as_str(), value.as_bytes())?;
            }
            Ok(response.into())
        }
        Err(Lost::NoAnswer) => Err(cut_off("the connection ended")),
        Err(Lost::CutBody(part)) => {
            let (status, _, body) = taken(part);
            let parts = [Ok(body), Err(cut_off("the connection ended"))];
            Ok(Response::streaming(status, Body::stream(futures::stream::iter(parts))))
        }
    }
}

fn taken(answer: http::Response<Bytes>) -> (u16, http::HeaderMap, Bytes) {
    let (head, body) = answer.into_parts();
    (head.status.as_u16(), head.headers, body)
}

/// An account that is in a hurry: its quota is out of the way, and a key takes a write every few milliseconds.
pub(crate) fn emulated(options: impl FnOnce(CloudflareOptions) -> CloudflareOptions) -> CloudflareEmulator {
    let quick = CloudflareEmulator::options().quota(usize::MAX, Duration::from_mins(5)).kv_same_key_interval(GAP);
    options(quick).in_process()
}

pub(crate) const GAP: Duration = Duration::from_millis(20);

/// The account as the library sees it, in the same hurry.
pub(crate) fn connect(emulator: &CloudflareEmulator) -> CloudflareBuilder {
    let plenty = Quota::new(NonZeroU32::new(10_000_000).unwrap(), Duration::from_mins(5));
    Cloudflare::connect(emulator.account(), emulator.token())
        .domains(["example.com"])
        .zone(emulator.zone_id("example.com").unwrap())
        .transport(transport(emulator))
        .quota(plenty)
        .kv_staleness(Duration::from_millis(300))
        .kv_write_interval(GAP)
        .max_tries(NonZeroU32::new(8).unwrap())
}

pub(crate) fn account(emulator: &CloudflareEmulator) -> Cloudflare {
    connect(emulator).build().unwrap()
}

pub(crate) fn scope() -> Scope {
    fixtures::scope("todo42/production")
}

pub(crate) fn id(n: u64) -> DeploymentId {
    DeploymentId::generate(&SeededIds::new(n), Timestamp::from_unix_millis(1_794_000_000_000))
}

/// A deployment of three assets that depend on `n`, to be activated under the fence `n`.
pub(crate) fn request(n: u64) -> DeployRequest {
    request_of(n, fixtures::artifact(3, n))
}

pub(crate) fn request_of(n: u64, artifact: Artifact) -> DeployRequest {
    let revision = EnvRevision(StreamPosition::new(Incarnation::from_u64(1), 1));
    let values = [("GREETING", EnvValue::plain("hello")), ("API_KEY", EnvValue::sealed("hunter2"))];
    let values = values.into_iter().map(|(key, value)| (key.parse().unwrap(), value)).collect();
    let env = Arc::new(EnvSnapshot { revision, values });
    DeployRequest::new(id(n), scope(), Arc::new(artifact), env).under(Fence::from_u64(n))
}

/// How many calls of a method came to a path that holds that text.
pub(crate) fn calls(emulator: &CloudflareEmulator, method: &str, path: &str) -> usize {
    emulator.requests().iter().filter(|call| call.method == method && call.path.contains(path)).count()
}

/// The names of the scripts in an environment's namespace.
pub(crate) fn scripts(emulator: &CloudflareEmulator, environment: &str) -> Vec<String> {
    let state = emulator.state();
    let namespace = state.namespaces.get(&format!("overskill-{environment}"));
    namespace.map(|scripts| scripts.keys().cloned().collect()).unwrap_or_default()
}

/// All that the account holds, but for assets: no call of the provider lists or removes them.
pub(crate) fn held(emulator: &CloudflareEmulator) -> serde_json::Value {
    let mut state = emulator.state();
    state.assets = 0;
    serde_json::to_value(state).unwrap()
}

/// The host of the Worker that [`put_viewer`] puts there.
pub(crate) const VIEWER: &str = "viewer.example.com";

/// A Worker that hands a request to the script that a header names, in the namespace that another names.
pub(crate) async fn put_viewer(emulator: &CloudflareEmulator) {
    let code = "export default { fetch(request, env) {\n\
                \x20 const script = env[request.headers.get('x-environment')].get(request.headers.get('x-script'));\n\
                \x20 return script.fetch(new Request(request.url, { redirect: 'manual' }));\n\
                } };\n";
    let namespace = |environment: Environment| format!("overskill-{environment}");
    let binding = |environment: Environment| {
        let (name, namespace) = (environment.as_str(), namespace(environment));
        serde_json::json!({"type": "dispatch_namespace", "name": name, "namespace": namespace})
    };
    let metadata = serde_json::json!({
        "main_module": "viewer.js", "compatibility_date": "2026-10-01", "bindings": Environment::ALL.map(binding),
    });
    let form = Multipart::new(&SeededIds::new(1)).text("metadata", "application/json", metadata.to_string());
    let form = form.and_then(|form| form.file("viewer.js", "viewer.js", "application/javascript+module", code));
    let form = form.unwrap();
    let json = |value: serde_json::Value| ("application/json".to_owned(), Bytes::from(value.to_string()));
    for environment in Environment::ALL {
        let made = json(serde_json::json!({"name": namespace(environment)}));
        api(emulator, "POST", "workers/dispatch/namespaces", made).await;
    }
    api(emulator, "PUT", "workers/scripts/viewer", (form.content_type(), form.into_body())).await;
    let zone = emulator.zone_id("example.com").unwrap();
    let route = serde_json::json!({"pattern": format!("{VIEWER}/*"), "script": "viewer"});
    api(emulator, "POST", &format!("/zones/{zone}/workers/routes"), json(route)).await;
}

/// Somebody else's call: below the account, or from the root.
pub(crate) async fn api(
    emulator: &CloudflareEmulator,
    method: &str,
    path: &str,
    (content_type, body): (String, Bytes),
) {
    let account = format!("/accounts/{}/", emulator.account());
    let path = if path.starts_with('/') { path.to_owned() } else { account + path };
    let call = http::Request::builder().method(method).uri(format!("{}{path}", emulator.api_url()));
    let call = call.header("authorization", format!("Bearer {}", emulator.token()));
    let answer = emulator.call(call.header("content-type", content_type).body(body).unwrap()).await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
}

/// A way to what the edge serves, whatever the host.
pub(crate) fn through_the_edge(emulator: &CloudflareEmulator) -> impl Transport + use<> {
    let address = emulator.edge_address().unwrap();
    transport_fn(move |request: Request| async move {
        let (_, rest) = request.url.expose().split_once("://").unwrap();
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (method, length) = (request.method, request.body.len());
        let mut bytes =
            format!("{method} /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {length}\r\n")
                .into_bytes();
        for (name, value) in request.headers.iter() {
            bytes.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        bytes.extend([b"\r\n", &request.body[..]].concat());
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = RawAnswer::read(&answer, false).ok_or_else(|| cut_off("the connection ended"))?;
        let mut response = Response::new(answer.status, answer.body);
        for (name, value) in &answer.headers {
            response = response.with_header(name, value.as_bytes())?;
        }
        Ok(Response::<Body>::from(response))
    })
}

/// Asks the edge: status and body.
pub(crate) async fn get(emulator: &CloudflareEmulator, scope: &Scope, script: &str, path: &str) -> (u16, Bytes) {
    let address = emulator.edge_address().unwrap();
    let which = format!("x-script: {script}\r\nx-environment: {}", scope.environment);
    let head = format!("GET {path} HTTP/1.0\r\nHost: {VIEWER}\r\n{which}\r\nConnection: close\r\n\r\n");
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = RawAnswer::read(&answer, false).expect("a whole answer");
    (answer.status, answer.body.into())
}
