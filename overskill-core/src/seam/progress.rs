//! Progress: the event schema, where events go, and the handle that tells them.

use crate::{
    Clock, DeploymentId, ParseError, Readiness, Result, Scope, StreamPosition, SystemClock, Timestamp,
    parse::text_newtype,
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    fmt::{self, Debug},
    sync::{Arc, Mutex},
};

/// The name of a stream of progress, such as `tool_execution_42`: 1 to 200 of `A-Z a-z 0-9 . _ : - /`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StreamName(Arc<str>);

impl StreamName {
    /// Longest name in bytes.
    pub const MAX_BYTES: usize = 200;

    /// Takes a name as it is.
    pub fn parse(s: &str) -> Result<Self, ParseError> {
        let rule = if s.is_empty() || s.len() > Self::MAX_BYTES {
            "must be 1 to 200 bytes long"
        } else if !s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-/".contains(&b)) {
            "may hold only A-Z, a-z, 0-9 and . _ : - /"
        } else {
            return Ok(Self(s.into()));
        };
        Err(ParseError::new("stream name", rule, s))
    }

    /// The stream of everything that is deployed to `scope`.
    pub fn deployments(scope: &Scope) -> Self {
        Self(format!("deployments/{scope}").into())
    }

    /// The stream of one AI message's tools.
    pub fn tool_execution(message: &str) -> Result<Self, ParseError> {
        Self::parse(&format!("tool_execution_{message}"))
    }
}

text_newtype!(StreamName);

/// What an event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProgressKind {
    /// A call began.
    Started,
    /// More of a call's input is known.
    InputDelta,
    /// It got further.
    Progress,
    /// A line of its log.
    Log,
    /// A preliminary result.
    Output,
    /// Somebody has to agree before it goes on.
    ApprovalRequired,
    /// A file changed; the details hold its path and digest, not its contents.
    FileUpdate,
    /// A preview can be opened.
    PreviewReady,
    /// It ended well.
    Completed,
    /// It ended badly.
    Failed,
    /// It was stopped.
    Cancelled,
    /// All that was said of a call so far, folded into one event.
    Snapshot,
}

impl ProgressKind {
    /// Whether every subscriber must get each such event, or only the newest counts.
    pub const fn class(self) -> ProgressClass {
        match self {
            Self::InputDelta | Self::Progress | Self::Log | Self::Output => ProgressClass::Coalescable,
            _ => ProgressClass::MustDeliver,
        }
    }

    /// Whether nothing more comes of the call.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// How an event may be treated when a subscriber is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProgressClass {
    /// It has to arrive.
    MustDeliver,
    /// A newer one of the same call may take its place.
    Coalescable,
}

/// The call that an event is about: one tool, one build, one deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressCall {
    /// Its id, unique within the run.
    pub id: String,
    /// What is called, such as `os-write`.
    pub name: String,
    /// Its place among the calls of the run.
    #[serde(default)]
    pub index: u32,
    /// Which round of the agent made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iteration: Option<u32>,
}

/// What went wrong, for whoever watches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressFailure {
    /// A stable word: the error's kind.
    pub code: String,
    /// The error's public message.
    pub message: String,
    /// Whether it may work later.
    pub retryable: bool,
}

/// One event of progress, before a sink gave it its place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProgressEvent {
    /// The stream it belongs to.
    pub stream: StreamName,
    /// When it happened.
    pub at: Timestamp,
    /// The run of an agent, or the deployment, that it is part of.
    pub run: String,
    /// The call it is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<ProgressCall>,
    /// What it says.
    pub kind: ProgressKind,
    /// Which part of the work, such as `writing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// A sentence for people.
    #[serde(default)]
    pub message: String,
    /// How far the call has come, in percent; never goes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<u8>,
    /// More, as JSON of at most 16 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
    /// What went wrong, in an event of the kind `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<ProgressFailure>,
}

