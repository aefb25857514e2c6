//! What goes to a server and what comes back.

use crate::{Body, Headers, Url};
use bytes::Bytes;
use overskill_core::{Effect, Error, Result};
use serde::de::DeserializeOwned;
use std::fmt;

/// A request method (RFC 9110 § 9, PATCH: RFC 5789).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Reads.
    Get,
    /// Reads without the body.
    Head,
    /// Asks what is possible.
    Options,
    /// Anything; not to be repeated blindly.
    Post,
    /// Replaces.
    Put,
    /// Changes; not to be repeated blindly.
    Patch,
    /// Removes.
    Delete,
}

impl Method {
    /// Every method, for tables and tests.
    pub const ALL: [Self; 7] = [Self::Get, Self::Head, Self::Options, Self::Post, Self::Put, Self::Patch, Self::Delete];

    /// As it goes over the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// What the method promises (RFC 9110 §§ 9.2.1 and 9.2.2).
    pub const fn repeat(self) -> Repeat {
        match self {
            Self::Get | Self::Head | Self::Options => Repeat::Safe,
            Self::Put | Self::Delete => Repeat::Idempotent,
            Self::Post | Self::Patch => Repeat::Once,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What it means to send a request twice.
///
/// [`overskill_core::Repeat`] knows two cases, and both [`Safe`](Repeat::Safe) and [`Idempotent`](Repeat::Idempotent) are
/// its `Safe`: enough to decide whether to call again, which is why this converts into it. It is not enough here, because
/// the two fail differently (RFC 9110 §§ 9.2.1 and 9.2.2): a GET that was cut off changed nothing and its error says so,
/// while a PUT that was cut off may have landed although it may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Repeat {
    /// It changes nothing: a failure never has [`Effect::Unknown`].
    Safe,
    /// Twice is like once: it may be retried even when the first may have landed.
    Idempotent,
    /// Twice is twice: it is retried only when the first provably did not land.
    Once,
}

impl Repeat {
    /// The effect of a failed call, when the failure as such has `effect`.
    pub(crate) fn effect(self, effect: Effect) -> Effect {
        match self {
            Self::Safe => Effect::None,
            Self::Idempotent | Self::Once => effect,
        }
    }

    /// Whether to send it again after a failure with `effect`.
    pub(crate) fn again_after(self, effect: Effect) -> bool {
        effect == Effect::None || overskill_core::Repeat::from(self) == overskill_core::Repeat::Safe
    }
}

impl From<Repeat> for overskill_core::Repeat {
    fn from(repeat: Repeat) -> Self {
        match repeat {
            Repeat::Safe | Repeat::Idempotent => Self::Safe,
            Repeat::Once => Self::Unsafe,
        }
    }
}

/// A request as a [`Transport`](crate::Transport) gets it: whole, so that it can be sent again.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// The header fields. `host` and `content-length` are the transport's.
    pub headers: Headers,
    /// The body; empty means none.
    pub body: Bytes,
    /// What it means to send it twice.
    pub repeat: Repeat,
}

impl Request {
    /// A request without header fields and body, to be repeated as its method promises.
    pub fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: Headers::new(), body: Bytes::new(), repeat: method.repeat() }
    }

    /// With this body.
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The body as JSON: for transports that emulate a server.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body)
            .map_err(|e| Error::invalid("request body is not the expected JSON").caused_by(Place::of(&e)))
    }
}

/// A response: with its whole body ([`Bytes`], the default) or with a body that is still to be read ([`Body`]).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Response<B = Bytes> {
    /// The status code, 100 to 599.
    pub status: u16,
    /// The header fields.
    pub headers: Headers,
    /// The body.
    pub body: B,
    /// How often the request was sent to get this response. With more than one, an earlier try may have landed: a
    /// DELETE that answers 404 on its second try may well have removed the thing itself.
    pub tries: u32,
}

impl<B> Response<B> {
    /// With one more header field.
    pub fn with_header(mut self, name: &str, value: impl AsRef<[u8]>) -> Result<Self> {
        self.headers.add(name, value)?;
        Ok(self)
    }

    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The first value of a header field, when it is visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    fn with(status: u16, body: B) -> Self {
        Self { status, headers: Headers::new(), body, tries: 1 }
    }

