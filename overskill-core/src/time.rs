//! Time: [`Timestamp`], and the [`Clock`] from which everything takes it.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};
use tokio::sync::oneshot;

use crate::{Error, ErrorKind, Result};

/// Milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);

    /// From milliseconds since the Unix epoch.
    pub const fn from_unix_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_unix_millis(self) -> i64 {
        self.0
    }

    /// This much later; saturates at the end of time.
    pub fn plus(self, d: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
    }

    /// This much earlier; saturates at the beginning of time.
    pub fn minus(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long since `earlier`; zero when that lies in the future.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// RFC 3339, in UTC, with milliseconds.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(t) => write!(f, "{t:.3}"),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

/// Where time comes from. Nothing in overskill reads a clock in passing.
///
/// [`SystemClock`] in service, [`TestClock`] in tests.
#[async_trait]
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Wall-clock time. May jump; use it for what is stored or shown.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment, never going back; use it to measure.
    fn monotonic(&self) -> Duration;

    /// Waits. The future does nothing before its first poll, and may be dropped at any time.
    async fn sleep(&self, duration: Duration);
}

#[async_trait]
impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }
    fn monotonic(&self) -> Duration {
        (**self).monotonic()
    }
    async fn sleep(&self, duration: Duration) {
        (**self).sleep(duration).await;
    }
}

/// Gives `future` at most `limit`; afterwards it is dropped and the error is `Timeout` with unknown effect.
pub async fn timeout<T>(clock: &dyn Clock, limit: Duration, future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased;
        done = future => done,
        () = clock.sleep(limit) => Err(Error::new(ErrorKind::Timeout, format!("no answer within {limit:?}"))),
    }
}

/// The machine's clocks. Needs a tokio runtime with time enabled for [`sleep`](Clock::sleep).
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp::EPOCH.plus(since)
    }

    fn monotonic(&self) -> Duration {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        START.get_or_init(std::time::Instant::now).elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// A clock that stands still until it is told to move; clones share it.
///
/// Unlike tokio's paused clock it leaves real sockets and child processes alone.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use overskill_core::{Clock, TestClock};
/// use std::time::Duration;
///
/// let clock = TestClock::new();
/// let waiting = clock.clone();
/// let sleep = async move { waiting.sleep(Duration::from_mins(1)).await };
/// let mover = async { clock.next_sleeper().await; clock.advance(Duration::from_mins(1)); };
/// tokio::join!(sleep, mover); // done at once
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct TestClock(Arc<Mutex<TestTime>>);

#[derive(Debug)]
struct TestTime {
    start: Timestamp,
    elapsed: Duration,
    skew: i64,
    next: u64,
    sleepers: BTreeMap<(Duration, u64), oneshot::Sender<()>>,
    watchers: Vec<oneshot::Sender<()>>,
}

impl TestClock {
    /// A clock that stands at 2026-01-01T00:00:00Z.
    pub fn new() -> Self {
        Self::at(Timestamp::from_unix_millis(1_767_225_600_000))
    }

    /// A clock that stands at `start`.
    pub fn at(start: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(TestTime {
            start,
            elapsed: Duration::ZERO,
            skew: 0,
            next: 0,
            sleepers: BTreeMap::new(),
            watchers: Vec::new(),
        })))
    }

    /// Moves time forward and wakes whoever's sleep has ended, earliest first.
    pub fn advance(&self, by: Duration) {
        let mut time = self.lock();
        time.elapsed += by;
        let (elapsed, next) = (time.elapsed, time.next);
        let later = time.sleepers.split_off(&(elapsed, next));
        for (_, wake) in std::mem::replace(&mut time.sleepers, later) {
            let _ = wake.send(()); // a dropped sleep has nobody to wake
        }
    }

    /// Moves time to the end of the earliest sleep; false when nobody sleeps.
    pub fn advance_to_next_sleeper(&self) -> bool {
        let by = {
            let mut time = self.lock();
            time.sleepers.retain(|_, wake| !wake.is_closed());
            match time.sleepers.keys().next() {
                Some((until, _)) => until.saturating_sub(time.elapsed),
                None => return false,
            }
        };
        self.advance(by);
        true
    }

    /// Jumps the wall clock (not the monotonic one), as a wrong or corrected machine clock does.
    pub fn skew_millis(&self, by: i64) {
        self.lock().skew += by;
    }

    /// Ends when somebody sleeps.
    pub async fn next_sleeper(&self) {
        let seen = {
            let mut time = self.lock();
            time.sleepers.retain(|_, wake| !wake.is_closed());
            if !time.sleepers.is_empty() {
                return;
            }
            let (tell, seen) = oneshot::channel();
            time.watchers.push(tell);
            seen
        };
        let _ = seen.await;
    }

    /// Drives `future` to its end, moving time to the next sleep whenever nothing else can go on.
    ///
    /// For futures that wait for nothing but this clock: with real sockets inside, time would run away.
    pub async fn drive<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        loop {
            tokio::select! {
                biased;
                done = &mut future => return done,
                () = self.next_sleeper() => {}
            }
            // What is ready without time goes first.
            tokio::select! {
                biased;
                done = &mut future => return done,
                () = yield_once() => { self.advance_to_next_sleeper(); }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, TestTime> {
        self.0.lock().expect("no holder of the test clock panics")
    }
}

impl Default for TestClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let time = self.lock();
        let now = time.start.plus(time.elapsed);
        Timestamp(now.0.saturating_add(time.skew))
    }

    fn monotonic(&self) -> Duration {
        self.lock().elapsed
    }

    async fn sleep(&self, duration: Duration) {
        if duration.is_zero() {
            return;
        }
        let woken = {
            let mut time = self.lock();
            let (wake, woken) = oneshot::channel();
            let key = (time.elapsed.saturating_add(duration), time.next);
            time.next += 1;
            time.sleepers.insert(key, wake);
            for watcher in time.watchers.drain(..) {
                let _ = watcher.send(());
            }
            woken
        };
        let _ = woken.await;
    }
}

