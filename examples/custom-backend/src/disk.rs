//! The little of a file system that both backends need.

use overskill_core::{Digest, Effect, Error, Result};
use serde::{Serialize, de::DeserializeOwned};
use std::{fs, io, io::Write, path::Path};

/// Keeps bytes under their digest. What is there already is not written again.
pub(crate) fn put_blob(folder: &Path, digest: Digest, bytes: &[u8]) -> Result<()> {
    let path = folder.join(digest.to_string());
    if path.exists() { Ok(()) } else { replace(&path, bytes) }
}

/// The bytes with that digest. It is an error if they are not there or were altered: a store that cannot answer must not
/// make something up.
pub(crate) fn blob(folder: &Path, digest: Digest) -> Result<Vec<u8>> {
    let bytes = fs::read(folder.join(digest.to_string())).map_err(|e| failed("a stored file could not be read", e))?;
    if Digest::of(&bytes) == digest { Ok(bytes) } else { Err(damaged("a stored file was altered")) }
}

/// A JSON file, or `None` if it is not there.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|_| damaged("a stored record cannot be read")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("a stored record could not be read", e)),
    }
}

/// Replaces a JSON file: a reader sees the old or the new one, whole.
pub(crate) fn replace_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let bytes = serde_json::to_vec(value).map_err(|e| Error::unexpected("a record could not be written as JSON", e))?;
    replace(path, &bytes)
}

/// Durable when it returns: the file's contents, then its name.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let temporary = path.with_extension("new");
    let write = || {
        fs::create_dir_all(folder)?;
        let mut file = fs::File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        fs::File::open(folder)?.sync_all()
    };
    write().map_err(|e| failed("a file could not be written", e))
}

/// Adds to the end of a file. Durable when it returns: the file's contents, and its name if it is new.
pub(crate) fn append(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let is_new = !path.exists();
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        if is_new { fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all() } else { Ok(()) }
    };
    write().map_err(|e| failed("a file could not be written", e))
}

/// A failure of the disk. It may have had its effect: that is for the caller to find out.
pub(crate) fn failed(what: &'static str, e: io::Error) -> Error {
    Error::unexpected(what, e).at("folder", "disk")
}

/// What is on the disk is not what was put there.
pub(crate) fn damaged(what: &'static str) -> Error {
    Error::new(overskill_core::ErrorKind::Unexpected, what).effect_as(Effect::None).at("folder", "disk")
}
