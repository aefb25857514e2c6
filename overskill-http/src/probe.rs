//! Is a deployed app well? Asked over HTTP.

use crate::{AddressPolicy, TenantUrlClient, Url};
use async_trait::async_trait;
use overskill_core::{Error, ErrorKind, Health, HealthProbe, ParseError, ProbeRequest, Readiness, Result};
use std::{ops::RangeInclusive, time::Duration};

/// Looks at a deployed app with one GET of its address: well is what answers 2xx or 3xx in time and to the end. Redirects are
/// not followed.
///
/// It calls through a [`TenantUrlClient`], for the app and its name servers are a tenant's. Only the public internet can be
/// looked at, unless the client's [`AddressPolicy`] says otherwise; [`on_loopback`](Self::on_loopback) is for the local
/// target.
///
/// ```
/// use overskill_core::HealthGate;
/// use overskill_http::{HttpProbe, TenantUrlClient};
///
/// let probe = HttpProbe::new(TenantUrlClient::builder().build()?).path("/healthz")?.healthy([200..=200]);
/// let gate = HealthGate::new(probe);
/// # let _ = gate;
/// # Ok::<(), overskill_http::Error>(())
/// ```
///
/// # Errors
///
/// `Invalid` for an address that may not be called: it was not looked at. An app that does not answer is unhealthy, and no
/// error.
#[derive(Clone, Debug)]
pub struct HttpProbe {
    client: TenantUrlClient,
    path: Option<String>,
    healthy: Vec<RangeInclusive<u16>>,
    digest_header: Option<String>,
    deadline: Duration,
    read_bytes: usize,
}

impl HttpProbe {
    /// Looks at the address itself, for at most 10 seconds.
    pub fn new(client: TenantUrlClient) -> Self {
        Self {
            client,
            path: None,
            healthy: vec![200..=399],
            digest_header: None,
            deadline: Duration::from_secs(10),
            read_bytes: 1024 * 1024,
        }
    }

    /// One that can look at this machine alone, over plain `http` and at any port, `*.localhost` included: for the local
    /// target.
    pub fn on_loopback() -> Result<Self> {
        let policy = AddressPolicy::public().allow("127.0.0.0/8")?.allow("::1")?;
        let client = TenantUrlClient::builder().addresses(policy).allow_localhost().allow_plain_http().any_port();
        Ok(Self::new(client.build()?))
    }

    /// Looks below the address, such as at `/healthz`.
    pub fn path(mut self, path: &str) -> Result<Self, ParseError> {
        if !path.starts_with('/') {
            return Err(ParseError::new("health path", "must begin with /", path));
        }
        Url::nowhere().resolve(&path.into())?;
        self.path = Some(path.to_owned());
        Ok(self)
    }

    /// Which statuses are healthy.
    pub fn healthy(mut self, statuses: impl IntoIterator<Item = RangeInclusive<u16>>) -> Self {
        self.healthy = statuses.into_iter().collect();
        self
    }

    /// A header field in which the app, or what serves it, names the digest of its artifact. What does not name the one that
    /// is looked for is unhealthy: another version answers there.
    pub fn digest_in(mut self, header: impl Into<String>) -> Self {
        self.digest_header = Some(header.into());
        self
    }

    /// How long it may take to answer, the body included.
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = limit;
        self
    }

    /// How much of the body has to arrive, at most; 1 MiB unless set.
    pub fn read_bytes(mut self, bytes: usize) -> Self {
        self.read_bytes = bytes;
        self
    }
}

#[async_trait]
impl HealthProbe for HttpProbe {
    async fn check(&self) -> Result<Readiness> {
        let ready = Readiness::ready("http probe");
        if self.healthy.iter().all(RangeInclusive::is_empty) {
            return Ok(ready.lacks("no status is healthy", "name some with `.healthy(…)`"));
        }
        Ok(ready)
    }

    async fn probe(&self, request: &ProbeRequest) -> Result<Health> {
        let refused = |e: Error| e.at("probe", "probe").with("scope", &request.scope);
        let mut url = Url::parse(request.url.as_str()).map_err(|e| refused(e.into()))?;
        if let Some(path) = &self.path {
            url = url.resolve(&path.as_str().into()).map_err(|e| refused(e.into()))?;
        }
        let call = self.client.get(url.expose()).header("cache-control", "no-cache").header("accept", "*/*");
        let answer = call.max_redirects(0).first_body_bytes(self.read_bytes).deadline(self.deadline).send().await;
        let unhealthy = |reason| Ok(Health::Unhealthy { reason });
        let answer = match answer {
            Ok(answer) => answer,
            // Whoever opens the app would see the same.
            Err(e) if matches!(e.kind(), ErrorKind::Timeout | ErrorKind::Unavailable | ErrorKind::LimitExceeded) => {
                return unhealthy(e.message().to_owned());
            }
            Err(e) => return Err(e.with("scope", &request.scope)),
        };
        if !self.healthy.iter().any(|range| range.contains(&answer.status)) {
            return unhealthy(format!("it answered {}", answer.status));
        }
        if let (Some(name), Some(wanted)) = (&self.digest_header, request.expect) {
            match answer.header(name) {
                Some(found) if found.trim() == wanted.to_string() => {}
                Some(_) => return unhealthy(format!("another version answers: `{name}` names another digest")),
                None => return unhealthy(format!("it does not say which version it is: there is no `{name}`")),
            }
        }
        Ok(Health::Healthy)
    }
}
