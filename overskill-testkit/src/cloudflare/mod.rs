//! Cloudflare on your own machine: its API in Rust, its edge by real workerd.
//!
//! ```no_run
//! # async fn example() -> overskill_core::Result<()> {
//! use overskill_testkit::cloudflare::CloudflareEmulator;
//!
//! let cloudflare = CloudflareEmulator::options().zones(["example.com"]).start().await?;
//! // Point any client at it: `https://api.cloudflare.com/client/v4` is now this.
//! println!("{} {} {}", cloudflare.api_url(), cloudflare.account(), cloudflare.token());
//! // Users' URLs: connect here, with the `Host` they asked for.
//! println!("{:?}", cloudflare.edge_address());
//! # Ok(()) }
//! ```
//!
//! # The API
//!
//! - **On loopback**: [`CloudflareOptions::start`] serves the REST API under [`api_url`](CloudflareEmulator::api_url)
//!   and R2's S3 API (path style, Signature Version 4) under [`s3_url`](CloudflareEmulator::s3_url).
//! - **In process**: [`CloudflareOptions::in_process`] and [`CloudflareEmulator::call`]; no port, no thread, no workerd.
//!   With `overskill-http` it becomes a transport like this:
//!
//!   ```ignore
//!   let transport = transport_fn(move |request: Request| {
//!       let cloudflare = cloudflare.clone();
//!       async move {
//!           let mut call = http::Request::builder().method(request.method.as_str()).uri(request.url.to_string());
//!           for (name, value) in request.headers.iter() {
//!               call = call.header(name, value);
//!           }
//!           match cloudflare.call(call.body(request.body).unwrap()).await {
//!               Ok(answer) => { /* status, headers, body → Response */ }
//!               Err(Lost::NoAnswer) => Err(cut_off("the connection ended")),
//!               Err(Lost::CutBody(part)) => { /* a Response whose Body::stream yields the part, then cut_off */ }
//!           }
//!       }
//!   });
//!   ```
//!
//! It has: dispatch namespaces; scripts of the account and of namespaces with modules, bindings, `keep_bindings` and
//! `inherit`, tags, settings, secrets and secrets-bulk, content, migrations, listing and deleting by tag; static assets
//! (sessions, uploads, completion tokens); KV; R2 buckets; zones with routes, DNS records, custom hostnames and their
//! fallback origin; custom domains, `workers.dev`, schedules; tokens and accounts as far as clients look at them.
//! Limits and error codes are the provider's where its clients show them. What is merely malformed has code 10021.
//!
//! The quota (1,200 calls in 5 minutes over all tokens) counts REST calls, not those of S3. Assets are shared by hash in
//! the whole account, as the provider may do: a hash that can be guessed is a file that can be read.
//!
//! # Faults, and looking inside
//!
//! [`FaultPlan`] scripts what goes wrong, or leaves it to seeded chance. [`requests`](CloudflareEmulator::requests)
//! shows what came, [`state`](CloudflareEmulator::state) what the account holds, [`logs`](CloudflareEmulator::logs) what
//! Workers wrote. Time is the [`Clock`]'s.
//!
//! # The edge
//!
//! Every answer to a user's URL comes from workerd: from account scripts (by route, custom hostname, custom domain or
//! `workers.dev` name) with their Durable Objects, KV, R2, secrets, assets, services and dispatch namespaces, and from
//! user scripts behind a dispatch namespace. Account scripts are workerd's configuration: a call that changes one
//! returns when workerd runs with it. User scripts are loaded on demand; a new version is live on the next request.
//!
//! Scripts have caches, in memory, each its own: user scripts of an untrusted namespace have none but those by name,
//! and those of a trusted one share all. Account scripts also have alarms of Durable Objects, and named entrypoints.
//! Scripts that were loaded and rest are unloaded, so that memory stays bounded over thousands of them
//! ([`edge_memory_bytes`](CloudflareEmulator::edge_memory_bytes)).
//!
//! Not here, because workerd by itself has it not: limits of CPU time and subrequests (they are kept and shown, and nothing
//! is ended), alarms of Durable Objects in *user* scripts. `request.cf` says nothing. URLs begin with
//! `http:` unless the request has `x-forwarded-proto: https`. Scripts of namespaces are not started when they are
//! uploaded, so that one that does not load fails with its first request. Cron triggers fire when
//! [`scheduled`](CloudflareEmulator::scheduled) says so.

