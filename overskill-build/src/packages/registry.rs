//! The registry: what versions there are, and their tarballs.

use super::{
    integrity::Integrity,
    lock::from_json,
    manifest::Spec,
    names::base_name,
    settings::{HOW, Settings},
    tree::Node,
    trouble::{Trouble, blocking},
};
use crate::{Problem, ProblemKind};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use nodejs_semver::Version;
use overskill_core::{Clock, Error, ErrorKind, Result};
#[cfg(test)]
use overskill_http::Request;
use overskill_http::{Client, Response, Target, Transport, Url};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io::Read as _,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::Semaphore;

/// Largest list of versions, unpacked, in bytes: the longest known has 20 MB.
const MAX_LIST_BYTES: usize = 96 << 20;
/// How much of lists is kept in memory, in bytes.
const KEPT_BYTES: usize = 32 << 20;
/// How long a list in memory is believed.
const BELIEVED: Duration = Duration::from_mins(5);
const MAX_REDIRECTS: usize = 3;

/// Every registry that the host named.
#[derive(Debug)]
pub(crate) struct Registries {
    default: Option<Client>,
    scopes: BTreeMap<String, Client>,
    clock: Arc<dyn Clock>,
    plain_http: bool,
    max_tarball_bytes: usize,
    at_once: Semaphore,
    lists: Mutex<Lists>,
}

/// Lists of versions that were asked for lately.
#[derive(Debug, Default)]
struct Lists {
    by_name: HashMap<String, (Duration, Arc<VersionList>)>,
    order: VecDeque<String>,
    bytes: usize,
}

/// The versions of one package.
#[derive(Debug, Deserialize)]
pub(crate) struct VersionList {
    #[serde(rename = "dist-tags", default)]
    tags: BTreeMap<String, String>,
    /// Read only as far as needed: some packages have thousands.
    #[serde(default)]
    versions: BTreeMap<String, Box<RawValue>>,
    #[serde(skip)]
    bytes: usize,
}

/// How registries are to be called.
pub(crate) struct Calling {
    pub(crate) transport: Option<Arc<dyn Transport>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) plain_http: bool,
    pub(crate) downloads: usize,
    pub(crate) max_tarball_bytes: usize,
}

impl Registries {
    pub(crate) fn new(settings: &Settings, calling: Calling) -> Result<Self> {
        let client = |url: &Url| client(url, settings, &calling);
        Ok(Self {
            default: settings.registry.as_ref().map(client).transpose()?,
            scopes: settings.scopes.iter().map(|(s, url)| Ok((s.clone(), client(url)?))).collect::<Result<_>>()?,
            at_once: Semaphore::new(calling.downloads),
            clock: calling.clock,
            plain_http: calling.plain_http,
            max_tarball_bytes: calling.max_tarball_bytes,
            lists: Mutex::default(),
        })
    }

    /// Whether there is any registry.
    pub(crate) fn is_known(&self) -> bool {
        self.default.is_some()
    }

    /// Where a package is from, as part of what identifies a choice of versions.
    pub(crate) fn address_of(&self, name: &str) -> String {
        self.client_for(name).map_or_else(|_| String::new(), |it| it.base_url().expose().to_owned())
    }

    /// The version of a package that a spec means: the one tagged `latest` if it may be, else the newest that may be and
    /// is not deprecated.
    pub(crate) async fn pick(&self, spec: &Spec) -> Result<Node, Trouble> {
        let name = match spec {
            Spec::Range { name, .. } | Spec::Tag { name, .. } => name.as_str(),
            Spec::Elsewhere(why) => {
                let help = "only packages from the registry can be used: give a version";
                return Err(Problem::new(ProblemKind::Unsupported, (*why).to_owned()).help(help).into());
            }
        };
        let list = self.list(name).await?;
        let version = list.pick(spec).map_err(|why| {
            Trouble::from(Problem::new(ProblemKind::Package, why).help("change the version in package.json"))
        })?;
        list.node(name, &version)
    }

    /// What the registry says of one version.
    pub(crate) async fn version(&self, name: &str, version: &str) -> Result<Node, Trouble> {
        let list = self.list(name).await?;
        if !list.versions.contains_key(version) {
            let why = format!("the registry has no version {version} of it");
            return Err(Problem::new(ProblemKind::Package, why).help("run `npm install` to lock another").into());
        }
        list.node(name, version)
    }

