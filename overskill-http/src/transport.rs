//! The seam below everything: who carries a request to its server.

use crate::{Body, Request, Response};
use async_trait::async_trait;
use overskill_core::{Effect, Error, ErrorKind, Result};
use std::{error::Error as StdError, fmt, future::Future, sync::Arc};

/// Carries one request to its server and brings the response back, whatever its status.
///
/// [`NetworkTransport`](crate::NetworkTransport) does it over the network, [`transport_fn`] calls a function (an
/// emulator in the same process), [`Recording`](crate::Recording) wraps another one.
///
/// A transport neither retries nor waits for anything but the network, follows no redirect, and keeps no cookies. Its
/// errors say truly whether the request may have landed; [`not_sent`] and [`cut_off`] make them. Statuses are not its
/// business: [`Client`](crate::Client) judges them.
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Sends the request. Dropping the future gives the request up; it may land nevertheless.
    async fn send(&self, request: Request) -> Result<Response<Body>>;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Transport + ?Sized> Transport for Arc<T> {
    async fn send(&self, request: Request) -> Result<Response<Body>> {
        (**self).send(request).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Transport + ?Sized> Transport for Box<T> {
    async fn send(&self, request: Request) -> Result<Response<Body>> {
        (**self).send(request).await
    }
}

/// A transport that calls `answer`: an emulator or a script in the same process.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use overskill_http::{Client, Request, Response, transport_fn};
///
/// let hello = transport_fn(|request: Request| async move {
///     Ok(Response::new(200, format!("{} {}", request.method, request.url.path())))
/// });
/// let client = Client::builder("demo", "https://api.example.com/v1").transport(hello).build()?;
/// assert_eq!(client.get("zones").send().await?.text(), "GET /v1/zones");
/// # Ok::<(), overskill_http::Error>(()) }).unwrap();
/// ```
pub fn transport_fn<F, Answer, B>(answer: F) -> impl Transport
where
    F: Fn(Request) -> Answer + Send + Sync + 'static,
    Answer: Future<Output = Result<Response<B>>> + Send,
    B: 'static,
    Response<B>: Into<Response<Body>>,
{
    TransportFn(answer)
}

struct TransportFn<F>(F);

impl<F> fmt::Debug for TransportFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TransportFn(…)")
    }
}

#[async_trait]
impl<F, Answer, B> Transport for TransportFn<F>
where
    F: Fn(Request) -> Answer + Send + Sync + 'static,
    Answer: Future<Output = Result<Response<B>>> + Send,
    B: 'static,
    Response<B>: Into<Response<Body>>,
{
    async fn send(&self, request: Request) -> Result<Response<Body>> {
        let answer = (self.0)(request);
        Ok(answer.await?.into())
    }
}

/// The error for a request that provably never left: no address, no connection, no TLS session.
pub fn not_sent(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Unavailable, "no connection to the server").effect_as(Effect::None).caused_by(source)
}

/// The error for a connection that broke once the request, or some of it, had left.
pub fn cut_off(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Unavailable, "the connection broke before the whole response came").caused_by(source)
}
