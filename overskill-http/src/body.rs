//! A response body that is read as it comes.

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _, stream::BoxStream};
use overskill_core::{Clock, Effect, Error, ErrorKind, Result, Retry};
use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

/// A body that is still to be read: a [`Stream`] of its parts. After an error or its end it yields nothing more.
///
/// [`lines`](Body::lines) reads NDJSON and logs, [`events`](Body::events) reads server-sent events.
pub struct Body(Inner);

enum Inner {
    Whole(Option<Bytes>),
    Stream(BoxStream<'static, Result<Bytes>>),
}

impl Body {
    /// From parts.
    pub fn stream(parts: impl Stream<Item = Result<Bytes>> + Send + 'static) -> Self {
        Self(Inner::Stream(parts.boxed()))
    }

    /// Reads to the end, at most `max_bytes`.
    ///
    /// # Errors
    /// `LimitExceeded` when there is more; the effect is unknown, for the server did answer.
    pub async fn collect(self, max_bytes: usize) -> Result<Bytes> {
        let mut rest = self.limit(max_bytes);
        let mut whole = match rest.next().await.transpose()? {
            Some(first) => BytesMut::from(first),
            None => return Ok(Bytes::new()),
        };
        while let Some(part) = rest.next().await.transpose()? {
            whole.extend_from_slice(&part);
        }
        Ok(whole.freeze())
    }

    /// Reads the first `max_bytes` and drops the rest, unread.
    pub(crate) async fn collect_first(mut self, max_bytes: usize) -> Result<Bytes> {
        let mut first = BytesMut::new();
        while first.len() <= max_bytes
            && let Some(part) = self.next().await.transpose()?
        {
            first.extend_from_slice(&part);
        }
        first.truncate(max_bytes);
        Ok(first.freeze())
    }

    /// The same body, which ends in a `LimitExceeded` error once it has yielded `max_bytes` and there is more.
    pub fn limit(self, max_bytes: usize) -> Self {
        let parts = futures::stream::unfold((self, 0_usize, false), move |(mut body, read, over)| async move {
            if over {
                return None;
            }
            let part = body.next().await?;
            let read = read + part.as_ref().map_or(0, Bytes::len);
            if read <= max_bytes {
                return Some((part, (body, read, false)));
            }
            let e = Error::new(ErrorKind::LimitExceeded, format!("response body must be at most {max_bytes} bytes"))
                .effect_as(Effect::Unknown);
            Some((Err(e), (body, read, true)))
        });
        Self::stream(parts)
    }

    /// The same body, which ends in a `Timeout` error when nothing comes for `limit`.
    pub fn idle_timeout(self, clock: Arc<dyn Clock>, limit: Duration) -> Self {
        let parts = futures::stream::unfold(Some((self, clock)), move |state| async move {
            let (mut body, clock) = state?;
            tokio::select! {
                biased;
                part = body.next() => Some((part?, Some((body, clock)))),
                () = clock.sleep(limit) => {
                    let e = Error::new(ErrorKind::Timeout, format!("nothing came for {limit:?}"));
                    Some((Err(e), None))
                }
            }
        });
        Self::stream(parts)
    }

    /// Lines without their `\n` or `\r\n`; the last needs none. What is not UTF-8 is replaced.
    ///
    /// # Errors
    /// An item is `LimitExceeded` when a line is longer than `max_line_bytes`; nothing comes after it.
    pub fn lines(self, max_line_bytes: usize) -> impl Stream<Item = Result<String>> + Send + 'static {
        let state = Lines { body: self, buffer: BytesMut::new(), searched: 0, max_line_bytes, ended: false };
        futures::stream::unfold(state, |mut lines| async move {
            let item = lines.next().await?;
            Some((item, lines))
        })
    }

