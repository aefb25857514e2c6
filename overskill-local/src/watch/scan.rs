//! A folder on disk, as an app's files.

use super::refused;
use crate::disk;
use overskill_core::{AppFile, Change, FilePath, Result};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// What a folder holds.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct FolderContents {
    /// The app's files.
    pub files: BTreeMap<FilePath, AppFile>,
    /// What was left out though it looks like one of them, and why.
    pub skipped: Vec<Skipped>,
}

/// Something that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Skipped {
    /// Where it is, from the folder on.
    pub path: String,
    /// Why, and what to do.
    pub why: String,
}

/// Largest file in bytes.
const MAX_FILE_BYTES: u64 = 10 * 1024 * 1024;

/// Most files of an app.
const MAX_FILES: usize = 20_000;

/// Reads an app's files from a folder.
///
/// Left out are `node_modules` and `.git` wherever they are, `dist` at the top, and what editors leave behind. A symbolic link
/// is read if it leads to a file inside of the folder, and is left out otherwise. Files over 10 MiB are left out too, and
/// [named](FolderContents::skipped). `Invalid` for what is no folder, or has more than 20,000 files.
pub async fn read_folder(folder: impl Into<PathBuf>) -> Result<FolderContents> {
    let folder = folder.into();
    disk::blocking(move || {
        let mut tree = Tree::open(&folder)?;
        tree.rescan()?;
        Ok(tree.contents())
    })
    .await
}

/// The files of a folder as they were seen last.
#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
    files: BTreeMap<FilePath, AppFile>,
    /// When a file was written last, and its size: what has the same is not read again when all is looked through.
    stamps: BTreeMap<FilePath, (Option<SystemTime>, u64)>,
    skipped: BTreeMap<String, String>,
}

impl Tree {
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let root = folder.canonicalize().map_err(|e| refused(folder, &format!("is not: {}", e.kind())))?;
        if !root.is_dir() {
            return Err(refused(folder, "is a file"));
        }
        Ok(Self { root, files: BTreeMap::new(), stamps: BTreeMap::new(), skipped: BTreeMap::new() })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn files(&self) -> &BTreeMap<FilePath, AppFile> {
        &self.files
    }

    pub(super) fn contents(&self) -> FolderContents {
        let skipped = self.skipped.iter().map(|(path, why)| Skipped { path: path.clone(), why: why.clone() });
        FolderContents { files: self.files.clone(), skipped: skipped.collect() }
    }

    /// Every folder that files are read from.
    pub(super) fn folders(&self) -> Result<BTreeSet<PathBuf>> {
        let (mut folders, mut queue) = (BTreeSet::new(), vec![self.root.clone()]);
        while let Some(folder) = queue.pop() {
            for (path, kind) in entries(&folder)? {
                if kind.is_dir() && !self.is_left_out(&path) {
                    queue.push(path);
                }
            }
            if folders.len() > MAX_FILES {
                return Err(refused(&self.root, "has more than 20,000 folders: name the app's own"));
            }
            folders.insert(folder);
        }
        Ok(folders)
    }

    /// Looks at everything, and says what changed.
    pub(super) fn rescan(&mut self) -> Result<Vec<(FilePath, Change)>> {
        let root = self.root.clone();
        self.look_under(&root, false)
    }

    /// Looks at a path that something happened to, and says what changed.
    pub(super) fn look(&mut self, path: &Path) -> Result<Vec<(FilePath, Change)>> {
        if !path.starts_with(&self.root) || self.is_left_out(path) {
            return Ok(Vec::new());
        }
        self.look_under(path, true)
    }