impl ProgressEvent {
    /// Largest details in bytes of JSON; larger ones are replaced by a note of their size.
    pub const MAX_DETAILS_BYTES: usize = 16 * 1024;
    /// Longest message in bytes; longer ones are cut.
    pub const MAX_MESSAGE_BYTES: usize = 4 * 1024;
}

/// An event with its place in its stream, as it is stored and sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// The version of this schema: 1.
    pub v: u8,
    /// Its place.
    pub position: StreamPosition,
    /// The event.
    #[serde(flatten)]
    pub event: ProgressEvent,
}

impl Published {
    /// `event` at `position`.
    pub fn new(position: StreamPosition, event: ProgressEvent) -> Self {
        Self { v: 1, position, event }
    }
}

/// Where progress goes. `emit` returns at once, never blocks and cannot fail: no deploy and no tool depends on it.
///
/// The sink gives each event its place: events of one stream get places that grow by 1, in the order of the calls.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait ProgressSink: Debug + Send + Sync + 'static {
    /// Whether it can be used. A sink within the process always can.
    async fn check(&self) -> Result<Readiness> {
        Ok(Readiness::ready("progress"))
    }

    /// Takes one event.
    fn emit(&self, event: ProgressEvent);
}

#[async_trait]
impl<S: ProgressSink + ?Sized> ProgressSink for Arc<S> {
    async fn check(&self) -> Result<Readiness> {
        (**self).check().await
    }

    fn emit(&self, event: ProgressEvent) {
        (**self).emit(event);
    }
}

#[async_trait]
impl<S: ProgressSink + ?Sized> ProgressSink for Box<S> {
    async fn check(&self) -> Result<Readiness> {
        (**self).check().await
    }

    fn emit(&self, event: ProgressEvent) {
        (**self).emit(event);
    }
}

/// Drops everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiscardProgress;

impl ProgressSink for DiscardProgress {
    fn emit(&self, _: ProgressEvent) {}
}

/// Tells the progress of one call. Cheap to clone; clones tell of the same call.
///
/// It keeps the schema's promises: progress never goes back, exactly one terminal event comes, and nothing after it. When
/// the last clone is dropped without one, `cancelled` is told, so that no card hangs at 60 %.
///
/// ```
/// use overskill_core::{DiscardProgress, Progress, StreamName};
/// use std::sync::Arc;
/// let stream = StreamName::tool_execution("42")?;
/// let progress = Progress::to(Arc::new(DiscardProgress), stream, "run-7").call("call-1", "os-write", 0).start("Writing…");
/// progress.at(30, "writing", "Writing src/App.tsx");
/// progress.complete("Written");
/// # Ok::<(), overskill_core::ParseError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Progress(Option<Arc<Teller>>);

struct Teller {
    sink: Arc<dyn ProgressSink>,
    clock: Arc<dyn Clock>,
    stream: StreamName,
    run: String,
    call: Option<ProgressCall>,
    told: Mutex<Told>,
}

#[derive(Clone, Copy, Default)]
struct Told {
    started: bool,
    ended: bool,
    percent: u8,
}

impl Progress {
    /// Tells `sink` of a run; the machine's clock gives the times.
    pub fn to(sink: Arc<dyn ProgressSink>, stream: StreamName, run: impl Into<String>) -> ProgressBuilder {
        ProgressBuilder { sink, clock: Arc::new(SystemClock), stream, run: run.into(), call: None }
    }

    /// Tells nobody.
    pub const fn discard() -> Self {
        Self(None)
    }

    /// Tells of a deployment in the stream of its scope. Nothing is told yet.
    pub fn of_deployment(sink: Arc<dyn ProgressSink>, clock: Arc<dyn Clock>, scope: &Scope, id: DeploymentId) -> Self {
        let builder = Self::to(sink, StreamName::deployments(scope), id.to_string()).clock(clock);
        builder.call(id.to_string(), "deploy", 0).build()
    }

    /// The call has come this far, in percent; a lower number than before counts as that.
    pub fn at(&self, percent: u8, stage: &str, message: impl Into<String>) {
        self.tell(ProgressKind::Progress, Some(percent), Some(stage), message.into(), None);
    }

