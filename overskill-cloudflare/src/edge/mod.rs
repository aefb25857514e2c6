//! The way to our own Workers: one signed route, which spends none of the account's API calls.

#[cfg(feature = "previews")]
mod frame;
mod key;
mod sign;

#[cfg(feature = "previews")]
pub(crate) use frame::{CONTENT_TYPE as FRAME, Frame};
pub use key::IngestKey;

use crate::{cloudflare::carrier, routes::CloudflareRoutes};
use overskill_core::{
    BackendName, Clock, Environment, Error, ErrorKind, Ids, PublicUrl, Readiness, Result, Scope, SystemClock, SystemIds,
};
use overskill_http::{Call, Client, Method, Request, Response, Transport};
use serde::de::DeserializeOwned;
use sign::Signing;
use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

/// The dispatch Worker of a platform, as the platform's own service reaches it: at the domain that its apps are under.
///
/// Each request is signed with the ingest key: method, address, body, time and a nonce (`docs/protocols/ingest.md`). Cheap to
/// clone.
///
/// ```
/// use overskill_cloudflare::{Edge, IngestKey};
/// use overskill_core::{BackendName, KeyId, SystemIds};
///
/// let key = IngestKey::generate(KeyId::parse("2026-11")?, &SystemIds);
/// let edge = Edge::builder("https://overskill.app", key).build()?;
/// let routes = edge.routes();
/// # Ok::<(), overskill_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Edge(Arc<Inner>);

struct Inner {
    name: BackendName,
    client: Client,
    base: PublicUrl,
    key: IngestKey,
    #[cfg(feature = "previews")]
    clock: Arc<dyn Clock>,
    #[cfg(feature = "previews")]
    ids: Arc<dyn Ids>,
}

/// Longest label of a host name in bytes.
const LONGEST_LABEL: usize = 63;

/// Settings of an [`Edge`].
#[must_use = "a builder does nothing before `build`"]
#[derive(Debug)]
pub struct EdgeBuilder {
    base: String,
    key: IngestKey,
    name: BackendName,
    transport: Option<Arc<dyn Transport>>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    max_tries: NonZeroU32,
}

impl Edge {
    /// The Workers at `base`, such as `https://overskill.app`: the domain itself, without a path. `https`, except on this
    /// machine.
    pub fn builder(base: impl Into<String>, key: IngestKey) -> EdgeBuilder {
        EdgeBuilder {
            base: base.into(),
            key,
            name: BackendName::parse("cloudflare").expect("a legal name"),
            transport: None,
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            max_tries: NonZeroU32::new(4).expect("not zero"),
        }
    }

    /// The table of routes.
    pub fn routes(&self) -> CloudflareRoutes {
        CloudflareRoutes::new(self.clone())
    }

    pub(crate) fn name(&self) -> &BackendName {
        &self.0.name
    }

    #[cfg(feature = "previews")]
    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    #[cfg(feature = "previews")]
    pub(crate) fn ids(&self) -> &Arc<dyn Ids> {
        &self.0.ids
    }

    /// Where a version of an app is, whatever the route names: an address that only who has the key can make. `None` for
    /// what has none: a script that is no version, or a name that no host name has room for.
    pub(crate) fn version_address(&self, scope: &Scope, script: &str) -> Option<PublicUrl> {
        let fence = script.strip_prefix(scope.app.as_str())?.strip_prefix('-')?;
        if fence.is_empty() || !fence.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let environment = match scope.environment {
            Environment::Production => 'p',
            Environment::Staging => 's',
            Environment::Preview => 'v',
            Environment::Development => 'd',
        };
        let proof = sign::version_proof(&self.0.key, scope, script);
        let label = format!("v{proof}-{fence}-{environment}{}", scope.app);
        (label.len() <= LONGEST_LABEL).then(|| self.at(&label, "http", ""))
    }

    /// Where an app is in an environment: `https://preview-todo42.overskill.app`; as a web socket, and with a path.
    pub(crate) fn address(&self, scope: &Scope, websocket: bool, path: &str) -> PublicUrl {
        self.at(&scope.host_label(), if websocket { "ws" } else { "http" }, path)
    }

    fn at(&self, label: &str, scheme: &str, path: &str) -> PublicUrl {
        let (of_base, host) = self.0.base.as_str().split_once("://").expect("it was parsed");
        let scheme = of_base.replacen("http", scheme, 1);
        PublicUrl::parse(&format!("{scheme}://{label}.{host}{path}")).expect("a label before a host")
    }

