//! What was found out a moment ago, and what was withdrawn since.

use overskill_core::{SubjectId, Timestamp};
use sha2::{Digest, Sha256};
use std::{collections::HashMap, hash::Hash, mem, sync::Mutex};

pub(super) type Sum = [u8; 32];

pub(super) fn sum(text: &str) -> Sum {
    Sha256::digest(text.as_bytes()).into()
}

/// A map of bounded size that forgets what was not used for longest, roughly: it keeps two halves, and what is found in the
/// older moves to the newer.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    halves: Mutex<(HashMap<K, V>, HashMap<K, V>)>,
    half: usize,
}

impl<K: Hash + Eq, V: Clone> Recent<K, V> {
    pub(super) fn new(most: usize) -> Self {
        Self { halves: Mutex::default(), half: most.div_ceil(2).max(1) }
    }

    pub(super) fn get(&self, key: &K) -> Option<V> {
        let mut halves = self.halves.lock().expect("nothing panics while it is held");
        if let Some(found) = halves.0.get(key) {
            return Some(found.clone());
        }
        let (key, found) = halves.1.remove_entry(key)?;
        self.put(&mut halves, key, found.clone());
        Some(found)
    }

    pub(super) fn insert(&self, key: K, value: V) {
        let mut halves = self.halves.lock().expect("nothing panics while it is held");
        halves.1.remove(&key);
        self.put(&mut halves, key, value);
    }

    pub(super) fn retain(&self, wanted: impl Fn(&K, &V) -> bool) {
        let mut halves = self.halves.lock().expect("nothing panics while it is held");
        halves.0.retain(|k, v| wanted(k, v));
        halves.1.retain(|k, v| wanted(k, v));
    }

    fn put(&self, halves: &mut (HashMap<K, V>, HashMap<K, V>), key: K, value: V) {
        if halves.0.len() >= self.half && !halves.0.contains_key(&key) {
            halves.1 = mem::take(&mut halves.0);
        }
        halves.0.insert(key, value);
    }
}

/// What was withdrawn: tokens by what was signed (its signature can be written in more than one way), and subjects with
/// all that became valid before some moment.
#[derive(Debug, Default)]
pub(super) struct Withdrawn(Mutex<Lists>);

#[derive(Debug, Default)]
struct Lists {
    /// Until when the token would be valid.
    tokens: HashMap<Sum, Timestamp>,
    /// Since when tokens count again, and until when that needs to be known.
    subjects: HashMap<SubjectId, (Timestamp, Timestamp)>,
    /// At this size, what has expired is swept out.
    sweep_at: usize,
}

impl Withdrawn {
    pub(super) fn token(&self, signed: Sum, until: Timestamp, now: Timestamp) {
        let mut lists = self.lock();
        lists.sweep(now);
        lists.tokens.insert(signed, until);
    }

    pub(super) fn subject(&self, subject: SubjectId, since: Timestamp, until: Timestamp, now: Timestamp) {
        let mut lists = self.lock();
        lists.sweep(now);
        let entry = lists.subjects.entry(subject).or_insert((since, until));
        *entry = (entry.0.max(since), entry.1.max(until));
    }

    pub(super) fn has(&self, signed: &Sum, subject: &SubjectId, from: Timestamp) -> bool {
        let lists = self.lock();
        if lists.tokens.is_empty() && lists.subjects.is_empty() {
            return false;
        }
        lists.tokens.contains_key(signed) || lists.subjects.get(subject).is_some_and(|(since, _)| from < *since)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Lists> {
        self.0.lock().expect("nothing panics while it is held")
    }
}

impl Lists {
    fn sweep(&mut self, now: Timestamp) {
        if self.tokens.len() + self.subjects.len() < self.sweep_at.max(1024) {
            return;
        }
        self.tokens.retain(|_, until| *until > now);
        self.subjects.retain(|_, (_, until)| *until > now);
        self.sweep_at = 2 * (self.tokens.len() + self.subjects.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_small_and_keeps_what_is_used() {
        let recent = Recent::new(10);
        for n in 0..1_000 {
            recent.insert(n, n);
            recent.insert(-1, -1);
            assert_eq!(recent.get(&-1), Some(-1));
        }
        let halves = recent.halves.lock().unwrap();
        assert!(halves.0.len() + halves.1.len() <= 10);
        drop(halves);
        assert_eq!((recent.get(&999), recent.get(&1)), (Some(999), None));
        recent.retain(|k, _| *k < 0);
        assert_eq!((recent.get(&999), recent.get(&-1)), (None, Some(-1)));
    }

    #[test]
    fn what_expired_is_swept_and_nothing_else() {
        let (withdrawn, at) = (Withdrawn::default(), Timestamp::from_unix_millis);
        for n in 0..5_000_i64 {
            withdrawn.token(sum(&n.to_string()), at(n + 10), at(n));
        }
        assert!(withdrawn.lock().tokens.len() < 2_100);
        let ada: SubjectId = "ada".parse().unwrap();
        assert!(withdrawn.has(&sum("4999"), &ada, at(0)) && !withdrawn.has(&sum("x"), &ada, at(0)));
        withdrawn.subject(ada.clone(), at(7), at(9_000), at(5_000));
        withdrawn.subject(ada.clone(), at(3), at(8_000), at(5_000));
        assert!(withdrawn.has(&sum("x"), &ada, at(6)) && !withdrawn.has(&sum("x"), &ada, at(7)));
    }
}
