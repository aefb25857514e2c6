//! What apps' own code may fetch: each attack with the control on which it succeeds.

use crate::world::{DOMAIN, World};
use bytes::Bytes;
use overskill_core::{BackendName, Fence, Handle, Route, RouteTable as _, SeededIds};
use overskill_http::{Method, Multipart};
use overskill_testkit::fixtures::scope;
use serde_json::json;
use std::sync::{Arc, Mutex};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// Fetches what it is asked to, or connects to it, and tells what came.
const CURIOUS: &str = "
import { connect } from 'cloudflare:sockets';
export default { async fetch(request) {
  const { searchParams } = new URL(request.url);
  const to = searchParams.get('to');
  try {
    if (searchParams.has('connect')) {
      const socket = connect(to);
      const writer = socket.writable.getWriter();
      await writer.write(new TextEncoder().encode('GET /secret HTTP/1.0\\r\\n\\r\\n'));
      const { value } = await socket.readable.getReader().read();
      return new Response(new TextDecoder().decode(value));
    }
    const headers = { 'x-overskill-scope': 'bank7/production', via: '1.1 overskill (bank7/production)', 'x-real-ip': '1.2.3.4',
      'cf-connecting-ip': '1.2.3.4', 'cf-access-client-id': 'mine', 'x-mine': '7' };
    const answer = await fetch(to, { headers });
    return new Response(answer.status + ' ' + (await answer.text()));
  } catch (error) { return new Response('threw ' + error); }
} };
";

/// Something inside, with what it was asked.
struct Inside {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Inside {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, asked) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
        let seen = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut bytes = [0; 4_096];
                let length = stream.read(&mut bytes).await.unwrap_or(0);
                let text = String::from_utf8_lossy(&bytes[..length]).to_lowercase();
                let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
                seen.lock().unwrap().push(text);
                let (head, body) = match path.strip_prefix("/moved-to-") {
                    Some(host) => (format!("302 Found\r\nlocation: http://{host}:{port}/secret"), ""),
                    None => ("200 OK".to_owned(), "the secret inside"),
                };
                let answer =
                    format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { port, asked }
    }
}

/// An app whose code does what it is asked to.
async fn put_app(world: &World, app: &str, plan: Option<&str>) {
    let metadata = json!({ "main_module": "main.js", "compatibility_date": "2026-10-01", "bindings": [] });
    let form = Multipart::new(&SeededIds::new(1)).text("metadata", "application/json", metadata.to_string());
    let form = form.and_then(|form| form.file("main.js", "main.js", "application/javascript+module", CURIOUS)).unwrap();
    let at = format!("workers/dispatch/namespaces/overskill-production/scripts/{app}-1");
    let body: (String, Bytes) = (form.content_type(), form.into_body());
    crate::common::api(&world.emulator, "PUT", &at, body).await;
    let (name, handle) = (BackendName::parse("cloudflare").unwrap(), Handle::new(format!("{app}-1")));
    let route = Route::new(name, crate::common::id(1), handle, Fence::from_u64(1));
    let routes = world.edge.routes();
    routes.set_plan(&app.try_into().unwrap(), plan).await.unwrap();
    routes.set(&scope(&format!("{app}/production")), &route).await.unwrap();
}

async fn fetched(world: &World, app: &str, to: &str) -> String {
    asked(world, app, &format!("?to={}", to.replace('[', "%5B").replace(']', "%5D"))).await
}

async fn asked(world: &World, app: &str, query: &str) -> String {
    world.ask(Method::Get, &format!("{}/{query}", world.at(app)), &[], "").await.text()
}

const REFUSED: &str = "403 This app may not fetch that: ";