    /// Whether the Workers answer, and take our key.
    pub(crate) async fn readiness(&self) -> Result<Readiness> {
        let ready = Readiness::ready(self.0.name.to_string());
        let asked: Result<serde_json::Value> = self.ask(Method::Get, &["check"], "check", |call| call).await;
        match asked {
            Ok(_) => Ok(ready),
            Err(e) if e.kind() == ErrorKind::Unauthenticated => {
                Ok(ready.lacks(e.message().to_owned(), "give the Workers this key as INGEST_KEYS, and set the clock"))
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {
                Ok(ready.lacks("the dispatch Worker is not installed at this domain", "install it, or set its routes"))
            }
            Err(e) => Err(e),
        }
    }

    /// Makes a call below `/.overskill/v1/` and reads its answer.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        operation: &'static str,
        with: impl FnOnce(Call) -> Call,
    ) -> Result<T> {
        let segments: Vec<&str> = [".overskill", "v1"].iter().chain(path).copied().collect();
        let call = self.0.client.call(method, &segments[..]).operation(operation);
        let answer = with(call).send().await?;
        answer.json().map_err(|e| e.at(self.0.name.to_string(), operation))
    }
}

impl EdgeBuilder {
    /// What the target and the host are called; `cloudflare` unless set.
    pub fn named(mut self, name: BackendName) -> Self {
        self.name = name;
        self
    }

    /// What carries the requests; the network unless set.
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transport = Some(Arc::new(transport));
        self
    }

    /// Where time comes from; the machine's clock unless set. Signatures tell it, and are refused if it is a minute off.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Where nonces come from; the system's randomness unless set.
    pub fn ids(mut self, ids: impl Ids) -> Self {
        self.ids = Arc::new(ids);
        self
    }

    /// How often a request is sent at most; 4 times unless set.
    pub fn max_tries(mut self, tries: NonZeroU32) -> Self {
        self.max_tries = tries;
        self
    }

    /// The way there.
    ///
    /// # Errors
    /// `Invalid` when the base is no `https` address of a host (`http` on this machine), or has a path.
    pub fn build(self) -> Result<Edge> {
        let base = PublicUrl::parse(self.base.trim_end_matches('/'))?;
        let refuse = |rule: &str| Error::invalid(format!("base URL {rule}, but was {base}")).at("cloudflare", "build");
        let (scheme, host) = base.as_str().split_once("://").expect("it was parsed");
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let here = name == "localhost" || name.ends_with(".localhost") || name == "127.0.0.1";
        if host.contains('/') {
            return Err(refuse("must be a domain alone, without a path"));
        }
        if !(scheme == "https" || scheme == "http" && here) {
            return Err(refuse("must begin with https://, or http:// on this machine"));
        }
        let signing = Signing {
            inner: carrier(self.transport)?,
            key: self.key.clone(),
            clock: self.clock.clone(),
            ids: self.ids.clone(),
        };
        let client = Client::builder(self.name.to_string(), base.as_str())
            .transport(signing)
            .classify(told)
            .clock(self.clock.clone())
            .ids(self.ids.clone())
            .max_tries(self.max_tries)
            .try_timeout(Duration::from_mins(1))
            .build()?;
        Ok(Edge(Arc::new(Inner {
            name: self.name,
            client,
            base,
            key: self.key,
            #[cfg(feature = "previews")]
            clock: self.clock,
            #[cfg(feature = "previews")]
            ids: self.ids,
        })))
    }
}

impl fmt::Debug for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edge").field("name", &self.0.name).field("base", &self.0.base).finish_non_exhaustive()
    }
}

/// Our Workers say what is wrong: it is for the operator, not for who uses an app.
fn told(_: &Request, response: &Response, by_status: Option<Error>) -> Option<Error> {
    #[derive(serde::Deserialize)]
    struct Told {
        error: String,
    }
    let error = by_status?;
    let Ok(Told { error: told }) = response.json::<Told>() else { return Some(error) };
    let told: String = told.chars().take(300).collect();
    let message = match error.kind() {
        ErrorKind::Unauthenticated => format!("the Workers refused the request: {told} (are key and clock right?)"),
        _ => format!("the Workers refused the request: {told}"),
    };
    let same = Error::new(error.kind(), message).public(error.public_message().to_owned());
    Some(same.retry_as(error.retry()).effect_as(error.effect()))
}
