//! What Cloudflare's answers mean: its codes say more than its statuses, and some errors come with status 200.

use overskill_core::{Effect, Error, ErrorKind, Retry};
use overskill_http::{Classify, Request, Response};
use serde::Deserialize;
use std::time::Duration;

/// Judges by the code of the first error in the envelope.
///
/// | code | kind | retry | effect |
/// |---|---|---|---|
/// | 971, 10000 "rate limit" | `RateLimited` | after what the header fields say, else backoff | none |
/// | 6003, 9103, 9106, 9109, 10000; 1000 with 401 | `Unauthenticated` | never | none |
/// | 10001 "not allowed" | `Denied` | never | none |
/// | 10001, 1000 | `Unavailable` | backoff | **unknown** |
/// | 10006, 10007, 10092, 100119, 10009, 10013 | `NotFound` | never | none |
/// | 100120, 10014, 10074 | `Conflict` | never | none |
/// | 1404, 1405, 10027, 100160 | `LimitExceeded` | never | none |
/// | 7000, 7003, 10012, 10019, 10021, 10029, 10034, and bindings that lead nowhere | `Invalid` | never | none |
/// | another, in a 200 | `Unexpected` | never | **unknown** |
///
/// What has no code, and what has one that is not here, is judged by its status. Codes are here only if the provider was seen
/// to answer with them: in its documentation, in its clients' sources, or in answers that people quote with their text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CloudflareErrors;

/// The provider's code of an error, if it had one.
pub(crate) fn code(e: &Error) -> Option<u32> {
    e.context().find(|(key, _)| *key == CODE).and_then(|(_, code)| code.parse().ok())
}

const CODE: &str = "code";
/// Longest text of the provider that an error repeats.
const MAX_MESSAGE_CHARS: usize = 200;

#[derive(Debug, Deserialize)]
struct Failed {
    #[serde(default)]
    success: Option<bool>,
    #[serde(default)]
    errors: Vec<Fault>,
}

#[derive(Debug, Deserialize)]
struct Fault {
    code: u32,
    #[serde(default)]
    message: String,
}

impl Classify for CloudflareErrors {
    fn classify(&self, request: &Request, response: &Response, by_status: Option<Error>) -> Option<Error> {
        let wait = reset_after(response);
        let Some(fault) = fault(request, response, by_status.is_some()) else {
            return by_status.map(|e| patient(e, wait));
        };
        let shown: String = fault.message.chars().take(MAX_MESSAGE_CHARS).filter(|c| !c.is_control()).collect();
        let says = fault.message.to_ascii_lowercase();
        let judged = |kind, what: &str| {
            let e = Error::new(kind, format!("{what} ({}: {shown})", fault.code));
            // Only what reads as malformed would show its message to anybody.
            e.public("The service refused the request.").effect_as(Effect::None)
        };
        let e = match fault.code {
            971 => judged(ErrorKind::RateLimited, "throttled"),
            10_000 if says.contains("rate limit") => judged(ErrorKind::RateLimited, "throttled"),
            6_003 | 9_103 | 9_106 | 9_109 | 10_000 => {
                judged(ErrorKind::Unauthenticated, "the API token is wrong, expired, or not for this account")
            }
            10_001 if says.contains("not allowed") => judged(ErrorKind::Denied, "the API token lacks a permission"),
            // "Unable to extract bearer token", of custom hostnames.
            1_000 if response.status == 401 => judged(ErrorKind::Unauthenticated, "the API token was not understood"),
            1_000 | 10_001 => judged(ErrorKind::Unavailable, "a fault of the API").effect_as(Effect::Unknown),
            100_119 => judged(ErrorKind::NotFound, "the dispatch namespace is missing"),
            10_007 | 10_092 => judged(ErrorKind::NotFound, "the script is missing"),
            10_009 => judged(ErrorKind::NotFound, "the key is missing"),
            10_013 => judged(ErrorKind::NotFound, "the KV namespace is missing"),
            100_120 => judged(ErrorKind::Conflict, "the dispatch namespace exists already"),
            10_014 => judged(ErrorKind::Conflict, "the KV namespace exists already"),
            10_074 => judged(ErrorKind::Conflict, "the Durable Object class exists already"),
            // It comes with another status than 404 at times (alchemy-run/alchemy-async#849).
            10_006 => judged(ErrorKind::NotFound, "the R2 bucket is missing"),
            10_027 => judged(ErrorKind::LimitExceeded, "what was uploaded is too large"),
            100_160 => judged(ErrorKind::LimitExceeded, "too many secrets in one request"),
            1_404 | 1_405 => judged(ErrorKind::LimitExceeded, "the zone has as many custom hostnames as it may"),
            7_000 | 7_003 => judged(ErrorKind::Invalid, "the API knows no such path: is the account's id right?"),
            10_041 | 10_061 | 10_085 | 10_144 | 10_157 | 10_159 | 10_181 | 10_182 | 100_143 | 11_000 => {
                judged(ErrorKind::Invalid, "a binding leads to something that is not there")
            }
            10_012 | 10_019 | 10_021 | 10_029 | 10_034 => judged(ErrorKind::Invalid, "the request was refused"),
            _ => match by_status {
                // The status knows the kind, the envelope knows why.
                Some(e) => {
                    let named = Error::new(e.kind(), format!("{} ({}: {shown})", e.message(), fault.code));
                    named.public(e.public_message().to_owned()).retry_as(e.retry()).effect_as(e.effect())
                }
                None => Error::new(ErrorKind::Unexpected, format!("the API failed ({}: {shown})", fault.code)),
            },
        };
        Some(patient(e, wait).with(CODE, fault.code))
    }
}

