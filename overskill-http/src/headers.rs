//! Header fields, of which `Debug` shows only those that are known to be harmless.

use overskill_core::{Error, Result, Secret};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use std::fmt;

/// The fields whose values may be logged. Everything else may be a credential, a signature or a tenant's data.
const SHOWN: [&str; 31] = [
    "accept",
    "accept-encoding",
    "allow",
    "cache-control",
    "cf-ray",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "etag",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "last-modified",
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
    "server",
    "transfer-encoding",
    "user-agent",
    "vary",
    "webhook-id",
    "webhook-timestamp",
    "x-github-request-id",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-ratelimit-resource",
    "x-request-id",
];

/// Header fields in order; names are case-insensitive, and one may occur more than once (RFC 9110 § 5).
///
/// `Debug` shows the values of a short list of harmless fields; all others print as `…`.
///
/// ```
/// let mut headers = overskill_http::Headers::new();
/// headers.set("Authorization", "Bearer hunter2")?;
/// headers.set("Content-Type", "application/json")?;
/// assert_eq!(format!("{headers:?}"), r#"{"authorization": "…", "content-type": "application/json"}"#);
/// # Ok::<(), overskill_http::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(HeaderMap);

impl Headers {
    /// No fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// The first value of that name, when it is visible ASCII.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.to_str().ok()
    }

    /// All values of that name that are visible ASCII.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.get_all(name).into_iter().filter_map(|v| v.to_str().ok())
    }

    /// Whether there is a field of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Sets a field, in place of all of that name.
    ///
    /// # Errors
    /// `Invalid` when the name is no token or the value holds a line end or another control character.
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<()> {
        let (name, value) = parse(name, value.as_ref())?;
        self.put(name, value)
    }

    /// The same for a secret.
    pub fn set_secret(&mut self, name: &str, value: &Secret) -> Result<()> {
        let (name, mut value) = parse(name, value.expose().as_bytes())?;
        value.set_sensitive(true); // keeps it out of HTTP/2's header compression table
        self.put(name, value)
    }

    /// Adds a field beside those of the same name.
    pub fn add(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<()> {
        let (name, value) = parse(name, value.as_ref())?;
        self.0.try_append(name, value).map(drop).map_err(|_| too_many())
    }

    /// Removes all fields of that name.
    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Keeps the fields whose (lower-case) name is wanted.
    pub fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        let gone: Vec<HeaderName> = self.0.keys().filter(|name| !wanted(name.as_str())).cloned().collect();
        for name in gone {
            self.0.remove(name);
        }
    }

    /// Names (in lower case) and raw values. Not for logs.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_bytes()))
    }

    /// Names and what may be logged of the values: what `Debug` shows.
    pub fn redacted(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| {
            let shown = SHOWN.contains(&name.as_str()) && !value.is_sensitive();
            let text = shown.then(|| value.to_str().ok()).flatten();
            (name.as_str(), text.unwrap_or("…"))
        })
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their size as HTTP/2 counts it: names, values, and 32 bytes for each (RFC 9113 § 6.5.2).
    pub fn size_bytes(&self) -> usize {
        self.iter().map(|(n, v)| n.len() + v.len() + 32).sum()
    }

    fn put(&mut self, name: HeaderName, value: HeaderValue) -> Result<()> {
        self.0.try_insert(name, value).map(drop).map_err(|_| too_many())
    }

    pub(crate) fn into_map(self) -> HeaderMap {
        self.0
    }

    pub(crate) fn from_map(map: HeaderMap) -> Self {
        Self(map)
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.redacted()).finish()
    }
}

fn too_many() -> Error {
    Error::invalid("headers must be fewer than 24,576 fields")
}

fn parse(name: &str, value: &[u8]) -> Result<(HeaderName, HeaderValue)> {
    let parsed = HeaderName::try_from(name).map_err(|_| {
        Error::invalid("header name must be a token of RFC 9110 § 5.6.2: letters, digits and - mostly")
            .with("name", name.escape_debug())
    })?;
    let value = HeaderValue::try_from(value).map_err(|_| {
        Error::invalid("header value must hold no line end or other control character")
            .with("name", parsed.as_str())
            .with("bytes", value.len())
    })?;
    Ok((parsed, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_only_harmless_values() {
        let mut h = Headers::new();
        for name in ["authorization", "cookie", "X-Api-Key", "webhook-signature", "location"] {
            h.set(name, "hunter2").unwrap();
        }
        h.set("content-type", "text/plain").unwrap();
        h.set_secret("etag", &"hunter2".into()).unwrap();
        let shown = format!("{h:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("text/plain"), "{shown}");
    }

    #[test]
    fn bad_fields_are_refused_without_showing_the_value() {
        let mut h = Headers::new();
        let e = h.set("x", "hunter2\r\nhost: evil").unwrap_err();
        assert!(!format!("{e:?}").contains("hunter2"), "{e:?}");
        assert!(h.set("a b", "c").is_err());
        assert!(h.set("", "c").is_err());
        assert!(h.is_empty());
    }

    #[test]
    fn names_are_case_insensitive_and_may_repeat() {
        let mut h = Headers::new();
        h.add("Set-Cookie", "a").unwrap();
        h.add("set-cookie", "b").unwrap();
        assert_eq!(h.get_all("SET-COOKIE").collect::<Vec<_>>(), ["a", "b"]);
        h.retain(|name| name != "set-cookie");
        assert!(h.is_empty());
    }

    #[test]
    fn the_list_of_shown_names_is_sorted_and_in_lower_case() {
        assert!(SHOWN.is_sorted());
        assert!(SHOWN.iter().all(|n| !n.contains(char::is_uppercase)));
    }
}