    /// The list of a package's versions.
    pub(crate) async fn list(&self, name: &str) -> Result<Arc<VersionList>, Trouble> {
        let now = self.clock.monotonic();
        if let Some(list) = self.lists.lock().expect("nothing panics under this lock").get(name, now) {
            return Ok(list);
        }
        let client = self.client_for(name)?;
        let _permit = self.at_once.acquire().await.expect("it is never closed");
        let call = client.get(target(name)).operation("list_versions");
        let call = call.header("accept", "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8");
        let call = call.header("accept-encoding", "gzip").max_body_bytes(MAX_LIST_BYTES);
        let response = self.follow(client, client.base_url(), call.send().await).await.map_err(|e| unreachable(&e))?;
        let mut list = blocking(move || read_list(&response)).await?;
        list.versions.retain(|version, _| super::names::is_version(version));
        let list = Arc::new(list);
        self.lists.lock().expect("nothing panics under this lock").keep(name, now, &list);
        Ok(list)
    }

    /// A version's tarball, as it came.
    ///
    /// A lock's own address counts only where it is the registry's: an app must not choose what we call.
    pub(crate) async fn tarball(&self, name: &str, version: &str, resolved: Option<&str>) -> Result<Bytes, Trouble> {
        let client = self.client_for(name)?;
        let _permit = self.at_once.acquire().await.expect("it is never closed");
        let file = format!("{}-{version}.tgz", base_name(name));
        let derived = Target::from(format!("{name}/-/{file}"));
        let own = resolved.and_then(|it| own_address(client.base_url(), it));
        let get =
            |target: Target| client.get(target).operation("get_tarball").max_body_bytes(self.max_tarball_bytes).send();
        let first = get(own.map_or(derived, Target::from)).await;
        let answer = match self.follow(client, client.base_url(), first).await {
            // Some registries keep tarballs elsewhere; they say where.
            Err(e) if e.kind() == ErrorKind::NotFound => match self.stated_address(name, version).await {
                Some(url) => self.follow(client, &url, self.fetch(client, &url).await).await,
                None => Err(e),
            },
            other => other,
        };
        match answer {
            Ok(response) => Ok(response.body),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let why = format!("the registry has no version {version} of it");
                Err(Problem::new(ProblemKind::Package, why).help("choose another in package.json").into())
            }
            Err(e) => Err(unreachable(&e)),
        }
    }

    async fn stated_address(&self, name: &str, version: &str) -> Option<Url> {
        let list = self.list_without_permit(name).await?;
        let node = list.node(name, version).ok()?;
        Url::parse(node.resolved.as_deref()?).ok()
    }

    /// The list, for somebody who holds a permit already.
    async fn list_without_permit(&self, name: &str) -> Option<Arc<VersionList>> {
        let client = self.client_for(name).ok()?;
        let call = client.get(target(name)).operation("list_versions").max_body_bytes(MAX_LIST_BYTES);
        let response = call.header("accept-encoding", "gzip").send().await.ok()?;
        blocking(move || read_list(&response)).await.ok().map(Arc::new)
    }

    /// Gets an address that the registry gave.
    async fn fetch(&self, client: &Client, url: &Url) -> Result<Response> {
        if !(url.is_https() || self.plain_http || is_loopback(url)) {
            return Err(Error::new(ErrorKind::Denied, "the registry leads to plain http").with("url", url));
        }
        // Whoever publishes a package may have chosen the address: nothing on this machine is theirs to call.
        if is_loopback(url) && !is_loopback(client.base_url()) {
            return Err(Error::new(ErrorKind::Denied, "the registry leads to this machine").with("url", url));
        }
        let call = client.get(url).operation("get_tarball").max_body_bytes(self.max_tarball_bytes);
        if client.base_url().same_origin(url) { call.send().await } else { call.anonymous().send().await }
    }

    /// Goes where the registry leads.
    async fn follow(&self, client: &Client, from: &Url, mut answer: Result<Response>) -> Result<Response> {
        let mut at = from.clone();
        for _ in 0..MAX_REDIRECTS {
            let response = answer?;
            let leads = matches!(response.status, 301 | 302 | 303 | 307 | 308);
            let Some(location) = response.header("location").filter(|_| leads) else {
                return if response.status == 200 {
                    Ok(response)
                } else {
                    Err(Error::unexpected(
                        "the registry's answer makes no sense",
                        format!("status {}", response.status),
                    ))
                };
            };
            let to = at.join(location)?;
            answer = self.fetch(client, &to).await;
            at = to;
        }
        answer
    }

    fn client_for(&self, name: &str) -> Result<&Client, Trouble> {
        let scoped = name.split_once('/').and_then(|(scope, _)| self.scopes.get(scope));
        scoped.or(self.default.as_ref()).ok_or_else(|| not_set().into())
    }
}