    /// Server-sent events (WHATWG HTML § 9.2.6). An event that the end cuts short is dropped, as that text asks for.
    ///
    /// # Errors
    /// An item is `LimitExceeded` when an event is longer than `max_event_bytes`; nothing comes after it.
    pub fn events(self, max_event_bytes: usize) -> impl Stream<Item = Result<Event>> + Send + 'static {
        let lines = self.lines(max_event_bytes).boxed();
        let state = (lines, String::new(), true);
        futures::stream::unfold(state, move |(mut lines, mut last_id, mut first)| async move {
            let mut event = Event::default();
            let mut data: Option<String> = None;
            loop {
                let line = match lines.next().await? {
                    Ok(line) => line,
                    Err(e) => {
                        let ended = futures::stream::empty().boxed();
                        return Some((Err(e), (ended, last_id, first)));
                    }
                };
                let line =
                    if std::mem::take(&mut first) { line.strip_prefix('\u{feff}').unwrap_or(&line) } else { &line };
                if line.is_empty() {
                    if let Some(data) = data.take() {
                        event.data = data;
                        event.id.clone_from(&last_id);
                        return Some((Ok(event), (lines, last_id, first)));
                    }
                    event = Event::default();
                    continue;
                }
                let (field, value) = line.split_once(':').unwrap_or((line, ""));
                let value = value.strip_prefix(' ').unwrap_or(value);
                match field {
                    "event" => value.clone_into(&mut event.name),
                    "data" => match &mut data {
                        Some(data) => {
                            data.push('\n');
                            data.push_str(value);
                        }
                        None => data = Some(value.to_owned()),
                    },
                    "id" if !value.contains('\0') => value.clone_into(&mut last_id),
                    _ => {} // comments, `retry`, and what is unknown
                }
                if data.as_ref().map_or(0, String::len) > max_event_bytes {
                    let e = too_long("event", max_event_bytes);
                    return Some((Err(e), (futures::stream::empty().boxed(), last_id, first)));
                }
            }
        })
    }
}

/// A server-sent event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Its type; empty means `message`.
    pub name: String,
    /// Its data; several `data` fields are joined by line ends.
    pub data: String,
    /// The last id that the stream named, to continue from.
    pub id: String,
}

impl<B: Into<Bytes>> From<B> for Body {
    fn from(whole: B) -> Self {
        Self(Inner::Whole(Some(whole.into())))
    }
}

impl Stream for Body {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let part = match &mut self.0 {
            Inner::Whole(whole) => Poll::Ready(whole.take().filter(|b| !b.is_empty()).map(Ok)),
            Inner::Stream(parts) => parts.as_mut().poll_next(cx),
        };
        if matches!(part, Poll::Ready(None | Some(Err(_)))) {
            self.0 = Inner::Whole(None); // nothing comes after an error, and polling again is fine
        }
        part
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::Whole(whole) => write!(f, "Body({} bytes)", whole.as_ref().map_or(0, Bytes::len)),
            Inner::Stream(_) => f.write_str("Body(…)"),
        }
    }
}

struct Lines {
    body: Body,
    buffer: BytesMut,
    /// How much of the buffer is known to hold no line end, so that a long line is not searched again and again.
    searched: usize,
    max_line_bytes: usize,
    ended: bool,
}

impl Lines {
    async fn next(&mut self) -> Option<Result<String>> {
        loop {
            if let Some(at) = self.buffer[self.searched..].iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(self.searched + at + 1);
                self.searched = 0;
                let line = &line[..line.len() - 1];
                if line.len() > self.max_line_bytes {
                    return Some(Err(self.over()));
                }
                return Some(Ok(text(line)));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > self.max_line_bytes {
                return Some(Err(self.over()));
            }
            if self.ended {
                let rest = self.buffer.split();
                self.searched = 0;
                return (!rest.is_empty()).then(|| Ok(text(&rest)));
            }
            match self.body.next().await {
                Some(Ok(part)) => self.buffer.extend_from_slice(&part),
                Some(Err(e)) => {
                    self.stop();
                    return Some(Err(e));
                }
                None => self.ended = true,
            }
        }
    }

