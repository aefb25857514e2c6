//! Prepared packages in memory: shared by all who use them, and kept a while longer.

use super::prepared::Prepared;
use overskill_core::Digest;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, Weak},
};

/// By the requests that led to them, and by what identifies them.
#[derive(Debug)]
pub(crate) struct Kept {
    max_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    known: HashMap<Digest, Weak<Prepared>>,
    /// Those that are held without anybody using them, oldest first.
    held: VecDeque<Arc<Prepared>>,
    held_bytes: usize,
    /// When `known` is next swept of what is gone.
    sweep_at: usize,
}

impl Kept {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, state: Mutex::default() }
    }

    pub(crate) fn get(&self, key: &Digest) -> Option<Arc<Prepared>> {
        self.state.lock().expect("nothing panics under this lock").known.get(key)?.upgrade()
    }

    /// Keeps `prepared` under `key`, or whatever is kept under `same` already.
    pub(crate) fn keep(&self, key: Digest, same: Digest, prepared: Prepared) -> Arc<Prepared> {
        let mut state = self.state.lock().expect("nothing panics under this lock");
        let known = state.known.get(&same).and_then(Weak::upgrade);
        let prepared = known.unwrap_or_else(|| state.hold(Arc::new(prepared), self.max_bytes));
        for key in [key, same] {
            state.known.insert(key, Arc::downgrade(&prepared));
        }
        if state.known.len() >= state.sweep_at {
            state.known.retain(|_, it| it.strong_count() > 0);
            state.sweep_at = (state.known.len() * 2).max(1024);
        }
        prepared
    }
}

impl State {
    fn hold(&mut self, prepared: Arc<Prepared>, max_bytes: usize) -> Arc<Prepared> {
        let size = |it: &Prepared| it.files.values().map(|file| file.contents.len()).sum::<usize>();
        self.held_bytes += size(&prepared);
        self.held.push_back(Arc::clone(&prepared));
        while self.held_bytes > max_bytes
            && let Some(oldest) = self.held.pop_front()
        {
            self.held_bytes -= size(&oldest);
        }
        prepared
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::PackageFile;
    use std::collections::BTreeMap;

    fn prepared(bytes: usize) -> Prepared {
        let files = BTreeMap::from([("a.js".to_owned(), PackageFile::new("text/javascript", vec![0; bytes]))]);
        let (entries, failed) = (BTreeMap::new(), BTreeMap::new());
        Prepared { digest: Digest::of(b""), entries, failed, lock: None, files }
    }

    #[test]
    fn what_is_used_stays_and_what_is_not_is_bounded() {
        let kept = Kept::new(100);
        let key = |n: u8| Digest::of(&[n]);
        let used = kept.keep(key(1), key(101), prepared(80));
        kept.keep(key(2), key(102), prepared(80));
        assert!(kept.get(&key(1)).is_some() && kept.get(&key(2)).is_some());
        kept.keep(key(3), key(103), prepared(80));
        assert!(kept.get(&key(1)).is_some() && kept.get(&key(2)).is_none());
        let same = kept.keep(key(4), key(101), prepared(80));
        assert!(Arc::ptr_eq(&same, &used));
        drop((used, same));
        assert!(kept.get(&key(1)).is_none());
    }
}
