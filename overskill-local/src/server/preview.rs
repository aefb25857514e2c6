//! Open previews: pages and modules as the engine has them, and the socket.

use super::{Shared, connections::Closing, guard, pages, socket};
use crate::previews::{Room, SOCKET_PATH};
use axum::{
    body::Body,
    extract::{FromRequestParts as _, ws::WebSocketUpgrade},
    http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, request::Parts},
};
use overskill_build::preview::{PageRequest, PageResponse};
use overskill_core::{Scope, Secret, StreamPosition};
use std::sync::Arc;

/// Answers for a preview that is open, or was before a restart.
pub(super) async fn answer(shared: &Shared, scope: &Scope, room: Arc<Room>, parts: Parts) -> Response<Body> {
    if parts.uri.path() == SOCKET_PATH {
        return upgrade(shared, scope, room, parts).await;
    }
    let Parts { method, uri, headers, .. } = &parts;
    if !matches!(*method, Method::GET | Method::HEAD) {
        let message = "Use GET or HEAD: a preview has no server side here but /api/.";
        let mut refused = pages::plain(StatusCode::METHOD_NOT_ALLOWED, message);
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    let Some(app) = room.shown() else {
        shared.previews.want(scope, &room);
        return waiting(shared, headers);
    };
    let text = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok()).map(str::to_owned);
    let mut page = PageRequest::get(uri.path());
    page.query = uri.query().map(str::to_owned);
    page.accept = text(header::ACCEPT);
    page.if_none_match = text(header::IF_NONE_MATCH);
    page.socket_token = Some(room.token().expose().to_owned());
    let mut closing = Closing::of(&shared.closing);
    tokio::select! {
        biased;
        answer = app.respond(&page) => shown(answer),
        // It waited for packages.
        () = room.closed() => pages::plain(StatusCode::NOT_FOUND, "This preview was closed."),
        () = closing.begun() => pages::plain(StatusCode::SERVICE_UNAVAILABLE, "The server shuts down: ask again soon."),
    }
}

/// The sources are on their way, or were lost in a restart.
fn waiting(shared: &Shared, headers: &HeaderMap) -> Response<Body> {
    let detail = "This preview is being prepared. If it stays so, open it again where the app is edited.";
    if guard::wants_page(headers) {
        return pages::retrying("One moment", detail, &shared.frame_ancestors);
    }
    let mut response = pages::plain(StatusCode::SERVICE_UNAVAILABLE, detail);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn shown(page: PageResponse) -> Response<Body> {
    let mut response = Response::new(Body::from(page.body));
    *response.status_mut() = StatusCode::from_u16(page.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in page.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}

/// Lets a page of this very preview connect, and nobody else.
async fn upgrade(shared: &Shared, scope: &Scope, room: Arc<Room>, mut parts: Parts) -> Response<Body> {
    if guard::is_from_elsewhere(&parts.headers) {
        let message = "Only the preview's own pages may connect: the request comes from another origin.";
        return pages::plain(StatusCode::FORBIDDEN, message);
    }
    let query = guard::query(&parts.uri);
    let get = |wanted: &str| query.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    // `Secret` compares in constant time.
    if get("token").map(Secret::from).as_ref() != Some(room.token()) {
        let message = "The token is missing or not this preview's: load the page again.";
        return pages::plain(StatusCode::FORBIDDEN, message);
    }
    let from = match (get("incarnation"), get("seq")) {
        (None, None) => None,
        (incarnation, seq) => {
            let text = format!("{}:{}", incarnation.unwrap_or_default(), seq.unwrap_or_default());
            let Ok(position) = text.parse::<StreamPosition>() else {
                let message = "incarnation and seq must be those of a position that this preview gave out.";
                return pages::plain(StatusCode::BAD_REQUEST, message);
            };
            Some(position)
        }
    };
    let epoch = match get("epoch").map(str::parse) {
        None => None,
        Some(Ok(epoch)) => Some(epoch),
        Some(Err(_)) => {
            return pages::plain(
                StatusCode::BAD_REQUEST,
                "epoch must be the number that this preview's page was given.",
            );
        }
    };
    if room.shown().is_none() {
        shared.previews.want(scope, &room);
        return pages::plain(StatusCode::SERVICE_UNAVAILABLE, "This preview is being prepared: connect again soon.");
    }
    match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => socket::accept(upgrade, room, (from, epoch), Closing::of(&shared.closing), shared.clock.clone()),
        Err(_) => pages::plain(StatusCode::UPGRADE_REQUIRED, "This address is a WebSocket: connect to it as one."),
    }
}
