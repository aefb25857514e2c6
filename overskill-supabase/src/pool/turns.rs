//! Who is next: places for transactions, handed out by plan and in turn between apps.

use super::Plan;
use overskill_core::{AppId, Clock, Effect, Error, ErrorKind, Result, Retry};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::sync::oneshot;

/// The places of one pool. Cheap to clone.
#[derive(Clone)]
pub(super) struct Turns(Arc<Mutex<State>>);

struct State {
    free: u32,
    /// Places in use, by plan.
    plans: BTreeMap<&'static str, u32>,
    apps: HashMap<AppId, App>,
    /// Apps that somebody waits for, each once, in the order of their turns.
    ring: VecDeque<AppId>,
}

struct App {
    plan: Plan,
    running: u32,
    waiting: VecDeque<oneshot::Sender<Place>>,
}

/// A place, until it is dropped.
pub(crate) struct Place {
    turns: Option<Turns>,
    app: AppId,
    plan: &'static str,
}

impl Turns {
    pub(super) fn new(places: u32) -> Self {
        let state = State { free: places, plans: BTreeMap::new(), apps: HashMap::new(), ring: VecDeque::new() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// A place for `app`, once its plan has room and it is its turn; at most for as long as the plan says.
    pub(super) async fn take(&self, app: &AppId, plan: Plan, clock: &dyn Clock) -> Result<Place> {
        let waiting = {
            let mut state = self.lock();
            let entry = state.apps.entry(app.clone());
            let entry = entry.or_insert_with(|| App { plan, running: 0, waiting: VecDeque::new() });
            entry.plan = plan;
            entry.waiting.retain(|w| !w.is_closed());
            if entry.waiting.len() >= plan.waiting_per_app as usize && !entry.is_at_once(plan) {
                let message = format!(
                    "{} calls wait for app `{app}`, which is all that plan `{}` lets wait",
                    entry.waiting.len(),
                    plan.name
                );
                state.forget(app);
                return Err(busy(ErrorKind::RateLimited, message).retry_as(Retry::After(Duration::from_secs(1))));
            }
            let (turn, waiting) = oneshot::channel();
            entry.waiting.push_back(turn);
            if !state.ring.contains(app) {
                state.ring.push_back(app.clone());
            }
            self.hand_out(&mut state);
            waiting
        };
        tokio::select! {
            biased;
            place = waiting => place.map_err(|_| busy(ErrorKind::Unavailable, "the pool is gone".into())),
            () = clock.sleep(plan.wait) => {
                let message = format!("no connection was free for app `{app}` within {:?} (plan `{}`)", plan.wait, plan.name);
                Err(busy(ErrorKind::Unavailable, message))
            }
        }
    }

    /// Gives free places to those whose turn it is.
    fn hand_out(&self, state: &mut State) {
        let mut passed = 0;
        while state.free > 0 && passed < state.ring.len() {
            let Some(app) = state.ring.pop_front() else { return };
            let State { free, plans, apps, ring } = &mut *state;
            let Some(entry) = apps.get_mut(&app) else { continue };
            let plan = entry.plan;
            let used = plans.entry(plan.name).or_insert(0);
            let mut served = false;
            if entry.running < plan.connections_per_app.get() && *used < plan.connections.get() {
                while let Some(turn) = entry.waiting.pop_front() {
                    let place = Place { turns: Some(self.clone()), app: app.clone(), plan: plan.name };
                    match turn.send(place) {
                        Ok(()) => {
                            (entry.running, *used, *free) = (entry.running + 1, *used + 1, *free - 1);
                            served = true;
                            break;
                        }
                        // Nobody waits any more; it was not counted, so it gives nothing back.
                        Err(mut place) => place.turns = None,
                    }
                }
            }
            if !entry.waiting.is_empty() {
                ring.push_back(app);
            } else if entry.running == 0 {
                apps.remove(&app);
            }
            passed = if served { 0 } else { passed + 1 };
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder of the turns panics")
    }

    #[cfg(test)]
    fn counts(&self) -> (u32, usize, usize) {
        let state = self.lock();
        (state.free, state.apps.len(), state.ring.len())
    }
}

impl State {
    fn forget(&mut self, app: &AppId) {
        if self.apps.get(app).is_some_and(|entry| entry.running == 0 && entry.waiting.is_empty()) {
            self.apps.remove(app);
            self.ring.retain(|other| other != app);
        }
    }
}

impl App {
    fn is_at_once(&self, plan: Plan) -> bool {
        self.waiting.is_empty() && self.running < plan.connections_per_app.get()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(turns) = self.turns.take() else { return };
        let mut state = turns.lock();
        state.free += 1;
        if let Some(used) = state.plans.get_mut(self.plan) {
            *used -= 1;
        }
        if let Some(entry) = state.apps.get_mut(&self.app) {
            entry.running -= 1;
            entry.waiting.retain(|w| !w.is_closed());
        }
        state.forget(&self.app);
        turns.hand_out(&mut state);
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("app", &self.app).field("plan", &self.plan).finish_non_exhaustive()
    }
}

fn busy(kind: ErrorKind, message: String) -> Error {
    Error::new(kind, message).effect_as(Effect::None).at(crate::tx::fault::BACKEND, "take a connection")
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt as _, future::LocalBoxFuture};
    use overskill_core::TestClock;
    use std::num::NonZeroU32;

    fn plan(per_app: u32, all: u32, waiting: u32) -> Plan {
        let some = |n| NonZeroU32::new(n).unwrap();
        let mut plan = Plan::new("free").connections_per_app(some(per_app)).connections(some(all));
        plan.waiting_per_app = waiting;
        plan
    }

    fn app(name: &str) -> AppId {
        AppId::parse(name).unwrap()
    }

    fn ready<T>(future: &mut LocalBoxFuture<'_, T>) -> Option<T> {
        future.as_mut().now_or_never()
    }

    #[test]
    fn who_waits_for_a_quiet_app_is_not_behind_a_busy_ones_queue() {
        let (turns, clock) = (Turns::new(1), TestClock::new());
        let take = |name: &str| {
            let (turns, clock, app) = (turns.clone(), clock.clone(), app(name));
            async move { turns.take(&app, plan(4, 9, 100), &clock).await }.boxed_local()
        };
        let first = ready(&mut take("busy")).unwrap().unwrap();
        let mut queue: Vec<_> = (0..5).map(|_| take("busy")).collect();
        assert!(queue.iter_mut().all(|w| ready(w).is_none()));
        let mut quiet = take("quiet");
        assert!(ready(&mut quiet).is_none());
        drop(first);
        let served = ready(&mut queue[0]).unwrap().unwrap();
        drop(served);
        let served = ready(&mut quiet).expect("its turn comes before the rest of the queue").unwrap();
        drop(served);
        for waiting in queue.iter_mut().skip(1) {
            drop(ready(waiting).unwrap().unwrap());
        }
        assert_eq!(turns.counts(), (1, 0, 0), "nothing is left behind");
    }

    #[test]
    fn limits_hold_for_each_app_and_each_plan() {
        let (turns, clock) = (Turns::new(10), TestClock::new());
        let take = |name: &str, plan: Plan| {
            let (turns, clock, app) = (turns.clone(), clock.clone(), app(name));
            async move { turns.take(&app, plan, &clock).await }.boxed_local()
        };
        let free = plan(2, 3, 1);
        let one = [ready(&mut take("one", free)).unwrap().unwrap(), ready(&mut take("one", free)).unwrap().unwrap()];
        let mut third = take("one", free);
        assert!(ready(&mut third).is_none(), "two for each app");
        let e = ready(&mut take("one", free)).unwrap().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::RateLimited);
        assert!(e.to_string().contains("plan `free`"), "{e}");
        let two = ready(&mut take("two", free)).unwrap().unwrap();
        let mut full = take("three", free);
        assert!(ready(&mut full).is_none(), "three for the plan");
        let mut paid = plan(2, 5, 2);
        paid.name = "paid";
        let paid = ready(&mut take("three", paid)).expect("another plan has room of its own").unwrap();
        drop((one, two, paid));
        assert!(ready(&mut third).is_some() && ready(&mut full).is_some());
    }

    #[test]
    fn waits_are_bounded_and_those_who_left_are_passed_over() {
        let (turns, clock) = (Turns::new(1), TestClock::new());
        let take = |name: &str| {
            let (turns, clock, app) = (turns.clone(), clock.clone(), app(name));
            async move { turns.take(&app, plan(1, 1, 9), &clock).await }.boxed_local()
        };
        let held = ready(&mut take("one")).unwrap().unwrap();
        let (mut late, mut gone, mut next) = (take("one"), take("one"), take("one"));
        for waiting in [&mut late, &mut gone] {
            assert!(ready(waiting).is_none());
        }
        clock.advance(Plan::new("free").wait);
        let e = ready(&mut late).unwrap().unwrap_err();
        assert_eq!((e.kind(), e.effect()), (ErrorKind::Unavailable, Effect::None));
        drop((late, gone));
        assert!(ready(&mut next).is_none());
        drop(held);
        // Given out, and dropped before it was looked at: the place comes back.
        drop(next);
        assert_eq!(turns.counts(), (1, 0, 0));
    }
}