    /// The same with details: how much of what.
    pub fn step(&self, percent: u8, stage: &str, message: impl Into<String>, details: Value) {
        self.tell(ProgressKind::Progress, Some(percent), Some(stage), message.into(), Some(details));
    }

    /// A line of the call's log.
    pub fn log(&self, message: impl Into<String>) {
        self.tell(ProgressKind::Log, None, None, message.into(), None);
    }

    /// Anything else, with details.
    pub fn event(&self, kind: ProgressKind, stage: &str, message: impl Into<String>, details: Value) {
        self.tell(kind, None, Some(stage), message.into(), Some(details));
    }

    /// It ended well. Nothing that is told afterwards counts.
    pub fn complete(&self, message: impl Into<String>) {
        self.tell(ProgressKind::Completed, Some(100), None, message.into(), None);
    }

    /// It ended badly. Nothing that is told afterwards counts.
    pub fn fail(&self, error: &crate::Error) {
        if let Some(teller) = &self.0 {
            let failure = ProgressFailure {
                code: error.kind().to_string(),
                message: error.public_message().to_owned(),
                retryable: error.retry() != crate::Retry::Never,
            };
            let message = failure.message.clone();
            teller.tell(ProgressKind::Failed, None, None, message, None, Some(failure));
        }
    }

    /// Tells that the call began; the rest does so by itself if it was forgotten.
    pub fn start(&self, message: impl Into<String>) {
        self.tell(ProgressKind::Started, Some(0), None, message.into(), None);
    }

    fn tell(
        &self,
        kind: ProgressKind,
        percent: Option<u8>,
        stage: Option<&str>,
        message: String,
        details: Option<Value>,
    ) {
        if let Some(teller) = &self.0 {
            teller.tell(kind, percent, stage, message, details, None);
        }
    }
}

/// What a [`Progress`] is made from.
#[derive(Clone, Debug)]
pub struct ProgressBuilder {
    sink: Arc<dyn ProgressSink>,
    clock: Arc<dyn Clock>,
    stream: StreamName,
    run: String,
    call: Option<ProgressCall>,
}

impl ProgressBuilder {
    /// Takes time from another clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Names the call.
    pub fn call(mut self, id: impl Into<String>, name: impl Into<String>, index: u32) -> Self {
        self.call = Some(ProgressCall { id: id.into(), name: name.into(), index, iteration: None });
        self
    }

    /// Says which round of the agent makes the call, if one was named.
    pub fn iteration(mut self, iteration: u32) -> Self {
        if let Some(call) = &mut self.call {
            call.iteration = Some(iteration);
        }
        self
    }

    /// The handle; nothing is told yet.
    pub fn build(self) -> Progress {
        let Self { sink, clock, stream, run, call } = self;
        Progress(Some(Arc::new(Teller { sink, clock, stream, run, call, told: Mutex::default() })))
    }

    /// The handle, after it told that the call began.
    pub fn start(self, message: impl Into<String>) -> Progress {
        let progress = self.build();
        progress.start(message);
        progress
    }
}

impl Teller {
    fn tell(
        &self,
        kind: ProgressKind,
        percent: Option<u8>,
        stage: Option<&str>,
        mut message: String,
        details: Option<Value>,
        failure: Option<ProgressFailure>,
    ) {
        // A sink that panicked is its own affair: the next event is told all the same.
        let mut told = self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if told.ended || (kind == ProgressKind::Started && told.started) {
            return;
        }
        told.started = true;
        told.ended = kind.is_terminal();
        told.percent = told.percent.max(percent.unwrap_or(0).min(100));
        message.truncate(message.floor_char_boundary(ProgressEvent::MAX_MESSAGE_BYTES));
        let event = ProgressEvent {
            stream: self.stream.clone(),
            at: self.clock.now(),
            run: self.run.clone(),
            call: self.call.clone(),
            kind,
            stage: stage.map(str::to_owned),
            message,
            progress: percent.map(|_| told.percent),
            details: details.map(bounded),
            failure,
        };
        // Under the lock, so that clones on two threads keep the order.
        self.sink.emit(event);
    }
}

