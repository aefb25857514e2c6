//! What both stores do alike: reading heads and blobs, and making changes happen by writing a head.

use super::head::{Entry, Head, Stored};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use overskill_core::{
    AppFile, AppliedChanges, CatchUp, Change, Changes, Clock, Digest, Effect, Error, ErrorKind, FileMeta, FilePath,
    Ids, IdsExt as _, Page, Readiness, Result, Scope, Snapshot, StoreInfo, StreamPosition,
};
use std::{
    collections::{BTreeMap, HashMap},
    fmt::Debug,
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};

/// Where heads and blobs are.
#[async_trait]
pub trait Shelf: Debug + Send + Sync + 'static {
    /// What tells one head from another, where the place can do that: a head is only replaced if it is still that one.
    type Tag: Clone + Debug + Send + Sync;

    /// Whether it can be used by the store of that name.
    async fn check(&self, name: &str) -> Result<Readiness>;

    /// Names the place and the operation of an error.
    fn refused(&self, e: Error, operation: &'static str) -> Error;

    /// The position of a scope that nothing was written to; always the same, and another in another place.
    async fn start(&self, scope: &Scope) -> Result<StreamPosition>;

    async fn read_head(&self, scope: &Scope) -> Result<Option<(Bytes, Self::Tag)>>;

    /// Replaces the head. `Conflict` if it is another than `tag`, or there is one and should be none.
    async fn write_head(&self, scope: &Scope, head: Bytes, tag: Option<&Self::Tag>) -> Result<Self::Tag>;

    /// Texts by their blobs, as many as come cheaply; the others are read one by one.
    async fn read_texts(&self, scope: &Scope, blobs: Vec<String>) -> Result<BTreeMap<String, Bytes>>;

    async fn read_blob(&self, scope: &Scope, blob: &str) -> Result<Option<Bytes>>;

    async fn write_blobs(&self, scope: &Scope, blobs: BTreeMap<String, Bytes>) -> Result<()>;

    async fn delete_blobs(&self, scope: &Scope, blobs: Vec<String>) -> Result<()>;

    /// Makes what stands outside for these files what they are now.
    async fn publish(
        &self,
        scope: &Scope,
        position: StreamPosition,
        files: &[(FilePath, Option<AppFile>)],
    ) -> Result<()>;
}

/// A store on a shelf. Clones share it.
#[derive(Debug)]
pub(super) struct Store<S: Shelf> {
    pub(super) shelf: Arc<S>,
    pub(super) info: StoreInfo,
    pub(super) clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    /// How long a read may be stale, and a blob that is garbage is kept.
    staleness: Duration,
    pub(super) kept: Duration,
    /// The time between two writes of one head.
    interval: Duration,
    desks: Desks<S::Tag>,
}

type Desks<T> = Arc<Mutex<HashMap<Scope, Arc<Desk<T>>>>>;

/// What one process knows of a scope. Its lock is held for a whole change.
#[derive(Debug)]
struct Desk<T> {
    turn: tokio::sync::Mutex<()>,
    /// The head that was written last, when: a stale read must not take us back behind it.
    written: Mutex<Option<Written<T>>>,
}

#[derive(Clone, Debug)]
struct Written<T> {
    head: Arc<Head>,
    tag: T,
    at: Duration,
}

/// What is remembered of so many scopes before what is old is forgotten.
const MANY: usize = 1_024;
/// Blobs that are read at the same time.
const AT_ONCE: usize = 16;
/// How often a change that lost a race is made again.
const TRIES: u32 = 64;

impl<S: Shelf> Clone for Store<S> {
    fn clone(&self) -> Self {
        Self {
            shelf: self.shelf.clone(),
            info: self.info.clone(),
            clock: self.clock.clone(),
            ids: self.ids.clone(),
            staleness: self.staleness,
            kept: self.kept,
            interval: self.interval,
            desks: self.desks.clone(),
        }
    }
}

impl<S: Shelf> Store<S> {
    pub(super) fn new(shelf: S, info: StoreInfo, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        Self {
            shelf: Arc::new(shelf),
            info,
            clock,
            ids,
            staleness: Duration::ZERO,
            kept: Duration::from_hours(1),
            interval: Duration::ZERO,
            desks: Arc::default(),
        }
    }

