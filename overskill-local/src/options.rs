use overskill_core::{
    ApiUpstream, AppDirectory, AppTokens, BackendName, Clock, DiscardProgress, Error, Ids, ParseError, ProgressSink,
    PublicUrl, Result, Scope, SystemClock, SystemIds,
};
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

/// How [`LocalBackends`](crate::LocalBackends) are started. Every setting has a default.
#[derive(Clone, Debug)]
pub struct LocalOptions {
    pub(crate) port: Port,
    pub(crate) bind: IpAddr,
    pub(crate) hosts: Vec<String>,
    pub(crate) embedders: Vec<String>,
    pub(crate) drain: Duration,
    pub(crate) max_body_bytes: usize,
    pub(crate) name: BackendName,
    pub(crate) upstream: Option<Arc<dyn ApiUpstream>>,
    pub(crate) app_tokens: Option<Arc<dyn AppTokens>>,
    pub(crate) progress: Arc<dyn ProgressSink>,
    pub(crate) directory: Option<Arc<dyn AppDirectory>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn Ids>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    /// 4310, or any other if that is taken.
    Preferred,
    /// This one and no other; 0 is any.
    Exactly(u16),
}

impl LocalOptions {
    /// The port that is taken if it is free.
    pub const DEFAULT_PORT: u16 = 4310;

    /// On loopback, at port 4310 or another if that is taken.
    pub fn new() -> Self {
        Self {
            port: Port::Preferred,
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            hosts: vec!["localhost".into()],
            embedders: Vec::new(),
            drain: Duration::from_secs(10),
            max_body_bytes: 1024 * 1024,
            name: BackendName::parse("local").expect("a legal name"),
            upstream: None,
            app_tokens: None,
            progress: Arc::new(DiscardProgress),
            directory: None,
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
        }
    }

    /// Takes this port and no other; 0 takes any that is free.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Port::Exactly(port);
        self
    }

    /// Listens on another address than 127.0.0.1, for other devices. They need a name too: see
    /// [`allow_host`](Self::allow_host).
    ///
    /// **Whoever reaches the port sees every preview and uses every app's data.**
    pub fn bind(mut self, address: IpAddr) -> Self {
        self.bind = address;
        self
    }

    /// Answers under this domain too, as under `localhost`: apps at `{app}.{domain}`. Anything else in the `Host` header is
    /// refused, so that a foreign page cannot reach in under a name of its own (DNS rebinding).
    ///
    /// `Invalid` for what is no domain name in lower case.
    pub fn allow_host(mut self, domain: &str) -> Result<Self> {
        let label = |l: &str| {
            let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            !l.is_empty() && l.len() <= 63 && l.bytes().all(legal) && !l.starts_with('-') && !l.ends_with('-')
        };
        if domain.len() > 200 || !domain.split('.').all(label) {
            let rule = "must be a domain name in lower case without port, at most 200 bytes long";
            return Err(ParseError::new("allowed host", rule, domain).into());
        }
        if !self.hosts.iter().any(|known| known == domain) {
            self.hosts.push(domain.to_owned());
        }
        Ok(self)
    }

    /// Lets pages of this origin, such as `http://localhost:3000`, show previews and apps in a frame. Others may not.
    ///
    /// `Invalid` for what is no origin.
    pub fn embeddable_by(mut self, origin: &str) -> Result<Self> {
        let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        let legal = |host: &str| {
            let host = host.strip_prefix("*.").unwrap_or(host);
            !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b))
        };
        if !rest.is_some_and(legal) {
            let rule = "must be an origin such as http://localhost:3000, without a path";
            return Err(ParseError::new("embedding origin", rule, origin).into());
        }
        self.embedders.push(origin.to_owned());
        Ok(self)
    }

    /// The origins that may show previews in a frame.
    pub fn embedders(&self) -> Vec<String> {
        self.embedders.clone()
    }

    /// How long requests that are under way may still take after shutdown began; 10 seconds otherwise.
    pub fn drain(mut self, limit: Duration) -> Self {
        self.drain = limit;
        self
    }

    /// Largest body of an app's `/api/*` call in bytes; 1 MiB otherwise. Larger ones are answered with 413.
    pub fn max_body_bytes(mut self, limit: usize) -> Self {
        self.max_body_bytes = limit;
        self
    }

    /// What host and target are called; `local` otherwise.
    pub fn name(mut self, name: BackendName) -> Self {
        self.name = name;
        self
    }

    /// Where apps' `/api/*` goes; to the embedded [`EntityApi`](crate::EntityApi) otherwise.
    pub fn upstream(mut self, upstream: impl ApiUpstream) -> Self {
        self.upstream = Some(Arc::new(upstream));
        self
    }

    /// What makes the tokens that go along to the upstream; the folder's own key otherwise, which only the embedded upstream
    /// knows.
    pub fn app_tokens(mut self, tokens: impl AppTokens) -> Self {
        self.app_tokens = Some(Arc::new(tokens));
        self
    }

    /// Where it is told how far opening a preview has come.
    pub fn progress(mut self, progress: impl ProgressSink) -> Self {
        self.progress = Arc::new(progress);
        self
    }

    /// Where the page that lists the apps finds their names.
    pub fn directory(mut self, directory: impl AppDirectory) -> Self {
        self.directory = Some(Arc::new(directory));
        self
    }

    /// Where time comes from.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Where randomness comes from.
    pub fn ids(mut self, ids: impl Ids) -> Self {
        self.ids = Arc::new(ids);
        self
    }

    /// Refuses what would answer nobody.
    pub(crate) fn admit(&self) -> Result<()> {
        if !self.bind.is_loopback() && self.hosts.len() == 1 {
            return Err(Error::invalid(format!(
                "a server for other devices (bound to {}) needs a name they call it by: add `allow_host(\"…\")`",
                self.bind
            )));
        }
        Ok(())
    }
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Where things are served.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    /// The domain that addresses are made of: the last that was allowed, as it is the one that all devices know.
    domain: Arc<str>,
    port: u16,
}

