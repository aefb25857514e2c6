//! An app's files, as compactly as tens of thousands of idle apps need.

use super::config::Config;
use overskill_core::{AppFile, Change, Changes, Digest, FilePath, Snapshot};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, Weak},
};

/// Files in path order; cheap to clone. Paths and contents are shared with every app that has the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files(Arc<[(FilePath, Arc<AppFile>)]>);

impl Files {
    pub(crate) fn of(snapshot: &Snapshot, pool: &Pool) -> Self {
        Self(snapshot.files.iter().map(|(path, file)| pool.share(path, file)).collect())
    }

    /// With `changes`, and whether files came or went.
    pub(super) fn with(&self, changes: &Changes, pool: &Pool) -> (Self, bool) {
        let mut files = Vec::with_capacity(self.0.len() + changes.len());
        let mut others = self.0.iter().peekable();
        let mut came_or_went = false;
        for (path, change) in changes.iter() {
            while let Some(other) = others.next_if(|(other, _)| other < path) {
                files.push(other.clone());
            }
            let before = others.next_if(|(other, _)| other == path);
            if let Change::Put(file) = change {
                files.push(match before {
                    Some(same) if same.1.digest() == file.digest() => same.clone(),
                    _ => pool.share(path, file),
                });
            }
            came_or_went |= before.is_some() != matches!(change, Change::Put(_));
        }
        files.extend(others.cloned());
        (Self(files.into()), came_or_went)
    }

    pub(crate) fn get(&self, path: &str) -> Option<&(FilePath, Arc<AppFile>)> {
        self.0.binary_search_by(|(other, _)| other.as_str().cmp(path)).ok().map(|index| &self.0[index])
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.get(path).is_some()
    }

    /// The text of a file; `None` if there is none or it is not UTF-8.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        str::from_utf8(self.get(path)?.1.contents()).ok()
    }

    pub(super) fn digest(&self, path: &str) -> Option<Digest> {
        self.get(path).map(|(_, file)| file.digest())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &(FilePath, Arc<AppFile>)> {
        self.0.iter()
    }

    /// The paths that differ between the two: changed, come or gone.
    pub(super) fn differing(&self, other: &Self) -> Vec<FilePath> {
        let changed = self.0.iter().filter(|(path, file)| other.digest(path.as_str()) != Some(file.digest()));
        let gone = other.0.iter().filter(|(path, _)| !self.has(path.as_str()));
        changed.chain(gone).map(|(path, _)| path.clone()).collect()
    }

    /// Whether both have the same paths.
    pub(super) fn same_paths(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(other.0.iter()).all(|(a, b)| a.0 == b.0)
    }

    /// What the list itself takes, and the contents that nobody else holds.
    pub(super) fn retained_bytes(&self) -> usize {
        let own = self.0.iter().filter(|(_, file)| Arc::strong_count(file) == 1);
        size_of_val(&*self.0) + own.map(|(path, file)| path.as_str().len() + 128 + file.contents().len()).sum::<usize>()
    }
}

/// Paths and contents that apps share.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    paths: Mutex<HashSet<FilePath>>,
    files: Mutex<Held<AppFile>>,
    configs: Mutex<Held<Config>>,
    entries: Mutex<Held<BTreeSet<String>>>,
}

#[derive(Debug)]
struct Held<T> {
    by_digest: HashMap<Digest, Weak<T>>,
    sweep_at: usize,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self { by_digest: HashMap::new(), sweep_at: 0 }
    }
}

impl<T> Held<T> {
    const FIRST_SWEEP: usize = 4096;

    fn share(&mut self, digest: Digest, make: impl FnOnce() -> T) -> Arc<T> {
        if let Some(shared) = self.by_digest.get(&digest).and_then(Weak::upgrade) {
            return shared;
        }
        if self.by_digest.len() >= self.sweep_at.max(Self::FIRST_SWEEP) {
            self.by_digest.retain(|_, weak| weak.strong_count() > 0);
            self.sweep_at = self.by_digest.len() * 2;
        }
        let shared = Arc::new(make());
        self.by_digest.insert(digest, Arc::downgrade(&shared));
        shared
    }
}

