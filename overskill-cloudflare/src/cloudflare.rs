//! One account, and everything that is made from it.

#[cfg(feature = "r2")]
use crate::files::{R2Files, R2Keys};
use crate::{
    Edge, IngestKey,
    api::{Api, CloudflareErrors},
    files::KvFiles,
    hostnames::Hostnames,
    install::{Install, Plan},
    target::WfpTarget,
};
use overskill_core::{
    BackendName, Clock, Digest, Environment, Error, Ids, PublicUrl, Result, Scope, Secret, SystemClock, SystemIds,
};
use overskill_http::{Client, Credential, Limiter, NetworkTransport, Quota, Transport};
use std::{num::NonZeroU32, sync::Arc, time::Duration};

/// An account of Cloudflare. Clones are cheap and share everything, the limiter above all.
#[derive(Clone, Debug)]
pub struct Cloudflare(pub(crate) Arc<Settings>);

/// What everything that is made from one account has in common.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) api: Api,
    pub(crate) name: BackendName,
    pub(crate) prefix: String,
    pub(crate) zone: Option<String>,
    pub(crate) domains: Vec<String>,
    /// Where the first of them is reached, if not at `https://` and its name.
    pub(crate) served_at: Option<String>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) asset_salt: Secret,
    pub(crate) tags: Vec<String>,
    pub(crate) compatibility_date: String,
    pub(crate) staleness: Duration,
    pub(crate) write_interval: Duration,
    #[cfg(feature = "r2")]
    pub(crate) r2_endpoint: String,
}

impl Cloudflare {
    /// Begins to describe an account, by its id and a token for it.
    ///
    /// The token needs *Workers Scripts: Edit*, *Workers KV Storage: Edit* and, for what they do, *Workers R2 Storage: Edit*,
    /// *Workers Routes: Edit*, *DNS: Edit* and *SSL and Certificates: Edit* of the zone.
    pub fn connect(account: impl Into<String>, token: impl Into<Secret>) -> CloudflareBuilder {
        CloudflareBuilder {
            account: account.into(),
            token: token.into(),
            api_base: "https://api.cloudflare.com/client/v4".into(),
            name: "cloudflare".into(),
            prefix: "overskill".into(),
            zone: None,
            domains: Vec::new(),
            served_at: None,
            transport: None,
            quota: None,
            limiter: None,
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            asset_salt: None,
            tags: Vec::new(),
            compatibility_date: crate::runtime::DATE.into(),
            staleness: Duration::from_mins(2),
            write_interval: Duration::from_secs(1),
            max_tries: const { NonZeroU32::new(4).expect("4 is not 0") },
            #[cfg(feature = "r2")]
            r2_endpoint: None,
        }
    }

    /// Where apps run: user Workers in dispatch namespaces. Tell it where the routes are ([`WfpTarget::at`]): then a version
    /// can be looked at before it has the traffic.
    pub fn target(&self) -> WfpTarget {
        WfpTarget::new(self.0.clone())
    }

    /// A replica of apps' files in Workers KV.
    pub fn files(&self) -> KvFiles {
        KvFiles::new(self.0.clone())
    }

    /// Apps' files in R2, where files may be large.
    ///
    /// # Errors
    /// `Invalid` when the endpoint is malformed.
    #[cfg(feature = "r2")]
    pub fn r2_files(&self, keys: &R2Keys) -> Result<R2Files> {
        R2Files::new(&self.0, keys)
    }

    /// The platform's own Worker, at the first of the [domains](CloudflareBuilder::domains): for routes and previews.
    ///
    /// # Errors
    /// `Invalid` when no domain was named.
    pub fn edge(&self, key: IngestKey) -> Result<Edge> {
        let settings = &self.0;
        let base = settings.base().ok_or_else(|| {
            let e = Error::invalid("domains must name at least one: give them with `CloudflareBuilder::domains`");
            settings.at(e, "edge")
        })?;
        Edge::builder(base, key)
            .named(settings.name.clone())
            .transport(settings.transport.clone())
            .clock(settings.api.clock.clone())
            .ids(settings.api.ids.clone())
            .build()
    }

    /// Customers' own domains. They are served once [`Install::customer_hostnames`] is installed.
    ///
    /// # Errors
    /// `Invalid` when no [zone](CloudflareBuilder::zone) was named.
    pub fn hostnames(&self) -> Result<Hostnames> {
        Hostnames::new(&self.0)
    }

    /// What [`install`](Self::install) would change in the account; changes nothing.
    pub async fn plan(&self, install: &Install) -> Result<Plan> {
        crate::install::plan(&self.0, install).await
    }

    /// Puts the platform's own Worker and what it needs into the account, and says what it changed. Safe to repeat: what is
    /// as it should be is left alone, and what was interrupted goes on.
    pub async fn install(&self, install: &Install) -> Result<Plan> {
        crate::install::install(&self.0, install).await
    }

