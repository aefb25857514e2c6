//! One call to a tenant's URL, with the redirects it leads to.

use super::client::{TenantUrlClient, refuse};
use crate::{Method, Repeat, Request, Response, Url, not_sent};
use bytes::Bytes;
use overskill_core::{Effect, Error, ErrorKind, Result, Secret};
use std::{fmt, sync::Arc, time::Duration};
use tracing::{Instrument as _, field};

/// Fields that belong to the connection, not to who asks. A tenant's own could reach another virtual host, or smuggle.
const OURS: [&str; 9] =
    ["connection", "content-length", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

/// Fields that go to another origin as well.
const PLAIN: [&str; 5] = ["accept", "accept-language", "content-language", "content-type", "user-agent"];

/// A call to a tenant's URL that is being described; [`send`](TenantCall::send) makes it.
#[must_use = "a call does nothing before `send`"]
pub struct TenantCall {
    client: TenantUrlClient,
    request: Result<Request>,
    deadline: Duration,
    limits: Limits,
}

/// What a call takes of its answers.
#[derive(Clone, Copy)]
struct Limits {
    max_redirects: u32,
    max_body_bytes: usize,
    /// Whether what is too long is cut, not refused.
    cut: bool,
}

impl TenantCall {
    pub(super) fn new(client: TenantUrlClient, method: Method, url: &str) -> Self {
        let request = Url::parse(url).map_err(Error::from).and_then(|url| {
            let mut request = Request::new(method, url);
            let agent = concat!("overskill/", env!("CARGO_PKG_VERSION"));
            request.headers.set("user-agent", agent)?;
            Ok(request)
        });
        let gate = &*client.0;
        let limits = Limits { max_redirects: gate.max_redirects, max_body_bytes: gate.max_body_bytes, cut: false };
        Self { request, deadline: gate.deadline, limits, client }
    }

    /// Sets a header field. Those of the connection (`host`, `content-length`, `proxy-…`) are refused.
    pub fn header(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.change(|request| {
            let lower = name.to_ascii_lowercase();
            if OURS.contains(&lower.as_str()) || lower.starts_with("proxy-") {
                let e = Error::invalid("header must not be one of the connection: it is set for you");
                return Err(e.with("name", lower.escape_debug()));
            }
            request.headers.set(name, value)
        })
    }

    /// The same for a secret, such as a token.
    pub fn secret_header(self, name: &str, value: &Secret) -> Self {
        self.header(name, value.expose()).change(|request| request.headers.set_secret(name, value))
    }

    /// Sends this body.
    pub fn body(self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.change(|request| {
            request.body = body.into();
            request.headers.set("content-type", content_type)
        })
    }

    /// How long it may take with its redirects and the whole body.
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = limit;
        self
    }

    /// How large the response body may be.
    pub fn max_body_bytes(mut self, bytes: usize) -> Self {
        self.limits.max_body_bytes = bytes;
        self
    }

    /// Takes the first `bytes` of the response body and leaves the rest unread: a longer one is no error.
    pub fn first_body_bytes(mut self, bytes: usize) -> Self {
        self.limits = Limits { max_body_bytes: bytes, cut: true, ..self.limits };
        self
    }

    /// How many redirects are followed. With 0 a redirect is an answer like any other.
    pub fn max_redirects(mut self, redirects: u32) -> Self {
        self.limits.max_redirects = redirects;
        self
    }

    /// Makes the call. [`Response::tries`] counts the requests, redirects included.
    pub async fn send(self) -> Result<Response> {
        let request = self.request.map_err(|e| e.at("tenant", "call"))?;
        let first = request.url.clone();
        let span = tracing::info_span!("overskill.http.tenant", url = %first, status = field::Empty);
        let gate = Arc::clone(&self.client.0);
        let began = gate.clock.monotonic();
        let repeat = request.repeat;
        let mut journey = Journey { client: self.client, request, limits: self.limits, sent: 0, answered: false };
        let outcome = overskill_core::timeout(&*gate.clock, self.deadline, Box::pin(journey.travel()))
            .instrument(span.clone())
            .await;
        let elapsed = gate.clock.monotonic().saturating_sub(began);
        let status = match &outcome {
            Ok(response) => {
                span.record("status", response.status);
                crate::call::status_class(response.status)
            }
            Err(e) => e.kind().as_str(),
        };
        metrics::histogram!("overskill_http_tenant_request_seconds", "status" => status).record(elapsed.as_secs_f64());
        outcome.map_err(|e| {
            // A server that answered may have acted, whatever came of its redirect.
            let effect = match (journey.sent, journey.answered) {
                (0, _) => Effect::None,
                (_, false) => e.effect(),
                (_, true) => Effect::Unknown,
            };
            let e = e
                .effect_as(repeat.effect(effect))
                .at("tenant", "call")
                .with("url", &first)
                .with("requests", journey.sent)
                .with("elapsed", format_args!("{elapsed:.3?}"));
            if journey.request.url == first { e } else { e.with("redirected_to", &journey.request.url) }
        })
    }

    fn change(mut self, change: impl FnOnce(&mut Request) -> Result<()>) -> Self {
        if let Ok(request) = &mut self.request
            && let Err(e) = change(request)
        {
            self.request = Err(e);
        }
        self
    }
}

