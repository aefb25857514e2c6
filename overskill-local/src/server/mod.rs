//! The server on loopback: who is asked for, and what is answered.

mod api;
mod connections;
mod deployed;
mod guard;
mod pages;
mod preview;
mod ranges;
mod socket;

pub(crate) use connections::serve;

use crate::{instruments, previews::LocalPreviewHost, target::LocalTarget};
use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderName, HeaderValue, Request, Response, StatusCode, header, request::Parts},
};
use guard::{Foreign, Site};
use overskill_core::{ApiUpstream, AppDirectory, AppTokens, Clock, Environment, Result, Scope};
use pages::Entry;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tokio::sync::watch;
use tower_http::compression::{
    CompressionLayer,
    predicate::{DefaultPredicate, Predicate},
};

/// What every request needs.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) previews: LocalPreviewHost,
    pub(crate) target: LocalTarget,
    pub(crate) upstream: Arc<dyn ApiUpstream>,
    pub(crate) tokens: Arc<dyn AppTokens>,
    pub(crate) directory: Option<Arc<dyn AppDirectory>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) addresses: crate::options::Addresses,
    pub(crate) domains: Vec<String>,
    pub(crate) port: u16,
    /// The whole directive.
    pub(crate) frame_ancestors: String,
    pub(crate) max_body_bytes: usize,
    /// Whether other devices connect: then previews are compressed too.
    pub(crate) for_other_devices: bool,
    /// True once the server shuts down. Connections and sockets each hold a receiver.
    pub(crate) closing: watch::Sender<bool>,
}

/// Most lines of the list.
const MAX_LISTED: usize = 500;

/// Marks what is sent as it is.
#[derive(Clone, Copy, Debug)]
struct AsIs;

#[derive(Clone, Copy, Debug)]
struct NotAsIs;

impl Predicate for NotAsIs {
    fn should_compress<B: axum::body::HttpBody>(&self, response: &Response<B>) -> bool {
        response.extensions().get::<AsIs>().is_none()
    }
}

/// The whole service.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let compression = CompressionLayer::new().compress_when(DefaultPredicate::new().and(NotAsIs));
    Router::new().fallback(handle).layer(compression).with_state(shared)
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response<Body> {
    let (what, mut response) = answer(&shared, request).await;
    let class = match response.status().as_u16() {
        ..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    };
    metrics::counter!(instruments::REQUESTS_TOTAL, "what" => what, "status" => class).increment(1);
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::REFERRER_POLICY).or_insert(HeaderValue::from_static("same-origin"));
    if let Ok(policy) = HeaderValue::from_str(&shared.frame_ancestors) {
        headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(policy);
    }
    if what != "deployed" {
        // Sources and data are for the app's own pages; a deployed app's files are public.
        let policy = HeaderName::from_static("cross-origin-resource-policy");
        headers.insert(policy, HeaderValue::from_static("same-origin"));
    }
    if what == "preview" && !shared.for_other_devices {
        // On one machine compressing takes longer than sending.
        response.extensions_mut().insert(AsIs);
    }
    response
}

/// The answer, and what it was for.
async fn answer(shared: &Shared, request: Request<Body>) -> (&'static str, Response<Body>) {
    let site = match guard::site(request.headers(), request.uri(), &shared.domains, shared.port) {
        Ok(site) => site,
        Err(Foreign::Malformed) => {
            return ("refused", pages::plain(StatusCode::BAD_REQUEST, "The request must have one valid Host header."));
        }
        Err(Foreign::Host) => {
            let (domain, port) = (&shared.domains[0], shared.port);
            let message = format!(
                "Nothing is served under this host: open http://{domain}:{port}/. Another name has to be allowed first."
            );
            return ("refused", pages::plain(StatusCode::MISDIRECTED_REQUEST, &message));
        }
    };
    let (parts, body) = request.into_parts();
    if !guard::only_reads(&parts.method) && guard::is_from_elsewhere(&parts.headers) {
        let message = "A page of another origin may not do this: open the app at its own address.";
        return ("refused", pages::plain(StatusCode::FORBIDDEN, message));
    }
    match site {
        Site::List => ("list", list(shared, &parts).await.unwrap_or_else(|e| failed(shared, &parts, &e))),
        Site::NoApp(reason) => {
            let detail = format!("This is no address of an app: {reason}.");
            ("refused", problem(shared, &parts, StatusCode::NOT_FOUND, "No such app", &detail))
        }
        Site::App(scope) => app(shared, scope, parts, body).await,
    }
}

