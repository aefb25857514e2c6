//! What is read out of a request, in the order in which it may be refused: who asks, what about, and how.

use super::{
    Shared,
    problem::{BAD_TOKEN, NO_TOKEN, Problem},
};
use crate::{AccessToken, AppHandle, AppId, DeploymentId, Error, ErrorKind, Refusal};
use axum::{
    body::{Body, to_bytes},
    extract::{FromRequestParts, Query, RawPathParams},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use std::{error::Error as _, sync::Arc};

/// Largest body in bytes.
const MAX_BODY_BYTES: usize = 16 * 1024;

/// The app of the path, in the hands of whom the token speaks for.
pub(super) struct Caller(pub(super) AppHandle);

impl FromRequestParts<Arc<Shared>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Problem> {
        let token = token(&parts.headers)?;
        let app = parameter(parts, shared, "app").await?;
        // What is no name of an app is the name of none.
        let app = AppId::parse(&app).map_err(|_| Problem::not_found())?;
        shared.platform.app(&token, app).await.map(Self).map_err(refused)
    }
}

/// An app of somebody else looks like one that is not there.
fn refused(e: Error) -> Problem {
    let why = e.source().and_then(|source| source.downcast_ref::<Refusal>());
    if matches!(why, Some(Refusal::OtherTenant)) { Problem::not_found() } else { e.into() }
}

fn token(headers: &HeaderMap) -> Result<AccessToken, Problem> {
    let mut fields = headers.get_all(header::AUTHORIZATION).into_iter();
    let Some(field) = fields.next() else {
        return Err(Problem::unauthenticated(NO_TOKEN, "An access token is needed: Authorization: Bearer …"));
    };
    let bad = || Problem::unauthenticated(BAD_TOKEN, Refusal::PUBLIC);
    let (scheme, token) = field.to_str().ok().and_then(|field| field.split_once(' ')).ok_or_else(bad)?;
    if !scheme.eq_ignore_ascii_case("bearer") || fields.next().is_some() {
        return Err(bad());
    }
    AccessToken::parse(token.trim_matches(' ')).map_err(|_| bad())
}

/// The deployment of the path.
pub(super) struct Which(pub(super) DeploymentId);

impl FromRequestParts<Arc<Shared>> for Which {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Problem> {
        let id = parameter(parts, shared, "id").await?;
        id.parse().map(Self).map_err(|_| Problem::not_found())
    }
}

async fn parameter(parts: &mut Parts, shared: &Arc<Shared>, name: &str) -> Result<String, Problem> {
    let all = RawPathParams::from_request_parts(parts, shared).await.map_err(|_| Problem::not_found())?;
    // The host may have parameters of its own before ours: the last of that name is ours.
    let ours = all.iter().filter(|(known, _)| *known == name).last();
    ours.map(|(_, value)| value.to_owned()).ok_or_else(Problem::not_found)
}

/// The query, without unknown and repeated fields.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Shared>> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Shared>) -> Result<Self, Problem> {
        let read = Query::try_from_uri(&parts.uri);
        // What lies beneath names the field; the rest is axum's.
        let wrong = |e: axum::extract::rejection::QueryRejection| {
            let why = e.source().map_or_else(|| e.to_string(), ToString::to_string);
            Problem::malformed(format!("The query cannot be read: {why}."))
        };
        read.map(|Query(read)| Self(read)).map_err(wrong)
    }
}

/// The whole body, if it is not too long.
pub(super) async fn whole(body: Body) -> Result<Bytes, Problem> {
    to_bytes(body, MAX_BODY_BYTES).await.map_err(|_| {
        let detail = "The body must arrive whole and hold at most 16 KiB.";
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorKind::LimitExceeded, detail)
    })
}

/// What the body says in JSON.
pub(super) async fn json<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<T, Problem> {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        let detail = "The body must be JSON: Content-Type: application/json";
        return Err(Problem::malformed(detail).status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    parse(&whole(body).await?)
}

pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|e| {
        let problem = Problem::malformed(format!("The body cannot be read: {e}."));
        if e.is_data() { problem.status(StatusCode::UNPROCESSABLE_ENTITY) } else { problem }
    })
}