mod api;
mod edge;
mod faults;
mod multipart;
mod options;
mod quota;
mod r2;
mod s3;
mod server;
mod sigv4;
mod snapshot;
mod state;
mod wire;

pub use faults::{Calls, Fault, FaultPlan, Moment};
pub use http;
pub use options::CloudflareOptions;
pub use snapshot::{RecordedCall, ScriptSnapshot, Snapshot};

use bytes::Bytes;
use edge::{Edge, EdgeOptions};
use faults::Faults;
use http::{HeaderValue, Request, Response};
use overskill_core::{Clock, Error, ErrorKind, Result, Timestamp};
use quota::{Quota, Standing};
use server::Server;
use state::{State, Token, Zone};
use std::{
    collections::BTreeMap,
    fmt, future,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    time::Duration,
};
use wire::{Call, Refusal, Reply, json_reply, reply};

/// An emulated Cloudflare account; see the [module](self). Clones are the same emulator; it ends with the last one.
#[derive(Clone)]
pub struct CloudflareEmulator {
    inner: Arc<Inner>,
    server: Option<Arc<Server>>,
}

/// The connection ended before the whole answer came.
#[derive(Debug)]
pub enum Lost {
    /// Nothing came.
    NoAnswer,
    /// The head came, with the `content-length` of the whole body, and this part of the body.
    CutBody(Response<Bytes>),
}

pub(crate) struct Inner {
    clock: Arc<dyn Clock>,
    record_bodies: bool,
    state: Mutex<State>,
    faults: Mutex<Faults>,
    quota: Mutex<Quota>,
    calls: Mutex<Vec<RecordedCall>>,
    edge: OnceLock<Edge>,
}

impl CloudflareEmulator {
    /// An emulator with other options.
    pub fn options() -> CloudflareOptions {
        CloudflareOptions::default()
    }

    /// Starts one on loopback, as the [options](Self::options) are unless said otherwise.
    pub async fn start() -> Result<Self> {
        Self::options().start().await
    }

    /// The account's id.
    pub fn account(&self) -> String {
        self.inner.state().account.clone()
    }

    /// The first token.
    pub fn token(&self) -> String {
        self.inner.state().tokens.first().map(|it| it.value.clone()).unwrap_or_default()
    }

    /// The id of a zone.
    ///
    /// # Errors
    /// `NotFound` when the account has no such zone.
    pub fn zone_id(&self, name: &str) -> Result<String> {
        let state = self.inner.state();
        let zone = state.zones.values().find(|it| it.name == name);
        zone.map(|it| it.id.clone()).ok_or_else(|| Error::not_found("the account has no such zone").with("zone", name))
    }

    /// The access key id and the secret access key of a token for the S3 API: by the provider's rule, the token's id and
    /// the SHA-256 digest of its value. Nothing when there is no such token.
    pub fn s3_keys(&self, token: &str) -> Option<(String, String)> {
        let state = self.inner.state();
        let token = state.tokens.iter().find(|it| it.value == token)?;
        Some((token.id.clone(), sigv4::secret_key(token)))
    }

    /// Where the REST API is: the base URL with `/client/v4`. In process, the provider's own.
    pub fn api_url(&self) -> String {
        match &self.server {
            Some(server) => format!("http://{}/client/v4", server.address()),
            None => "https://api.cloudflare.com/client/v4".to_owned(),
        }
    }

    /// Where the S3 API is. In process, the provider's own.
    pub fn s3_url(&self) -> String {
        match &self.server {
            Some(server) => format!("http://{}", server.address()),
            None => format!("https://{}.r2.cloudflarestorage.com", self.account()),
        }
    }

    /// Where users' requests go, whatever their host. Nothing without an edge.
    pub fn edge_address(&self) -> Option<SocketAddr> {
        self.inner.edge.get()?.address()
    }

