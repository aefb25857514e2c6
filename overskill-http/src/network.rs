//! The transport over the network. The only module that sends through reqwest.

use crate::{Body, Headers, Method, Request, Response, Transport, cut_off, not_sent};
use async_trait::async_trait;
use futures::TryStreamExt as _;
use overskill_core::{Error, ErrorKind, Result};
use std::{fmt, time::Duration};

/// Sends over the network: HTTP/1.1 and HTTP/2, TLS by rustls with the system's trusted roots.
///
/// It keeps connections alive for 90 s, gives a connection 10 s to come about, follows no redirect, keeps no cookies,
/// asks for no compression (a small compressed body can be a large one), and ignores proxies that the environment
/// names. Clones share the connections. Needs a tokio runtime.
#[derive(Clone)]
pub struct NetworkTransport {
    client: reqwest::Client,
}

impl NetworkTransport {
    /// With the usual settings.
    ///
    /// # Errors
    /// `Unexpected` when TLS cannot be set up, such as when the system has no trusted roots.
    pub fn new() -> Result<Self> {
        Self::builder().build()
    }

    /// To change the settings.
    pub fn builder() -> NetworkTransportBuilder {
        NetworkTransportBuilder {
            connect_timeout: Duration::from_secs(10),
            environment_proxies: false,
            extra_roots_pem: Vec::new(),
        }
    }
}

impl fmt::Debug for NetworkTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NetworkTransport")
    }
}

#[async_trait]
impl Transport for NetworkTransport {
    async fn send(&self, request: Request) -> Result<Response<Body>> {
        execute(&self.client, request).await
    }
}

/// Settings of a [`NetworkTransport`].
#[derive(Clone, Debug)]
pub struct NetworkTransportBuilder {
    connect_timeout: Duration,
    environment_proxies: bool,
    extra_roots_pem: Vec<Vec<u8>>,
}

impl NetworkTransportBuilder {
    /// How long a connection may take to come about, TLS included. 10 s unless set. This one runs on the machine's
    /// clock: only the connector knows when it has connected. Calls as a whole end by their `Clock`.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// Goes through the proxies that `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` name.
    pub fn environment_proxies(mut self) -> Self {
        self.environment_proxies = true;
        self
    }

    /// Trusts the certificates of a PEM file besides the system's, such as those of a private authority.
    pub fn trust_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.extra_roots_pem.push(pem.into());
        self
    }

    /// The transport.
    pub fn build(self) -> Result<NetworkTransport> {
        let mut builder = hardened(self.connect_timeout);
        if !self.environment_proxies {
            builder = builder.no_proxy();
        }
        for pem in &self.extra_roots_pem {
            let roots = reqwest::Certificate::from_pem_bundle(pem).map_err(not_pem)?;
            builder = builder.tls_certs_merge(roots);
        }
        let client = if self.extra_roots_pem.is_empty() {
            finish(builder)?
        } else {
            builder.build().map_err(not_pem)? // they are decoded no earlier
        };
        Ok(NetworkTransport { client })
    }
}

fn not_pem(e: reqwest::Error) -> Error {
    Error::invalid("trusted certificates must be a PEM file of X.509 certificates").caused_by(e)
}

/// What every client of this crate has in common.
pub(crate) fn hardened(connect_timeout: Duration) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(connect_timeout)
        .http1_max_headers(256)
        .http2_max_header_list_size(64 * 1024)
}

pub(crate) fn finish(builder: reqwest::ClientBuilder) -> Result<reqwest::Client> {
    builder.build().map_err(|e| Error::unexpected("TLS could not be set up", e).effect_as(overskill_core::Effect::None))
}

pub(crate) async fn execute(client: &reqwest::Client, request: Request) -> Result<Response<Body>> {
    let Request { method, url, headers, body, .. } = request;
    let mut outgoing = reqwest::Request::new(wire_method(method), url.inner().clone());
    *outgoing.headers_mut() = headers.into_map();
    if !body.is_empty() {
        *outgoing.body_mut() = Some(body.into());
    } else if matches!(method, Method::Post | Method::Put | Method::Patch) {
        // Some servers answer 411 without it (RFC 9110 § 8.6), and reqwest leaves it out.
        let none = reqwest::header::HeaderValue::from_static("0");
        outgoing.headers_mut().insert(reqwest::header::CONTENT_LENGTH, none);
    }
    let mut incoming = client.execute(outgoing).await.map_err(failure)?;
    let status = incoming.status().as_u16();
    let headers = Headers::from_map(std::mem::take(incoming.headers_mut()));
    let parts = incoming.bytes_stream().map_err(failure);
    let mut response = Response::streaming(status, Body::stream(parts));
    response.headers = headers;
    Ok(response)
}

/// What a failure of reqwest means. Its errors hold the whole URL, which goes.
fn failure(e: reqwest::Error) -> Error {
    let e = e.without_url();
    if e.is_connect() {
        not_sent(e) // also when connecting took too long
    } else if e.is_builder() {
        Error::invalid("the request cannot be sent").caused_by(e)
    } else if e.is_timeout() {
        Error::new(ErrorKind::Timeout, "no answer in time").caused_by(e)
    } else {
        cut_off(e)
    }
}

fn wire_method(method: Method) -> reqwest::Method {
    match method {
        Method::Get => reqwest::Method::GET,
        Method::Head => reqwest::Method::HEAD,
        Method::Options => reqwest::Method::OPTIONS,
        Method::Post => reqwest::Method::POST,
        Method::Put => reqwest::Method::PUT,
        Method::Patch => reqwest::Method::PATCH,
        Method::Delete => reqwest::Method::DELETE,
    }
}
