//! Who may ask for what: the `Host` header, the origin of a request, paths.

use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};
use overskill_core::Scope;

/// What a request is for, by its `Host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Site {
    /// The page that lists the apps.
    List,
    /// An app in an environment.
    App(Scope),
    /// A name of ours that is no app's, with the reason.
    NoApp(String),
}

/// Why a request is refused before anything looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Foreign {
    /// No `Host`, or several, or one that is no host.
    Malformed,
    /// A host that is not ours: a page reached us under a name of its own.
    Host,
}

/// Says what a request is for. Nothing but our own names at our own port is answered.
pub(super) fn site(headers: &HeaderMap, uri: &Uri, domains: &[String], port: u16) -> Result<Site, Foreign> {
    let host = host(headers)?;
    // A request line with an address in it (RFC 9112, 3.2.2) must name the same.
    if uri.authority().is_some_and(|a| !a.as_str().eq_ignore_ascii_case(host)) {
        return Err(Foreign::Malformed);
    }
    let (name, given) = split_port(host).ok_or(Foreign::Malformed)?;
    if given.unwrap_or(80) != port {
        return Err(Foreign::Host);
    }
    let name = name.to_ascii_lowercase();
    if matches!(name.as_str(), "127.0.0.1" | "[::1]") {
        return Ok(Site::List);
    }
    // Of a domain within another, the longer is meant: `dev.box.lan` is no app of `box.lan`.
    let label = |domain: &String| {
        let rest = name.strip_suffix(domain.as_str())?;
        if rest.is_empty() { Some(None) } else { rest.strip_suffix('.').map(Some) }
    };
    let ours = domains.iter().filter_map(|domain| Some((domain.len(), label(domain)?)));
    match ours.max_by_key(|(length, _)| *length) {
        None => Err(Foreign::Host),
        Some((_, None)) => Ok(Site::List),
        Some((_, Some(label))) => Ok(match Scope::from_host_label(label) {
            Ok(scope) => Site::App(scope),
            Err(e) => Site::NoApp(e.to_string()),
        }),
    }
}

fn host(headers: &HeaderMap) -> Result<&str, Foreign> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next().map(HeaderValue::to_str), hosts.next()) {
        (Some(Ok(host)), None) => Ok(host),
        _ => Err(Foreign::Malformed),
    }
}

/// Name and port; an IPv6 address stands in brackets.
fn split_port(host: &str) -> Option<(&str, Option<u16>)> {
    let name_end = if host.starts_with('[') { host.find(']')? + 1 } else { host.find(':').unwrap_or(host.len()) };
    let (name, rest) = host.split_at(name_end);
    match rest.strip_prefix(':') {
        None if rest.is_empty() => Some((name, None)),
        Some(port) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            Some((name, Some(port.parse().ok()?)))
        }
        _ => None,
    }
}

/// Whether a page of another origin asks. What no browser sent has no origin, and is the user's own.
pub(super) fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    let own = host(headers).map(|host| format!("http://{host}"));
    let mut origins = headers.get_all(header::ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (Some(origin), None) => !own.is_ok_and(|own| origin.as_bytes().eq_ignore_ascii_case(own.as_bytes())),
        (Some(_), Some(_)) => true,
        (None, _) => {
            let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
            // Apps are one another's `same-site`: that is not enough.
            site.is_some_and(|site| !matches!(site, b"same-origin" | b"none"))
        }
    }
}

/// Whether a request changes nothing.
pub(super) fn only_reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Whether whoever asks would take a page.
pub(super) fn wants_page(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|accept| accept.contains("text/html"))
}

/// A path without its leading `/`, percent-decoded once. `None` for what is no text, or holds a control character or a
/// backslash. What is decoded is never decoded again: `%252e` is a file named `%2e`.
pub(super) fn decode(path: &str) -> Option<String> {
    let path = path.strip_prefix('/')?;
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8().ok()?;
    let clean = !decoded.chars().any(|c| c.is_control() || c == '\\');
    clean.then(|| decoded.into_owned())
}

