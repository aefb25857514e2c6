//! An app's `/api/*`: to the upstream, with a short-lived token of the app's own.

use super::{Shared, guard, pages};
use axum::{
    body::{Body, to_bytes},
    http::{HeaderName, HeaderValue, Response, StatusCode, header, request::Parts},
};
use overskill_core::{ApiMethod, ApiRequest, ApiResponse, ErrorKind, FilePath, Retry, Scope};

/// What stands before the upstream's paths.
pub(super) const PREFIX: &str = "/api/";

/// Headers that an upstream may not set: those of one connection (RFC 9110, 7.6.1), those that the server answers for, and
/// cookies, which would be other apps' too where an upstream names a domain.
const NOT_PASSED_ON: [&str; 17] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-security-policy",
    "cross-origin-resource-policy",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "clear-site-data",
    "x-content-type-options",
];

/// Passes a call on. Of the request's headers only the media type goes along: no cookie, no token of anybody's.
pub(super) async fn answer(shared: &Shared, scope: &Scope, parts: Parts, body: Body) -> Response<Body> {
    if guard::is_from_elsewhere(&parts.headers) {
        let message = "Only the app's own pages may call its API: open the app at its own address.";
        return pages::json_problem(StatusCode::FORBIDDEN, message);
    }
    let Some(method) = method(&parts.method) else {
        let message = "Use GET, HEAD, POST, PUT, PATCH or DELETE.";
        return pages::json_problem(StatusCode::METHOD_NOT_ALLOWED, message);
    };
    let path = guard::decode(parts.uri.path()).and_then(|path| FilePath::parse(path.strip_prefix("api/")?).ok());
    let Some(path) = path else {
        let message = "The path is not valid: it must be /api/ and names between single slashes.";
        return pages::json_problem(StatusCode::BAD_REQUEST, message);
    };
    let limit = shared.max_body_bytes;
    let too_large = parts.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    let body = match too_large {
        Some(length) if length > limit as u64 => None,
        _ => to_bytes(body, limit).await.ok(),
    };
    let Some(body) = body else {
        return pages::json_problem(StatusCode::PAYLOAD_TOO_LARGE, &format!("The body must be at most {limit} bytes."));
    };
    let token = match shared.tokens.issue(scope, None, shared.clock.now()).await {
        Ok((token, _)) => token,
        Err(e) => return failed(scope, &e),
    };
    let mut call = ApiRequest::new(scope.clone(), token, method, path);
    call.query = guard::query(&parts.uri);
    call.content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).map(str::to_owned);
    call.body = body;
    match shared.upstream.call(&call).await {
        Ok(answer) => passed_on(answer),
        Err(e) => failed(scope, &e),
    }
}

fn method(method: &axum::http::Method) -> Option<ApiMethod> {
    Some(match method.as_str() {
        "GET" => ApiMethod::Get,
        "HEAD" => ApiMethod::Head,
        "POST" => ApiMethod::Post,
        "PUT" => ApiMethod::Put,
        "PATCH" => ApiMethod::Patch,
        "DELETE" => ApiMethod::Delete,
        _ => return None,
    })
}

fn passed_on(answer: ApiResponse) -> Response<Body> {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status)
        .ok()
        .filter(|status| !status.is_informational())
        .unwrap_or(StatusCode::BAD_GATEWAY);
    for (name, value) in &answer.headers {
        if NOT_PASSED_ON.contains(&name.to_ascii_lowercase().as_str()) {
            continue;
        }
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn failed(scope: &Scope, e: &overskill_core::Error) -> Response<Body> {
    tracing::warn!(%scope, error = %e, "an app's API did not answer");
    let status = match e.kind() {
        ErrorKind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_GATEWAY,
    };
    let mut response = pages::json_problem(status, e.public_message());
    if let Retry::After(wait) = e.retry() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_sets_no_header_of_ours() {
        let answer = ApiResponse::new(200, "{}")
            .header("content-type", "application/json")
            .header("Set-Cookie", "a=b; Domain=localhost")
            .header("Connection", "close")
            .header("x-total", "7")
            .header("x bad", "1")
            .header("x-split", "a\r\nb: c");
        let response = passed_on(answer);
        let names: Vec<_> = response.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["content-type", "x-total"]);
        assert_eq!(passed_on(ApiResponse::new(101, "")).status(), StatusCode::BAD_GATEWAY);
    }
}
