//! What may be called at all: schemes, ports, names, addresses.

use super::{AddressPolicy, PinnedNetwork, PinnedTransport, Refused, Resolver, SystemResolver, TenantCall};
use crate::{Method, Url, not_sent};
use overskill_core::{Clock, Error, Result, SystemClock};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

/// How many of a name's addresses are tried.
const MAX_ADDRESSES: usize = 16;

/// Calls URLs that a tenant gave, and nothing but the public internet.
///
/// Every URL, the first and each that a redirect names, passes the same gate: `https` (or `http` where allowed), a port
/// of a short list, a name that is no machine of ours, and then **every** address the name resolves to against the
/// [`AddressPolicy`]. It is these addresses that are connected to: the name is not resolved again, so a name server that
/// changes its answer (DNS rebinding) changes nothing. Hosts like `0`, `0x7f.1` or `017700000001` are addresses in
/// disguise and are checked as such.
///
/// Redirects are followed by ourselves, a few of them: never from `https` to `http`, and to another origin without
/// credentials, signatures and all other header fields but the plainest. There are no proxies, cookies or kept
/// connections, no compression, and no retries: a delivery has its own schedule. Sizes and times are capped.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use overskill_http::{Effect, ErrorKind, TenantUrlClient};
///
/// let client = TenantUrlClient::builder().build()?;
/// for url in ["https://127.0.0.1/", "https://0/", "https://[::ffff:10.0.0.1]/", "https://metadata.google.internal/"] {
///     let refused = client.post(url).send().await.unwrap_err();
///     assert_eq!((refused.kind(), refused.effect()), (ErrorKind::Invalid, Effect::None));
/// }
/// # Ok::<(), overskill_http::Error>(()) }).unwrap();
/// ```
///
/// # Errors
///
/// `Invalid` for what is refused: the internal message names the address, the public one does not, for it would tell a
/// tenant what our name servers know. `LimitExceeded` for a response that is too large and for too many redirects,
/// `Timeout`, `Unavailable`. Once a request was sent the effect is unknown, unless its method is safe. A status of 400
/// or more is no error here: the caller judges it, with [`classify_status`](crate::classify_status) or by the rules of
/// webhooks.
#[derive(Clone, Debug)]
pub struct TenantUrlClient(pub(super) Arc<Gate>);

pub(super) struct Gate {
    policy: AddressPolicy,
    resolver: Arc<dyn Resolver>,
    pub(super) transport: Option<Arc<dyn PinnedTransport>>,
    pub(super) clock: Arc<dyn Clock>,
    /// Any, if none are named.
    ports: Option<Vec<u16>>,
    plain_http: bool,
    localhost: bool,
    pub(super) max_redirects: u32,
    pub(super) max_body_bytes: usize,
    pub(super) max_header_bytes: usize,
    pub(super) deadline: Duration,
}

impl TenantUrlClient {
    /// A client; every setting has a safe default.
    pub fn builder() -> TenantUrlClientBuilder {
        TenantUrlClientBuilder(Gate {
            policy: AddressPolicy::public(),
            resolver: Arc::new(SystemResolver),
            transport: None,
            clock: Arc::new(SystemClock),
            ports: Some(vec![443, 8443, 80, 8080]),
            plain_http: false,
            localhost: false,
            max_redirects: 3,
            max_body_bytes: 1024 * 1024,
            max_header_bytes: 32 * 1024,
            deadline: Duration::from_secs(20),
        })
    }

    /// Begins a GET.
    pub fn get(&self, url: &str) -> TenantCall {
        self.call(Method::Get, url)
    }

    /// Begins a POST.
    pub fn post(&self, url: &str) -> TenantCall {
        self.call(Method::Post, url)
    }

    /// Begins a call of any method.
    pub fn call(&self, method: Method, url: &str) -> TenantCall {
        TenantCall::new(self.clone(), method, url)
    }

    /// Where its time comes from.
    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// Whether the URL may be called right now, without calling it: for the form where a tenant enters it. It is checked
    /// again at each call.
    pub async fn check(&self, url: &str) -> Result<()> {
        let url = Url::parse(url)?;
        let addresses = self.0.addresses(&url);
        overskill_core::timeout(&*self.0.clock, self.0.deadline, addresses)
            .await
            .map(drop)
            .map_err(|e| e.effect_as(overskill_core::Effect::None).at("tenant", "check").with("url", &url))
    }
}

impl Gate {
    /// The addresses to connect to, all of them checked.
    pub(super) async fn addresses(&self, url: &Url) -> Result<Vec<SocketAddr>> {
        if !url.is_https() && !self.plain_http {
            return Err(refuse("URL must begin with https://", "The URL must begin with https://.", "scheme"));
        }
        if let Some(ports) = self.ports.as_ref().filter(|ports| !ports.contains(&url.port())) {
            let message = format!("URL port must be one of {ports:?}, but was {}", url.port());
            return Err(refuse(message, "This port may not be used in the URL.", "port"));
        }
        let found = match url.ip() {
            Some(ip) => vec![ip],
            None => self.resolve(url.host()).await?,
        };
        for ip in &found {
            self.policy.check(*ip).map_err(|why| refuse_address(url, *ip, why))?;
        }
        if found.is_empty() {
            return Err(not_sent("the name has no address"));
        }
        let with_port = |ip| SocketAddr::new(ip, url.port());
        Ok(found.into_iter().map(with_port).take(MAX_ADDRESSES).collect())
    }

