//! What the tests of this crate share.
#![allow(dead_code, missing_docs, reason = "no test file uses all of it")]

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// A folder of this test's own, gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // A process that was killed leaves its folders, and another one gets its number some day.
        loop {
            let name = format!("overskill-sql-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let path = std::env::temp_dir().join(name);
            match std::fs::create_dir(&path) {
                Ok(()) => return Self(path),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => panic!("a new folder in the folder for temporary files: {e}"),
            }
        }
    }

    /// Where the database is.
    pub(crate) fn db(&self) -> PathBuf {
        self.0.join("overskill.db")
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0); // what is left over harms nobody
    }
}