impl Addresses {
    pub(crate) fn new(options: &LocalOptions, port: u16) -> Self {
        let domain = options.hosts.last().map_or("localhost", String::as_str);
        Self { domain: domain.into(), port }
    }

    /// The page that lists the apps.
    pub(crate) fn root(&self) -> PublicUrl {
        self.url("http", "", "")
    }

    /// Where a scope is served.
    pub(crate) fn of(&self, scope: &Scope) -> PublicUrl {
        self.url("http", &format!("{}.", scope.host_label()), "")
    }

    /// Where a preview's updates come from.
    pub(crate) fn socket(&self, scope: &Scope, path: &str) -> PublicUrl {
        self.url("ws", &format!("{}.", scope.host_label()), path)
    }

    fn url(&self, scheme: &str, label: &str, path: &str) -> PublicUrl {
        let Self { domain, port } = self;
        PublicUrl::parse(&format!("{scheme}://{label}{domain}:{port}{path}")).expect("made of legal names")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_devices_need_a_name() {
        let open = LocalOptions::new().bind(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let e = open.admit().unwrap_err();
        assert!(e.public_message().contains("allow_host"), "{e}");
        open.allow_host("box.lan").unwrap().admit().unwrap();
    }

    #[test]
    fn names_and_origins_are_checked() {
        for bad in ["", "a b", "UPPER", "x:80", "-a", "a..b", "a/b", "*.lan"] {
            assert!(LocalOptions::new().allow_host(bad).is_err(), "{bad}");
        }
        for bad in ["", "localhost:3000", "http://", "http://a/b", "http://a; script-src *", "ws://a", "http://a,b"] {
            assert!(LocalOptions::new().embeddable_by(bad).is_err(), "{bad}");
        }
        LocalOptions::new().embeddable_by("http://localhost:3000").unwrap();
    }
}
