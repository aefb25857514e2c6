//! The rate limiter of one credential, shared by everybody who uses it.

mod bucket;
mod queue;

use bucket::Bucket;
use overskill_core::{AppId, Clock, Error, ErrorKind, Result, Retry};
use queue::{Queue, Waiter};
use std::{
    collections::HashMap,
    fmt,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::sync::Notify;

/// How many calls a credential may make.
///
/// ```
/// use overskill_http::Quota;
/// use std::{num::NonZeroU32, time::Duration};
///
/// // Cloudflare's API: 1,200 requests in 5 minutes for a user, over all of their tokens.
/// let quota = Quota::new(NonZeroU32::new(1_200).unwrap(), Duration::from_secs(300)).reserve(20);
/// # let _ = quota;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    calls: NonZeroU32,
    window: Duration,
    burst: NonZeroU32,
    reserve: u32,
    max_queued: usize,
    max_in_flight: Option<NonZeroU32>,
}

impl Quota {
    /// How many [urgent](Priority::Urgent) calls may wait.
    pub const MAX_QUEUED_URGENT: usize = 1_000;

    /// At most `calls` in any `window` (half-open, wherever it begins).
    pub fn new(calls: NonZeroU32, window: Duration) -> Self {
        Self {
            calls,
            window,
            burst: NonZeroU32::new(calls.get() / 10).unwrap_or(NonZeroU32::MIN),
            reserve: 0,
            max_queued: 10_000,
            max_in_flight: None,
        }
    }

    /// How many of them may go at once after a quiet time; a tenth unless set. What may burst is not there to flow:
    /// the steady rate is `(calls − burst + 1) / window`, so that no window ever holds more than `calls`.
    pub fn burst(mut self, calls: NonZeroU32) -> Self {
        self.burst = calls;
        self
    }

    /// How many calls of the burst are kept for [`Priority::Urgent`]; none unless set. Must be less than the burst.
    pub fn reserve(mut self, calls: u32) -> Self {
        self.reserve = calls;
        self
    }

    /// How many calls may wait; 10,000 unless set. Urgent ones do not count: they have
    /// [places of their own](Quota::MAX_QUEUED_URGENT).
    ///
    /// When all places are taken, whoever has most calls waiting pays: its next call fails at once with `RateLimited`,
    /// and a call of anybody else takes the place of its last one, which fails so in its stead.
    pub fn max_queued(mut self, calls: usize) -> Self {
        self.max_queued = calls;
        self
    }

    /// How many calls may be under way at the same time; any number unless set.
    pub fn max_in_flight(mut self, calls: NonZeroU32) -> Self {
        self.max_in_flight = Some(calls);
        self
    }

    fn check(&self) -> Result<()> {
        if self.window.is_zero() {
            return Err(Error::invalid("quota window must be longer than 0"));
        }
        if self.burst > self.calls {
            return Err(Error::invalid(format!(
                "quota burst must be at most its calls, {}, but was {}",
                self.calls, self.burst
            )));
        }
        if self.reserve >= self.burst.get() {
            return Err(Error::invalid(format!(
                "quota reserve must be less than its burst, {}, but was {}",
                self.burst, self.reserve
            )));
        }
        Ok(())
    }
}

/// Which calls go first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Priority {
    /// Goes before all others and may use the [reserve](Quota::reserve): rollbacks, switching something off. Not what tidies
    /// up: it would be gone when somebody has to go back.
    Urgent = 0,
    /// Everything else.
    #[default]
    Normal = 1,
}

/// Whose turn it is: calls of different keys take turns, however many each has waiting. An [`AppId`] mostly; the empty
/// key, which is the default, stands for the platform itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FairKey(Arc<str>);

impl Default for FairKey {
    fn default() -> Self {
        Self::from("")
    }
}

impl From<&str> for FairKey {
    fn from(key: &str) -> Self {
        Self(key.into())
    }
}

impl From<String> for FairKey {
    fn from(key: String) -> Self {
        Self(key.into())
    }
}

impl From<&AppId> for FairKey {
    fn from(app: &AppId) -> Self {
        Self(app.as_str().into())
    }
}

impl fmt::Display for FairKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Lets calls through as a [`Quota`] allows. Clones share it: give one to every client that uses the same credential.
///
/// - Nobody is starved: apps take turns, and a full queue makes room at the cost of the app that waits most.
/// - It spawns nothing. One of those who wait sleeps for all; when its future is dropped, another takes over, and a
///   dropped wait leaves no gap and costs no call.
/// - [`pause`](Limiter::pause) holds everybody, as a 429 asks for; afterwards calls start one by one.
///
/// Metrics: the gauge `overskill_http_queue_length` and the histogram `overskill_http_queue_seconds`, both with label
/// `backend`.
#[derive(Clone)]
pub struct Limiter(Arc<Shared>);