impl Pool {
    /// As many paths as fit some 10 MB; then it begins anew, and what is in use stays with who uses it.
    const MOST_PATHS: usize = 65_536;

    fn share(&self, path: &FilePath, file: &AppFile) -> (FilePath, Arc<AppFile>) {
        let mut files = self.files.lock().expect("nothing panics under this lock");
        (self.path(path), files.share(file.digest(), || file.clone()))
    }

    pub(super) fn path(&self, path: &FilePath) -> FilePath {
        let mut paths = self.paths.lock().expect("nothing panics under this lock");
        if let Some(shared) = paths.get(path) {
            return shared.clone();
        }
        if paths.len() >= Self::MOST_PATHS {
            paths.clear();
        }
        paths.insert(path.clone());
        path.clone()
    }

    pub(super) fn config(&self, config: Config) -> Arc<Config> {
        let digest = Digest::of(format!("{config:?}").as_bytes());
        self.configs.lock().expect("nothing panics under this lock").share(digest, || config)
    }

    pub(super) fn entries(&self, entries: BTreeSet<String>) -> Arc<BTreeSet<String>> {
        let digest = Digest::of_parts(entries.iter().map(String::as_bytes));
        self.entries.lock().expect("nothing panics under this lock").share(digest, || entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use overskill_core::{Incarnation, StreamPosition};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn files(pool: &Pool, list: &BTreeMap<FilePath, AppFile>) -> Files {
        Files::of(&Snapshot::new(StreamPosition::start(Incarnation::from_u64(1)), list.clone()), pool)
    }

    #[test]
    fn equal_files_of_two_apps_are_held_once() {
        let pool = Pool::default();
        let list = |text: &str| BTreeMap::from([(FilePath::parse("a.ts").unwrap(), AppFile::new(text.to_owned()))]);
        let (one, two, three) =
            (files(&pool, &list("same")), files(&pool, &list("same")), files(&pool, &list("other")));
        let held = |files: &Files| files.get("a.ts").unwrap().1.clone();
        assert!(Arc::ptr_eq(&held(&one), &held(&two)) && !Arc::ptr_eq(&held(&one), &held(&three)));
        assert!(three.retained_bytes() > one.retained_bytes());
    }

    proptest! {
        #[test]
        fn changes_are_applied_as_to_a_map(
            start in proptest::collection::btree_map("[a-d]{1,2}", 0u8..3, 0..8),
            steps in proptest::collection::vec(("[a-d]{1,2}", proptest::option::of(0u8..3)), 0..8),
        ) {
            let pool = Pool::default();
            let mut model: BTreeMap<FilePath, AppFile> =
                start.into_iter().map(|(path, n)| (FilePath::parse(&path).unwrap(), AppFile::new(vec![n]))).collect();
            let before = files(&pool, &model);
            let changes: Changes = steps
                .into_iter()
                .map(|(path, n)| {
                    let change = n.map_or(Change::Delete, |n| Change::Put(AppFile::new(vec![n])));
                    (FilePath::parse(&path).unwrap(), change)
                })
                .collect();
            let paths: Vec<_> = model.keys().cloned().collect();
            changes.apply_to(&mut model);
            let (after, came_or_went) = before.with(&changes, &pool);
            let expected: Vec<_> = model.iter().map(|(p, f)| (p.clone(), f.digest())).collect();
            let got: Vec<_> = after.iter().map(|(p, f)| (p.clone(), f.digest())).collect();
            prop_assert_eq!(got, expected);
            // Deleting what was not there counts as going; it costs a scan, no more.
            prop_assert!(came_or_went || paths.iter().eq(model.keys()));
            prop_assert_eq!(after.differing(&before).is_empty(), before.differing(&after).is_empty());
        }
    }
}