    /// Takes everything out of the account whose name begins with the prefix, **apps and their data included**, and the
    /// customers' domains that [`hostnames`](Self::hostnames) made; says what that was. What is somebody else's stays: their
    /// hostnames, records and routes in the zone too. Safe to repeat: what was interrupted goes on.
    pub async fn uninstall(&self, install: &Install) -> Result<Plan> {
        crate::install::uninstall(&self.0, install).await
    }

    /// The limiter of the account's API, to be shared with whoever else calls it for the same user.
    pub fn limiter(&self) -> &Limiter {
        self.0.api.client.limiter().expect("every account has one")
    }
}

impl Settings {
    /// The name of what belongs to an environment: its dispatch namespace and its KV namespace.
    pub(crate) fn of(&self, environment: Environment) -> String {
        format!("{}-{environment}", self.prefix)
    }

    /// Where the platform's own Worker is reached, if it is known.
    fn base(&self) -> Option<String> {
        self.served_at.clone().or_else(|| Some(format!("https://{}", self.domains.first()?)))
    }

    /// Where a scope is served, if it is known.
    pub(crate) fn url(&self, scope: &Scope) -> Option<PublicUrl> {
        let base = self.base()?;
        let (scheme, domain) = base.split_once("://")?;
        PublicUrl::parse(&format!("{scheme}://{}.{domain}", scope.host_label())).ok()
    }

    /// Names the backend and the operation of an error.
    pub(crate) fn at(&self, e: Error, operation: &'static str) -> Error {
        e.at(self.name.to_string(), operation)
    }
}

/// Settings of a [`Cloudflare`].
#[must_use = "a builder does nothing before `build`"]
#[derive(Debug)]
pub struct CloudflareBuilder {
    account: String,
    token: Secret,
    api_base: String,
    name: String,
    prefix: String,
    zone: Option<String>,
    domains: Vec<String>,
    served_at: Option<String>,
    transport: Option<Arc<dyn Transport>>,
    quota: Option<Quota>,
    limiter: Option<Limiter>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    asset_salt: Option<Secret>,
    tags: Vec<String>,
    compatibility_date: String,
    staleness: Duration,
    write_interval: Duration,
    max_tries: NonZeroU32,
    #[cfg(feature = "r2")]
    r2_endpoint: Option<String>,
}

impl CloudflareBuilder {
    /// Most tags of a host's own: eight fit on a script, and five are ours.
    pub const MAX_TAGS: usize = 3;

    /// The name in errors, spans, metrics and routes; `cloudflare` unless set. Two accounts side by side have two.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// What every name in the account begins with; `overskill` unless set. Two platforms in one account have two.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The id of the zone that apps are served in: for routes and customers' domains.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// The domains that apps are served under; the first is the one in their addresses.
    pub fn domains<S: Into<String>>(mut self, domains: impl IntoIterator<Item = S>) -> Self {
        self.domains = domains.into_iter().map(Into::into).collect();
        self
    }

    /// Where the first domain is reached; `https://` and its name unless set. For an emulator on this machine, with the domain
    /// `localhost`: `http://localhost:8787`.
    pub fn served_at(mut self, base: impl Into<String>) -> Self {
        self.served_at = Some(base.into());
        self
    }

    /// Where the API is, for an emulator or a proxy.
    pub fn api_base(mut self, url: impl Into<String>) -> Self {
        self.api_base = url.into();
        self
    }