#[tokio::test]
async fn code_of_apps_reaches_public_names_and_nothing_inside() {
    let inside = Inside::start().await;
    let (world, open) = (World::start().await, World::with(overskill_cloudflare::Install::without_outbound).await);
    for world in [&world, &open] {
        put_app(world, "mallory", None).await;
    }
    let (port, edge) = (inside.port, world.emulator.edge_address().unwrap().port());
    let target = format!("http://127.0.0.1:{port}/secret");
    assert_eq!(fetched(&open, "mallory", &target).await, "200 the secret inside", "the control");
    for to in [
        target.clone(),
        format!("http://2130706433:{port}/secret"),
        format!("http://0x7f.1:{port}/secret"),
        format!("http://0177.0.0.1:{port}/secret"),
        format!("http://[::1]:{port}/secret"),
        format!("http://[::ffff:127.0.0.1]:{port}/secret"),
        format!("http://localhost:{port}/secret"),
        format!("http://LOCALHOST.:{port}/secret"),
        format!("http://mallory@127.0.0.1:{port}/secret"),
        "http://169.254.169.254/latest/meta-data/".into(),
        "http://metadata.google.internal/computeMetadata/v1/".into(),
        "http://10.0.0.1/".into(),
        "https://printer.local/".into(),
        "https://intranet/".into(),
        "https://1.1.1.1/".into(),
        "https://db.public-name.zz:5432/".into(),
        format!("http://{DOMAIN}:{edge}/.overskill/v1/check"),
        format!("http://bank7.{DOMAIN}:{edge}/"),
        format!("http://preview-bank7.{DOMAIN}.:{edge}/"),
    ] {
        let got = fetched(&world, "mallory", &to).await;
        assert!(got.starts_with(REFUSED), "{to}: {got}");
    }
    // A public name goes on: here nobody answers to it.
    let got = fetched(&world, "mallory", "https://shop.public-name.zz/").await;
    assert!(got.starts_with("502 shop.public-name.zz does not answer"), "{got}");
    // Nor is there another way out.
    let connect = format!("?connect&to=127.0.0.1:{port}");
    assert!(asked(&open, "mallory", &connect).await.contains("the secret inside"), "the control");
    let got = asked(&world, "mallory", &connect).await;
    assert!(!got.contains("the secret inside"), "{got}");
}

#[tokio::test]
async fn what_a_platform_allows_passes_with_the_name_of_who_calls() {
    let inside = Inside::start().await;
    let port = inside.port;
    let world = World::with(|install| {
        let egress = json!({ "allow": ["127.0.0.1", "blocked.zz"], "deny": ["blocked.zz"] });
        let plans = json!({ "default": {}, "free": { "hosts": ["api.shop.zz"] } });
        install.setting("egress", egress).setting("plans", plans)
    });
    let world = world.await;
    put_app(&world, "todo42", None).await;
    assert_eq!(fetched(&world, "todo42", &format!("http://127.0.0.1:{port}/any")).await, "200 the secret inside");
    let seen = inside.asked.lock().unwrap().pop().unwrap();
    assert!(seen.contains("via: 1.1 overskill (todo42/production)\r\n") && seen.contains("x-mine: 7"), "{seen}");
    assert!(seen.contains("cf-access-client-id: mine"), "a key of its own: {seen}");
    for forged in ["bank7", "x-overskill", "1.2.3.4", "cf-connecting"] {
        assert!(!seen.contains(forged), "{forged}: {seen}");
    }
    // A redirect leads nowhere else than a fetch would.
    let moved = async |host: &str| fetched(&world, "todo42", &format!("http://127.0.0.1:{port}/moved-to-{host}")).await;
    assert_eq!(moved("127.0.0.1").await, "200 the secret inside", "the control");
    let got = moved("localhost").await;
    assert!(got.starts_with(REFUSED) && got.contains("public name"), "{got}");
    // What is denied is denied, whatever is allowed; and a plan has hosts of its own.
    let got = fetched(&world, "todo42", "https://www.blocked.zz/").await;
    assert!(got.contains("not allowed on this platform"), "{got}");
    put_app(&world, "freeapp", Some("free")).await;
    let got = fetched(&world, "freeapp", &format!("http://127.0.0.1:{port}/any")).await;
    assert!(got.contains("not among those of the plan “free”"), "{got}");
    let got = fetched(&world, "freeapp", "https://v1.api.shop.zz/").await;
    assert!(got.starts_with("502 "), "{got}");
}

#[tokio::test]
async fn no_setting_opens_the_platform_itself() {
    let inside = Inside::start().await;
    let address = format!("http://127.0.0.1:{}", inside.port);
    let allow = json!({ "allow": ["127.0.0.1", DOMAIN] });
    let upstream = format!("{address}/v1");
    let world = World::with(|install| install.setting("egress", allow).setting("upstream", upstream)).await;
    put_app(&world, "mallory", None).await;
    for to in [format!("{address}/v1/bank7/production/entities"), format!("https://bank7.{DOMAIN}/")] {
        let got = fetched(&world, "mallory", &to).await;
        assert!(got.starts_with(REFUSED) && got.contains("the platform's own"), "{to}: {got}");
    }
}
