//! What a scope holds: one value, which is replaced as a whole.

use bytes::Bytes;
use overskill_core::{
    Change, Changes, Digest, Error, ErrorKind, FileMeta, FilePath, Page, Result, Scope, StreamPosition, Timestamp,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    num::NonZeroU32,
    ops::Bound,
    time::Duration,
};

/// Position and files of a scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// Grows when what follows changes its meaning.
    format: u32,
    pub(super) position: StreamPosition,
    /// Which change wrote it: no two heads are alike.
    batch: String,
    pub(super) files: BTreeMap<FilePath, Stored>,
    /// The last changes, oldest first.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub(super) history: VecDeque<Entry>,
    /// Blobs that nothing names any more, since when. Their names are never used again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    garbage: Vec<(String, i64)>,
    /// Paths whose copies outside may not be what the files are: those of the last change.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) unpublished: BTreeSet<FilePath>,
}

/// A file: its blob, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stored {
    #[serde(rename = "d")]
    pub(super) digest: Digest,
    #[serde(rename = "s")]
    pub(super) size_bytes: u64,
    /// The blob's name.
    #[serde(rename = "b")]
    pub(super) blob: String,
    /// Whether it is UTF-8.
    #[serde(rename = "t", default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_text: bool,
}

/// Changes as they happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) position: StreamPosition,
    pub(super) changes: BTreeMap<FilePath, Option<Stored>>,
}

const FORMAT: u32 = 1;

impl Head {
    /// A scope that nothing was written to.
    pub(super) fn start(position: StreamPosition) -> Self {
        Self {
            format: FORMAT,
            position,
            batch: String::new(),
            files: BTreeMap::new(),
            history: VecDeque::new(),
            garbage: Vec::new(),
            unpublished: BTreeSet::new(),
        }
    }

