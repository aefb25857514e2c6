//! What goes over the wire: the call as the handlers see it, the provider's envelope, and its refusals.

use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use overskill_core::Timestamp;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// One call of the API.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) method: &'a Method,
    pub(super) headers: &'a HeaderMap,
    pub(super) query: Vec<(String, String)>,
    pub(super) body: &'a Bytes,
    pub(super) now: Timestamp,
}

impl<'a> Call<'a> {
    pub(super) fn new(request: &'a http::Request<Bytes>, now: Timestamp) -> Self {
        let query = request.uri().query().unwrap_or_default();
        Self {
            method: request.method(),
            headers: request.headers(),
            query: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            body: request.body(),
            now,
        }
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default()
    }

    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A number of the query, within bounds.
    pub(super) fn number(&self, name: &str, default: usize, from: usize, to: usize) -> Result<usize, Refusal> {
        let Some(text) = self.query(name) else { return Ok(default) };
        let number = text.parse().ok().filter(|it| (from..=to).contains(it));
        number.ok_or_else(|| Refusal::new(400, 10_026, format!("{name} must be {from} to {to}, but was {text:?}")))
    }

    /// The body as JSON; `code` is the one for a body that is not.
    pub(super) fn json<T: DeserializeOwned>(&self, code: u32) -> Result<T, Refusal> {
        serde_json::from_slice(self.body)
            .map_err(|e| Refusal::new(400, code, format!("could not parse the request body: {e}")))
    }
}

/// The segments of a path, decoded one by one: a key may hold `%2F`.
pub(super) fn segments(path: &str) -> Vec<String> {
    let segments = path.split('/').filter(|it| !it.is_empty());
    segments.map(|it| percent_decode_str(it).decode_utf8_lossy().into_owned()).collect()
}

pub(super) type Reply = Response<Bytes>;
pub(super) type Outcome = Result<Reply, Refusal>;

/// The provider says no.
///
/// Where its codes are known from (looked up on 2026-11-22):
///
/// | codes | from |
/// |---|---|
/// | 971, 6003, 7003, 9106, 10000, 10001, 10007, 10009, 10013, 10014, 10019, 10029, 10034, 10041, 10061, 10074, 10085, 10092, 100114, 100119, 100120 | the error map of npm `@distilled.cloud/cloudflare` 0.30 |
/// | 10021, 10027 (`workers.api.error.script_too_large`), 10063, 10090 | the source of wrangler |
/// | 10012 for too many pairs | cloudflare-go#1324 |
/// | 10020, 10022, 10053, 10056, 10057, 10072, 10079, 10100, 81044, 81058 | answers that people quote with their text |
/// | 1406 to 1411, 1436 | developers.cloudflare.com: *Status codes – Custom hostnames* |
/// | 10004, 10006, 10008 of R2 | wrangler's output; alchemy-run/distilled#462 saw the last without a code |
/// | 9005, 9207 of DNS; 1410 and 1456 of fallback origins; 10005 of R2; 10016, 10025, 10026, 10028, 10030, 10031, 10033; 10027 of KV | nowhere: the status is what the documentation says, the code is a guess |
///
/// Nobody should go by the last row, and `overskill-cloudflare` goes by the status there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: u32,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(status: u16, code: u32, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub(super) fn no_route(path: &str) -> Self {
        let message = format!("Could not route to {path}, perhaps your object identifier is invalid?");
        Self::new(404, 7003, message)
    }

    pub(super) fn into_reply(self) -> Reply {
        let error = json!({ "code": self.code, "message": self.message });
        let envelope = json!({ "success": false, "errors": [error], "messages": [], "result": null });
        json_reply(self.status, &envelope)
    }
}

pub(super) fn ok(result: impl Into<Value>) -> Outcome {
    ok_with(result, Value::Null)
}

/// The envelope with `result_info`, unless that is null.
#[expect(clippy::unnecessary_wraps, reason = "the end of every handler")]
pub(super) fn ok_with(result: impl Into<Value>, info: Value) -> Outcome {
    let mut envelope = json!({ "success": true, "errors": [], "messages": [], "result": result.into() });
    if !info.is_null() {
        envelope["result_info"] = info;
    }
    Ok(json_reply(200, &envelope))
}

/// The same answer under another status.
pub(super) fn with_status(status: u16, outcome: Outcome) -> Outcome {
    outcome.map(|mut reply| {
        *reply.status_mut() = http::StatusCode::from_u16(status).expect("the statuses here are valid");
        reply
    })
}

pub(super) fn json_reply(status: u16, value: &Value) -> Reply {
    reply(status, "application/json", value.to_string())
}

pub(super) fn reply(status: u16, content_type: &str, body: impl Into<Bytes>) -> Reply {
    let builder = Response::builder().status(status);
    let builder = if content_type.is_empty() { builder } else { builder.header("content-type", content_type) };
    builder.body(body.into()).expect("statuses and content types here are valid")
}

/// A page of a list that is counted in pages.
pub(super) fn paged(call: &Call<'_>, items: Vec<Value>) -> Outcome {
    let page = call.number("page", 1, 1, usize::MAX)?;
    let per_page = call.number("per_page", 20, 1, 1000)?;
    let total = items.len();
    let start = (page - 1).saturating_mul(per_page);
    let page_of: Vec<_> = items.into_iter().skip(start).take(per_page).collect();
    let info = json!({
        "page": page, "per_page": per_page, "count": page_of.len(), "total_count": total,
        "total_pages": total.div_ceil(per_page),
    });
    ok_with(page_of, info)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_may_hold_an_encoded_slash() {
        assert_eq!(segments("/a/values/x%2Fy%20z"), ["a", "values", "x/y z"]);
    }

    #[test]
    fn a_refusal_has_the_providers_envelope() {
        let reply = Refusal::new(404, 10007, "gone").into_reply();
        let body: Value = serde_json::from_slice(reply.body()).unwrap();
        assert_eq!((reply.status().as_u16(), &body["errors"][0]["code"]), (404, &json!(10007)));
        assert_eq!((&body["success"], &body["result"]), (&json!(false), &Value::Null));
    }
}