/// Details as they are, or a note of their size where they are too large for a subscriber.
fn bounded(details: Value) -> Value {
    let size = serde_json::to_string(&details).map_or(usize::MAX, |json| json.len());
    if size <= ProgressEvent::MAX_DETAILS_BYTES { details } else { serde_json::json!({ "omitted_bytes": size }) }
}

impl Drop for Teller {
    fn drop(&mut self) {
        let told = *self.told.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        if told.started && !told.ended {
            self.tell(ProgressKind::Cancelled, None, None, "It was stopped.".into(), None, None);
        }
    }
}

impl fmt::Debug for Teller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.stream, self.run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TestClock;

    #[derive(Debug, Default)]
    struct Keep(Mutex<Vec<ProgressEvent>>);

    impl ProgressSink for Keep {
        fn emit(&self, event: ProgressEvent) {
            self.0.lock().unwrap().push(event);
        }
    }

    fn told(act: impl FnOnce(Progress)) -> Vec<ProgressEvent> {
        let keep = Arc::new(Keep::default());
        let stream = StreamName::tool_execution("42").unwrap();
        act(Progress::to(keep.clone(), stream, "run")
            .clock(Arc::new(TestClock::new()))
            .call("c", "os-write", 1)
            .build());
        std::mem::take(&mut *keep.0.lock().unwrap())
    }

    fn kinds(events: &[ProgressEvent]) -> Vec<ProgressKind> {
        events.iter().map(|e| e.kind).collect()
    }

    #[test]
    fn progress_never_goes_back_and_one_terminal_event_ends_it() {
        let events = told(|p| {
            p.start("go");
            p.start("again");
            p.at(60, "writing", "");
            p.at(30, "writing", "");
            p.at(200, "writing", "");
            p.complete("done");
            p.complete("done twice");
            p.at(10, "late", "");
        });
        let percent: Vec<_> = events.iter().map(|e| e.progress.unwrap()).collect();
        assert_eq!(percent, [0, 60, 60, 100, 100]);
        assert_eq!(events.last().unwrap().kind, ProgressKind::Completed);
    }

    #[test]
    fn a_dropped_call_is_cancelled_once() {
        let events = told(|p| {
            p.at(60, "writing", "");
            let clone = p.clone();
            drop(p);
            clone.log("still here");
        });
        assert_eq!(kinds(&events), [ProgressKind::Progress, ProgressKind::Log, ProgressKind::Cancelled]);
        assert_eq!(told(drop), []);
    }

    #[test]
    fn a_failure_tells_only_the_public_message() {
        let secret = crate::Error::new(crate::ErrorKind::Unavailable, "db-7 is down").at("pg", "apply");
        let events = told(|p| p.fail(&secret));
        let json = serde_json::to_string(&events).unwrap();
        assert!(!json.contains("db-7") && json.contains("\"retryable\":true"), "{json}");
    }

    #[test]
    fn large_details_and_messages_are_bounded() {
        let big = "é".repeat(20_000);
        let events = told(|p| p.event(ProgressKind::Output, "x", big.clone(), serde_json::json!({ "text": big })));
        assert_eq!(events[0].details, Some(serde_json::json!({ "omitted_bytes": 40_011 })));
        assert!(events[0].message.len() <= ProgressEvent::MAX_MESSAGE_BYTES);
    }

    #[test]
    fn the_wire_form_is_flat_and_round_trips() {
        let event = told(|p| p.at(30, "writing", "Writing")).remove(0);
        let published = Published::new("1f:7".parse().unwrap(), event);
        let json = serde_json::to_value(&published).unwrap();
        assert_eq!(json["v"], 1);
        assert_eq!(json["position"], "1f:7");
        assert_eq!(json["kind"], "progress");
        assert_eq!(json["call"]["name"], "os-write");
        assert_eq!(serde_json::from_value::<Published>(json).unwrap(), published);
    }
}
