//! Modules by what they were made of, bounded by bytes.

use super::{Compiled, CompilerOptions, Query};
use overskill_core::{Digest, FilePath};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, OnceLock},
};

/// What a module depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) path: FilePath,
    pub(super) digest: Digest,
    pub(super) query: Query,
    pub(super) options: Arc<CompilerOptions>,
}

/// Least recently used first out. An entry is there from its first request on, so that the second waits for the first.
#[derive(Debug)]
pub(super) struct Cache {
    max_bytes: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Arc<Key>, Entry>,
    by_use: BTreeMap<u64, Arc<Key>>,
    uses: u64,
    bytes: u64,
}

#[derive(Debug)]
struct Entry {
    slot: Arc<OnceLock<Compiled>>,
    last_use: u64,
    bytes: u64,
}

/// What an entry costs besides the module: keys, maps, counters.
const ENTRY_BYTES: u64 = 512;

impl Cache {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self { max_bytes, state: Mutex::default() }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.state().bytes
    }

    /// Gives the value for `key`, computed by `compute` if nobody has done so yet.
    pub(super) fn get_or_compute(&self, key: Key, compute: impl FnOnce() -> Compiled) -> Compiled {
        let key = Arc::new(key);
        let slot = self.state().touch(&key);
        let mut computed = false;
        let compiled = slot
            .get_or_init(|| {
                computed = true;
                compute()
            })
            .clone();
        if computed {
            metrics::counter!("overskill_compile_cache_misses_total").increment(1);
            self.state().account(&key, &slot, weight(&compiled), self.max_bytes);
        } else {
            metrics::counter!("overskill_compile_cache_hits_total").increment(1);
        }
        compiled
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it is held")
    }
}

impl State {
    /// The slot of `key`, which is now the most recently used.
    fn touch(&mut self, key: &Arc<Key>) -> Arc<OnceLock<Compiled>> {
        self.uses += 1;
        let now = self.uses;
        if let Some(entry) = self.entries.get_mut(key) {
            let shared = self.by_use.remove(&entry.last_use);
            entry.last_use = now;
            self.by_use.insert(now, shared.unwrap_or_else(|| key.clone()));
            return entry.slot.clone();
        }
        let slot = Arc::new(OnceLock::new());
        self.entries.insert(key.clone(), Entry { slot: slot.clone(), last_use: now, bytes: ENTRY_BYTES });
        self.by_use.insert(now, key.clone());
        self.bytes += ENTRY_BYTES;
        slot
    }

    /// Counts a computed entry, and drops the least recently used ones until all fit.
    fn account(&mut self, key: &Arc<Key>, slot: &Arc<OnceLock<Compiled>>, bytes: u64, max_bytes: u64) {
        // It may have been dropped while it was computed, and even asked for anew.
        if let Some(entry) = self.entries.get_mut(key).filter(|entry| Arc::ptr_eq(&entry.slot, slot)) {
            self.bytes += bytes;
            entry.bytes += bytes;
        }
        while self.bytes > max_bytes {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            if let Some(entry) = self.entries.remove(&oldest) {
                self.bytes -= entry.bytes;
            }
        }
    }
}

fn weight(compiled: &Compiled) -> u64 {
    match compiled {
        Ok(module) => module.retained_bytes(),
        Err(problem) => (problem.message.len() + problem.frame.as_ref().map_or(0, String::len) + 256) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compiler::Module;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn key(name: &str) -> Key {
        Key {
            path: FilePath::parse(name).unwrap(),
            digest: Digest::of(b""),
            query: Query::None,
            options: Arc::new(CompilerOptions::development()),
        }
    }

    fn module(bytes: usize) -> Arc<Module> {
        Arc::new(Module { code: "x".repeat(bytes), ..Module::default() })
    }

    #[test]
    fn the_least_recently_used_goes_and_the_bytes_stay_bounded() {
        let cache = Cache::new(100_000);
        let get = |name: &str| {
            let mut computed = false;
            drop(cache.get_or_compute(key(name), || {
                computed = true;
                Ok(module(30_000))
            }));
            computed
        };
        assert!(get("a") && get("b") && get("c"));
        assert!(!get("a"), "remembered");
        assert!(get("d"), "new");
        assert!(!get("a") && get("b"), "b was used longest ago");
        assert!(cache.bytes() <= 100_000, "{}", cache.bytes());
        assert!(matches!(cache.get_or_compute(key("huge"), || Ok(module(200_000))), Ok(m) if m.code.len() == 200_000));
        assert!(cache.bytes() <= 100_000, "{}", cache.bytes());
    }

    #[test]
    fn one_computation_for_all_who_ask_at_once() {
        let (cache, computations) = (Cache::new(1 << 20), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for n in 0..50 {
                        let compiled = cache.get_or_compute(key(&format!("f{n}")), || {
                            computations.fetch_add(1, Ordering::Relaxed);
                            std::thread::yield_now();
                            Ok(module(n))
                        });
                        assert_eq!(compiled.unwrap().code.len(), n);
                    }
                });
            }
        });
        assert_eq!(computations.load(Ordering::Relaxed), 50);
    }

    #[test]
    fn options_and_queries_are_part_of_the_key() {
        let cache = Cache::new(1 << 20);
        let mut keys =
            vec![key("a"), Key { query: Query::Raw, ..key("a") }, Key { digest: Digest::of(b"x"), ..key("a") }];
        keys.push(Key { options: Arc::new(CompilerOptions::production()), ..key("a") });
        for (n, key) in keys.iter().enumerate() {
            assert_eq!(cache.get_or_compute(key.clone(), || Ok(module(n))).unwrap().code.len(), n);
        }
        assert_eq!(
            cache.get_or_compute(key("a"), || Ok(module(99))).unwrap().code.len(),
            0,
            "equal options are one key"
        );
    }
}