/// The first error of the envelope, if the answer is a failure.
fn fault(request: &Request, response: &Response, failed: bool) -> Option<Fault> {
    // A value in KV is whatever somebody stored; only an answer of the API itself is JSON there.
    let is_json = response.header("content-type").is_some_and(|value| value.starts_with("application/json"));
    if !failed && !is_json && request.url.path().contains("/values/") {
        return None;
    }
    // Most answers are large and fine: an error's body begins early with what makes it one.
    let body: Failed = if response.body.len() > MAX_ERROR_BYTES { return None } else { parse(response)? };
    if !failed && body.success != Some(false) {
        return None;
    }
    body.errors.into_iter().next()
}

/// Longer bodies are no errors.
const MAX_ERROR_BYTES: usize = 64 * 1024;

fn parse(response: &Response) -> Option<Failed> {
    serde_json::from_slice(&response.body).ok()
}

/// Waits as long as the header fields say, when the answer asks to slow down and says nothing better.
fn patient(e: Error, wait: Option<Duration>) -> Error {
    match (e.kind(), e.retry(), wait) {
        (ErrorKind::RateLimited, Retry::Backoff, Some(wait)) => e.retry_as(Retry::After(wait)),
        _ => e,
    }
}

/// `Retry-After`, or when the quota is new again: `x-ratelimit-reset: 30`, or `t=30` in `ratelimit`. In seconds.
fn reset_after(response: &Response) -> Option<Duration> {
    /// A longer wait is a mistake, or a point in time instead of a duration.
    const MAX_SECONDS: u64 = 3_600;
    let listed = response
        .header("ratelimit")
        .and_then(|value| value.split([';', ',']).find_map(|part| part.trim().strip_prefix("t=")));
    let given = ["retry-after", "x-ratelimit-reset"].into_iter().find_map(|name| response.header(name));
    let seconds: u64 = given.or(listed)?.trim().parse().ok()?;
    (seconds <= MAX_SECONDS).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use overskill_core::Timestamp;
    use overskill_http::{Method, Url, classify_status};

    fn judge(status: u16, body: &str, fields: &[(&str, &str)]) -> Option<Error> {
        let url = Url::parse("https://api.example.com/client/v4/accounts/a/workers").unwrap();
        let mut response = Response::new(status, body.to_owned());
        for (name, value) in fields {
            response = response.with_header(name, value).unwrap();
        }
        let by_status = classify_status(&response, Timestamp::EPOCH);
        CloudflareErrors.classify(&Request::new(Method::Put, url), &response, by_status)
    }

    fn failure(code: u32, message: &str) -> String {
        serde_json::json!({"success": false, "errors": [{"code": code, "message": message}], "result": null})
            .to_string()
    }

    #[test]
    fn codes_win_over_statuses() {
        use ErrorKind::{
            Conflict, Denied, Invalid, LimitExceeded, NotFound, RateLimited, Unauthenticated, Unavailable,
        };
        for (status, code, message, kind) in [
            (200, 971, "Please wait", RateLimited),
            (400, 10_000, "Rate limited. Please wait", RateLimited),
            (403, 10_000, "Authentication error", Unauthenticated),
            (400, 9_109, "Invalid access token", Unauthenticated),
            (400, 10_001, "Method not allowed for token", Denied),
            (400, 10_001, "An internal error", Unavailable),
            (500, 1_000, "timeout", Unavailable),
            (401, 1_000, "Unable to extract bearer token", Unauthenticated),
            (400, 10_006, "The specified bucket does not exist.", NotFound),
            (403, 1_405, "Quota exceeded", LimitExceeded),
            (404, 100_119, "namespace not found", NotFound),
            (400, 10_007, "This Worker does not exist", NotFound),
            (404, 10_092, "missing", NotFound),
            (409, 100_120, "exists", Conflict),
            (400, 10_014, "title exists", Conflict),
            (413, 10_027, "too large", LimitExceeded),
            (404, 7_003, "Could not route", Invalid),
            (400, 10_041, "KV namespace not found", Invalid),
        ] {
            let e = judge(status, &failure(code, message), &[]).unwrap();
            assert_eq!(e.kind(), kind, "{status} {code}");
            assert_eq!(super::code(&e), Some(code));
            assert_eq!(e.effect() == Effect::Unknown, kind == Unavailable, "{status} {code}");
        }
    }

    #[test]
    fn what_has_no_known_code_is_judged_by_its_status() {
        assert_eq!(judge(418, &failure(4_711, "what"), &[]).unwrap().kind(), ErrorKind::Invalid);
        // R2 refuses to remove a bucket that holds objects without a code, some have seen.
        let full = r#"{"success":false,"errors":[{"message":"The bucket you tried to delete (b) is not empty (account a)."}]}"#;
        assert_eq!(judge(409, full, &[]).unwrap().kind(), ErrorKind::Conflict);
        let e = judge(522, "<html>", &[]).unwrap();
        assert_eq!((e.kind(), e.effect()), (ErrorKind::Unavailable, Effect::Unknown));
        let e = judge(200, &failure(4_711, "what"), &[]).unwrap();
        assert_eq!((e.kind(), e.effect()), (ErrorKind::Unexpected, Effect::Unknown));
        assert!(judge(200, r#"{"success":true,"errors":[],"result":{}}"#, &[]).is_none());
        assert!(judge(200, "", &[]).is_none());
    }

    #[test]
    fn a_bare_429_waits_as_long_as_any_field_says() {
        for (fields, retry) in [
            (&[("retry-after", "7")][..], Retry::After(Duration::from_secs(7))),
            (&[("x-ratelimit-reset", "30")], Retry::After(Duration::from_secs(30))),
            (&[("ratelimit", "\"default\";r=0;t=12")], Retry::After(Duration::from_secs(12))),
            (&[("x-ratelimit-reset", "1794000000")], Retry::Backoff),
            (&[], Retry::Backoff),
        ] {
            let e = judge(429, "null", fields).unwrap();
            assert_eq!((e.kind(), e.retry(), e.effect()), (ErrorKind::RateLimited, retry, Effect::None));
        }
    }

    #[test]
    fn a_stored_value_that_looks_like_a_failure_is_a_value() {
        let url = Url::parse("https://api.example.com/client/v4/accounts/a/storage/kv/namespaces/n/values/k").unwrap();
        let request = Request::new(Method::Get, url);
        let stored = Response::new(200, failure(971, "stored"));
        assert!(CloudflareErrors.classify(&request, &stored, None).is_none());
        let said = stored.with_header("content-type", "application/json").unwrap();
        assert!(CloudflareErrors.classify(&request, &said, None).is_some());
    }

    #[test]
    fn the_public_never_sees_what_the_provider_said() {
        let e = judge(400, &failure(10_021, "hunter2"), &[]).unwrap();
        assert!(!e.public_message().contains("hunter2"));
    }
}