    /// Reads may be stale for so long, and a head may be written again after so long.
    pub(super) fn eventual(mut self, staleness: Duration, interval: Duration) -> Self {
        (self.staleness, self.interval) = (staleness, interval);
        self.kept = self.kept.max(staleness * 4);
        self
    }

    pub(super) async fn get(&self, scope: &Scope, path: &FilePath) -> Result<Option<AppFile>> {
        let began = self.clock.monotonic();
        loop {
            let head = self.read(scope).await?;
            let Some(stored) = head.files.get(path) else { return Ok(None) };
            match self.shelf.read_blob(scope, &stored.blob).await? {
                Some(contents) => return checked(stored, contents, path).map(Some),
                None => self.wait_for_contents(began, missing(path)).await?,
            }
        }
    }

    pub(super) async fn snapshot(&self, scope: &Scope) -> Result<Snapshot> {
        let began = self.clock.monotonic();
        loop {
            let head = self.read(scope).await?;
            match self.read_all(scope, head.files.iter()).await {
                Ok(files) => return Ok(Snapshot::new(head.position, files)),
                Err(e) if e.kind() == ErrorKind::NotFound => self.wait_for_contents(began, e).await?,
                Err(e) => return Err(e),
            }
        }
    }

    /// What a head names is not there: the head was old and it is collected, or the head is new and it is on its way.
    /// Neither lasts longer than reads are stale.
    async fn wait_for_contents(&self, began: Duration, missing: Error) -> Result<()> {
        let waited = self.clock.monotonic().saturating_sub(began);
        if waited > self.staleness * 2 + Duration::from_millis(200) {
            let message = "contents that the head names are not there";
            return Err(Error::new(ErrorKind::Unavailable, message).effect_as(Effect::None).caused_by(missing));
        }
        self.clock.sleep((self.staleness / 8).clamp(Duration::from_millis(20), Duration::from_secs(5))).await;
        Ok(())
    }

    pub(super) async fn list(
        &self,
        scope: &Scope,
        after: Option<FilePath>,
        limit: NonZeroU32,
    ) -> Result<Page<FileMeta, FilePath>> {
        Ok(self.read(scope).await?.list(after, limit))
    }

    pub(super) async fn changes_since(
        &self,
        scope: &Scope,
        position: StreamPosition,
    ) -> Result<CatchUp<AppliedChanges>> {
        let head = self.read(scope).await?;
        let Some(entries) = head.since(position) else { return Ok(CatchUp::Gone) };
        let mut told = Vec::new();
        for Entry { position, changes } in entries {
            let puts = changes.iter().filter_map(|(path, stored)| Some((path, stored.as_ref()?)));
            let mut files = match self.read_all(scope, puts).await {
                // What it tells of was collected meanwhile.
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(CatchUp::Gone),
                files => files?,
            };
            let change = |path: &FilePath| files.remove(path).map_or(Change::Delete, Change::Put);
            let mut change = change;
            let changes = changes.keys().map(|path| (path.clone(), change(path))).collect();
            told.push(AppliedChanges { position: *position, changes });
        }
        Ok(CatchUp::Entries(told))
    }

    pub(super) async fn apply(
        &self,
        scope: &Scope,
        changes: &Changes,
        expected: Option<StreamPosition>,
    ) -> Result<StreamPosition> {
        if changes.is_empty() {
            return Err(Error::invalid("changes must touch at least one file, but are empty"));
        }
        self.info.admit(changes)?;
        let desk = self.desk(scope);
        let _turn = desk.turn.lock().await;
        let batch = format!("{:016x}", self.ids.random_u64());
        let mut brought: std::collections::BTreeSet<String> = std::collections::BTreeSet::new();
        for _ in 0..TRIES {
            let (head, tag) = self.head(scope).await?;
            if expected.is_some_and(|expected| expected != head.position) {
                let e = Error::conflict("the sources stand at another position: read them again");
                return Err(e.with("scope", scope).with("position", head.position));
            }
            let now = self.clock.now();
            let (mut next, mut blobs) = head.after(changes, &batch, self.info.history as usize, now);
            blobs.retain(|blob, _| !brought.contains(blob));
            let names: Vec<String> = blobs.keys().cloned().collect();
            if !blobs.is_empty() {
                // Nothing names them yet: whatever becomes of this, nothing has happened.
                self.shelf.write_blobs(scope, blobs).await.map_err(|e| e.effect_as(Effect::None))?;
                brought.extend(names);
            }
            let garbage = next.take_garbage(now, self.kept);
            // What an earlier change did not get to show outside is shown with this one.
            next.unpublished.extend(head.unpublished.iter().filter(|_| !desk.has_shown(&head)).cloned());
            self.wait_for_head(&desk).await;
            match self.shelf.write_head(scope, next.to_bytes(), tag.as_ref()).await {
                Ok(tag) => {
                    let position = next.position;
                    desk.wrote(next, tag, self.clock.monotonic());
                    self.show(scope, changes, &desk).await;
                    desk.rest(self.clock.monotonic());
                    if !garbage.is_empty()
                        && let Err(e) = self.shelf.delete_blobs(scope, garbage).await
                    {
                        tracing::warn!(%scope, error = %e, "contents that nothing names any more were left there");
                    }
                    return Ok(position);
                }
                // Somebody else was faster. Contents that are there already stay there.
                Err(e) if e.kind() == ErrorKind::Conflict && expected.is_none() => {
                    self.clock.sleep(self.ids.jitter(Duration::from_millis(50))).await;
                }
                Err(e) => return Err(e),
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "others wrote faster each time")
            .effect_as(Effect::None)
            .with("scope", scope))
    }

