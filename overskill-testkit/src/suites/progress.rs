//! The rules of a [`ProgressSink`].

use futures::future::BoxFuture;
use overskill_core::{ProgressSink, Published, StreamName};
use std::{fmt, future::Future, time::Duration};

/// What [`progress_sink_conformance!`](crate::progress_sink_conformance) needs: a sink, and how its streams are read.
///
/// ```
/// use overskill_testkit::{ProgressReader, ProgressSinkFixture, recording::RecordingSink};
/// use std::sync::Arc;
///
/// let sink = RecordingSink::new();
/// let seen = sink.clone();
/// let reader = ProgressReader::new(move |stream| {
///     let published = seen.published(&stream);
///     async { published }
/// });
/// ProgressSinkFixture::with(Arc::new(sink), reader);
/// ```
pub type ProgressSinkFixture = crate::Fixture<dyn ProgressSink, ProgressReader>;

/// How the streams of a [`ProgressSink`] are read.
pub struct ProgressReader {
    read: Box<dyn Fn(StreamName) -> BoxFuture<'static, Vec<Published>> + Send + Sync>,
    capacity: u64,
    settles_within: Duration,
}

impl ProgressReader {
    /// `read` gives the events of a stream that are kept, oldest first. They are there as soon as they were told, and a
    /// stream keeps any number.
    pub fn new<F>(read: impl Fn(StreamName) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Vec<Published>> + Send + 'static,
    {
        let read = Box::new(move |stream| -> BoxFuture<'static, _> { Box::pin(read(stream)) });
        Self { read, capacity: u64::MAX, settles_within: Duration::ZERO }
    }

    /// Says how many events of a stream are kept: a sink may forget those before.
    pub fn capacity(mut self, events: u64) -> Self {
        self.capacity = events;
        self
    }

    /// Says how long it takes at most until an event can be read.
    pub fn settles_within(mut self, limit: Duration) -> Self {
        self.settles_within = limit;
        self
    }
}

impl fmt::Debug for ProgressReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgressReader")
            .field("capacity", &self.capacity)
            .field("settles_within", &self.settles_within)
            .finish_non_exhaustive()
    }
}

suite! {
    $
    /// Tests of every rule of a [`ProgressSink`](overskill_core::ProgressSink):
    /// `progress_sink_conformance!(v1, fixture())`, where the fixture is a
    /// [`ProgressSinkFixture`](crate::ProgressSinkFixture).
    macro progress_sink_conformance = progress, progress_sink_v1;
    const V1 = "progress_sink", v1;
    fixture ProgressSinkFixture;
    in cases {
        an_untouched_stream_is_empty: "a stream that nothing was told in has no events";
        events_come_back_as_they_were: "every event is read exactly as it was told, in version 1 of the schema";
        places_grow_by_one: "the events of a stream have places that begin with 1 and grow by 1, in the order they were told";
        streams_do_not_mix: "an event is in its own stream alone, and streams are counted apart";
        many_tellers_lose_nothing: "events of many threads are all there, those of each thread in its order";
        what_must_arrive_survives: "events that must be delivered are there, whatever became of those that a newer one may replace";
        large_events_pass: "an event of the largest details and message that the schema has passes whole";
        telling_does_not_block: "ten thousand events are told without waiting for anybody, and each has its place";
        pointers_answer_alike: "a sink behind pointers is told as the sink itself";
        it_is_ready: "check answers that nothing is missing, and names the backend";
    }
}

mod cases {
    use super::ProgressSinkFixture as F;
    use crate::{
        Stop, Verdict, settle,
        suite::{ensure, ensure_eq},
    };
    use overskill_core::{
        IdsExt, ProgressCall, ProgressClass, ProgressEvent, ProgressFailure, ProgressKind as K, ProgressSink,
        Published, StreamName,
    };
    use std::{
        sync::Arc,
        time::{Duration, Instant},
    };

    const KINDS: [K; 12] = [
        K::Started,
        K::InputDelta,
        K::Progress,
        K::Log,
        K::Output,
        K::ApprovalRequired,
        K::FileUpdate,
        K::PreviewReady,
        K::Completed,
        K::Failed,
        K::Cancelled,
        K::Snapshot,
    ];

    fn stream(f: &F) -> StreamName {
        let name = format!("conformance/{:016x}", f.names().ids().random_u64());
        StreamName::parse(&name).expect("a legal name")
    }

    /// An event of the call `call` whose message is `n`.
    fn event(f: &F, stream: &StreamName, kind: K, call: &str, n: usize) -> ProgressEvent {
        ProgressEvent {
            stream: stream.clone(),
            at: f.names().start(),
            run: "run".into(),
            call: Some(ProgressCall { id: call.into(), name: "os-write".into(), index: 0, iteration: None }),
            kind,
            stage: None,
            message: n.to_string(),
            progress: None,
            details: None,
            failure: None,
        }
    }

