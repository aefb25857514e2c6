//! An emulated account with the platform in it, and the ways there.

use overskill::{
    Environment, KeyId, SystemIds,
    cloudflare::{Cloudflare, Edge, IngestKey, Install},
    http::{Body, Multipart, NetworkTransport, Quota, Request, Response, Transport, cut_off},
};
use overskill_benches::Outcome;
use overskill_testkit::cloudflare::{CloudflareEmulator, CloudflareOptions, Lost, http};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    num::NonZeroU32,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// The namespace of production, whose scripts the bare dispatcher shows at `{script}.bare.test`.
pub(crate) const NAMESPACE: &str = "overskill-production";
/// The least that a dispatcher has to do.
const BARE: &str = "export default { fetch(request, env) {\n\
    \x20 return env.APPS.get(new URL(request.url).hostname.split('.')[0]).fetch(request);\n\
    } };\n";

/// The account, and the platform on it.
pub(crate) struct Rig {
    pub(crate) emulator: CloudflareEmulator,
    pub(crate) cf: Cloudflare,
    pub(crate) edge: Edge,
    /// What the library's requests go over.
    pub(crate) line: Line,
    pub(crate) address: SocketAddr,
}

impl Rig {
    pub(crate) async fn start(options: CloudflareOptions) -> Outcome<Self> {
        let options = options.zones(["localhost", "bare.test"]).quota(usize::MAX, Duration::from_mins(5));
        let emulator = options.start().await?;
        let address = emulator.edge_address().ok_or("the emulator has no edge")?;
        let line = Line::new()?;
        let plenty = Quota::new(NonZeroU32::new(10_000_000).ok_or("not zero")?, Duration::from_mins(5));
        let cf = Cloudflare::connect(emulator.account(), emulator.token())
            .api_base(emulator.api_url())
            .zone(emulator.zone_id("localhost")?)
            .domains(["localhost"])
            .served_at(format!("http://localhost:{}", address.port()))
            .transport(line.clone())
            .quota(plenty)
            .build()?;
        let key = IngestKey::generate(KeyId::parse("bench")?, &SystemIds);
        cf.install(&Install::new(key.to_binding(), "a key for sockets")).await?;
        let edge = cf.edge(key)?;
        let rig = Self { emulator, cf, edge, line, address };
        let apps = json!({ "name": "APPS", "type": "dispatch_namespace", "namespace": NAMESPACE });
        rig.put("workers/scripts/bare", BARE, &json!([apps])).await?;
        rig.route("*.bare.test/*", "bare").await?;
        Ok(rig)
    }

    /// Uploads a script of one module, as anybody would.
    pub(crate) async fn put(&self, path: &str, code: &str, bindings: &Value) -> Outcome<()> {
        let metadata =
            json!({ "main_module": "main.js", "compatibility_date": "2026-10-01", "bindings": bindings }).to_string();
        let form = Multipart::new(&SystemIds).text("metadata", "application/json", metadata)?;
        let form = form.file("main.js", "main.js", "application/javascript+module", code)?;
        let path = format!("/accounts/{}/{path}", self.emulator.account());
        self.call("PUT", &path, &form.content_type(), form.into_body()).await
    }

    /// Sends what matches `pattern`, within `bare.test`, to a script of the account.
    pub(crate) async fn route(&self, pattern: &str, script: &str) -> Outcome<()> {
        let path = format!("/zones/{}/workers/routes", self.emulator.zone_id("bare.test")?);
        let route = json!({ "pattern": pattern, "script": script }).to_string();
        self.call("POST", &path, "application/json", route.into()).await
    }

    async fn call(&self, method: &str, path: &str, content_type: &str, body: bytes::Bytes) -> Outcome<()> {
        let call = http::Request::builder().method(method).uri(format!("/client/v4{path}"));
        let call = call.header("authorization", format!("Bearer {}", self.emulator.token()));
        let answer = self.emulator.call(call.header("content-type", content_type).body(body)?).await;
        let answer = answer.map_err(|lost| format!("{method} {path}: {lost:?}"))?;
        if answer.status().is_success() {
            return Ok(());
        }
        Err(format!("{method} {path}: {} {:?}", answer.status(), answer.body()).into())
    }

    /// The host of an app in an environment, by the platform's dispatcher.
    pub(crate) fn host(&self, app: &str, environment: Environment) -> String {
        let prefix = if environment == Environment::Preview { "preview-" } else { "" };
        format!("{prefix}{app}.localhost:{}", self.address.port())
    }

    /// A connection to the edge.
    pub(crate) async fn plain(&self) -> Outcome<Plain> {
        Plain::connect(self.address).await
    }
}

/// The network, as far away as it is said to be: each request takes a round trip longer. It notes when each began and ended.
#[derive(Clone, Debug)]
pub(crate) struct Line(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    network: NetworkTransport,
    round_trip_ms: AtomicU64,
    calls: Mutex<Vec<(Instant, Instant)>>,
}

impl Line {
    fn new() -> Outcome<Self> {
        let (network, round_trip_ms) = (NetworkTransport::new()?, AtomicU64::new(0));
        Ok(Self(Arc::new(Inner { network, round_trip_ms, calls: Mutex::default() })))
    }