/// A query, decoded.
pub(super) fn query(uri: &Uri) -> Vec<(String, String)> {
    form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use overskill_core::Environment;

    fn asked(host: &str) -> Result<Site, Foreign> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        site(&headers, &Uri::from_static("/"), &["localhost".into(), "box.lan".into()], 4310)
    }

    fn app(environment: Environment) -> Site {
        Site::App(Scope::new("todo42".try_into().unwrap(), environment))
    }

    #[test]
    fn only_our_own_names_at_our_own_port_are_answered() {
        for host in ["localhost:4310", "127.0.0.1:4310", "[::1]:4310", "LOCALHOST:4310", "box.lan:4310"] {
            assert_eq!(asked(host), Ok(Site::List), "{host}");
        }
        assert_eq!(asked("todo42.localhost:4310"), Ok(app(Environment::Production)));
        assert_eq!(asked("preview-todo42.localhost:4310"), Ok(app(Environment::Preview)));
        assert_eq!(asked("staging-todo42.box.lan:4310"), Ok(app(Environment::Staging)));
        assert_eq!(asked("dev-todo42.localhost:4310"), Ok(app(Environment::Development)));
        for host in ["www.localhost:4310", "a.b.localhost:4310", "other-todo42.localhost:4310", ".localhost:4310"] {
            assert!(matches!(asked(host), Ok(Site::NoApp(_))), "{host}");
        }
        for host in [
            "localhost",
            "localhost:80",
            "todo42.localhost:4311",
            "evil.test:4310",
            "notlocalhost:4310",
            "todo42.localhost.evil.test:4310",
            "0.0.0.0:4310",
            "192.168.0.7:4310",
        ] {
            assert_eq!(asked(host), Err(Foreign::Host), "{host}");
        }
        for host in ["localhost:", "localhost:+4310", "localhost:4310:1", "[::1", "[::1]x:4310", "localhost:99999"] {
            assert_eq!(asked(host), Err(Foreign::Malformed), "{host}");
        }
    }

    #[test]
    fn a_domain_within_another_has_apps_of_its_own() {
        let domains = ["localhost".into(), "box.lan".into(), "dev.box.lan".into()];
        let asked = |host: &'static str| {
            let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]);
            site(&headers, &Uri::from_static("/"), &domains, 4310)
        };
        assert_eq!(asked("dev.box.lan:4310"), Ok(Site::List));
        assert_eq!(asked("todo42.dev.box.lan:4310"), Ok(app(Environment::Production)));
        assert_eq!(asked("todo42.box.lan:4310"), Ok(app(Environment::Production)));
        assert_eq!(asked("todo42.localhost.:4310"), Err(Foreign::Host), "a name with a root dot is not ours");
        assert!(!matches!(asked("x@todo42.localhost:4310"), Ok(Site::App(_))), "user info is no part of a host");
    }

    #[test]
    fn hosts_that_contradict_each_other_are_refused() {
        let mut headers = HeaderMap::new();
        headers.append(header::HOST, "localhost:4310".parse().unwrap());
        let other = Uri::from_static("http://todo42.localhost:4310/");
        assert_eq!(site(&headers, &other, &["localhost".into()], 4310), Err(Foreign::Malformed));
        headers.append(header::HOST, "todo42.localhost:4310".parse().unwrap());
        assert_eq!(site(&headers, &Uri::from_static("/"), &["localhost".into()], 4310), Err(Foreign::Malformed));
    }

    #[test]
    fn pages_of_other_origins_are_told_apart() {
        let from = |headers: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            map.insert(header::HOST, HeaderValue::from_static("todo42.localhost:4310"));
            for (name, value) in headers {
                map.append(*name, HeaderValue::from_static(value));
            }
            is_from_elsewhere(&map)
        };
        assert!(!from(&[]));
        assert!(!from(&[("origin", "http://todo42.localhost:4310")]));
        assert!(!from(&[("sec-fetch-site", "same-origin")]));
        assert!(!from(&[("sec-fetch-site", "none")]));
        for origin in [
            "null",
            "https://todo42.localhost:4310",
            "http://other.localhost:4310",
            "http://localhost:4310",
            "http://evil.test",
            "",
        ] {
            assert!(from(&[("origin", origin)]), "{origin}");
        }
        assert!(from(&[("sec-fetch-site", "same-site")]));
        assert!(from(&[("sec-fetch-site", "cross-site")]));
        // An origin that is ours says more than what a fetch calls itself; two origins say nothing.
        assert!(from(&[("origin", "http://todo42.localhost:4310"), ("origin", "http://evil.test")]));
    }

    #[test]
    fn paths_are_decoded_once() {
        assert_eq!(decode("/a%20b/%C3%BC").as_deref(), Some("a b/ü"));
        assert_eq!(decode("/%252e%252e/x").as_deref(), Some("%2e%2e/x"));
        assert_eq!(decode("/%2e%2e/x").as_deref(), Some("../x")); // and is no `FilePath`
        for bad in ["x", "", "/%00", "/a%5cb", "/%ff", "/a%0d%0ab"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