impl fmt::Debug for TenantCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantCall").field("request", &self.request).finish_non_exhaustive()
    }
}

struct Journey {
    client: TenantUrlClient,
    request: Request,
    limits: Limits,
    /// How many requests left.
    sent: u32,
    /// Whether any of them was answered.
    answered: bool,
}

impl Journey {
    async fn travel(&mut self) -> Result<Response> {
        let gate = Arc::clone(&self.client.0);
        let transport = gate.transport.as_ref().ok_or_else(|| not_sent("there is no transport"))?;
        loop {
            let addresses = gate.addresses(&self.request.url).await?;
            self.sent += 1;
            let mut response = transport.send_to(self.request.clone(), &addresses).await?;
            response.tries = self.sent;
            self.answered = true;
            let header_bytes = response.headers.size_bytes();
            if header_bytes > gate.max_header_bytes {
                return Err(too_much(format!(
                    "response header must be at most {} bytes, but was {header_bytes}",
                    gate.max_header_bytes
                )));
            }
            let location = match response.status {
                301 | 302 | 303 | 307 | 308 if self.limits.max_redirects > 0 => response.header("location"),
                _ => None,
            };
            let Some(location) = location else {
                let Limits { max_body_bytes, cut, .. } = self.limits;
                if !cut {
                    return response.collect(max_body_bytes).await;
                }
                let Response { status, headers, body, tries } = response;
                return Ok(Response { status, headers, body: body.collect_first(max_body_bytes).await?, tries });
            };
            if self.sent > self.limits.max_redirects {
                return Err(too_much(format!("URL must lead on at most {} times", self.limits.max_redirects)));
            }
            let next = self.request.url.join(location).map_err(|e| {
                refuse(format!("redirect refused: {e}"), "The URL redirects to something that is no URL.", "redirect")
            })?;
            self.turn_to(next, response.status)?;
        }
    }

    /// What is asked of the next URL (RFC 9110 § 15.4, as browsers do it).
    fn turn_to(&mut self, next: Url, status: u16) -> Result<()> {
        let request = &mut self.request;
        if request.url.is_https() && !next.is_https() {
            let message = format!("redirect must stay with https, but leads to {next}");
            return Err(refuse(message, "The URL redirects from https to http.", "redirect"));
        }
        if !request.url.same_origin(&next) {
            request.headers.retain(|name| PLAIN.contains(&name));
        }
        let becomes_get = match status {
            301 | 302 => request.method == Method::Post,
            303 => request.method != Method::Head,
            _ => false,
        };
        if becomes_get {
            request.method = Method::Get;
            request.repeat = Repeat::Safe;
            request.body = Bytes::new();
            for name in ["content-type", "content-language", "content-encoding"] {
                request.headers.remove(name);
            }
        }
        request.url = next;
        Ok(())
    }
}

/// What a server did too much of, after it got the request.
fn too_much(message: String) -> Error {
    Error::new(ErrorKind::LimitExceeded, message).effect_as(Effect::Unknown)
}
