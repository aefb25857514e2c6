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
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
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

    /// Takes out somebody who no longer waits. False when nobody of that id does.
    pub(super) fn remove(&mut self, id: u64) -> bool {
        let Some(waiter) = self.waiting.remove(&id) else {
            return false;
        };
        self.lanes[waiter.priority as usize].remove(&waiter.app, id);
        true
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
    }

    fn front(&self) -> Option<u64> {
        self.calls.get(self.turns.front()?)?.front().copied()
    }

    fn pop(&mut self) -> Option<u64> {
        let app = self.turns.pop_front()?;
        let calls = self.calls.get_mut(&app)?;
        let id = calls.pop_front()?;
        if calls.is_empty() {
            self.calls.remove(&app);
        } else {
            self.turns.push_back(app);
        }
        Some(id)
    }

    fn remove(&mut self, app: &FairKey, id: u64) {
        let Some(calls) = self.calls.get_mut(app) else {
            return;
        };
        calls.retain(|other| *other != id);
        if calls.is_empty() {
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
        assert!(queue.remove(ids[1]));
        assert!(!queue.remove(ids[1]));
        assert!(queue.remove(ids[0]));
        assert_eq!(queue.front().unwrap().0, ids[2]);
        assert_eq!(order(&mut queue), "ac");
        assert!(queue.lanes.iter().all(|l| l.turns.is_empty() && l.calls.is_empty()));
    }
}
