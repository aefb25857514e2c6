//! Routes for a host's own web server.

mod deployments;
mod events;
mod health;
mod notify;
mod problem;
mod request;

use crate::{Platform, WebhookSecrets};
use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, header},
    middleware::{Next, from_fn_with_state},
    response::Response,
    routing::{get, post},
};
use problem::Problem;
use std::{num::NonZeroUsize, sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// How the routes of a platform are: see [`router()`].
#[derive(Clone, Debug)]
pub struct RouterOptions {
    notified_by: Option<WebhookSecrets>,
    max_streams: NonZeroUsize,
    keep_alive: Duration,
    health_kept: Duration,
}

impl RouterOptions {
    /// No `/notify`, at most 1,000 streams of events at a time, a word every 15 seconds on those that are silent, and what
    /// `/health` found counts for a second.
    pub fn new() -> Self {
        Self {
            notified_by: None,
            max_streams: const { NonZeroUsize::new(1_000).expect("not zero") },
            keep_alive: Duration::from_secs(15),
            health_kept: Duration::from_secs(1),
        }
    }

    /// Takes signed notices at `/notify`, by whoever has one of these secrets.
    pub fn notified_by(mut self, secrets: WebhookSecrets) -> Self {
        self.notified_by = Some(secrets);
        self
    }

    /// How many streams of events there may be at a time; who comes later is asked to come back.
    pub fn max_streams(mut self, streams: NonZeroUsize) -> Self {
        self.max_streams = streams;
        self
    }

    /// How long a stream of events is silent before a comment says that it is still there.
    pub fn keep_alive(mut self, interval: Duration) -> Self {
        self.keep_alive = interval;
        self
    }

    /// How long what `/health` found counts: however many ask, the backends are asked once in that time. Where a target's
    /// check spends calls of an hourly budget, make it longer.
    pub fn health_kept(mut self, time: Duration) -> Self {
        self.health_kept = time;
        self
    }
}

impl Default for RouterOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// What the handlers share.
struct Shared {
    platform: Platform,
    streams: Arc<Semaphore>,
    keep_alive: Duration,
    health: health::Health,
    notices: Option<notify::Notices>,
}

/// Routes about the deployments of apps, to be nested in the host's own web server.
///
/// ```
/// # async fn example() -> overskill::Result<()> {
/// use overskill::{Overskill, Platform, RouterOptions, SystemIds, WebhookSecret, WebhookSecrets, axum};
///
/// let platform: Platform = (*Overskill::builder().build().await?).clone();
/// let secret = WebhookSecret::generate(&SystemIds); // in service: WebhookSecret::parse(…), from where it is kept
/// let options = RouterOptions::new().notified_by(WebhookSecrets::new(secret));
/// let web: axum::Router = axum::Router::new().nest("/overskill", overskill::router(&platform, options));
/// // axum::serve(listener, web), beside platform.run(shutdown)
/// # Ok(())
/// # }
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(example()).unwrap();
/// ```
///
/// | route | what | right |
/// |---|---|---|
/// | `GET /apps/{app}/deployments?environment=&before=&limit=` | deployments, newest first, at most 100 | `Develop` |
/// | `GET /apps/{app}/deployments/{id}` | state, outcome, cost, question | `Develop` |
/// | `GET /apps/{app}/deployments/{id}/timeline` | the story, as text | `Develop` |
/// | `GET /apps/{app}/deployments/{id}/events` | the record's events as they come (server-sent events), until it has ended | `Develop` |
/// | `POST /apps/{app}/deployments/{id}/answer` | `{"choice": "approve"}`, `retry` or `abort`: it goes on at once | `Operate` |
/// | `GET /apps/{app}/route?environment=` | what is live | `Develop` |
/// | `GET /apps/{app}/reconcile?environment=` | whether it is what serves | `Develop` |
/// | `GET /health` | `ok`, or the names of the seams that are not ready; asked at most once a second | none |
/// | `POST /notify` | `{"deployment": "…"}`, signed as Standard Webhooks are: it may be driven on now | a secret |
///
/// Every route of an app takes an access token in `Authorization: Bearer …`, and nothing else: no cookie, no query. Bodies and
/// answers are JSON, times are milliseconds since the Unix epoch; a body holds at most 16 KiB and no unknown field.
///
/// **Events** carry their place in the record as `id`, beginning with 1. Who comes back with `Last-Event-ID` misses none and
/// gets none twice. The stream ends with the deployment, and earlier when the token expires; who asks for more after the
/// end gets 204. A reader that is slow costs a few events of memory, not all of them.
///
/// **Notices** are for providers and jobs (a workflow that is done): what they name is looked at at once where
/// [`Platform::run`] runs in this process. The answer is 202; a notice that comes twice, is more than 5 minutes off or does not
/// bear a right signature is refused. Without [`RouterOptions::notified_by`] there is no such route.
///
/// # Errors
///
/// `application/problem+json` (RFC 9457) with `kind`, and `field` where one is at fault; the detail is for everybody and
/// names nothing of ours. 401 without a good token, 403 without the right, 404 for what is not there and for apps that the
/// token is not for, 409 for what cannot be now, 400 and 422 for what is malformed, 503 when a backend does not answer.
pub fn router(platform: &Platform, options: RouterOptions) -> Router {
    let RouterOptions { notified_by, max_streams, keep_alive, health_kept } = options;
    let shared = Arc::new(Shared {
        platform: platform.clone(),
        streams: Arc::new(Semaphore::new(max_streams.get().min(Semaphore::MAX_PERMITS))),
        keep_alive,
        health: health::Health::kept(health_kept),
        notices: notified_by.map(notify::Notices::new),
    });
    let mut routes = Router::new()
        .route("/apps/{app}/deployments", get(deployments::list))
        .route("/apps/{app}/deployments/{id}", get(deployments::one))
        .route("/apps/{app}/deployments/{id}/timeline", get(deployments::timeline))
        .route("/apps/{app}/deployments/{id}/events", get(events::events))
        .route("/apps/{app}/deployments/{id}/answer", post(deployments::answer))
        .route("/apps/{app}/route", get(deployments::route))
        .route("/apps/{app}/reconcile", get(deployments::reconcile))
        .route("/health", get(health::health));
    if shared.notices.is_some() {
        routes = routes.route("/notify", post(notify::notify));
    }
    routes
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .fallback(async || Problem::not_found())
        .layer(from_fn_with_state(shared.clone(), around))
        .with_state(shared)
}

/// What holds for every answer: it is kept nowhere, taken for nothing else, and measured.
async fn around(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let began = shared.platform.clock().monotonic();
    let route =
        request.extensions().get::<MatchedPath>().map_or_else(|| "none".to_owned(), |path| path.as_str().into());
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let status = match response.status().as_u16() {
        ..400 => "ok",
        400..500 => "4xx",
        500.. => "5xx",
    };
    let took = shared.platform.clock().monotonic().saturating_sub(began);
    metrics::histogram!("overskill_router_request_seconds", "route" => route, "status" => status)
        .record(took.as_secs_f64());
    response
}
