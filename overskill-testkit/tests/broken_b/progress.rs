use super::breaks;
use overskill_core::{Progress, ProgressEvent, ProgressKind, ProgressSink, Published, StreamName};
use overskill_testkit::{ProgressReader, ProgressSinkFixture, recording::RecordingSink, suites::progress::V1};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    Reorders,
    Loses,
    MixesStreams,
    CutsDetails,
    IsSilentAtFirst,
}

#[derive(Debug)]
struct Broken {
    sink: RecordingSink,
    flaw: Flaw,
    told: AtomicUsize,
    held: Mutex<Option<ProgressEvent>>,
}

async fn broken(flaw: Flaw, cases: &[&str]) {
    breaks(&V1, cases, async || {
        let sink = RecordingSink::new();
        let seen = sink.clone();
        let read = move |stream: StreamName| -> Vec<Published> {
            if flaw == Flaw::MixesStreams {
                // One stream for all.
                return seen.events().first().map(|e| seen.published(&e.stream)).unwrap_or_default();
            }
            seen.published(&stream)
        };
        let reader = ProgressReader::new(move |stream| {
            let published = read(stream);
            async { published }
        });
        let sink = Broken { sink, flaw, told: AtomicUsize::new(0), held: Mutex::default() };
        ProgressSinkFixture::with(Arc::new(sink), reader)
    })
    .await;
}

impl ProgressSink for Broken {
    fn emit(&self, mut event: ProgressEvent) {
        let n = self.told.fetch_add(1, Ordering::SeqCst);
        match self.flaw {
            Flaw::Reorders => {
                // The sixth of every ten overtakes the fifth.
                let mut held = self.held.lock().unwrap();
                if n % 10 == 5 {
                    *held = Some(event);
                } else {
                    self.sink.emit(event);
                    held.take().into_iter().for_each(|late| self.sink.emit(late));
                }
            }
            Flaw::Loses if n % 20 == 10 => {}
            Flaw::MixesStreams => {
                let mut first = self.held.lock().unwrap();
                event.stream = first.get_or_insert_with(|| event.clone()).stream.clone();
                self.sink.emit(event);
            }
            Flaw::CutsDetails => {
                event.details = event.details.filter(|d| d.to_string().len() < 1024);
                self.sink.emit(event);
            }
            Flaw::IsSilentAtFirst if event.kind == ProgressKind::Started => {}
            Flaw::Loses | Flaw::IsSilentAtFirst => self.sink.emit(event),
        }
    }
}

#[tokio::test]
async fn a_sink_that_reorders() {
    broken(Flaw::Reorders, &["places_grow_by_one"]).await;
}

#[tokio::test]
async fn a_sink_that_loses_events() {
    let cases = ["places_grow_by_one", "many_tellers_lose_nothing", "what_must_arrive_survives"];
    broken(Flaw::Loses, &cases).await;
}

#[tokio::test]
async fn a_sink_that_mixes_streams() {
    broken(Flaw::MixesStreams, &["streams_do_not_mix"]).await;
}

#[tokio::test]
async fn a_sink_that_cuts_details() {
    broken(Flaw::CutsDetails, &["large_events_pass"]).await;
}

#[tokio::test]
async fn a_sink_that_is_silent_at_first() {
    broken(Flaw::IsSilentAtFirst, &["pointers_answer_alike", "events_come_back_as_they_were"]).await;
}

#[tokio::test]
async fn a_sink_whose_streams_are_never_empty() {
    breaks(&V1, &["an_untouched_stream_is_empty"], async || {
        let sink = RecordingSink::new();
        let seen = sink.clone();
        let reader = ProgressReader::new(move |stream| {
            if seen.published(&stream).is_empty() {
                let call = Progress::to(Arc::new(seen.clone()), stream.clone(), "ghost").call("c", "ghost", 0);
                call.start("boo").complete("boo");
            }
            let published = seen.published(&stream);
            async { published }
        });
        ProgressSinkFixture::with(Arc::new(sink), reader)
    })
    .await;
}
