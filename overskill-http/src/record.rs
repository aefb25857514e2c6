//! A transport that remembers what went through it, without secrets.

mod redact;

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
/// Header fields that may be secret and query values become `…`. Of bodies, only JSON is shown, and only if it could be
/// kept whole; in it, what stands under a telling name (`password`, `token`), the values of bindings and variables
/// (`text`, `value`, `env`), URLs with passwords or queries, and values without a name become `…`. Forms show the names
/// of their fields; all else shows its size: `… (512 bytes)`. [`hide`](Recording::hide) adds values that are looked for
/// everywhere. Still: **a recording is for developers**, since nobody knows all that is secret.
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
    /// The URL, whose query has names but no values; what has no value shows no name either.
    pub url: String,
    /// The header fields, as their `Debug` shows them.
    pub headers: Vec<(String, String)>,
    /// What may be shown of the body: JSON of at most 64 KiB without what may be secret, a form's names, else its size.
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
        /// What may be shown of its body, as far as it was read.
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
    body_bytes: usize,
    answer: Option<Result<Seen, ErrorKind>>,
}

struct Seen {
    status: u16,
    headers: Headers,
    body: Vec<u8>,
    body_bytes: usize,
}

impl Recording {
    /// How many requests are kept; older ones are dropped.
    pub const MAX_ENTRIES: usize = 1_000;
    /// How much of a body is kept. Longer ones show their size.
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
            body_bytes: request.body.len(),
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
                let headers = response.headers.clone();
                let head = Seen { status: response.status, headers, body: Vec::new(), body_bytes: 0 };
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
        if let Some(Ok(Seen { body, body_bytes, .. })) = &mut self.answer {
            *body_bytes += part.len();
            let room = Recording::MAX_BODY_BYTES.saturating_sub(body.len());
            body.extend_from_slice(&part[..part.len().min(room)]);
        }
    }

    fn redacted(&self, hidden: &[Secret]) -> Recorded {
        let hide = |text: String| {
            hidden.iter().fold(text, |text, secret| {
                let in_json = serde_json::Value::from(secret.expose()).to_string();
                let in_json = &in_json[1..in_json.len() - 1]; // without its quotes
                text.replace(secret.expose(), "…").replace(in_json, "…")
            })
        };
        let fields = |headers: &Headers| -> Vec<_> {
            let pairs = headers.redacted();
            pairs.map(|(n, v)| (n.to_owned(), hide(v.to_owned()))).collect()
        };
        let mut url = self.url.to_string();
        if let Some(query) = self.url.query() {
            url.truncate(url.len() - "…".len());
            url.push_str(&redact::pairs(query));
        }
        Recorded {
            method: self.method,
            url: hide(url),
            headers: fields(&self.headers),
            body: hide(redact::body(&self.headers, &self.body, self.body_bytes)),
            answer: self.answer.as_ref().map(|answer| match answer {
                Ok(Seen { status, headers, body, body_bytes }) => Answer::Response {
                    status: *status,
                    headers: fields(headers),
                    body: hide(redact::body(headers, body, *body_bytes)),
                },
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Multipart, not_sent, transport_fn};
    use overskill_core::SeededIds;

    const FORM: &str = "application/x-www-form-urlencoded";

    fn request(body: impl Into<Bytes>) -> Request {
        let url = Url::parse("https://x.test/a?k=hunter2").unwrap();
        Request::new(Method::Post, url).with_body(body)
    }

    /// What a recording shows of a body, which is the same whichever way it went.
    async fn shown(content_type: &str, body: impl Into<Bytes>) -> String {
        let body = body.into();
        let answer = Response::new(200, body.clone()).with_header("content-type", content_type).unwrap();
        let recording = Recording::new(transport_fn(move |_| std::future::ready(Ok(answer.clone()))));
        let mut request = request(body);
        request.headers.set("content-type", content_type).unwrap();
        let response = recording.send(request).await.unwrap();
        response.collect(usize::MAX).await.unwrap();
        let seen = recording.requests().remove(0);
        let Some(Answer::Response { body, .. }) = seen.answer else { panic!("{seen:?}") };
        assert_eq!(seen.body, body);
        body
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
    async fn json_that_is_too_long_to_keep_is_not_shown() {
        let pad = "x".repeat(Recording::MAX_BODY_BYTES);
        let body = format!(r#"{{"token":"hunter2","pad":"{pad}"}}"#);
        let bytes = body.len();
        assert_eq!(shown("application/json", body).await, format!("… ({bytes} bytes)"));
    }

    #[tokio::test]
    async fn only_whole_json_is_shown() {
        for body in ["hunter2", "\"hunter2\"", "482913", r#"{"a":"hunter2""#, r#"{"a":1} hunter2"#, "\u{0}hunter2"] {
            let want = format!("… ({} bytes)", body.len());
            assert_eq!(shown("text/plain", body).await, want);
            assert_eq!(shown("application/json", body).await, want);
            assert!(!shown(FORM, body).await.contains("hunter2"), "{body}");
            assert!(!shown("multipart/form-data; boundary=b", body).await.contains("hunter2"), "{body}");
        }
        assert_eq!(shown("text/plain", "").await, "");
    }

    #[tokio::test]
    async fn of_forms_only_names_are_shown() {
        let form = "grant_type=client_credentials&client_secret=hunter2&hunter2&aHVudGVyMg==&{\"a\":\"hunter2=x\"";
        assert_eq!(shown(FORM, form).await, "grant_type=…&client_secret=…&…&…&…");
        let metadata = r#"{"bindings":[{"type":"secret_text","name":"A","text":"hunter2"}]}"#;
        let form = || {
            let form = Multipart::new(&SeededIds::new(1)).text("metadata", "application/json", metadata).unwrap();
            form.file("worker.js", "hunter2.js", "text/javascript", "const KEY = 'hunter2'").unwrap()
        };
        assert_eq!(shown(&form().content_type(), form().into_body()).await, "metadata=…&worker.js=…");
        let long = form().file("more", "m", "text/plain", vec![b'x'; Recording::MAX_BODY_BYTES]).unwrap();
        let long = long.file("beyond", "b", "text/plain", "").unwrap();
        assert_eq!(shown(&long.content_type(), long.into_body()).await, "metadata=…&worker.js=…&more=…");
    }

    #[tokio::test]
    async fn a_query_shows_names_that_have_values() {
        for (query, want) in [
            ("hunter2", "…"),
            ("hunter2&k=v", "…&k=…"),
            ("aHVudGVyMg==", "…"),
            ("a[0]=b&c=d=e", "a[0]=…&c=…"),
            ("", ""),
        ] {
            let recording = Recording::new(transport_fn(|_| async { Err::<Response, _>(not_sent("x")) }));
            let url = Url::parse(&format!("https://x.test/a?{query}")).unwrap();
            recording.send(Request::new(Method::Get, url)).await.unwrap_err();
            assert_eq!(recording.requests()[0].url, format!("https://x.test/a?{want}"));
        }
    }

    #[tokio::test]
    async fn values_that_may_be_secret_become_dots() {
        for (body, want) in [
            // How Cloudflare, Supabase and Vercel are told of secrets and variables.
            (
                r#"{"name":"A","text":"hunter2","type":"secret_text"}"#,
                r#"{"name":"A","text":"…","type":"secret_text"}"#,
            ),
            (r#"{"format":"raw","name":"A","type":"secret_key"}"#, r#"{"format":"…","name":"A","type":"secret_key"}"#),
            (r#"{"name":"A","text":"hunter2","type":"plain_text"}"#, r#"{"name":"A","text":"…","type":"plain_text"}"#),
            (r#"[{"name":"A","value":"hunter2"}]"#, r#"[{"name":"A","value":"…"}]"#),
            (r#"{"env":{"A":"hunter2","B":["hunter2"]}}"#, r#"{"env":{"A":"…","B":["…"]}}"#),
            // Nothing says what these are.
            (r#"["hunter2",7]"#, r#"["…","…"]"#),
            (r#"{"target":"postgres://me:hunter2@db/x"}"#, r#"{"target":"…"}"#),
            (r#"{"uploadUrl":"https://x.test/a?hunter2"}"#, r#"{"uploadUrl":"…"}"#),
            (r#"{"body":"{\"password\":\"hunter2\"}"}"#, r#"{"body":"…"}"#),
            (r#"{"note":"-----BEGIN hunter2"}"#, r#"{"note":"…"}"#),
            (r#"{"sql":"select ?","params":["hunter2"]}"#, r#"{"params":["…"],"sql":"select ?"}"#),
            // And this is for what one looks into a recording.
            (
                r#"{"ids":[1,"b"],"ok":true,"url":"https://x.test/a"}"#,
                r#"{"ids":[1,"b"],"ok":true,"url":"https://x.test/a"}"#,
            ),
        ] {
            let shown: serde_json::Value = serde_json::from_str(&shown("application/json", body).await).unwrap();
            assert_eq!(shown, serde_json::from_str::<serde_json::Value>(want).unwrap(), "{body}");
        }
    }

    #[tokio::test]
    async fn hidden_texts_are_found_in_json_too() {
        let recording = Recording::new(transport_fn(|_| async { Err::<Response, _>(not_sent("x")) }));
        let recording = recording.hide("hun\"ter\\2".into());
        recording.send(request(r#"{"note":"it is hun\"ter\\2"}"#)).await.unwrap_err();
        assert_eq!(recording.requests()[0].body, r#"{"note":"it is …"}"#);
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
        assert_eq!(seen[0].body, "… (5 bytes)");
        recording.clear();
        assert!(recording.requests().is_empty());
    }
}