    pub(crate) fn set_round_trip(&self, time: Duration) {
        self.0.round_trip_ms.store(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What went over it since this was asked last.
    pub(crate) fn take(&self) -> Calls {
        Calls(std::mem::take(&mut self.0.calls.lock().expect("nobody panics with this lock")))
    }
}

#[async_trait::async_trait]
impl Transport for Line {
    async fn send(&self, request: Request) -> overskill::Result<Response<Body>> {
        let begun = Instant::now();
        let round_trip = self.0.round_trip_ms.load(Ordering::Relaxed);
        if round_trip > 0 {
            tokio::time::sleep(Duration::from_millis(round_trip)).await;
        }
        let answer = self.0.network.send(request).await;
        self.0.calls.lock().expect("nobody panics with this lock").push((begun, Instant::now()));
        answer
    }
}

/// When requests began and ended.
#[derive(Debug)]
pub(crate) struct Calls(Vec<(Instant, Instant)>);

impl Calls {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// How many of them had to wait for one another.
    pub(crate) fn depth(&self) -> u32 {
        let mut by_end = self.0.clone();
        by_end.sort_by_key(|(_, end)| *end);
        let (mut depth, mut last) = (0, None);
        for (begun, end) in by_end {
            if last.is_none_or(|last| begun >= last) {
                (depth, last) = (depth + 1, Some(end));
            }
        }
        depth
    }

    /// How long at least one was under way.
    pub(crate) fn busy(&self) -> Duration {
        let mut by_begin = self.0.clone();
        by_begin.sort();
        let (mut busy, mut until) = (Duration::ZERO, None::<Instant>);
        for (begun, end) in by_begin {
            let from = until.map_or(begun, |until| until.max(begun));
            busy += end.saturating_duration_since(from);
            until = Some(until.map_or(end, |until| until.max(end)));
        }
        busy
    }
}

/// A plain client: one connection that stays.
pub(crate) struct Plain {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Plain {
    async fn connect(address: SocketAddr) -> Outcome<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(64 << 10) })
    }

    /// The status, and the body.
    pub(crate) async fn get(&mut self, host: &str, path: &str) -> Outcome<(u16, Vec<u8>)> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\naccept: text/html,*/*\r\n\r\n");
        self.stream.write_all(request.as_bytes()).await?;
        let head = loop {
            match find(&self.buffer, b"\r\n\r\n") {
                Some(end) => break self.take(end + 4),
                None => self.more().await?,
            }
        };
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|it| it.parse().ok()).ok_or("no status")?;
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let mut body = Vec::new();
        if field("transfer-encoding:") == Some("chunked") {
            loop {
                let size = loop {
                    match find(&self.buffer, b"\r\n") {
                        Some(end) => break self.take(end + 2),
                        None => self.more().await?,
                    }
                };
                let size = usize::from_str_radix(String::from_utf8_lossy(&size).trim(), 16)?;
                let chunk = self.exactly(size + 2).await?;
                body.extend_from_slice(&chunk[..size]);
                if size == 0 {
                    break;
                }
            }
        } else if let Some(length) = field("content-length:") {
            body = self.exactly(length.parse()?).await?;
        }
        Ok((status, body))
    }

    /// Asks until the answer is 200.
    pub(crate) async fn until_ok(&mut self, host: &str, path: &str) -> Outcome<Vec<u8>> {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            match self.get(host, path).await? {
                (200, body) => return Ok(body),
                (status, _) if Instant::now() > until => return Err(format!("{host}{path}: {status}").into()),
                _ => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    }

    async fn more(&mut self) -> Outcome<()> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err("the edge closed the connection".into()),
            _ => Ok(()),
        }
    }

    async fn exactly(&mut self, length: usize) -> Outcome<Vec<u8>> {
        while self.buffer.len() < length {
            self.more().await?;
        }
        Ok(self.take(length))
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        self.buffer.drain(..length).collect()
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// A way to an emulator in this process: no network, and so no time but the clock's.
#[derive(Debug)]
pub(crate) struct InProcess(pub(crate) CloudflareEmulator);

#[async_trait::async_trait]
impl Transport for InProcess {
    async fn send(&self, request: Request) -> overskill::Result<Response<Body>> {
        let mut call = http::Request::builder().method(request.method.as_str()).uri(request.url.expose());
        for (name, value) in request.headers.iter() {
            call = call.header(name, value);
        }
        let call = call.header("host", request.url.host()).body(request.body).map_err(cut_off)?;
        let answer = match self.0.call(call).await {
            Ok(answer) => answer,
            Err(Lost::NoAnswer | Lost::CutBody(_)) => return Err(cut_off("the connection ended")),
        };
        let (head, body) = answer.into_parts();
        let mut response = Response::new(head.status.as_u16(), body);
        for (name, value) in &head.headers {
            response = response.with_header(name.as_str(), value.as_bytes())?;
        }
        Ok(response.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_another_is_deeper_and_what_overlaps_is_counted_once() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let calls = Calls(vec![(at(0), at(10)), (at(5), at(15)), (at(20), at(30)), (at(22), at(24))]);
        assert_eq!((calls.len(), calls.depth(), calls.busy()), (4, 2, Duration::from_millis(25)));
        let none = Calls(Vec::new());
        assert_eq!((none.depth(), none.busy()), (0, Duration::ZERO));
    }
}