async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_print_as_rfc_3339() {
        let t = Timestamp::from_unix_millis(1_767_225_600_123);
        assert_eq!(t.to_string(), "2026-01-01T00:00:00.123Z");
        assert_eq!(Timestamp(i64::MAX).to_string(), format!("{} ms", i64::MAX));
    }

    #[test]
    fn arithmetic_saturates() {
        let t = Timestamp::from_unix_millis(5);
        assert_eq!(t.plus(Duration::MAX), Timestamp(i64::MAX));
        assert_eq!(t.since(t.plus(Duration::from_secs(1))), Duration::ZERO);
        assert_eq!(t.plus(Duration::from_secs(1)).since(t), Duration::from_secs(1));
    }

    #[tokio::test]
    async fn sleepers_wake_in_order_and_only_when_due() {
        let clock = TestClock::new();
        let woken = Mutex::new(Vec::new());
        let sleep = async |name, secs| {
            clock.sleep(Duration::from_secs(secs)).await;
            woken.lock().unwrap().push(name);
        };
        let mover = async {
            clock.next_sleeper().await;
            clock.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
            assert_eq!(*woken.lock().unwrap(), ["a"]);
            clock.advance(Duration::from_secs(1));
        };
        tokio::join!(sleep("b", 2), sleep("a", 1), mover);
        assert_eq!(*woken.lock().unwrap(), ["a", "b"]);
    }

    #[tokio::test]
    async fn a_timeout_has_unknown_effect_and_takes_no_real_time() {
        let clock = TestClock::new();
        let never = std::future::pending::<Result<()>>();
        let e = clock.drive(timeout(&clock, Duration::from_hours(1), never)).await.unwrap_err();
        assert_eq!((e.kind(), e.effect()), (ErrorKind::Timeout, crate::Effect::Unknown));
        assert_eq!(clock.monotonic(), Duration::from_hours(1));
    }

    #[test]
    fn skew_moves_the_wall_clock_only() {
        let clock = TestClock::at(Timestamp(1000));
        clock.skew_millis(-400);
        assert_eq!(clock.now(), Timestamp(600));
        assert_eq!(clock.monotonic(), Duration::ZERO);
    }
}
