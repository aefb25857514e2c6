//! Who waits for a permit, and who is next.

use super::{FairKey, Priority};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};
use tokio::sync::Notify;

/// One waiting call.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) app: FairKey,
    pub(super) priority: Priority,
    pub(super) cost: u32,
    pub(super) wake: Arc<Notify>,
}

/// The waiting calls: urgent ones first, apps by turns, each app's calls in order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    lanes: [Lane; 2],
    waiting: HashMap<u64, Waiter>,
    next_id: u64,
}

#[derive(Debug, Default)]
struct Lane {
    turns: VecDeque<FairKey>,
    calls: HashMap<FairKey, VecDeque<u64>>,
    len: usize,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn len_of(&self, priority: Priority) -> usize {
        self.lanes[priority as usize].len
    }

    pub(super) fn push(&mut self, waiter: Waiter) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.lanes[waiter.priority as usize].push(waiter.app.clone(), id);
        self.waiting.insert(id, waiter);
        id
    }

    /// Who is next.
    pub(super) fn front(&self) -> Option<(u64, &Waiter)> {
        let id = self.lanes.iter().find_map(Lane::front)?;
        Some((id, &self.waiting[&id]))
    }

    /// Takes out who is next.
    pub(super) fn pop(&mut self) -> Option<(u64, Waiter)> {
        let id = self.lanes.iter_mut().find_map(Lane::pop)?;
        Some((id, self.waiting.remove(&id)?))
    }

    /// Takes out the last call of the app that has most of that priority waiting; of several such, the newcomer's own
    /// comes first, so that nobody is driven out for an equal, and then the one whose call came last.
    pub(super) fn take_from_longest(&mut self, priority: Priority, newcomer: &FairKey) -> Option<(u64, Waiter)> {
        let id = self.lanes[priority as usize].pop_last_of_longest(newcomer)?;
        Some((id, self.waiting.remove(&id)?))
    }

    /// Takes out somebody who no longer waits; nothing happens when nobody of that id does.
    pub(super) fn remove(&mut self, id: u64) {
        if let Some(waiter) = self.waiting.remove(&id) {
            self.lanes[waiter.priority as usize].remove(&waiter.app, id);
        }
    }

    pub(super) fn wake(&self, id: u64) {
        if let Some(waiter) = self.waiting.get(&id) {
            waiter.wake.notify_one();
        }
    }
}

impl Lane {
    fn push(&mut self, app: FairKey, id: u64) {
        let calls = self.calls.entry(app.clone()).or_default();
        if calls.is_empty() {
            self.turns.push_back(app);
        }
        calls.push_back(id);
        self.len += 1;
    }

    fn front(&self) -> Option<u64> {
        self.calls.get(self.turns.front()?)?.front().copied()
    }

    fn pop(&mut self) -> Option<u64> {
        let app = self.turns.pop_front()?;
        let calls = self.calls.get_mut(&app)?;
        let id = calls.pop_front()?;
        self.len -= 1;
        if calls.is_empty() {
            self.calls.remove(&app);
        } else {
            self.turns.push_back(app);
        }
        Some(id)
    }

    fn pop_last_of_longest(&mut self, newcomer: &FairKey) -> Option<u64> {
        let length = |(app, calls): &(&FairKey, &VecDeque<u64>)| (calls.len(), *app == newcomer, calls.back().copied());
        let app = self.calls.iter().max_by_key(length)?.0.clone();
        let id = self.calls.get_mut(&app)?.pop_back()?;
        self.left(&app, 1);
        Some(id)
    }

    fn remove(&mut self, app: &FairKey, id: u64) {
        let Some(calls) = self.calls.get_mut(app) else {
            return;
        };
        let before = calls.len();
        calls.retain(|other| *other != id);
        let gone = before - calls.len();
        self.left(app, gone);
    }

    /// So many of the app's calls wait no more: with its last one it loses its turn.
    fn left(&mut self, app: &FairKey, gone: usize) {
        self.len -= gone;
        if self.calls.get(app).is_some_and(VecDeque::is_empty) {
            self.calls.remove(app);
            self.turns.retain(|other| other != app);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(app: &str, priority: Priority) -> Waiter {
        Waiter { app: app.into(), priority, cost: 1, wake: Arc::default() }
    }

    fn order(queue: &mut Queue) -> String {
        std::iter::from_fn(|| queue.pop().map(|(_, w)| w.app.to_string())).collect()
    }

    #[test]
    fn apps_take_turns_and_urgent_calls_go_first() {
        let mut queue = Queue::default();
        for app in ["a", "a", "a", "a", "b", "b", "c"] {
            queue.push(waiter(app, Priority::Normal));
        }
        queue.push(waiter("U", Priority::Urgent));
        assert_eq!(order(&mut queue), "Uabcabaa");
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn who_leaves_takes_no_turn() {
        let mut queue = Queue::default();
        let ids: Vec<_> = ["a", "b", "a", "c"].map(|app| queue.push(waiter(app, Priority::Normal))).into();
        queue.remove(ids[1]);
        queue.remove(ids[1]);
        queue.remove(ids[0]);
        assert_eq!(queue.len_of(Priority::Normal), 2);
        assert_eq!(queue.front().unwrap().0, ids[2]);
        assert_eq!(order(&mut queue), "ac");
        assert!(queue.lanes.iter().all(|l| l.turns.is_empty() && l.calls.is_empty()));
    }

    #[test]
    fn the_longest_gives_way_and_the_newcomer_among_equals() {
        let mut queue = Queue::default();
        for app in ["a", "b", "a", "c", "c"] {
            queue.push(waiter(app, Priority::Normal));
        }
        queue.push(waiter("U", Priority::Urgent));
        let mut take = |newcomer: &str| queue.take_from_longest(Priority::Normal, &newcomer.into()).unwrap();
        let taken = ["b", "a", "b", "c", "a"].map(|newcomer| {
            let (id, waiter) = take(newcomer);
            format!("{}{id}", waiter.app)
        });
        assert_eq!(taken, ["c4", "a2", "b1", "c3", "a0"]);
        assert!(queue.take_from_longest(Priority::Normal, &"a".into()).is_none());
        assert_eq!((queue.len_of(Priority::Normal), queue.len_of(Priority::Urgent)), (0, 1));
        assert!(queue.lanes[1].turns.is_empty());
    }
}
