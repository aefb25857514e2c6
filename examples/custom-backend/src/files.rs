use crate::disk;
use async_trait::async_trait;
use overskill_core::{
    AppFile, AppliedChanges, CatchUp, Change, Changes, Digest, Error, ErrorKind, FileMeta, FilePath, FileStore,
    Incarnation, Page, Readiness, Result, Scope, Snapshot, StoreInfo, StreamPosition, SystemIds,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

/// Sources in a folder: contents under their digests, and a log for each scope with a line for each change.
///
/// One process at a time. A line is written in one go and synced before `apply` returns; a line that a crash cut off was
/// never acknowledged, and is dropped when the log is read again.
#[derive(Clone, Debug)]
pub struct LogFiles {
    folder: PathBuf,
    incarnation: Incarnation,
    scopes: Arc<Mutex<HashMap<Scope, History>>>,
}

/// A line of the log: `null` deletes.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Line(BTreeMap<FilePath, Option<Digest>>);

/// What the log of a scope says: line `n` led to position `n`.
#[derive(Debug, Default)]
struct History {
    lines: Vec<Line>,
    files: BTreeMap<FilePath, Digest>,
}

impl LogFiles {
    /// Opens the folder, or makes it.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self> {
        let folder = folder.into();
        let path = folder.join("incarnation.json");
        let incarnation = if let Some(number) = disk::read_json(&path)? {
            Incarnation::from_u64(number)
        } else {
            let new = Incarnation::generate(&SystemIds);
            disk::replace_json(&path, &new.as_u64())?;
            new
        };
        Ok(Self { folder, incarnation, scopes: Arc::default() })
    }

    /// Does something with the history of a scope, which is read from its log the first time.
    ///
    /// Everything happens under one lock and without `.await`, so a future that is dropped did all of it or nothing.
    fn with<T>(&self, scope: &Scope, act: impl FnOnce(&mut History) -> Result<T>) -> Result<T> {
        let mut scopes: MutexGuard<'_, _> = self.scopes.lock().expect("nobody panics with this lock");
        if !scopes.contains_key(scope) {
            let history = History::read(&self.log(scope))?;
            scopes.insert(scope.clone(), history);
        }
        let done = act(scopes.get_mut(scope).expect("it was just put there"));
        if done.as_ref().is_err_and(|e| e.kind() == ErrorKind::Unexpected) {
            // A disk that is full may have taken half a line. The log is read again, and the half cut off.
            scopes.remove(scope);
        }
        done
    }

    fn log(&self, scope: &Scope) -> PathBuf {
        self.folder.join(format!("{}.{}.log", scope.app, scope.environment))
    }

    fn blobs(&self) -> PathBuf {
        self.folder.join("blobs")
    }

    fn file(&self, digest: Digest) -> Result<AppFile> {
        disk::blob(&self.blobs(), digest).map(AppFile::new)
    }

    fn at(&self, lines: usize) -> StreamPosition {
        StreamPosition::new(self.incarnation, lines as u64)
    }
}

impl History {
    fn read(log: &Path) -> Result<Self> {
        let text = match fs::read(log) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(disk::failed("a log could not be read", e)),
        };
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            // A crash cut the last line off. Nobody was told that it happened.
            let file = fs::OpenOptions::new().write(true).open(log).and_then(|file| file.set_len(whole as u64));
            file.map_err(|e| disk::failed("a log could not be mended", e))?;
        }
        let mut history = Self::default();
        for line in text[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            history.add(serde_json::from_slice(line).map_err(|_| disk::damaged("a line of a log cannot be read"))?);
        }
        Ok(history)
    }

    fn add(&mut self, line: Line) {
        for (path, digest) in &line.0 {
            match digest {
                Some(digest) => drop(self.files.insert(path.clone(), *digest)),
                None => drop(self.files.remove(path)),
            }
        }
        self.lines.push(line);
    }
}

#[async_trait]
impl FileStore for LogFiles {
    fn info(&self) -> StoreInfo {
        // What is declared here is what the suite holds it to.
        StoreInfo::new("log files").max_file_bytes(8 * 1024 * 1024).history(256)
    }

