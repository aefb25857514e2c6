//! What a response means: the statuses of RFC 9110 by default, a provider's own habits through [`Classify`].

use crate::{Request, Response, parse_retry_after};
use overskill_core::{Effect, Error, ErrorKind, Retry, Timestamp};
use std::fmt;

/// Judges responses where a provider means something else than its status says, such as an error inside a 200.
///
/// A closure `Fn(&Request, &Response, Option<Error>) -> Option<Error>` is one:
///
/// ```
/// use overskill_http::{Error, ErrorKind, Request, Response};
///
/// // Cloudflare throttles with code 971, often inside a 200.
/// let classify = |_: &Request, response: &Response, by_status: Option<Error>| {
///     let throttled = response.text().contains(r#""code":971"#);
///     if throttled { Some(Error::new(ErrorKind::RateLimited, "throttled (971)")) } else { by_status }
/// };
/// # fn takes(_: impl overskill_http::Classify) {} takes(classify);
/// ```
///
/// An error made here should say what the body says, without secrets and tenants' data. [`Client`](crate::Client) adds
/// method, URL, status, tries and the server's request id. A streamed response comes here without its body when its
/// status is a success.
pub trait Classify: Send + Sync + 'static {
    /// What the response means: `None` is success. `by_status` is what [`classify_status`] says.
    fn classify(&self, request: &Request, response: &Response, by_status: Option<Error>) -> Option<Error>;
}

impl<F> Classify for F
where
    F: Fn(&Request, &Response, Option<Error>) -> Option<Error> + Send + Sync + 'static,
{
    fn classify(&self, request: &Request, response: &Response, by_status: Option<Error>) -> Option<Error> {
        self(request, response, by_status)
    }
}

/// Statuses alone decide: the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByStatus;

impl Classify for ByStatus {
    fn classify(&self, _: &Request, _: &Response, by_status: Option<Error>) -> Option<Error> {
        by_status
    }
}

/// What a status means. Below 400 it is success: 304 is an answer, and redirects are the caller's to follow.
///
/// | status | kind | retry | effect |
/// |---|---|---|---|
/// | 401, 407 | `Unauthenticated` | never | none |
/// | 402, 403, 451 | `Denied` | never | none |
/// | 404, 410 | `NotFound` | never | none |
/// | 405, 501, 505 | `Unsupported` | never | none |
/// | 408 | `Timeout` | backoff | none: the server did not get the whole request |
/// | 409, 412, 423 | `Conflict` | never | none |
/// | 413, 414, 431 | `LimitExceeded` | never | none |
/// | 421, 425 | `Unavailable` | backoff | none |
/// | 429 | `RateLimited` | after `Retry-After`, else backoff | none |
/// | other 4xx | `Invalid` | never | none |
/// | other 5xx | `Unavailable` | after `Retry-After`, else backoff | **unknown** |
///
/// 503 is unknown even with `Retry-After`: proxies send both after the server behind them took the request. A provider
/// that documents otherwise is a matter for its [`Classify`].
pub fn classify_status<B>(response: &Response<B>, now: Timestamp) -> Option<Error> {
    let (kind, effect) = match response.status {
        ..400 => return None,
        401 | 407 => (ErrorKind::Unauthenticated, Effect::None),
        402 | 403 | 451 => (ErrorKind::Denied, Effect::None),
        404 | 410 => (ErrorKind::NotFound, Effect::None),
        405 | 501 | 505 => (ErrorKind::Unsupported, Effect::None),
        408 => (ErrorKind::Timeout, Effect::None),
        409 | 412 | 423 => (ErrorKind::Conflict, Effect::None),
        413 | 414 | 431 => (ErrorKind::LimitExceeded, Effect::None),
        421 | 425 => (ErrorKind::Unavailable, Effect::None),
        429 => (ErrorKind::RateLimited, Effect::None),
        400..500 => (ErrorKind::Invalid, Effect::None),
        500.. => (ErrorKind::Unavailable, Effect::Unknown),
    };
    let error = Error::new(kind, format!("the server answered {}", Status(response.status)))
        // An `Invalid` shows its message to anybody; what we sent to a provider is not their mistake.
        .public(public_message(kind))
        .effect_as(effect);
    let wait = response.header("retry-after").and_then(|value| parse_retry_after(value, now));
    Some(match (error.retry(), wait) {
        (Retry::Backoff, Some(wait)) => error.retry_as(Retry::After(wait)),
        _ => error,
    })
}

fn public_message(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Invalid => "The service refused the request.",
        ErrorKind::LimitExceeded => "The request was too large for the service.",
        ErrorKind::Unauthenticated | ErrorKind::Denied => "The service refused our access.",
        ErrorKind::NotFound => "It does not exist, or you may not see it.",
        ErrorKind::Conflict => "It was changed in the meantime, or exists already.",
        ErrorKind::RateLimited => "Too many requests; try again later.",
        ErrorKind::Timeout => "The service did not answer in time.",
        ErrorKind::Unsupported => "The service does not support this.",
        _ => "The service is not available; try again later.",
    }
}

struct Status(u16);

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let reason = reqwest::StatusCode::from_u16(self.0).ok().and_then(|s| s.canonical_reason());
        reason.map_or(Ok(()), |reason| write!(f, " {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp::from_unix_millis(784_111_777_000);

    fn classify(status: u16) -> Option<Error> {
        classify_status(&Response::new(status, ""), NOW)
    }

    #[test]
    fn the_table_holds_for_every_status() {
        assert!((100..400).all(|status| classify(status).is_none()));
        for status in 400..=999 {
            let e = classify(status).unwrap();
            let unknown = status >= 500 && !matches!(status, 501 | 505);
            assert_eq!(e.effect() == Effect::Unknown, unknown, "{status}");
            let again = matches!(status, 408 | 421 | 425 | 429) || unknown;
            assert_eq!(e.retry() != Retry::Never, again, "{status}");
            assert!(e.message().contains(&status.to_string()));
        }
        for (status, kind) in [
            (400, ErrorKind::Invalid),
            (401, ErrorKind::Unauthenticated),
            (403, ErrorKind::Denied),
            (404, ErrorKind::NotFound),
            (409, ErrorKind::Conflict),
            (413, ErrorKind::LimitExceeded),
            (418, ErrorKind::Invalid),
            (422, ErrorKind::Invalid),
            (429, ErrorKind::RateLimited),
            (500, ErrorKind::Unavailable),
            (522, ErrorKind::Unavailable),
        ] {
            assert_eq!(classify(status).unwrap().kind(), kind, "{status}");
        }
    }

    #[test]
    fn retry_after_counts_where_trying_again_can_help() {
        for (status, value, retry) in [
            (429, "7", Retry::After(Duration::from_secs(7))),
            (503, "Sun, 06 Nov 1994 08:49:47 GMT", Retry::After(Duration::from_secs(10))),
            (503, "soon", Retry::Backoff),
            (403, "7", Retry::Never),
        ] {
            let response = Response::new(status, "");
            let response = response.with_header("retry-after", value).unwrap();
            assert_eq!(classify_status(&response, NOW).unwrap().retry(), retry, "{status} {value}");
        }
    }

    #[test]
    fn the_public_never_sees_what_the_server_said() {
        for status in 400..600 {
            let e = classify(status).unwrap();
            assert!(!e.public_message().contains(&status.to_string()), "{status}");
        }
    }
}