    pub(super) fn read(bytes: &[u8], scope: &Scope) -> Result<Self> {
        let damaged = |what: &'static str| {
            Error::new(ErrorKind::Unexpected, what).effect_as(overskill_core::Effect::None).with("scope", scope)
        };
        let head: Self = serde_json::from_slice(bytes).map_err(|_| damaged("the head of the files cannot be read"))?;
        if head.format != FORMAT {
            return Err(damaged("the head of the files is of another version of this library"));
        }
        Ok(head)
    }

    pub(super) fn to_bytes(&self) -> Bytes {
        serde_json::to_vec(self).expect("its keys are texts").into()
    }

    /// The head after `changes`, whose new contents are in blobs whose names begin with `batch`; and those blobs.
    pub(super) fn after(
        &self,
        changes: &Changes,
        batch: &str,
        history: usize,
        now: Timestamp,
    ) -> (Self, BTreeMap<String, Bytes>) {
        let mut next = self.clone();
        let (mut blobs, mut entry) = (BTreeMap::new(), BTreeMap::new());
        // Contents that a file of this scope has already are there.
        let known: BTreeMap<Digest, Stored> =
            self.files.values().map(|stored| (stored.digest, stored.clone())).collect();
        for (path, change) in changes.iter() {
            let stored = match change {
                Change::Delete => None,
                Change::Put(file) => Some(known.get(&file.digest()).cloned().unwrap_or_else(|| {
                    let blob = format!("{batch}/{}", file.digest());
                    blobs.insert(blob.clone(), file.contents().clone());
                    let is_text = std::str::from_utf8(file.contents()).is_ok();
                    Stored { digest: file.digest(), size_bytes: file.size_bytes(), blob, is_text }
                })),
            };
            match &stored {
                Some(stored) => drop(next.files.insert(path.clone(), stored.clone())),
                None => drop(next.files.remove(path)),
            }
            entry.insert(path.clone(), stored);
        }
        (next.position, next.batch) = (self.position.next(), batch.to_owned());
        next.unpublished = entry.keys().cloned().collect();
        next.history.push_back(Entry { position: next.position, changes: entry });
        while next.history.len() > history {
            next.history.pop_front();
        }
        let before = self.blobs();
        let after = next.blobs();
        next.garbage.extend(before.difference(&after).map(|blob| (blob.clone(), now.as_unix_millis())));
        (next, blobs)
    }

    /// Every blob that is named.
    pub(super) fn blobs(&self) -> BTreeSet<String> {
        let told = self.history.iter().flat_map(|entry| entry.changes.values().flatten());
        self.files.values().chain(told).map(|stored| stored.blob.clone()).collect()
    }

    /// The same, and those that wait to be removed.
    pub(super) fn known_blobs(&self) -> BTreeSet<String> {
        let mut known = self.blobs();
        known.extend(self.garbage.iter().map(|(blob, _)| blob.clone()));
        known
    }

    /// Takes out what has been garbage for so long that nobody reads it any more.
    pub(super) fn take_garbage(&mut self, now: Timestamp, after: Duration) -> Vec<String> {
        let old = |since: i64| now.since(Timestamp::from_unix_millis(since)) >= after;
        let (gone, kept) = std::mem::take(&mut self.garbage).into_iter().partition(|(_, since)| old(*since));
        self.garbage = kept;
        let gone: Vec<(String, i64)> = gone;
        gone.into_iter().map(|(blob, _)| blob).collect()
    }

    /// What happened after a position; `None` when it cannot be told.
    pub(super) fn since(&self, position: StreamPosition) -> Option<Vec<&Entry>> {
        let behind = usize::try_from(position.behind(self.position)?).ok()?;
        let kept = self.history.len();
        (behind <= kept).then(|| self.history.range(kept - behind..).collect())
    }

    pub(super) fn list(&self, after: Option<FilePath>, limit: NonZeroU32) -> Page<FileMeta, FilePath> {
        let limit = limit.get() as usize;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let meta = |(path, stored): (&FilePath, &Stored)| FileMeta {
            path: path.clone(),
            digest: stored.digest,
            size_bytes: stored.size_bytes,
        };
        let files = self.files.range((from, Bound::Unbounded)).take(limit.saturating_add(1));
        Page::cut(files.map(meta).collect(), limit, |meta: &FileMeta| meta.path.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use overskill_core::Incarnation;

    fn path(s: &str) -> FilePath {
        FilePath::parse(s).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_millis(seconds * 1_000)
    }

    #[test]
    fn a_head_survives_being_written_and_nothing_is_named_twice() {
        let scope: Scope = "todo42/development".parse().unwrap();
        let start = Head::start(StreamPosition::start(Incarnation::from_u64(7)));
        let changes = Changes::new().put(path("a"), "same").put(path("b"), "same").put(path("c"), b"\xff".as_slice());
        let (one, blobs) = start.after(&changes, "1-x", 2, at(0));
        assert_eq!(blobs.len(), 2, "equal contents are one blob");
        assert_eq!(Head::read(&one.to_bytes(), &scope).unwrap(), one);
        assert!(one.files[&path("a")].is_text && !one.files[&path("c")].is_text);

        let again = Changes::new().put(path("d"), "same").delete(path("c"));
        let (two, blobs) = one.after(&again, "2-x", 2, at(10));
        assert!(blobs.is_empty(), "what is there is not written again");
        let e = Head::read(b"{\"format\":2}", &scope).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unexpected);

        // The blob of `c` is garbage once its history is, and not before.
        let (minute, mut known) = (Duration::from_mins(1), two.clone());
        assert!(known.take_garbage(at(1_000), minute).is_empty());
        let (mut three, _) = two.after(&Changes::new().delete(path("a")), "3-x", 2, at(20));
        assert!(three.take_garbage(at(21), minute).is_empty(), "somebody may still read it");
        assert_eq!(three.take_garbage(at(1_000), minute), [one.files[&path("c")].blob.clone()]);
        assert!(three.known_blobs().contains(&one.files[&path("b")].blob));
    }

    #[test]
    fn history_is_told_as_far_as_it_reaches() {
        let start = Head::start(StreamPosition::start(Incarnation::from_u64(7)));
        let (one, _) = start.after(&Changes::new().put(path("a"), "1"), "1", 2, at(0));
        let (two, _) = one.after(&Changes::new().put(path("a"), "2"), "2", 2, at(0));
        let (three, _) = two.after(&Changes::new().put(path("a"), "3"), "3", 2, at(0));
        assert_eq!(three.since(three.position), Some(Vec::new()));
        assert_eq!(three.since(one.position).unwrap().len(), 2);
        assert_eq!(three.since(start.position), None);
        assert_eq!(two.since(three.position), None);
    }
}
