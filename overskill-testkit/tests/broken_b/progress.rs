use super::breaks;
use overskill_core::{Progress, ProgressEvent, ProgressKind, ProgressSink, Published, Readiness, Result, StreamName};
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
    Waits,
    IsNotReady,
    NeverEmpty,
}

const FLAWS: [Flaw; 8] = [
    Flaw::Reorders,
    Flaw::Loses,
    Flaw::MixesStreams,
    Flaw::CutsDetails,
    Flaw::IsSilentAtFirst,
    Flaw::Waits,
    Flaw::IsNotReady,
    Flaw::NeverEmpty,
];

#[derive(Debug)]
struct Broken {
    sink: RecordingSink,
    flaw: Flaw,
    told: AtomicUsize,
    held: Mutex<Option<ProgressEvent>>,
}

fn fixture(flaw: Flaw) -> ProgressSinkFixture {
    let sink = RecordingSink::new();
    let seen = sink.clone();
    let read = move |stream: StreamName| -> Vec<Published> {
        if flaw == Flaw::MixesStreams {
            // One stream for all.
            return seen.events().first().map(|e| seen.published(&e.stream)).unwrap_or_default();
        }
        if flaw == Flaw::NeverEmpty && seen.published(&stream).is_empty() {
            let call = Progress::to(Arc::new(seen.clone()), stream.clone(), "ghost").call("c", "ghost", 0);
            call.start("boo").complete("boo");
        }
        seen.published(&stream)
    };
    let reader = ProgressReader::new(move |stream| {
        let published = read(stream);
        async { published }
    });
    let sink = Broken { sink, flaw, told: AtomicUsize::new(0), held: Mutex::default() };
    ProgressSinkFixture::with(Arc::new(sink), reader)
}

async fn broken(flaw: Flaw, cases: &[&str]) {
    breaks(&V1, cases, async || fixture(flaw)).await;
}

#[async_trait::async_trait]
impl ProgressSink for Broken {
    async fn check(&self) -> Result<Readiness> {
        let ready = Readiness::ready("broken");
        Ok(if self.flaw == Flaw::IsNotReady { ready.lacks("a disk", "mount one") } else { ready })
    }

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
            Flaw::Waits => {
                std::thread::sleep(std::time::Duration::from_micros(1_500));
                self.sink.emit(event);
            }
            Flaw::Loses | Flaw::IsSilentAtFirst | Flaw::IsNotReady | Flaw::NeverEmpty => self.sink.emit(event),
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
    broken(Flaw::NeverEmpty, &["an_untouched_stream_is_empty"]).await;
}

#[tokio::test]
async fn a_sink_that_waits_for_a_disk() {
    broken(Flaw::Waits, &["telling_does_not_block"]).await;
}

#[tokio::test]
async fn a_sink_that_is_not_ready() {
    broken(Flaw::IsNotReady, &["it_is_ready"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_case_passes_whatever_it_is_given() {
    super::every_case_fails_once(&V1, &FLAWS, fixture).await;
}