    fn over(&mut self) -> Error {
        self.stop();
        too_long("line", self.max_line_bytes)
    }

    fn stop(&mut self) {
        self.ended = true;
        self.body = Body::from(Bytes::new());
        self.buffer.clear();
        self.searched = 0;
    }
}

fn text(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    String::from_utf8_lossy(line).into_owned()
}

fn too_long(what: &str, max_bytes: usize) -> Error {
    Error::new(ErrorKind::LimitExceeded, format!("response {what} must be at most {max_bytes} bytes"))
        .effect_as(Effect::Unknown)
        .retry_as(Retry::Never)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt as _;
    use overskill_core::TestClock;
    use proptest::prelude::*;

    fn chopped(text: &str, every: usize) -> Body {
        let parts: Vec<_> = text.as_bytes().chunks(every.max(1)).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
        Body::stream(futures::stream::iter(parts))
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit() {
        assert_eq!(chopped("abcdef", 4).collect(6).await.unwrap(), "abcdef");
        let e = chopped("abcdefg", 4).collect(6).await.unwrap_err();
        assert_eq!((e.kind(), e.effect()), (ErrorKind::LimitExceeded, Effect::Unknown));
        assert_eq!(Body::from("").collect(0).await.unwrap(), "");
    }

    #[tokio::test]
    async fn nothing_comes_after_an_error() {
        let parts = [Ok(Bytes::from("a")), Err(Error::invalid("x")), Ok("b".into())];
        let body = Body::stream(futures::stream::iter(parts));
        let seen: Vec<_> = body.map(|p| p.is_ok()).collect().await;
        assert_eq!(seen, [true, false]);
    }

    #[tokio::test]
    async fn silence_ends_a_body() {
        let clock = TestClock::new();
        let silent = Body::stream(futures::stream::once(async { Ok("a".into()) }).chain(futures::stream::pending()));
        let body = silent.idle_timeout(Arc::new(clock.clone()), Duration::from_secs(30));
        let e = clock.drive(body.collect(100)).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Timeout);
        assert_eq!(clock.monotonic(), Duration::from_secs(30));
    }

    #[tokio::test]
    async fn long_lines_and_events_are_refused() {
        let mut lines = chopped(&format!("ok\n{}\nnever", "x".repeat(100)), 7).lines(10).boxed();
        assert_eq!(lines.next().await.unwrap().unwrap(), "ok");
        let e = lines.next().await.unwrap().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::LimitExceeded);
        assert!(lines.next().await.is_none());
        let endless = "data: 12345\n".repeat(100);
        let e = chopped(&endless, 7).events(20).try_collect::<Vec<_>>().await;
        assert_eq!(e.unwrap_err().kind(), ErrorKind::LimitExceeded);
    }

    #[tokio::test]
    async fn events_are_read_as_the_standard_says() {
        let text = "\u{feff}: a comment\nevent: progress\nid: 7\ndata: one\ndata:two\n\ndata\n\nretry: 5\n\nevent: x\n\ndata: cut";
        for every in [1, 2, 3, 1000] {
            let events: Vec<_> = chopped(text, every).events(100).try_collect().await.unwrap();
            let event = |name: &str, data: &str| Event { name: name.into(), data: data.into(), id: "7".into() };
            assert_eq!(events, [event("progress", "one\ntwo"), event("", "")]);
        }
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_body_was_cut(text in "([a-zé]{0,5}\r?\n?){0,20}", every in 1_usize..9) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let lines: Vec<String> = runtime
                .block_on(chopped(&text, every).lines(1000).try_collect())
                .unwrap();
            let mut want: Vec<_> = text
                .split('\n')
                .map(|l| l.strip_suffix('\r').unwrap_or(l).to_owned())
                .collect();
            if text.is_empty() || text.ends_with('\n') {
                want.pop();
            }
            prop_assert_eq!(lines, want);
        }
    }
}