struct Shared {
    name: String,
    quota: Quota,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    bucket: Bucket,
    queue: Queue,
    /// Whose wait has ended, and who has not woken up to see it.
    settled: HashMap<u64, Settled>,
    in_flight: u32,
    /// Who sleeps for all, and until when.
    driver: Option<(u64, Duration)>,
}

impl Limiter {
    /// A limiter; `backend` labels its metrics and errors.
    ///
    /// # Errors
    /// `Invalid` when the window is zero, the burst more than the calls, or the reserve not less than the burst.
    pub fn new(backend: impl Into<String>, quota: Quota, clock: Arc<dyn Clock>) -> Result<Self> {
        quota.check()?;
        let bucket = Bucket::new(quota.calls.get(), quota.window, quota.burst.get(), clock.monotonic());
        Ok(Self(Arc::new(Shared {
            name: backend.into(),
            quota,
            clock,
            state: Mutex::new(State {
                bucket,
                queue: Queue::default(),
                settled: HashMap::new(),
                in_flight: 0,
                driver: None,
            }),
        })))
    }

    /// Waits for a permit to make a call that costs `cost`, which most providers count as 1.
    ///
    /// # Errors
    /// `RateLimited` without effect when too many wait, at once or later; it says after how long it is worth trying
    /// again.
    /// `Invalid` when the call costs more than could ever be there.
    pub async fn acquire(&self, app: FairKey, priority: Priority, cost: NonZeroU32) -> Result<Permit> {
        let shared = &*self.0;
        let began = shared.clock.monotonic();
        let ticket = Ticket { limiter: self, id: None, cost: cost.get(), wake: Arc::new(Notify::new()) };
        let ticket = self.enter(ticket, app, priority)?;
        loop {
            let wait = shared.lock().wait(&ticket, shared); // a statement of its own, so that the lock ends with it
            match wait {
                Wait::Over(outcome) => break outcome?,
                Wait::Sleep(time) => tokio::select! {
                    biased;
                    () = ticket.wake.notified() => {}
                    () = shared.clock.sleep(time) => {}
                },
                Wait::ToBeWoken => ticket.wake.notified().await,
            }
        }
        drop(ticket);
        let waited = shared.clock.monotonic().saturating_sub(began);
        metrics::histogram!("overskill_http_queue_seconds", "backend" => shared.name.clone())
            .record(waited.as_secs_f64());
        Ok(Permit { limiter: self.clone(), waited })
    }

    /// Lets no call through for this long: the server asked for it. A pause that ends earlier changes nothing.
    pub fn pause(&self, time: Duration) {
        let now = self.0.clock.monotonic();
        let first = self.0.quota.reserve + 1;
        let until = now.saturating_add(time);
        self.0.lock().bucket.pause(until, first, now);
    }

    /// How many calls wait.
    pub fn queue_length(&self) -> usize {
        self.0.lock().queue.len()
    }

    fn enter<'a>(&self, mut ticket: Ticket<'a>, app: FairKey, priority: Priority) -> Result<Ticket<'a>> {
        let Shared { name, quota, .. } = &*self.0;
        let cost = ticket.cost;
        let most = quota.burst.get() - quota.reserve;
        if cost > most {
            return Err(Error::invalid(format!(
                "call cost must be at most {most}, the quota's burst less its reserve, but was {cost}"
            ))
            .at(name.clone(), "queue"));
        }
        metrics::gauge!("overskill_http_queue_length", "backend" => name.clone()).increment(1);
        let waiter = Waiter { app, priority, cost, wake: Arc::clone(&ticket.wake) };
        ticket.id = Some(self.0.lock().enter(waiter, &self.0));
        Ok(ticket)
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").field("backend", &self.0.name).field("quota", &self.0.quota).finish_non_exhaustive()
    }
}

/// The right to make one call. Drop it when the call has ended.
#[derive(Debug)]
pub struct Permit {
    limiter: Limiter,
    waited: Duration,
}

impl Permit {
    /// How long it took to come.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let shared = &*self.limiter.0;
        let mut state = shared.lock();
        state.in_flight -= 1;
        state.advance(shared);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the limiter panics")
    }

    fn floor(&self, priority: Priority) -> u32 {
        match priority {
            Priority::Urgent => 0,
            Priority::Normal => self.quota.reserve,
        }
    }

    fn places(&self, priority: Priority) -> usize {
        match priority {
            Priority::Urgent => Quota::MAX_QUEUED_URGENT,
            Priority::Normal => self.quota.max_queued,
        }
    }

    fn refusal(&self, priority: Priority, after: Duration) -> Error {
        let which = match priority {
            Priority::Urgent => "urgent calls",
            Priority::Normal => "calls",
        };
        let places = self.places(priority);
        Error::new(ErrorKind::RateLimited, format!("at most {places} {which} may wait for this credential"))
            .retry_as(Retry::After(after))
            .at(self.name.clone(), "queue")
    }
}