    /// Fires a cron trigger of an account script, and waits for its end.
    ///
    /// # Errors
    /// `NotFound` when the script has no such trigger, `Unavailable` without an edge.
    pub async fn scheduled(&self, script: &str, cron: &str) -> Result<()> {
        let known = self.inner.state().scripts.get(script).is_some_and(|it| it.schedules.iter().any(|it| it == cron));
        if !known {
            let message = "the script has no such cron trigger";
            return Err(Error::not_found(message).with("script", script).with("cron", cron));
        }
        let time = self.inner.clock.now().as_unix_millis().to_string();
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("script", script), ("cron", cron), ("time", time.as_str())])
            .finish();
        let answer = self.edge()?.admin(&format!("/scheduled?{query}")).await?;
        let outcome: serde_json::Value = serde_json::from_slice(&answer).unwrap_or_default();
        if outcome["outcome"] == "ok" {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unexpected, "the scheduled handler failed").with("outcome", &outcome["outcome"]))
    }

    /// How many user scripts are loaded.
    ///
    /// # Errors
    /// `Unavailable` without an edge.
    pub async fn loaded_scripts(&self) -> Result<usize> {
        let answer = self.edge()?.admin("/loaded").await?;
        let told: serde_json::Value = serde_json::from_slice(&answer).unwrap_or_default();
        Ok(told["scripts"].as_u64().and_then(|it| usize::try_from(it).ok()).unwrap_or_default())
    }

    /// How much memory workerd holds, in bytes; nothing without an edge, and where the system does not tell (it does on Linux).
    pub async fn edge_memory_bytes(&self) -> Option<u64> {
        self.inner.edge.get()?.memory_bytes().await
    }

    /// Ends workerd and starts it again: sockets break, and what Durable Objects have stored stays.
    ///
    /// # Errors
    /// `Unavailable` without an edge.
    pub async fn restart_edge(&self) -> Result<()> {
        self.edge()?.restart(&self.inner).await
    }

    /// What workerd and Workers wrote, `console.log` included: the last 10,000 lines.
    pub fn logs(&self) -> Vec<String> {
        self.inner.edge.get().map(Edge::logs).unwrap_or_default()
    }

    /// Answers one call of the REST API (a path that begins with `/client/v4`) or of the S3 API (any other path).
    ///
    /// # Errors
    /// [`Lost`] where a fault cuts the connection. It waits for ever where a fault says so.
    pub async fn call(&self, request: Request<Bytes>) -> std::result::Result<Response<Bytes>, Lost> {
        self.inner.call(request).await
    }

    /// The calls so far, in the order in which they came.
    pub fn requests(&self) -> Vec<RecordedCall> {
        lock(&self.inner.calls).clone()
    }

    /// Forgets the calls so far.
    pub fn clear_requests(&self) {
        lock(&self.inner.calls).clear();
    }

    /// What the account holds.
    pub fn state(&self) -> Snapshot {
        Snapshot::of(&self.inner.state(), self.inner.clock.now())
    }

    /// The value of a key, as it was written last. Nothing when there is no such namespace or key.
    pub fn kv_value(&self, namespace_id: &str, key: &str) -> Option<Bytes> {
        let state = self.inner.state();
        let entry = state.kv.get(namespace_id)?.read(key, self.inner.clock.now(), Duration::ZERO);
        entry.map(|it| it.value.clone())
    }

    /// From now on this goes wrong, and nothing else.
    pub fn set_faults(&self, plan: FaultPlan) {
        self.inner.state().kv_staleness = plan.staleness();
        *lock(&self.inner.faults) = Faults::new(plan);
    }

    /// From now on this is the quota; what was used of the old one is forgotten.
    pub fn set_quota(&self, calls: usize, window: Duration) {
        *lock(&self.inner.quota) = Quota::new(calls, window);
    }

    /// Ends every session of asset uploads, as an hour does.
    pub fn expire_asset_sessions(&self) {
        api::assets::expire(&mut self.inner.state());
    }

    /// Sets the state of a custom hostname and of its certificate, such as `active`, `pending`, `moved`, `blocked` and
    /// `active`, `pending_validation`, `expired`. New ones are `pending` and `initializing`.
    ///
    /// # Errors
    /// `NotFound` when no zone has that custom hostname.
    pub async fn set_hostname(&self, hostname: &str, status: &str, certificate: &str) -> Result<()> {
        self.inner.state().set_hostname(hostname, status, certificate)?;
        match self.inner.edge.get() {
            Some(edge) => edge.follow(&self.inner, &mut *edge.hold().await).await,
            None => Ok(()),
        }
    }

    fn new(options: CloudflareOptions) -> Self {
        let mut state = State::new(options.seed, options.account);
        state.kv_staleness = options.faults.staleness();
        state.kv_same_key = options.kv_same_key;
        state.single_asset_uploads = options.single_asset_uploads;
        state.tokens = options.tokens.into_iter().map(|value| Token { id: state.hex_id(), value }).collect();
        for name in options.zones {
            let id = state.hex_id();
            let (hostnames, records) = (BTreeMap::new(), BTreeMap::new());
            let zone = Zone { id: id.clone(), name, routes: Vec::new(), hostnames, fallback_origin: None, records };
            state.zones.insert(id, zone);
        }
        let inner = Inner {
            clock: options.clock,
            record_bodies: options.record_bodies,
            state: Mutex::new(state),
            faults: Mutex::new(Faults::new(options.faults)),
            quota: Mutex::new(Quota::new(options.quota.0, options.quota.1)),
            calls: Mutex::new(Vec::new()),
            edge: OnceLock::new(),
        };
        Self { inner: Arc::new(inner), server: None }
    }

    async fn start_with(options: CloudflareOptions) -> Result<Self> {
        let port = options.api_port;
        let edge = options.edge.then(|| EdgeOptions {
            port: options.edge_port,
            max_loaded: options.max_loaded_scripts,
            folder: options.folder.clone(),
        });
        let mut emulator = Self::new(options);
        if let Some(options) = edge {
            let edge = Edge::new(options, Arc::downgrade(&emulator.inner)).await?;
            edge.follow(&emulator.inner, &mut *edge.hold().await).await?;
            let _ = emulator.inner.edge.set(edge); // it is not set yet
        }
        let server = Server::start(SocketAddr::from(([127, 0, 0, 1], port)), emulator.inner.clone()).await?;
        emulator.server = Some(Arc::new(server));
        Ok(emulator)
    }

    fn edge(&self) -> Result<&Edge> {
        let none =
            || Error::new(ErrorKind::Unavailable, "this emulator has no edge: it was made in process, or without one");
        self.inner.edge.get().ok_or_else(none)
    }
}