    /// What carries the requests; the network unless set.
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transport = Some(Arc::new(transport));
        self
    }

    /// How many calls the user may make; 1,200 in 5 minutes unless set, of which a tenth may burst, and 20 of those are
    /// kept for what is urgent: going back, removing an app, and what the host does [`urgently`](overskill_core::urgently).
    /// Sweeps, old versions that retire and looks at what is there wait their turn.
    pub fn quota(mut self, quota: Quota) -> Self {
        self.quota = Some(quota);
        self
    }

    /// Takes a limiter that somebody else uses too: Cloudflare counts the calls of a user over all tokens and accounts.
    pub fn limiter(mut self, limiter: Limiter) -> Self {
        self.limiter = Some(limiter);
        self
    }

    /// How often a call is sent at most, the first time included; 4 times unless set.
    pub fn max_tries(mut self, tries: NonZeroU32) -> Self {
        self.max_tries = tries;
        self
    }

    /// Where time comes from; the machine's clocks unless set.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Where randomness comes from; the system's unless set.
    pub fn ids(mut self, ids: impl Ids) -> Self {
        self.ids = Arc::new(ids);
        self
    }

    /// A secret in the names of assets, so that who knows an asset and its app still cannot tell its name. Changing it means
    /// that every asset is uploaded once more. Unless set, it is made of account, prefix and token: set one where tokens
    /// change often.
    pub fn asset_salt(mut self, salt: impl Into<Secret>) -> Self {
        self.asset_salt = Some(salt.into());
        self
    }

    /// Tags of yours on every script, at most [`MAX_TAGS`](Self::MAX_TAGS). None begins as ours do: with `app-`,
    /// `deployment-`, `digest-`, `env-` or `fence-`.
    pub fn tags<S: Into<String>>(mut self, tags: impl IntoIterator<Item = S>) -> Self {
        self.tags = tags.into_iter().map(Into::into).collect();
        self
    }

    /// The day whose behaviour of the runtime apps get: `2026-11-01` unless set. For the server sides of previews,
    /// `CloudflarePreviews::compatibility_date` (feature `previews`) says the same.
    pub fn compatibility_date(mut self, date: impl Into<String>) -> Self {
        self.compatibility_date = date.into();
        self
    }

    /// How stale a read of KV may be at most; 2 minutes unless set. Cloudflare says "60 seconds or more".
    pub fn kv_staleness(mut self, staleness: Duration) -> Self {
        self.staleness = staleness;
        self
    }

    /// The time between two writes of one key of KV; a second unless set, which is Cloudflare's limit.
    pub fn kv_write_interval(mut self, interval: Duration) -> Self {
        self.write_interval = interval;
        self
    }

    /// Where R2 speaks S3; `https://{account}.r2.cloudflarestorage.com` unless set.
    #[cfg(feature = "r2")]
    pub fn r2_endpoint(mut self, url: impl Into<String>) -> Self {
        self.r2_endpoint = Some(url.into());
        self
    }

    /// The account. Calls nothing.
    ///
    /// # Errors
    /// `Invalid` when a name is malformed, the token is, there are too many tags, or one of them looks like ours; the error
    /// names the field and its limit.
    pub fn build(self) -> Result<Cloudflare> {
        let name = BackendName::parse(&self.name)?;
        let refuse = |e: Error| e.at(self.name.clone(), "connect");
        check_word("account", &self.account, 64).map_err(refuse)?;
        check_word("prefix", &self.prefix, 32).map_err(refuse)?;
        if let Some(zone) = &self.zone {
            check_word("zone", zone, 64).map_err(refuse)?;
        }
        self.domains.iter().try_for_each(|domain| check_domain(domain)).map_err(refuse)?;
        if let Some(base) = &self.served_at {
            check_base(base, self.domains.first()).map_err(refuse)?;
        }
        crate::target::check_own_tags(&self.tags).map_err(refuse)?;
        check_date(&self.compatibility_date).map_err(refuse)?;
        let limiter = match self.limiter {
            Some(limiter) => limiter,
            None => Limiter::new(self.name.clone(), self.quota.unwrap_or_else(quota), self.clock.clone())?,
        };
        let transport = carrier(self.transport)?;
        let client = Client::builder(self.name.clone(), &self.api_base)
            .credential(Credential::bearer(self.token.clone()))
            .transport(transport.clone())
            .limiter(limiter)
            .classify(CloudflareErrors)
            .clock(self.clock.clone())
            .ids(self.ids.clone())
            .max_tries(self.max_tries)
            // Whoever waits for the quota waits for minutes; a strategy has its own limit for a whole attempt.
            .deadline(Duration::from_mins(30))
            .build()?;
        // Account, prefix and app are no secrets: what is made of them alone is a name that others can make too.
        let salt = || {
            let parts = ["overskill asset salt 1", &self.account, &self.prefix, self.token.expose()];
            Secret::new(Digest::of_parts(parts.map(str::as_bytes)).to_string())
        };
        Ok(Cloudflare(Arc::new(Settings {
            #[cfg(feature = "r2")]
            r2_endpoint: self
                .r2_endpoint
                .unwrap_or_else(|| format!("https://{}.r2.cloudflarestorage.com", self.account)),
            asset_salt: self.asset_salt.unwrap_or_else(salt),
            api: Api { client, account: self.account.into(), clock: self.clock, ids: self.ids },
            name,
            prefix: self.prefix,
            zone: self.zone,
            domains: self.domains,
            served_at: self.served_at.map(|base| base.trim_end_matches('/').to_owned()),
            transport,
            tags: self.tags,
            compatibility_date: self.compatibility_date,
            staleness: self.staleness,
            write_interval: self.write_interval,
        })))
    }
}

/// What Cloudflare grants a user.
fn quota() -> Quota {
    let calls = const { NonZeroU32::new(1_200).expect("not zero") };
    Quota::new(calls, Duration::from_mins(5)).reserve(20).max_queued(100_000)
}

fn check_word(field: &str, word: &str, max: usize) -> Result<()> {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if word.is_empty() || word.len() > max || !word.bytes().all(legal) {
        let shown: String = word.chars().take(40).collect();
        let message = format!("{field} must be 1 to {max} of a-z, 0-9 and -, but was {shown:?}");
        return Err(Error::invalid(message));
    }
    Ok(())
}