impl State {
    /// Queues a call, and makes room for it if there is none.
    fn enter(&mut self, waiter: Waiter, shared: &Shared) -> u64 {
        let (app, priority) = (waiter.app.clone(), waiter.priority);
        let id = self.queue.push(waiter);
        self.advance(shared);
        if self.queue.len_of(priority) > shared.places(priority)
            && let Some((refused, waiter)) = self.queue.take_from_longest(priority, &app)
        {
            self.settled.insert(refused, Settled::Refused(priority));
            waiter.wake.notify_one();
            // It may have been about to sleep for all.
            self.driver = self.driver.filter(|(driver, _)| *driver != refused);
            self.advance(shared);
        }
        id
    }

    /// Hands out what there is, and sees to it that somebody wakes up for the next.
    fn advance(&mut self, shared: &Shared) {
        let now = shared.clock.monotonic();
        while let Some((_, next)) = self.queue.front() {
            // Who is next holds up all others, so that a dear call is not starved by cheap ones.
            if self.is_full(shared) || !self.bucket.take(next.cost, shared.floor(next.priority), now) {
                break;
            }
            let Some((id, waiter)) = self.queue.pop() else {
                break;
            };
            self.in_flight += 1;
            self.settled.insert(id, Settled::Granted);
            waiter.wake.notify_one();
        }
        let Some((next, at)) = self.next(shared) else {
            return;
        };
        match self.driver {
            None => self.queue.wake(next),
            Some((driver, until)) if at < until => self.queue.wake(driver),
            Some(_) => {}
        }
    }

    fn wait(&mut self, ticket: &Ticket<'_>, shared: &Shared) -> Wait {
        self.advance(shared);
        let Some(id) = ticket.id else {
            return Wait::Over(Ok(()));
        };
        match self.settled.remove(&id) {
            None => {}
            Some(Settled::Granted) => return Wait::Over(Ok(())),
            Some(Settled::Refused(priority)) => {
                let queued = u32::try_from(self.queue.len()).unwrap_or(u32::MAX);
                let after = self.bucket.ready_at(queued, 0).saturating_sub(shared.clock.monotonic());
                return Wait::Over(Err(shared.refusal(priority, after)));
            }
        }
        if self.driver.is_some_and(|(driver, _)| driver != id) {
            return Wait::ToBeWoken;
        }
        let until = self.next(shared).map_or(Duration::MAX, |(_, at)| at);
        self.driver = Some((id, until));
        match until {
            Duration::MAX => Wait::ToBeWoken,
            _ => Wait::Sleep(until.saturating_sub(shared.clock.monotonic())),
        }
    }

    /// Who is next, and when its permit comes; `MAX` when that depends on a call that is under way.
    fn next(&self, shared: &Shared) -> Option<(u64, Duration)> {
        let (id, next) = self.queue.front()?;
        let at = if self.is_full(shared) {
            Duration::MAX
        } else {
            self.bucket.ready_at(next.cost, shared.floor(next.priority))
        };
        Some((id, at))
    }

    fn is_full(&self, shared: &Shared) -> bool {
        let most = shared.quota.max_in_flight;
        most.is_some_and(|most| self.in_flight >= most.get())
    }
}

/// How a wait ended.
enum Settled {
    Granted,
    /// Another one took its place in the queue.
    Refused(Priority),
}

/// What a waiting call does next.
enum Wait {
    /// The permit is there, or never comes.
    Over(Result<()>),
    /// It sleeps for all.
    Sleep(Duration),
    /// Another one sleeps, or a call under way has to end first.
    ToBeWoken,
}

/// A place in the queue. Dropping it leaves the queue, wherever the wait had got to.
struct Ticket<'a> {
    limiter: &'a Limiter,
    id: Option<u64>,
    cost: u32,
    wake: Arc<Notify>,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let shared = &*self.limiter.0;
        let Some(id) = self.id else {
            return;
        };
        metrics::gauge!("overskill_http_queue_length", "backend" => shared.name.clone()).decrement(1);
        let mut state = shared.lock();
        match state.settled.remove(&id) {
            Some(Settled::Granted) => {
                // The permit came, and nobody was left to take it.
                state.bucket.give_back(self.cost);
                state.in_flight -= 1;
            }
            Some(Settled::Refused(_)) => {}
            None => state.queue.remove(id),
        }
        if state.driver.is_some_and(|(driver, _)| driver == id) {
            state.driver = None;
        }
        state.advance(shared);
    }
}