    /// Removes those of the blobs that are there which no head names, while no change of this process is under way.
    pub(super) async fn unnamed(
        &self,
        scope: &Scope,
        there: impl Future<Output = Result<Vec<String>>>,
    ) -> Result<usize> {
        let desk = self.desk(scope);
        let _turn = desk.turn.lock().await;
        let mut there = there.await?;
        let (head, _) = self.head(scope).await?;
        let known = head.known_blobs();
        there.retain(|blob| !known.contains(blob));
        let gone = there.len();
        if gone > 0 {
            self.shelf.delete_blobs(scope, there).await?;
        }
        Ok(gone)
    }

    /// Shows outside what the files are now. Changes have happened by then: what fails here is shown with the next.
    async fn show(&self, scope: &Scope, changes: &Changes, desk: &Desk<S::Tag>) {
        let Some(written) = desk.written() else { return };
        let shown = async {
            let now: BTreeMap<&FilePath, &Change> = changes.iter().collect();
            let left = written.head.unpublished.iter().filter(|path| !now.contains_key(path));
            let stored = left.filter_map(|path| Some((path, written.head.files.get(path)?)));
            let mut older = self.read_all(scope, stored).await?;
            let file = |path: &FilePath| match now.get(path) {
                Some(Change::Put(file)) => Some(file.clone()),
                Some(Change::Delete) => None,
                None => older.remove(path),
            };
            let mut file = file;
            let files: Vec<_> = written.head.unpublished.iter().map(|path| (path.clone(), file(path))).collect();
            self.shelf.publish(scope, written.head.position, &files).await
        };
        match shown.await {
            Ok(()) => desk.shown(),
            Err(e) => tracing::warn!(%scope, error = %e, "files are not shown outside yet: the next change shows them"),
        }
    }

    /// The head as it is read: what it names can be read too, at the latest when reads are not stale any more.
    async fn read(&self, scope: &Scope) -> Result<Head> {
        match self.shelf.read_head(scope).await? {
            Some((bytes, _)) => Head::read(&bytes, scope),
            None => Ok(Head::start(self.shelf.start(scope).await?)),
        }
    }

    /// The head to write the next one after, and what it is replaced by name of.
    async fn head(&self, scope: &Scope) -> Result<(Arc<Head>, Option<S::Tag>)> {
        let read = match self.shelf.read_head(scope).await? {
            Some((bytes, tag)) => Some((Arc::new(Head::read(&bytes, scope)?), Some(tag))),
            None => None,
        };
        // What we wrote ourselves may not be read yet.
        if !self.staleness.is_zero()
            && let Some(own) = self.known(scope)
        {
            let is_newer = |head: &Head| own.head.position.behind(head.position).is_some();
            let is_recent = self.clock.monotonic().saturating_sub(own.at) < self.staleness * 2;
            if is_recent && !read.as_ref().is_some_and(|(head, _)| is_newer(head)) {
                return Ok((own.head, Some(own.tag)));
            }
        }
        match read {
            Some(read) => Ok(read),
            None => Ok((Arc::new(Head::start(self.shelf.start(scope).await?)), None)),
        }
    }

