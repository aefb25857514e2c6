use super::Shared;
use crate::{CatchUp, Ids, Incarnation, ProgressEvent, ProgressSink, Published, StreamName, StreamPosition, SystemIds};
use futures::stream::{BoxStream, Stream};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    num::NonZeroU32,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

/// The newest progress of the newest streams, in memory, with subscriptions. Clones share it.
///
/// Each stream keeps a bounded number of events, and when there are too many streams, the one that was silent longest is
/// forgotten; if it comes back, it is a new incarnation.
///
/// ```
/// use futures::StreamExt as _;
/// use overskill_core::{CatchUp, Progress, StreamName, memory::MemoryProgress};
/// use std::sync::Arc;
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
///
/// let (ring, stream) = (MemoryProgress::new(), StreamName::tool_execution("42").unwrap());
/// let mut live = ring.subscribe(&stream, None);
/// Progress::to(Arc::new(ring.clone()), stream.clone(), "run-7").start("Writing…").complete("Written");
///
/// let first = live.next().await.unwrap();
/// assert_eq!(first.event.message, "Writing…");
/// let CatchUp::Entries(rest) = ring.since(&stream, Some(first.position)) else { panic!("gone") };
/// assert_eq!(rest[0].event.message, "Written");
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct MemoryProgress {
    ids: Arc<dyn Ids>,
    max_events: usize,
    max_streams: usize,
    rings: Shared<Rings>,
}

#[derive(Default)]
struct Rings {
    streams: HashMap<StreamName, Ring>,
    /// Streams by when they were last written to.
    by_age: BTreeMap<u64, StreamName>,
    written: u64,
    /// Who waits for the next event of a stream, which may not be there yet.
    waiting: HashMap<StreamName, HashMap<u64, Waker>>,
    subscriptions: u64,
}

struct Ring {
    head: StreamPosition,
    events: VecDeque<Published>,
    written: u64,
}

impl MemoryProgress {
    /// Keeps 256 events of each of 1,024 streams.
    pub fn new() -> Self {
        let size = |n| NonZeroU32::new(n).expect("not zero");
        Self::with(Arc::new(SystemIds), size(256), size(1_024))
    }

    /// Keeps so many events of each of so many streams; incarnations come from `ids`.
    pub fn with(ids: Arc<dyn Ids>, events_per_stream: NonZeroU32, streams: NonZeroU32) -> Self {
        let (max_events, max_streams) = (events_per_stream.get() as usize, streams.get() as usize);
        Self { ids, max_events, max_streams, rings: Shared::default() }
    }

    /// What was told after `position`, oldest first; without one, all that is still kept.
    pub fn since(&self, stream: &StreamName, position: Option<StreamPosition>) -> CatchUp<Published> {
        let rings = self.rings.lock();
        match (rings.streams.get(stream), position) {
            (None, None) => CatchUp::Entries(Vec::new()),
            (None, Some(_)) => CatchUp::Gone,
            (Some(ring), None) => CatchUp::Entries(ring.events.iter().cloned().collect()),
            (Some(ring), Some(position)) => match ring.unread(position) {
                Some(unread) => CatchUp::Entries(ring.events.range(ring.events.len() - unread..).cloned().collect()),
                None => CatchUp::Gone,
            },
        }
    }

    /// What was told after `from`, and then what is told, without end; without `from`, beginning with all that is still
    /// kept. Nothing is lost or told twice where the two meet.
    ///
    /// Positions grow by one. **A jump marks a gap**: the subscriber (or `from`) was so slow that events had left the
    /// ring, or the stream began anew; it goes on with the oldest event there is.
    pub fn subscribe(&self, stream: &StreamName, from: Option<StreamPosition>) -> BoxStream<'static, Published> {
        let id = {
            let mut rings = self.rings.lock();
            rings.subscriptions += 1;
            rings.subscriptions
        };
        Box::pin(Subscription { rings: self.rings.clone(), stream: stream.clone(), read: from, id })
    }
}

impl Default for MemoryProgress {
    fn default() -> Self {
        Self::new()
    }
}

impl ProgressSink for MemoryProgress {
    fn emit(&self, event: ProgressEvent) {
        let waiting = {
            let mut rings = self.rings.lock();
            let waiting = rings.waiting.remove(&event.stream);
            rings.push(event, &*self.ids, self.max_events);
            while rings.streams.len() > self.max_streams
                && let Some((_, silent)) = rings.by_age.pop_first()
            {
                rings.streams.remove(&silent);
            }
            waiting
        };
        // Not under the lock: a waker may run its task at once.
        waiting.into_iter().flatten().for_each(|(_, waker)| waker.wake());
    }
}

impl Rings {
    fn push(&mut self, event: ProgressEvent, ids: &dyn Ids, max_events: usize) {
        self.written += 1;
        let name = event.stream.clone();
        let ring = self.streams.entry(name.clone()).or_insert_with(|| Ring {
            head: StreamPosition::start(Incarnation::generate(ids)),
            events: VecDeque::new(),
            written: 0,
        });
        ring.head = ring.head.next();
        ring.events.push_back(Published::new(ring.head, event));
        if ring.events.len() > max_events {
            ring.events.pop_front();
        }
        self.by_age.remove(&ring.written);
        ring.written = self.written;
        self.by_age.insert(self.written, name);
    }
}

impl Ring {
    /// How many events came after `position`, if all of them are kept.
    fn unread(&self, position: StreamPosition) -> Option<usize> {
        let behind = usize::try_from(position.behind(self.head)?).ok()?;
        Some(behind).filter(|behind| *behind <= self.events.len())
    }
}

