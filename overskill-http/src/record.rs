//! A transport that remembers what went through it, without secrets.

use crate::{Body, Headers, Method, Request, Response, Transport, Url};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use overskill_core::{ErrorKind, Result, Secret};
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard},
};

/// Wraps a transport and keeps what was asked and answered, for tests and for finding faults. Clones share what is kept.
///
/// Header fields that may be secret, query values and, in JSON bodies, everything under a telling name (`password`,
/// `token`, `text` of a `secret_text` binding and so on) become `…`. [`hide`](Recording::hide) adds values that are
/// looked for everywhere. Still: **a recording is for developers**, since nobody knows all that is secret.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use overskill_http::{Client, Credential, Recording, Request, Response, transport_fn};
///
/// let recording = Recording::new(transport_fn(|_: Request| async { Ok(Response::new(204, "")) }));
/// let client = Client::builder("demo", "https://api.example.com")
///     .credential(Credential::bearer("hunter2"))
///     .transport(recording.clone())
///     .build()?;
/// client.delete("things/7?key=hunter2").send().await?;
///
/// let seen = recording.requests();
/// assert_eq!(seen[0].to_string(), "DELETE https://api.example.com/things/7?key=… -> 204");
/// assert!(!format!("{seen:?}").contains("hunter2"));
/// # Ok::<(), overskill_http::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Recording {
    inner: Arc<dyn Transport>,
    kept: Arc<Mutex<Kept>>,
}

/// One request and what came of it. What may be secret is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recorded {
    /// The method.
    pub method: Method,
    /// The URL, whose query has names but no values.
    pub url: String,
    /// The header fields, as their `Debug` shows them.
    pub headers: Vec<(String, String)>,
    /// The body's text; what is not UTF-8 is replaced. At most 64 KiB are kept.
    pub body: String,
    /// What came back; `None` while nothing has, and when the call was dropped.
    pub answer: Option<Answer>,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A response.
    Response {
        /// Its status.
        status: u16,
        /// Its header fields, as their `Debug` shows them.
        headers: Vec<(String, String)>,
        /// As much of its body as was read, at most 64 KiB.
        body: String,
    },
    /// No response.
    Failed(ErrorKind),
}

#[derive(Default)]
struct Kept {
    entries: Vec<Entry>,
    /// How many of the oldest were dropped.
    dropped: usize,
    hidden: Vec<Secret>,
}

struct Entry {
    method: Method,
    url: Url,
    headers: Headers,
    body: Bytes,
    answer: Option<Result<Seen, ErrorKind>>,
}

struct Seen {
    status: u16,
    headers: Headers,
    body: Vec<u8>,
}

impl Recording {
    /// How many requests are kept; older ones are dropped.
    pub const MAX_ENTRIES: usize = 1_000;
    /// How much of a body is kept.
    pub const MAX_BODY_BYTES: usize = 64 * 1024;

    /// Records what goes through `inner`.
    pub fn new(inner: impl Transport) -> Self {
        Self { inner: Arc::new(inner), kept: Arc::default() }
    }

    /// Shows `…` wherever this text stands. Texts of less than 4 bytes would hide too much and are ignored.
    pub fn hide(self, secret: Secret) -> Self {
        if secret.expose().len() >= 4 {
            self.lock().hidden.push(secret);
        }
        self
    }

    /// What went through, oldest first.
    pub fn requests(&self) -> Vec<Recorded> {
        let kept = self.lock();
        kept.entries.iter().map(|entry| entry.redacted(&kept.hidden)).collect()
    }

    /// Forgets what went through.
    pub fn clear(&self) {
        let mut kept = self.lock();
        kept.dropped += kept.entries.len();
        kept.entries.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("no holder of the recording panics")
    }

    fn begin(&self, request: &Request) -> usize {
        let mut kept = self.lock();
        if kept.entries.len() >= Self::MAX_ENTRIES {
            kept.entries.remove(0);
            kept.dropped += 1;
        }
        let shown = request.body.len().min(Self::MAX_BODY_BYTES);
        kept.entries.push(Entry {
            method: request.method,
            url: request.url.clone(),
            headers: request.headers.clone(),
            body: request.body.slice(..shown),
            answer: None,
        });
        kept.dropped + kept.entries.len() - 1
    }