    /// Waits until the head may be written again.
    async fn wait_for_head(&self, desk: &Desk<S::Tag>) {
        let now = self.clock.monotonic();
        if let Some(written) = desk.written() {
            let left = (written.at + self.interval).saturating_sub(now);
            if !left.is_zero() {
                self.clock.sleep(left).await;
            }
        }
    }

    async fn read_all<'a>(
        &self,
        scope: &Scope,
        files: impl Iterator<Item = (&'a FilePath, &'a Stored)>,
    ) -> Result<BTreeMap<FilePath, AppFile>> {
        let named: Vec<(&FilePath, &Stored)> = files.collect();
        let mut texts: Vec<String> = named.iter().filter(|(_, s)| s.is_text).map(|(_, s)| s.blob.clone()).collect();
        texts.sort_unstable();
        texts.dedup();
        let texts = self.shelf.read_texts(scope, texts).await?;
        let read = named.into_iter().map(|(path, stored)| {
            // Checked by its digest: what was damaged on the way is read by itself.
            let text = texts.get(&stored.blob).and_then(|text| checked(stored, text.clone(), path).ok());
            async move {
                if let Some(file) = text {
                    return Ok((path.clone(), file));
                }
                let contents = self.shelf.read_blob(scope, &stored.blob).await?.ok_or_else(|| missing(path))?;
                Ok((path.clone(), checked(stored, contents, path)?))
            }
        });
        // Collected first: a future that is made while others run would have to be `Send` for every lifetime.
        let read: Vec<_> = read.collect();
        stream::iter(read).buffer_unordered(AT_ONCE).try_collect().await
    }

    fn desk(&self, scope: &Scope) -> Arc<Desk<S::Tag>> {
        let mut desks = self.desks.lock().expect("nobody panics with this lock");
        if desks.len() >= MANY && !desks.contains_key(scope) {
            let now = self.clock.monotonic();
            // A desk that somebody sits at is in use: two of one scope would not exclude each other.
            let needed = |desk: &Arc<Desk<S::Tag>>| {
                let recent = |written: Written<_>| now.saturating_sub(written.at) < self.staleness * 2;
                Arc::strong_count(desk) > 1 || desk.written().is_some_and(recent)
            };
            desks.retain(|_, desk| needed(desk));
        }
        let empty = || Arc::new(Desk { turn: tokio::sync::Mutex::new(()), written: Mutex::new(None) });
        desks.entry(scope.clone()).or_insert_with(empty).clone()
    }

    fn known(&self, scope: &Scope) -> Option<Written<S::Tag>> {
        self.desks.lock().expect("nobody panics with this lock").get(scope)?.written()
    }
}

impl<T: Clone> Desk<T> {
    fn written(&self) -> Option<Written<T>> {
        self.written.lock().expect("nobody panics with this lock").clone()
    }

    fn wrote(&self, head: Head, tag: T, at: Duration) {
        *self.written.lock().expect("nobody panics with this lock") = Some(Written { head: Arc::new(head), tag, at });
    }

    /// The time between two writes of one key begins here: what is shown outside was written after the head.
    fn rest(&self, at: Duration) {
        if let Some(written) = &mut *self.written.lock().expect("nobody panics with this lock") {
            written.at = at;
        }
    }

    /// Everything is shown outside: the next change has only its own paths to show.
    fn shown(&self) {
        if let Some(written) = &mut *self.written.lock().expect("nobody panics with this lock") {
            let mut head = (*written.head).clone();
            head.unpublished.clear();
            written.head = Arc::new(head);
        }
    }

    /// Whether that head is the one that we wrote and have shown.
    fn has_shown(&self, head: &Head) -> bool {
        self.written().is_some_and(|w| w.head.position == head.position && w.head.unpublished.is_empty())
    }
}

/// Contents, if they are what the head says.
fn checked(stored: &Stored, contents: Bytes, path: &FilePath) -> Result<AppFile> {
    if Digest::of(&contents) == stored.digest {
        return Ok(AppFile::from_stored(contents, stored.digest));
    }
    let message = "the stored contents of a file are not what was written";
    Err(Error::new(ErrorKind::Unexpected, message).effect_as(Effect::None).with("path", path))
}

fn missing(path: &FilePath) -> Error {
    Error::not_found("the contents of a file are not there (yet)").with("path", path)
}