/// The error without a registry.
pub(crate) fn not_set() -> Error {
    Error::invalid(format!("no npm registry is set: {HOW}"))
        .at("npm", "prepare")
        .public("The platform has no npm registry set, so packages cannot be loaded.")
}

impl VersionList {
    fn pick(&self, spec: &Spec) -> Result<String, String> {
        match spec {
            Spec::Tag { tag, .. } => match self.tags.get(tag).filter(|it| self.versions.contains_key(*it)) {
                Some(version) => Ok(version.clone()),
                None => Err(format!("the registry has no version of it with the tag `{tag}`")),
            },
            Spec::Range { range, .. } => {
                let latest = self.tags.get("latest").and_then(|it| Some((it, Version::parse(it).ok()?)));
                if let Some((text, latest)) = latest
                    && range.satisfies(&latest)
                    && self.versions.contains_key(text)
                {
                    return Ok(text.clone());
                }
                let fitting = self.versions.iter().filter_map(|(text, value)| {
                    let version = Version::parse(text).ok().filter(|it| range.satisfies(it))?;
                    let good = !value.get().contains("\"deprecated\":\"");
                    Some((good, version, text))
                });
                let best = fitting.max_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
                best.map(|(_, _, text)| text.clone()).ok_or_else(|| match self.tags.get("latest") {
                    Some(latest) => {
                        format!("the registry has no version of it in the range `{range}`; its latest is {latest}")
                    }
                    None => format!("the registry has no version of it in the range `{range}`"),
                })
            }
            Spec::Elsewhere(why) => Err((*why).to_owned()),
        }
    }

    fn node(&self, name: &str, version: &str) -> Result<Node, Trouble> {
        let broken =
            || Trouble::problem(ProblemKind::Package, format!("the registry's entry of version {version} is broken"));
        let text = self.versions.get(version).ok_or_else(broken)?.get();
        let entry: Map<String, Value> = serde_json::from_str(text).map_err(|_| broken())?;
        let mut node = from_json(name, version, &entry);
        let dist = |key: &str| entry.get("dist").and_then(|it| it.get(key)).and_then(Value::as_str);
        node.resolved = dist("tarball").map(str::to_owned);
        let stated = dist("integrity").and_then(Integrity::parse);
        node.integrity = stated.or_else(|| dist("shasum").and_then(Integrity::from_shasum));
        Ok(node)
    }
}

impl Lists {
    fn get(&self, name: &str, now: Duration) -> Option<Arc<VersionList>> {
        let (at, list) = self.by_name.get(name)?;
        (now.saturating_sub(*at) < BELIEVED).then(|| Arc::clone(list))
    }

    fn keep(&mut self, name: &str, now: Duration, list: &Arc<VersionList>) {
        self.bytes += list.bytes;
        match self.by_name.insert(name.to_owned(), (now, Arc::clone(list))) {
            Some((_, old)) => self.bytes -= old.bytes,
            None => self.order.push_back(name.to_owned()),
        }
        while self.bytes > KEPT_BYTES
            && let Some(oldest) = self.order.pop_front()
        {
            self.bytes -= self.by_name.remove(&oldest).map_or(0, |(_, list)| list.bytes);
        }
    }
}

fn client(url: &Url, settings: &Settings, calling: &Calling) -> Result<Client> {
    if !(url.is_https() || calling.plain_http || is_loopback(url)) {
        let why = "the npm registry's address must begin with https://, except on loopback; allow_plain_http() permits it \
                   in a private network";
        return Err(Error::invalid(why).at("npm", "build").with("url", url));
    }
    let mut builder = Client::builder("npm", url.expose())
        .credential(settings.credential_for(url))
        .clock(Arc::clone(&calling.clock))
        .try_timeout(Duration::from_mins(1))
        .deadline(Duration::from_mins(3))
        .waits(Duration::from_millis(200), Duration::from_secs(5));
    if calling.plain_http {
        builder = builder.allow_plain_http();
    }
    if let Some(transport) = &calling.transport {
        builder = builder.transport(Arc::clone(transport));
    }
    builder.build()
}

