//! The client of one provider: transport, credential, limiter, retries and judgement together.

use crate::{
    Body, ByStatus, Call, Classify, Credential, Headers, Limiter, Method, NetworkTransport, Request, Response, Target,
    Transport, Url, not_sent,
};
use async_trait::async_trait;
use overskill_core::{Clock, Error, Ids, Result, RetryPolicy, SystemClock, SystemIds};
use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

/// Calls one provider's API with one credential. Clones are cheap and share everything, the limiter above all.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use overskill_http::{Client, Credential, Request, Response, transport_fn};
/// use std::time::Duration;
///
/// # let emulator = transport_fn(|r: Request| async move { assert_eq!(r.headers.get("authorization"), Some("Bearer hunter2")); Ok(Response::new(200, "[]")) });
/// let client = Client::builder("cloudflare", "https://api.cloudflare.com/client/v4")
///     .credential(Credential::bearer("hunter2"))
///     .transport(emulator) // left out, it goes over the network
///     .build()?;
/// let zones: Vec<String> = client
///     .get("zones")
///     .query("per_page", 50)
///     .operation("list_zones")
///     .for_app("todo42")
///     .deadline(Duration::from_secs(10))
///     .send()
///     .await?
///     .json()?;
/// # assert!(zones.is_empty());
/// # Ok::<(), overskill_http::Error>(()) }).unwrap();
/// ```
///
/// # What a call does
///
/// It waits for the limiter's permit, sends, reads the whole body (or, with [`Call::stream`], none of it), and lets
/// [`Classify`] judge. What failed is tried again as [`RetryPolicy`] allows, until the deadline. `RateLimited` with a
/// `Retry-After` pauses the limiter, and with it everybody who shares the credential.
///
/// # Errors
///
/// They name backend, operation, method, URL (without query), status, tries, elapsed time and the server's request id.
/// [`effect`](Error::effect) is of the call as a whole: once one try may have landed it stays unknown, whatever later
/// tries say, unless the call is [safe](crate::Repeat::Safe): then it is none.
#[derive(Clone, Debug)]
pub struct Client(pub(crate) Arc<Settings>);

#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) backend: Arc<str>,
    pub(crate) base: Url,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) credential: Credential,
    pub(crate) headers: Headers,
    pub(crate) limiter: Option<Limiter>,
    pub(crate) retry: RetryPolicy,
    pub(crate) classify: Arc<dyn Classify>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) deadline: Duration,
    pub(crate) try_timeout: Duration,
    pub(crate) max_body_bytes: usize,
    plain_http: bool,
}

impl Client {
    /// A client of the API below `base_url`, called `backend` in errors, spans and metrics.
    pub fn builder(backend: impl Into<String>, base_url: &str) -> ClientBuilder {
        let (base, problem) = match Url::parse(base_url) {
            Ok(base) => (base, None),
            Err(e) => (Url::nowhere(), Some(e.into())),
        };
        ClientBuilder {
            settings: Settings {
                backend: backend.into().into(),
                base,
                transport: Arc::new(Unset),
                credential: Credential::none(),
                headers: Headers::new(),
                limiter: None,
                retry: RetryPolicy::new(Arc::new(SystemClock), Arc::new(SystemIds)),
                classify: Arc::new(ByStatus),
                clock: Arc::new(SystemClock),
                deadline: Duration::from_mins(2),
                try_timeout: Duration::from_secs(30),
                max_body_bytes: 16 * 1024 * 1024,
                plain_http: false,
            },
            networked: true,
            ids: Arc::new(SystemIds),
            max_tries: const { NonZeroU32::new(4).expect("4 is not 0") },
            waits: (Duration::from_millis(250), Duration::from_secs(10)),
            problem,
        }
    }

    /// Begins a GET.
    pub fn get(&self, target: impl Into<Target>) -> Call {
        self.call(Method::Get, target)
    }

    /// Begins a POST. It is tried again only when it provably did not land; see [`Call::idempotent`].
    pub fn post(&self, target: impl Into<Target>) -> Call {
        self.call(Method::Post, target)
    }

    /// Begins a PUT.
    pub fn put(&self, target: impl Into<Target>) -> Call {
        self.call(Method::Put, target)
    }

    /// Begins a PATCH. It is tried again only when it provably did not land; see [`Call::idempotent`].
    pub fn patch(&self, target: impl Into<Target>) -> Call {
        self.call(Method::Patch, target)
    }

    /// Begins a DELETE.
    pub fn delete(&self, target: impl Into<Target>) -> Call {
        self.call(Method::Delete, target)
    }

    /// Begins a call of any method.
    pub fn call(&self, method: Method, target: impl Into<Target>) -> Call {
        Call::new(self.clone(), method, &target.into())
    }

    /// The same client with another credential, and the limiter that belongs to it: for tokens that expire.
    ///
    /// # Errors
    /// `Invalid` as from [`ClientBuilder::build`].
    pub fn with_credential(&self, credential: Credential, limiter: Option<Limiter>) -> Result<Self> {
        let mut settings = (*self.0).clone();
        settings.credential = credential;
        settings.limiter = limiter;
        settings.check_credential().map_err(|e| e.at(self.backend().to_owned(), "with_credential"))?;
        Ok(Self(Arc::new(settings)))
    }

