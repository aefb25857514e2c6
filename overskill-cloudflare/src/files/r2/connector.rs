//! How `object_store` gets to the network: through this workspace's own client.

use crate::cloudflare::Settings;
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use object_store::{
    ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
    },
};
use overskill_core::{Effect, Error, ErrorKind};
use overskill_http::{Client, Method, Request, Response, Url};
use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

/// Makes the one client there is.
#[derive(Clone, Debug)]
pub(super) struct Connector(Client);

impl Connector {
    pub(super) fn new(settings: &Settings) -> overskill_core::Result<Self> {
        let api = &settings.api;
        // Signed requests carry their credential themselves. They stay good for 15 minutes.
        let client = Client::builder(format!("{}-r2", settings.name), &settings.r2_endpoint)
            .transport(settings.transport.clone())
            .clock(api.clock.clone())
            .ids(api.ids.clone())
            .classify(judge)
            .deadline(Duration::from_mins(10))
            .try_timeout(Duration::from_mins(4))
            .max_body_bytes(usize::MAX)
            .build()?;
        Ok(Self(client))
    }
}

/// Only what may work later is an error here: what 404 and 412 mean is `object_store`'s to say.
fn judge(_: &Request, _: &Response, by_status: Option<Error>) -> Option<Error> {
    by_status.filter(|e| e.retry() != overskill_core::Retry::Never)
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Service(self.0.clone())))
    }
}

#[derive(Debug)]
struct Service(Client);

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (head, body) = request.into_parts();
        let body: Bytes = body.collect().await?.to_bytes();
        let response = self.send(&head, body).await.map_err(|e| {
            let kind = match (e.kind(), e.effect()) {
                (ErrorKind::Timeout, _) => HttpErrorKind::Timeout,
                (_, Effect::None) => HttpErrorKind::Connect,
                (_, Effect::Unknown) => HttpErrorKind::Interrupted,
            };
            HttpError::new(kind, Carried(Arc::new(e)))
        })?;
        let mut answer = http::Response::builder().status(response.status);
        for (name, value) in response.headers.iter() {
            answer = answer.header(name, value);
        }
        if !response.headers.contains("content-length") {
            // A transport within the process has none, and `object_store` asks for it.
            answer = answer.header(http::header::CONTENT_LENGTH, response.body.len());
        }
        let body = Full::new(response.body).map_err(|never| match never {});
        answer.body(HttpResponseBody::new(body)).map_err(|e| HttpError::new(HttpErrorKind::Decode, e))
    }
}

impl Service {
    async fn send(&self, head: &http::request::Parts, body: Bytes) -> overskill_core::Result<Response> {
        let method = Method::ALL.into_iter().find(|method| method.as_str() == head.method.as_str());
        let method = method.ok_or_else(|| Error::invalid("method is unknown"))?;
        let url = Url::parse(&head.uri.to_string())?;
        let mut call = self.0.call(method, url).operation("r2");
        // A conditional write that is sent again is refused, and looked at then.
        if method == Method::Post {
            call = call.idempotent(); // the one there is removes objects
        }
        for (name, value) in &head.headers {
            // These two are the transport's.
            if name != http::header::HOST && name != http::header::CONTENT_LENGTH {
                call = call.header(name.as_str(), value.as_bytes());
            }
        }
        if !body.is_empty() {
            let content_type = head.headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
            call = call.body(content_type.unwrap_or("application/octet-stream"), body);
        }
        call.send().await
    }
}

/// An error of ours on its way through `object_store`.
#[derive(Clone, Debug)]
struct Carried(Arc<Error>);

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl StdError for Carried {}

/// Our client's error, if that is what failed.
pub(super) fn own(e: &object_store::Error) -> Option<Error> {
    let mut source = e.source();
    while let Some(cause) = source {
        if let Some(Carried(own)) = cause.downcast_ref::<Carried>() {
            let copy = Error::new(own.kind(), own.message().to_owned()).retry_as(own.retry()).effect_as(own.effect());
            return Some(copy.caused_by(Carried(own.clone())));
        }
        source = cause.source();
    }
    None
}

/// What `object_store` said, without its URL: that may be signed.
#[derive(Debug)]
pub(super) struct Shown(String);

impl Shown {
    pub(super) fn of(e: &object_store::Error) -> Self {
        let text = e.to_string();
        let words = text.split_whitespace().filter(|word| !word.contains("://"));
        Self(words.collect::<Vec<_>>().join(" ").chars().take(300).collect())
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Shown {}