    fn entry(&self, id: usize, change: impl FnOnce(&mut Entry)) {
        let mut kept = self.lock();
        let index = id.checked_sub(kept.dropped);
        if let Some(entry) = index.and_then(|i| kept.entries.get_mut(i)) {
            change(entry);
        }
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Transport for Recording {
    async fn send(&self, request: Request) -> Result<Response<Body>> {
        let id = self.begin(&request);
        match self.inner.send(request).await {
            Ok(response) => {
                let head = Seen { status: response.status, headers: response.headers.clone(), body: Vec::new() };
                self.entry(id, |entry| entry.answer = Some(Ok(head)));
                let recording = self.clone();
                Ok(response.map(|body| {
                    Body::stream(body.inspect(move |part| {
                        let Ok(part) = part else { return };
                        recording.entry(id, |entry| entry.read(part));
                    }))
                }))
            }
            Err(e) => {
                self.entry(id, |entry| entry.answer = Some(Err(e.kind())));
                Err(e)
            }
        }
    }
}

impl Entry {
    fn read(&mut self, part: &[u8]) {
        if let Some(Ok(Seen { body, .. })) = &mut self.answer {
            let room = Recording::MAX_BODY_BYTES.saturating_sub(body.len());
            body.extend_from_slice(&part[..part.len().min(room)]);
        }
    }

    fn redacted(&self, hidden: &[Secret]) -> Recorded {
        let hide = |text: String| hidden.iter().fold(text, |text, secret| text.replace(secret.expose(), "…"));
        let fields = |headers: &Headers| -> Vec<_> {
            let pairs = headers.redacted();
            pairs.map(|(n, v)| (n.to_owned(), hide(v.to_owned()))).collect()
        };
        let mut url = self.url.to_string();
        if self.url.query().is_some() {
            url.truncate(url.len() - "…".len());
            let names: Vec<_> = self.url.query_pairs().map(|(name, _)| format!("{name}=…")).collect();
            url.push_str(&names.join("&"));
        }
        Recorded {
            method: self.method,
            url: hide(url),
            headers: fields(&self.headers),
            body: hide(redacted_body(&self.body)),
            answer: self.answer.as_ref().map(|answer| match answer {
                Ok(Seen { status, headers, body }) => {
                    Answer::Response { status: *status, headers: fields(headers), body: hide(redacted_body(body)) }
                }
                Err(kind) => Answer::Failed(*kind),
            }),
        }
    }
}

impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} -> ", self.method, self.url)?;
        match &self.answer {
            Some(Answer::Response { status, .. }) => write!(f, "{status}"),
            Some(Answer::Failed(kind)) => write!(f, "{kind}"),
            None => f.write_str("nothing"),
        }
    }
}

fn redacted_body(body: &[u8]) -> String {
    match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(mut json) => {
            redact_json(&mut json);
            json.to_string()
        }
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    }
}

fn redact_json(json: &mut serde_json::Value) {
    use serde_json::Value;
    const TELLING: [&str; 12] = [
        "auth",
        "cookie",
        "credential",
        "encrypted",
        "jwt",
        "key",
        "pass",
        "private",
        "pwd",
        "secret",
        "signature",
        "token",
    ];
    match json {
        Value::Array(items) => items.iter_mut().for_each(redact_json),
        Value::Object(fields) => {
            let is_secret_binding = fields.get("type").and_then(Value::as_str).is_some_and(|t| t.starts_with("secret"));
            for (name, value) in fields {
                let name = name.to_ascii_lowercase();
                let telling = TELLING.iter().any(|t| name.contains(t));
                if telling || is_secret_binding && matches!(name.as_str(), "text" | "value") {
                    *value = Value::from("…");
                } else {
                    redact_json(value);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{not_sent, transport_fn};

    fn request(body: &'static str) -> Request {
        let url = Url::parse("https://x.test/a?k=hunter2").unwrap();
        Request::new(Method::Post, url).with_body(body)
    }

    #[tokio::test]
    async fn nothing_secret_is_kept() {
        let answer = |_| async { Response::from_json(200, &serde_json::json!({"access_token": "hunter2", "n": 1})) };
        let recording = Recording::new(transport_fn(answer)).hide("hunter3".into());
        let body = r#"{"bindings":[{"type":"secret_text","name":"A","text":"hunter2"}],"note":"hunter3!"}"#;
        let response = recording.send(request(body)).await.unwrap();
        assert!(response.collect(1000).await.unwrap().text().contains("hunter2"));
        let seen = recording.requests().remove(0);
        assert!(!format!("{seen:?}").contains("hunter"), "{seen:?}");
        assert!(seen.body.contains(r#""name":"A""#), "{}", seen.body);
        assert!(seen.body.contains(r#""note":"…!""#), "{}", seen.body);
        assert_eq!(seen.to_string(), "POST https://x.test/a?k=… -> 200");
    }

    #[tokio::test]
    async fn failures_are_kept_and_the_oldest_are_dropped() {
        let recording = Recording::new(transport_fn(|_| async { Err::<Response, _>(not_sent("x")) }));
        for _ in 0..Recording::MAX_ENTRIES + 3 {
            recording.send(request("plain")).await.unwrap_err();
        }
        let seen = recording.requests();
        assert_eq!(seen.len(), Recording::MAX_ENTRIES);
        assert_eq!(seen[0].answer, Some(Answer::Failed(ErrorKind::Unavailable)));
        assert_eq!(seen[0].body, "plain");
        recording.clear();
        assert!(recording.requests().is_empty());
    }
}
