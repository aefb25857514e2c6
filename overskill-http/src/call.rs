//! One call: how it is described, and how it is carried out.

use crate::{
    Body, Client, FairKey, Method, Multipart, Permit, Priority, Repeat, Request, Response, Target, Url, classify_status,
};
use bytes::Bytes;
use futures::TryStreamExt as _;
use overskill_core::{Effect, Error, ErrorKind, Result, Retry};
use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};
use tracing::{Instrument as _, field};

/// A call that is being described; [`send`](Call::send) or [`stream`](Call::stream) makes it.
#[must_use = "a call does nothing before `send`"]
pub struct Call {
    client: Client,
    request: Request,
    operation: &'static str,
    app: FairKey,
    priority: Priority,
    cost: NonZeroU32,
    deadline: Duration,
    try_timeout: Duration,
    max_body_bytes: usize,
    anonymous: bool,
    /// The first mistake in the description; told by `send`.
    problem: Option<Error>,
}

impl Call {
    pub(crate) fn new(client: Client, method: Method, target: &Target) -> Self {
        let settings = &*client.0;
        let (url, problem) = match settings.base.resolve(target) {
            Ok(url) => (url, None),
            Err(e) => (settings.base.clone(), Some(e.into())),
        };
        let mut request = Request::new(method, url);
        request.headers = settings.headers.clone();
        Self {
            request,
            operation: "call",
            app: FairKey::default(),
            priority: Priority::Normal,
            cost: NonZeroU32::MIN,
            deadline: settings.deadline,
            try_timeout: settings.try_timeout,
            max_body_bytes: settings.max_body_bytes,
            anonymous: false,
            problem,
            client,
        }
    }

    /// What the call is for, in errors, spans and metrics: `"put_script"`.
    pub fn operation(mut self, operation: &'static str) -> Self {
        self.operation = operation;
        self
    }

    /// The app on whose behalf: apps take turns at the limiter.
    pub fn for_app(mut self, app: impl Into<FairKey>) -> Self {
        self.app = app.into();
        self
    }

