use crate::{Error, ErrorKind, ParseError, Retry};
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use std::{borrow::Cow, error::Error as _, time::Duration};

/// An error as everybody may see it (RFC 9457).
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    kind: ErrorKind,
    detail: Cow<'static, str>,
    field: Option<&'static str>,
    /// What a good request would show, for 401.
    challenge: Option<&'static str>,
    retry_after: Option<Duration>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, kind: ErrorKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, kind, detail: detail.into(), field: None, challenge: None, retry_after: None }
    }

    /// What is malformed before anybody looks at what it means.
    pub(super) fn malformed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorKind::Invalid, detail)
    }

    /// The one answer for what is not there, and for what the caller may not see.
    pub(super) fn not_found() -> Self {
        Error::not_found("").into()
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, ErrorKind::Unsupported, "This method is not supported here.")
    }

    pub(super) fn unauthenticated(challenge: &'static str, detail: &'static str) -> Self {
        let challenge = Some(challenge);
        Self { challenge, ..Self::new(StatusCode::UNAUTHORIZED, ErrorKind::Unauthenticated, detail) }
    }

    pub(super) fn field(self, field: &'static str) -> Self {
        Self { field: Some(field), ..self }
    }

    pub(super) fn status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    pub(super) fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }
}

impl From<Error> for Problem {
    fn from(e: Error) -> Self {
        let status = match e.kind() {
            ErrorKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::Conflict => StatusCode::CONFLICT,
            ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
            ErrorKind::Denied => StatusCode::FORBIDDEN,
            ErrorKind::LimitExceeded => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorKind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
            ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status.is_server_error() {
            tracing::warn!(error = %e, %status, "a request could not be answered");
        }
        let mut problem = Self::new(status, e.kind(), e.public_message().to_owned());
        problem.field = e.source().and_then(|source| source.downcast_ref()).map(ParseError::field);
        problem.retry_after = match e.retry() {
            Retry::After(wait) => Some(wait),
            Retry::Backoff if status == StatusCode::SERVICE_UNAVAILABLE => Some(Duration::from_secs(2)),
            Retry::Backoff | Retry::Never => None,
        };
        if status == StatusCode::UNAUTHORIZED {
            problem.challenge = Some(BAD_TOKEN);
        }
        problem
    }
}

impl From<ParseError> for Problem {
    fn from(e: ParseError) -> Self {
        Error::from(e).into()
    }
}

/// What stands in `WWW-Authenticate` (RFC 6750) when there is no token, and when it is not good.
pub(super) const NO_TOKEN: &str = r#"Bearer realm="overskill""#;
pub(super) const BAD_TOKEN: &str = r#"Bearer realm="overskill", error="invalid_token""#;

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'static str>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Body {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            kind: self.kind.as_str(),
            field: self.field,
        };
        let body = serde_json::to_vec(&body).expect("texts and numbers are JSON");
        let mut response = (self.status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        let headers = response.headers_mut();
        if let Some(challenge) = self.challenge {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_millis().div_ceil(1000);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)));
        }
        response
    }
}