    pub(crate) fn map<C>(self, body: impl FnOnce(B) -> C) -> Response<C> {
        Response { status: self.status, headers: self.headers, body: body(self.body), tries: self.tries }
    }
}

impl Response {
    /// A response without header fields.
    pub fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self::with(status, body.into())
    }

    /// A JSON response, for emulators.
    pub fn from_json(status: u16, value: &impl serde::Serialize) -> Result<Self> {
        let body =
            serde_json::to_vec(value).map_err(|e| Error::invalid("response body cannot be JSON").caused_by(e))?;
        Self::new(status, body).with_header("content-type", "application/json")
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// `Unexpected` with unknown effect: the server did something, and its answer cannot be understood. The error says
    /// where the JSON differs, and repeats nothing of it.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|e| {
            Error::unexpected("response body is not the expected JSON", Place::of(&e))
                .with("status", self.status)
                .with("bytes", self.body.len())
                .with("content_type", self.header("content-type").unwrap_or("none"))
        })
    }

    /// The body as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl From<Response> for Response<Body> {
    fn from(whole: Response) -> Self {
        whole.map(Body::from)
    }
}

impl Response<Body> {
    /// A response without header fields, whose body comes in parts.
    pub fn streaming(status: u16, body: Body) -> Self {
        Self::with(status, body)
    }

    /// Reads the body to its end, at most `max_bytes` of it.
    pub async fn collect(self, max_bytes: usize) -> Result<Response> {
        let Self { status, headers, body, tries } = self;
        let body = body.collect(max_bytes).await?;
        Ok(Response { status, headers, body, tries })
    }
}

/// Where some JSON is not as expected. serde's own error may repeat a value, which may be a secret.
#[derive(Debug)]
struct Place {
    line: usize,
    column: usize,
    what: serde_json::error::Category,
}

impl Place {
    fn of(e: &serde_json::Error) -> Self {
        Self { line: e.line(), column: e.column(), what: e.classify() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use serde_json::error::Category;
        let what = match self.what {
            Category::Io => "cannot be read",
            Category::Syntax => "is not JSON",
            Category::Data => "is JSON of another shape",
            Category::Eof => "ends too early",
        };
        write!(f, "{what} at line {} column {}", self.line, self.column)
    }
}

impl std::error::Error for Place {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_promise_what_rfc_9110_says() {
        let of =
            |repeat| Method::ALL.into_iter().filter(|m| m.repeat() == repeat).map(Method::as_str).collect::<Vec<_>>();
        assert_eq!(of(Repeat::Safe), ["GET", "HEAD", "OPTIONS"]);
        assert_eq!(of(Repeat::Idempotent), ["PUT", "DELETE"]);
        assert_eq!(of(Repeat::Once), ["POST", "PATCH"]);
    }

    #[test]
    fn what_may_have_landed_is_repeated_only_when_that_is_harmless() {
        for (repeat, after_unknown) in [(Repeat::Safe, true), (Repeat::Idempotent, true), (Repeat::Once, false)] {
            assert!(repeat.again_after(Effect::None), "{repeat:?}");
            assert_eq!(repeat.again_after(Effect::Unknown), after_unknown, "{repeat:?}");
        }
    }

    #[test]
    fn a_json_error_says_where_and_repeats_nothing() {
        let response = Response::new(200, r#"{"port": "hunter2"}"#);
        let e = response.json::<std::collections::BTreeMap<String, u16>>().unwrap_err();
        let shown = format!("{e:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("another shape at line 1"), "{shown}");
        assert_eq!(e.effect(), Effect::Unknown);
    }

    #[test]
    fn debug_of_a_request_shows_no_secret() {
        let mut request = Request::new(Method::Get, Url::parse("https://x.com/?hunter2").unwrap());
        request.headers.set("authorization", "hunter2").unwrap();
        assert!(!format!("{request:?}").contains("hunter2"));
    }
}