    /// What is kept of a stream, once it had the time to arrive: `holds`, if the rule does.
    async fn read(f: &F, stream: &StreamName, holds: impl Fn(&[Published]) -> bool) -> Result<Vec<Published>, Stop> {
        let reader = f.besides();
        settle(reader.settles_within, async || Ok((reader.read)(stream.clone()).await), |got| holds(got)).await
    }

    /// How many events a case may tell in one stream so that none is forgotten: at most `wanted`.
    fn fitting(f: &F, wanted: usize) -> usize {
        usize::try_from(f.besides().capacity).map_or(wanted, |capacity| capacity.min(wanted))
    }

    pub(super) async fn an_untouched_stream_is_empty(f: &F) -> Verdict {
        ensure_eq!(read(f, &stream(f), |_| true).await?, vec![], "events of a stream that nothing was told in");
        Ok(())
    }

    pub(super) async fn events_come_back_as_they_were(f: &F) -> Verdict {
        for (n, kind) in KINDS.into_iter().enumerate() {
            let stream = stream(f);
            let mut told = event(f, &stream, kind, "call", n);
            told.message = "ünïcode, 'quotes', \"more\", a \\ and\na line\u{1f680}".into();
            told.details = Some(serde_json::json!({ "path": "src/App.tsx", "n": [1, -2, null, true, "x"] }));
            told.call = Some(ProgressCall { id: "c-1".into(), name: "os-write".into(), index: 3, iteration: Some(2) });
            (told.stage, told.progress) = (Some("writing".into()), Some(60));
            if kind == K::Failed {
                told.failure =
                    Some(ProgressFailure { code: "timeout".into(), message: "too late".into(), retryable: true });
            }
            f.store().emit(told.clone());
            let got = read(f, &stream, |got| got.len() == 1).await?;
            ensure_eq!(got.len(), 1, "how many events there are after one of the kind {kind:?}");
            ensure_eq!(got[0].v, 1, "the version of the schema");
            ensure_eq!(got[0].event, told, "the event");
        }
        Ok(())
    }

    pub(super) async fn places_grow_by_one(f: &F) -> Verdict {
        let (stream, n) = (stream(f), fitting(f, 100));
        for i in 0..n {
            f.store().emit(event(f, &stream, K::FileUpdate, "call", i));
        }
        let got = read(f, &stream, |got| got.len() == n).await?;
        let messages: Vec<_> = got.iter().map(|p| p.event.message.clone()).collect();
        ensure_eq!(messages, (0..n).map(|i| i.to_string()).collect::<Vec<_>>(), "events in the order of their places");
        let places: Vec<_> = got.iter().map(|p| p.position.seq).collect();
        ensure_eq!(places, (1..=n as u64).collect::<Vec<_>>(), "places");
        let one_life = got.iter().all(|p| p.position.incarnation == got[0].position.incarnation);
        ensure!(one_life, "the places are of several lives");
        Ok(())
    }

    pub(super) async fn streams_do_not_mix(f: &F) -> Verdict {
        let streams: Vec<_> = (0..4).map(|_| stream(f)).collect();
        for i in 0..fitting(f, 20) {
            for stream in &streams {
                f.store().emit(event(f, stream, K::FileUpdate, stream.as_str(), i));
            }
        }
        for stream in &streams {
            let n = fitting(f, 20);
            let got = read(f, stream, |got| got.len() == n).await?;
            ensure!(got.iter().all(|p| p.event.stream == *stream), "events of other streams are in {stream}");
            let places: Vec<_> = got.iter().map(|p| p.position.seq).collect();
            ensure_eq!(places, (1..=n as u64).collect::<Vec<_>>(), "places in {stream}");
        }
        Ok(())
    }

    pub(super) async fn many_tellers_lose_nothing(f: &F) -> Verdict {
        const TELLERS: usize = 8;
        let (stream, each) = (stream(f), fitting(f, 800) / TELLERS);
        std::thread::scope(|scope| {
            for teller in 0..TELLERS {
                let stream = &stream;
                scope.spawn(move || {
                    for i in 0..each {
                        f.store().emit(event(f, stream, K::FileUpdate, &format!("teller-{teller}"), i));
                    }
                });
            }
        });
        let all = each * TELLERS;
        let got = read(f, &stream, |got| got.len() == all).await?;
        let places: Vec<_> = got.iter().map(|p| p.position.seq).collect();
        ensure_eq!(places, (1..=all as u64).collect::<Vec<_>>(), "places of the events of {TELLERS} threads");
        for teller in 0..TELLERS {
            let call = format!("teller-{teller}");
            let its = got.iter().filter(|p| p.event.call.as_ref().is_some_and(|c| c.id == call));
            let messages: Vec<_> = its.map(|p| p.event.message.clone()).collect();
            ensure_eq!(messages, (0..each).map(|i| i.to_string()).collect::<Vec<_>>(), "events of {call} in order");
        }
        Ok(())
    }

