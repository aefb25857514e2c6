//! The little of a file system that the embedded backends need.

use overskill_core::{Effect, Error, ErrorKind, Ids, Result, Secret};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

/// What errors of this crate call the backend.
pub(crate) const BACKEND: &str = "local";

/// A folder that this process alone uses, as long as this lives.
#[derive(Debug)]
pub(crate) struct OwnFolder {
    path: PathBuf,
    /// Locked; the lock goes with the file.
    _lock: File,
}

impl OwnFolder {
    /// Makes the folder if it is missing, and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        let cannot = |e: io::Error| {
            let message = format!("data folder must be one that can be written to, but `{shown}` is not: {}", e.kind());
            Error::invalid(message).caused_by(e).at(BACKEND, "open")
        };
        fs::create_dir_all(path).map_err(cannot)?;
        let mut options = OpenOptions::new();
        let lock = options.create(true).truncate(false).write(true).open(path.join("lock")).map_err(cannot)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                let message =
                    format!("data folder `{shown}` is in use by another process: end that one, or name another folder");
                Err(Error::conflict(message.clone()).public(message).at(BACKEND, "open"))
            }
            Err(TryLockError::Error(e)) => Err(cannot(e)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// A secret of 32 bytes, in hex, that is kept in a file which only its owner may read; made from `ids` the first time.
pub(crate) fn kept_secret(path: &Path, ids: &dyn Ids) -> Result<Secret> {
    let fresh = || {
        let mut bytes = [0; 32];
        ids.fill(&mut bytes);
        Ok(Secret::new(overskill_core::Digest::from_bytes(bytes).to_string()))
    };
    kept(path, fresh)
}

/// A secret text that is kept in a file which only its owner may read; `fresh` makes it the first time.
pub(crate) fn kept(path: &Path, fresh: impl FnOnce() -> Result<Secret>) -> Result<Secret> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Secret::new(text.trim_end())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let secret = fresh()?;
            replace_with(path, secret.expose().as_bytes(), true)?;
            Ok(secret)
        }
        Err(e) => Err(failed("a kept secret could not be read", e)),
    }
}

/// A JSON file, or `None` if it is not there.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => {
            let damaged = || Error::new(ErrorKind::Unexpected, "a record on disk is damaged: restore it from a copy");
            let damaged = || damaged().effect_as(Effect::None).at(BACKEND, "read").with("file", path.display());
            serde_json::from_slice(&bytes).map(Some).map_err(|_| damaged())
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("a record could not be read", e)),
    }
}

/// Replaces a JSON file: a reader sees the old or the new one, whole.
pub(crate) fn replace_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let bytes = serde_json::to_vec(value).map_err(|e| Error::unexpected("a record could not be written as JSON", e))?;
    replace(path, &bytes)
}

/// Replaces a file; durable when it returns: the file's contents, then its name.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    replace_with(path, bytes, false)
}

fn replace_with(path: &Path, bytes: &[u8], private: bool) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let temporary = path.with_extension("new");
    let write = || {
        fs::create_dir_all(folder)?;
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).write(true);
        #[cfg(unix)]
        if private {
            use std::os::unix::fs::OpenOptionsExt as _;
            options.mode(0o600);
        }
        let mut file = options.open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_folder(folder)
    };
    #[cfg(not(unix))]
    let _ = private;
    write().map_err(|e| failed("a file could not be written", e))
}

/// Removes a file; fine if it is not there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("a file could not be removed", e)),
        _ => Ok(()),
    }
}

/// At most `limit` bytes of a file; `None` if it has more.
pub(crate) fn read_at_most(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

/// Makes new and changed names in a folder durable, where the system can.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// A failure of the disk. A read has no effect; what a write did is for the caller to find out.
pub(crate) fn failed(what: &'static str, e: io::Error) -> Error {
    let kind = match e.kind() {
        io::ErrorKind::PermissionDenied => ErrorKind::Denied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Unavailable,
        _ => ErrorKind::Unexpected,
    };
    Error::new(kind, format!("{what}: {}", e.kind())).effect_as(Effect::Unknown).caused_by(e).at(BACKEND, "disk")
}

/// Runs what blocks where it may. A future that is dropped meanwhile leaves it to end by itself.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => Err(Error::unexpected("a call that blocks came to no end", e).at(BACKEND, "disk")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use overskill_core::SeededIds;

    #[test]
    fn a_folder_has_one_process() {
        let folder = tempfile::tempdir().unwrap();
        let first = OwnFolder::open(folder.path()).unwrap();
        let e = OwnFolder::open(folder.path()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Conflict);
        assert!(e.public_message().contains("in use by another process"), "{e}");
        drop(first);
        OwnFolder::open(folder.path()).unwrap();
    }

    #[test]
    fn what_is_no_folder_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        let e = OwnFolder::open(&file).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Invalid);
        assert!(e.public_message().contains("file"), "{e}");
    }

    #[test]
    fn a_secret_is_made_once_and_only_its_owner_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        let first = kept_secret(&path, &SeededIds::new(1)).unwrap();
        assert_eq!(kept_secret(&path, &SeededIds::new(2)).unwrap(), first);
        assert_eq!(first.expose().len(), 64);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_damaged_record_names_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("versions.json");
        fs::write(&path, "{").unwrap();
        let e = read_json::<Vec<u8>>(&path).unwrap_err();
        assert!(e.to_string().contains("versions.json"), "{e}");
        assert_eq!(read_json::<Vec<u8>>(&folder.path().join("none")).unwrap(), None);
    }
}