async fn app(shared: &Shared, scope: Scope, parts: Parts, body: Body) -> (&'static str, Response<Body>) {
    let room = shared.previews.room(&scope);
    if parts.uri.path().starts_with(api::PREFIX) {
        // An app has data once there is an app: else anybody fills the disk under any name.
        let exists = match &room {
            Some(_) => Ok(true),
            None => shared.target.is_live(&scope).await,
        };
        return match exists {
            Ok(true) => ("api", api::answer(shared, &scope, parts, body).await),
            Ok(false) => {
                let message = "Nothing is open or live under this address: open or deploy the app first.";
                ("api", pages::json_problem(StatusCode::NOT_FOUND, message))
            }
            Err(e) => ("api", failed(shared, &parts, &e)),
        };
    }
    if let Some(room) = room {
        return ("preview", preview::answer(shared, &scope, room, parts).await);
    }
    if scope.environment == Environment::Preview {
        match shared.target.is_live(&scope).await {
            Ok(true) => {}
            Ok(false) => return ("preview", not_open(shared, &scope, &parts)),
            Err(e) => return ("preview", failed(shared, &parts, &e)),
        }
    }
    let served = deployed::answer(shared, &scope, &parts).await;
    ("deployed", served.unwrap_or_else(|e| failed(shared, &parts, &e)))
}

fn not_open(shared: &Shared, scope: &Scope, parts: &Parts) -> Response<Body> {
    let detail = format!("The preview of the app “{}” is not open: open it where the app is edited.", scope.app);
    problem(shared, parts, StatusCode::NOT_FOUND, "Not open", &detail)
}

/// The page that lists the apps.
async fn list(shared: &Shared, parts: &Parts) -> Result<Response<Body>> {
    if parts.uri.path() != "/" {
        let detail = "This address lists the apps, at “/”; each app has an address of its own.";
        return Ok(problem(shared, parts, StatusCode::NOT_FOUND, "Not found", detail));
    }
    if !guard::only_reads(&parts.method) {
        return Ok(pages::plain(StatusCode::METHOD_NOT_ALLOWED, "Use GET."));
    }
    let previews: BTreeSet<_> = shared.previews.scopes().into_iter().collect();
    let mut scopes: BTreeMap<Scope, &'static str> = previews.into_iter().map(|scope| (scope, "preview")).collect();
    for scope in shared.target.live().await? {
        let what = scope.environment.as_str();
        scopes.entry(scope).or_insert(what);
    }
    let mut entries = Vec::new();
    for (scope, what) in scopes.into_iter().take(MAX_LISTED) {
        let record = match &shared.directory {
            Some(directory) => directory.get(&scope.app).await?,
            None => None,
        };
        let name = record.map(|record| record.name).filter(|name| !name.trim().is_empty());
        let name = name.unwrap_or_else(|| scope.app.to_string());
        entries.push(Entry { name, url: shared.addresses.of(&scope), what });
    }
    Ok(pages::list(&entries, &shared.frame_ancestors))
}

fn problem(shared: &Shared, parts: &Parts, status: StatusCode, title: &str, detail: &str) -> Response<Body> {
    if guard::wants_page(&parts.headers) {
        pages::problem(status, title, detail, &shared.frame_ancestors)
    } else {
        pages::plain(status, detail)
    }
}

/// A failure of ours: it is logged, and nothing of it is shown.
fn failed(shared: &Shared, parts: &Parts, e: &overskill_core::Error) -> Response<Body> {
    tracing::error!(error = %e, "a request failed");
    problem(shared, parts, StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong", e.public_message())
}