    /// The name in errors, spans and metrics.
    pub fn backend(&self) -> &str {
        &self.0.backend
    }

    /// Where the API is.
    pub fn base_url(&self) -> &Url {
        &self.0.base
    }

    /// The limiter, when there is one.
    pub fn limiter(&self) -> Option<&Limiter> {
        self.0.limiter.as_ref()
    }
}

impl Settings {
    fn check_credential(&self) -> Result<()> {
        self.credential.put_on(&mut Headers::new())?;
        let in_the_open = !self.base.is_https() && !is_this_machine(&self.base) && !self.plain_http;
        if in_the_open && !self.credential.is_none() {
            return Err(Error::invalid(
                "base URL must begin with https:// when there is a credential, except on loopback; \
                 allow_plain_http() permits it in a private network",
            )
            .with("url", &self.base));
        }
        Ok(())
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("backend", &self.backend)
            .field("base", &self.base)
            .field("transport", &self.transport)
            .field("credential", &self.credential)
            .field("limiter", &self.limiter)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

/// Settings of a [`Client`].
#[must_use = "a builder does nothing before `build`"]
#[derive(Debug)]
pub struct ClientBuilder {
    settings: Settings,
    networked: bool,
    ids: Arc<dyn Ids>,
    max_tries: NonZeroU32,
    waits: (Duration, Duration),
    problem: Option<Error>,
}

impl ClientBuilder {
    /// What carries the requests; a [`NetworkTransport`] unless set.
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.settings.transport = Arc::new(transport);
        self.networked = false;
        self
    }

    /// What the server is shown; nothing unless set. It goes to the base URL's origin and nowhere else.
    pub fn credential(mut self, credential: Credential) -> Self {
        self.settings.credential = credential;
        self
    }

    /// A header field for every call, such as `accept` or `x-github-api-version`.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Err(e) = self.settings.headers.set(name, value) {
            self.problem.get_or_insert(e);
        }
        self
    }

    /// The credential's limiter; calls are not limited unless set.
    pub fn limiter(mut self, limiter: Limiter) -> Self {
        self.settings.limiter = Some(limiter);
        self
    }

    /// How often a call is sent at most, the first time included; 4 times unless set. Once means never again.
    pub fn max_tries(mut self, tries: NonZeroU32) -> Self {
        self.max_tries = tries;
        self
    }

    /// The bounds of the waits between tries, as in [`RetryPolicy::waits`]: below 0.25 s, 0.5 s, … 10 s unless set. What
    /// the server asks for wins over them, and the deadline over both.
    pub fn waits(mut self, first: Duration, max: Duration) -> Self {
        self.waits = (first, max);
        self
    }

    /// What this provider's responses mean; their statuses decide unless set.
    pub fn classify(mut self, classify: impl Classify) -> Self {
        self.settings.classify = Arc::new(classify);
        self
    }

    /// Where time comes from; the machine's clocks unless set.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.settings.clock = Arc::new(clock);
        self
    }

    /// Where jitter comes from; the system's randomness unless set.
    pub fn ids(mut self, ids: impl Ids) -> Self {
        self.ids = Arc::new(ids);
        self
    }

    /// How long a call may take with all its waits and tries; 120 s unless set.
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.settings.deadline = limit;
        self
    }

    /// How long one try may take, body included; 30 s unless set.
    pub fn try_timeout(mut self, limit: Duration) -> Self {
        self.settings.try_timeout = limit;
        self
    }

    /// How large a response body may be; 16 MiB unless set.
    pub fn max_body_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_body_bytes = bytes;
        self
    }

    /// Lets the credential go over plain `http` to a host that is not this machine, such as one in a private network.
    pub fn allow_plain_http(mut self) -> Self {
        self.settings.plain_http = true;
        self
    }

    /// The client.
    ///
    /// # Errors
    /// `Invalid` when base URL, a header field or the credential is malformed, or when a credential would go over plain
    /// `http`.
    pub fn build(self) -> Result<Client> {
        let Self { mut settings, networked, ids, max_tries, waits: (first, max), problem } = self;
        let backend = settings.backend.to_string();
        let ready = match problem {
            Some(problem) => Err(problem),
            None => settings.check_credential(),
        };
        ready.map_err(|e| e.at(backend.clone(), "build"))?;
        // How long an asked wait may be is up to each call's deadline.
        let retry = RetryPolicy::new(Arc::clone(&settings.clock), ids).longest_asked(Duration::MAX);
        settings.retry = retry.tries(max_tries).waits(first, max);
        if networked {
            let network = NetworkTransport::new().map_err(|e| e.at(backend, "build"))?;
            settings.transport = Arc::new(network);
        }
        if !settings.headers.contains("user-agent") {
            let agent = concat!("overskill/", env!("CARGO_PKG_VERSION"));
            settings.headers.set("user-agent", agent)?;
        }
        Ok(Client(Arc::new(settings)))
    }
}

/// Stands where the transport will be until `build`.
#[derive(Debug)]
struct Unset;

#[async_trait]
impl Transport for Unset {
    async fn send(&self, _: Request) -> Result<Response<Body>> {
        Err(not_sent("this client has no transport"))
    }
}

fn is_this_machine(url: &Url) -> bool {
    let host = url.host();
    host == "localhost" || host.ends_with(".localhost") || url.ip().is_some_and(|ip| ip.is_loopback())
}