impl fmt::Debug for CloudflareEmulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudflareEmulator").field("api_url", &self.api_url()).finish_non_exhaustive()
    }
}

/// Whether a call may change an account script, a bucket, or where a URL leads.
fn may_change_edge(method: &str, path: &str) -> bool {
    let elsewhere =
        ["/workers/dispatch/", "/storage/kv/", "/workers/assets/", "/assets-upload-session", "/dns_records"];
    !matches!(method, "GET" | "HEAD") && !elsewhere.iter().any(|it| path.contains(it))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of the lock panics")
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    async fn call(&self, mut request: Request<Bytes>) -> std::result::Result<Reply, Lost> {
        let path = request.uri().path_and_query().map_or("/", |it| it.as_str()).to_owned();
        let begun = self.clock.monotonic();
        let (fault, latency) = lock(&self.faults).pick(request.method().as_str(), &path);
        let nth = self.record(&request, path, fault.clone());
        if !latency.is_zero() {
            self.clock.sleep(latency).await;
        }
        request.headers_mut().remove(faults::REFUSE_KEYS);
        if fault == Some(Fault::RefuseKeys) {
            request.headers_mut().insert(faults::REFUSE_KEYS, HeaderValue::from_static("1"));
        }
        let answer = self.answer_with(&request, fault).await;
        let status = answer.as_ref().ok().map(|it| it.status().as_u16());
        if let Some(call) = lock(&self.calls).get_mut(nth) {
            call.status = status;
            call.took = Some(self.clock.monotonic().saturating_sub(begun));
        }
        answer
    }

    async fn answer_with(&self, request: &Request<Bytes>, fault: Option<Fault>) -> std::result::Result<Reply, Lost> {
        let answer = || async { self.answer(request).await };
        match fault {
            None | Some(Fault::RefuseKeys) => Ok(answer().await),
            Some(Fault::TooMany { retry_after }) => {
                let message = "Please wait and consider throttling your request speed";
                let mut reply = Refusal::new(429, 971, message).into_reply();
                if let Some(after) = retry_after {
                    reply.headers_mut().insert("retry-after", after.as_secs().into());
                }
                Ok(reply)
            }
            Some(Fault::BareTooMany) => Ok(json_reply(429, &serde_json::Value::Null)),
            Some(Fault::Throttled) => {
                Ok(Refusal::new(200, 971, "Please wait and consider throttling your request speed").into_reply())
            }
            Some(Fault::ServerError { status, moment }) => {
                if moment == Moment::After {
                    answer().await;
                }
                Ok(match status {
                    500 => Refusal::new(500, 10_001, "internal error").into_reply(),
                    _ => reply(status, "text/html", format!("error code: {status}")),
                })
            }
            Some(Fault::CutOff(moment)) => {
                if moment == Moment::After {
                    answer().await;
                }
                Err(Lost::NoAnswer)
            }
            Some(Fault::CutBody) => {
                let mut whole = answer().await;
                let length = whole.body().len();
                whole.headers_mut().insert("content-length", length.into());
                *whole.body_mut() = whole.body().slice(..length / 2);
                Err(Lost::CutBody(whole))
            }
            Some(Fault::Hang(moment)) => {
                if moment == Moment::After {
                    answer().await;
                }
                future::pending().await
            }
        }
    }

    async fn answer(&self, request: &Request<Bytes>) -> Reply {
        let now = self.clock.now();
        let path = request.uri().path();
        if !path.starts_with("/client/v4") {
            return s3::answer(&mut self.state(), request, now);
        }
        let standing = lock(&self.quota).take(now);
        let mut answer = match standing {
            Standing::Exceeded { retry_after } => {
                let message = "Rate limited. Please wait and consider throttling your request speed";
                let mut reply = Refusal::new(429, 10_000, message).into_reply();
                let seconds = retry_after.as_millis().div_ceil(1000);
                reply.headers_mut().insert("retry-after", u64::try_from(seconds).unwrap_or(u64::MAX).into());
                reply
            }
            Standing::Within { .. } => self.answer_and_follow(request, now, path).await,
        };
        let remaining = if let Standing::Within { remaining } = standing { remaining } else { 0 };
        answer.headers_mut().insert("x-ratelimit-limit", lock(&self.quota).limit().into());
        answer.headers_mut().insert("x-ratelimit-remaining", remaining.into());
        answer
    }

    /// A change of what workerd runs with is live when the call returns, or refused.
    async fn answer_and_follow(&self, request: &Request<Bytes>, now: Timestamp, path: &str) -> Reply {
        let Some(edge) = self.edge.get().filter(|_| may_change_edge(request.method().as_str(), path)) else {
            return self.answer_api(request, now, path);
        };
        let mut running = edge.hold().await;
        let before = self.state().scripts.clone();
        let answer = self.answer_api(request, now, path);
        let Err(e) = edge.follow(self, &mut running).await else { return answer };
        {
            let mut state = self.state();
            state.scripts = before;
            state.revision += 1;
            state.routing += 1;
        }
        let log = e.context().find(|(key, _)| *key == "log").map_or_else(|| e.to_string(), |(_, it)| it.to_owned());
        if let Err(e) = edge.follow(self, &mut running).await {
            return Refusal::new(500, 10_001, format!("internal error: {e}")).into_reply();
        }
        Refusal::new(400, 10_021, format!("Script startup failed: {log}")).into_reply()
    }

    fn answer_api(&self, request: &Request<Bytes>, now: Timestamp, path: &str) -> Reply {
        let call = Call::new(request, now);
        api::answer(&mut self.state(), &call, path).unwrap_or_else(Refusal::into_reply)
    }

    fn record(&self, request: &Request<Bytes>, path: String, fault: Option<Fault>) -> usize {
        let content_type = request.headers().get("content-type").and_then(|it| it.to_str().ok());
        let mut calls = lock(&self.calls);
        calls.push(RecordedCall {
            at: self.clock.now(),
            method: request.method().to_string(),
            path,
            content_type: content_type.unwrap_or_default().to_owned(),
            body_bytes: request.body().len(),
            body: self.record_bodies.then(|| request.body().clone()),
            status: None,
            took: None,
            fault,
        });
        calls.len() - 1
    }
}