    pub(super) async fn what_must_arrive_survives(f: &F) -> Verdict {
        let (stream, n) = (stream(f), fitting(f, 240));
        let kind =
            |i: usize| if i.is_multiple_of(10) { K::FileUpdate } else { [K::Progress, K::Log, K::Output][i % 3] };
        for i in 0..n {
            f.store().emit(event(f, &stream, kind(i), "call", i));
        }
        f.store().emit(event(f, &stream, K::Completed, "call", n));
        let must = |got: &[Published]| -> Vec<_> {
            let must = got.iter().filter(|p| p.event.kind.class() == ProgressClass::MustDeliver);
            must.map(|p| p.event.message.clone()).collect()
        };
        // The last may have pushed out the first of a sink that is full.
        let want: Vec<_> = (1..n).filter(|i| i.is_multiple_of(10)).chain([n]).map(|i| i.to_string()).collect();
        let seen = |got: &[Published]| must(got).ends_with(&want);
        let got = read(f, &stream, seen).await?;
        ensure!(seen(&got), "events that must be delivered: got {:?}, wanted {want:?}", must(&got));
        Ok(())
    }

    pub(super) async fn large_events_pass(f: &F) -> Verdict {
        let stream = stream(f);
        let mut told = event(f, &stream, K::Output, "call", 0);
        let text = "x".repeat(ProgressEvent::MAX_DETAILS_BYTES - r#"{"text":""}"#.len());
        told.details = Some(serde_json::json!({ "text": text }));
        told.message = "m".repeat(ProgressEvent::MAX_MESSAGE_BYTES);
        f.store().emit(told.clone());
        let got = read(f, &stream, |got| got.len() == 1).await?;
        ensure!(got.len() == 1 && got[0].event == told, "a large event did not come back as it was");
        Ok(())
    }

    pub(super) async fn telling_does_not_block(f: &F) -> Verdict {
        const EVENTS: usize = 10_000;
        // What it takes is microseconds. A busy machine holds up one of ten at most; a disk or a network holds up all.
        const TYPICAL: Duration = Duration::from_millis(1);
        const LONGEST: Duration = Duration::from_secs(5);
        let stream = stream(f);
        let mut took = Vec::with_capacity(EVENTS);
        for i in 0..EVENTS {
            let event = event(f, &stream, K::FileUpdate, "call", i);
            let start = Instant::now();
            f.store().emit(event);
            took.push(start.elapsed());
            // Looked at early too: what takes that long each time need not be waited for to the end.
            if [EVENTS / 20, EVENTS].contains(&took.len()) {
                let mut sorted = took.clone();
                sorted.sort_unstable();
                let (typical, longest) = (sorted[sorted.len() * 9 / 10], sorted[sorted.len() - 1]);
                ensure!(typical < TYPICAL, "one of ten of {} events took {typical:?} or longer", took.len());
                ensure!(longest < LONGEST, "one of {} events took {longest:?}", took.len());
            }
        }
        let arrived = |got: &[Published]| got.last().is_some_and(|p| p.position.seq == EVENTS as u64);
        let got = read(f, &stream, arrived).await?;
        ensure!(arrived(&got), "the last of {EVENTS} events has the place {:?}", got.last().map(|p| p.position));
        Ok(())
    }

    pub(super) async fn pointers_answer_alike(f: &F) -> Verdict {
        let boxed: Box<dyn ProgressSink> = Box::new(f.store().clone());
        let shared: Arc<dyn ProgressSink> = Arc::new(boxed);
        let stream = stream(f);
        let told = event(f, &stream, K::Started, "call", 0);
        shared.emit(told.clone());
        let got = read(f, &stream, |got| got.len() == 1).await?;
        let got: Vec<_> = got.into_iter().map(|p| p.event).collect();
        ensure_eq!(got, vec![told], "events that were told through pointers");
        ensure_eq!(shared.check().await?, f.store().check().await?, "check through pointers");
        Ok(())
    }

    pub(super) async fn it_is_ready(f: &F) -> Verdict {
        let readiness = f.store().check().await?;
        ensure!(readiness.is_ready(), "it lacks {:?}", readiness.problems());
        ensure!(!readiness.backend().is_empty(), "the backend has no name");
        Ok(())
    }
}
