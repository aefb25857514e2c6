//! The cache on disk. Everything in it can be had again: it may be deleted at any time that nothing runs.

use super::{
    integrity::Integrity,
    trouble::{Trouble, local},
};
use bytes::Bytes;
use overskill_core::Digest;
use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

/// Files appear whole or not at all: each is written beside its place, and moved.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    root: PathBuf,
}

/// What a kept thing is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shelf {
    /// Tarballs as they came, by integrity.
    Tarball,
    /// Folders with a tarball's files, by integrity.
    Unpacked,
    /// Locks that were made, by what they were made from.
    Lock,
    /// Integrities of versions whose lock states none.
    Integrity,
    /// What packages turned out to want that they do not state.
    Wants,
    /// Packages ready to be served.
    Prepared,
    /// What the platform itself brings, bundled.
    Bundle,
    /// Programs.
    Program,
    /// An app's own tools with their configuration, bundled.
    Tool,
}

impl Store {
    /// In that folder. Where it is, is settled here: programs of it are started in other folders.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root: std::path::absolute(&root).unwrap_or(root) }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where a thing is, or would be.
    pub(crate) fn path(&self, on: Shelf, key: &Digest) -> PathBuf {
        let (folder, extension) = match on {
            Shelf::Tarball => ("tarballs", ".tgz"),
            Shelf::Unpacked => ("unpacked", ""),
            Shelf::Lock => ("locks", ".json"),
            Shelf::Integrity => ("integrities", ".txt"),
            Shelf::Wants => ("wants", ".json"),
            Shelf::Prepared => ("prepared", ".pack"),
            Shelf::Bundle => ("bundles", ".js"),
            Shelf::Program => ("programs", ""),
            Shelf::Tool => ("tools", ".mjs"),
        };
        let key = key.to_string();
        self.root.join(folder).join(&key[..2]).join(format!("{}{extension}", &key[2..]))
    }

    /// A kept file. Blocks.
    pub(crate) fn read(&self, on: Shelf, key: &Digest) -> Result<Option<Bytes>, Trouble> {
        match fs::read(self.path(on, key)) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(local("read a file")(e)),
        }
    }

    /// Keeps a file. Blocks.
    pub(crate) fn write(&self, on: Shelf, key: &Digest, parts: &[&[u8]]) -> Result<PathBuf, Trouble> {
        let to = self.path(on, key);
        let write = || -> io::Result<()> {
            let folder = to.parent().unwrap_or(&self.root);
            fs::create_dir_all(folder)?;
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            for part in parts {
                file.write_all(part)?;
            }
            if matches!(on, Shelf::Program) {
                make_executable(file.path())?;
            }
            // Without it a power cut could leave the name without the contents.
            file.as_file().sync_data()?;
            file.persist(&to)?;
            Ok(())
        };
        write().map_err(local("write a file"))?;
        Ok(to)
    }

    /// Forgets a thing. Blocks.
    pub(crate) fn remove(&self, on: Shelf, key: &Digest) {
        let path = self.path(on, key);
        let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    }

    /// A private folder for work, deleted when dropped. Blocks.
    pub(crate) fn workspace(&self) -> Result<tempfile::TempDir, Trouble> {
        let make = || -> io::Result<tempfile::TempDir> {
            let folder = self.root.join("work");
            fs::create_dir_all(&folder)?;
            tempfile::Builder::new().prefix("w").tempdir_in(fs::canonicalize(folder)?)
        };
        make().map_err(local("make a folder"))
    }

    /// Moves a finished folder to its place; fine if another was faster. Blocks.
    pub(crate) fn keep_folder(&self, on: Shelf, key: &Digest, from: &Path) -> Result<PathBuf, Trouble> {
        let to = self.path(on, key);
        let keep = || -> io::Result<()> {
            fs::create_dir_all(to.parent().unwrap_or(&self.root))?;
            match fs::rename(from, &to) {
                Err(_) if to.is_dir() => Ok(()),
                other => other,
            }
        };
        keep().map_err(local("keep a folder"))?;
        Ok(to)
    }

    /// Whether files can be written here. Blocks.
    pub(crate) fn check(&self) -> Result<(), Trouble> {
        self.workspace().map(drop)
    }
}

/// What identifies a tarball in the cache.
pub(crate) fn key_of(integrity: &Integrity) -> Digest {
    Digest::of(integrity.to_string().as_bytes())
}

#[cfg(unix)]
fn make_executable(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn make_executable(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_is_where_it_was_said_to_be_whichever_folder_a_program_starts_in() {
        let store = Store::new("data/packages".into());
        assert_eq!(store.root(), std::env::current_dir().unwrap().join("data/packages"));
        assert_eq!(Store::new("/data/packages".into()).root(), Path::new("/data/packages"));
    }
}