    async fn check(&self) -> Result<Readiness> {
        let ready = Readiness::ready("log files");
        Ok(match fs::metadata(&self.folder) {
            Ok(folder) if folder.is_dir() && !folder.permissions().readonly() => ready,
            _ => ready.lacks("its folder cannot be written to", "make it, or give this process the right to write"),
        })
    }

    async fn get(&self, scope: &Scope, path: &FilePath) -> Result<Option<AppFile>> {
        let digest = self.with(scope, |history| Ok(history.files.get(path).copied()))?;
        digest.map(|digest| self.file(digest)).transpose()
    }

    async fn snapshot(&self, scope: &Scope) -> Result<Snapshot> {
        self.with(scope, |history| {
            let read = |(path, digest): (&FilePath, &Digest)| Ok((path.clone(), self.file(*digest)?));
            let files = history.files.iter().map(read).collect::<Result<_>>()?;
            Ok(Snapshot::new(self.at(history.lines.len()), files))
        })
    }

    async fn apply(
        &self,
        scope: &Scope,
        changes: &Changes,
        expected: Option<StreamPosition>,
    ) -> Result<StreamPosition> {
        if changes.is_empty() {
            return Err(Error::invalid("changes must touch at least one file, but are empty").at("log files", "apply"));
        }
        self.info().admit(changes)?;
        self.with(scope, |history| {
            let now = self.at(history.lines.len());
            if expected.is_some_and(|expected| expected != now) {
                return Err(Error::conflict("the sources were changed meanwhile")
                    .at("log files", "apply")
                    .with("expected", expected.unwrap_or(now))
                    .with("found", now));
            }
            // Contents first: a line names only what is there.
            let mut line = BTreeMap::new();
            for (path, change) in changes.iter() {
                let digest = match change {
                    Change::Put(file) => {
                        disk::put_blob(&self.blobs(), file.digest(), file.contents())?;
                        Some(file.digest())
                    }
                    Change::Delete => None,
                };
                line.insert(path.clone(), digest);
            }
            let line = Line(line);
            let mut text = serde_json::to_vec(&line).map_err(|e| Error::unexpected("a line could not be made", e))?;
            text.push(b'\n');
            disk::append(&self.log(scope), &text)?;
            history.add(line);
            Ok(self.at(history.lines.len()))
        })
    }

    async fn changes_since(&self, scope: &Scope, position: StreamPosition) -> Result<CatchUp<AppliedChanges>> {
        self.with(scope, |history| {
            let Some(behind) = position.behind(self.at(history.lines.len())) else { return Ok(CatchUp::Gone) };
            let first = history.lines.len() - usize::try_from(behind).unwrap_or(usize::MAX);
            let mut entries = Vec::new();
            for (n, line) in history.lines.iter().enumerate().skip(first) {
                let change = |(path, digest): (&FilePath, &Option<Digest>)| {
                    let change = digest.map_or(Ok(Change::Delete), |digest| self.file(digest).map(Change::Put))?;
                    Ok((path.clone(), change))
                };
                let changes = line.0.iter().map(change).collect::<Result<Changes>>()?;
                entries.push(AppliedChanges { position: self.at(n + 1), changes });
            }
            Ok(CatchUp::Entries(entries))
        })
    }

    async fn list(
        &self,
        scope: &Scope,
        after: Option<FilePath>,
        limit: NonZeroU32,
    ) -> Result<Page<FileMeta, FilePath>> {
        let limit = limit.get() as usize;
        self.with(scope, |history| {
            let beyond = history.files.iter().filter(|(path, _)| after.as_ref().is_none_or(|after| *path > after));
            let meta = |(path, digest): (&FilePath, &Digest)| {
                let size_bytes = self.file(*digest)?.size_bytes();
                Ok(FileMeta { path: path.clone(), digest: *digest, size_bytes })
            };
            let items = beyond.take(limit + 1).map(meta).collect::<Result<Vec<_>>>()?;
            Ok(Page::cut(items, limit, |meta| meta.path.clone()))
        })
    }
}