    fn look_under(&mut self, start: &Path, always_read: bool) -> Result<Vec<(FilePath, Change)>> {
        let (mut changes, mut seen, mut queue) = (Vec::new(), BTreeSet::new(), vec![start.to_owned()]);
        let relative = self.relative(start);
        // What has no UTF-8 name was never a file of the app, and nothing is under it.
        let under = |path: &str| match relative.as_deref() {
            None => false,
            Some("") => true,
            Some(relative) => path.strip_prefix(relative).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        };
        self.skipped.retain(|path, _| !under(path)); // what is still left out is named again
        while let Some(at) = queue.pop() {
            // The root itself may be a link: it was resolved.
            let Ok(kind) = fs::symlink_metadata(&at).map(|m| m.file_type()) else { continue };
            if kind.is_dir() {
                let entries = entries(&at)?.into_iter().map(|(path, _)| path);
                queue.extend(entries.filter(|path| !self.is_left_out(path)));
                continue;
            }
            let Some(path) = self.file_path(&at) else { continue };
            if let Some(change) = self.read(&at, &path, kind.is_symlink(), always_read) {
                changes.push((path.clone(), change));
            }
            if self.files.contains_key(&path) {
                seen.insert(path);
            }
            if self.files.len() > MAX_FILES {
                return Err(refused(&self.root, "has more than 20,000 files: name the app's own folder"));
            }
        }
        // What was known at or under the start and is not there any more.
        let gone: Vec<_> = self.files.keys().filter(|p| under(p.as_str()) && !seen.contains(*p)).cloned().collect();
        for path in gone {
            self.files.remove(&path);
            self.stamps.remove(&path);
            changes.push((path, Change::Delete));
        }
        Ok(changes)
    }

    /// Reads a file; what it is now, if that is new. What cannot be read is as if it were not there.
    fn read(&mut self, at: &Path, path: &FilePath, is_link: bool, always: bool) -> Option<Change> {
        let leads_out =
            is_link && !at.canonicalize().is_ok_and(|to| to.starts_with(&self.root) && !self.is_left_out(&to));
        let metadata = match fs::metadata(at) {
            Ok(metadata) if !leads_out && metadata.is_file() => metadata,
            _ => return self.leave_out(path),
        };
        let stamp = (metadata.modified().ok(), metadata.len());
        if !always && self.stamps.get(path) == Some(&stamp) {
            return None;
        }
        let contents = match disk::read_at_most(at, MAX_FILE_BYTES) {
            Ok(Some(contents)) => contents,
            Ok(None) => {
                let why =
                    format!("it is larger than {MAX_FILE_BYTES} bytes: keep it elsewhere, and load it from there");
                self.skipped.insert(path.to_string(), why);
                return self.leave_out(path);
            }
            // Gone again already.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return self.leave_out(path),
            Err(e) => {
                self.skipped.insert(path.to_string(), format!("it cannot be read ({}): see its permissions", e.kind()));
                return self.leave_out(path);
            }
        };
        self.skipped.remove(path.as_str());
        self.stamps.insert(path.clone(), stamp);
        let file = AppFile::new(contents);
        let is_new = self.files.insert(path.clone(), file.clone()).as_ref() != Some(&file);
        is_new.then_some(Change::Put(file))
    }

    fn leave_out(&mut self, path: &FilePath) -> Option<Change> {
        self.stamps.remove(path);
        self.files.remove(path).map(|_| Change::Delete)
    }

    fn relative(&self, at: &Path) -> Option<String> {
        let relative = at.strip_prefix(&self.root).ok()?;
        let segments: Option<Vec<_>> = relative.iter().map(|segment| segment.to_str()).collect();
        Some(segments?.join("/"))
    }

    fn file_path(&mut self, at: &Path) -> Option<FilePath> {
        let Some(relative) = self.relative(at) else {
            let shown = at.strip_prefix(&self.root).unwrap_or(at).to_string_lossy().into_owned();
            self.skipped.insert(shown, "its name is not UTF-8: rename it".into());
            return None;
        };
        match FilePath::parse(&relative) {
            Ok(path) => Some(path),
            Err(e) => {
                self.skipped.insert(relative, format!("{e}: rename it"));
                None
            }
        }
    }

    fn is_left_out(&self, path: &Path) -> bool {
        let Ok(relative) = path.strip_prefix(&self.root) else { return true };
        relative.iter().enumerate().any(|(depth, name)| {
            let name = name.to_string_lossy();
            matches!(&*name, "node_modules" | ".git" | ".DS_Store" | "4913")
                || (depth == 0 && name == "dist")
                || name.ends_with('~')
                || name.ends_with(".swp")
                || name.ends_with(".swx")
                || name.starts_with(".#")
        })
    }
}

/// What is in a folder; nothing if it is gone.
fn entries(folder: &Path) -> Result<Vec<(PathBuf, fs::FileType)>> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(entries.flatten().filter_map(|e| Some((e.path(), e.file_type().ok()?))).collect()),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Vec::new()),
        Err(e) => Err(refused(folder, &format!("cannot be read: {}", e.kind()))),
    }
}
