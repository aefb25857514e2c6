//! The events of a deployment's record, as they come.

use super::{
    Shared,
    problem::Problem,
    request::{Caller, Which},
};
use crate::{AppHandle, Clock, DeploymentId, DeploymentRecord, ErrorKind, RecordedEvent, Retry};
use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::stream;
use std::{collections::VecDeque, convert::Infallible, fmt::Write as _, sync::Arc, time::Duration};
use tokio::sync::OwnedSemaphorePermit;

/// How many events are held for one reader. A longer record is read again when these are gone.
const HELD: usize = 128;
/// Between two looks at a record in which nothing happens.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// So many looks in a row may fail before the reader is sent away; it comes back where it was.
const FAILED_LOOKS: u32 = 5;

pub(super) async fn events(
    State(shared): State<Arc<Shared>>,
    Caller(app): Caller,
    Which(id): Which,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let record = app.deployment(id).await?;
    let seen = last_seen(&headers)?;
    if seen > record.seq() {
        let detail = "Last-Event-ID is beyond the record: read it again from the beginning.";
        return Err(Problem::new(StatusCode::CONFLICT, ErrorKind::Conflict, detail));
    }
    if seen == record.seq() && record.end().is_some() {
        return Ok(StatusCode::NO_CONTENT.into_response()); // which tells a browser not to come back
    }
    let place = shared.streams.clone().try_acquire_owned().map_err(|_| {
        let detail = "Too many streams of events; try again later.";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, ErrorKind::Unavailable, detail)
            .retry_after(Duration::from_secs(5))
    })?;
    let clock = shared.platform.clock().clone();
    let mut tail = Tail {
        app,
        id,
        seen,
        held: VecDeque::new(),
        over: false,
        wait: SHORTEST_WAIT,
        failed: 0,
        spoke: clock.monotonic(),
        clock,
        keep_alive: shared.keep_alive,
        _place: place,
    };
    tail.read(&record);
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store, no-transform"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let begin = stream::iter([Ok(Bytes::from_static(b"retry: 2000\n\n"))]);
    let rest = stream::unfold(tail, |mut tail| async move {
        let part = tail.next().await?;
        Some((Ok::<_, Infallible>(part), tail))
    });
    Ok((headers, Body::from_stream(futures::StreamExt::chain(begin, rest))).into_response())
}

fn last_seen(headers: &HeaderMap) -> Result<u64, Problem> {
    let Some(given) = headers.get("last-event-id").filter(|given| !given.is_empty()) else { return Ok(0) };
    let seen = given.to_str().ok().and_then(|given| given.parse().ok());
    let wrong = || Problem::malformed("Last-Event-ID must be the id of an event: a number.").field("last-event-id");
    seen.ok_or_else(wrong)
}

/// A reader of one record. It goes on only when what it gave was taken.
struct Tail {
    app: AppHandle,
    id: DeploymentId,
    /// The last event that was read.
    seen: u64,
    held: VecDeque<RecordedEvent>,
    /// Nothing comes after what is held.
    over: bool,
    wait: Duration,
    failed: u32,
    /// When something was last given.
    spoke: Duration,
    clock: Arc<dyn Clock>,
    keep_alive: Duration,
    _place: OwnedSemaphorePermit,
}

impl Tail {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(event) = self.held.pop_front() {
                self.spoke = self.clock.monotonic();
                return Some(frame(&event));
            }
            if self.over {
                return None;
            }
            // Rights are asked for again each time: an expired token reads nothing more.
            match self.app.deployment(self.id).await {
                Ok(record) => {
                    self.failed = 0;
                    self.read(&record);
                }
                Err(e) if e.retry() == Retry::Never || self.failed == FAILED_LOOKS => {
                    tracing::debug!(deployment = %self.id, error = %e, "a stream of events ends early");
                    return None;
                }
                Err(_) => self.failed += 1,
            }
            if !self.held.is_empty() || self.over {
                continue;
            }
            let silent = self.clock.monotonic().saturating_sub(self.spoke);
            if silent >= self.keep_alive {
                self.spoke = self.clock.monotonic();
                return Some(Bytes::from_static(b": still here\n\n"));
            }
            self.clock.sleep(self.wait.min(self.keep_alive.saturating_sub(silent))).await;
            self.wait = (self.wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Takes what is new, as much as is held at a time.
    fn read(&mut self, record: &DeploymentRecord) {
        let new = record.events().iter().filter(|event| event.seq > self.seen).take(HELD).cloned();
        self.held.extend(new);
        if let Some(last) = self.held.back() {
            self.seen = last.seq;
            self.wait = SHORTEST_WAIT;
        }
        self.over = record.end().is_some() && self.seen >= record.seq();
    }
}

/// An event as WHATWG HTML § 9.2 has it. JSON of one line needs no more than one `data`.
fn frame(event: &RecordedEvent) -> Bytes {
    let data = serde_json::to_value(event).expect("events are JSON");
    let name = data.get("event").and_then(|name| name.as_str()).unwrap_or("message");
    let mut text = String::new();
    write!(text, "id: {}\nevent: {name}\ndata: {data}\n\n", event.seq).expect("a String takes what is written");
    text.into()
}