/// `@scope%2Fname`, as registries want it.
fn target(name: &str) -> Target {
    Target::from(name.replace('/', "%2F"))
}

/// A lock's address, if it is the registry's own and a tarball's.
fn own_address(base: &Url, resolved: &str) -> Option<Url> {
    let url = Url::parse(resolved).ok()?;
    let folder = format!("{}/", base.path().trim_end_matches('/'));
    let fits = base.same_origin(&url)
        && url.path().starts_with(&folder)
        && url.path().rsplit_once('.').is_some_and(|(_, extension)| extension == "tgz")
        && !url.path().to_ascii_lowercase().contains("%2e")
        && url.query().is_none();
    fits.then_some(url)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host();
    let mapped = |ip: std::net::IpAddr| ip.to_canonical().is_loopback() || ip.is_unspecified();
    host == "localhost" || host.ends_with(".localhost") || url.ip().is_some_and(mapped)
}

/// What a registry's failure means to whoever wrote the app. Operators find the rest in the log.
fn unreachable(e: &Error) -> Trouble {
    tracing::warn!(error = %e, "the npm registry did not give what was asked for");
    let problem = |message: &str, help: &str| Problem::new(ProblemKind::Package, message).help(help);
    match e.kind() {
        ErrorKind::NotFound => {
            problem("the registry has no package of this name", "check its name in package.json").into()
        }
        ErrorKind::Unauthenticated | ErrorKind::Denied => Trouble::passing(problem(
            "the registry refuses to give it",
            "ask whoever runs the platform for access to it",
        )),
        ErrorKind::LimitExceeded => Problem::new(ProblemKind::Limit, "what the registry has of it is too large")
            .help("use a smaller package")
            .into(),
        ErrorKind::RateLimited => {
            Trouble::passing(problem("the registry asks to slow down", "try again in some minutes"))
        }
        _ => Trouble::passing(problem("the registry cannot be reached", "try again when it can be")),
    }
}

fn read_list(response: &Response) -> Result<VersionList, Trouble> {
    let wrong =
        || Trouble::passing(Problem::new(ProblemKind::Package, "the registry's list of its versions cannot be read"));
    let mut unpacked = Vec::new();
    let text: &[u8] = if response.body.starts_with(&[0x1f, 0x8b]) {
        let most = MAX_LIST_BYTES as u64;
        MultiGzDecoder::new(&*response.body).take(most).read_to_end(&mut unpacked).map_err(|_| wrong())?;
        &unpacked
    } else {
        &response.body
    };
    let mut list: VersionList = serde_json::from_slice(text).map_err(|_| wrong())?;
    list.bytes = text.len();
    Ok(list)
}