/// It has a place in the ring instead of a queue of its own, so a slow subscriber costs no memory, and there is no moment
/// between catching up and listening.
struct Subscription {
    rings: Shared<Rings>,
    stream: StreamName,
    read: Option<StreamPosition>,
    id: u64,
}

impl Stream for Subscription {
    type Item = Published;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Published>> {
        let this = &mut *self;
        let mut rings = this.rings.lock();
        let next = rings.streams.get(&this.stream).and_then(|ring| {
            let unread = this.read.and_then(|read| ring.unread(read)).unwrap_or(ring.events.len());
            ring.events.get(ring.events.len() - unread)
        });
        if let Some(event) = next {
            this.read = Some(event.position);
            return Poll::Ready(Some(event.clone()));
        }
        rings.waiting.entry(this.stream.clone()).or_default().insert(this.id, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut rings = self.rings.lock();
        if let Some(waiting) = rings.waiting.get_mut(&self.stream) {
            waiting.remove(&self.id);
            if waiting.is_empty() {
                rings.waiting.remove(&self.stream);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Progress, SeededIds};
    use futures::{FutureExt, StreamExt};

    fn ring(events: u32, streams: u32) -> MemoryProgress {
        let size = |n| NonZeroU32::new(n).unwrap();
        MemoryProgress::with(Arc::new(SeededIds::new(1)), size(events), size(streams))
    }

    fn name(n: u32) -> StreamName {
        StreamName::parse(&format!("s{n}")).unwrap()
    }

    fn tell(ring: &MemoryProgress, stream: u32, messages: std::ops::Range<u32>) {
        let progress = Progress::to(Arc::new(ring.clone()), name(stream), "run").build();
        messages.for_each(|n| progress.log(n.to_string()));
        // Its `cancelled` would be one event more.
        std::mem::forget(progress);
    }

    fn messages(entries: impl IntoIterator<Item = Published>) -> Vec<u32> {
        entries.into_iter().map(|p| p.event.message.parse().unwrap()).collect()
    }

    async fn take(stream: &mut BoxStream<'static, Published>, n: usize) -> Vec<Published> {
        stream.by_ref().take(n).collect().await
    }

    #[tokio::test]
    async fn a_subscriber_that_keeps_up_gets_each_event_once() {
        let ring = ring(4, 4);
        tell(&ring, 1, 0..3);
        let mut live = ring.subscribe(&name(1), None);
        let mut got = take(&mut live, 2).await;
        tell(&ring, 1, 3..5);
        got.extend(take(&mut live, 3).await);
        assert!(live.next().now_or_never().is_none());
        tell(&ring, 1, 5..6);
        got.extend(take(&mut live, 1).await);
        assert_eq!(got.iter().map(|p| p.position.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(messages(got), [0, 1, 2, 3, 4, 5]);
    }

    #[tokio::test]
    async fn a_slow_subscriber_sees_the_gap_in_the_positions() {
        let ring = ring(3, 4);
        let mut live = ring.subscribe(&name(1), None);
        tell(&ring, 1, 0..1);
        assert_eq!(take(&mut live, 1).await[0].position.seq, 1);
        tell(&ring, 1, 1..10);
        let late = take(&mut live, 3).await;
        assert_eq!(late.iter().map(|p| p.position.seq).collect::<Vec<_>>(), [8, 9, 10]);
    }

    #[tokio::test]
    async fn a_sleeping_subscriber_is_woken_by_another_thread() {
        let ring = ring(3, 4);
        let mut live = ring.subscribe(&name(1), None);
        let teller = ring.clone();
        let wait = live.next();
        let thread = std::thread::spawn(move || tell(&teller, 1, 7..8));
        assert_eq!(messages(wait.await), [7]);
        thread.join().unwrap();
        drop(live);
        assert!(ring.rings.lock().waiting.is_empty(), "a dropped subscription leaves nothing behind");
    }

    #[tokio::test]
    async fn a_silent_stream_is_forgotten_and_comes_back_as_another_life() {
        let ring = ring(3, 2);
        let mut live = ring.subscribe(&name(1), None);
        tell(&ring, 1, 0..2);
        let before = take(&mut live, 2).await[1].position;
        tell(&ring, 2, 0..1);
        tell(&ring, 3, 0..1);
        assert_eq!(ring.since(&name(1), Some(before)), CatchUp::Gone);
        assert_eq!(ring.since(&name(1), None), CatchUp::Entries(vec![]));
        tell(&ring, 1, 2..3);
        assert_eq!(ring.since(&name(1), Some(before)), CatchUp::Gone);
        let after = take(&mut live, 1).await.remove(0);
        assert_ne!(after.position.incarnation, before.incarnation);
        assert_eq!(messages([after]), [2]);
        assert_eq!(ring.rings.lock().by_age.len(), 2);
    }

    #[test]
    fn catching_up_is_whole_or_gone() {
        let ring = ring(3, 2);
        tell(&ring, 1, 0..5);
        let CatchUp::Entries(kept) = ring.since(&name(1), None) else { panic!() };
        assert_eq!(messages(kept.clone()), [2, 3, 4]);
        let at = |seq| Some(StreamPosition::new(kept[0].position.incarnation, seq));
        assert_eq!(ring.since(&name(1), at(1)), CatchUp::Gone);
        assert_eq!(ring.since(&name(1), at(2)), CatchUp::Entries(kept.clone()));
        assert_eq!(ring.since(&name(1), at(5)), CatchUp::Entries(vec![]));
        assert_eq!(ring.since(&name(1), at(6)), CatchUp::Gone);
    }
}
