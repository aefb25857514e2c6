//! [`RecordingSink`]: a sink of progress that keeps everything and lets a test wait for what it wants to see.

use overskill_core::{
    Clock, Error, ErrorKind, Incarnation, ProgressEvent, ProgressSink, Published, Result, StreamName, StreamPosition,
    timeout,
};
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::sync::watch;

/// Keeps every event. Clones share what they keep.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use overskill_core::{Progress, ProgressKind, StreamName, TestClock};
/// use overskill_testkit::recording::RecordingSink;
/// use std::{sync::Arc, time::Duration};
///
/// let sink = RecordingSink::new();
/// let stream = StreamName::tool_execution("42").unwrap();
/// Progress::to(Arc::new(sink.clone()), stream, "run").start("Writing…").complete("Written");
///
/// let clock = TestClock::new(); // nothing here sleeps
/// let done = sink.wait_for(|e| e.kind == ProgressKind::Completed, Duration::from_secs(5), &clock).await.unwrap();
/// assert_eq!(done.message, "Written");
/// # });
/// ```
#[derive(Clone)]
pub struct RecordingSink(Arc<Record>);

struct Record {
    events: Mutex<Vec<ProgressEvent>>,
    /// How many events there are; sent under the lock, so that it never goes back.
    count: watch::Sender<usize>,
}

impl RecordingSink {
    /// Has seen nothing yet.
    pub fn new() -> Self {
        Self(Arc::new(Record { events: Mutex::default(), count: watch::Sender::new(0) }))
    }

    /// Every event so far, in the order it came.
    pub fn events(&self) -> Vec<ProgressEvent> {
        self.record().clone()
    }

    /// The events of one stream so far, each with its place.
    pub fn published(&self, stream: &StreamName) -> Vec<Published> {
        let mut position = StreamPosition::start(Incarnation::from_u64(1));
        let record = self.record();
        let of_stream = record.iter().filter(|e| e.stream == *stream);
        of_stream
            .map(|event| {
                position = position.next();
                Published::new(position, event.clone())
            })
            .collect()
    }

    /// The first event, past or to come, for which `wanted` is true. `Timeout` after `limit` on `clock`; the message
    /// says what came instead.
    pub async fn wait_for(
        &self,
        mut wanted: impl FnMut(&ProgressEvent) -> bool,
        limit: Duration,
        clock: &dyn Clock,
    ) -> Result<ProgressEvent> {
        // Subscribed before the first look, so no event falls between a look and a wait.
        let mut count = self.0.count.subscribe();
        let mut looked = 0;
        let seen = async {
            loop {
                let until = *count.borrow_and_update();
                // Copied, so that `wanted` may look at the record itself.
                let fresh = self.record()[looked..until].to_vec();
                if let Some(event) = fresh.into_iter().find(|e| wanted(e)) {
                    return Ok(event);
                }
                looked = until;
                count.changed().await.map_err(|e| Error::unexpected("the record is gone", e))?;
            }
        };
        timeout(clock, limit, seen).await.map_err(|e| {
            if e.kind() != ErrorKind::Timeout {
                return e;
            }
            let kinds: Vec<_> = self.record().iter().map(|e| e.kind).collect();
            Error::new(ErrorKind::Timeout, format!("no such event within {limit:?}; there were {kinds:?}"))
        })
    }

    fn record(&self) -> MutexGuard<'_, Vec<ProgressEvent>> {
        self.0.events.lock().expect("no holder of the record panics")
    }
}

impl Default for RecordingSink {
    fn default() -> Self {
        Self::new()
    }
}

impl ProgressSink for RecordingSink {
    fn emit(&self, event: ProgressEvent) {
        let mut record = self.record();
        record.push(event);
        self.0.count.send_replace(record.len());
    }
}

impl fmt::Debug for RecordingSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordingSink({} events)", self.record().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use overskill_core::{Progress, ProgressKind, TestClock};

    const LIMIT: Duration = Duration::from_mins(1);

    fn tell(sink: &RecordingSink, run: &str) -> Progress {
        let stream = StreamName::tool_execution("42").unwrap();
        Progress::to(Arc::new(sink.clone()), stream, run).call("c", "os-write", 0).start("go")
    }

    #[tokio::test]
    async fn what_was_told_before_is_found_at_once() {
        let sink = RecordingSink::new();
        tell(&sink, "first").complete("done");
        let found = sink.wait_for(|e| e.kind == ProgressKind::Completed, LIMIT, &TestClock::new()).await.unwrap();
        assert_eq!(found.message, "done");
        let places: Vec<_> = sink.published(&found.stream).iter().map(|p| p.position.seq).collect();
        assert_eq!((places, sink.events().len()), (vec![1, 2], 2));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_event_is_missed_while_others_tell() {
        let clock = TestClock::new(); // stands still: a lost wake-up would wait for ever
        for round in 0..200 {
            let sink = RecordingSink::new();
            let (one, two) = (sink.clone(), sink.clone());
            let tellers = std::thread::spawn(move || {
                std::thread::scope(|s| {
                    s.spawn(|| (0..5).for_each(|n| tell(&one, &format!("one {n}")).complete("")));
                    s.spawn(|| (0..5).for_each(|n| tell(&two, &format!("two {n}")).complete("")));
                });
            });
            let last = |name: &'static str| {
                let sink = sink.clone();
                let clock = clock.clone();
                async move { sink.wait_for(|e| e.run == name && e.kind.is_terminal(), LIMIT, &clock).await }
            };
            let both = async { tokio::join!(last("one 4"), last("two 4")) };
            let (a, b) = tokio::time::timeout(LIMIT, both).await.unwrap_or_else(|_| panic!("lost in round {round}"));
            assert!(a.is_ok() && b.is_ok());
            tellers.join().unwrap();
        }
    }

    #[tokio::test]
    async fn a_wait_that_ends_says_what_came_instead() {
        let (sink, clock) = (RecordingSink::new(), TestClock::new());
        tell(&sink, "run").complete("done");
        let e = clock.drive(sink.wait_for(|e| e.run == "another", LIMIT, &clock)).await.unwrap_err();
        assert_eq!((e.kind(), clock.monotonic()), (ErrorKind::Timeout, LIMIT));
        assert!(e.message().ends_with("there were [Started, Completed]"), "{e}");
    }

    #[tokio::test]
    async fn the_condition_may_look_at_the_record() {
        let (sink, clock) = (RecordingSink::new(), TestClock::new());
        tell(&sink, "run").complete("done");
        let all = |e: &ProgressEvent| e.kind.is_terminal() && sink.events().len() == 2;
        assert!(sink.wait_for(all, LIMIT, &clock).await.is_ok());
    }
}