/// A response that a transport of one's own gave, for tests.
#[cfg(test)]
pub(crate) fn registry_of(base: &str, answer: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Registries {
    let settings = Settings { registry: Some(Url::parse(base).unwrap()), ..Settings::default() };
    let transport = overskill_http::transport_fn(move |request: Request| {
        let response = answer(&request);
        async move { Ok(response) }
    });
    let calling = Calling {
        transport: Some(Arc::new(transport)),
        clock: Arc::new(overskill_core::SystemClock),
        plain_http: false,
        downloads: 4,
        max_tarball_bytes: 1 << 20,
    };
    Registries::new(&settings, calling).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> VersionList {
        let text = r#"{"dist-tags": {"latest": "2.1.0", "next": "3.0.0-rc.1"}, "versions": {
            "1.0.0": {}, "1.5.0": {"deprecated":"bad"}, "1.4.0": {}, "2.0.0": {}, "2.1.0": {}, "2.2.0": {}, "3.0.0-rc.1": {}}}"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn latest_is_taken_where_it_may_be_else_the_newest_that_is_not_deprecated() {
        let list = list();
        let pick = |wanted: &str| list.pick(&Spec::parse("a", wanted));
        for (wanted, got) in [
            ("*", "2.1.0"),
            ("^2", "2.1.0"),
            ("^1", "1.4.0"),
            ("1.5.0", "1.5.0"),
            ("next", "3.0.0-rc.1"),
            ("~2.2", "2.2.0"),
        ] {
            assert_eq!(pick(wanted).unwrap(), got, "{wanted}");
        }
        assert!(pick("^9").unwrap_err().contains("its latest is 2.1.0"));
        assert!(pick("nope").unwrap_err().contains("tag `nope`"));
    }

    #[tokio::test]
    async fn an_address_that_an_app_chose_is_never_called() {
        let registries = registry_of("https://npm.example/base", |request| {
            assert_eq!(request.url.host(), "npm.example");
            Response::new(200, request.url.path().to_owned())
        });
        for (resolved, path) in [
            (None, "/base/@a/b/-/b-1.0.0.tgz"),
            (Some("https://169.254.169.254/latest/b.tgz"), "/base/@a/b/-/b-1.0.0.tgz"),
            (Some("https://npm.example/admin/b.tgz"), "/base/@a/b/-/b-1.0.0.tgz"),
            (Some("https://npm.example/base/../admin/b.tgz"), "/base/@a/b/-/b-1.0.0.tgz"),
            (Some("https://npm.example/base/whoami"), "/base/@a/b/-/b-1.0.0.tgz"),
            (Some("https://npm.example/base/b.tgz?x"), "/base/@a/b/-/b-1.0.0.tgz"),
            (Some("http://npm.example/base/b.tgz"), "/base/@a/b/-/b-1.0.0.tgz"),
            (Some("https://npm.example/base/odd/b.tgz"), "/base/odd/b.tgz"),
        ] {
            let got = registries.tarball("@a/b", "1.0.0", resolved).await.unwrap();
            assert_eq!(got, path, "{resolved:?}");
        }
    }

    #[tokio::test]
    async fn a_registry_that_keeps_tarballs_elsewhere_is_followed() {
        let registries = registry_of("https://npm.example", |request| match request.url.expose() {
            "https://npm.example/a" => {
                Response::new(200, r#"{"versions": {"1.0.0": {"dist": {"tarball": "https://files.example/x"}}}}"#)
            }
            "https://files.example/x" => Response::new(302, "").with_header("location", "/y").unwrap(),
            "https://files.example/y" => Response::new(200, "the tarball"),
            _ => Response::new(404, ""),
        });
        assert_eq!(registries.tarball("a", "1.0.0", None).await.unwrap(), "the tarball");
        let Err(Trouble::Problem { problem, passing }) = registries.tarball("a", "2.0.0", None).await else {
            panic!("there is none");
        };
        assert!(problem.message.contains("no version 2.0.0") && !passing);
    }

    #[test]
    fn plain_http_is_for_loopback_unless_allowed() {
        for (url, plain_http, fine) in [
            ("http://localhost:4873", false, true),
            ("http://127.0.0.1:1", false, true),
            ("http://npm.internal", false, false),
            ("http://npm.internal", true, true),
            ("https://npm.internal", false, true),
        ] {
            let settings = Settings { registry: Some(Url::parse(url).unwrap()), ..Settings::default() };
            let transport: Arc<dyn Transport> =
                Arc::new(overskill_http::transport_fn(|_| async { Ok(Response::new(200, "")) }));
            let clock: Arc<dyn Clock> = Arc::new(overskill_core::SystemClock);
            let calling = Calling { transport: Some(transport), clock, plain_http, downloads: 1, max_tarball_bytes: 1 };
            assert_eq!(Registries::new(&settings, calling).is_ok(), fine, "{url}");
        }
    }

    #[tokio::test]
    async fn the_registry_leads_nobody_to_this_machine() {
        for to in ["http://127.0.0.1:9/x", "https://localhost/x", "http://[::ffff:127.0.0.1]/x", "https://0.0.0.0/x"] {
            let registries = registry_of("https://npm.example", move |request| {
                assert_eq!(request.url.host(), "npm.example", "{to} was called");
                Response::new(302, "").with_header("location", to).unwrap()
            });
            assert!(registries.tarball("a", "1.0.0", None).await.is_err(), "{to}");
        }
    }
}