    async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>> {
        let name = host.strip_suffix('.').unwrap_or(host);
        if self.localhost && (name == "localhost" || name.ends_with(".localhost")) {
            let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            return Ok(loopback.into_iter().filter(|ip| self.policy.check(*ip).is_ok()).collect());
        }
        if !is_public_name(name) {
            let message = format!("URL must name a host of the public internet, but {name} is none");
            return Err(refuse(message, PUBLIC_MESSAGE, "name"));
        }
        self.resolver.resolve(host).await
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("policy", &self.policy)
            .field("resolver", &self.resolver)
            .field("ports", &self.ports)
            .field("plain_http", &self.plain_http)
            .field("max_redirects", &self.max_redirects)
            .finish_non_exhaustive()
    }
}

/// Settings of a [`TenantUrlClient`].
#[must_use = "a builder does nothing before `build`"]
#[derive(Debug)]
pub struct TenantUrlClientBuilder(Gate);

impl TenantUrlClientBuilder {
    /// Which addresses may be connected to; public ones unless set.
    pub fn addresses(mut self, policy: AddressPolicy) -> Self {
        self.0.policy = policy;
        self
    }

    /// What resolves names; the system's resolver unless set.
    pub fn resolver(mut self, resolver: impl Resolver) -> Self {
        self.0.resolver = Arc::new(resolver);
        self
    }

    /// What connects to checked addresses; a [`PinnedNetwork`] unless set.
    pub fn transport(mut self, transport: impl PinnedTransport) -> Self {
        self.0.transport = Some(Arc::new(transport));
        self
    }

    /// Where time comes from; the machine's clocks unless set.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.0.clock = Arc::new(clock);
        self
    }

    /// Which ports may be called; 443, 8443, 80 and 8080 unless set.
    pub fn ports(mut self, ports: impl IntoIterator<Item = u16>) -> Self {
        self.0.ports = Some(ports.into_iter().collect());
        self
    }

    /// Lets every port be called: for URLs of one's own services.
    pub fn any_port(mut self) -> Self {
        self.0.ports = None;
        self
    }

    /// Takes `localhost` and names that end in `.localhost` for this machine (RFC 6761 § 6.3), without asking a resolver,
    /// which may not know them. The [policy](Self::addresses) still has to allow `127.0.0.1` or `::1`.
    pub fn allow_localhost(mut self) -> Self {
        self.0.localhost = true;
        self
    }

    /// Allows `http` too: what is sent can be read and changed on its way.
    pub fn allow_plain_http(mut self) -> Self {
        self.0.plain_http = true;
        self
    }

    /// How many redirects are followed; 3 unless set. With 0 a redirect is an answer like any other.
    pub fn max_redirects(mut self, redirects: u32) -> Self {
        self.0.max_redirects = redirects;
        self
    }

    /// How large a response body may be; 1 MiB unless set.
    pub fn max_body_bytes(mut self, bytes: usize) -> Self {
        self.0.max_body_bytes = bytes;
        self
    }

    /// How large the header of a response may be, counted with 32 bytes for each field; 32 KiB unless set.
    pub fn max_header_bytes(mut self, bytes: usize) -> Self {
        self.0.max_header_bytes = bytes;
        self
    }

    /// How long a call may take with its redirects and the whole body; 20 s unless set.
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.0.deadline = limit;
        self
    }

    /// The client.
    ///
    /// # Errors
    /// `Unexpected` when TLS cannot be set up, such as when the system has no trusted roots.
    pub fn build(mut self) -> Result<TenantUrlClient> {
        if self.0.transport.is_none() {
            let connect_timeout = Duration::from_secs(10).min(self.0.deadline);
            self.0.transport = Some(Arc::new(PinnedNetwork::new(connect_timeout)?));
        }
        Ok(TenantUrlClient(Arc::new(self.0)))
    }
}

const PUBLIC_MESSAGE: &str = "The URL must lead to the public internet.";

/// The error for what the gate does not let through. `reason` labels a metric.
pub(super) fn refuse(message: impl Into<String>, public: &'static str, reason: &'static str) -> Error {
    metrics::counter!("overskill_http_tenant_refused_total", "reason" => reason).increment(1);
    Error::invalid(message.into()).public(public)
}

fn refuse_address(url: &Url, ip: IpAddr, why: Refused) -> Error {
    let message = format!("URL must lead to public addresses, but {} leads to {ip}, {why}", url.host());
    refuse(message, PUBLIC_MESSAGE, "address")
}

/// Names that are never public: of this machine, of the network around it, of clouds' insides. What they resolve to
/// would be refused as well, mostly; a search domain or a split horizon could make it look public.
fn is_public_name(name: &str) -> bool {
    const INSIDE: [&str; 8] =
        ["localhost", "localdomain", "local", "internal", "intranet", "home.arpa", "onion", "metadata.goog"];
    let is_or_ends_in = |inside: &&str| {
        let rest = name.strip_suffix(*inside);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    name.contains('.') && !INSIDE.iter().any(is_or_ends_in)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_inside_are_known() {
        for inside in [
            "localhost",
            "a.localhost",
            "printer.local",
            "metadata.google.internal",
            "metadata.goog",
            "instance-data",
            "kubernetes.default.svc.cluster.local",
            "router.home.arpa",
            "db",
            "",
        ] {
            assert!(!is_public_name(inside), "{inside}");
        }
        for public in ["example.com", "localhost.example.com", "notlocal.dev", "mylocal.co", "xn--bcher-kva.example"] {
            assert!(is_public_name(public), "{public}");
        }
    }
}
