//! URLs that are safe to log, and request targets that cannot leave the path they were meant for.

use overskill_core::ParseError;
use std::{fmt, net::IpAddr, str::FromStr};

/// An absolute `http` or `https` URL, in its canonical form (WHATWG URL: `0x7f.1` has become `127.0.0.1`).
///
/// `Display` and `Debug` leave out the query, which often holds tokens; [`expose`](Url::expose) has it. User names and
/// passwords are refused when parsing, fragments are dropped.
///
/// ```
/// let url = overskill_http::Url::parse("https://api.example.com/v4/zones?token=hunter2")?;
/// assert_eq!(url.to_string(), "https://api.example.com/v4/zones?…");
/// assert_eq!(url.expose(), "https://api.example.com/v4/zones?token=hunter2");
/// assert!(overskill_http::Url::parse("https://me:hunter2@example.com").is_err());
/// # Ok::<(), overskill_http::ParseError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Url(reqwest::Url);

impl Url {
    /// Longest URL in bytes. RFC 9110 § 4.1 asks for 8,000 to be supported; longer ones fail at most servers.
    pub const MAX_BYTES: usize = 8_192;

    /// Parses an absolute URL.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let refuse = |rule| ParseError::secret("URL", rule, text);
        if text.len() > Self::MAX_BYTES {
            return Err(refuse("must be at most 8,192 bytes"));
        }
        let url = reqwest::Url::parse(text).map_err(|_| refuse("must be absolute, such as https://host/path"))?;
        Self::check(url).map_err(refuse)
    }

    /// `reference` as it is meant in a `Location` header of a response from this URL (RFC 9110 § 10.2.2).
    pub fn join(&self, reference: &str) -> Result<Self, ParseError> {
        let refuse = |rule| ParseError::secret("URL reference", rule, reference);
        if reference.len() > Self::MAX_BYTES {
            return Err(refuse("must be at most 8,192 bytes"));
        }
        let url = self.0.join(reference).map_err(|_| refuse("must be a URL or a path"))?;
        Self::check(url).map_err(refuse)
    }

    /// The whole URL, with its query. Not for logs.
    pub fn expose(&self) -> &str {
        self.0.as_str()
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &str {
        self.0.scheme()
    }

    /// Whether the scheme is `https`.
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// The host as it goes into the `Host` header: a name in lower case, or an address (IPv6 in brackets).
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// The address, when the host is one.
    pub fn ip(&self) -> Option<IpAddr> {
        let host = self.host();
        host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host).parse().ok()
    }

    /// The port, given or usual for the scheme.
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or_default()
    }

    /// The path, percent-encoded, from its first `/` on.
    pub fn path(&self) -> &str {
        self.0.path()
    }

    /// The query without its `?`. Not for logs.
    pub fn query(&self) -> Option<&str> {
        self.0.query()
    }

    /// The query's pairs, decoded. Not for logs.
    pub fn query_pairs(&self) -> impl Iterator<Item = (String, String)> {
        self.0.query_pairs().map(|(k, v)| (k.into_owned(), v.into_owned()))
    }

    /// Adds a pair to the query, encoded.
    pub fn with_query(mut self, name: &str, value: &str) -> Self {
        self.0.query_pairs_mut().append_pair(name, value);
        self
    }

    /// Whether scheme, host and port are the same (RFC 6454): what may see the same credentials.
    pub fn same_origin(&self, other: &Self) -> bool {
        (self.scheme(), self.host(), self.port()) == (other.scheme(), other.host(), other.port())
    }

    /// The URL of `target`, which cannot leave this URL's path.
    pub(crate) fn resolve(&self, target: &Target) -> Result<Self, ParseError> {
        match &target.0 {
            Kind::Absolute(url) => Ok(url.clone()),
            Kind::Relative(text) => self.below(text),
            Kind::Segments(segments) => self.push(segments),
            Kind::Refused(why) => Err(why.clone()),
        }
    }

    fn below(&self, text: &str) -> Result<Self, ParseError> {
        // The text is not repeated by an error: its query may hold a token.
        let refuse = |rule| Err(ParseError::secret("request path", rule, text));
        let path = text.strip_prefix('/').unwrap_or(text);
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path, None),
        };
        // Parsers drop tabs and line ends, take a backslash for a slash, and # ends the path.
        if path.starts_with('/') || path.contains(|c: char| c.is_control() || "\\#".contains(c)) {
            return refuse("may not begin with // nor hold \\, # or control characters");
        }
        if path.split('/').any(is_dots) {
            return refuse("may hold no . or .. segment; give what you did not write as segments: [\"kv\", key]");
        }
        self.with_path(path, query).map_err(|rule| ParseError::secret("request path", rule, text))
    }

    fn push(&self, segments: &[String]) -> Result<Self, ParseError> {
        let mut path = String::new();
        for segment in segments {
            if matches!(segment.as_str(), "" | "." | "..") {
                let rule = "must not be empty, . or ..";
                return Err(ParseError::new("request path segment", rule, segment));
            }
            if !path.is_empty() {
                path.push('/');
            }
            encode_segment(segment, &mut path);
        }
        self.with_path(&path, None).map_err(|rule| ParseError::new("request path", rule, &path))
    }

    fn with_path(&self, path: &str, query: Option<&str>) -> Result<Self, &'static str> {
        let mut url = self.0.clone();
        url.set_query(query);
        if !path.is_empty() {
            let base = self.0.path().trim_end_matches('/');
            url.set_path(&format!("{base}/{path}"));
        }
        Self::check(url)
    }

    fn check(mut url: reqwest::Url) -> Result<Self, &'static str> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err("must begin with https:// or http://");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must hold no user name or password: give them as a credential");
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err("must name a host");
        }
        if url.as_str().len() > Self::MAX_BYTES {
            return Err("must be at most 8,192 bytes once encoded");
        }
        url.set_fragment(None);
        Ok(Self(url))
    }

    /// What a builder holds whose URL was refused.
    pub(crate) fn nowhere() -> Self {
        Self::parse("https://invalid./").expect("the URL is well-formed")
    }

    pub(crate) fn inner(&self) -> &reqwest::Url {
        &self.0
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.0.as_str();
        f.write_str(whole.split_once('?').map_or(whole, |(shown, _)| shown))?;
        if self.0.query().is_some() {
            f.write_str("?…")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

impl FromStr for Url {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

/// What a call is made to, seen from the client's base URL.
///
/// - `"zones?per_page=50"`: below the base URL's path. `.` and `..` segments, `//` at the start and backslashes are
///   refused, so that it cannot leave that path.
/// - `["kv", key]`: segments below the base URL's path, each percent-encoded. For anything the caller did not write.
/// - a [`Url`]: as it is. The client's credential is refused to another origin.
#[derive(Clone)]
pub struct Target(Kind);

#[derive(Clone)]
enum Kind {
    Absolute(Url),
    Relative(String),
    Segments(Vec<String>),
    Refused(ParseError),
}

impl From<Url> for Target {
    fn from(url: Url) -> Self {
        Self(Kind::Absolute(url))
    }
}

impl From<&Url> for Target {
    fn from(url: &Url) -> Self {
        Self(Kind::Absolute(url.clone()))
    }
}

impl From<&str> for Target {
    fn from(text: &str) -> Self {
        let absolute = ["https://", "http://"]
            .iter()
            .any(|scheme| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
        Self(match Url::parse(text) {
            _ if !absolute => Kind::Relative(text.to_owned()),
            Ok(url) => Kind::Absolute(url),
            Err(why) => Kind::Refused(why),
        })
    }
}

impl From<String> for Target {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<&String> for Target {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl<S: AsRef<str>, const N: usize> From<[S; N]> for Target {
    fn from(segments: [S; N]) -> Self {
        Self::from(&segments[..])
    }
}

impl<S: AsRef<str>> From<&[S]> for Target {
    fn from(segments: &[S]) -> Self {
        let owned = segments.iter().map(|s| s.as_ref().to_owned());
        Self(Kind::Segments(owned.collect()))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Absolute(url) => write!(f, "Target({url})"),
            Kind::Relative(text) => {
                let path = text.split('?').next().unwrap_or_default();
                write!(f, "Target({path})")
            }
            Kind::Segments(segments) => write!(f, "Target({segments:?})"),
            Kind::Refused(why) => write!(f, "Target(refused: {why})"),
        }
    }
}

/// Pairs as `application/x-www-form-urlencoded`.
pub(crate) fn encode_form<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut url = Url::nowhere().0;
    url.query_pairs_mut().clear().extend_pairs(pairs);
    url.query().unwrap_or_default().to_owned()
}

/// Whether a parser would take the segment for `.` or `..`.
fn is_dots(segment: &str) -> bool {
    let plain = segment.to_ascii_lowercase().replace("%2e", ".");
    plain == "." || plain == ".."
}

/// Percent-encodes all but RFC 3986's unreserved characters. Ours, because the parser behind `Url` drops tabs and line
/// ends from a segment instead of encoding them.
fn encode_segment(segment: &str, into: &mut String) {
    use fmt::Write as _;
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            let _ = write!(into, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn neither_display_nor_debug_nor_errors_show_a_query_or_a_password() {
        let secret = url("https://api.example.com/a?token=hunter2#hunter2");
        assert_eq!(secret.to_string(), "https://api.example.com/a?…");
        assert_eq!(format!("{secret:?}"), "Url(https://api.example.com/a?…)");
        for bad in ["https://me:hunter2@x.com", "ftp://x/?hunter2", "hunter2", "https:// hunter2"] {
            let e = Url::parse(bad).unwrap_err().to_string();
            assert!(!e.contains("hunter2"), "{e}");
        }
        let target = format!("{:?}", Target::from("zones?token=hunter2"));
        assert_eq!(target, "Target(zones)");
    }

    #[test]
    fn hosts_are_canonical() {
        for (given, host) in [
            ("http://0", "0.0.0.0"),
            ("http://0x7f.1", "127.0.0.1"),
            ("http://017700000001", "127.0.0.1"),
            ("http://2130706433", "127.0.0.1"),
            ("http://[::FFFF:127.0.0.1]", "[::ffff:7f00:1]"),
            ("http://１２７.0.0.1", "127.0.0.1"),
        ] {
            assert_eq!(url(given).host(), host, "{given}");
            assert!(url(given).ip().is_some(), "{given}");
        }
        assert_eq!(url("https://EXAMPLE.com").port(), 443);
        assert_eq!(url("https://example.com.").ip(), None);
    }

    #[test]
    fn targets_are_resolved_below_the_base() {
        let base = url("https://api.example.com/client/v4");
        let resolved = |t: Target| base.resolve(&t).map(|u| u.expose().to_owned());
        for (target, want) in [
            (Target::from("zones?a=b"), "/client/v4/zones?a=b"),
            (Target::from("/zones/"), "/client/v4/zones/"),
            (Target::from(""), "/client/v4"),
            (Target::from("?a=b"), "/client/v4?a=b"),
            (Target::from(["kv", "a/../b?c#d%2e\n"]), "/client/v4/kv/a%2F..%2Fb%3Fc%23d%252e%0A"),
        ] {
            let shown = format!("{target:?}");
            assert_eq!(resolved(target).unwrap(), format!("https://api.example.com{want}"), "{shown}");
        }
    }

    #[test]
    fn targets_cannot_leave_the_base() {
        let base = url("https://api.example.com/client/v4");
        for bad in [
            "../user",
            "a/../../user",
            "a/%2E%2e/b",
            "a/.%2e",
            "//evil.com",
            "a\\..\\b",
            ".\t./b",
            "a#b",
            "https://me:pw@evil.com",
        ] {
            assert!(base.resolve(&Target::from(bad)).is_err(), "{bad:?}");
        }
        for bad in ["", ".", ".."] {
            assert!(base.resolve(&Target::from(["kv", bad])).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_target_but_an_absolute_one_leaves_the_base(text in ".*", scheme in "[a-z]{0,5}:?/?/?") {
            let base = url("https://api.example.com/client/v4/");
            let text = format!("{scheme}{text}");
            for target in [Target::from(&text), Target::from([&text]), Target::from(["a", &text])] {
                if matches!(target.0, Kind::Absolute(_)) {
                    continue;
                }
                if let Ok(url) = base.resolve(&target) {
                    prop_assert!(base.same_origin(&url));
                    prop_assert!(url.path().starts_with("/client/v4/"), "{}", url.expose());
                }
            }
        }
    }
}