    /// Sets a header field.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let set = self.request.headers.set(name, value);
        self.check(set);
        self
    }

    /// Adds a pair to the query.
    pub fn query(mut self, name: &str, value: impl fmt::Display) -> Self {
        let url = self.request.url.clone();
        self.request.url = url.with_query(name, &value.to_string());
        if self.request.url.expose().len() > Url::MAX_BYTES {
            self.check(Err(Error::invalid("URL must be at most 8,192 bytes")));
        }
        self
    }

    /// Sends this body.
    pub fn body(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.request.body = body.into();
        self.header("content-type", content_type)
    }

    /// Sends this value as JSON.
    pub fn json(mut self, value: &impl serde::Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(json) => self.body("application/json", json),
            Err(e) => {
                self.check(Err(Error::invalid("request body cannot be JSON").caused_by(e)));
                self
            }
        }
    }

    /// Sends these pairs as a form (`application/x-www-form-urlencoded`), as OAuth wants it.
    pub fn form<'a>(self, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let form = crate::url::encode_form(pairs);
        self.body("application/x-www-form-urlencoded", form)
    }

    /// Sends a form of several parts.
    pub fn multipart(self, form: Multipart) -> Self {
        let content_type = form.content_type();
        self.body(&content_type, form.into_body())
    }

    /// Twice is like once, whatever the method: because of an idempotency key, say. It may be tried again even when it
    /// may have landed.
    pub fn idempotent(self) -> Self {
        self.repeat(Repeat::Idempotent)
    }

    /// It changes nothing, whatever the method: a query in a POST.
    pub fn read_only(self) -> Self {
        self.repeat(Repeat::Safe)
    }

    /// What it means to send it twice, in place of what the method promises.
    pub fn repeat(mut self, repeat: Repeat) -> Self {
        self.request.repeat = repeat;
        self
    }

    /// Whether it goes before others at the limiter. What is made within [`urgently`](overskill_core::urgently) does anyway.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// What it costs at the limiter, where the provider counts points.
    pub fn cost(mut self, cost: NonZeroU32) -> Self {
        self.cost = cost;
        self
    }

    /// How long it may take with all its waits and tries, from `send` on.
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = limit;
        self
    }

    /// How long one try may take: to the end of the body with `send`; to its head, and then between any two parts of
    /// it, with `stream`.
    pub fn try_timeout(mut self, limit: Duration) -> Self {
        self.try_timeout = limit;
        self
    }

    /// How large the response body may be.
    pub fn max_body_bytes(mut self, bytes: usize) -> Self {
        self.max_body_bytes = bytes;
        self
    }

    /// Leaves the credential out: for URLs of another origin, such as a signed one to upload to.
    pub fn anonymous(mut self) -> Self {
        self.anonymous = true;
        self
    }

    /// Makes the call, and reads the whole body.
    pub async fn send(self) -> Result<Response> {
        let span = tracing::info_span!(
            "overskill.http.send",
            backend = self.client.backend(),
            operation = self.operation,
            app = %self.app,
            url = %self.request.url,
            status = field::Empty,
            tries = field::Empty,
        );
        let (response, _) = Box::pin(self.run(false)).instrument(span).await?;
        Ok(response)
    }

    /// Makes the call, and leaves a successful body to be read as it comes: for progress and logs. The body as a whole
    /// is bounded by neither time nor size, only by [`try_timeout`](Call::try_timeout) between its parts; what breaks
    /// while it is read is not tried again.
    pub async fn stream(self) -> Result<Response<Body>> {
        let span = tracing::info_span!(
            "overskill.http.stream",
            backend = self.client.backend(),
            operation = self.operation,
            app = %self.app,
            url = %self.request.url,
            status = field::Empty,
            tries = field::Empty,
        );
        let (backend, operation) = (Arc::clone(&self.client.0.backend), self.operation);
        let (repeat, url) = (self.request.repeat, self.request.url.clone());
        let (clock, idle) = (Arc::clone(&self.client.0.clock), self.try_timeout);
        let (response, body) = Box::pin(self.run(true)).instrument(span).await?;
        // What a classifier lets pass in spite of its status was read to be judged.
        let parts = body.unwrap_or_else(|| response.body.clone().into()).idle_timeout(clock, idle);
        let parts = parts.map_err(move |e| {
            let effect = repeat.effect(e.effect());
            let e = e.effect_as(effect).at(backend.to_string(), operation);
            e.with("url", &url)
        });
        Ok(response.map(|_| Body::stream(parts)))
    }

    /// The response, and its body when that is still to be read.
    async fn run(mut self, streaming: bool) -> Result<(Response, Option<Body>)> {
        let began = self.client.0.clock.monotonic();
        let described = match self.problem.take() {
            Some(problem) => Err(problem),
            None => self.authorise(),
        };
        let mut tries = 0;
        let outcome = match described {
            Ok(()) => self.run_until(began, streaming, &mut tries).await,
            Err(e) => Err(e),
        };
        tracing::Span::current().record("tries", tries);
        outcome.map_err(|e| {
            let elapsed = self.client.0.clock.monotonic().saturating_sub(began);
            let e = e
                .at(self.client.backend().to_owned(), self.operation)
                .with("method", self.request.method)
                .with("url", &self.request.url)
                .with("tries", tries)
                .with("elapsed", format_args!("{elapsed:.3?}"));
            tracing::debug!(error = %e, "failed");
            e
        })
    }

    async fn run_until(&self, began: Duration, streaming: bool, tries: &mut u32) -> Result<(Response, Option<Body>)> {
        let settings = &*self.client.0;
        let clock = &*settings.clock;
        let left = || {
            let elapsed = clock.monotonic().saturating_sub(began);
            self.deadline.saturating_sub(elapsed)
        };
        let mut effect = Effect::None;
        let mut last: Option<Error> = None;
        loop {
            let permit = match self.permit(left()).await {
                Ok(permit) => permit,
                // What the server said tells more than that there was no time to ask again.
                Err(e) => return Err(last.unwrap_or(e)),
            };
            *tries += 1;
            let outcome = self.attempt(left().min(self.try_timeout), streaming).await;
            drop(permit);
            let e = match outcome {
                Ok((mut response, body)) => {
                    response.tries = *tries;
                    return Ok((response, body));
                }
                Err(e) => e,
            };
            // Once something may have landed, no later failure can undo that.
            if self.request.repeat.effect(e.effect()) == Effect::Unknown {
                effect = Effect::Unknown;
            }
            let again = self.request.repeat.again_after(e.effect());
            let wait = settings.retry.wait(*tries, &e).filter(|_| again);
            let paused = self.pause(&e, wait);
            let e = e.effect_as(effect);
            let Some(wait) = wait.filter(|wait| *wait < left()) else {
                return Err(e);
            };
            metrics::counter!(
                "overskill_http_retries_total",
                "backend" => Arc::clone(&settings.backend),
                "operation" => self.operation,
                "kind" => e.kind().as_str(),
            )
            .increment(1);
            tracing::debug!(error = %e, ?wait, tries, "trying again");
            if !paused {
                clock.sleep(wait).await;
            }
            last = Some(e);
        }
    }

    async fn permit(&self, limit: Duration) -> Result<Option<Permit>> {
        let Some(limiter) = &self.client.0.limiter else {
            return Ok(None);
        };
        let priority = if overskill_core::is_urgent() { Priority::Urgent } else { self.priority };
        let wait = limiter.acquire(self.app.clone(), priority, self.cost);
        match overskill_core::timeout(&*self.client.0.clock, limit, wait).await {
            Ok(permit) => Ok(Some(permit)),
            Err(e) if e.kind() == ErrorKind::Timeout => {
                let e = Error::new(ErrorKind::Timeout, "the rate limiter gave no permit before the deadline");
                Err(e.effect_as(Effect::None).with("queue_length", limiter.queue_length()))
            }
            Err(e) => Err(e),
        }
    }

    /// Holds everybody who shares the credential, when the server asked to slow down. True when the limiter now does the
    /// waiting.
    fn pause(&self, e: &Error, wait: Option<Duration>) -> bool {
        let (Some(limiter), ErrorKind::RateLimited) = (&self.client.0.limiter, e.kind()) else {
            return false;
        };
        let asked = match e.retry() {
            Retry::After(asked) => Some(asked),
            Retry::Backoff | Retry::Never => wait,
        };
        if let Some(asked) = asked {
            limiter.pause(asked);
        }
        asked.is_some()
    }

    async fn attempt(&self, limit: Duration, streaming: bool) -> Result<(Response, Option<Body>)> {
        let settings = &*self.client.0;
        let began = settings.clock.monotonic();
        let exchange = async {
            let response = settings.transport.send(self.request.clone()).await?;
            if streaming && response.status < 400 {
                let mut head = Response::new(response.status, Bytes::new());
                head.headers = response.headers;
                return Ok((head, Some(response.body)));
            }
            Ok((response.collect(self.max_body_bytes).await?, None))
        };
        overskill_core::count_request();
        let outcome = overskill_core::timeout(&*settings.clock, limit, exchange).await;
        outcome.iter().filter_map(|(response, _)| trace_id(response)).for_each(overskill_core::name_answer);
        let status = match &outcome {
            Ok((response, _)) => {
                tracing::Span::current().record("status", response.status);
                status_class(response.status)
            }
            Err(e) => e.kind().as_str(),
        };
        metrics::histogram!(
            "overskill_http_request_seconds",
            "backend" => Arc::clone(&settings.backend),
            "operation" => self.operation,
            "status" => status,
        )
        .record(settings.clock.monotonic().saturating_sub(began).as_secs_f64());
        let (response, body) = outcome?;
        let by_status = classify_status(&response, settings.clock.now());
        match settings.classify.classify(&self.request, &response, by_status) {
            None => Ok((response, body)),
            Some(e) => {
                let e = e.with("status", response.status);
                Err(match trace_id(&response) {
                    Some(id) => e.with("request_id", id.escape_debug()),
                    None => e,
                })
            }
        }
    }

    fn authorise(&mut self) -> Result<()> {
        let settings = &*self.client.0;
        if self.anonymous || settings.credential.is_none() {
            return Ok(());
        }
        if !settings.base.same_origin(&self.request.url) {
            return Err(Error::invalid(
                "URL must have the base URL's origin, for the credential goes nowhere else; anonymous() leaves it out",
            )
            .with("base", &settings.base));
        }
        settings.credential.put_on(&mut self.request.headers)
    }

    fn check(&mut self, outcome: Result<()>) {
        if let Err(e) = outcome {
            self.problem.get_or_insert(e);
        }
    }
}

/// What the provider calls its answer.
fn trace_id(response: &Response) -> Option<&str> {
    ["x-request-id", "x-github-request-id", "x-deno-trace-id", "cf-ray"]
        .into_iter()
        .find_map(|name| response.header(name))
}

/// A status as a metric's label.
pub(crate) fn status_class(status: u16) -> &'static str {
    match status {
        ..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        500.. => "5xx",
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("backend", &self.client.backend())
            .field("operation", &self.operation)
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}