/// What carries the requests: the network, unless something else was set.
pub(crate) fn carrier(transport: Option<Arc<dyn Transport>>) -> Result<Arc<dyn Transport>> {
    Ok(match transport {
        Some(transport) => transport,
        None => Arc::new(NetworkTransport::new()?),
    })
}

fn check_domain(domain: &str) -> Result<()> {
    let label = |l: &str| {
        !l.is_empty() && l.len() <= 63 && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let is_name = domain.contains('.') || domain == "localhost";
    if domain.len() > 200 || !is_name || !domain.split('.').all(label) {
        let shown: String = domain.chars().take(60).collect();
        return Err(Error::invalid(format!("domain must be a name such as apps.example.com, but was {shown:?}")));
    }
    Ok(())
}

fn check_base(base: &str, domain: Option<&String>) -> Result<()> {
    let url = PublicUrl::parse(base.trim_end_matches('/'))?;
    let host = url.as_str().split_once("://").map_or("", |(_, host)| host);
    let name = host.split(':').next().unwrap_or_default();
    if domain.is_none_or(|domain| domain != name) || host.contains('/') {
        let message = format!("served_at must be an address of the first domain without a path, but was {url}");
        return Err(Error::invalid(message));
    }
    Ok(())
}

pub(crate) fn check_date(date: &str) -> Result<()> {
    let parts: Vec<&str> = date.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    if lengths != [4, 2, 2] || !parts.iter().all(|part| part.bytes().all(|b| b.is_ascii_digit())) {
        let shown: String = date.chars().take(20).collect();
        return Err(Error::invalid(format!("compatibility date must be like 2026-11-01, but was {shown:?}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect() -> CloudflareBuilder {
        Cloudflare::connect("0123456789abcdef", "hunter2")
    }

    #[test]
    fn what_is_malformed_is_named_before_any_call() {
        let says = |builder: CloudflareBuilder| builder.build().unwrap_err().to_string();
        assert!(says(Cloudflare::connect("../x", "t")).contains("account must be"));
        assert!(says(connect().prefix("x".repeat(33))).contains("prefix must be 1 to 32"));
        assert!(says(connect().zone("")).contains("zone must be"));
        assert!(says(connect().domains(["https://x.com"])).contains("domain must be"));
        for base in ["http://other.test:80", "http://localhost:80/x", "localhost:80"] {
            assert!(connect().domains(["localhost"]).served_at(base).build().is_err(), "{base}");
        }
        assert!(says(connect().served_at("https://x.com")).contains("served_at must be"));
        assert!(says(connect().compatibility_date("today")).contains("compatibility date"));
        assert!(says(connect().tags(["a", "b", "c", "d"])).contains("at most 3"));
        assert!(says(connect().tags(["a,b"])).contains("tag"));
        assert!(says(connect().tags(["app-todo42"])).contains("must not begin with app-"));
        assert!(says(connect().api_base("http://api.example.com")).contains("https://"));
        let bad_token = says(Cloudflare::connect("a", "hunter2\n"));
        assert!(!bad_token.contains("hunter2"), "{bad_token}");
    }

    #[test]
    fn addresses_are_at_the_first_domain_or_where_it_is_served() {
        let scope = "todo42/staging".parse().unwrap();
        let url = |builder: CloudflareBuilder| builder.build().unwrap().0.url(&scope).unwrap().to_string();
        assert_eq!(url(connect().domains(["x.com", "y.com"])), "https://staging-todo42.x.com");
        let local = connect().domains(["localhost"]).served_at("http://localhost:8787/");
        assert_eq!(url(local), "http://staging-todo42.localhost:8787");
    }

    #[test]
    fn the_salt_of_assets_is_of_account_prefix_and_token() {
        let salt = |builder: CloudflareBuilder| builder.build().unwrap().0.asset_salt.expose().to_owned();
        let one = salt(connect());
        assert_eq!(one, salt(connect()));
        for other in [
            Cloudflare::connect("0123456789abcdef", "hunter3"),
            Cloudflare::connect("0123456789abcdef", ""),
            Cloudflare::connect("fedcba9876543210", "hunter2"),
            connect().prefix("other"),
        ] {
            assert_ne!(salt(other), one);
        }
        assert_eq!(salt(connect().asset_salt("own")), "own");
    }

    #[test]
    fn nothing_of_a_secret_shows() {
        let builder = connect().asset_salt("hunter3");
        assert!(!format!("{builder:?}").contains("hunter"));
        let cf = builder.build().unwrap();
        let shown = format!("{cf:?} {:?} {:?}", cf.target(), cf.files());
        assert!(!shown.contains("hunter"), "{shown}");
    }
}
